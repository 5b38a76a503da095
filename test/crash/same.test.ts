/** What an engine finds is what the one before had: every record of it, after whatever was done to it. */
import { type Job, Queue, TestClock, Worker } from 'flashq';
import { expect, onTestFinished, test } from 'vitest';
import { type Core, L } from '#engine/core/index.js';
import { dependencyRecords } from '#engine/jobs/dependencies.js';
import { explain } from '#engine/jobs/explain.js';
import { coldOf, snapshot } from '#engine/jobs/records.js';
import type { EngineState } from '#engine/state.js';
import { type Bench, bench, turn } from '../support/engine.js';
import { FaultStore } from '../support/fault-store.js';
import { randomFrom, seedOfTest } from './killed.js';

const RUNS = process.env.FLASHQ_LONG === '1' ? 300 : 25;
const ROUNDS = 6;
const STEPS = 40;
const NAMES = ['a', 'b'];
const LISTS = [
  L.STATE_WAITING,
  L.STATE_DELAYED,
  L.STATE_BLOCKED,
  L.STATE_COMPLETED,
  L.STATE_FAILED,
  L.STATE_CANCELLED,
  L.STATE_REMEMBERED,
  L.STATE_LINGERING,
];

type Random = () => number;

const below = (random: Random, n: number) => Math.floor(random() * n);
const pick = <T>(random: Random, list: readonly T[]) => list[below(random, list.length)] as T;

function slotsOf(core: Core, queue: number): number[] {
  const slots: number[] = [];
  for (const raw of LISTS)
    for (let slot = core.listHead(queue, raw); slot !== 0; slot = core.field(slot, L.S_NEXT)) slots.push(slot);
  return slots;
}

/** All that can be known of an engine. */
function everything({ state }: Bench['engine']) {
  const { core } = state;
  const queues = [...state.queues.all()].filter((queue) => slotsOf(core, queue.address).length > 0 || queue.paused);
  return queues
    .map((queue) => ({
      name: queue.name,
      paused: queue.paused,
      config: queue.config,
      jobs: slotsOf(core, queue.address)
        .map((slot) => recordOf(state, slot))
        .sort((a, b) => a.number - b.number),
      order: orderOf(state, queue.address),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function recordOf(state: EngineState, slot: number) {
  const { core } = state;
  const record = snapshot(state, slot);
  return {
    ...record,
    raw: core.state(slot),
    number: core.number(slot),
    due: [L.STATE_DELAYED, L.STATE_REMEMBERED, L.STATE_LINGERING].includes(core.state(slot))
      ? core.time(slot, L.S_DUE)
      : 0,
    expiry: core.time(slot, L.S_EXPIRY),
    lost: core.lost(slot),
    unsettled: core.state(slot) === L.STATE_BLOCKED ? core.field(slot, L.S_UNSETTLED) : 0,
    cold: coldOf(state, slot),
    dependencies: dependencyRecords(state, slot),
    waitsFor: explain(state, record.queue, { id: record.id }).waitsFor,
  };
}

/** Numbers of the waiting jobs as they would be claimed. */
function orderOf(state: EngineState, queue: number): number[] {
  const { core, journal } = state;
  const slots: number[] = [];
  for (let slot = core.listHead(queue, L.STATE_WAITING); slot !== 0; slot = core.field(slot, L.S_NEXT))
    slots.push(slot);
  const seqOf = (slot: number) => journal!.table.page(slot).seq[journal!.table.index(slot)] as number;
  slots.sort((a, b) => core.priority(b) - core.priority(a) || seqOf(a) - seqOf(b));
  return slots.map((slot) => core.number(slot));
}

/** One worker claims the waiting jobs of each queue in the order that they had. */
async function claimAll(
  { engine, worker, queue: queueOf }: Bench,
  found: ReturnType<typeof everything>,
): Promise<void> {
  for (const { name, jobs, order } of found) {
    const queue = queueOf(name);
    await queue.resume();
    await queue.configure({ concurrency: null, rateLimit: null });
    const ids = order.map((number) => jobs.find((job) => job.number === number)?.id as string);
    const claimed = new Set<string>();
    const one = worker((job) => void claimed.add(job.id), {}, name);
    for (let turns = 0; turns < 500 && !ids.every((id) => claimed.has(id)); turns++) await turn();
    await one.close();
    expect([...claimed].filter((id) => ids.includes(id))).toEqual(ids);
  }
  expect(engine.health().ok).toBe(true);
}

function someOptions(random: Random, jobs: readonly Job[]): object {
  const opts: Record<string, unknown> = {};
  if (random() < 0.3) opts.priority = below(random, 5) - 2;
  if (random() < 0.2) opts.delay = 1 + below(random, 5000);
  if (random() < 0.1) opts.lifo = true;
  if (random() < 0.1) opts.ttl = 1 + below(random, 20_000);
  if (random() < 0.3) opts.attempts = 2;
  if (random() < 0.2) opts.backoff = { type: 'exponential', delay: 1000 };
  if (random() < 0.25) opts.jobId = `id${below(random, 12)}`;
  if (opts.jobId !== undefined && random() < 0.5) opts.onDuplicate = pick(random, ['return', 'replace', 'rerun']);
  if (random() < 0.2) opts.removeOnComplete = pick(random, [true, 2, { age: 3000 }]);
  if (random() < 0.1) opts.removeOnFail = pick(random, [true, { age: 3000 }]);
  if (random() < 0.1) opts.idempotencyTtl = below(random, 10_000);
  if (jobs.length > 0 && random() < 0.35) {
    opts.dependsOn = Array.from({ length: 1 + below(random, 3) }, () => pick(random, jobs));
    opts.onDependencyFailure = pick(random, ['fail', 'run', 'run-now', 'cancel', 'wait']);
  }
  return opts;
}

async function step(b: Bench, random: Random, jobs: Job[]): Promise<void> {
  const queue = b.queue(pick(random, NAMES));
  const job = jobs.length === 0 ? undefined : pick(random, jobs);
  const add = async () => {
    const act = pick(random, ['works', 'works', 'fails']);
    jobs.push(await queue.add('job', { act, n: below(random, 1000) }, someOptions(random, jobs)));
  };
  const run = async () => {
    const worker = new Worker(queue.name, handle, { connection: b.engine });
    await turn();
    await turn();
    await worker.close();
  };
  const ways: (() => Promise<unknown> | undefined)[] = [
    add,
    add,
    add,
    () =>
      queue
        .addBulk([
          { name: 'x', data: { act: 'works' } },
          { name: 'y', data: { act: 'fails' } },
        ])
        .then((made) => jobs.push(...made)),
    run,
    () => b.clock.advance(below(random, 4000)),
    () => job && b.queue(job.queueName).cancel(job),
    () => job?.remove(),
    () => job?.promote(),
    () => job?.changeDelay(below(random, 3000)),
    () => job?.changePriority({ priority: below(random, 7) - 3, lifo: random() < 0.3 }),
    () => job?.updateData({ act: 'works', n: -1 }),
    () => job?.updateProgress({ some: below(random, 100) }),
    () => job?.log('a line'),
    () => job && queue.moveToDlq(job, 'by hand'),
    () => queue.retryDlq(),
    () => job && queue.retryDlq(job),
    () => (random() < 0.5 ? queue.pause() : queue.resume()),
    () =>
      queue.configure({
        concurrency: pick(random, [null, 3]),
        rateLimit: pick(random, [null, { max: 5, duration: 1000 }]),
      }),
    () => (random() < 0.2 ? queue.drain({ delayed: random() < 0.5, blocked: random() < 0.5 }) : undefined),
    () => (random() < 0.05 ? queue.obliterate() : undefined),
  ];
  try {
    await pick(random, ways)();
  } catch (error) {
    if (!(error as { code?: string }).code?.startsWith('FLASHQ_')) throw error;
  }
}

function handle({ data }: Job): unknown {
  if (data.act === 'fails') throw new Error('it fails');
  return { done: data.n };
}

test.each(Array.from({ length: RUNS }, (_, i) => seedOfTest() + i))(
  'an engine that is opened again is the same (seed %i)',
  async (seed) => {
    const random = randomFrom(seed);
    const store = new FaultStore();
    const jobs: Job[] = [];
    const durability = random() < 0.5 ? 'commit' : 'relaxed';
    let clock = new TestClock();
    for (let round = 0; round < ROUNDS; round++) {
      const b = { ...(await bench({ store, clock, durability })), clock };
      b.engine.on('warning', () => {});
      onTestFinished(() => b.engine.close({ timeout: 0 }).catch(() => {}));
      const mine = jobs.map((job) => ({ id: job.id, queue: job.queueName }));
      jobs.length = 0;
      for (const { id, queue } of mine) {
        const found = await new Queue(queue, { connection: b.engine }).getJob(id);
        if (found !== undefined) jobs.push(found);
      }
      for (let i = 0; i < STEPS; i++) await step(b, random, jobs);
      await turn();
      await b.engine.state.journal?.flush();
      const before = everything(b.engine);
      store.crash();
      clock = new TestClock(clock.now());
      const again = await bench({ store, clock, durability });
      again.engine.on('warning', () => {});
      const after = everything(again.engine);
      expect(after).toEqual(before);
      if (round === ROUNDS - 1) await claimAll(again, after);
      store.crash();
      await again.engine.close({ timeout: 0 }).catch(() => {});
    }
  },
);
