/**
 * The options of a job: what users write (`AddOptions`), what the engine reads (`JobOptions`, the normalised form), the defaults,
 * and the way from one to the other.
 */
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkJobId,
  checkNumber,
  checkObject,
  checkOneOf,
  checkOptionNames,
  checkText,
  DURATION_MAX_MS,
  INT32_MAX,
  JOB_ID_BYTES_MAX,
  type KnownNames,
  nearest,
  refuse,
  refuseOption,
} from './checks.js';
import type { CronTick, JobRef } from './connection.js';
import { ValidationError } from './errors.js';
import { type JobReference, normaliseRefs } from './references.js';

// ---- what users write -----------------------------------------------------------------------------------------------------

export interface BackoffInput {
  /** `fixed`, `exponential`, or the name of one of the Worker's `settings.backoffStrategies`. */
  readonly type: 'fixed' | 'exponential' | (string & {});
  /** Milliseconds before the first retry. Needed for `fixed` and `exponential`; named strategies: used where there is no such name, 1000. */
  readonly delay?: number | undefined;
  /** By how much each retry waits longer (`exponential`): 2. From 1 to 1000. */
  readonly factor?: number | undefined;
  /** No retry waits longer than this many milliseconds. */
  readonly maxDelay?: number | undefined;
  /** From 0 to 1: a retry waits between `(1 - jitter) × d` and `d`, uniformly. Default 0. */
  readonly jitter?: number | undefined;
}

/** `true`: remove at once. `false`: keep. A number: how many to keep. `age` in ms: how long. */
export type RetentionInput =
  | boolean
  | number
  | { readonly age?: number | undefined; readonly count?: number | undefined };

export type OnDuplicate = 'return' | 'replace' | 'error' | 'rerun';
export type OnDependencyFailure = 'fail' | 'run' | 'run-now' | 'cancel' | 'wait';

/**
 * While a job holds the key `id`, adds with it give that job, `deduplicated`. Without a `ttl` the key is held until the job has
 * completed, failed for good or been cancelled (simple); with one, for so long from the add on (throttle). With `replace` and a
 * `delay` the newest add counts (debounce). Unlike `jobId` nothing is remembered, and two jobs of one key have two ids.
 */
export interface DeduplicationOptions {
  /** 1 to 512 bytes; a key belongs to its queue. */
  readonly id: string;
  /** Milliseconds, from 1. */
  readonly ttl?: number | undefined;
  /** An add that meets the key lets its `ttl` begin anew. Default false. */
  readonly extend?: boolean | undefined;
  /** An add that meets the key of a job that is still delayed gives this job its own data, options and delay. Default false. */
  readonly replace?: boolean | undefined;
  /** An add that meets the key of a running job is kept, only the last one, and added when that job has ended. Not with `ttl`. Default false. */
  readonly keepLastIfActive?: boolean | undefined;
}

/** The options of `queue.add`. Times are milliseconds. A member that is `undefined` counts as absent. */
export interface AddOptions {
  /** Runs no earlier than this after admission (a blocked job: after its release). Default 0. */
  readonly delay?: number | undefined;
  /** A 32-bit whole number; higher runs first. Default 0. */
  readonly priority?: number | undefined;
  /** Goes to the head of its priority, not to the tail. Default false. */
  readonly lifo?: boolean | undefined;
  /** How often the job may run in all, the first run included. Default 1. */
  readonly attempts?: number | undefined;
  /** How long a retry waits; a number means fixed. Default: no wait. */
  readonly backoff?: number | BackoffInput | undefined;
  /** How long each run may take; 0 is no limit, the default. */
  readonly timeout?: number | undefined;
  /** The job must have started within `delay` plus this time, or it fails with the reason `expired`; 0 is no limit, the default. */
  readonly ttl?: number | undefined;
  /** `false`: the time in which the queue is paused doesn't count for `ttl`. Default true. */
  readonly expireWhilePaused?: boolean | undefined;
  /** Your own id, unique in the queue, to 512 bytes: adding it again returns the job that is there. */
  readonly jobId?: string | undefined;
  /** What to do when the `jobId` is there already. Default `return`. */
  readonly onDuplicate?: OnDuplicate | undefined;
  /** Runs when all of these have completed. Repeats collapse; `[]` means none. */
  readonly dependsOn?: readonly JobReference[] | undefined;
  /** The same as `dependsOn`. */
  readonly depends_on?: readonly JobReference[] | undefined;
  /** What to do when a dependency can't complete any more. Default `fail`. */
  readonly onDependencyFailure?: OnDependencyFailure | undefined;
  /** Default `{ age: 1 h, count: 10_000 }`. Holds for cancelled jobs too. */
  readonly removeOnComplete?: RetentionInput | undefined;
  /** Default `false`: failed jobs stay in the dead letter queue. */
  readonly removeOnFail?: RetentionInput | undefined;
  /** How long the `jobId` is remembered after the job finished. Default 24 h. */
  readonly idempotencyTtl?: number | undefined;
  /** How many runs may be lost (thread or process died) before the job is given up. Default 5. */
  readonly maxDeliveries?: number | undefined;
  /** How many lines `job.log` keeps. Default 100. */
  readonly keepLogs?: number | undefined;
  /** Of how many attempts the stack is kept. Default 10. */
  readonly stackTraceLimit?: number | undefined;
  /** Milliseconds since the epoch to show as `job.timestamp` instead of the moment of admission. */
  readonly timestamp?: number | undefined;
  /** Jobs of one group take turns with those of others, whatever their number; limits of groups: `queue.configure({ groups })`. */
  readonly group?: { readonly id: string } | undefined;
  /** At most 32 words of at most 128 bytes by which jobs are found (`getJobs`, `getDlq` and their like, filter `tag`). */
  readonly tags?: readonly string[] | undefined;
  /** Lets one job stand for many adds. */
  readonly deduplication?: DeduplicationOptions | undefined;
}

// ---- what the engine reads ------------------------------------------------------------------------------------------------

/** `true`: remove at once. `false`: keep. Else the limits that are set, at least one of them, each above 0; `age` in ms. */
export type RetentionPolicy = boolean | { readonly age?: number; readonly count?: number };

/** Every member is set. `maxDelay` is `DURATION_MAX_MS` (1e13) when there is no limit. */
export interface BackoffOptions {
  readonly type: string;
  readonly delay: number;
  readonly factor: number;
  readonly maxDelay: number;
  readonly jitter: number;
}

/**
 * The normalised form. A member is there only if it was set (never `undefined`); `JOB_DEFAULTS` says what its absence means.
 * Durations are whole milliseconds. `timeout` and `ttl` of 0 mean none (kept, since they override an engine's default).
 * Objects are frozen and may be shared by many jobs: equal options without id and references are often the very same object.
 */
export interface JobOptions {
  readonly delay?: number;
  readonly priority?: number;
  readonly lifo?: boolean;
  readonly attempts?: number;
  readonly backoff?: BackoffOptions;
  readonly timeout?: number;
  readonly ttl?: number;
  readonly expireWhilePaused?: boolean;
  readonly jobId?: string;
  readonly onDuplicate?: OnDuplicate;
  /** Not empty, no two alike. */
  readonly dependsOn?: readonly JobRef[];
  readonly onDependencyFailure?: OnDependencyFailure;
  readonly removeOnComplete?: RetentionPolicy;
  readonly removeOnFail?: RetentionPolicy;
  readonly idempotencyTtl?: number;
  readonly maxDeliveries?: number;
  readonly keepLogs?: number;
  readonly stackTraceLimit?: number;
  readonly timestamp?: number;
  readonly group?: { readonly id: string };
  /** Set by the engine, and shown as `job.cron`. */
  readonly cron?: CronTick;
  readonly tags?: readonly string[];
  readonly deduplication?: DeduplicationOptions;
}

/** What an option means when it is absent. `idempotencyTtl` and `maxDeliveries` may have another default on a queue. */
export const JOB_DEFAULTS = Object.freeze({
  delay: 0,
  priority: 0,
  lifo: false,
  attempts: 1,
  backoff: undefined,
  timeout: 0,
  ttl: 0,
  expireWhilePaused: true,
  onDuplicate: 'return',
  onDependencyFailure: 'fail',
  removeOnComplete: Object.freeze({ age: 3_600_000, count: 10_000 }),
  removeOnFail: false,
  idempotencyTtl: 86_400_000,
  maxDeliveries: 5,
  keepLogs: 100,
  stackTraceLimit: 10,
} as const);

export const BACKOFF_DEFAULTS = Object.freeze({ factor: 2, jitter: 0, namedDelay: 1000 });
export const PRIORITY_MIN = -0x80000000;
export const PRIORITY_MAX = INT32_MAX;
export const ON_DUPLICATE: readonly OnDuplicate[] = ['return', 'replace', 'error', 'rerun'];
export const ON_DEPENDENCY_FAILURE: readonly OnDependencyFailure[] = ['fail', 'run', 'run-now', 'cancel', 'wait'];
/** Logs and stacks are kept in memory with the job. */
const KEPT_MAX = 10_000;
const FACTOR_MAX = 1000;
const TAGS_MAX = 32;
const TAG_BYTES_MAX = 128;

const DEDUPLICATION_NAMES: KnownNames = {
  known: ['id', 'ttl', 'extend', 'replace', 'keepLastIfActive'],
  elsewhere: { key: 'it is called id here.', jobId: 'it is called id here; a jobId stands beside deduplication.' },
};

// ---- parts ----------------------------------------------------------------------------------------------------------------

const BACKOFF_NAMES: KnownNames = { known: ['type', 'delay', 'factor', 'maxDelay', 'jitter'] };
const RETENTION_NAMES: KnownNames = {
  known: ['age', 'count'],
  elsewhere: { limit: 'removal is driven by time and needs no limit. Leave it out.' },
};

const BACKOFF_TYPES = ['fixed', 'exponential'];
const ABBREVIATION_CHARS_MIN = 3;

/** The type that was most likely meant by what would else be the name of a strategy, which nobody has. */
function misspelt(type: string): string | undefined {
  if (BACKOFF_TYPES.includes(type)) return undefined;
  const word = type.toLowerCase();
  const short = BACKOFF_TYPES.find((one) => word.length >= ABBREVIATION_CHARS_MIN && one.startsWith(word));
  const near = short ?? nearest(type, BACKOFF_TYPES);
  return near?.[0] === word[0] ? near : undefined;
}

/** @throws ValidationError for anything that isn't a number of milliseconds or a complete description. */
export function normaliseBackoff(value: unknown, path = 'opts.backoff'): BackoffOptions {
  const { factor, jitter } = BACKOFF_DEFAULTS;
  if (typeof value === 'number') {
    return Object.freeze({
      type: 'fixed',
      delay: checkDuration(value, path),
      factor,
      maxDelay: DURATION_MAX_MS,
      jitter,
    });
  }
  const given = checkObject(value, path);
  checkOptionNames(given, path, BACKOFF_NAMES);
  const { type } = given;
  if (typeof type !== 'string' || type === '') {
    refuse(`${path}.type`, "be 'fixed', 'exponential', or the name of a strategy of the Worker", type);
  }
  const meant = misspelt(type);
  if (meant !== undefined)
    refuse(
      `${path}.type`,
      `be a type of ours or the name of a strategy that can't be taken for one (did you mean '${meant}'?)`,
      type,
    );
  const isNamed = type !== 'fixed' && type !== 'exponential';
  if (given.delay === undefined && !isNamed) refuse(`${path}.delay`, `be set for the type '${type}'`, undefined);
  return Object.freeze({
    type,
    delay: given.delay === undefined ? BACKOFF_DEFAULTS.namedDelay : checkDuration(given.delay, `${path}.delay`),
    factor: given.factor === undefined ? factor : checkNumber(given.factor, `${path}.factor`, 1, FACTOR_MAX),
    maxDelay: given.maxDelay === undefined ? DURATION_MAX_MS : checkDuration(given.maxDelay, `${path}.maxDelay`),
    jitter: given.jitter === undefined ? jitter : checkNumber(given.jitter, `${path}.jitter`, 0, 1),
  });
}

/** Keeping none, by number or by age, is removing at once. */
export function normaliseRetention(value: unknown, path: string): RetentionPolicy {
  if (typeof value === 'boolean') return value;
  if (typeof value === 'number') {
    const count = checkInteger(value, path, 0, INT32_MAX);
    return count === 0 ? true : Object.freeze({ count });
  }
  if (typeof value !== 'object' || value === null) refuse(path, 'be true, false, a count, or {age, count}', value);
  const given = checkObject(value, path);
  checkOptionNames(given, path, RETENTION_NAMES);
  const age = given.age === undefined ? undefined : checkDuration(given.age, `${path}.age`);
  const count = given.count === undefined ? undefined : checkInteger(given.count, `${path}.count`, 0, INT32_MAX);
  if (age === undefined && count === undefined)
    refuse(path, 'name an age (ms) or a count; to keep everything say false', value);
  if (age === 0 || count === 0) return true;
  return Object.freeze({ ...(age === undefined ? {} : { age }), ...(count === undefined ? {} : { count }) });
}

function normaliseDeduplication(value: unknown): DeduplicationOptions {
  const path = 'opts.deduplication';
  const given = checkObject(value, path);
  checkOptionNames(given, path, DEDUPLICATION_NAMES);
  const { id, ttl, ...flags } = given;
  const checked: Record<string, unknown> = { id: checkText(id, `${path}.id`, JOB_ID_BYTES_MAX) };
  if (ttl !== undefined) checked.ttl = checkDuration(ttl, `${path}.ttl`);
  if (checked.ttl === 0) refuse(`${path}.ttl`, 'be more than 0 ms', ttl);
  for (const name in flags) if (flags[name] !== undefined) checked[name] = checkBoolean(flags[name], `${path}.${name}`);
  if (checked.extend === true && ttl === undefined)
    refuse(`${path}.ttl`, 'be set for extend, which begins it anew', ttl);
  if (checked.keepLastIfActive === true && ttl !== undefined)
    refuse(`${path}.ttl`, 'be left out with keepLastIfActive: that key is held until its job has ended', ttl);
  return Object.freeze(checked) as unknown as DeduplicationOptions;
}

function normaliseTags(value: unknown): readonly string[] {
  if (!Array.isArray(value)) refuse('opts.tags', 'be an array of strings', value);
  if (value.length > TAGS_MAX) refuse('opts.tags', `have at most ${TAGS_MAX} members`, value);
  const tags = value.map((tag: unknown, i) => checkText(tag, `opts.tags[${i}]`, TAG_BYTES_MAX));
  return Object.freeze([...new Set(tags)]);
}

// ---- the table of options -------------------------------------------------------------------------------------------------

type Writable = { -readonly [K in keyof JobOptions]: JobOptions[K] };
type Check = (into: Writable, value: unknown) => void;

const NO_REFS: readonly JobRef[] = [];

const setReferences: Check = (into, value) => {
  if (into.dependsOn !== undefined) {
    throw new ValidationError('opts.dependsOn and opts.depends_on are the same option: give one of them.', {
      path: 'opts.depends_on',
    });
  }
  into.dependsOn = normaliseRefs(value, 'opts.dependsOn');
};

const setPriority: Check = (into, value) => {
  if (typeof value !== 'number' || (value | 0) !== value) {
    refuse('opts.priority', `be a whole number from ${PRIORITY_MIN} to ${PRIORITY_MAX} (higher runs first)`, value);
  }
  into.priority = value | 0;
};

const setAttempts: Check = (into, value) => {
  if (value === 0) refuse('opts.attempts', 'be at least 1: it counts the first run too', value);
  into.attempts = checkInteger(value, 'opts.attempts', 1, INT32_MAX);
};

const SETTERS: Record<string, Check> = {
  priority: setPriority,
  attempts: setAttempts,
  delay(into, value) {
    into.delay = checkDuration(value, 'opts.delay');
  },
  backoff(into, value) {
    into.backoff = normaliseBackoff(value);
  },
  jobId(into, value) {
    into.jobId = checkJobId(value);
  },
  timeout(into, value) {
    into.timeout = checkDuration(value, 'opts.timeout');
  },
  ttl(into, value) {
    into.ttl = checkDuration(value, 'opts.ttl');
  },
  expireWhilePaused(into, value) {
    into.expireWhilePaused = checkBoolean(value, 'opts.expireWhilePaused');
  },
  lifo(into, value) {
    into.lifo = checkBoolean(value, 'opts.lifo');
  },
  dependsOn: setReferences,
  depends_on: setReferences,
  onDuplicate(into, value) {
    into.onDuplicate = checkOneOf(value, 'opts.onDuplicate', ON_DUPLICATE);
  },
  onDependencyFailure(into, value) {
    into.onDependencyFailure = checkOneOf(value, 'opts.onDependencyFailure', ON_DEPENDENCY_FAILURE);
  },
  removeOnComplete(into, value) {
    into.removeOnComplete = normaliseRetention(value, 'opts.removeOnComplete');
  },
  removeOnFail(into, value) {
    into.removeOnFail = normaliseRetention(value, 'opts.removeOnFail');
  },
  idempotencyTtl(into, value) {
    into.idempotencyTtl = checkDuration(value, 'opts.idempotencyTtl');
  },
  maxDeliveries(into, value) {
    into.maxDeliveries = checkInteger(value, 'opts.maxDeliveries', 1, 255);
  },
  keepLogs(into, value) {
    into.keepLogs = checkInteger(value, 'opts.keepLogs', 0, KEPT_MAX);
  },
  stackTraceLimit(into, value) {
    into.stackTraceLimit = checkInteger(value, 'opts.stackTraceLimit', 0, KEPT_MAX);
  },
  group(into, value) {
    const given = checkObject(value, 'opts.group');
    checkOptionNames(given, 'opts.group', GROUP_NAMES);
    const { id } = given;
    if (typeof id !== 'string' || id === '' || id.length > GROUP_ID_MAX)
      refuse('opts.group.id', `be a string of 1 to ${GROUP_ID_MAX} characters`, id);
    into.group = Object.freeze({ id });
  },
  timestamp(into, value) {
    into.timestamp = checkDuration(value, 'opts.timestamp');
  },
  tags(into, value) {
    into.tags = normaliseTags(value);
  },
  deduplication(into, value) {
    into.deduplication = normaliseDeduplication(value);
  },
};

const GROUP_ID_MAX = 256;
const GROUP_NAMES: KnownNames = {
  known: ['id'],
  elsewhere: {
    priority: 'the priority of a job counts in its group too: opts.priority.',
    maxSize: 'a queue is bounded by the memory of its engine.',
  },
};

const CHECKS = new Map(Object.entries(SETTERS));

const ON_DEPENDENCY_HINT = 'say it on the job that waits, with onDependencyFailure.';

/** What other libraries (and other calls of this one) call differently. */
export const OPTION_NAMES: KnownNames = {
  known: [...CHECKS.keys()],
  elsewhere: {
    name: 'the name of a job is the first argument of add.',
    parent: 'let the parent name its children with dependsOn.',
    children: 'let the job that waits name the others with dependsOn.',
    failParentOnFailure: ON_DEPENDENCY_HINT,
    continueParentOnFailure: ON_DEPENDENCY_HINT,
    ignoreDependencyOnFailure: ON_DEPENDENCY_HINT,
    removeDependencyOnFailure: ON_DEPENDENCY_HINT,
    debounce: 'it is called deduplication here: { id, ttl }.',
    repeat: 'jobs that come again and again are made by queue.addCron(name, options).',
    cron: 'jobs that come again and again are made by queue.addCron(name, options).',
    repeatJobKey: 'jobs that come again and again are made by queue.addCron(name, options).',
    every: 'jobs that come again and again are made by queue.addCron(name, options).',
    sizeLimit: 'the limit of a payload belongs to the engine.',
    telemetry: 'the trace context travels by itself.',
    rateLimiterKey: 'it is called group here.',
    retries: 'it is called attempts here, and counts the first run too.',
    retry: 'it is called attempts here, and counts the first run too.',
    maxRetries: 'it is called attempts here, and counts the first run too.',
    maxAttempts: 'it is called attempts here.',
    retryDelay: 'it is called backoff here.',
    retryBackoff: 'it is called backoff here.',
    id: 'it is called jobId here.',
    jobKey: 'it is called jobId here.',
    key: 'it is called jobId here.',
    idempotencyKey: 'it is called jobId here.',
    singletonKey: 'it is called jobId here.',
    customId: 'it is called jobId here.',
    unique: 'give the job a jobId.',
    dependencies: 'it is called dependsOn here.',
    expireIn: 'it is called ttl here (milliseconds).',
    runAt: 'it is called delay here (milliseconds from now).',
    startAfter: 'it is called delay here (milliseconds from now).',
  },
};

// ---- the whole ------------------------------------------------------------------------------------------------------------

/**
 * Checks what a user wrote and brings it into the form the engine reads. `defaults` (normalised already, as this function returns
 * it) fill in what `opts` leaves open. `undefined` when nothing is set at all.
 *
 * Cheap enough for every add: no options cost nothing; equal options without `jobId`, references and `timestamp` come back as the
 * same frozen object, so that what is derived from it (its encoding) can be remembered by identity.
 *
 * @throws ValidationError naming the option, its value and what is permitted; for an unknown name, the nearest known one.
 */
export function validateJobOptions(opts: AddOptions | undefined, defaults?: JobOptions): JobOptions | undefined {
  if (opts === undefined) return defaults;
  if (typeof opts !== 'object' || opts === null || Array.isArray(opts)) refuse('opts', 'be an object', opts);
  let own: Writable | undefined;
  for (const name in opts) {
    const check = CHECKS.get(name);
    if (check === undefined) refuseOption('opts', name, OPTION_NAMES);
    const value = (opts as Record<string, unknown>)[name];
    if (value === undefined) continue;
    own ??= {};
    check(own, value);
  }
  if (own === undefined) return defaults;
  if (own.dependsOn?.length === 0) dropReferences(own, defaults);
  return shared(defaults === undefined ? own : { ...defaults, ...own });
}

/** `[]` means none: it also takes away what the defaults say. */
function dropReferences(own: Writable, defaults: JobOptions | undefined): void {
  if (defaults?.dependsOn === undefined) delete own.dependsOn;
  else own.dependsOn = NO_REFS;
}

/** Options seen lately, by a hash of the numbers most likely to differ. */
const RECENT_SIZE = 64; // a power of two
const recent: (JobOptions | undefined)[] = new Array(RECENT_SIZE).fill(undefined);

function shared(own: Writable): JobOptions | undefined {
  if (own.dependsOn === NO_REFS) delete own.dependsOn;
  if (own.jobId !== undefined || own.dependsOn !== undefined || own.timestamp !== undefined) return Object.freeze(own);
  if (own.deduplication !== undefined) return Object.freeze(own);
  const place = ((own.priority ?? 0) + (own.delay ?? 0) * 3 + (own.attempts ?? 0) * 7) & (RECENT_SIZE - 1);
  const known = recent[place];
  if (known !== undefined && alike(own, known)) return known;
  if (isEmpty(own)) return undefined;
  Object.freeze(own);
  recent[place] = own;
  return own;
}

function isEmpty(own: object): boolean {
  for (const _ in own) return false;
  return true;
}

/** Parts (`backoff`, retention) are flat objects of numbers and strings. */
function alike(a: object, b: object): boolean {
  let count = 0;
  for (const name in a) {
    count++;
    const one = (a as Record<string, unknown>)[name];
    const other = (b as Record<string, unknown>)[name];
    if (one === other) continue;
    if (typeof one !== 'object' || typeof other !== 'object' || !alike(one as object, other as object)) return false;
  }
  for (const _ in b) count--;
  return count === 0;
}

export { type JobReference, normaliseRef, normaliseRefs } from './references.js';
