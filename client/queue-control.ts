/** What is done to a queue as a whole, rather than to a job: counting, pausing, emptying, limits, dead letters. */
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkObject,
  checkOptionNames,
  checkQueueName,
  checkText,
  INT32_MAX,
  JOB_ID_BYTES_MAX,
  refuse,
} from './checks.js';
import type { BreakerStatus, CronInfo, JobCounts, JobState, QueueConfig } from './connection.js';
import { checkCronName } from './cron.js';
import { ConnectionLink } from './default-connection.js';
import { type Job, jobOfSnapshot } from './job.js';
import { checkFilter, type JobFilter } from './job-filter.js';
import {
  checkConfig,
  cleanState,
  type DlqSelection,
  dlqSelection,
  type GetJobsOptions,
  jobQuery,
  jobRange,
  QUEUE_OPTIONS,
  type QueueOptions,
  retryOptions,
} from './queue-options.js';

function checkKey(key: unknown): string {
  if (typeof key !== 'string' || key === '') refuse('key', 'be the key of a circuit breaker', key);
  return key;
}

/** The part of `Queue` for operators. */
export class QueueControl<Data = any, Result = any, Name extends string = string> {
  readonly name: string;
  protected readonly link: ConnectionLink;

  constructor(name: string, opts: QueueOptions) {
    this.name = checkQueueName(name);
    checkOptionNames(checkObject(opts, 'opts'), 'opts', QUEUE_OPTIONS);
    this.link = new ConnectionLink(opts.connection, `Queue "${name}"`);
  }

  // ---- counting ---------------------------------------------------------------------------------------------------------------

  /** How many jobs are in each state. `paused` counts those of `waiting` that a pause holds back. */
  async getJobCounts(): Promise<JobCounts> {
    return (await this.link.ready()).getCounts(this.name);
  }

  /** How many jobs have yet to run: waiting, delayed and blocked. */
  async count(): Promise<number> {
    const { waiting, delayed, blocked } = await this.getJobCounts();
    return waiting + delayed + blocked;
  }

  /** How many jobs are in one state: `getWaitingCount()` and its like, as in BullMQ. */
  async #countOf(state: JobState): Promise<number> {
    return (await this.getJobCounts())[state];
  }
  getWaitingCount(): Promise<number> {
    return this.#countOf('waiting');
  }
  getDelayedCount(): Promise<number> {
    return this.#countOf('delayed');
  }
  /** Jobs that wait for their dependencies. */
  getWaitingChildrenCount(): Promise<number> {
    return this.#countOf('blocked');
  }
  getActiveCount(): Promise<number> {
    return this.#countOf('active');
  }
  getCompletedCount(): Promise<number> {
    return this.#countOf('completed');
  }
  getFailedCount(): Promise<number> {
    return this.#countOf('failed');
  }

  // ---- reading ----------------------------------------------------------------------------------------------------------------

  /**
   * Jobs page by page: whatever comes and goes meanwhile, a job that is there from the first page to the last comes exactly once. Pages are
   * in no order among each other; in a page jobs are in the order of their admission (`getWaiting` and its like have an order).
   *
   * @returns The jobs, and the `cursor` for the next page; without one there is none.
   * @throws ValidationError also for a cursor from before the engine was opened.
   *
   * @example
   * for (let cursor; ; ) {
   *   const page = await queue.getJobs({ states: ['waiting', 'delayed'], filter: { tag: 'import' }, limit: 500, cursor });
   *   for (const job of page.jobs) console.log(job.id);
   *   cursor = page.cursor;
   *   if (cursor === undefined) break;
   * }
   */
  async getJobs(opts: GetJobsOptions = {}): Promise<{ jobs: Job<Data, Result, Name>[]; cursor?: string }> {
    const query = jobQuery(opts);
    const connection = await this.link.ready();
    const jobs: Job<Data, Result, Name>[] = [];
    let { cursor } = query;
    do {
      const page = await connection.listJobs(this.name, { ...query, limit: query.limit - jobs.length, cursor });
      for (const one of page.jobs) jobs.push(jobOfSnapshot(connection, one));
      cursor = page.cursor;
    } while (cursor !== undefined && jobs.length < query.limit);
    return cursor === undefined ? { jobs } : { jobs, cursor };
  }

  async #inState(state: JobState, start: number, end: number, newestFirst = false): Promise<Job<Data, Result, Name>[]> {
    const range = jobRange(start, end, newestFirst);
    const connection = await this.link.ready();
    const snapshots = await connection.listState(this.name, state, range);
    return snapshots.map((one) => jobOfSnapshot(connection, one));
  }

  /**
   * Waiting jobs from place `start` to `end`, both included (-1: the last), in the order in which they first became ready, priorities
   * aside: one that ran and waits again keeps its place.
   */
  getWaiting(start = 0, end = -1): Promise<Job<Data, Result, Name>[]> {
    return this.#inState('waiting', start, end);
  }
  /** Running jobs, as `getWaiting`. */
  getActive(start = 0, end = -1): Promise<Job<Data, Result, Name>[]> {
    return this.#inState('active', start, end);
  }
  /** Delayed jobs, as `getWaiting`: in the order in which they were delayed. */
  getDelayed(start = 0, end = -1): Promise<Job<Data, Result, Name>[]> {
    return this.#inState('delayed', start, end);
  }
  /** Jobs that wait for their dependencies, as `getWaiting`. */
  getWaitingChildren(start = 0, end = -1): Promise<Job<Data, Result, Name>[]> {
    return this.#inState('blocked', start, end);
  }
  /** Completed jobs, the newest first. */
  getCompleted(start = 0, end = -1): Promise<Job<Data, Result, Name>[]> {
    return this.#inState('completed', start, end, true);
  }
  /** Failed jobs, the newest first; `getDlq` can filter them. */
  getFailed(start = 0, end = -1): Promise<Job<Data, Result, Name>[]> {
    return this.#inState('failed', start, end, true);
  }

  // ---- the queue --------------------------------------------------------------------------------------------------------------

  /** Stops claims by all workers; what runs goes on, delays elapse. Resolves when no claim is in progress any more. */
  async pause(): Promise<void> {
    return (await this.link.ready()).pause(this.name);
  }

  async resume(): Promise<void> {
    return (await this.link.ready()).resume(this.name);
  }

  async isPaused(): Promise<boolean> {
    return (await this.link.ready()).isPaused(this.name);
  }

  /** Removes the waiting jobs, and those that are delayed or blocked if told so. `drain(true)`, as in BullMQ, takes the delayed ones. */
  async drain(opts: boolean | { readonly delayed?: boolean; readonly blocked?: boolean } = {}): Promise<void> {
    const given = typeof opts === 'boolean' ? { delayed: opts } : checkObject(opts, 'opts');
    checkOptionNames(given, 'opts', { known: ['delayed', 'blocked'] });
    const { delayed = false, blocked = false } = given as { delayed?: unknown; blocked?: unknown };
    const wanted = { delayed: checkBoolean(delayed, 'opts.delayed'), blocked: checkBoolean(blocked, 'opts.blocked') };
    return (await this.link.ready()).drain(this.name, wanted);
  }

  /**
   * Removes jobs of one state that ended at least `graceMs` milliseconds ago (those that have not ended: were admitted), the oldest
   * first, and forgets their ids; waiters and dependents are told. The event `cleaned` tells how many.
   *
   * @param limit At most so many; 0, the default, is no limit.
   * @param state `completed` by default; never `active`.
   * @returns The ids of the removed jobs.
   *
   * @example
   * const ids = await queue.clean(3_600_000, 1000, 'failed');
   */
  async clean(
    graceMs: number,
    limit = 0,
    state: Exclude<JobState, 'active'> | 'wait' = 'completed',
  ): Promise<string[]> {
    const grace = checkDuration(graceMs, 'graceMs');
    const most = checkInteger(limit, 'limit', 0, INT32_MAX);
    const from = cleanState(state);
    return (await this.link.ready()).clean(this.name, grace, most === 0 ? INT32_MAX : most, from);
  }

  /**
   * Pauses the queue and removes everything of it: jobs, dead letters, remembered ids, settings, and the crons whose jobs go to it.
   *
   * @throws JobActiveError while jobs run, unless `force`, which aborts them and drops their outcome.
   */
  async obliterate(opts: { readonly force?: boolean } = {}): Promise<void> {
    const given = checkObject(opts, 'opts');
    checkOptionNames(given, 'opts', {
      known: ['force'],
      elsewhere: { count: 'everything goes in one step. Leave it out.' },
    });
    const force = given.force === undefined ? false : checkBoolean(given.force, 'opts.force');
    return (await this.link.ready()).obliterate(this.name, { force });
  }

  // ---- limits -----------------------------------------------------------------------------------------------------------------

  /** The settings of the queue, kept with it. The last call wins; `null` takes a limit away. */
  async configure(config: QueueConfig): Promise<void> {
    const wanted = checkConfig(config);
    return (await this.link.ready()).configure(this.name, wanted);
  }

  async getConfig(): Promise<QueueConfig> {
    return (await this.link.ready()).getConfig(this.name);
  }

  /** At most `max` starts in any `duration` milliseconds, over all workers and threads. Also `(max, duration)`. */
  setRateLimit(limit: number | { readonly max: number; readonly duration: number }, duration?: number): Promise<void> {
    const rateLimit = typeof limit === 'number' ? { max: limit, duration: duration as number } : limit;
    return this.configure({ rateLimit });
  }

  /**
   * No job of the queue starts for `ms` milliseconds, of whatever worker: for a service that says when it will answer again. What runs
   * goes on. A longer hold stays; it is not kept over a restart.
   *
   * @example
   * if (response.status === 429) {
   *   await queue.rateLimit(Number(response.headers.get('retry-after')) * 1000);
   *   throw new RateLimitError();
   * }
   */
  async rateLimit(ms: number): Promise<void> {
    const wanted = checkDuration(ms, 'ms');
    return (await this.link.ready()).hold(this.name, wanted);
  }

  clearRateLimit(): Promise<void> {
    return this.configure({ rateLimit: null });
  }

  /** At most `count` runs at a time, over all workers and threads. */
  setConcurrency(count: number): Promise<void> {
    return this.configure({ concurrency: count });
  }

  clearConcurrency(): Promise<void> {
    return this.configure({ concurrency: null });
  }

  /** BullMQ's name of `setRateLimit(max, duration)`. */
  setGlobalRateLimit(max: number, duration: number): Promise<void> {
    return this.setRateLimit({ max, duration });
  }

  /** BullMQ's name of `clearRateLimit`. */
  removeGlobalRateLimit(): Promise<void> {
    return this.clearRateLimit();
  }

  /** BullMQ's name of `setConcurrency`. */
  setGlobalConcurrency(count: number): Promise<void> {
    return this.setConcurrency(count);
  }

  /** BullMQ's name of `clearConcurrency`. */
  removeGlobalConcurrency(): Promise<void> {
    return this.clearConcurrency();
  }

  // ---- the circuit breaker of its workers -------------------------------------------------------------------------------------

  /**
   * The circuit breaker of the Workers with that `circuitBreaker.key` (default: the queue's name); undefined when this engine has none.
   *
   * @example
   * const { state, retryAfterMs } = (await queue.getCircuitBreaker()) ?? {};
   */
  async getCircuitBreaker(key: string = this.name): Promise<BreakerStatus | undefined> {
    return (await this.link.ready()).breaker(checkKey(key), undefined);
  }

  /** Opens it by hand, as if it had failed too often: its Workers claim nothing until its timeout is over. */
  async openCircuitBreaker(key: string = this.name): Promise<BreakerStatus | undefined> {
    return (await this.link.ready()).breaker(checkKey(key), 'open');
  }

  /** Closes it by hand: its Workers go on at once. */
  async closeCircuitBreaker(key: string = this.name): Promise<BreakerStatus | undefined> {
    return (await this.link.ready()).breaker(checkKey(key), 'close');
  }

  /** Closes it by hand, and forgets all that it has counted, and that it was ever open. */
  async resetCircuitBreaker(key: string = this.name): Promise<BreakerStatus | undefined> {
    return (await this.link.ready()).breaker(checkKey(key), 'reset');
  }

  // ---- dead letters -----------------------------------------------------------------------------------------------------------

  /**
   * Failed jobs, the newest first, with `failedReason`, `attemptsMade`, `finishedOn` and `dlq: {reason, enteredAt, attempts}`.
   *
   * @param count At most so many, 100 by default.
   * @param opts `offset`: so many of those that match are left out; `filter`: which ones, see `JobFilter` (`since` and `until` are about
   *   the moment at which they came to the dead letter queue).
   *
   * @example
   * const expired = await queue.getDlq(50, { filter: { reason: 'expired', since: Date.now() - 3_600_000 } });
   */
  async getDlq(
    count = 100,
    opts: { readonly offset?: number | undefined; readonly filter?: JobFilter | undefined } = {},
  ): Promise<Job<Data, Result, Name>[]> {
    checkOptionNames(checkObject(opts, 'opts'), 'opts', { known: ['offset', 'filter'] });
    const wanted = checkInteger(count, 'count', 0, INT32_MAX);
    const offset = opts.offset === undefined ? 0 : checkInteger(opts.offset, 'opts.offset', 0, INT32_MAX);
    const filter = opts.filter === undefined ? undefined : checkFilter(opts.filter, 'opts.filter', false);
    const connection = await this.link.ready();
    const snapshots = await connection.listFailed(this.name, offset, wanted, filter);
    return snapshots.map((one) => jobOfSnapshot(connection, one));
  }

  /** How many jobs have failed for good and are kept. */
  getDlqCount(): Promise<number> {
    return this.getFailedCount();
  }

  /**
   * Runs failed jobs again: a job, several, those that match a filter, or `'all'`, which is also what no argument means. They keep id,
   * data and history; attempts and lost runs are counted from zero, and `ttl` from now. One atomic step, dependencies first.
   *
   * A job that failed by its dependencies waits again for all that have not completed. While one of them has failed and is not among
   * these jobs, it stays where it is and isn't counted; with `withDependencies` these are retried, too, and what they depend on, in any depth and queue.
   * Whoever was told of the failure stays told.
   *
   * With a `redriveRate` (`queue.configure({ dlq: { redriveRate } })`) only the first runs at once; the others are delayed by turns.
   *
   * @returns How many were put back.
   * @throws ValidationError also for an explicit `undefined`, `null`, `{}` or an undefined member of a filter, so that a mistake doesn't
   *   retry everything; JobNotFoundError when a job that was named isn't there: then nothing has been done.
   *
   * @example
   * await queue.retryDlq({ reason: 'timeout' }, { withDependencies: true });
   */
  async retryDlq(
    ...selection: [which?: DlqSelection, opts?: { readonly withDependencies?: boolean }]
  ): Promise<number> {
    const which = dlqSelection(selection, true);
    const opts = retryOptions(selection[1]);
    return (await this.link.ready()).retryFailed(this.name, which, opts);
  }

  /**
   * Removes failed jobs for good, and forgets their ids: a job, several, those that match a filter, or `'all'`. One atomic step.
   * Dependents that still wait for one of them (policy `wait`) fail.
   *
   * @returns How many were removed.
   * @throws ValidationError also without an argument, and as `retryDlq`; JobNotFoundError when a job that was named isn't there.
   *
   * @example
   * await queue.purgeDlq({ until: Date.now() - 7 * 86_400_000 });
   */
  async purgeDlq(...selection: [which: DlqSelection]): Promise<number> {
    const which = dlqSelection(selection, false);
    return (await this.link.ready()).purgeFailed(this.name, which);
  }

  // ---- deduplication ----------------------------------------------------------------------------------------------------------

  /** The id of the job that holds a deduplication key (`deduplication: { id }`), or null. */
  async getDeduplicationJobId(id: string): Promise<string | null> {
    const key = checkText(id, 'id', JOB_ID_BYTES_MAX);
    return (await (await this.link.ready()).getKeyHolder(this.name, key)) ?? null;
  }

  /** Frees a deduplication key; its job stays, and the next add with the key makes another one. Returns how many were freed: 0 or 1. */
  async removeDeduplicationKey(id: string): Promise<number> {
    const key = checkText(id, 'id', JOB_ID_BYTES_MAX);
    return (await (await this.link.ready()).releaseKey(this.name, key)) ? 1 : 0;
  }

  // ---- crons ------------------------------------------------------------------------------------------------------------------

  /** The crons whose jobs go to this queue, or with `{ all: true }` all of the engine, with `next`, `last` and `runs`. */
  async listCrons(opts: { readonly all?: boolean } = {}): Promise<CronInfo[]> {
    checkOptionNames(checkObject(opts, 'opts'), 'opts', { known: ['all'] });
    const all = opts.all === undefined ? false : checkBoolean(opts.all, 'opts.all');
    return (await this.link.ready()).listCrons(this.name, { all });
  }

  /** No further ticks. Jobs that it has made stay. False when there was no such cron. Names are the engine's: any Queue will do. */
  async removeCron(name: string): Promise<boolean> {
    const wanted = checkCronName(name);
    return (await this.link.ready()).removeCron(this.name, wanted);
  }

  /** The same as `removeCron`. */
  deleteCron(name: string): Promise<boolean> {
    return this.removeCron(name);
  }

  /**
   * One job now, as a tick would make it, whether the cron is paused, over, or overlapping. It is no tick: it has a generated id and counts
   * neither for `limit` nor for `runs`. While it runs, the next tick overlaps.
   *
   * @throws ValidationError when there is no such cron; JobRemovedError when its jobs have a `deduplication` key that is held, by its `ttl`,
   *   for a job of which there is no record any more.
   */
  async triggerCron(name: string): Promise<Job> {
    const wanted = checkCronName(name);
    const connection = await this.link.ready();
    return jobOfSnapshot(connection, await connection.triggerCron(this.name, wanted));
  }

  /** No ticks until `resumeCron`; those that pass meanwhile are not made up for. */
  async pauseCron(name: string): Promise<void> {
    const wanted = checkCronName(name);
    return (await this.link.ready()).pauseCron(this.name, wanted);
  }

  async resumeCron(name: string): Promise<void> {
    const wanted = checkCronName(name);
    return (await this.link.ready()).resumeCron(this.name, wanted);
  }

  // ---- the end ----------------------------------------------------------------------------------------------------------------

  /** Resolves when the engine is open; calls don't need it. */
  async waitUntilReady(): Promise<void> {
    await this.link.ready();
  }

  /** Later calls on this object reject. The queue itself and its engine stay. */
  async close(): Promise<void> {
    this.link.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
