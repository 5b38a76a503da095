/** An engine with a clock that stands still, and workers whose runs the test begins and ends. */
import { Engine, type Job, Queue, TestClock, Worker } from 'flashq';

export interface Bench {
  readonly engine: Engine;
  readonly clock: TestClock;
  queue<Data = any, Result = any>(name?: string): Queue<Data, Result>;
  /** A worker with that handler. */
  worker(handler: (job: Job, context: { signal: AbortSignal }) => unknown, opts?: object, name?: string): Worker;
  /** A worker whose runs wait for the test. */
  hands(opts?: object, name?: string): Hands;
  events(name?: string): Promise<Seen>;
  close(): Promise<void>;
}

/** Every event of a queue, in order. */
export interface Seen {
  readonly all: { event: string; jobId: string | undefined; args: any }[];
  /** The events of a job, by name. */
  of(jobId: string): string[];
}

export async function bench(
  options: { readonly clock?: TestClock; readonly [option: string]: unknown } = {},
): Promise<Bench> {
  const { clock = new TestClock() } = options;
  const engine = await Engine.open({ ...options, clock });
  const open: { close(...args: any[]): Promise<void> }[] = [];
  const self: Bench = {
    engine,
    clock,
    queue: (name = 'q') => new Queue(name, { connection: engine }),
    worker: (handler, opts = {}, name = 'q') => {
      const worker = new Worker(name, handler as never, { connection: engine, ...opts });
      worker.on('error', () => {});
      return worker;
    },
    hands: (opts = {}, name = 'q') => new Hands(self, opts, name),
    events: async (name = '*') => {
      const all: Seen['all'] = [];
      const subscription = await engine.connection.subscribe(name, undefined, ({ event, jobId, args }) => {
        all.push({ event, jobId, args });
      });
      open.push({ close: async () => subscription.close() });
      return { all, of: (jobId) => all.filter((one) => one.jobId === jobId).map((one) => one.event) };
    },
    close: async () => {
      for (const one of open) await one.close();
      await engine.close({ timeout: 0 });
    },
  };
  return self;
}

interface HeldRun {
  readonly job: Job;
  readonly signal: AbortSignal;
  complete(result?: unknown): Promise<void>;
  fail(error?: unknown): Promise<void>;
}

/** Runs in the test's hands: begun by the worker, ended by the test. */
export class Hands {
  readonly worker: Worker;
  readonly started: HeldRun[] = [];
  #taken = 0;
  #waiting: (() => void)[] = [];

  constructor({ worker }: Bench, opts: object, name: string) {
    this.worker = worker(
      (job, { signal }) =>
        new Promise((resolve, reject) => {
          this.started.push({
            job,
            signal,
            complete: async (result) => {
              resolve(result);
              await turn();
            },
            fail: async (error = new Error('failed')) => {
              reject(error);
              await turn();
            },
          });
          for (const wake of this.#waiting.splice(0)) wake();
        }),
      opts,
      name,
    );
  }

  /** The next run, when it has begun. */
  async next(): Promise<HeldRun> {
    while (this.started.length <= this.#taken) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.started[this.#taken++] as HeldRun;
  }
}

/** What was scheduled has run: promises, and what they schedule. */
export async function turn(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** The names of jobs in the order in which one worker runs them. */
export async function orderOfRuns(b: Bench, count: number): Promise<string[]> {
  const names: string[] = [];
  await new Promise<void>((resolve) => {
    b.worker((job) => {
      names.push(job.name);
      if (names.length === count) resolve();
    });
  });
  return names;
}
