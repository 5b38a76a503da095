/** That a log which forgets its oldest batches still tells all that is needed. */
import { Engine, Queue, StoreError, TestClock, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import type { LogStore } from '#engine/store/log-store.js';
import { errorOf } from '../../conformance/kit.js';
import { FaultStore } from '../../support/fault-store.js';
import { knownFrom, SMALL } from '../../support/lived.js';
import { Tape } from '../../support/tape.js';

interface World {
  readonly engine: Engine;
  readonly queue: Queue;
}

async function open(store: LogStore, opts: object = {}): Promise<World> {
  const engine = await Engine.open({ store, clock: new TestClock(), ...SMALL, ...opts });
  return { engine, queue: new Queue('q', { connection: engine }) };
}

/** Groups that nobody needs once the next ones are there: more than the log keeps for being told at once. */
async function churn({ queue }: World, groups = 70): Promise<void> {
  for (let n = 0; n < groups; n++) {
    const job = await queue.add('chaff', n);
    await queue.remove(job);
  }
}

/** The queue's own record lies behind all that was before. */
async function renewQueue({ queue }: World): Promise<void> {
  await queue.pause();
  await queue.resume();
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

describe('the beginning of a log is forgotten', () => {
  test('together with a job, of whose changes some stand further on', async () => {
    const store = new Tape();
    const world = await open(store);
    const job = await world.queue.add('short', 1);
    await churn(world);
    const kept = world.queue.add('kept', 2);
    await Promise.all([kept, world.queue.pause(), job.updateProgress(50)]); // one group
    await world.queue.resume();
    await job.remove();
    await churn(world, 2);
    expect(store.first).toBeGreaterThan(140);
    const after = await knownFrom(store.copy(), new TestClock());
    expect(after.jobs.map(({ name }) => name)).toEqual(['kept']);
    await world.engine.close();
  });

  test('not before what makes it superfluous is durable', async () => {
    const store = new FaultStore();
    const world = await open(store);
    const job = await world.queue.add('removed', 1);
    await churn(world);
    await renewQueue(world);
    store.hold();
    const added = world.queue.add('next', 2);
    await until(() => store.held === 1);
    const removed = errorOf(world.queue.remove(job));
    await until(() => store.held === 2);
    store.release(1);
    await added;
    store.crash();
    expect(await removed).toBeInstanceOf(StoreError);
    // Nobody was told that it is gone.
    const next = await open(store);
    expect(await next.queue.getJobState(job)).toBe('waiting');
    await next.engine.close();
    await world.engine.close();
  });
});

describe('a log that has become too long is written anew from its beginning', () => {
  const PAYLOAD_BYTES = 400_000;

  /** Waiting jobs of several priorities, of both lanes, with places of their own by later changes. */
  async function fill({ queue, engine }: World): Promise<void> {
    const items = Array.from({ length: 300 }, (_, n) => ({
      name: `job ${n}`,
      data: { n },
      opts: { priority: [0, 0, 5, -3][n % 4]!, lifo: n % 7 === 0, attempts: 2 },
    }));
    const jobs = await queue.addBulk(items);
    for (const n of [10, 50, 90, 130]) await queue.changePriority(jobs[n]!, { priority: 5, lifo: n === 50 });
    for (const n of [11, 51]) await queue.updateData(jobs[n]!, { changed: n });
    const failing = new Worker('q', () => Promise.reject(new Error('once')), { connection: engine, concurrency: 1 });
    let failures = 0;
    await new Promise<void>((resolve) => {
      failing.on('failed', () => {
        if (++failures === 20) resolve();
      });
    });
    await failing.close();
    await queue.pause(); // and claimed no more: what was taken meanwhile is back at the head
  }

  /** The order in which the jobs of that log are run. */
  async function orderOf(store: Tape): Promise<string[]> {
    const { engine, queue } = await open(store);
    const { waiting } = await queue.getJobCounts();
    const names: string[] = [];
    const done = new Promise<void>((resolve) => {
      const worker = new Worker('q', (job) => void (names.push(job.name) === waiting && resolve()), {
        connection: engine,
        concurrency: 1,
      });
      worker.on('error', () => {});
    });
    await queue.resume();
    await done;
    await engine.close();
    return names;
  }

  test('jobs, and the order in which they are claimed, stay as they were', async () => {
    const store = new Tape();
    const world = await open(store);
    await fill(world);
    const large = new Queue('large', { connection: world.engine });
    const job = await large.add('changes', Buffer.alloc(PAYLOAD_BYTES), { removeOnComplete: false });
    const before = store.copy();
    for (let n = 1; n <= 250; n++) await large.updateData(job, Buffer.alloc(PAYLOAD_BYTES, n));
    await large.updateData(job, Buffer.alloc(PAYLOAD_BYTES));
    expect(store.first).toBeGreaterThan(before.batches.length); // all of it has been written anew
    expect(store.bytes).toBeLessThan(64 * 2 ** 20);
    const after = store.copy();
    await world.engine.close();
    const clock = new TestClock();
    expect(await knownFrom(after.copy(), clock)).toEqual(await knownFrom(before.copy(), clock));
    const order = await orderOf(before);
    expect(order.length).toBeGreaterThan(100);
    expect(await orderOf(after)).toEqual(order);
  });
});
