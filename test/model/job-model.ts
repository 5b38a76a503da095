/** What the model knows of one job: what was asked for, what became of it, and who waits for it. */
import type { AddOptions, JobState } from 'flashq';

export type Policy = NonNullable<AddOptions['onDependencyFailure']>;
export type Reason =
  | 'attempts_exhausted'
  | 'unrecoverable'
  | 'timeout'
  | 'worker_lost'
  | 'expired'
  | 'dependency_failed'
  | 'moved';

/** The options that the model knows; times are whole milliseconds. */
export interface ModelOptions {
  readonly priority?: number;
  readonly lifo?: boolean;
  readonly delay?: number;
  readonly ttl?: number;
  readonly attempts?: number;
  readonly backoff?: { readonly type: 'fixed' | 'exponential'; readonly delay: number; readonly maxDelay?: number };
  readonly timeout?: number;
  readonly jobId?: string;
  readonly onDuplicate?: 'return' | 'replace' | 'error' | 'rerun';
  readonly onDependencyFailure?: Policy;
  readonly removeOnComplete?: boolean | { readonly age?: number; readonly count?: number };
  readonly removeOnFail?: boolean | { readonly age?: number; readonly count?: number };
  readonly idempotencyTtl?: number;
  readonly maxDeliveries?: number;
}

/** One item of an add. `needs`: ids, as `dependsOn` has them. */
export interface ModelItem {
  readonly data: number;
  readonly opts: ModelOptions;
  readonly needs: readonly string[];
}

export type ModelAnswer =
  | { readonly job: ModelJob; readonly deduplicated: boolean }
  /** The name of the error. */
  | { readonly error: string };

/** How a run ends. `again`: not an attempt, it asks for more time. */
export type ModelOutcome =
  | { readonly kind: 'complete'; readonly value: number }
  | { readonly kind: 'error'; readonly message: string; readonly retryAfterMs?: number }
  | { readonly kind: 'unrecoverable'; readonly message: string }
  | { readonly kind: 'again'; readonly by: 'RateLimitError' | 'DelayedError'; readonly delayMs: number };

/** What a call is refused with: the name of the error. */
export class Refused extends Error {}

/** Two things are due at one moment, and nothing says which comes first: this history is not compared any further. */
export class Ambiguous extends Error {}

/** What is told of a message the model doesn't know the words of. */
export const SOME_MESSAGE = Symbol('some message');

export const NEVER = Number.POSITIVE_INFINITY;

const HOUR_MS = 3_600_000;
const KEEP_COMPLETED = { age: HOUR_MS, count: 10_000 };
const KEEP_FAILED = { age: 30 * 24 * HOUR_MS, count: 100_000 };
const REMEMBER_MS = 24 * HOUR_MS;

export class ModelJob {
  /** Of a job without `jobId`: as the engine gave it, when it has answered. */
  id: string;
  data: number;
  opts: ModelOptions;
  state: JobState = 'blocked';
  /** The record is there; only its outcome; only its id; nothing. */
  kept: 'record' | 'outcome' | 'id' | 'nothing' = 'record';
  priority = 0;
  due = NEVER;
  /** When it fails unless it has started. */
  expiry = NEVER;
  attemptsMade = 0;
  attemptsStarted = 0;
  /** Runs that ended with their engine. */
  lost = 0;
  failedReason: string | typeof SOME_MESSAGE | undefined;
  dlqReason: Reason | undefined;
  value: number | undefined;
  finishedOn: number | undefined;
  /** All it depends on, in order, and those it still waits for. */
  needs: ModelJob[] = [];
  readonly open = new Set<ModelJob>();
  /** Who depends on it, in the order in which they began to. */
  dependents: ModelJob[] = [];
  /** When it came into its state, as a number that grows with everything that happens. */
  since = 0;

  constructor({ data, opts }: ModelItem) {
    this.id = opts.jobId ?? '';
    this.data = data;
    this.opts = opts;
  }

  get isOver(): boolean {
    return this.state === 'completed' || this.state === 'failed' || this.state === 'cancelled';
  }

  get policy(): Policy {
    return this.opts.onDependencyFailure ?? 'fail';
  }

  get isVisible(): boolean {
    return this.kept === 'record';
  }

  get retention(): true | { age?: number; count?: number } {
    const isFailed = this.state === 'failed';
    const standard = isFailed ? KEEP_FAILED : KEEP_COMPLETED;
    const policy = isFailed ? this.opts.removeOnFail : this.opts.removeOnComplete;
    if (policy === undefined) return standard;
    if (policy === false) return isFailed ? standard : {};
    return policy;
  }

  /** When its `jobId` is forgotten, once it has ended. */
  get forgetAt(): number {
    return (this.finishedOn as number) + (this.opts.idempotencyTtl ?? REMEMBER_MS);
  }

  /** What those that wait for it get, once it has ended. */
  get told(): Told {
    if (this.state === 'completed') return { value: this.value as number };
    if (this.state === 'failed') return { error: 'JobFailedError', message: this.failedReason };
    return { error: 'JobCancelledError' };
  }

  /** It has failed, and runs again together with `others`. */
  beginAnew(now: number, others: ReadonlySet<ModelJob>): void {
    this.attemptsMade = 0;
    this.lost = 0;
    this.finishedOn = undefined;
    this.expiry = this.opts.ttl === undefined ? NEVER : now + this.opts.ttl;
    for (const needed of this.needs) {
      if (needed.isOver && !others.has(needed)) continue;
      this.open.add(needed);
      needed.dependents = [...needed.dependents.filter((other) => other !== this), this];
    }
  }

  /** A failed dependency that may be retried. */
  mayWaitFor(needed: ModelJob): boolean {
    return this.policy === 'wait' && needed.state === 'failed' && needed.isVisible;
  }
}

/** Without which of what it needs it can't run, as things are. */
function lacks({ policy, needs }: ModelJob): ModelJob[] {
  if (policy === 'run' || policy === 'run-now') return [];
  return needs.filter((one) => one.isOver && one.state !== 'completed');
}

/** Which of these failed jobs run again, each behind what it needs of them. */
export function retried(failed: readonly ModelJob[], withDependencies: boolean): ModelJob[] {
  const chosen = new Set(failed);
  if (withDependencies)
    for (const job of chosen)
      for (const one of lacks(job)) if (one.state === 'failed' && one.isVisible) chosen.add(one);
  for (let again = true; again; ) {
    again = false;
    for (const job of chosen) if (!lacks(job).every((one) => chosen.has(one))) again = chosen.delete(job);
  }
  const order = new Set<ModelJob>();
  const place = (job: ModelJob): void => {
    for (const one of job.needs) if (chosen.has(one) && !order.has(one)) place(one);
    order.add(job);
  };
  for (const job of chosen) place(job);
  return [...order].filter((job) => chosen.has(job));
}

/** What somebody who waits for one job gets. */
export type Told = { value: number } | { error: string; message?: string | typeof SOME_MESSAGE | undefined };

export class ModelWait {
  readonly told: (Told | undefined)[];
  readonly jobs: readonly (ModelJob | undefined)[];
  /** undefined: one that never settles by time. */
  readonly deadline: number;
  /** For all at once, when it is over: what came first. */
  over: 'all' | 'timeout' | Told | undefined;
  readonly settled: boolean;

  constructor(jobs: readonly (ModelJob | undefined)[], deadline: number, settled: boolean) {
    this.jobs = jobs;
    this.told = jobs.map(() => undefined);
    this.deadline = deadline;
    this.settled = settled;
  }

  tell(index: number, told: Told): void {
    if (this.over !== undefined || this.told[index] !== undefined) return;
    this.told[index] = told;
    if (!this.settled && 'error' in told) this.over = told;
    else if (this.told.every((one) => one !== undefined)) this.over = 'all';
  }
}
