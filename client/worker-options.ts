/** The options of a Worker: what users write, what other libraries call otherwise, and the defaults. */

import type { KnownNames } from './checks.js';
import {
  checkBoolean,
  checkDuration,
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  checkOptionNames,
  INT32_MAX,
  refuse,
} from './checks.js';
import type { BatchSettings, BreakerSettings } from './connection.js';
import type { ConnectionInput } from './default-connection.js';
import { ValidationError } from './errors.js';
import type { RunnerSettings } from './outcome.js';
import { checkRateLimit } from './queue-options.js';

export interface WorkerOptions {
  /** An Engine, `'memory'`, or a connection. Default: this process's engine. */
  readonly connection?: ConnectionInput | undefined;
  /** Runs at a time of this Worker, over all its threads. Default 1; for files, as many as it has threads. */
  readonly concurrency?: number | undefined;
  /** For handlers that are files: threads of this Worker alone. Default: one less than the machine has, at least 1. */
  readonly threads?: number | undefined;
  /** Milliseconds that a handler has to end after its `signal` aborted. Default 5000. */
  readonly abortGrace?: number | undefined;
  /** `false`: claims nothing before `run()`. Default true. */
  readonly autorun?: boolean | undefined;
  /** Backoff strategies by name, and how to read a delay from strangers' errors. For function handlers. */
  readonly settings?: RunnerSettings | undefined;
  /** For handlers that are files: replaces a thread after so many jobs, or when its heap exceeds so many MB. */
  readonly recycle?: { readonly jobs?: number | undefined; readonly heapMb?: number | undefined } | undefined;
  /** Calls `queue.setRateLimit` when the Worker starts: the limit is the queue's, for all its workers. */
  readonly limiter?: { readonly max: number; readonly duration: number } | undefined;
  /** Stops claiming while what the handler calls is out of order. */
  readonly circuitBreaker?: WorkerBreakerOptions | undefined;
  /** Hands many jobs to the handler at once; it gets an array of jobs and returns an array of results. */
  readonly batch?: BatchOptions | undefined;
}

/** Limits count jobs and shorten batches; `concurrency` counts batches. Jobs stay waiting until a batch of theirs begins. */
export interface BatchOptions {
  /** Jobs in a batch at most: 10,000 for functions, 500 for files. */
  readonly size: number;
  /** Waits until there are so many. Default 1; with a `maxWait`, `size`. */
  readonly minSize?: number | undefined;
  /** Milliseconds after which fewer will do. Needed for a `minSize` above 1. */
  readonly maxWait?: number | undefined;
  /** The same as `maxWait`. */
  readonly timeout?: number | undefined;
  /** All jobs of a batch are of one group. Default false. */
  readonly groupAffinity?: boolean | undefined;
}

/**
 * A circuit breaker, shared by all Workers of an engine that name the same `key`: after `threshold` failures in a row none of them claims
 * for `timeout` ms; the jobs stay waiting, and no attempt is wasted. Then `halfOpenMax` jobs are let through to try it. When one of them
 * fails it opens again, for twice as long (`timeoutMax` at most).
 */
export interface WorkerBreakerOptions {
  /** Workers with one key share one breaker. Default: the queue's name. */
  readonly key?: string | undefined;
  /** Failures in a row that open it. Default 5. */
  readonly threshold?: number | undefined;
  /** Opens it, too: the share of failures (0 to 1) among the outcomes of the last `window` ms, if those are `minimum` or more. */
  readonly errorRate?: number | undefined;
  /** Milliseconds. Default 60,000. */
  readonly window?: number | undefined;
  /** Default 20. */
  readonly minimum?: number | undefined;
  /** Milliseconds that it stays open. Default 60,000. */
  readonly timeout?: number | undefined;
  /** Milliseconds that it stays open at most, however often it has opened again. Default 600,000. */
  readonly timeoutMax?: number | undefined;
  /** Jobs that may run at a time while it is half-open. Default 1, at most 255. */
  readonly halfOpenMax?: number | undefined;
  /** How many of them must succeed to close it. Default 1. */
  readonly successThreshold?: number | undefined;
  /**
   * Whether an error counts. By default all but `UnrecoverableError`; `RateLimitError`, `DelayedError` and cancellation never do. For
   * functions; a handler file exports `settings = { isFailure }`.
   */
  readonly isFailure?: ((error: unknown) => boolean) | undefined;
}

export interface CloseOptions {
  /** Milliseconds that running jobs get to end by themselves. Default 30,000. */
  readonly timeout?: number | undefined;
  /**
   * What then happens to those that still run: `requeue` (default) gives them back without counting an attempt, `fail` fails their
   * attempt, `wait` waits on.
   */
  readonly onTimeout?: 'requeue' | 'wait' | 'fail' | undefined;
}

export const WORKER_DEFAULTS = Object.freeze({
  concurrency: 1,
  abortGrace: 5000,
  closeTimeout: 30_000,
  onTimeout: 'requeue',
} as const);

/** A runner looks through its runs to abort one; beyond this, claims cost more than they bring. */
const CONCURRENCY_MAX = 100_000;
const THREADS_MAX = 256;

const STALLED = 'lost runs are noticed at once here; how many are permitted is the job option maxDeliveries.';

const WORKER_OPTIONS: KnownNames = {
  known: [
    'connection',
    'concurrency',
    'threads',
    'abortGrace',
    'autorun',
    'settings',
    'recycle',
    'limiter',
    'circuitBreaker',
    'batch',
  ],
  later: ['lockDuration', 'name'],
  elsewhere: {
    lockRenewTime: 'leases are renewed by themselves. Leave it out.',
    stalledInterval: STALLED,
    maxStalledCount: STALLED,
    skipStalledCheck: STALLED,
    maxStartedAttempts: 'give the jobs attempts.',
    drainDelay: 'workers are woken by what is added. Leave it out.',
    runRetryDelay: 'workers are woken by what is added. Leave it out.',
    useWorkerThreads: 'a handler that is a file always runs on threads. Leave it out.',
    removeOnComplete: 'it is an option of the job (or defaultJobOptions of the Queue).',
    removeOnFail: 'it is an option of the job (or defaultJobOptions of the Queue).',
    prefix: 'queues of different engines share nothing. Leave it out.',
    metrics: 'the engine counts by itself. Leave it out.',
    telemetry: 'the trace context travels by itself. Leave it out.',
    rateLimit: 'it is called limiter here.',
    maxConcurrency: 'it is called concurrency here.',
  },
};

const SETTINGS_NAMES: KnownNames = {
  known: ['backoffStrategies', 'backoffStrategy', 'retryAfter', 'isFailure'],
  elsewhere: { repeatStrategy: 'crons have a schedule or every: queue.addCron.' },
};

/** What is left when everything has been checked. `concurrency` is undefined for files that leave it to their threads. */
export interface CheckedWorkerOptions {
  readonly concurrency: number | undefined;
  readonly threads: number | undefined;
  readonly abortGraceMs: number;
  readonly autorun: boolean;
  readonly settings: RunnerSettings;
  readonly recycle: { readonly jobs?: number; readonly heapMb?: number };
  readonly limiter: { readonly max: number; readonly duration: number } | undefined;
  readonly breaker: BreakerSettings | undefined;
  readonly batch: BatchSettings | undefined;
}

export function checkConcurrency(value: unknown, path: string): number {
  return checkInteger(value, path, 1, CONCURRENCY_MAX);
}

function checkSettings(value: unknown): RunnerSettings {
  const given = checkObject(value, 'opts.settings');
  checkOptionNames(given, 'opts.settings', SETTINGS_NAMES);
  const { backoffStrategies, backoffStrategy, retryAfter } = given;
  if (backoffStrategies !== undefined) {
    const named = checkObject(backoffStrategies, 'opts.settings.backoffStrategies');
    for (const name of Object.keys(named)) {
      checkFunction(named[name], `opts.settings.backoffStrategies.${name}`);
      if (name !== 'fixed' && name !== 'exponential') continue;
      const path = `opts.settings.backoffStrategies.${name}`;
      throw new ValidationError(`${path}: '${name}' is built in. Give yours another name.`, { path });
    }
  }
  if (backoffStrategy !== undefined) checkFunction(backoffStrategy, 'opts.settings.backoffStrategy');
  if (retryAfter !== undefined) checkFunction(retryAfter, 'opts.settings.retryAfter');
  return given as RunnerSettings;
}

function checkRecycle(value: unknown): { jobs?: number; heapMb?: number } {
  const given = checkObject(value, 'opts.recycle');
  checkOptionNames(given, 'opts.recycle', { known: ['jobs', 'heapMb'] });
  const recycle: { jobs?: number; heapMb?: number } = {};
  if (given.jobs !== undefined) recycle.jobs = checkInteger(given.jobs, 'opts.recycle.jobs', 1, 0x7fffffff);
  if (given.heapMb !== undefined) recycle.heapMb = checkInteger(given.heapMb, 'opts.recycle.heapMb', 8, 1_048_576);
  return recycle;
}

const BREAKER_NAMES: KnownNames = {
  known: [
    'key',
    'threshold',
    'errorRate',
    'window',
    'minimum',
    'timeout',
    'timeoutMax',
    'halfOpenMax',
    'successThreshold',
    'isFailure',
  ],
  elsewhere: {
    resetTimeout: 'it is called timeout here.',
    failureThreshold: 'it is called threshold here.',
    errorThresholdPercentage: 'it is called errorRate here, from 0 to 1.',
    volumeThreshold: 'it is called minimum here.',
  },
};

const KEY_MAX = 256;

function checkBreaker(value: unknown, isFile: boolean): BreakerSettings {
  const path = 'opts.circuitBreaker';
  const given = checkObject(value, path);
  checkOptionNames(given, path, BREAKER_NAMES);
  const { key, errorRate, isFailure } = given;
  if (key !== undefined && (typeof key !== 'string' || key === '' || key.length > KEY_MAX))
    refuse(`${path}.key`, `be a string of 1 to ${KEY_MAX} characters`, key);
  if (isFailure !== undefined) checkFunction(isFailure, `${path}.isFailure`);
  if (isFailure !== undefined && isFile) {
    throw new ValidationError(
      `${path}.isFailure would do nothing: functions do not cross to the threads of a handler file. Let the file export settings = { isFailure }.`,
      { path: `${path}.isFailure` },
    );
  }
  const count = (name: string, standard: number, most: number): number =>
    given[name] === undefined ? standard : checkInteger(given[name], `${path}.${name}`, 1, most);
  const duration = (name: string, standard: number): number => {
    const ms = given[name] === undefined ? standard : checkDuration(given[name], `${path}.${name}`);
    if (ms === 0) refuse(`${path}.${name}`, 'be more than 0 ms', ms);
    return ms;
  };
  const timeout = duration('timeout', 60_000);
  return {
    ...(key === undefined ? {} : { key: key as string }),
    ...(errorRate === undefined ? {} : { errorRate: checkNumber(errorRate, `${path}.errorRate`, 0, 1) }),
    threshold: count('threshold', 5, 1_000_000),
    window: duration('window', 60_000),
    minimum: count('minimum', 20, INT32_MAX),
    timeout,
    timeoutMax: Math.max(timeout, duration('timeoutMax', 600_000)),
    halfOpenMax: count('halfOpenMax', 1, 255),
    successThreshold: count('successThreshold', 1, INT32_MAX),
  };
}

const BATCH_NAMES: KnownNames = {
  known: ['size', 'minSize', 'maxWait', 'timeout', 'groupAffinity'],
  elsewhere: { affinity: 'it is called groupAffinity here.' },
};
/** A thread holds a run in its claim table, and room in its ring, for each job. */
const BATCH_MAX_FILE = 500;
const BATCH_MAX = 10_000;

function checkBatch(value: unknown, isFile: boolean): BatchSettings {
  const path = 'opts.batch';
  const given = checkObject(value, path);
  checkOptionNames(given, path, BATCH_NAMES);
  const size = checkInteger(given.size, `${path}.size`, 1, isFile ? BATCH_MAX_FILE : BATCH_MAX);
  if (given.maxWait !== undefined && given.timeout !== undefined) {
    throw new ValidationError(`${path}.maxWait and ${path}.timeout are the same option: give one of them.`, {
      path: `${path}.timeout`,
    });
  }
  const wait = given.maxWait ?? given.timeout;
  const maxWait = wait === undefined ? undefined : checkDuration(wait, `${path}.maxWait`);
  const standard = maxWait === undefined ? 1 : size;
  const minSize = given.minSize === undefined ? standard : checkInteger(given.minSize, `${path}.minSize`, 1, size);
  if (minSize > 1 && maxWait === undefined)
    refuse(
      `${path}.maxWait`,
      `be set for a minSize of ${minSize}: with fewer jobs than that, none would ever run`,
      wait,
    );
  const affinity = given.groupAffinity;
  return {
    size,
    minSize,
    maxWait: maxWait ?? 0,
    groupAffinity: affinity === undefined ? false : checkBoolean(affinity, `${path}.groupAffinity`),
  };
}

/** Options that would do nothing for this kind of handler. */
function refuseUseless(opts: WorkerOptions, isFile: boolean): void {
  const useless = isFile ? (['settings'] as const) : (['threads', 'recycle'] as const);
  for (const name of useless) {
    if (opts[name] === undefined) continue;
    const why = isFile
      ? 'functions do not cross to the threads of a handler file'
      : 'it is for handlers that are files; a function runs on the thread that made the Worker';
    throw new ValidationError(`opts.${name} would do nothing: ${why}.`, { path: `opts.${name}` });
  }
}

/** @throws ValidationError */
export function checkWorkerOptions(opts: WorkerOptions, isFile: boolean): CheckedWorkerOptions {
  checkOptionNames(checkObject(opts, 'opts'), 'opts', WORKER_OPTIONS);
  refuseUseless(opts, isFile);
  const { concurrency, threads, abortGrace, autorun, settings, recycle, limiter, circuitBreaker, batch } = opts;
  const runs = concurrency === undefined ? undefined : checkConcurrency(concurrency, 'opts.concurrency');
  return {
    concurrency: runs ?? (isFile ? undefined : WORKER_DEFAULTS.concurrency),
    threads: threads === undefined ? undefined : checkInteger(threads, 'opts.threads', 1, THREADS_MAX),
    abortGraceMs: abortGrace === undefined ? WORKER_DEFAULTS.abortGrace : checkDuration(abortGrace, 'opts.abortGrace'),
    autorun: autorun === undefined ? true : checkBoolean(autorun, 'opts.autorun'),
    settings: {
      ...(settings === undefined ? {} : checkSettings(settings)),
      ...(circuitBreaker?.isFailure === undefined ? {} : { isFailure: circuitBreaker.isFailure }),
    },
    recycle: recycle === undefined ? {} : checkRecycle(recycle),
    limiter: limiter === undefined ? undefined : checkRateLimit(limiter, 'opts.limiter'),
    breaker: circuitBreaker === undefined ? undefined : checkBreaker(circuitBreaker, isFile),
    batch: batch === undefined ? undefined : checkBatch(batch, isFile),
  };
}
