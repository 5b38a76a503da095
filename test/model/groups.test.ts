/** Random histories of a queue with groups: limits hold at every moment, turns are fair, and nothing is lost or run twice. */
import fc from 'fast-check';
import { Engine, Queue, TestClock, Worker } from 'flashq';
import { expect, test } from 'vitest';

const RUNS = process.env.FLASHQ_LONG === '1' ? 1000 : 60;
const SEED = Number(process.env.FLASHQ_SEED ?? 20261126);

const GROUPS = ['a', 'b', 'c', 'd'];

type Step =
  | { readonly kind: 'add'; readonly group: number; readonly priority: number; readonly delay: number; lifo: boolean }
  | { readonly kind: 'bulk'; readonly groups: readonly number[] }
  | { readonly kind: 'end'; readonly nth: number; readonly how: 'complete' | 'fail' | 'delay' }
  | { readonly kind: 'cancel' | 'remove' | 'prioritise'; readonly nth: number }
  | { readonly kind: 'pass'; readonly ms: number }
  | { readonly kind: 'limit'; readonly concurrency: number | undefined; readonly max: number | undefined };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('add' as const),
      group: fc.nat(3),
      priority: fc.nat(1),
      delay: fc.constantFrom(0, 0, 0, 50),
      lifo: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('bulk' as const), groups: fc.array(fc.nat(3), { maxLength: 8 }) }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('end' as const),
      nth: fc.nat(9),
      how: fc.constantFrom('complete' as const, 'complete' as const, 'fail' as const, 'delay' as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('cancel' as const, 'remove' as const, 'prioritise' as const),
      nth: fc.nat(30),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.constantFrom(1, 10, 50, 100) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('limit' as const),
      concurrency: fc.constantFrom(undefined, 1, 2),
      max: fc.constantFrom(undefined, 1, 3),
    }),
  },
);

interface Running {
  readonly id: string;
  readonly group: string;
  end(how: 'complete' | 'fail' | 'delay'): void;
}

test('limits of groups hold at every moment, and every job ends once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const clock = new TestClock();
      const engine = await Engine.open({ clock, maxMemory: 8 * 1024 * 1024 });
      try {
        await history(engine, clock, steps);
      } finally {
        await engine.close({ timeout: 0 });
      }
    }),
    { numRuns: RUNS, seed: SEED },
  );
}, 600_000);

async function history(engine: Engine, clock: TestClock, steps: readonly Step[]): Promise<void> {
  const queue = new Queue('q', { connection: engine });
  const ids: string[] = [];
  const ended = new Map<string, string>();
  const running: Running[] = [];
  const wrong: string[] = [];
  const starts = new Map<string, number[]>();
  let limit: { concurrency?: number | undefined; max?: number | undefined } = {};
  const worker = new Worker(
    'q',
    (job) => {
      const group = job.opts.group!.id;
      if (running.some(({ id }) => id === job.id)) wrong.push(`${job.id} runs twice`);
      if (ended.has(job.id)) wrong.push(`${job.id} runs though it is ${ended.get(job.id)}`);
      const times = starts.get(group) ?? [];
      times.push(clock.now());
      starts.set(group, times);
      return new Promise<void>((resolve, reject) => {
        const one: Running = {
          id: job.id,
          group,
          end(how) {
            running.splice(running.indexOf(one), 1);
            if (how === 'complete') ended.set(job.id, 'completed');
            if (how === 'complete') resolve();
            else if (how === 'delay') reject(Object.assign(new Error('later'), { name: 'DelayedError', delayMs: 10 }));
            else {
              if (job.attemptsMade === 1) ended.set(job.id, 'failed');
              reject(new Error('no'));
            }
          },
        };
        running.push(one);
      });
    },
    { connection: engine, concurrency: 6 },
  );
  await worker.waitUntilReady();
  const check = () => {
    for (const group of GROUPS) {
      const count = running.filter((one) => one.group === group).length;
      if (limit.concurrency !== undefined) expect(count).toBeLessThanOrEqual(limit.concurrency);
    }
  };
  for (const one of steps) {
    const pick = ids.length === 0 ? undefined : ids[('nth' in one ? one.nth : 0) % ids.length];
    switch (one.kind) {
      case 'add':
        ids.push((await queue.add('a', 0, optionsOf(one.group, one.priority, one.delay, one.lifo))).id);
        break;
      case 'bulk': {
        const items = one.groups.map((group) => ({ name: 'a', data: 0, opts: optionsOf(group, 0, 0, false) }));
        ids.push(...(await queue.addBulk(items)).map(({ id }) => id));
        break;
      }
      case 'end':
        running[one.nth % Math.max(1, running.length)]?.end(one.how);
        break;
      case 'cancel':
        if (pick !== undefined && (await queue.getJobState(pick)) !== 'active' && !ended.has(pick)) {
          if ((await queue.cancel(pick).catch(() => 'finished')) === 'cancelled') ended.set(pick, 'cancelled');
        }
        break;
      case 'remove':
        if (pick !== undefined && !ended.has(pick) && (await queue.getJobState(pick)) !== 'active') {
          if (await queue.remove(pick)) ended.set(pick, 'unknown');
        }
        break;
      case 'prioritise':
        if (pick !== undefined) await queue.changePriority(pick, one.nth % 3).catch(() => {});
        break;
      case 'pass':
        await clock.advance(one.ms);
        break;
      case 'limit': {
        // Lowered while nothing runs, so that what holds can be said at every moment from then on.
        while (running.length > 0) running[0]!.end('complete');
        await clock.advance(1000);
        while (running.length > 0) running[0]!.end('complete');
        await queue.pause();
        while (running.length > 0) running[0]!.end('complete');
        await clock.advance(1000);
        const { concurrency, max } = one;
        await queue.configure({
          groups: {
            ...(concurrency === undefined ? {} : { concurrency }),
            ...(max === undefined ? {} : { rateLimit: { max, duration: 40 } }),
          },
        });
        starts.clear();
        limit = { concurrency, max };
        await queue.resume();
      }
    }
    await clock.advance(0);
    check();
    expect(wrong).toEqual([]);
    for (const times of starts.values()) {
      const { max } = limit;
      if (max === undefined) continue;
      for (let i = max; i < times.length; i++) expect(times[i]! - times[i - max]!).toBeGreaterThanOrEqual(40);
    }
  }
  // Whatever is left runs to its end.
  for (let turn = 0; turn < 2000 && ended.size < ids.length; turn++) {
    if (running.length > 0) running[0]!.end('complete');
    else await clock.advance(40);
    await clock.advance(0);
  }
  for (const id of ids) {
    expect(ended.get(id), `job ${id}`).toBeDefined();
    expect(await queue.getJobState(id), `job ${id}`).toBe(ended.get(id));
  }
}

function optionsOf(group: number, priority: number, delay: number, lifo: boolean) {
  return { group: { id: GROUPS[group]! }, priority, delay, lifo, attempts: 2, removeOnComplete: false };
}

test('no group waits for more than its share and one job', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ group: fc.nat(7), served: fc.nat(2) }), { minLength: 10, maxLength: 120 }),
      fc.integer({ min: 1, max: 3 }),
      async (adds, concurrency) => {
        const engine = await Engine.open({ clock: new TestClock(), maxMemory: 8 * 1024 * 1024 });
        try {
          const told = await served(engine, adds, concurrency);
          expect(told.filter(({ kind }) => kind === 'start').length).toBe(adds.length);
          checkTurns(told);
        } finally {
          await engine.close({ timeout: 0 });
        }
      },
    ),
    { numRuns: RUNS, seed: SEED },
  );
}, 300_000);

interface Told {
  readonly kind: 'add' | 'start';
  readonly group: number;
}

/** Adds jobs, and lets some run after each. */
async function served(
  engine: Engine,
  adds: readonly { readonly group: number; readonly served: number }[],
  concurrency: number,
): Promise<Told[]> {
  const queue = new Queue('q', { connection: engine });
  const told: Told[] = [];
  const gates: (() => void)[] = [];
  const handler = (job: { data: number }) => {
    told.push({ kind: 'start', group: job.data });
    return new Promise<void>((resolve) => gates.push(resolve));
  };
  const worker = new Worker('q', handler, { connection: engine, concurrency });
  await worker.waitUntilReady();
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  for (const { group, served: count } of adds) {
    told.push({ kind: 'add', group });
    await queue.add('a', group, { group: { id: `${group}` } });
    for (let i = 0; i < count; i++) {
      await turn();
      gates.shift()?.();
    }
  }
  for (let i = 0; i < adds.length * 2; i++) {
    await turn();
    gates.shift()?.();
  }
  return told;
}

/** While a group's first job waits, every other group is served once; one job may have been on its way already. */
function checkTurns(told: readonly Told[]): void {
  const waiting = new Map<number, number>();
  const since = new Map<number, number>();
  for (const [at, { kind, group }] of told.entries()) {
    const count = waiting.get(group) ?? 0;
    if (kind === 'add') {
      waiting.set(group, count + 1);
      if (count === 0) since.set(group, at);
      continue;
    }
    const starts = told.slice(since.get(group)! + 1, at).filter((one) => one.kind === 'start' && one.group !== group);
    const twice = starts.length - new Set(starts.map((one) => one.group)).size;
    expect(twice, `group ${group} waited for ${starts.map((one) => one.group).join()}`).toBeLessThanOrEqual(1);
    waiting.set(group, count - 1);
    since.set(group, at);
  }
}
