/**
 * What the conformance tests are written with. A `Harness` opens an engine and a way to it; the same tests run over every way there
 * is. Time stands still until a test moves it, and tests wait for what happens, never for time to pass.
 */
import {
  type Engine,
  type EngineOptions,
  type Job,
  type JobStateOrUnknown,
  Queue,
  QueueEvents,
  type TestClock,
  Worker,
} from 'flashq';
import { afterEach, beforeEach, expect } from 'vitest';

/** What `new Queue(name, opts)` takes. */
export type QueueOptions = NonNullable<ConstructorParameters<typeof Queue>[1]>;
export type WorkerOptions = NonNullable<ConstructorParameters<typeof Worker>[2]>;
type Connection = NonNullable<QueueOptions['connection']>;

/** An engine whose clock is driven, and the way to it. */
export interface World {
  /** For `{ connection }` of Queues, Workers and QueueEvents. */
  readonly connection: Connection;
  readonly clock: TestClock;
  readonly engine: Engine;
  /** Resolves when everything that is under way and waits neither for time nor for a handler has been dealt with. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

export interface Harness {
  open(opts?: EngineOptions): Promise<World>;
}

export type Suite = (harness: Harness) => void;

/** A run that does what the test says. */
export interface Run<D = any, R = any> {
  readonly job: Job<D, R>;
  readonly signal: AbortSignal;
  complete(value?: R): void;
  fail(error: unknown): void;
}

/** A worker whose handlers wait for the test. */
export class Hand {
  readonly worker: Worker;
  /** Every run that has started, in order. */
  readonly started: Run[] = [];
  #taken = 0;
  #wanted: ((run: Run) => void)[] = [];

  constructor(queueName: string, opts: WorkerOptions) {
    this.worker = new Worker(
      queueName,
      (job, { signal }) =>
        new Promise((resolve, reject) => {
          const run: Run = { job, signal, complete: resolve, fail: reject };
          this.started.push(run);
          const wanted = this.#wanted.shift();
          if (wanted === undefined) return;
          this.#taken++;
          wanted(run);
        }),
      opts,
    );
    this.worker.on('error', () => {});
  }

  /** The next run that the test has not had yet. */
  next(): Promise<Run> {
    if (this.#taken < this.started.length) return Promise.resolve(this.started[this.#taken++] as Run);
    return new Promise((resolve) => this.#wanted.push(resolve));
  }

  /** The runs that have started and that the test has not had yet. */
  rest(): Run[] {
    const rest = this.started.slice(this.#taken);
    this.#taken = this.started.length;
    return rest;
  }
}

/** One event as the tests compare it. */
export interface Told {
  readonly id: string;
  readonly event: string;
  readonly jobId: string;
  readonly args: Record<string, any>;
}

const EVENT_NAMES = [
  'added',
  'waiting',
  'delayed',
  'blocked',
  'active',
  'progress',
  'completed',
  'failed',
  'retrying',
  'stalled',
  'late',
  'cancelled',
  'removed',
  'deduplicated',
  'duplicate:mismatch',
  'replaced',
  'priority',
  'timeout',
  'backoff:unknown',
  'idempotency:evicted',
  'drained',
  'paused',
  'resumed',
  'configured',
  'obliterated',
  'cleaned',
  'dlq:evicted',
  'breaker:open',
  'breaker:half-open',
  'breaker:closed',
  'cron:added',
  'cron:changed',
  'cron:removed',
  'cron:paused',
  'cron:resumed',
  'cron:skipped',
  'dlq:threshold',
  'gap',
] as const;

export class Recorder {
  readonly events: QueueEvents;
  readonly told: Told[] = [];

  constructor(name: string, opts: NonNullable<ConstructorParameters<typeof QueueEvents>[1]>) {
    this.events = new QueueEvents(name, opts);
    for (const event of EVENT_NAMES) {
      this.events.on(event, (args, id) => this.told.push({ id, event, jobId: args.jobId, args }));
    }
  }

  /** The names of a job's events, in order. */
  of(job: { id: string }): string[] {
    return this.told.filter((one) => one.jobId === job.id).map((one) => one.event);
  }

  /** The last event of that name. */
  last(event: string): Told | undefined {
    return this.told.filter((one) => one.event === event).at(-1);
  }

  count(event: string): number {
    return this.told.filter((one) => one.event === event).length;
  }
}

/** What a test has at hand; opened before each one and closed after it. */
export class Kit {
  readonly #harness: Harness;
  #world: World | undefined;
  #closers: (() => Promise<unknown>)[] = [];

  constructor(harness: Harness) {
    this.#harness = harness;
    beforeEach(async () => {
      this.#world = await harness.open();
    });
    afterEach(async () => {
      await this.#shut();
    });
  }

  /** Another world, with options of its own. */
  async reopen(opts: EngineOptions): Promise<void> {
    await this.#shut();
    this.#world = await this.#harness.open(opts);
  }

  async #shut(): Promise<void> {
    for (const close of this.#closers.reverse()) await close();
    this.#closers = [];
    await this.#world?.close();
    this.#world = undefined;
  }

  get world(): World {
    return this.#world as World;
  }

  get clock(): TestClock {
    return this.world.clock;
  }

  get engine(): Engine {
    return this.world.engine;
  }

  get now(): number {
    return this.clock.now();
  }

  /** Time goes on by `ms`; what becomes due has happened. */
  async pass(ms: number): Promise<void> {
    await this.clock.advance(ms);
    await this.world.settle();
  }

  settle(): Promise<void> {
    return this.world.settle();
  }

  queue<D = any, R = any>(name = 'q', opts: QueueOptions = {}): Queue<D, R> {
    return new Queue<D, R>(name, { connection: this.world.connection, ...opts });
  }

  /** A worker that claims by the time this resolves. */
  async worker<D = any, R = any>(
    handler: (job: Job<D, R>, context: { signal: AbortSignal }) => Promise<R> | R,
    opts: WorkerOptions = {},
    name = 'q',
  ): Promise<Worker<D, R>> {
    const worker = new Worker<D, R>(name, handler, { connection: this.world.connection, ...opts });
    this.#closers.push(() => worker.close(true));
    worker.on('error', () => {});
    await worker.waitUntilReady();
    return worker;
  }

  /** A worker whose runs end as the test says; it claims by the time this resolves. */
  async hand(opts: WorkerOptions = {}, name = 'q'): Promise<Hand> {
    const hand = new Hand(name, { connection: this.world.connection, ...opts });
    this.#closers.push(() => hand.worker.close(true));
    await hand.worker.waitUntilReady();
    return hand;
  }

  /** To be run after the test, last one first. */
  atEnd(close: () => Promise<unknown>): void {
    this.#closers.push(close);
  }

  /** Everything that is told of a queue from now on. */
  async recorder(name = 'q', opts: { lastEventId?: string } = {}): Promise<Recorder> {
    const recorder = new Recorder(name, { connection: this.world.connection, ...opts });
    this.#closers.push(() => recorder.events.close());
    await recorder.events.waitUntilReady();
    await this.settle();
    return recorder;
  }

  /** Runs what there is, one at a time, each after all that the one before led to, and gives the data in the order of the runs. */
  async order(name = 'q'): Promise<unknown[]> {
    const ran: unknown[] = [];
    const hand = await this.hand({}, name);
    for (let next = hand.started.shift(); next !== undefined; next = hand.started.shift()) {
      ran.push(next.job.data);
      await hand.worker.pause(true);
      next.complete();
      await this.settle();
      hand.worker.resume();
      await this.settle();
    }
    await hand.worker.close();
    return ran;
  }

  /** A job that has failed for good. */
  async failed(queue: Queue, opts: Parameters<Queue['add']>[2] = {}, message = 'boom'): Promise<Job> {
    const job = await queue.add('failed', null, opts);
    const worker = await this.worker(
      () => {
        throw new Error(message);
      },
      {},
      queue.name,
    );
    await this.settle();
    await worker.close();
    return job;
  }

  /** A job that has completed. */
  async completed<R>(queue: Queue, value: R, opts: Parameters<Queue['add']>[2] = {}): Promise<Job> {
    const job = await queue.add('completed', null, opts);
    const worker = await this.worker(() => value, {}, queue.name);
    await this.settle();
    await worker.close();
    return job;
  }
}

export function kitOf(harness: Harness): Kit {
  return new Kit(harness);
}

export async function states(...jobs: { getState(): Promise<JobStateOrUnknown> }[]): Promise<JobStateOrUnknown[]> {
  return Promise.all(jobs.map((job) => job.getState()));
}

/** What a promise rejects with. */
export async function errorOf(promise: Promise<unknown>): Promise<any> {
  return promise.then(
    (value) => expect.unreachable(`resolved with ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
}

/** What a call throws. */
export function thrownBy(call: () => unknown): any {
  try {
    call();
  } catch (error) {
    return error;
  }
  return expect.unreachable('did not throw');
}

/** Whether a promise has settled by now; it has, if it can, once the world has. */
export function watch<T>(promise: Promise<T>): { settled: boolean; value?: T; error?: any } {
  const seen: { settled: boolean; value?: T; error?: any } = { settled: false };
  promise.then(
    (value) => Object.assign(seen, { settled: true, value }),
    (error: unknown) => Object.assign(seen, { settled: true, error }),
  );
  return seen;
}

/** Process warnings from now to the end of the test. */
export function warnings(): { code: string | undefined; message: string }[] {
  const seen: { code: string | undefined; message: string }[] = [];
  const listen = (warning: Error & { code?: string }) =>
    void seen.push({ code: warning.code, message: warning.message });
  process.on('warning', listen);
  unlisten.push(() => process.off('warning', listen));
  return seen;
}

const unlisten: (() => void)[] = [];
afterEach(() => {
  for (const end of unlisten.splice(0)) end();
});
