/** What a disk can do to a log, at every append of an engine's life: who is told, what is refused, and what is there afterwards. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Engine, Queue, StoreError, TestClock } from 'flashq';
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { errorOf } from '../conformance/kit.js';
import type { Dump } from '../support/dump.js';
import { turn } from '../support/engine.js';
import { type Fault, FaultStore } from '../support/fault-store.js';
import { flush, knownFrom, openLife, SMALL } from '../support/lived.js';
import type { Life } from '../support/log-life.js';
import { canMount, mounted } from '../support/places.js';
import { Tape } from '../support/tape.js';

interface Script extends Life {
  /** Notes a promise that nobody may leave pending, and that no step waits for. */
  promise(promised: Promise<unknown>): void;
}

/** Its stack is not that of the test that plays. */
const failure = () => Object.assign(new Error('failed'), { stack: 'Error: failed' });

const STEPS: readonly ((script: Script) => Promise<unknown>)[] = [
  ({ b }) => b.queue().add('first', { n: 1 }, { jobId: 'first', delay: 1000 }),
  ({ b, promise }) => {
    promise(b.queue().finished('first'));
    return b.queue('bulk').addBulk([1, 2, 3].map((n) => ({ name: 'n', data: n, opts: { priority: n } })));
  },
  async ({ b, hands, promise }) => {
    const result = b.queue('runs').addAndWait('sum', [1, 2]);
    promise(result);
    await Promise.race([
      hands('runs')
        .next()
        .then((run) => run.complete(3)),
      result,
    ]);
    await result;
  },
  async ({ b, hands }) => {
    const job = await b.queue('runs').add('flaky', null, { attempts: 2, backoff: 5000 });
    await (await hands('runs').next()).fail(failure());
    await job.getState();
  },
  async ({ b, hands }) => {
    const job = await b.queue('runs').add('hopeless', null);
    await (await hands('runs').next()).fail(failure());
    expect(await job.getState()).toBe('failed');
    await b.queue('runs').retryDlq(job);
    await (await hands('runs').next()).complete('at last');
    expect(await job.getState()).toBe('completed');
  },
  async ({ b, hands, promise }) => {
    const parent = await b.queue('runs').add('parent', null);
    const child = await b.queue('children').add('child', null, { dependsOn: [parent] });
    promise(child.waitUntilFinished());
    await (await hands('runs').next()).complete('so');
    await parent.getState();
  },
  ({ b }) => b.queue('bulk').pause(),
  ({ b }) => b.queue('bulk').configure({ concurrency: 2 }),
  async ({ b }) => {
    const job = await b.queue('bulk').add('unwanted', null);
    await b.queue('bulk').cancel(job);
  },
  async ({ b }) => {
    const job = await b.queue('bulk').add('talks', null);
    await Promise.all([job.updateProgress(1), job.log('a line')]);
    await job.remove();
  },
  async ({ b, hands, promise }) => {
    const job = await b.queue('last').add('runs on', null);
    promise(job.waitUntilFinished());
    await hands('last').next();
  },
  ({ b }) => b.queue().add('second', { n: 2 }),
];

/** How far it came, and what it heard. */
interface Outcome {
  readonly life: Awaited<ReturnType<typeof openLife>>;
  readonly promised: Promise<unknown>[];
  readonly error: unknown;
}

/** Nobody hangs: whoever was not told before hears that the log has failed. */
async function expectTold(promised: readonly Promise<unknown>[]): Promise<void> {
  for (const one of await Promise.allSettled(promised))
    if (one.status === 'rejected') expect(one.reason).toBeInstanceOf(StoreError);
}

async function play(store: FaultStore): Promise<Outcome> {
  const life = await openLife(store);
  life.b.engine.on('warning', () => {});
  const promised: Promise<unknown>[] = [];
  const promise = (one: Promise<unknown>): void => {
    one.catch(() => {}); // seen by whoever plays
    promised.push(one);
  };
  const script: Script = { ...life, promise };
  try {
    for (const step of STEPS) {
      await step(script);
      await flush(life.b);
    }
    return { life, promised, error: undefined };
  } catch (error) {
    return { life, promised, error };
  }
}

/** By how many batches of a life without faults reach the disk: what an engine then knows. */
const known: Dump[] = [];
let now = 0;

beforeAll(async () => {
  const store = new FaultStore();
  const { life, error } = await play(store);
  expect(error).toBeUndefined();
  now = life.b.clock.now();
  const { kept } = store;
  await life.close();
  for (let count = 0; count <= kept.length; count++)
    known.push(await knownFrom(new Tape(kept.slice(0, count)), new TestClock(now)));
});

function everyAppend(): number[] {
  return Array.from({ length: known.length - 1 }, (_, n) => n + 1);
}

/** All of it is refused, and nothing of it happens. */
async function expectRefused({ b }: Life, reason: string): Promise<void> {
  const queue = b.queue();
  const calls = [
    queue.add('late', null),
    queue.addBulk([{ name: 'late', data: null }]),
    queue.addAndWait('late', null),
    queue.cancel('first'),
    queue.remove('first'),
    queue.promote('first'),
    queue.updateData('first', 2),
    queue.retryDlq('all'),
    queue.pause(),
    queue.resume(),
    queue.drain(),
    queue.configure({ concurrency: 1 }),
    queue.obliterate(),
  ];
  for (const call of calls) {
    const error = await errorOf(call);
    expect(error).toBeInstanceOf(StoreError);
    expect(error.reason).toBe(reason);
  }
  expect(b.engine.health()).toEqual({ ok: false, reason: expect.stringContaining("can't be written") });
}

/** What the next engine finds, and that it works. */
async function expectFound(store: FaultStore, expected: Dump | undefined): Promise<void> {
  expect(await knownFrom(store, new TestClock(now))).toEqual(expected);
  const life = await openLife(store, { clock: new TestClock(now) });
  await life.b.queue('afterwards').add('works', 1);
  await (await life.hands('afterwards').next()).complete(2);
  await life.close();
}

interface Case {
  readonly name: string;
  readonly fault: Fault;
  readonly reason: string;
  /** Whether the batch is found afterwards. */
  readonly kept: boolean;
}

const CASES: readonly Case[] = [
  { name: 'torn in its header', fault: { kind: 'torn', bytes: 20 }, reason: 'io', kept: false },
  { name: 'torn behind its header', fault: { kind: 'torn', bytes: 50 }, reason: 'io', kept: false },
  { name: 'torn before its first byte', fault: { kind: 'torn', bytes: 0 }, reason: 'io', kept: false },
  { name: 'a failed sync, and it is not there', fault: { kind: 'sync', kept: false }, reason: 'io', kept: false },
  { name: 'a failed sync, but it is there', fault: { kind: 'sync', kept: true }, reason: 'io', kept: true },
  { name: 'a full disk', fault: { kind: 'full' }, reason: 'full', kept: false },
];

describe.each(CASES)('an append fails: $name', ({ fault, reason, kept }) => {
  test('whoever waits hears it, nothing more is taken, and nothing that was told is lost', async () => {
    for (const nth of everyAppend()) {
      const store = new FaultStore();
      store.failAt(nth, fault);
      if (nth === 1) {
        expect(await errorOf(Engine.open({ store, ...SMALL }))).toMatchObject({ reason });
      } else {
        const { life, promised, error } = await play(store);
        expect(error, `append ${nth}`).toBeInstanceOf(StoreError);
        expect((error as StoreError).reason).toBe(reason);
        await expectRefused(life, reason);
        for (const run of [...life.hands('last').started, ...life.hands('runs').started])
          await run.complete('too late');
        await expectTold(promised);
        await life.close();
      }
      await expectFound(store, known[kept ? nth : nth - 1]);
    }
  });
});

describe.each([0, 1])('the power fails, with %i of the batches under way written', (keep) => {
  test('what was told is there', async () => {
    for (const nth of everyAppend().slice(1)) {
      const store = new FaultStore();
      store.failAt(nth, { kind: 'slow' });
      let over = false;
      const failing = (async () => {
        while (store.held === 0 && !over) await turn();
        store.crash({ keep });
      })();
      const { life, promised, error } = await play(store);
      over = true;
      await failing;
      expect(error, `append ${nth}`).toBeInstanceOf(StoreError);
      await expectTold(promised);
      await life.close();
      await expectFound(store, known[nth - 1 + keep]);
    }
  });
});

test('a bit flips on the disk: nobody can know, until the log is read: then it is refused', async () => {
  for (const nth of everyAppend()) {
    const store = new FaultStore();
    store.failAt(nth, { kind: 'flip', bit: nth * 13 });
    const { life, error } = await play(store);
    expect(error).toBeUndefined();
    await life.close();
    const refused = await errorOf(Engine.open({ store, ...SMALL }));
    expect(refused).toBeInstanceOf(StoreError);
    expect(refused).toMatchObject({ reason: 'damaged', message: expect.stringContaining(`Batch ${nth} `) });
  }
});

describe('a slow disk', () => {
  const JOBS = 5000;

  test('adds wait, the event loop turns, and few groups are under way', async () => {
    const store = new FaultStore();
    const { b, close } = await openLife(store);
    store.hold();
    const queue = b.queue();
    let told = 0;
    const adds: Promise<unknown>[] = [];
    let groupsMost = 0;
    for (let n = 0; n < JOBS; n++) {
      adds.push(queue.add('n', n).then(() => told++));
      if (n % 500 === 0) await turn();
      groupsMost = Math.max(groupsMost, store.held);
    }
    await turn();
    expect(told).toBe(0);
    expect(groupsMost).toBeLessThanOrEqual(2);
    expect(b.engine.health().ok).toBe(true);
    const counts = vi.fn();
    void queue.getJobCounts().then(counts);
    await turn();
    expect(counts).not.toHaveBeenCalled(); // not told either
    store.release();
    await Promise.all(adds);
    expect(await queue.getJobCounts()).toMatchObject({ waiting: JOBS });
    await turn();
    expect(counts).toHaveBeenCalledTimes(1);
    await close();
  });

  test('a start does not wait for it', async () => {
    const store = new FaultStore();
    const { b, close } = await openLife(store);
    const queue = b.queue('starts');
    const job = await queue.add('n', 1);
    store.hold();
    const run = await b.hands({}, 'starts').next();
    expect(run.job.id).toBe(job.id);
    await run.complete();
    store.release();
    await queue.finished(job);
    await close();
  });

  test('with relaxed durability adds wait once much is behind, so that memory is not filled by what is not safe', async () => {
    const store = new FaultStore();
    const clock = new TestClock();
    const engine = await Engine.open({ store, clock, durability: 'relaxed' });
    onTestFinished(() => engine.close());
    const queue = new Queue('q', { connection: engine });
    store.hold();
    let told = 0;
    const adds: Promise<unknown>[] = [];
    const items = Array.from({ length: 5000 }, (_, n) => ({ name: 'n', data: n }));
    for (let n = 0; n < 30; n++) {
      adds.push(queue.addBulk(items).then(() => told++));
      await turn();
    }
    expect(told).toBeGreaterThan(5);
    expect(told).toBeLessThan(30);
    store.release();
    await Promise.all(adds);
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 150_000 });
  });

  test('that does not come back: closing gives up in time', async () => {
    const store = new FaultStore();
    const { b, close } = await openLife(store);
    store.hold();
    const add = errorOf(b.queue().add('never', 1)) as Promise<StoreError>;
    while (store.held === 0) await turn();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const closing = errorOf(close());
    await turn();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(await closing).toMatchObject({ name: 'StoreError', reason: 'io' });
    store.crash();
    expect(await add).toBeInstanceOf(StoreError);
  });
});

test('relaxed: what was told of the last moments may be lost, never the order in which things happened', async () => {
  for (const nth of [2, 3, 4, 5]) {
    const store = new FaultStore();
    store.failAt(nth, { kind: 'torn', bytes: 60 });
    const { b, close } = await openLife(store, { durability: 'relaxed' });
    b.engine.on('warning', () => {});
    let added = 0;
    let error: unknown;
    for (; added < 100 && error === undefined; added++) {
      await b
        .queue()
        .add('n', added)
        .catch((thrown: unknown) => {
          error = thrown;
        });
      await b.clock.advance(10);
    }
    expect(error).toBeInstanceOf(StoreError);
    expect(b.engine.health().ok).toBe(false);
    await close();
    const { jobs } = await knownFrom(store, new TestClock());
    expect(jobs.map(({ data }) => data)).toEqual(Array.from({ length: jobs.length }, (_, n) => n));
    expect(jobs.length).toBeLessThan(added);
    expect(jobs.length).toBeGreaterThanOrEqual((nth - 2) * 2);
  }
});

describe.runIf(canMount)('a disk that is really full', () => {
  test("is told by whoever can't be answered; with room again all that was acknowledged is there", async () => {
    const place = mounted('size=2m');
    const dataDir = join(place, 'data');
    const engine = await Engine.open({ dataDir, ...SMALL });
    engine.on('warning', () => {});
    const queue = new Queue('q', { connection: engine });
    const acknowledged: string[] = [];
    let error: any;
    for (let n = 0; n < 1000 && error === undefined; n++) {
      await queue.add('n', Buffer.alloc(20_000, n), { jobId: `id-${n}` }).then(
        ({ id }) => acknowledged.push(id),
        (thrown: unknown) => {
          error = thrown;
        },
      );
    }
    expect(acknowledged.length).toBeGreaterThan(20);
    expect(error).toBeInstanceOf(StoreError);
    expect(error.reason).toBe('full');
    expect(error.message).toContain('Make room, then open the engine again');
    expect(engine.health()).toMatchObject({ ok: false, reason: expect.stringContaining('No space is left') });
    expect(await errorOf(queue.add('late', 1))).toMatchObject({ reason: 'full' });
    await engine.close();
    execFileSync('mount', ['-o', 'remount,size=16m', place], { stdio: 'pipe' });

    const again = await Engine.open({ dataDir, ...SMALL });
    onTestFinished(() => again.close());
    const there = new Queue('q', { connection: again });
    for (const id of acknowledged) expect(await there.getJobState(id)).toBe('waiting');
    await there.add('with room', 1);
    expect(again.health()).toEqual({ ok: true });
  });
});
