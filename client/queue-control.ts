/** What is done to a queue as a whole, rather than to a job: counting, pausing, emptying, limits, dead letters. */
import {
  checkBoolean,
  checkInteger,
  checkObject,
  checkOptionNames,
  checkQueueName,
  INT32_MAX,
  refuse,
} from './checks.js';
import type { BreakerStatus, CronInfo, JobCounts, JobState, QueueConfig } from './connection.js';
import { checkCronName } from './cron.js';
import { ConnectionLink } from './default-connection.js';
import { type Job, jobOfSnapshot } from './job.js';
import { checkConfig, type DlqSelection, dlqRefs, QUEUE_OPTIONS, type QueueOptions } from './queue-options.js';

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

  /** Failed jobs, the newest first, with `failedReason` and `dlq`. */
  async getDlq(count = 100, opts: { readonly offset?: number } = {}): Promise<Job<Data, Result, Name>[]> {
    checkOptionNames(checkObject(opts, 'opts'), 'opts', { known: ['offset'], later: ['filter'] });
    const wanted = checkInteger(count, 'count', 0, INT32_MAX);
    const offset = opts.offset === undefined ? 0 : checkInteger(opts.offset, 'opts.offset', 0, INT32_MAX);
    const connection = await this.link.ready();
    const snapshots = await connection.listFailed(this.name, offset, wanted);
    return snapshots.map((one) => jobOfSnapshot(connection, one));
  }

  /** How many jobs have failed for good and are kept. */
  getDlqCount(): Promise<number> {
    return this.getFailedCount();
  }

  /**
   * Runs failed jobs again, their attempts counted from zero; atomic. `retryDlq()` and `retryDlq('all')` take all of them. Returns
   * how many were retried.
   *
   * @throws ValidationError also for an explicit `undefined`, so that a mistake doesn't retry everything.
   */
  async retryDlq(...selection: [which?: DlqSelection]): Promise<number> {
    const refs = dlqRefs(selection);
    return (await this.link.ready()).retryFailed(this.name, refs);
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
   * @throws ValidationError when there is no such cron.
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
