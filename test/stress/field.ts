/** Jobs of every temper, threads that are ended at random, and the reckoning at the end. */
import { setFlagsFromString } from 'node:v8';
import type { Worker as Thread } from 'node:worker_threads';
import { type AddOptions, Engine, type EngineOptions, type Job, Queue, Worker, type WorkerOptions } from 'flashq';
import { afterEach, expect, onTestFailed } from 'vitest';
import type { EngineState } from '../../engine/state.js';
import { audit } from '../support/core-audit.js';
import { fullest, ledger } from './ledger.js';

// Threads that eat all memory meet this, not the machine's. It is read when a thread starts.
setFlagsFromString('--max-old-space-size=64');

export const isLong = process.env.FLASHQ_LONG === '1';
/** How much longer than in `npm test`. */
export const SCALE = isLong ? 12 : 1;

/** Numbers below `below`, the same ones for the same seed (mulberry32, T. Ettinger). */
export type Random = (below: number) => number;

/** Seeded anew each time unless `FLASHQ_SEED` is set; the seed is printed when the test fails, and always in the long runs. */
export function seeded(): Random {
  const seed = Number(process.env.FLASHQ_SEED ?? Date.now() % 0x7fffffff);
  if (isLong) console.log(`${expect.getState().currentTestName}: FLASHQ_SEED=${seed}`);
  onTestFailed(() => console.log(`To repeat the choices: FLASHQ_SEED=${seed}`));
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

// ---- jobs -------------------------------------------------------------------------------------------------------------------

export type Temper =
  | 'works'
  | 'lingers'
  | 'computes'
  | 'flaky'
  | 'fails'
  | 'refuses'
  | 'later'
  | 'spins'
  | 'hangs'
  | 'exits'
  | 'throws'
  | 'rejects'
  | 'eats'
  | 'poison';

/** More lost runs than any job meets here. */
const EVER = 200;
const TIMEOUT_MS = 25;
const RETRIES = { attempts: 50, backoff: { type: 'exponential', delay: 1, factor: 2, maxDelay: 8, jitter: 0.5 } };
const OVERRUNS = { attempts: 50, backoff: 1, timeout: TIMEOUT_MS };
const FAILURES = 3;

const OPTIONS: Readonly<Record<Temper, AddOptions>> = {
  works: {},
  lingers: {},
  computes: {},
  flaky: RETRIES,
  fails: { attempts: FAILURES, backoff: 2 },
  refuses: { attempts: FAILURES },
  later: {},
  spins: OVERRUNS,
  hangs: OVERRUNS,
  exits: {},
  throws: {},
  rejects: {},
  eats: {},
  poison: {},
};

/** One job as it was added, and what may become of it. */
export interface Added {
  readonly queue: string;
  readonly id: string;
  readonly number: number;
  readonly temper: Temper;
  readonly failures: number;
  readonly maxDeliveries: number;
  /** Somebody has asked to cancel it. */
  isCancelled: boolean;
}

/** By id: how often each event told of the job. */
type Told = Map<string, Record<string, number>>;

export interface FieldOptions extends EngineOptions {
  readonly queues?: readonly string[];
  /** Somebody reads all events: starts are then reported, too. */
  readonly events?: boolean;
}

let closeField: (() => Promise<void>) | undefined;

afterEach(async () => {
  await closeField?.();
  closeField = undefined;
});

export class Field {
  readonly random: Random;
  readonly engine: Engine;
  readonly queues: ReadonlyMap<string, Queue>;
  readonly added: Added[] = [];
  readonly workers = new Set<Worker>();
  /** Errors that Workers told. */
  readonly errors: Error[] = [];
  readonly #told: Told | undefined;
  readonly #before: { blocksLive: number; largeChunks: number };

  private constructor(random: Random, engine: Engine, queues: ReadonlyMap<string, Queue>, told: Told | undefined) {
    this.random = random;
    this.engine = engine;
    this.queues = queues;
    this.#told = told;
    this.#before = this.#audit();
  }

  static async open({ queues = ['work'], events = false, ...opts }: FieldOptions = {}): Promise<Field> {
    ledger.clear();
    const random = seeded();
    const engine = await Engine.open({ maxMemory: 64 * 1024 * 1024, eventsKept: 1_000_000, ...opts });
    closeField = () => engine.close({ timeout: 0 });
    const table = new Map(queues.map((name) => [name, new Queue(name, { connection: engine })]));
    for (const queue of table.values()) await queue.getJobCounts();
    const told: Told = new Map();
    if (events) {
      await engine.connection.subscribe('*', undefined, ({ event, jobId }) => {
        if (jobId === undefined) return;
        const counts = told.get(jobId) ?? {};
        counts[event] = (counts[event] ?? 0) + 1;
        told.set(jobId, counts);
      });
    }
    return new Field(random, engine, table, events ? told : undefined);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.random(from.length)] as T;
  }

  queue(name = 'work'): Queue {
    return this.queues.get(name) as Queue;
  }

  // ---- adding -----------------------------------------------------------------------------------------------------------------

  /** Adds `count` jobs of those tempers, most of them as often as they are named. */
  async add(count: number, tempers: readonly Temper[], opts: AddOptions = {}): Promise<Added[]> {
    const byQueue = new Map<string, Omit<Added, 'id'>[]>();
    for (let i = 0; i < count; i++) {
      const queue = this.pick([...this.queues.keys()]);
      const temper = this.pick(tempers);
      const one = {
        queue,
        number: ledger.nextJob(),
        temper,
        failures: 1 + this.random(3),
        // Some are given up after the usual five lost runs, whoever's fault they were.
        maxDeliveries: temper === 'poison' || this.random(10) === 0 ? 5 : EVER,
        isCancelled: false,
      };
      byQueue.set(queue, [...(byQueue.get(queue) ?? []), one]);
    }
    const added: Added[] = [];
    for (const [name, items] of byQueue) {
      const jobs = await this.queue(name).addBulk(
        items.map(({ number, temper, failures, maxDeliveries }) => ({
          name: temper,
          data: { number, failures, turns: this.random(4) },
          opts: {
            ...OPTIONS[temper],
            maxDeliveries,
            priority: this.random(5) - 2,
            ...(this.random(5) === 0 ? { delay: this.random(20) } : {}),
            removeOnComplete: false,
            ...opts,
          },
        })),
      );
      items.forEach((item, i) => void added.push({ ...item, id: jobs[i]!.id }));
    }
    this.added.push(...added);
    return added;
  }

  /** Resolves when all those jobs have come to an end. */
  async ended(jobs: readonly Added[] = this.added): Promise<void> {
    await Promise.all(
      [...this.queues].map(async ([name, queue]) => {
        const ids = jobs.filter((job) => job.queue === name).map(({ id }) => id);
        await queue.finished(ids, { settled: true });
      }),
    );
  }

  // ---- workers and their threads ------------------------------------------------------------------------------------------------

  fileWorker(opts: WorkerOptions = {}, queue = 'work'): Worker {
    const file = new URL('./handlers/tasks.js', import.meta.url);
    return this.#keep(new Worker(queue, file, { connection: this.engine, threads: 2, abortGrace: 10, ...opts }));
  }

  async functionWorker(opts: WorkerOptions = {}, queue = 'work'): Promise<Worker> {
    const { polite } = await import(new URL('./handlers/tasks.js', import.meta.url).href);
    return this.#keep(new Worker(queue, polite, { connection: this.engine, abortGrace: 1000, ...opts }));
  }

  #keep(worker: Worker): Worker {
    worker.on('error', (error) => void this.errors.push(error));
    this.workers.add(worker);
    return worker;
  }

  async closeWorkers(): Promise<void> {
    await Promise.all([...this.workers].map((worker) => worker.close()));
    this.workers.clear();
  }

  /** What the engine keeps to itself. */
  get state(): EngineState {
    return (this.engine as unknown as { readonly state: EngineState }).state;
  }

  /** Threads of file Workers, as they are at this moment. */
  get threads(): Thread[] {
    return [...this.state.pools].flatMap((pool) => pool.piscina.threads as Thread[]);
  }

  /** Ends a thread that is picked at random: mostly one that is inside a run, else any, be it one that is just starting. */
  endThread(): void {
    const { threads } = this;
    const busy = ledger.busy();
    const inside = threads.filter(({ threadId }) => busy.has(threadId));
    const from = inside.length > 0 && this.random(4) > 0 ? inside : threads;
    if (from.length > 0) void this.pick(from).terminate();
  }

  /** Ends such a thread, `times` times, each after up to `every` more runs have ended; until `until` resolves. */
  async endThreads(times: number, every: number, until: Promise<unknown>): Promise<number> {
    return this.whileUnder(times, every, until, () => this.endThread());
  }

  /** Does something `times` times, each after up to `every` more runs have ended; until `until` resolves. Gives how often it did. */
  async whileUnder(times: number, every: number, until: Promise<unknown>, act: () => unknown): Promise<number> {
    let isOver = false;
    const over = until.then(
      () => {
        isOver = true;
      },
      () => {
        isOver = true;
      },
    );
    let done = 0;
    while (done < times) {
      await Promise.race([ledger.progressed(1 + this.random(every)), over]);
      // At any moment of the runs that follow, not only when one has just ended.
      await new Promise((resolve) => setTimeout(resolve, this.random(5)));
      if (isOver) break;
      await act();
      done++;
    }
    return done;
  }

  // ---- the reckoning ------------------------------------------------------------------------------------------------------------

  /**
   * All jobs have ended: closes the workers, then nothing may be missing, double, or left behind. `permits`: the limit of the queue
   * named `work`, which must be free to be used again in full.
   */
  async reckon({ permits }: { permits?: number } = {}): Promise<void> {
    await this.closeWorkers();
    for (const job of this.added) await this.#reckonJob(job);
    await this.#reckonCounts();
    if (permits !== undefined) await this.#reckonPermits(permits);
    await this.reckonRest();
  }

  async #reckonJob(one: Added): Promise<void> {
    const job = (await this.queue(one.queue).getJob(one.id)) as Job;
    const state = await job.getState();
    const about = `${one.temper} ${one.id}: ${state}, ${job.dlq?.reason}, ${job.failedReason}`;
    const starts = ledger.starts(one.number);
    expect(job.attemptsStarted, about).toBeGreaterThanOrEqual(starts);
    this.#reckonTold(one, state, job.dlq?.reason, about);
    if (state === 'cancelled') {
      expect(one.isCancelled, about).toBe(true);
      return;
    }
    if (state === 'failed' && job.dlq?.reason === 'worker_lost') {
      expect(one.maxDeliveries, about).toBe(5);
      expect(job.attemptsStarted - job.attemptsMade, about).toBeGreaterThanOrEqual(5);
      return;
    }
    if (one.temper === 'fails' || one.temper === 'refuses') {
      expect(state, about).toBe('failed');
      expect(job.dlq?.reason, about).toBe(one.temper === 'fails' ? 'attempts_exhausted' : 'unrecoverable');
      expect(job.attemptsMade, about).toBe(one.temper === 'fails' ? FAILURES : 1);
      return;
    }
    expect(state, about).toBe('completed');
    expect(one.temper, about).not.toBe('poison');
    expect(job.returnvalue, about).toBe(one.number);
    expect(starts, about).toBeGreaterThan(0);
    if (one.temper === 'spins' || one.temper === 'hangs') expect(job.attemptsMade, about).toBeGreaterThanOrEqual(1);
    else expect(job.attemptsMade, about).toBe(one.temper === 'flaky' ? one.failures : 0);
  }

  #reckonTold({ id, maxDeliveries }: Added, state: string, reason: string | undefined, about: string): void {
    if (this.#told === undefined) return;
    const told = this.#told.get(id) ?? {};
    const ends = ['completed', 'failed', 'cancelled'].map((event) => told[event] ?? 0);
    expect(ends, about).toEqual(['completed', 'failed', 'cancelled'].map((event) => (event === state ? 1 : 0)));
    expect(told.added, about).toBe(1);
    if (reason === 'worker_lost') expect(told.stalled, about).toBe(maxDeliveries);
    else expect(told.stalled ?? 0, about).toBeLessThan(maxDeliveries);
  }

  async #reckonCounts(): Promise<void> {
    for (const [name, queue] of this.queues) {
      const counts = {
        waiting: 0,
        delayed: 0,
        blocked: 0,
        active: 0,
        completed: 0,
        failed: 0,
        cancelled: 0,
        paused: 0,
      };
      for (const { queue: of, id } of this.added) {
        if (of === name) counts[(await queue.getJobState(id)) as keyof typeof counts]++;
      }
      expect(await queue.getJobCounts(), name).toEqual(counts);
      expect(counts.completed + counts.failed + counts.cancelled, name).toBe(
        this.added.filter((job) => job.queue === name).length,
      );
    }
    expect(this.engine.stats().jobs).toBe(this.added.length);
  }

  async #reckonPermits(limit: number): Promise<void> {
    const queue = this.queue();
    const begun: (() => void)[] = [];
    let isFull = () => {};
    const full = new Promise<void>((resolve) => {
      isFull = resolve;
    });
    const worker = new Worker(
      'work',
      () =>
        new Promise<void>((resolve) => {
          begun.push(resolve);
          if (begun.length === limit) isFull();
        }),
      { connection: this.engine, concurrency: limit * 2 },
    );
    const jobs = await queue.addBulk(
      Array.from({ length: limit * 2 }, () => ({ name: 'probe', data: 0, opts: { removeOnComplete: true } })),
    );
    await full;
    expect(begun.length).toBe(limit);
    const done = queue.finished(jobs);
    for (let i = 0; i < limit * 2; i++) {
      while (begun.length <= i) await new Promise((resolve) => setImmediate(resolve));
      begun[i]!();
    }
    await done;
    await worker.close();
  }

  /** The ledger is clean, and when the queues are obliterated all memory and threads are back. */
  async reckonRest(): Promise<void> {
    expect(ledger.wrongs()).toEqual([]);
    expect(this.engine.stats().threads).toBe(0);
    this.#audit();
    for (const queue of this.queues.values()) await queue.obliterate();
    expect(this.engine.stats().jobs).toBe(0);
    const { wasm } = this.state.core;
    // As the engine does once a second; what was retired is free two rounds after nobody can read it any more.
    for (let round = 0; round < 4; round++) wasm.limboAdvance();
    wasm.sealedCollect();
    expect(this.#audit()).toEqual(this.#before);
  }

  #audit(): { blocksLive: number; largeChunks: number } {
    const { core, queues } = this.state;
    return audit(core, ...[...queues.all()].map(({ address }) => address));
  }

  /** How many of a queue's runs there were at the fullest moment. */
  fullestOf(queue: string): number {
    const jobs = new Set(this.added.filter((job) => job.queue === queue).map(({ number }) => number));
    return fullest(ledger.runs().filter(({ job }) => jobs.has(job)));
  }
}
