/**
 * Random histories of a queue with all that holds jobs back at once: groups, aging, limits, breakers, batches, pauses, expiries, and
 * workers that come and go. What is counted is right at every moment, and in the end nothing is stuck.
 */
import fc from 'fast-check';
import { Engine, type Job, Queue, TestClock, Worker } from 'flashq';
import { expect, test } from 'vitest';
import { L } from '#engine/core/index.js';
import { turn } from '../support/engine.js';

const RUNS = process.env.FLASHQ_LONG === '1' ? 10_000 : 150;
const SEED = Number(process.env.FLASHQ_SEED ?? 20261126);

const none = fc.constant(undefined);
const kind = <K extends string>(...kinds: K[]) => fc.constantFrom(...kinds);

const add = fc.record({
  kind: kind('add'),
  group: fc.nat(3),
  id: fc.oneof(none, fc.nat(4)),
  opts: fc.record({
    priority: fc.nat(2),
    delay: fc.constantFrom(0, 0, 0, 50),
    lifo: fc.boolean(),
    ttl: fc.constantFrom(0, 0, 80),
    expireWhilePaused: fc.boolean(),
    timeout: fc.constantFrom(0, 40),
  }),
});
const worker = fc.record({
  kind: kind('worker'),
  batch: fc.constantFrom(
    undefined,
    { size: 3 },
    { size: 2, groupAffinity: true },
    { size: 3, minSize: 2, maxWait: 30, groupAffinity: true },
  ),
  hasBreaker: fc.boolean(),
  concurrency: fc.constantFrom(1, 2),
});
const step = fc.oneof(
  { weight: 6, arbitrary: add },
  { weight: 8, arbitrary: fc.record({ kind: kind('end'), nth: fc.nat(9), isGood: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ kind: kind('cancel', 'remove', 'prioritise', 'update'), nth: fc.nat(30) }) },
  { weight: 3, arbitrary: fc.record({ kind: kind('pass'), ms: fc.constantFrom(1, 10, 50, 100) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: kind('groups'),
      concurrency: fc.constantFrom(0, 1, 2),
      max: fc.constantFrom(0, 1, 3),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: kind('aging'), isOn: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('limit'), concurrency: fc.constantFrom(null, 1, 2) }) },
  { weight: 2, arbitrary: fc.record({ kind: kind('pause', 'resume', 'hold', 'open', 'close', 'reset') }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('obliterate', 'drain') }) },
  { weight: 2, arbitrary: worker },
  { weight: 1, arbitrary: fc.record({ kind: kind('leave'), nth: fc.nat(3) }) },
);
type Step = typeof step extends fc.Arbitrary<infer One> ? One : never;

test('what is counted is right at every moment, and nothing is stuck in the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 90, size: 'max' }), async (steps) => {
      const engine = await Engine.open({ clock: new TestClock(), maxMemory: 8 * 1024 * 1024 });
      try {
        const history = new History(engine);
        for (const one of steps) {
          await history.do(one);
          await turn();
          check(engine);
        }
        await history.end();
      } finally {
        await engine.close({ timeout: 0 });
      }
    }),
    { numRuns: RUNS, seed: SEED },
  );
}, 600_000);

class History {
  readonly #engine: Engine;
  readonly #clock: TestClock;
  readonly #queue: Queue;
  readonly #jobs: Job[] = [];
  readonly #workers: Worker[] = [];
  #runs: ((isGood: boolean) => void)[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
    this.#clock = engine.state.clock as TestClock;
    this.#queue = new Queue('q', { connection: engine });
    this.#join({ kind: 'worker', batch: undefined, hasBreaker: false, concurrency: 2 });
  }

  #join({ batch, hasBreaker, concurrency }: Extract<Step, { kind: 'worker' }>): void {
    const run = (): Promise<void> =>
      new Promise((resolve, reject) => this.#runs.push((isGood) => (isGood ? resolve() : reject(new Error('no')))));
    const handler = batch === undefined ? run : async (jobs: Job[]) => run().then(() => jobs.map(() => 1));
    const circuitBreaker = { threshold: 2, timeout: 60, halfOpenMax: concurrency };
    const opts = { ...(batch === undefined ? {} : { batch }), ...(hasBreaker ? { circuitBreaker } : {}) };
    const joined = new Worker('q', handler as never, {
      connection: this.#engine,
      concurrency,
      abortGrace: 20,
      ...opts,
    });
    joined.on('error', () => {});
    this.#workers.push(joined);
  }

  /** What is refused is refused. */
  async do(one: Step): Promise<void> {
    await this.#do(one).catch(() => {});
  }

  async #do(one: Step): Promise<unknown> {
    const queue = this.#queue;
    const job = 'nth' in one ? this.#jobs[one.nth % Math.max(1, this.#jobs.length)] : undefined;
    switch (one.kind) {
      case 'add':
        return this.#add(one);
      case 'end':
        return this.#runs.splice(one.nth % Math.max(1, this.#runs.length), 1)[0]?.(one.isGood);
      case 'cancel':
        return job && queue.cancel(job);
      case 'remove':
        return job && queue.remove(job);
      case 'prioritise':
        return job && queue.changePriority(job, one.nth % 4);
      case 'update':
        return job?.updateData(2);
      case 'pass':
        return this.#clock.advance(one.ms);
      case 'groups': {
        const { concurrency, max } = one;
        const rateLimit = { max, duration: 100 };
        return queue.configure({
          groups: { ...(concurrency === 0 ? {} : { concurrency }), ...(max === 0 ? {} : { rateLimit }) },
        });
      }
      case 'aging':
        return queue.configure({ aging: one.isOn ? { every: 20, max: 3 } : null });
      case 'limit':
        return queue.configure({ concurrency: one.concurrency });
      case 'pause':
        return queue.pause();
      case 'resume':
        return queue.resume();
      case 'hold':
        return queue.rateLimit(30);
      case 'open':
        return queue.openCircuitBreaker();
      case 'close':
        return queue.closeCircuitBreaker();
      case 'reset':
        return queue.resetCircuitBreaker();
      case 'obliterate':
        return queue.obliterate({ force: true });
      case 'drain':
        return queue.drain();
      case 'worker':
        return this.#workers.length < 6 ? this.#join(one) : undefined;
      case 'leave':
        return this.#workers.splice(one.nth % Math.max(1, this.#workers.length), 1)[0]?.close(true);
    }
  }

  async #add({ group, id, opts }: Extract<Step, { kind: 'add' }>): Promise<void> {
    const job = await this.#queue.add('a', 1, {
      ...opts,
      attempts: 2,
      backoff: 10,
      ...(group === 3 ? {} : { group: { id: `${group}` } }),
      ...(id === undefined ? {} : { jobId: `${id}`, onDuplicate: 'replace' as const }),
    });
    this.#jobs.push(job);
  }

  /** Whatever is left runs to its end. */
  async end(): Promise<void> {
    if (this.#workers.length === 0) this.#join({ kind: 'worker', batch: undefined, hasBreaker: false, concurrency: 1 });
    await this.#queue.resume();
    for (let i = 0; i < 60; i++) {
      for (const end of this.#runs.splice(0)) end(true);
      await turn();
      await this.#clock.advance(100);
    }
    const { waiting, active, delayed, blocked } = await this.#queue.getJobCounts();
    expect({ waiting, active, delayed, blocked }).toEqual({ waiting: 0, active: 0, delayed: 0, blocked: 0 });
    const { groups, groupOf } = this.#engine.state.queues.open('q');
    expect([groups.size, groupOf.size]).toEqual([0, 0]);
  }
}

/** What the engine counts beside the jobs is what one finds by counting them. */
function check({ state }: Engine): void {
  const { core, payloads, queues } = state;
  const { address, batchers, config, groups } = queues.open('q');
  const running = new Map<string, number>();
  const stands = new Map<string, number>();
  let ready = 0;
  for (let slot = core.listHead(address, L.STATE_WAITING); slot !== 0; slot = core.field(slot, L.S_NEXT)) {
    const id = payloads.opts(core.field(slot, L.S_PAYLOAD)).group?.id;
    const isReady = core.state(slot) === L.STATE_WAITING && core.field(slot, L.S_HEAP) === 0;
    if (isReady) ready++;
    if (id === undefined) continue;
    if (isReady) {
      expect(groups.get(id)?.stands).toContain(slot);
      stands.set(id, (stands.get(id) ?? 0) + 1);
    } else if (core.state(slot) === L.STATE_ACTIVE) running.set(id, (running.get(id) ?? 0) + 1);
    else expect(groups.get(id)?.heap).toBe(core.field(slot, L.S_HEAP));
  }
  for (const group of groups.values()) {
    expect(group.running).toBe(running.get(group.id) ?? 0);
    expect(group.stands.length).toBe(stands.get(group.id) ?? 0);
    const most = config.groups?.concurrency ?? Number.POSITIVE_INFINITY;
    if (group.stands.length !== 0) expect(group.running + group.stands.length).toBeLessThanOrEqual(most);
  }
  if (batchers.size !== 0) expect(core.i32[(address + L.Q_READY) >>> 2]).toBe(ready);
}
