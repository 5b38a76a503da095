/** What the methods of a queue take besides jobs: their types and checks. */
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkObject,
  checkOptionNames,
  INT32_MAX,
  type KnownNames,
  refuse,
} from './checks.js';
import type { GroupsConfig, JobRef, QueueConfig } from './connection.js';
import type { ConnectionInput } from './default-connection.js';
import { ValidationError } from './errors.js';
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
export type DlqSelection = JobReference | readonly JobReference[] | 'all';

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

/** undefined: all. */
export function dlqRefs(selection: readonly unknown[]): JobRef[] | undefined {
  const [which] = selection;
  if (selection.length === 0 || which === 'all') return undefined;
  if (Array.isArray(which)) return normaliseRefs(which, 'refs');
  if (typeof which === 'object' && which !== null && !('id' in which)) {
    throw new ValidationError('Filters of the dead letter queue are not supported yet in this version of flashQ.', {
      path: 'ref',
    });
  }
  return [normaliseRef(which)];
}

const CONFIG_NAMES: KnownNames = {
  known: ['rateLimit', 'concurrency', 'groups', 'aging'],
  later: ['dlq', 'idempotencyTtl', 'idempotencyMax', 'maxDeliveries'],
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
