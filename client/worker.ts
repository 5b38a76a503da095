/** A worker: claims the jobs of one queue and runs a handler on them, here (a function) or on threads (a file). */
import {
  checkDuration,
  checkObject,
  checkOneOf,
  checkOptionNames,
  checkQueueName,
  type KnownNames,
  refuse,
} from './checks.js';
import type { Connection, JobSnapshot, ThreadWorkerEvents, ThreadWorkerLink } from './connection.js';
import { ConnectionLink } from './default-connection.js';
import { Emitter, reportWarning } from './emitter.js';
import { UnrecoverableError, ValidationError } from './errors.js';
import { defaultThreads, handlerFile } from './handler-file.js';
import { type Job, jobOfSnapshot } from './job.js';
import { type JobReference, normaliseRef } from './options.js';
import { type BatchHandler, type CloseHow, closeRunner, type Handler, Runner } from './runner.js';
import type { TypedHandlers } from './typed.js';
import {
  type BatchOptions,
  type CheckedWorkerOptions,
  type CloseOptions,
  checkConcurrency,
  checkWorkerOptions,
  WORKER_DEFAULTS,
  type WorkerOptions,
} from './worker-options.js';

/** Their arguments, by name. */
export type WorkerEvents<Data = any, Result = any, Name extends string = string> = {
  /** It claims jobs from now on. */
  ready: [];
  active: [job: Job<Data, Result, Name>];
  completed: [job: Job<Data, Result, Name>, result: Result];
  /** A run has failed; the job may be retried. */
  failed: [job: Job<Data, Result, Name>, error: Error];
  /** The handler has called `job.updateProgress`. */
  progress: [job: Job<Data, Result, Name>, progress: unknown];
  /** A thread of this Worker died while it ran the job, which runs again or has failed for good. */
  stalled: [job: Job<Data, Result, Name>];
  /** A handler has ended whose job was no longer its own: cancelled, timed out or given back while it went on. Its outcome is dropped. */
  late: [job: Job<Data, Result, Name>];
  /** Nothing is left to claim, after there was something. */
  drained: [];
  /** Something failed that has no caller. Without a listener it is shown as a process warning. */
  error: [error: Error];
  paused: [];
  resumed: [];
  closing: [];
  closed: [];
};

const EVENTS: KnownNames = {
  known: [
    'ready',
    'active',
    'completed',
    'failed',
    'progress',
    'stalled',
    'late',
    'drained',
    'error',
    'paused',
    'resumed',
    'closing',
    'closed',
  ],
  elsewhere: { 'ioredis:close': 'there is no Redis.' },
};

let workers = 0;

function checkClose(opts: boolean | CloseOptions | undefined): CloseHow {
  const { closeTimeout, onTimeout } = WORKER_DEFAULTS;
  if (opts === true) return { timeoutMs: 0, onTimeout: 'requeue' };
  if (opts === undefined || opts === false) return { timeoutMs: closeTimeout, onTimeout };
  const given = checkObject(opts, 'opts');
  checkOptionNames(given, 'opts', { known: ['timeout', 'onTimeout'] });
  return {
    timeoutMs: given.timeout === undefined ? closeTimeout : checkDuration(given.timeout, 'opts.timeout'),
    onTimeout: given.onTimeout === undefined ? onTimeout : checkOneOf(given.onTimeout, 'opts.onTimeout', ON_TIMEOUT),
  };
}

const ON_TIMEOUT = ['requeue', 'wait', 'fail'] as const;
/**
 * Runs a handler on the jobs of a queue, `concurrency` at a time.
 *
 * A function runs on the thread that makes the Worker: for work that waits for others. A file (path or URL) is loaded by threads of
 * this Worker: for work that computes, or must be kept apart; its default export is the handler. A handler gets the job and
 * `{ signal }`; what it returns is the result, what it throws fails the attempt (`UnrecoverableError`: for good; `RateLimitError`,
 * `DelayedError`: not an attempt, runs again later).
 *
 * With `batch` the handler gets an array of jobs and returns an array of results; see `job.setAsFailed`.
 *
 * A Worker starts by itself, keeps the process alive until it is closed, and reports what goes wrong as the event `error`.
 *
 * @example
 * const worker = new Worker<Email>('emails', async (job, { signal }) => send(job.data, signal), { concurrency: 50 });
 * worker.on('failed', (job, error) => log(job.id, error));
 * await worker.close();
 */
export class Worker<Data = any, Result = any, Name extends string = string> extends Emitter<
  WorkerEvents<Data, Result, Name>
> {
  readonly queueName: string;
  /** The name under which events show this worker. */
  readonly id: string;
  readonly #link: ConnectionLink;
  readonly #options: CheckedWorkerOptions;
  readonly #handler: Handler | BatchHandler | undefined;
  readonly #file: string | undefined;
  #concurrency: number | undefined;
  #runner: Runner | undefined;
  #threads: ThreadWorkerLink | undefined;
  #isPaused = false;
  /** Why no thread has loaded the handler file so far. */
  #loadError: Error | undefined;
  #running: Promise<void> | undefined;
  #started: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #end: () => void = () => {};
  #leave: () => void = () => {};

  /**
   * @param handler A function, or the path or URL of a file whose default export is one.
   * @throws ValidationError also for a file that isn't there.
   */
  constructor(
    queueName: string,
    handler: BatchHandler<Data, Result, Name> | string | URL,
    opts: WorkerOptions & { readonly batch: BatchOptions },
  );
  constructor(
    queueName: string,
    handler: Handler<Data, Result, Name> | string | URL,
    opts?: WorkerOptions, // without `batch` for functions; wrappers hand on what they get
  );
  constructor(
    queueName: string,
    handler: Handler<Data, Result, Name> | BatchHandler<Data, Result, Name> | string | URL,
    opts: WorkerOptions = {},
  ) {
    super(EVENTS);
    this.queueName = checkQueueName(queueName);
    const isFile = typeof handler === 'string' || handler instanceof URL;
    if (!isFile && typeof handler !== 'function') refuse('handler', 'be a function, a path or a URL', handler);
    this.#options = checkWorkerOptions(opts, isFile);
    this.#handler = isFile ? undefined : (handler as unknown as Handler | BatchHandler);
    this.#file = isFile ? handlerFile(handler) : undefined;
    this.#concurrency = this.#options.concurrency;
    this.id = `${this.queueName}:${++workers}`;
    this.#link = new ConnectionLink(opts.connection, `The worker of queue "${queueName}"`);
    // After this turn of the event loop, so that listeners added now miss nothing.
    if (this.#options.autorun) queueMicrotask(() => this.#autorun());
  }

  /**
   * A worker with one handler for each name of job; types as `Queue.typed`. A job with another name fails for good.
   *
   * @example
   * Worker.typed<Jobs>('messages', { email: (job) => mail(job.data), sms: (job) => text(job.data) }, { concurrency: 10 });
   */
  static typed<Jobs extends object>(
    queueName: string,
    handlers: TypedHandlers<Jobs>,
    opts: WorkerOptions & { readonly batch?: undefined } = {},
  ): Worker {
    const byName = checkObject(handlers, 'handlers') as Record<string, Handler>;
    for (const name of Object.keys(byName)) {
      if (typeof byName[name] !== 'function') refuse(`handlers.${name}`, 'be a function', byName[name]);
    }
    if ((opts as WorkerOptions).batch !== undefined) {
      throw new ValidationError('opts.batch: one handler takes the jobs of a batch. Use new Worker.', {
        path: 'opts.batch',
      });
    }
    const table = new Map(Object.entries(byName));
    const dispatch: Handler = (job, context) => {
      const handler = table.get(job.name);
      if (handler !== undefined) return handler(job, context);
      const known = [...table.keys()].join(', ');
      throw new UnrecoverableError(
        `No handler for jobs named ${JSON.stringify(job.name)} in this worker (it has: ${known})`,
      );
    };
    return new Worker(queueName, dispatch, opts);
  }

  // ---- starting -------------------------------------------------------------------------------------------------------------

  #autorun(): void {
    if (this.#running !== undefined || this.#closing !== undefined) return;
    this.run().catch((error: unknown) => this.#failed(error));
  }

  /**
   * Starts claiming; for workers with `autorun: false`. Resolves when the worker has been closed.
   *
   * @throws ValidationError when it runs already; what opening the engine or starting the threads fails with.
   */
  async run(): Promise<void> {
    if (this.#running !== undefined) {
      throw new ValidationError('This worker runs already. Give it autorun: false to start it yourself.', {
        path: 'autorun',
      });
    }
    if (this.#closing !== undefined) throw this.#link.closedError();
    this.#running = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#started = this.#start();
    this.#started.catch(() => {}); // it is awaited below, and by waitUntilReady
    try {
      await this.#started;
    } catch (error) {
      this.#running = undefined;
      throw error;
    }
    await this.#running;
  }

  async #start(): Promise<void> {
    const connection = await this.#link.ready();
    this.#leave = connection.adopt(this);
    if (this.#options.limiter !== undefined) await this.#limit(connection, this.#options.limiter);
    if (this.#file === undefined) await this.#startHere(connection, this.#handler as Handler | BatchHandler);
    else await this.#startThreads(connection, this.#file);
    if (this.#closing === undefined && this.#loadError === undefined) this.fire('ready');
  }

  async #limit(connection: Connection, limiter: { max: number; duration: number }): Promise<void> {
    const { rateLimit } = await connection.getConfig(this.queueName);
    if (rateLimit?.max === limiter.max && rateLimit.duration === limiter.duration) return;
    if (rateLimit !== undefined && rateLimit !== null) {
      reportWarning(
        `Queue "${this.queueName}" had the rate limit ${rateLimit.max} in ${rateLimit.duration} ms; ` +
          `a worker's limiter changes it to ${limiter.max} in ${limiter.duration} ms, for all its workers.`,
        'FLASHQ_RATE_LIMIT_CHANGED',
      );
    }
    await connection.configure(this.queueName, { rateLimit: limiter });
  }

  async #startHere(connection: Connection, handler: Handler | BatchHandler): Promise<void> {
    const concurrency = this.concurrency;
    const runner = new Runner({ connection, handler, concurrency, settings: this.#options.settings });
    this.#runner = runner;
    this.#hook(runner);
    const { abortGraceMs, breaker, batch } = this.#options;
    const opts = { workerId: this.id, abortGraceMs, concurrency, breaker, batch };
    const source = await connection.openClaims(this.queueName, opts, runner);
    if (this.#isPaused) await runner.pause();
    runner.start(source);
  }

  async #startThreads(connection: Connection, file: string): Promise<void> {
    const { threads = defaultThreads(), abortGraceMs, recycle, breaker, batch } = this.#options;
    const concurrency = this.#concurrency ?? threads;
    this.#concurrency = concurrency;
    if (concurrency < threads) {
      throw new ValidationError(
        `opts.concurrency (${concurrency}) is less than opts.threads (${threads}): some would never run a job`,
        {
          path: 'opts.concurrency',
        },
      );
    }
    const job = (snapshot: JobSnapshot) => jobOfSnapshot<Data, Result, Name>(connection, snapshot);
    const events: ThreadWorkerEvents = {
      active: (snapshot) => this.fire('active', job(snapshot)),
      completed: (snapshot, result) => this.fire('completed', job(snapshot), result as Result),
      failed: (snapshot, error) => this.fire('failed', job(snapshot), error),
      progress: (snapshot, progress) => this.fire('progress', job(snapshot), progress),
      stalled: (snapshot) => this.fire('stalled', job(snapshot)),
      late: (snapshot) => this.fire('late', job(snapshot)),
      drained: () => this.fire('drained'),
      error: (error) => this.#failed(error),
      loaded: () => this.#loaded(),
      isHeard: (event) => this.listenerCount(event) > 0,
    };
    const spec = { queue: this.queueName, file, concurrency, threads, abortGraceMs, recycle, breaker, batch, events };
    const link = await connection.openThreads(spec);
    this.#threads = link;
    if (this.#concurrency !== concurrency) link.setConcurrency(this.#concurrency);
    if (this.#isPaused) await link.pause(true);
    if (this.#closing !== undefined) return; // closing doesn't wait for a file that loads for ever
    await link.ready().catch((error: Error) => {
      this.#loadError = error; // told already as an event; its threads try again
    });
  }

  /** A thread has loaded the file, after none could. */
  #loaded(): void {
    if (this.#loadError === undefined) return;
    this.#loadError = undefined;
    this.fire('ready');
  }

  /**
   * Resolves when jobs are claimed; rejects with what starting failed with. Waits for `run()` when there is no autorun. A handler file
   * that no thread could load is tried again and again: until it loads this rejects with why it didn't, and the event `ready` tells that it has.
   */
  async waitUntilReady(): Promise<void> {
    if (this.#closing !== undefined) throw this.#link.closedError();
    if (this.#started === undefined && this.#options.autorun) await Promise.resolve(); // the constructor's microtask
    if (this.#started !== undefined) {
      await this.#started;
      if (this.#closing !== undefined) throw this.#link.closedError();
      if (this.#loadError !== undefined) throw this.#loadError;
      return;
    }
    return new Promise((resolve) => this.once('ready', resolve));
  }

  // ---- events ---------------------------------------------------------------------------------------------------------------

  /** Hooks are set only while somebody listens, so that runs don't pay for events that nobody hears. */
  protected override listenersChanged(event: keyof WorkerEvents): void {
    if (!HOOKED.has(event)) return;
    if (this.#runner !== undefined) this.#hook(this.#runner);
    this.#threads?.listenersChanged();
  }

  #hook(runner: Runner): void {
    const heard = (event: keyof WorkerEvents) => this.listenerCount(event) > 0;
    runner.hooks = {
      active: heard('active') ? (job) => void this.fire('active', job as Job<Data, Result, Name>) : undefined,
      completed: heard('completed')
        ? (job, result) => void this.fire('completed', job as Job<Data, Result, Name>, result as Result)
        : undefined,
      failed: heard('failed')
        ? (job, error) => void this.fire('failed', job as Job<Data, Result, Name>, error)
        : undefined,
      progress: heard('progress')
        ? (job, progress) => void this.fire('progress', job as Job<Data, Result, Name>, progress)
        : undefined,
      late: heard('late') ? (job) => void this.fire('late', job as Job<Data, Result, Name>) : undefined,
      drained: heard('drained') ? () => void this.fire('drained') : undefined,
      error: (error) => this.#failed(error),
    };
  }

  #failed(thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    if (!this.fire('error', error)) {
      reportWarning(`The worker of queue "${this.queueName}" met an error`, 'FLASHQ_WORKER_ERROR', error);
    }
  }

  // ---- while it runs --------------------------------------------------------------------------------------------------------

  /** Runs at a time. Setting it takes effect at once; runs in progress are never stopped for it. */
  get concurrency(): number {
    return this.#concurrency ?? this.#options.threads ?? defaultThreads();
  }

  set concurrency(count: number) {
    this.#concurrency = checkConcurrency(count, 'concurrency');
    this.#threads?.setConcurrency(count);
    this.#runner?.setConcurrency(count).catch((error: unknown) => this.#failed(error));
  }

  /** True from `run()` (or the start by itself) to the end of `close()`. */
  isRunning(): boolean {
    return this.#running !== undefined;
  }

  isPaused(): boolean {
    return this.#isPaused;
  }

  /**
   * Claims no more jobs, of this worker only (`queue.pause` is for all). Resolves when its running jobs have ended;
   * `pause(true)` doesn't wait for them.
   */
  async pause(doNotWaitActive = false): Promise<void> {
    this.#isPaused = true;
    await this.#threads?.pause(doNotWaitActive);
    await this.#runner?.pause();
    if (!doNotWaitActive) await this.#runner?.idle();
    this.fire('paused');
  }

  resume(): void {
    this.#isPaused = false;
    this.#threads?.resume();
    this.#runner?.resume();
    this.fire('resumed');
  }

  /** Cancels a job of this queue; see `queue.cancel`. */
  async cancelJob(ref: JobReference, reason?: string): Promise<'cancelled' | 'aborting' | 'finished'> {
    if (reason !== undefined && typeof reason !== 'string') refuse('reason', 'be a string', reason);
    return (await this.#link.ready()).cancel(this.queueName, normaliseRef(ref), reason);
  }

  /** No job of the queue starts for `ms` milliseconds, of whatever worker; see `queue.rateLimit`. */
  async rateLimit(ms: number): Promise<void> {
    const wanted = checkDuration(ms, 'ms');
    return (await this.#link.ready()).hold(this.queueName, wanted);
  }

  // ---- the end --------------------------------------------------------------------------------------------------------------

  /**
   * Stops claiming, lets running jobs end, and after `timeout` (30 s) does with what is left as `onTimeout` says: `requeue`, the
   * default, gives it back without counting an attempt. `close(true)` gives everything back at once. Later calls wait for the first.
   *
   * @example
   * process.once('SIGTERM', () => worker.close({ timeout: 10_000 }));
   */
  close(opts?: boolean | CloseOptions): Promise<void> {
    try {
      this.#closing ??= this.#close(checkClose(opts));
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#closing;
  }

  async #close(how: CloseHow): Promise<void> {
    this.fire('closing');
    try {
      if (this.#threads === undefined) await this.#started?.catch(() => {}); // whoever called run() has heard of it
      if (this.#threads !== undefined) await this.#threads.close(how);
      if (this.#runner !== undefined) await closeRunner(this.#runner, how, 'take');
    } finally {
      this.#link.close();
      this.#leave();
      this.#running = undefined;
      this.#end();
      this.fire('closed');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const HOOKED = new Set<keyof WorkerEvents>(['active', 'completed', 'failed', 'progress', 'late', 'drained']);
