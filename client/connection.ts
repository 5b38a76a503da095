/**
 * The one border between what applications hold (`Queue`, `Worker`, `Job`, `QueueEvents`) and whatever answers them. The
 * engine implements it in process; a thread that attached to an engine implements it over shared memory and a port. Nothing
 * above this border knows which one it talks to, so there is one set of semantics.
 *
 * Everything is batch-first. Values (`data`, results) cross as JS values; the implementation encodes them.
 */
import type { CheckedFilter } from './job-filter.js';
import type { JobOptions, RetentionPolicy } from './options.js';

/** `queue` is set for references given as a `Job` or `{queue, id}`; a bare string is resolved against `queue` of the call. */
export interface JobRef {
  readonly id: string;
  readonly queue?: string;
  /** Of a generated id: the number in it, where it is known already. */
  readonly number?: number;
  /** Where the engine had the job when it was admitted: a hint, which may be wrong. */
  readonly place?: number;
}

export type JobState = 'waiting' | 'delayed' | 'blocked' | 'active' | 'completed' | 'failed' | 'cancelled';
/** `unknown`: no record under that id. */
export type JobStateOrUnknown = JobState | 'unknown';

export type DlqReason =
  | 'attempts_exhausted'
  | 'unrecoverable'
  | 'timeout'
  | 'worker_lost'
  | 'expired'
  | 'dependency_failed'
  | 'result_unserialisable'
  | 'moved';

/** One job to admit. `opts` has been validated by the caller (`validateJobOptions`), references in it are normalised. */
export interface AddItem {
  readonly name: string;
  readonly data: unknown;
  readonly opts: JobOptions | undefined;
}

/** One node of a graph. */
export interface GraphItem extends AddItem {
  readonly queue: string;
  /** What errors call it. */
  readonly key: string;
  /** The places of the nodes that it depends on, beside its `opts.dependsOn`. */
  readonly needs: readonly number[];
}

/** What the admission of one item answers. Exactly one of `error` and `id` is meaningful. */
export interface AddAnswer {
  readonly id: string;
  /** The state right after admission (or the existing job's state when `deduplicated`). */
  readonly deduplicated: boolean;
  /** Milliseconds since the epoch at which the job was admitted. */
  readonly timestamp: number;
  /** Set when the item was refused (only with `atomic: false`; an atomic call rejects with `BulkError`). */
  readonly error?: Error;
  /** The record of the job that was already there, when `deduplicated`. */
  readonly existing?: JobSnapshot;
}

/**
 * What the admission answers when every job is new and has a generated id: the ids are `j<first>`, `j<first + 1>` and so on, in the
 * order of the items.
 */
export interface NewJobs {
  readonly first: number;
  readonly count: number;
  readonly timestamp: number;
  /** A `JobRef.place` for each. */
  readonly places: readonly number[] | undefined;
}

export type AddAnswers = readonly AddAnswer[] | NewJobs;

export function areNew(answers: AddAnswers): answers is NewJobs {
  return 'first' in answers;
}

/** Everything that can be known about a job at one moment. */
export interface JobSnapshot {
  id: string;
  queue: string;
  name: string;
  data: unknown;
  opts: JobOptions;
  state: JobState;
  progress: unknown;
  returnvalue: unknown;
  failedReason: string | undefined;
  stacktrace: string[];
  attemptsMade: number;
  attemptsStarted: number;
  priority: number;
  delay: number;
  timestamp: number;
  processedOn: number | undefined;
  finishedOn: number | undefined;
  deduplicated?: boolean;
  /** Why `interrupt` was called. */
  interruption?: string;
  dlq?: { reason: DlqReason; enteredAt: number; attempts: { at: number; error: string }[] };
  cron?: CronTick | undefined;
}

/** The tick of a cron that made a job. */
export interface CronTick {
  /** Milliseconds since the epoch: when the tick was due. */
  readonly scheduledFor: number;
  /** Made up for: the tick had passed while the engine was down, or could not fire. */
  readonly backfilled: boolean;
}

/** Which jobs of a queue, page by page. */
export interface JobQuery {
  readonly states: readonly JobState[];
  readonly limit: number;
  readonly cursor: string | undefined;
  readonly filter: CheckedFilter | undefined;
}

/** May hold fewer jobs than asked for, or none, although there are more: `cursor` says that there may be. */
export interface JobPage {
  readonly jobs: JobSnapshot[];
  readonly cursor?: string;
}

/** What a reader of a job's stream gets: chunks of one run. */
export interface StreamBatch {
  /** The run that emitted them; at the end, the run in which the job ended. */
  readonly attempt: number;
  readonly chunks: readonly unknown[];
  /** Nothing comes any more; then there are no chunks. */
  readonly hasEnded: boolean;
}

/** Places in the order of a state, both ends included. */
export interface JobRange {
  readonly start: number;
  readonly end: number;
  readonly newestFirst: boolean;
}

export type JobCounts = Record<JobState, number> & { paused: number };

/** An error that crosses a thread or a wire: every field a string or number, so that any thrown value fits. */
export interface ErrorRecord {
  name: string;
  message: string;
  stack: string;
  code?: string;
}

/** A claimed run, as handed to the runner. `ticket` is opaque: it names this run (slot and generation), not just this job. */
export interface ClaimedJob {
  readonly ticket: number;
  /** Milliseconds; 0 means none. Counted from the start of this run. */
  readonly timeoutMs: number;
  readonly queue: string;
  /** A generated id's number, or a custom id. */
  readonly id: number | string;
  readonly name: string;
  readonly data: unknown;
  readonly opts: JobOptions;
  readonly timestamp: number;
  readonly attemptsMade: number;
  /** This run included. */
  readonly attemptsStarted: number;
  readonly priority: number;
  readonly processedOn: number;
  readonly cron?: CronTick | undefined;
}

/** How a run ended. */
export type Outcome =
  | { kind: 'completed'; result: unknown }
  /**
   * A failed attempt. `retryDelay`: what a named backoff strategy, `retryAfterMs` or `settings.retryAfter` decided, in ms;
   * -1 fails the job now; undefined leaves it to the job's own backoff. `unrecoverable` fails at once.
   */
  | {
      kind: 'failed';
      error: ErrorRecord;
      unrecoverable: boolean;
      retryDelay?: number;
      timedOut?: boolean;
      /** Whether a circuit breaker counts it; undefined: unless it is unrecoverable. */
      counts?: boolean;
      cause?: unknown;
    }
  /** Not an attempt: waits `delayMs`, then becomes ready at the tail of its priority (`RateLimitError`, `DelayedError`). */
  | { kind: 'delayed'; delayMs: number }
  /** Not an attempt: back to the head of its priority at once (a closing worker). `unused`: it has not even begun. */
  | { kind: 'released'; unused?: boolean }
  /** Not an attempt: waits for the jobs that `waitFor` was told of during this run, then becomes ready at the tail of its priority. */
  | { kind: 'waiting' }
  /** The run was cancelled and the handler has ended by rejecting. */
  | { kind: 'cancelled'; error: ErrorRecord };

/** `closing`: the run is given back; `failing`: it counts as a failed attempt; `interrupted`: it is told, and goes on. */
export type AbortReason = 'cancelled' | 'timeout' | 'closing' | 'failing' | 'removed' | 'interrupted';

/** What a `ClaimSource` tells its runner. */
export interface ClaimSink {
  /** A job claimed against granted credit. Never more than the credit outstanding. */
  deliver(job: ClaimedJob): void;
  /** A batch claimed against one credit, of a source that was opened with `batch`. Not empty. */
  deliverBatch(jobs: readonly ClaimedJob[]): void;
  /** The run should stop: abort its `signal`. The runner still settles it. */
  abort(ticket: number, reason: AbortReason, message: string): void;
  /** The outcome of a run came when its job was no longer the run's. Told where `settle` can't say so. */
  late?(job: JobSnapshot): void;
  /** Nothing left that this source could claim now, after having delivered something. */
  drained(): void;
  /** The source broke (engine closed, connection lost for good). */
  failed(error: Error): void;
}

/** The stream of claimed jobs of one worker on one thread. */
export interface ClaimSource {
  /** That many more jobs, or batches, may be delivered. Credit adds up; each delivery uses one. */
  grant(count: number): void;
  /** Takes back credit not used yet; resolves (with how much was taken back) when no claim is in progress any more. */
  revoke(): Promise<number>;
  /** Settles a run. Late settles are ignored (and reported as the event `late`). False when it was late, if that is known at once. */
  settle(ticket: number, outcome: Outcome): boolean | undefined;
  close(): Promise<void>;
}

/** What a Worker asks of a circuit breaker, every member set but `key` (the queue's name) and `errorRate` (not judged by that). */
export interface BreakerSettings {
  readonly key?: string;
  readonly threshold: number;
  readonly errorRate?: number;
  readonly window: number;
  readonly minimum: number;
  readonly timeout: number;
  readonly timeoutMax: number;
  readonly halfOpenMax: number;
  readonly successThreshold: number;
}

export type BreakerAction = 'open' | 'close' | 'reset';

/** A circuit breaker at one moment. */
export interface BreakerStatus {
  readonly key: string;
  readonly state: 'closed' | 'open' | 'half-open';
  /** One after the other, since the last success. */
  readonly failures: number;
  /** Milliseconds until it lets a probe through; 0 when it isn't open. */
  readonly retryAfterMs: number;
}

/** How a Worker takes many jobs at once. Every member is set. */
export interface BatchSettings {
  readonly size: number;
  readonly minSize: number;
  /** Milliseconds after which fewer than `minSize` will do. */
  readonly maxWait: number;
  readonly groupAffinity: boolean;
}

export interface ClaimOptions {
  /** The name under which events show this worker. */
  readonly workerId: string;
  readonly abortGraceMs: number;
  readonly concurrency: number;
  readonly breaker?: BreakerSettings | undefined;
  readonly batch?: BatchSettings | undefined;
}

/** A Worker whose handler is a file: the implementation runs it on its own threads. */
export interface ThreadWorkerSpec {
  readonly queue: string;
  readonly file: string; // absolute path or file: URL, checked to exist
  readonly concurrency: number; // in all, dealt over the threads
  readonly threads: number;
  readonly abortGraceMs: number;
  readonly recycle: { readonly jobs?: number; readonly heapMb?: number };
  readonly breaker?: BreakerSettings | undefined;
  readonly batch?: BatchSettings | undefined;
  readonly events: ThreadWorkerEvents;
}

export interface ThreadWorkerEvents {
  active(job: JobSnapshot): void;
  completed(job: JobSnapshot, result: unknown): void;
  failed(job: JobSnapshot, error: Error): void;
  progress(job: JobSnapshot, progress: unknown): void;
  stalled(job: JobSnapshot): void;
  late(job: JobSnapshot): void;
  drained(): void;
  error(error: Error): void;
  /** A thread has loaded the handler file. */
  loaded(): void;
  /** Whether anybody listens: what nobody hears is not made. */
  isHeard(event: 'active' | 'completed' | 'failed' | 'progress' | 'stalled' | 'late' | 'drained'): boolean;
}

export interface ClosableWorker {
  close(opts?: { timeout?: number; onTimeout?: 'requeue' | 'wait' | 'fail' }): Promise<void>;
}

export interface ThreadWorkerLink {
  /**
   * Resolves when every thread has loaded the handler file or has failed to, or the threads are being closed. Rejects with what loading
   * failed with when none has loaded it; they try again all the same.
   */
  ready(): Promise<void>;
  /** Resolves when no thread claims any more, and unless `doNotWaitActive` none runs a job. */
  pause(doNotWaitActive: boolean): Promise<void>;
  resume(): void;
  setConcurrency(count: number): void;
  /** What `isHeard` answers may have changed. */
  listenersChanged(): void;
  /** Resolves when every thread has ended. `requeue`: what runs after `timeoutMs` is given back without costing an attempt. */
  close(opts: { timeoutMs: number; onTimeout: 'requeue' | 'wait' | 'fail' }): Promise<void>;
}

export interface QueueEvent {
  /** `<epoch>-<n>`; n grows by one for each event of the engine. */
  readonly id: string;
  readonly queue: string;
  readonly event: string;
  readonly jobId?: string;
  /** Everything else the event says: `returnvalue`, `failedReason`, `delay`, `prev`, `data` ... */
  readonly args: Readonly<Record<string, unknown>>;
}

export interface EventSubscription {
  close(): void;
}

export interface RemovalOptions {
  readonly force?: boolean;
}

export type SettledResult<R = unknown> = { status: 'fulfilled'; value: R } | { status: 'rejected'; reason: Error };

export interface DependencyRecord {
  queue: string;
  id: string;
  state: JobStateOrUnknown;
  result?: unknown;
  failedReason?: string;
}

export interface Explanation {
  state: JobStateOrUnknown;
  /** One sentence a person understands: what the job waits for. */
  reason: string;
  waitsFor: DependencyRecord[];
}

/** For each group by itself. */
export interface GroupsConfig {
  /** How many jobs of one group may run at a time. */
  concurrency?: number;
  /** How many jobs of one group may start in any `duration` ms. */
  rateLimit?: { max: number; duration: number };
}

/** Jobs of the dead letter queue. */
export type FailedSelection = readonly JobRef[] | CheckedFilter | 'all';

/** What is kept of a queue's failed jobs, and how they come back. */
export interface DlqConfig {
  /** Milliseconds after which a failed job is evicted. Default 30 days. */
  readonly age?: number;
  /** Failed jobs beyond which the oldest are evicted. Default 100,000. */
  readonly count?: number;
  /** As soon as so many failed jobs are there, the event `dlq:threshold` tells. Default: never. */
  readonly threshold?: number;
  /** Jobs a second that `retryDlq` lets go: the others wait as delayed ones for their turn. Default: all at once. */
  readonly redriveRate?: number;
}

/** The settings of a queue; `null` takes one away. */
export interface QueueConfig {
  rateLimit?: { max: number; duration: number } | null;
  concurrency?: number | null;
  /** One setting as a whole: what isn't named in it has its default. */
  dlq?: DlqConfig | null;
  /** Milliseconds that a finished job's own id is remembered, for jobs that don't say. Default 24 h; 0: not at all. */
  idempotencyTtl?: number | null;
  /** Ids that this queue remembers at most; the oldest go. Default: only the engine's `idempotencyMax` holds. */
  idempotencyMax?: number | null;
  /** Lost runs after which a job is given up, for jobs that don't say. Default 5. */
  maxDeliveries?: number | null;
  groups?: GroupsConfig | null;
  /** Each `every` ms of waiting add `step` (1) to the priority by which a job is claimed, `max` at most. */
  aging?: { every: number; step?: number; max: number } | null;
}

/** What a cron does, validated and normalised (`normaliseCron`). Times are milliseconds since the epoch. */
export interface CronSpec {
  readonly name: string;
  readonly queue: string;
  /** Either this, in the time zone `tz`, or `every`. */
  readonly schedule?: string;
  readonly tz?: string;
  readonly every?: number;
  readonly jobName: string;
  readonly data: unknown;
  readonly opts?: JobOptions;
  readonly startDate?: number;
  readonly endDate?: number;
  readonly limit?: number;
  readonly missed: 'skip' | 'once' | 'all';
  readonly missedMax: number;
  readonly overlap: 'skip' | 'buffer' | 'cancel' | 'allow';
  readonly immediately: boolean;
}

/** A cron as it stands. */
export interface CronInfo extends CronSpec {
  readonly paused: boolean;
  /** Milliseconds since the epoch; undefined when no tick will come: it is paused, or over. */
  readonly next: number | undefined;
  /** The tick for which it made a job last. */
  readonly last: number | undefined;
  /** Jobs that its ticks have made. */
  readonly runs: number;
}

/**
 * Methods take the queue's name first. Every one rejects with `EngineClosedError` after `close()`. Nothing here throws
 * synchronously.
 */
export interface Connection {
  readonly description: string;
  /** True in a thread other than the engine's. */
  readonly attached: boolean;

  add(queue: string, items: readonly AddItem[], opts: { atomic: boolean }): Promise<AddAnswers>;
  /** Adds jobs of several queues that depend on each other, in one step: all, or it rejects with `BulkError`. */
  addGraph(items: readonly GraphItem[]): Promise<readonly AddAnswer[]>;
  /** Adds one and waits for its end, subscribed in the same step; a deduplicated job is waited for. */
  addAndWait(queue: string, item: AddItem, opts: { timeout?: number | undefined }): Promise<unknown>;
  finished(
    queue: string,
    refs: readonly JobRef[],
    opts: { timeout?: number | undefined; settled: true },
  ): Promise<SettledResult[]>;
  finished(
    queue: string,
    refs: readonly JobRef[],
    opts: { timeout?: number | undefined; settled?: false },
  ): Promise<unknown[]>;

  getJobs(queue: string, refs: readonly JobRef[]): Promise<(JobSnapshot | undefined)[]>;
  listJobs(queue: string, query: JobQuery): Promise<JobPage>;
  listState(queue: string, state: JobState, range: JobRange): Promise<JobSnapshot[]>;
  clean(queue: string, graceMs: number, limit: number, state: JobState): Promise<string[]>;
  getState(queue: string, ref: JobRef): Promise<JobStateOrUnknown>;
  getCounts(queue: string): Promise<JobCounts>;
  getDependencies(queue: string, ref: JobRef): Promise<DependencyRecord[]>;
  explain(queue: string, ref: JobRef): Promise<Explanation>;
  /**
   * Makes an active job depend on `refs` too. True when all of them have settled; false when some have not: its run is to end with the
   * outcome `waiting`, else these are waited for no more. Rejects with UnknownDependencyError; with ValidationError for a job that is not
   * active, and for a cycle.
   */
  waitFor(queue: string, ref: JobRef, refs: readonly JobRef[]): Promise<boolean>;
  getLogs(queue: string, ref: JobRef): Promise<string[]>;

  /** Resolves when there is room for more. `attempt`: the number of the run, among the runs of the job. */
  emit(queue: string, ref: JobRef, attempt: number, chunk: unknown): Promise<void>;
  /** A reader's number; 0: the job has ended, and nothing of its stream is kept. */
  openStream(queue: string, ref: JobRef): Promise<number>;
  readStream(queue: string, reader: number): Promise<StreamBatch>;
  closeStream(queue: string, reader: number): Promise<void>;

  cancel(queue: string, ref: JobRef, reason: string | undefined): Promise<'cancelled' | 'aborting' | 'finished'>;
  /**
   * For jobs that the library itself runs. Keeps `reason` with the job (`JobSnapshot.interruption`); a run of it is told (`interrupted`) and
   * not stopped; one that is delayed, or waits for others in the midst of its life, runs again at once. False when it has completed or was
   * cancelled.
   */
  interrupt(queue: string, ref: JobRef, reason: string): Promise<boolean>;
  remove(queue: string, ref: JobRef): Promise<boolean>;
  promote(queue: string, ref: JobRef): Promise<void>;
  changePriority(queue: string, ref: JobRef, opts: { priority: number; lifo?: boolean }): Promise<void>;
  changeDelay(queue: string, ref: JobRef, delayMs: number): Promise<void>;
  updateData(queue: string, ref: JobRef, data: unknown): Promise<void>;
  updateProgress(queue: string, ref: JobRef, progress: unknown): Promise<void>;
  log(queue: string, ref: JobRef, line: string): Promise<number>;
  /** Retries jobs of the dead letter queue; undefined = all. Returns how many. */
  retryFailed(queue: string, which: FailedSelection, opts: { withDependencies: boolean }): Promise<number>;
  purgeFailed(queue: string, which: FailedSelection): Promise<number>;
  /** The id of the job that holds the key; undefined: nobody. */
  getKeyHolder(queue: string, id: string): Promise<string | undefined>;
  releaseKey(queue: string, id: string): Promise<boolean>;
  /** Puts a job that does not run into the dead letter queue, reason `moved`. */
  moveToDlq(queue: string, ref: JobRef, reason: string): Promise<void>;
  /** Newest first. */
  listFailed(queue: string, offset: number, count: number, filter?: CheckedFilter): Promise<JobSnapshot[]>;

  pause(queue: string): Promise<void>;
  resume(queue: string): Promise<void>;
  /** No job of the queue starts for that long. */
  hold(queue: string, ms: number): Promise<void>;
  isPaused(queue: string): Promise<boolean>;
  drain(queue: string, opts: { delayed: boolean; blocked: boolean }): Promise<void>;
  obliterate(queue: string, opts: RemovalOptions): Promise<void>;
  configure(queue: string, config: QueueConfig): Promise<void>;
  getConfig(queue: string): Promise<QueueConfig>;

  /** The circuit breaker of that key; undefined when no Worker of this engine has one. `action`: first opens or closes it. */
  breaker(key: string, action: BreakerAction | undefined): Promise<BreakerStatus | undefined>;
  /** The same spec again changes nothing. */
  addCron(queue: string, spec: CronSpec): Promise<CronInfo>;
  /** Names are the engine's: whatever queue gets the jobs. False: there was none. */
  removeCron(queue: string, name: string): Promise<boolean>;
  /** Those whose jobs go to that queue, or all. */
  listCrons(queue: string, opts: { all: boolean }): Promise<CronInfo[]>;
  /** One job, now. */
  triggerCron(queue: string, name: string): Promise<JobSnapshot>;
  pauseCron(queue: string, name: string): Promise<void>;
  resumeCron(queue: string, name: string): Promise<void>;

  /** `queue` may be `*`. `after`: an event id to resume after; a gap is told as an event named `gap`. */
  subscribe(
    queue: string,
    after: string | undefined,
    listener: (event: QueueEvent) => void,
  ): Promise<EventSubscription>;

  openClaims(queue: string, opts: ClaimOptions, sink: ClaimSink): Promise<ClaimSource>;
  openThreads(spec: ThreadWorkerSpec): Promise<ThreadWorkerLink>;

  /** The engine closes that worker before itself. Gives a function that takes it back. */
  adopt(worker: ClosableWorker): () => void;

  /** Resolves when what has happened on this connection so far is as durable as the engine promises; undefined when it is already. */
  durable(): Promise<void> | undefined;

  now(): number;
  random(): number;
}

export type { CheckedFilter, JobOptions, RetentionPolicy };
