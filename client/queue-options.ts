/** What the methods of a queue take besides jobs: their types and checks. */
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  checkOptionNames,
  INT32_MAX,
  type KnownNames,
  refuse,
} from './checks.js';
import type {
  DlqConfig,
  FailedSelection,
  GroupsConfig,
  JobQuery,
  JobRange,
  JobState,
  QueueConfig,
} from './connection.js';
import type { ConnectionInput } from './default-connection.js';
import { checkFilter, type JobFilter } from './job-filter.js';
import type { AddOptions } from './options.js';
import { type JobReference, normaliseRef, normaliseRefs } from './references.js';

export interface QueueOptions {
  /** An Engine, `'memory'`, or a connection. Default: this process's engine. */
  readonly connection?: ConnectionInput | undefined;
  /** For what an `add` leaves open; of this object only. */
  readonly defaultJobOptions?: AddOptions | undefined;
}

export interface WaitOptions {
  /** Milliseconds after which to give up; none by default. 0 gives up unless it has finished already. */
  readonly timeout?: number | undefined;
}

/** Which jobs of the dead letter queue. */
export type DlqSelection = JobReference | readonly JobReference[] | JobFilter | 'all';

export const QUEUE_OPTIONS: KnownNames = {
  known: ['connection', 'defaultJobOptions'],
  elsewhere: {
    defaultJobOpts: 'it is called defaultJobOptions.',
    prefix: 'queues of different engines share nothing. Leave it out.',
    streams: 'events are kept by the engine. Leave it out.',
    settings: 'settings belong to the Worker.',
    limiter: 'call queue.setRateLimit.',
    skipVersionCheck: 'there is no server of another make whose version could matter. Leave it out.',
    skipMetasUpdate: 'there is no such data. Leave it out.',
    telemetry: 'the trace context travels by itself.',
  },
};

function checkTimeout(timeout: unknown): number | undefined {
  return timeout === undefined ? undefined : checkDuration(timeout, 'timeout');
}

export function waitOptions(opts: unknown): { timeout: number | undefined; settled: boolean } {
  if (opts === undefined) return { timeout: undefined, settled: false };
  if (typeof opts === 'number') return { timeout: checkTimeout(opts), settled: false };
  const given = checkObject(opts, 'opts');
  checkOptionNames(given, 'opts', { known: ['timeout', 'settled'] });
  const settled = given.settled === undefined ? false : checkBoolean(given.settled, 'opts.settled');
  return { timeout: checkTimeout(given.timeout), settled };
}

/** The last argument of `addAndWait`. */
export function waitTimeout(wait: unknown): number | undefined {
  if (wait === undefined) return undefined;
  const given = checkObject(wait, 'wait');
  checkOptionNames(given, 'wait', { known: ['timeout'] });
  return checkTimeout(given.timeout);
}

/**
 * What `retryDlq` and `purgeDlq` were given. An explicit `undefined`, `null` or `{}` is refused: a mistake must not choose everything.
 * `all`: whether no argument at all means all of them.
 */
export function dlqSelection(selection: readonly unknown[], all: boolean): FailedSelection {
  const [which] = selection;
  if (which === 'all' || (all && selection.length === 0)) return 'all';
  if (Array.isArray(which)) return normaliseRefs(which, 'refs');
  if (typeof which === 'object' && which !== null && !('id' in which)) return checkFilter(which, 'filter', true);
  if (typeof which === 'string' || typeof which === 'object') return [normaliseRef(which)];
  return refuse('which', "be a job, jobs, a filter, or 'all'", which);
}

export function retryOptions(opts: unknown): { withDependencies: boolean } {
  if (opts === undefined) return { withDependencies: false };
  const given = checkObject(opts, 'opts');
  checkOptionNames(given, 'opts', { known: ['withDependencies'] });
  const { withDependencies = false } = given;
  return { withDependencies: checkBoolean(withDependencies, 'opts.withDependencies') };
}

/** Which jobs `getJobs` reads. */
export interface GetJobsOptions {
  /** Default: all of them. */
  readonly states?: readonly JobState[] | undefined;
  /** At most so many, from 1 to 10,000. Default 100. */
  readonly limit?: number | undefined;
  /** Where the page before this one ended. */
  readonly cursor?: string | undefined;
  readonly filter?: JobFilter | undefined;
}

export const JOB_STATES: readonly JobState[] = [
  'waiting',
  'delayed',
  'blocked',
  'active',
  'completed',
  'failed',
  'cancelled',
];
const PAGE_JOBS = 100;
const PAGE_JOBS_MAX = 10_000;

export function jobQuery(opts: unknown): JobQuery {
  const given = checkObject(opts, 'opts');
  checkOptionNames(given, 'opts', {
    known: ['states', 'limit', 'cursor', 'filter'],
    elsewhere: {
      types: 'it is called states here.',
      start: 'pages go on where the one before ended: see cursor. Or take getWaiting(start, end) and its like.',
      state: 'it is called states here: an array.',
    },
  });
  const { states, limit, cursor, filter } = given;
  if (states !== undefined && !Array.isArray(states)) refuse('opts.states', 'be an array of states', states);
  if (cursor !== undefined && typeof cursor !== 'string') refuse('opts.cursor', 'be the cursor of a page', cursor);
  return {
    states: states?.map((one, i) => checkOneOf(one, `opts.states[${i}]`, JOB_STATES)) ?? JOB_STATES,
    limit: limit === undefined ? PAGE_JOBS : checkInteger(limit, 'opts.limit', 1, PAGE_JOBS_MAX),
    cursor,
    filter: filter === undefined ? undefined : checkFilter(filter, 'opts.filter', false),
  };
}

/** `end` below 0 counts from the last, as in BullMQ: -1 is the last one itself. */
export function jobRange(start: unknown, end: unknown, newestFirst: boolean): JobRange {
  const last = checkInteger(end, 'end', -1, INT32_MAX);
  return { start: checkInteger(start, 'start', 0, INT32_MAX), end: last === -1 ? INT32_MAX : last, newestFirst };
}

const CLEANABLE = JOB_STATES.filter((state) => state !== 'active');

export function cleanState(state: unknown): JobState {
  if (state === 'active') refuse('state', 'not be active: a running job is cancelled, not cleaned away', state);
  return checkOneOf(state === 'wait' ? 'waiting' : state, 'state', CLEANABLE);
}

const CONFIG_NAMES: KnownNames = {
  known: ['rateLimit', 'concurrency', 'groups', 'aging', 'dlq', 'idempotencyTtl', 'idempotencyMax', 'maxDeliveries'],
  elsewhere: { limiter: 'it is called rateLimit here.' },
};

/** Start times and permits are cells of fixed tables in the engine. */
const LIMIT_MAX = 65_534;

export function checkConfig(config: unknown): QueueConfig {
  const given = checkObject(config, 'config');
  checkOptionNames(given, 'config', CONFIG_NAMES);
  const { rateLimit, concurrency } = given;
  const wanted: QueueConfig = {};
  if (rateLimit === null) wanted.rateLimit = null;
  else if (rateLimit !== undefined) wanted.rateLimit = checkRateLimit(rateLimit, 'config.rateLimit');
  if (concurrency === null) wanted.concurrency = null;
  else if (concurrency !== undefined)
    wanted.concurrency = checkInteger(concurrency, 'config.concurrency', 1, LIMIT_MAX);
  if (given.groups === null) wanted.groups = null;
  else if (given.groups !== undefined) wanted.groups = checkGroups(given.groups);
  if (given.aging === null) wanted.aging = null;
  else if (given.aging !== undefined) wanted.aging = checkAging(given.aging);
  checkKept(given, wanted);
  return wanted;
}

function checkGroups(value: unknown): GroupsConfig {
  const given = checkObject(value, 'config.groups');
  checkOptionNames(given, 'config.groups', {
    known: ['concurrency', 'rateLimit'],
    elsewhere: { limit: 'it is called rateLimit here.', limiter: 'it is called rateLimit here.' },
  });
  const { concurrency, rateLimit } = given;
  const wanted: GroupsConfig = {};
  if (concurrency !== undefined && concurrency !== null)
    wanted.concurrency = checkInteger(concurrency, 'config.groups.concurrency', 1, INT32_MAX);
  if (rateLimit !== undefined && rateLimit !== null)
    wanted.rateLimit = checkRateLimit(rateLimit, 'config.groups.rateLimit');
  return wanted;
}

function checkAging(value: unknown): { every: number; step: number; max: number } {
  const given = checkObject(value, 'config.aging');
  checkOptionNames(given, 'config.aging', { known: ['every', 'step', 'max'] });
  const every = checkDuration(given.every, 'config.aging.every');
  if (every === 0) refuse('config.aging.every', 'be more than 0 ms', every);
  const step = given.step === undefined ? 1 : checkInteger(given.step, 'config.aging.step', 1, INT32_MAX);
  return { every, step, max: checkInteger(given.max, 'config.aging.max', 1, INT32_MAX) };
}

/** What is kept of jobs that have ended, and how often they may be lost. */
function checkKept(given: Record<string, unknown>, wanted: QueueConfig): void {
  const { dlq, idempotencyTtl, idempotencyMax, maxDeliveries } = given;
  if (dlq !== undefined) wanted.dlq = dlq === null ? null : checkDlq(dlq);
  if (idempotencyTtl !== undefined)
    wanted.idempotencyTtl = idempotencyTtl === null ? null : checkDuration(idempotencyTtl, 'config.idempotencyTtl');
  if (idempotencyMax !== undefined)
    wanted.idempotencyMax =
      idempotencyMax === null ? null : checkInteger(idempotencyMax, 'config.idempotencyMax', 0, INT32_MAX);
  if (maxDeliveries !== undefined)
    wanted.maxDeliveries =
      maxDeliveries === null ? null : checkInteger(maxDeliveries, 'config.maxDeliveries', 1, DELIVERIES_MAX);
}

const DELIVERIES_MAX = 255;
const REDRIVE_RATE_MIN = 0.001;
const REDRIVE_RATE_MAX = 1_000_000;

function checkDlq(value: unknown): DlqConfig {
  const path = 'config.dlq';
  const given = checkObject(value, path);
  checkOptionNames(given, path, {
    known: ['age', 'count', 'threshold', 'redriveRate'],
    elsewhere: { maxAge: 'it is called age here (milliseconds).', limit: 'it is called count here.' },
  });
  const { age, count, threshold, redriveRate } = given;
  const most = count === undefined ? INT32_MAX : checkInteger(count, `${path}.count`, 1, INT32_MAX);
  return {
    ...(age === undefined ? {} : { age: checkDuration(age, `${path}.age`) }),
    ...(count === undefined ? {} : { count: most }),
    ...(threshold === undefined ? {} : { threshold: checkInteger(threshold, `${path}.threshold`, 1, most) }),
    ...(redriveRate === undefined
      ? {}
      : { redriveRate: checkNumber(redriveRate, `${path}.redriveRate`, REDRIVE_RATE_MIN, REDRIVE_RATE_MAX) }),
  };
}

/** @throws ValidationError */
export function checkRateLimit(value: unknown, path: string): { max: number; duration: number } {
  const given = checkObject(value, path);
  checkOptionNames(given, path, {
    known: ['max', 'duration'],
    elsewhere: { groupKey: 'limits of groups are set with queue.configure({ groups: { rateLimit } }).' },
  });
  const duration = checkDuration(given.duration, `${path}.duration`);
  if (duration === 0) refuse(`${path}.duration`, 'be more than 0 ms', duration);
  return { max: checkInteger(given.max, `${path}.max`, 1, LIMIT_MAX), duration };
}
