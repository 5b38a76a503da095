/** A queue, as producers and operators hold it. */
import {
  checkBoolean,
  checkDuration,
  checkJobName,
  checkObject,
  checkOptionNames,
  type KnownNames,
  refuse,
} from './checks.js';
import {
  type AddAnswer,
  type AddAnswers,
  type AddItem,
  areNew,
  type Connection,
  type CronInfo,
  type Explanation,
  type JobRef,
  type JobStateOrUnknown,
  type SettledResult,
} from './connection.js';
import { type CronOptions, normaliseCron } from './cron.js';
import { BulkError, ValidationError } from './errors.js';
import { checkPriorityChange, type Job, jobOfAnswer, jobOfNew, jobOfSnapshot } from './job.js';
import { type AddOptions, type JobOptions, type JobReference, normaliseRef, validateJobOptions } from './options.js';
import { QueueControl } from './queue-control.js';
import { type QueueOptions, type WaitOptions, waitOptions, waitTimeout } from './queue-options.js';
import { asRef, JobIdentity } from './references.js';
import type { TypedQueue } from './typed.js';

export interface BulkItem<Data = any, Name extends string = string> {
  readonly name: Name;
  readonly data: Data;
  readonly opts?: AddOptions | undefined;
}

/** One item's answer of `addBulk(items, { atomic: false })`. */
export type BulkAnswer<J> = { readonly ok: true; readonly job: J } | { readonly ok: false; readonly error: Error };

const ITEM_NAMES: KnownNames = { known: ['name', 'data', 'opts'] };

/** Under a misspelt `opts` there would be options that nobody obeys. Only what is unknown pays for the slower check. */
function checkItemNames(item: object, index: number): void {
  for (const name in item) {
    if (name === 'name' || name === 'data' || name === 'opts') continue;
    checkOptionNames(item as Record<string, unknown>, `items[${index}]`, ITEM_NAMES);
    return;
  }
}

const ONE_BY_ONE = Object.freeze({ atomic: false });
const ALL_OR_NOTHING = Object.freeze({ atomic: true });

/** Like `Promise.reject`, for calls that validate before they have a promise. */
async function rejected(error: unknown): Promise<never> {
  throw error;
}

/**
 * A named queue. Making one costs nothing and waits for nothing: the engine is opened by the first call.
 *
 * `Data` and `Result` are what jobs carry and return, for all names; `Queue.typed` gives every name its own.
 *
 * All methods reject with `ValidationError` for values they can't accept and with `EngineClosedError` after `close` of the queue
 * or of its engine. Methods that name a job take its id, the `Job`, or `{queue, id}`.
 *
 * @example
 * const queue = new Queue<{ to: string }>('emails');
 * const job = await queue.add('welcome', { to: 'user@example.com' }, { attempts: 3, backoff: 1000 });
 */
export class Queue<Data = any, Result = any, Name extends string = string> extends QueueControl<Data, Result, Name> {
  readonly #defaults: JobOptions | undefined;

  /**
   * @param name 1 to 256 of A-Z a-z 0-9 . _ : -
   * @throws ValidationError
   */
  constructor(name: string, opts: QueueOptions = {}) {
    super(name, opts);
    this.#defaults = validateJobOptions(opts.defaultJobOptions);
    for (const name of ['jobId', 'deduplication'] as const) {
      if (this.#defaults?.[name] === undefined) continue;
      throw new ValidationError(`opts.defaultJobOptions.${name} would make all jobs the same one. Give it to add.`, {
        path: `opts.defaultJobOptions.${name}`,
      });
    }
  }

  /**
   * A queue in which every name has its own data and result. The same object as `new Queue`; only the types differ.
   *
   * @example
   * const queue = Queue.typed<{ email: { data: Email; result?: Sent }; sms: { data: Sms } }>('messages');
   * await queue.add('email', { to: 'user@example.com' });
   */
  static typed<Jobs extends object>(name: string, opts: QueueOptions = {}): TypedQueue<Jobs> {
    return new Queue(name, opts) as unknown as TypedQueue<Jobs>;
  }

  // ---- adding -----------------------------------------------------------------------------------------------------------------

  /**
   * Adds a job. Resolves when it is as durable as the engine's `durability` promises. A `jobId` that is there already: that job
   * comes back, with `deduplicated === true` (see `onDuplicate`).
   *
   * @throws ValidationError (name, options, data that can't be stored), DuplicateJobError, UnknownDependencyError, EngineFullError
   *
   * @example
   * await queue.add('welcome', { to: 'user@example.com' }, { delay: 60_000, priority: 5 });
   */
  add(name: Name, data: Data, opts?: AddOptions): Promise<Job<Data, Result, Name>> {
    let item: AddItem;
    try {
      item = this.#item(name, data, opts);
    } catch (error) {
      return rejected(error);
    }
    const connection = this.link.now;
    return connection === undefined ? this.#addLater(item) : this.#addTo(connection, item);
  }

  async #addTo(connection: Connection, item: AddItem): Promise<Job<Data, Result, Name>> {
    const answers = await connection.add(this.name, [item], ONE_BY_ONE);
    if (areNew(answers)) return jobOfNew(connection, this.name, item, answers, 0);
    const answer = answers[0] as AddAnswer;
    if (answer.error !== undefined) throw answer.error;
    return jobOfAnswer(connection, this.name, item, answer);
  }

  async #addLater(item: AddItem): Promise<Job<Data, Result, Name>> {
    return this.#addTo(await this.link.ready(), item);
  }

  #item(name: string, data: unknown, opts: AddOptions | undefined): AddItem {
    return { name: checkJobName(name), data, opts: validateJobOptions(opts, this.#defaults) };
  }

  /**
   * Adds many jobs in one step, in the order given; all or nothing. Items may name each other's `jobId` in `dependsOn`, in any order.
   * `[]` gives `[]`.
   *
   * With `{ atomic: false }` each item stands for itself: the answer is `({ ok: true, job } | { ok: false, error })[]`, in order.
   *
   * @throws BulkError whose `errors` say which items were refused, and why; nothing was added.
   *
   * @example
   * const jobs = await queue.addBulk(files.map((file) => ({ name: 'resize', data: { file } })));
   */
  addBulk(
    items: readonly BulkItem<Data, Name>[],
    opts?: { readonly atomic?: true },
  ): Promise<Job<Data, Result, Name>[]>;
  addBulk(
    items: readonly BulkItem<Data, Name>[],
    opts: { readonly atomic: false },
  ): Promise<BulkAnswer<Job<Data, Result, Name>>[]>;
  async addBulk(
    items: readonly BulkItem<Data, Name>[],
    opts: { readonly atomic?: boolean } = {},
  ): Promise<Job<Data, Result, Name>[] | BulkAnswer<Job<Data, Result, Name>>[]> {
    if (!Array.isArray(items)) refuse('items', 'be an array of {name, data, opts}', items);
    checkOptionNames(checkObject(opts, 'opts'), 'opts', { known: ['atomic'] });
    const atomic = opts.atomic === undefined ? true : checkBoolean(opts.atomic, 'opts.atomic');
    const { good, answers, errors } = this.#items(items);
    if (atomic && errors.length > 0) throw new BulkError(errors);
    if (items.length === 0) return [];
    const connection = this.link.now ?? (await this.link.ready());
    if (atomic) {
      const added = await connection.add(this.name, good, ALL_OR_NOTHING);
      return good.map((item, i) => this.#jobAt(connection, item, added, i));
    }
    const added = good.length === 0 ? [] : await connection.add(this.name, good, ONE_BY_ONE);
    let next = 0;
    return answers.map((refused): BulkAnswer<Job<Data, Result, Name>> => {
      if (refused !== undefined) return { ok: false, error: refused };
      const index = next++;
      const error = areNew(added) ? undefined : (added[index] as AddAnswer).error;
      if (error !== undefined) return { ok: false, error };
      return { ok: true, job: this.#jobAt(connection, good[index] as AddItem, added, index) };
    });
  }

  #jobAt(connection: Connection, item: AddItem, answers: AddAnswers, index: number): Job<Data, Result, Name> {
    if (areNew(answers)) return jobOfNew(connection, this.name, item, answers, index);
    return jobOfAnswer(connection, this.name, item, answers[index] as AddAnswer);
  }

  /** `answers[i]`: why item i was refused, or undefined when it is among the `good`. */
  #items(items: readonly BulkItem<Data, Name>[]): {
    good: AddItem[];
    answers: (Error | undefined)[];
    errors: { index: number; error: Error }[];
  } {
    const good: AddItem[] = [];
    const answers: (Error | undefined)[] = new Array(items.length).fill(undefined);
    const errors: { index: number; error: Error }[] = [];
    for (let index = 0; index < items.length; index++) {
      try {
        const given = items[index];
        const isObject = typeof given === 'object' && given !== null;
        const item = (isObject ? given : checkObject(given, `items[${index}]`)) as BulkItem<Data, Name>;
        checkItemNames(item, index);
        const { name, data, opts } = item;
        good.push(this.#item(name, data, opts));
      } catch (thrown) {
        const error = thrown instanceof Error ? thrown : new Error(String(thrown));
        answers[index] = error;
        errors.push({ index, error });
      }
    }
    return { good, answers, errors };
  }

  /**
   * Adds a job and waits for its result, with no gap between the two. A job that is there already (`jobId`) is waited for.
   *
   * @throws what `add` and `finished` reject with; after WaitTimeoutError the job goes on.
   *
   * @example
   * const size = await queue.addAndWait('resize', { file: 'a.png' }, { priority: 10 }, { timeout: 5000 });
   */
  addAndWait(name: Name, data: Data, opts?: AddOptions, wait?: WaitOptions): Promise<Result> {
    let item: AddItem;
    let timeout: number | undefined;
    try {
      item = this.#item(name, data, opts);
      timeout = waitTimeout(wait);
    } catch (error) {
      return rejected(error);
    }
    const connection = this.link.now;
    if (connection === undefined) return this.#addAndWaitLater(item, timeout);
    return connection.addAndWait(this.name, item, { timeout }) as Promise<Result>;
  }

  async #addAndWaitLater(item: AddItem, timeout: number | undefined): Promise<Result> {
    const connection = await this.link.ready();
    return (await connection.addAndWait(this.name, item, { timeout })) as Result;
  }

  /**
   * The result of a job, or of many in the order given, as soon as there is one. Works for jobs that have finished already.
   *
   * With `settled: true` the answer is `({ status: 'fulfilled', value } | { status: 'rejected', reason })[]` and it never rejects
   * for a job's sake; without, it rejects with the failure that happened first. `[]` gives `[]`.
   *
   * @param opts `{ timeout, settled }`, or the timeout alone; milliseconds, none by default.
   * @throws JobFailedError, JobCancelledError, JobRemovedError (it existed and is gone), JobNotFoundError (it never existed),
   *   WaitTimeoutError
   *
   * @example
   * const results = await queue.finished(jobs, { timeout: 60_000 });
   */
  finished(ref: JobReference, opts?: number | WaitOptions): Promise<Result>;
  finished(
    refs: readonly JobReference[],
    opts: WaitOptions & { readonly settled: true },
  ): Promise<SettledResult<Result>[]>;
  finished(
    refs: readonly JobReference[],
    opts?: number | (WaitOptions & { readonly settled?: false }),
  ): Promise<Result[]>;
  async finished(
    refs: JobReference | readonly JobReference[],
    opts?: number | (WaitOptions & { readonly settled?: boolean }),
  ): Promise<unknown> {
    const { timeout, settled } = waitOptions(opts);
    if (!Array.isArray(refs)) {
      const ref = asRef(refs);
      const connection = this.link.now ?? (await this.link.ready());
      return (await connection.finished(this.name, [ref], { timeout }))[0];
    }
    const wanted: JobRef[] = new Array(refs.length); // repeats keep their places
    for (let i = 0; i < refs.length; i++) {
      const one: unknown = refs[i];
      wanted[i] = one instanceof JobIdentity ? one : normaliseRef(one, `refs[${i}]`);
    }
    if (wanted.length === 0) return [];
    const connection = this.link.now ?? (await this.link.ready());
    if (settled) return connection.finished(this.name, wanted, { timeout, settled: true });
    return connection.finished(this.name, wanted, { timeout });
  }

  /**
   * Adds a cron, or changes the one of that name: from then on the clock adds jobs, whether or not the one before has finished in time.
   * The same again changes nothing, so a service may call this at every start. What differs takes effect at once; jobs made so far stay
   * counted for `limit`. With a data directory crons survive, and `missed` says what becomes of ticks that passed meanwhile.
   *
   * A job's id is `cron:<name>:<time>`, its name that of the cron unless `opts.name`, and `job.cron` says for which tick it was made.
   *
   * @param name Unique in the engine, 1 to 400 bytes.
   * @throws ValidationError for an expression, a time zone or any other option that can't be read.
   *
   * @example
   * await queue.addCron('nightly-report', { schedule: '30 2 * * *', tz: 'Europe/Berlin', data: { full: true }, opts: { attempts: 3 } });
   * await queue.addCron('poll', { every: 15_000 });
   */
  async addCron(name: string, options: CronOptions<Data>): Promise<CronInfo> {
    const spec = normaliseCron(name, this.name, options, this.#defaults);
    return (await this.link.ready()).addCron(this.name, spec);
  }

  // ---- looking ----------------------------------------------------------------------------------------------------------------

  /** The job, or undefined when there is no record (any more). */
  async getJob(ref: JobReference): Promise<Job<Data, Result, Name> | undefined> {
    const connection = await this.link.ready();
    const [snapshot] = await connection.getJobs(this.name, [normaliseRef(ref)]);
    return snapshot === undefined ? undefined : jobOfSnapshot(connection, snapshot);
  }

  /** `unknown` when there is no record (any more). */
  async getJobState(ref: JobReference): Promise<JobStateOrUnknown> {
    return (await this.link.ready()).getState(this.name, normaliseRef(ref));
  }

  /** What the job waits for, in one sentence and as data. */
  async explain(ref: JobReference): Promise<Explanation> {
    return (await this.link.ready()).explain(this.name, normaliseRef(ref));
  }

  // ---- one job ----------------------------------------------------------------------------------------------------------------

  /**
   * Cancels a job: one that waits is `cancelled` at once; of one that runs the handler's `signal` aborts (`aborting`), and the
   * outcome that it arrives at within the worker's `abortGrace` counts; `finished` when there was nothing left to cancel.
   */
  async cancel(ref: JobReference, reason?: string): Promise<'cancelled' | 'aborting' | 'finished'> {
    if (reason !== undefined && typeof reason !== 'string') refuse('reason', 'be a string', reason);
    return (await this.link.ready()).cancel(this.name, normaliseRef(ref), reason);
  }

  /**
   * Removes the record, and forgets the id. Waiters are rejected and dependents told. Returns false when there was none.
   *
   * @throws JobActiveError while it runs: cancel it first.
   */
  async remove(ref: JobReference): Promise<boolean> {
    return (await this.link.ready()).remove(this.name, normaliseRef(ref));
  }

  /**
   * Puts a job that does not run into the dead letter queue, reason `moved`; `reason` is its `failedReason`. Waiters and dependents are
   * told as of any failure.
   *
   * @throws ValidationError while it runs, or when it has finished.
   */
  async moveToDlq(ref: JobReference, reason: string): Promise<void> {
    if (typeof reason !== 'string') refuse('reason', 'be a string', reason);
    return (await this.link.ready()).moveToDlq(this.name, normaliseRef(ref), reason);
  }

  /** Makes a delayed job ready now. */
  async promote(ref: JobReference): Promise<void> {
    return (await this.link.ready()).promote(this.name, normaliseRef(ref));
  }

  /** Changes the priority of a job that has not started; it goes to the tail of the new one, or with `lifo` to its head. */
  async changePriority(
    ref: JobReference,
    change: number | { priority: number; lifo?: boolean | undefined },
  ): Promise<void> {
    const wanted = checkPriorityChange(change, Number.NaN); // NaN: refused when it isn't given
    return (await this.link.ready()).changePriority(this.name, normaliseRef(ref), wanted);
  }

  /** Lets a delayed job wait `delayMs` milliseconds from now instead. */
  async changeDelay(ref: JobReference, delayMs: number): Promise<void> {
    const delay = checkDuration(delayMs, 'delayMs');
    return (await this.link.ready()).changeDelay(this.name, normaliseRef(ref), delay);
  }

  /** Exchanges the data. A run in progress keeps what it got. A waiting job goes to the tail of its priority, a `lifo` one to the head. */
  async updateData(ref: JobReference, data: Data): Promise<void> {
    return (await this.link.ready()).updateData(this.name, normaliseRef(ref), data);
  }
}

export type { DlqSelection, GetJobsOptions, QueueOptions, WaitOptions } from './queue-options.js';
