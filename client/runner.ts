/**
 * The run loop: takes claimed jobs from a `ClaimSource`, runs a handler on each, up to a live number at a time, and settles them.
 * The same loop serves function handlers and the inside of handler threads.
 *
 * It keeps `credit` (granted and not delivered yet) so that running + credit never exceeds the concurrency. A delivery may settle
 * and grant again before `deliver` returns (handlers that return no promise do).
 */
import type {
  AbortReason,
  ClaimedJob,
  ClaimSink,
  ClaimSource,
  Connection,
  JobSnapshot,
  Outcome,
} from './connection.js';
import { reportWarning } from './emitter.js';
import {
  EngineClosedError,
  fromErrorRecord,
  JobCancelledError,
  JobRemovedError,
  TimeoutError,
  toErrorRecord,
  UnrecoverableError,
} from './errors.js';
import { Job, jobOfClaim, jobOfSnapshot, type RunOfJob } from './job.js';
import { outcomeOfFailure, type RunnerSettings } from './outcome.js';

/** The second argument of a handler. */
export interface HandlerContext {
  /** Aborts when the run should stop: the job was cancelled or removed, took too long, or the worker closes. `reason` says which. */
  readonly signal: AbortSignal;
}

/** Takes many jobs at once, and gives their results in the same order. */
export type BatchHandler<Data = any, Result = any, Name extends string = string> = (
  jobs: readonly Job<Data, Result, Name>[],
  context: HandlerContext,
) => Promise<readonly Result[]> | readonly Result[];
/** What the library's own handlers get besides. */
export interface InterruptibleContext extends HandlerContext {
  /** Aborts when the job is interrupted: the run goes on, and sees to it. */
  readonly interruption: AbortSignal;
}

export type Handler<Data = any, Result = any, Name extends string = string> = (
  job: Job<Data, Result, Name>,
  context: HandlerContext,
) => Promise<Result> | Result;

/** What somebody wants to hear. A hook that isn't set costs nothing; hooks must not throw. */
export interface RunnerHooks {
  active?: ((job: Job) => void) | undefined;
  completed?: ((job: Job, result: unknown) => void) | undefined;
  failed?: ((job: Job, error: Error) => void) | undefined;
  progress?: ((job: Job, progress: unknown) => void) | undefined;
  late?: ((job: Job) => void) | undefined;
  drained?: (() => void) | undefined;
  error?: ((error: Error) => void) | undefined;
}

export interface RunnerOptions {
  readonly connection: Connection;
  /** Of a Worker with `batch`: one that takes many jobs. */
  readonly handler: Handler | BatchHandler;
  readonly concurrency: number;
  readonly settings?: RunnerSettings | undefined;
  readonly hooks?: RunnerHooks | undefined;
}

/** One run, and its handler's context. The AbortController (1 µs) is made when somebody looks at `signal`. */
class Run implements InterruptibleContext {
  readonly ticket: number;
  readonly job: Job;
  readonly timeoutMs: number;
  /** Its place in the list of runs; -1 once its handler has ended. */
  index: number;
  /** Its outcome has been told already: what the handler still says doesn't count. */
  isSettled = false;
  /** The batch that it runs in, and how it has failed there by itself. */
  batch: Batch | undefined;
  failure: { readonly error: unknown } | undefined;
  abortReason: AbortReason | undefined;
  abortError: Error | undefined;
  #controller: AbortController | undefined;
  #interruption: AbortController | undefined;

  constructor(claimed: ClaimedJob, job: Job, index: number) {
    this.ticket = claimed.ticket;
    this.job = job;
    this.timeoutMs = claimed.timeoutMs;
    this.index = index;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.abortError !== undefined) this.#controller.abort(this.abortError);
    }
    return this.#controller.signal;
  }

  get interruption(): AbortSignal {
    this.#interruption ??= new AbortController();
    return this.#interruption.signal;
  }

  interrupt(error: Error): void {
    this.#interruption ??= new AbortController();
    this.#interruption.abort(error);
  }

  /** The first reason stays. */
  abort(reason: AbortReason, error: Error): void {
    if (this.abortReason !== undefined) return;
    this.abortReason = reason;
    this.abortError = error;
    this.#controller?.abort(error);
    this.batch?.aborted(error);
  }
}

/** Runs that share one call of a handler. Its signal aborts when all of theirs have. */
class Batch implements HandlerContext {
  readonly runs: readonly Run[];
  #open: number;
  #error: Error | undefined;
  #controller: AbortController | undefined;

  constructor(runs: readonly Run[]) {
    this.runs = runs;
    this.#open = runs.length;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#error !== undefined) this.#controller.abort(this.#error);
    }
    return this.#controller.signal;
  }

  aborted(error: Error): void {
    if (--this.#open !== 0) return;
    this.#error = error;
    this.#controller?.abort(error);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}

function errorOfAbort(run: Run, reason: AbortReason, message: string): Error {
  const about = { queue: run.job.queueName, jobId: run.job.id };
  switch (reason) {
    case 'timeout':
      return new TimeoutError(run.timeoutMs, message || undefined);
    case 'cancelled':
    case 'interrupted':
      return new JobCancelledError({ ...about, reason: message || undefined });
    case 'removed':
      return new JobRemovedError(about);
    case 'closing':
    case 'failing':
      return new EngineClosedError(message || 'The worker is closing');
  }
}

export class Runner implements ClaimSink, RunOfJob {
  /** May be exchanged, or changed, at any time. */
  hooks: RunnerHooks;
  readonly #connection: Connection;
  readonly #handler: Handler | BatchHandler;
  readonly #settings: RunnerSettings;
  #source: ClaimSource | undefined;
  #concurrency: number;
  #credit = 0;
  #isPaused = false;
  #isEnded = false;
  /** Changes of the concurrency in progress: until they end, ended runs are not replaced. */
  #revoking = 0;
  readonly #runs: Run[] = [];
  /** Calls of the handler that have not ended: runs, or batches. */
  #calls = 0;
  #whenIdle: (() => void)[] = [];

  constructor({ connection, handler, concurrency, settings = {}, hooks = {} }: RunnerOptions) {
    this.#connection = connection;
    this.#handler = handler;
    this.#concurrency = concurrency;
    this.#settings = settings;
    this.hooks = hooks;
  }

  /** Runs whose handlers have not ended, those included that were given back. */
  get running(): number {
    return this.#runs.length;
  }

  get concurrency(): number {
    return this.#concurrency;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Begins to claim from `source`, whose sink this runner is. */
  start(source: ClaimSource): void {
    this.#source = source;
    this.#topUp();
  }

  /** How many runs at a time from now on. Fewer than are running: none is stopped, but none is started until enough have ended. */
  async setConcurrency(count: number): Promise<void> {
    const isLess = count < this.#concurrency;
    this.#concurrency = count;
    if (isLess) await this.#takeBack();
    else this.#topUp();
  }

  /** Starts no more runs. Resolves when no claim is in progress; `idle()` when the runs have ended too. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#takeBack();
  }

  resume(): void {
    this.#isPaused = false;
    this.#topUp();
  }

  /** Resolves when no handler runs. */
  idle(): Promise<void> {
    if (this.#runs.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  /** Aborts what runs, and gives it back so that others may run it at once; no attempt is counted. */
  releaseAll(message: string): void {
    for (const run of [...this.#runs]) {
      const isOpen = !run.isSettled;
      run.isSettled = true;
      if (isOpen) this.#tell(run, { kind: 'released' });
      run.abort('closing', errorOfAbort(run, 'closing', message));
    }
  }

  /** Aborts what runs, and leaves it to the handlers to end: what rejects is given back, or fails. */
  abortAll(reason: 'closing' | 'failing', message: string): void {
    for (const run of [...this.#runs]) run.abort(reason, errorOfAbort(run, reason, message));
  }

  /** Aborts what runs, and fails it: an attempt is counted. */
  failAll(message: string): void {
    for (const run of [...this.#runs]) {
      const error = errorOfAbort(run, 'closing', message);
      const isOpen = !run.isSettled;
      run.isSettled = true;
      if (isOpen) this.#tell(run, { kind: 'failed', error: toErrorRecord(error), unrecoverable: false });
      run.abort('closing', error);
    }
  }

  /** Stops for good and lets go of the source. */
  async close(): Promise<void> {
    if (this.#isEnded) return;
    await this.pause();
    this.#isEnded = true;
    await this.#source?.close();
  }

  // ---- what the source says -------------------------------------------------------------------------------------------------

  deliver(claimed: ClaimedJob): void {
    this.#credit--;
    const job = jobOfClaim(this.#connection, claimed);
    Job.joinRun(job, this);
    const run = new Run(claimed, job, this.#runs.length);
    this.#runs.push(run);
    this.#calls++;
    if (this.hooks.active !== undefined) this.hooks.active(job);
    let result: unknown;
    try {
      result = (this.#handler as Handler)(job, run);
    } catch (error) {
      this.#failed(run, error);
      return;
    }
    if (!isThenable(result)) {
      this.#completed(run, result);
      return;
    }
    result.then(
      (value) => this.#completed(run, value),
      (error: unknown) => this.#failed(run, error),
    );
  }

  deliverBatch(claimed: readonly ClaimedJob[]): void {
    this.#credit--;
    const runs: Run[] = [];
    for (const one of claimed) {
      const job = jobOfClaim(this.#connection, one);
      const run = new Run(one, job, this.#runs.length);
      Job.inBatch(job, run);
      Job.joinRun(job, this);
      this.#runs.push(run);
      runs.push(run);
    }
    const batch = new Batch(runs);
    for (const run of runs) run.batch = batch;
    this.#calls++;
    for (const { job } of runs) this.hooks.active?.(job);
    void this.#runBatch(batch);
  }

  /** Every run of it ends by itself: with its result, or as a failure of its own. */
  async #runBatch(batch: Batch): Promise<void> {
    const jobs = batch.runs.map(({ job }) => job);
    let results: readonly unknown[] | undefined;
    let thrown: unknown;
    try {
      const answer: unknown = await (this.#handler as BatchHandler)(jobs, batch);
      if (Array.isArray(answer) && answer.length === jobs.length) results = answer;
      else thrown = new UnrecoverableError(wrongAnswer(answer, jobs.length));
    } catch (error) {
      thrown = error;
    }
    for (let i = 0; i < batch.runs.length; i++) {
      const run = batch.runs[i] as Run;
      const { failure } = run;
      if (failure !== undefined) this.#failed(run, failure.error, false);
      else if (results === undefined) this.#failed(run, thrown, false);
      else this.#completed(run, results[i], false);
    }
    this.#callEnded();
  }

  abort(ticket: number, reason: AbortReason, message: string): void {
    const run = this.#runs.find((one) => one.ticket === ticket && !one.isSettled);
    if (run === undefined) return;
    const error = errorOfAbort(run, reason, message);
    if (reason === 'interrupted') run.interrupt(error);
    else run.abort(reason, error);
  }

  late(job: JobSnapshot): void {
    this.hooks.late?.(jobOfSnapshot(this.#connection, job));
  }

  progress(job: Job, progress: unknown): void {
    this.hooks.progress?.(job, progress);
  }

  drained(): void {
    this.hooks.drained?.();
  }

  failed(error: Error): void {
    this.#isEnded = true;
    this.#credit = 0;
    this.#report(error);
  }

  // ---- the end of a run -----------------------------------------------------------------------------------------------------

  /** A completion counts even after an abort: the work is done. */
  #completed(run: Run, result: unknown, isCall = true): void {
    if (run.index === -1) return; // a thenable that calls back twice
    const emitted = Job.emitted(run.job);
    if (emitted !== undefined) {
      void emitted.then(() => this.#completed(run, result, isCall)); // its end comes behind what it has emitted
      return;
    }
    if (run.isSettled) this.hooks.late?.(run.job);
    else {
      run.isSettled = true;
      if (!this.#tell(run, { kind: 'completed', result })) this.hooks.late?.(run.job);
      else if (this.hooks.completed !== undefined) {
        Job.ended(run.job, { returnvalue: result, finishedOn: this.#connection.now() });
        this.#onceDurable(() => this.hooks.completed?.(run.job, result));
      }
    }
    this.#ended(run, isCall);
  }

  #failed(run: Run, thrown: unknown, isCall = true): void {
    if (run.index === -1) return;
    const emitted = Job.emitted(run.job);
    if (emitted !== undefined) {
      void emitted.then(() => this.#failed(run, thrown, isCall));
      return;
    }
    if (run.isSettled) {
      this.hooks.late?.(run.job);
      this.#ended(run, isCall);
      return;
    }
    let outcome: Outcome | Promise<Outcome>;
    try {
      outcome = outcomeOfFailure(thrown, run, this.#settings, (error) => this.#report(error));
    } catch (error) {
      this.#report(error as Error);
      outcome = { kind: 'failed', error: toErrorRecord(thrown), unrecoverable: false };
    }
    if (outcome instanceof Promise) outcome.then((decided) => this.#settleFailure(run, decided, thrown, isCall));
    else this.#settleFailure(run, outcome, thrown, isCall);
  }

  #settleFailure(run: Run, outcome: Outcome, thrown: unknown, isCall: boolean): void {
    if (!run.isSettled) {
      run.isSettled = true;
      if (!this.#tell(run, outcome)) this.hooks.late?.(run.job);
      else if (outcome.kind === 'failed' && this.hooks.failed !== undefined) {
        const { message } = outcome.error;
        const { job } = run;
        Job.ended(job, {
          failedReason: message,
          attemptsMade: job.attemptsMade + 1,
          finishedOn: this.#connection.now(),
        });
        const cause = outcome.timedOut === true ? run.abortError : thrown;
        this.#onceDurable(() =>
          this.hooks.failed?.(job, cause instanceof Error ? cause : fromErrorRecord(outcome.error)),
        );
      }
    }
    this.#ended(run, isCall);
  }

  /** Nobody hears of an end that a crash could undo. */
  #onceDurable(tell: () => void): void {
    const durable = this.#connection.durable();
    if (durable === undefined) tell();
    else durable.then(tell, () => {}); // the engine says by itself that its log has failed
  }

  /** False when it is known to be late: the job is no longer this run's. */
  #tell(run: Run, outcome: Outcome): boolean {
    try {
      return this.#source?.settle(run.ticket, outcome) !== false;
    } catch (error) {
      this.#report(error as Error);
      return true;
    }
  }

  #ended(run: Run, isCall: boolean): void {
    const last = this.#runs.pop() as Run;
    if (last !== run) {
      this.#runs[run.index] = last;
      last.index = run.index;
    }
    run.index = -1;
    if (this.#runs.length === 0 && this.#whenIdle.length > 0) {
      const waiters = this.#whenIdle;
      this.#whenIdle = [];
      for (const wake of waiters) wake();
    }
    if (isCall) this.#callEnded();
  }

  #callEnded(): void {
    this.#calls--;
    this.#topUp();
  }

  // ---- credit ---------------------------------------------------------------------------------------------------------------

  #topUp(): void {
    if (this.#source === undefined || this.#isPaused || this.#isEnded || this.#revoking > 0) return;
    const count = this.#concurrency - this.#calls - this.#credit;
    if (count <= 0) return;
    this.#credit += count;
    try {
      this.#source.grant(count);
    } catch (error) {
      this.#credit -= count;
      this.#report(error as Error);
    }
  }

  async #takeBack(): Promise<void> {
    if (this.#source === undefined || this.#isEnded) return;
    this.#revoking++;
    try {
      this.#credit -= await this.#source.revoke();
    } finally {
      this.#revoking--;
    }
    this.#topUp();
  }

  #report(error: Error): void {
    if (this.hooks.error !== undefined) this.hooks.error(error);
    else reportWarning('A worker met an error', 'FLASHQ_WORKER_ERROR', error);
  }
}

function wrongAnswer(answer: unknown, count: number): string {
  const got = Array.isArray(answer) ? `an array of ${answer.length}` : String(answer);
  return `The handler of a batch of ${count} jobs must return an array of ${count} results, in order, but returned ${got}`;
}

export interface CloseHow {
  readonly timeoutMs: number;
  readonly onTimeout: 'requeue' | 'wait' | 'fail';
}

const WHY_CLOSED = 'The worker has been closed';
/** The longest that a timer can wait; longer times are waited for without one. */
const TIMER_MAX_MS = 0x7fffffff;

/**
 * Stops claiming, lets runs end, and does what `how` says with those that take too long. Function handlers can't be stopped: their
 * jobs are taken from them. `abort`: they are only told to stop, and whoever has the thread ends it if they don't.
 */
export async function closeRunner(
  runner: Runner,
  { timeoutMs, onTimeout }: CloseHow,
  late: 'take' | 'abort',
): Promise<void> {
  await runner.pause();
  if (runner.running > 0) {
    const idle = runner.idle();
    if (onTimeout === 'wait') await idle;
    else if (!(await endsWithin(idle, timeoutMs))) {
      if (late === 'abort') runner.abortAll(onTimeout === 'fail' ? 'failing' : 'closing', WHY_CLOSED);
      else if (onTimeout === 'requeue') runner.releaseAll(WHY_CLOSED);
      else runner.failAll(WHY_CLOSED);
      if (late === 'abort') await idle;
    }
  }
  await runner.close();
}

/** True when `done` ended first. Leaves no timer behind. */
async function endsWithin(done: Promise<void>, timeoutMs: number): Promise<boolean> {
  if (timeoutMs > TIMER_MAX_MS) return done.then(() => true);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, false);
  });
  try {
    return await Promise.race([done.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
