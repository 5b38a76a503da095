/** One job, as handlers and producers hold it. */
import { checkDuration, checkFunction, checkObject, checkOptionNames, refuse } from './checks.js';
import type {
  AddAnswer,
  AddItem,
  ClaimedJob,
  Connection,
  CronTick,
  DependencyRecord,
  DlqReason,
  JobSnapshot,
  JobStateOrUnknown,
  NewJobs,
} from './connection.js';
import { JobNotFoundError, JobRemovedError, LeaseLostError, ValidationError, WaitingForJobsError } from './errors.js';
import { type JobOptions, PRIORITY_MAX, PRIORITY_MIN } from './options.js';
import { JobIdentity, type JobReference, normaliseRef, normaliseRefs } from './references.js';

const NO_OPTIONS: JobOptions = Object.freeze({});
const NO_STACKS: readonly string[] = Object.freeze([]);

/** What changes while a job lives. An added job has none of it yet, so it isn't made for one. */
type Details = Partial<
  Pick<
    JobSnapshot,
    | 'progress'
    | 'returnvalue'
    | 'failedReason'
    | 'stacktrace'
    | 'attemptsMade'
    | 'attemptsStarted'
    | 'priority'
    | 'delay'
    | 'processedOn'
    | 'finishedOn'
    | 'deduplicated'
    | 'dlq'
    | 'cron'
  >
>;

/** What runs a job, as far as the job's own methods have something to tell it. */
export interface RunOfJob {
  progress(job: Job, progress: unknown): void;
}

/** The run of a job in a batch: what the handler says of it by itself is kept there. */
export interface BatchedRun {
  readonly signal: AbortSignal;
  failure: { readonly error: unknown } | undefined;
}

export interface StreamOptions {
  /**
   * Called when what was read so far came from a run that did not count: the job failed and ran again. What comes next is of the run
   * `attempt`, counted from 1, from its beginning.
   */
  readonly onRestart?: ((attempt: number) => void) | undefined;
}

/** A plain object with every field of a job: what `toJSON` returns. */
export type JobJson<Data = unknown, Result = unknown> = Omit<
  JobSnapshot,
  'queue' | 'state' | 'data' | 'returnvalue'
> & {
  queueName: string;
  data: Data;
  returnvalue: Result | undefined;
};

/**
 * A job: what it carries, what became of it when it was read, and what can be done to it. The fields show the moment at which the
 * job was added, read or claimed; `getState()` and `queue.getJob(id)` ask anew. Methods that change the job also change the fields
 * of this object. All of them reject with `JobNotFoundError` or `JobRemovedError` when the record is gone, and with
 * `EngineClosedError` after the engine was closed.
 *
 * @example
 * const job = await queue.add('resize', { file: 'a.png' });
 * await job.waitUntilFinished();
 */
export class Job<Data = any, Result = any, Name extends string = string> extends JobIdentity {
  readonly name: Name;
  data: Data;
  /** The options that were set, in their normalised form; what isn't there has its default (`JOB_DEFAULTS`). */
  readonly opts: JobOptions;
  /** Milliseconds since the epoch: when it was admitted. */
  readonly timestamp: number;
  readonly #connection: Connection;
  #details: Details | undefined;
  #batchRun: BatchedRun | undefined;
  #run: RunOfJob | undefined;
  /** Chunks that are not accepted yet. */
  #emits: { count: number; done: (() => void)[] } | undefined;

  /**
   * Made by the library.
   *
   * @param id The number of a generated id, or an id of the user's own.
   * @param details May be a snapshot, which then belongs to this job.
   */
  constructor(
    connection: Connection,
    queueName: string,
    id: string | number,
    place: number,
    name: Name,
    data: Data,
    opts: JobOptions | undefined,
    timestamp: number,
    details: Details | undefined,
  ) {
    super(queueName, id, place);
    this.name = name;
    this.data = data;
    this.opts = opts ?? NO_OPTIONS;
    this.timestamp = timestamp;
    this.#connection = connection;
    this.#details = details;
  }

  // ---- what became of it ----------------------------------------------------------------------------------------------------

  /** What `updateProgress` said last. */
  get progress(): unknown {
    return this.#details?.progress;
  }

  /** What the handler returned, once completed. */
  get returnvalue(): Result | undefined {
    return this.#details?.returnvalue as Result | undefined;
  }

  /** The message of the last failure; always a string, whatever was thrown. */
  get failedReason(): string | undefined {
    return this.#details?.failedReason;
  }

  /** The stacks of the last attempts that failed, at most `stackTraceLimit` of them, the oldest first. */
  get stacktrace(): readonly string[] {
    return this.#details?.stacktrace ?? NO_STACKS;
  }

  /** Runs that ended in failure. */
  get attemptsMade(): number {
    return this.#details?.attemptsMade ?? 0;
  }

  /** Runs that were started, this one included. */
  get attemptsStarted(): number {
    return this.#details?.attemptsStarted ?? 0;
  }

  get priority(): number {
    return this.#details?.priority ?? this.opts.priority ?? 0;
  }

  /** Milliseconds. */
  get delay(): number {
    return this.#details?.delay ?? this.opts.delay ?? 0;
  }

  /** Milliseconds since the epoch: the start of its last run. */
  get processedOn(): number | undefined {
    return this.#details?.processedOn;
  }

  /** Milliseconds since the epoch. */
  get finishedOn(): number | undefined {
    return this.#details?.finishedOn;
  }

  /** True when `add` found the job already there (its `jobId` was known). */
  get deduplicated(): boolean {
    return this.#details?.deduplicated ?? false;
  }

  /** Why and when it entered the dead letter queue, and what its attempts died of. */
  get dlq(): { reason: DlqReason; enteredAt: number; attempts: { at: number; error: string }[] } | undefined {
    return this.#details?.dlq;
  }

  // ---- in a batch -------------------------------------------------------------------------------------------------------------

  /**
   * In the handler of a batch: aborts when this job alone should stop, since it was cancelled, removed, or took too long. The signal that
   * the handler gets aborts when those of all its jobs have. Undefined elsewhere.
   */
  get signal(): AbortSignal | undefined {
    return this.#batchRun?.signal;
  }

  /**
   * In the handler of a batch: this job has failed with that error, whatever the handler returns. It is retried by its own attempts and
   * backoff, as if its handler had thrown.
   *
   * @throws ValidationError outside of a batch.
   *
   * @example
   * new Worker('mails', async (jobs) => {
   *   const answers = await sendAll(jobs.map((job) => job.data));
   *   return answers.map((answer, i) => answer.ok || jobs[i].setAsFailed(new Error(answer.reason)));
   * }, { batch: { size: 100 } });
   */
  setAsFailed(error: unknown): void {
    if (this.#batchRun === undefined) {
      throw new ValidationError('setAsFailed is for jobs in the handler of a batch. Throw the error instead.', {
        path: 'job',
      });
    }
    this.#batchRun.failure = { error };
  }

  /** For the runner. */
  static inBatch(job: Job, run: BatchedRun): void {
    job.#batchRun = run;
  }

  /** Of a job that a cron has made: for which tick, and whether that was made up for. */
  get cron(): CronTick | undefined {
    return this.#details?.cron;
  }

  // ---- asking -----------------------------------------------------------------------------------------------------------------

  /** `unknown` when there is no record any more. */
  getState(): Promise<JobStateOrUnknown> {
    return this.#connection.getState(this.queueName, this);
  }

  /** The lines that `log` kept, the oldest first. */
  getLogs(): Promise<string[]> {
    return this.#connection.getLogs(this.queueName, this);
  }

  /** The jobs this one depends on, in the order in which they were given, with what became of them. */
  getDependencies(): Promise<DependencyRecord[]> {
    return this.#connection.getDependencies(this.queueName, this);
  }

  /**
   * The results of the dependencies that have completed: by id for jobs of this queue, by `queue:id` for others.
   *
   * @example
   * const results = await job.getDependencyResults<number>();
   * const sum = Object.values(results).reduce((a, b) => a + b, 0);
   */
  async getDependencyResults<T = any>(): Promise<Record<string, T>> {
    const results: Record<string, T> = {};
    for (const one of await this.getDependencies()) {
      if (one.state === 'completed') results[this.#keyOf(one)] = one.result as T;
    }
    return results;
  }

  /** BullMQ's name of `getDependencyResults`. */
  getChildrenValues<T = any>(): Promise<Record<string, T>> {
    return this.getDependencyResults<T>();
  }

  /** Why the dependencies that can't complete any more can't: keyed as `getDependencyResults`. */
  async getDependencyFailures(): Promise<Record<string, string>> {
    const failures: Record<string, string> = {};
    for (const one of await this.getDependencies()) {
      if (one.failedReason !== undefined) failures[this.#keyOf(one)] = one.failedReason;
    }
    return failures;
  }

  /** BullMQ's name of `getDependencyFailures`. */
  getIgnoredChildrenFailures(): Promise<Record<string, string>> {
    return this.getDependencyFailures();
  }

  /**
   * For handlers: ends this run until all of these jobs have settled, however they did, and then runs the job again from the start. The
   * slot is free meanwhile, so it works at a concurrency of 1; neither an attempt nor a lost run is counted, and a restart keeps the wait.
   * When all have settled already, it returns, and `getDependencyResults` and `getDependencyFailures` have them.
   *
   * Since the handler starts anew, what comes before the call runs twice: give the jobs that it adds ids of their own. It ends the run by
   * throwing WaitingForJobsError, which a handler must let through.
   *
   * @throws UnknownDependencyError; ValidationError when the job isn't running, and when one of those jobs waits for this one.
   *
   * @example
   * const children = await parts.addBulk(
   *   job.data.pages.map((page, i) => ({ name: 'page', data: page, opts: { jobId: `${job.id}-${i}` } })),
   * );
   * await job.waitFor(children);
   * return merge(await job.getDependencyResults());
   */
  async waitFor(refs: JobReference | readonly JobReference[]): Promise<void> {
    const wanted = Array.isArray(refs) ? normaliseRefs(refs, 'refs') : [normaliseRef(refs, 'refs')];
    if (wanted.length === 0 || (await this.#connection.waitFor(this.queueName, this, wanted))) return;
    throw new WaitingForJobsError({ queue: this.queueName, jobId: this.id });
  }

  /**
   * The job's result, as soon as it has one. Works for a job that has finished already.
   *
   * @param ttl Milliseconds after which to give up; none by default. BullMQ's form `(queueEvents, ttl)` is accepted; the events
   *   aren't needed.
   * @throws JobFailedError, JobCancelledError, JobRemovedError, JobNotFoundError, WaitTimeoutError
   */
  async waitUntilFinished(ttl?: number): Promise<Result>;
  async waitUntilFinished(queueEvents: object | undefined, ttl?: number): Promise<Result>;
  async waitUntilFinished(first?: number | object, second?: number): Promise<Result> {
    const ttl = typeof first === 'number' ? first : second;
    const timeout = ttl === undefined ? undefined : checkDuration(ttl, 'ttl');
    const results = await this.#connection.finished(this.queueName, [this], { timeout });
    return results[0] as Result;
  }

  // ---- changing ---------------------------------------------------------------------------------------------------------------

  /** Keeps `progress` (any value that can be stored) with the job and tells listeners. Only the last value is kept. */
  async updateProgress(progress: unknown): Promise<void> {
    await this.#connection.updateProgress(this.queueName, this, progress);
    this.#change().progress = progress;
    this.#run?.progress(this, progress);
  }

  /** Keeps a line of text, of which the last `keepLogs` (100) stay. Returns how many are kept now. */
  async log(line: string): Promise<number> {
    if (typeof line !== 'string') refuse('line', 'be a string', line);
    return this.#connection.log(this.queueName, this, line);
  }

  /**
   * Gives a piece of what the running job makes (any value that can be stored) to whoever reads `job.stream()`, wherever that is. For
   * handlers. Chunks are transient: they are not written anywhere, and gone with the process.
   *
   * Resolves when there is room for more: a reader that is 1,000 chunks or 1 MiB behind is waited for, 10 s at most, then it is left
   * out. A handler that doesn't wait for that runs on; its end waits for its chunks.
   *
   * @throws LeaseLostError when the job is not run by this run any more, ValidationError for what can't be stored. (Who doesn't wait
   *   for the promise isn't bothered by either.)
   *
   * @example
   * for await (const token of model.generate(job.data.prompt)) await job.emit(token);
   */
  emit(chunk: unknown): Promise<void> {
    const emitted = this.#connection.emit(this.queueName, this, this.attemptsStarted, chunk);
    this.#emits ??= { count: 0, done: [] };
    const emits = this.#emits;
    emits.count++;
    const settled = (): void => {
      if (--emits.count === 0) for (const done of emits.done.splice(0)) done();
    };
    emitted.then(settled, settled); // so nobody needs to catch what it rejects with
    return emitted;
  }

  /**
   * What the job's handler emits, in order, from the oldest chunk that is still kept (the last 1,000, or 1 MiB of them) until the
   * job ends; of a job that has ended it is kept for 30 s. Reading begins with the first turn of the loop.
   *
   * Ends when the job has completed. A run that fails and is tried again begins the stream anew: `onRestart` tells.
   *
   * @throws JobFailedError, JobCancelledError, JobRemovedError or JobNotFoundError, as `waitUntilFinished`, when the job doesn't
   *   complete; ValidationError when this reader took nothing for 10 s while the handler waited for it.
   *
   * @example
   * for await (const token of job.stream<string>()) process.stdout.write(token);
   */
  async *stream<Chunk = any>(opts: StreamOptions = {}): AsyncGenerator<Chunk, void, undefined> {
    checkOptionNames(checkObject(opts, 'opts'), 'opts', { known: ['onRestart'] });
    const { onRestart } = opts;
    if (onRestart !== undefined) checkFunction(onRestart, 'opts.onRestart');
    const connection = this.#connection;
    const reader = await connection.openStream(this.queueName, this);
    try {
      let attempt = 0;
      for (let hasEnded = reader === 0; !hasEnded; ) {
        const batch = await connection.readStream(this.queueName, reader);
        if (attempt !== 0 && batch.attempt > attempt) onRestart?.(batch.attempt);
        if (batch.chunks.length > 0) attempt = batch.attempt;
        yield* batch.chunks as readonly Chunk[];
        hasEnded = batch.hasEnded;
      }
    } finally {
      if (reader !== 0) await connection.closeStream(this.queueName, reader);
    }
    try {
      await connection.finished(this.queueName, [this], {});
    } catch (error) {
      if (!(error instanceof JobRemovedError && error.state === 'completed')) throw error; // its result is gone, but it had one
    }
  }

  /**
   * Asks whether this run still owns the job, and rejects if it doesn't: its outcome would not count. Runs in this process hold no
   * lease that could run out, so there is nothing to extend; BullMQ's form `(token, durationMs)` is accepted.
   *
   * @returns The milliseconds that were asked for.
   * @throws LeaseLostError
   */
  async extendLock(durationMs: number): Promise<number>;
  async extendLock(token: string | undefined, durationMs: number): Promise<number>;
  async extendLock(first: number | string | undefined, second?: number): Promise<number> {
    const duration = checkDuration(typeof first === 'number' ? first : second, 'durationMs');
    const [now] = await this.#connection.getJobs(this.queueName, [this]);
    if (now?.state === 'active' && now.attemptsStarted === this.attemptsStarted) return duration;
    throw new LeaseLostError({ queue: this.queueName, jobId: this.id });
  }

  /** Exchanges the data. A run in progress keeps what it got. */
  async updateData(data: Data): Promise<void> {
    await this.#connection.updateData(this.queueName, this, data);
    this.data = data;
  }

  /**
   * Takes a failed job out of the dead letter queue and runs it again, its attempts counted from zero.
   *
   * @throws ValidationError when it isn't failed.
   */
  async retry(): Promise<void> {
    if ((await this.#connection.retryFailed(this.queueName, [this], { withDependencies: false })) > 0) return;
    const state = await this.getState();
    if (state === 'unknown') throw new JobNotFoundError({ queue: this.queueName, jobId: this.id });
    throw new ValidationError(`Job ${JSON.stringify(this.id)} is ${state}: only a failed job can be retried`, {
      path: 'job',
    });
  }

  /**
   * Removes the record; waiters are rejected and dependents told. Returns false when there was none.
   *
   * @throws JobActiveError while it runs: cancel it first.
   */
  remove(): Promise<boolean> {
    return this.#connection.remove(this.queueName, this);
  }

  /** Puts it into the dead letter queue, reason `moved`; see `queue.moveToDlq`. */
  moveToDlq(reason: string): Promise<void> {
    if (typeof reason !== 'string') refuse('reason', 'be a string', reason);
    return this.#connection.moveToDlq(this.queueName, this, reason);
  }

  /** Makes a delayed job ready now. */
  promote(): Promise<void> {
    return this.#connection.promote(this.queueName, this);
  }

  /** Changes the priority of a job that has not started; it goes to the tail of the new one, or with `lifo` to its head. */
  async changePriority(change: number | { priority?: number | undefined; lifo?: boolean | undefined }): Promise<void> {
    const wanted = checkPriorityChange(change, this.priority);
    await this.#connection.changePriority(this.queueName, this, wanted);
    this.#change().priority = wanted.priority;
  }

  /** Lets a delayed job wait `delayMs` milliseconds from now instead. */
  async changeDelay(delayMs: number): Promise<void> {
    const delay = checkDuration(delayMs, 'delayMs');
    await this.#connection.changeDelay(this.queueName, this, delay);
    this.#change().delay = delay;
  }

  /** Every field, as a plain object. */
  override toJSON(): JobJson<Data, Result> {
    return {
      id: this.id,
      name: this.name,
      queueName: this.queueName,
      data: this.data,
      opts: this.opts,
      progress: this.progress,
      returnvalue: this.returnvalue,
      failedReason: this.failedReason,
      stacktrace: [...this.stacktrace],
      attemptsMade: this.attemptsMade,
      attemptsStarted: this.attemptsStarted,
      priority: this.priority,
      delay: this.delay,
      timestamp: this.timestamp,
      processedOn: this.processedOn,
      finishedOn: this.finishedOn,
      deduplicated: this.deduplicated,
      ...(this.dlq === undefined ? {} : { dlq: this.dlq }),
      ...(this.cron === undefined ? {} : { cron: this.cron }),
    };
  }

  /** For the runner: what the end of a run changes in the object that listeners get. Not for users. */
  static ended(job: Job, change: Pick<Details, 'returnvalue' | 'failedReason' | 'attemptsMade' | 'finishedOn'>): void {
    Object.assign(job.#change(), change);
  }

  /** For the runner: the job is its own. Not for users. */
  static joinRun(job: Job, run: RunOfJob): void {
    job.#run = run;
  }

  /** For the runner: a promise for the moment at which all that was emitted has been accepted; undefined when it has. Not for users. */
  static emitted(job: Job): Promise<void> | undefined {
    const emits = job.#emits;
    return emits === undefined || emits.count === 0 ? undefined : new Promise((done) => emits.done.push(done));
  }

  /** How consoles show it. */
  [Symbol.for('nodejs.util.inspect.custom')](): object {
    return Object.assign(Object.create({ constructor: Job }), this.toJSON());
  }

  #change(): Details {
    this.#details = { ...this.#details };
    return this.#details;
  }

  #keyOf({ queue, id }: DependencyRecord): string {
    return queue === this.queueName ? id : `${queue}:${id}`;
  }
}

/** @throws ValidationError */
export function checkPriorityChange(change: unknown, current: number): { priority: number; lifo?: boolean } {
  const { priority = current, lifo } =
    typeof change === 'number'
      ? { priority: change }
      : (checkObject(change, 'change') as { priority?: unknown; lifo?: unknown });
  if (typeof priority !== 'number' || (priority | 0) !== priority) {
    refuse('priority', `be a whole number from ${PRIORITY_MIN} to ${PRIORITY_MAX}`, priority);
  }
  if (lifo !== undefined && typeof lifo !== 'boolean') refuse('lifo', 'be true or false', lifo);
  return lifo === undefined ? { priority: priority | 0 } : { priority: priority | 0, lifo };
}

/** The job that a snapshot shows. The snapshot belongs to the job afterwards. */
export function jobOfSnapshot<Data, Result, Name extends string>(
  connection: Connection,
  snapshot: JobSnapshot,
): Job<Data, Result, Name> {
  const { queue, id, name, data, opts, timestamp } = snapshot;
  return new Job(connection, queue, id, 0, name as Name, data as Data, opts, timestamp, snapshot);
}

/** The job of a run. */
export function jobOfClaim(connection: Connection, claimed: ClaimedJob): Job {
  const { queue, id, name, data, opts, timestamp } = claimed;
  return new Job(connection, queue, id, 0, name, data, opts, timestamp, claimed);
}

/** A job that an `add` has made: the one at `index` of those that are new. */
export function jobOfNew<Data, Result, Name extends string>(
  connection: Connection,
  queueName: string,
  { name, data, opts }: AddItem,
  { first, places, timestamp }: NewJobs,
  index: number,
): Job<Data, Result, Name> {
  const place = places === undefined ? 0 : (places[index] as number);
  return new Job(connection, queueName, first + index, place, name as Name, data as Data, opts, timestamp, undefined);
}

/** The job that an `add` has made, or found (`deduplicated`). */
export function jobOfAnswer<Data, Result, Name extends string>(
  connection: Connection,
  queueName: string,
  item: AddItem,
  answer: AddAnswer,
): Job<Data, Result, Name> {
  if (answer.existing !== undefined) {
    answer.existing.deduplicated = true;
    return jobOfSnapshot(connection, answer.existing);
  }
  const { name, data, opts } = item;
  const details = answer.deduplicated ? { deduplicated: true } : undefined;
  return new Job(connection, queueName, answer.id, 0, name as Name, data as Data, opts, answer.timestamp, details);
}
