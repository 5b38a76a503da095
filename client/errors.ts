/**
 * Every error flashQ rejects with. Each class has a `code` that never changes, says with `retryable` whether the same call may
 * succeed later without a change by the caller, and carries what it is about in fields, so that nobody has to parse a message.
 *
 * The details come in as one object and the class writes its own message: what happened, with which value, what to do.
 * How errors cross threads and wires is in `error-records.ts`.
 */

export interface FlashQErrorOptions {
  readonly cause?: unknown;
}

/**
 * The base of all errors of flashQ. Catch it to tell flashQ's errors from your own.
 *
 * @example
 * try {
 *   await queue.add('send', data);
 * } catch (error) {
 *   if (error instanceof FlashQError && error.retryable) await tryLater();
 *   else throw error;
 * }
 */
export class FlashQError extends Error {
  declare name: string;
  /** A stable name for programs, such as `FLASHQ_VALIDATION`. */
  declare readonly code: string;
  /** True when the same call may succeed later. */
  declare readonly retryable: boolean;

  constructor(message: string, options?: FlashQErrorOptions) {
    super(message, options !== undefined && 'cause' in options ? { cause: options.cause } : undefined);
  }
}

/** Name, code and retryability live on the prototype: they cost an instance nothing and don't clutter what is printed. */
function describe(type: { prototype: FlashQError }, name: string, code: string, retryable = false): void {
  const fixed = (value: unknown) => ({ value, configurable: true, enumerable: false, writable: true });
  Object.defineProperties(type.prototype, { name: fixed(name), code: fixed(code), retryable: fixed(retryable) });
}

/** Which job an error is about. */
export interface JobNamed {
  readonly queue: string;
  readonly jobId: string;
}

function nameOf({ queue, jobId }: JobNamed): string {
  return `Job ${JSON.stringify(jobId)} of queue "${queue}"`;
}

/**
 * A call was given something it can't accept: a wrong name, an unknown option, a value out of range, data that can't be encoded.
 * `path` names the place inside the value, such as `data.items[3].fn` or `opts.priority`.
 */
export class ValidationError extends FlashQError {
  readonly path: string | undefined;

  constructor(message: string, options?: FlashQErrorOptions & { readonly path?: string | undefined }) {
    super(message, options);
    this.path = options?.path;
  }
}

/** Items of an atomic `addBulk` were refused, and so nothing was added. `errors` says which, in the order of the items. */
export class BulkError extends FlashQError {
  readonly errors: readonly { readonly index: number; readonly error: Error }[];

  constructor(errors: readonly { readonly index: number; readonly error: Error }[], options?: FlashQErrorOptions) {
    const first = errors[0];
    const what = first === undefined ? '' : ` The first, item ${first.index}: ${first.error.message}`;
    super(`${errors.length} ${errors.length === 1 ? 'item was' : 'items were'} refused and nothing was added.${what}`, {
      cause: first?.error,
      ...options,
    });
    this.errors = errors;
  }
}

/**
 * Throw it from a handler: the job fails at once, whatever attempts are left, with the reason `unrecoverable`.
 *
 * @example
 * if (response.status === 404) throw new UnrecoverableError('That customer is gone');
 */
export class UnrecoverableError extends FlashQError {
  constructor(message = 'The job can never succeed', options?: FlashQErrorOptions) {
    super(message, options);
  }
}

/** A delay that a handler asks for: a number of milliseconds from 0 on; anything else counts as 0. */
function delayOf(delayMs: number): number {
  return typeof delayMs === 'number' && delayMs > 0 ? delayMs : 0;
}

/**
 * Throw it from a handler that was told to slow down: the job waits `delayMs` milliseconds and runs again; no attempt is counted.
 *
 * @example
 * if (response.status === 429) throw new RateLimitError(30_000);
 */
export class RateLimitError extends FlashQError {
  readonly delayMs: number;

  constructor(delayMs: number, message?: string, options?: FlashQErrorOptions) {
    const delay = delayOf(delayMs);
    super(message ?? `Rate limited: runs again in ${delay} ms`, options);
    this.delayMs = delay;
  }
}

/** Throw it from a handler to run the job again `delayMs` milliseconds later; no attempt is counted. */
export class DelayedError extends FlashQError {
  readonly delayMs: number;

  constructor(delayMs: number, message?: string, options?: FlashQErrorOptions) {
    const delay = delayOf(delayMs);
    super(message ?? `Delayed by its handler: runs again in ${delay} ms`, options);
    this.delayMs = delay;
  }
}

/**
 * How `job.waitFor` leaves a handler whose job has to wait: the run ends, and the job runs again when the awaited ones have settled. Not
 * a failure: no attempt is counted. A handler that catches errors throws this one on.
 *
 * @example
 * try {
 *   await job.waitFor(children);
 * } catch (error) {
 *   if (error instanceof WaitingForJobsError) throw error;
 *   await report(error);
 * }
 */
export class WaitingForJobsError extends FlashQError {
  readonly queue: string;
  readonly jobId: string;

  constructor(job: JobNamed, options?: FlashQErrorOptions) {
    super(
      `${nameOf(job)} waits for other jobs and runs again when they have settled. A handler must let this error through.`,
      options,
    );
    this.queue = job.queue;
    this.jobId = job.jobId;
  }
}

/** The `jobId` is there already and the job was added with `onDuplicate: 'error'` (or a saga's id with other data). */
export class DuplicateJobError extends FlashQError {
  readonly queue: string;
  readonly jobId: string;
  readonly state: string | undefined;

  constructor(job: JobNamed & { readonly state?: string | undefined }, options?: FlashQErrorOptions) {
    const state = job.state === undefined ? '' : ` (${job.state})`;
    super(
      `${nameOf(job)} exists already${state}. Use another jobId, or onDuplicate: 'return' to get that job.`,
      options,
    );
    this.queue = job.queue;
    this.jobId = job.jobId;
    this.state = job.state;
  }
}

/** `dependsOn` or `job.waitFor` names a job that never existed. `queue` and `jobId` are those of the missing job. */
export class UnknownDependencyError extends FlashQError {
  readonly queue: string;
  readonly jobId: string;

  constructor(missing: JobNamed, options?: FlashQErrorOptions) {
    super(
      `${nameOf(missing)}, which another job is to wait for, never existed. Add it first, or in the same addBulk; ` +
        'a custom id of another queue needs the Job or {queue, id}.',
      options,
    );
    this.queue = missing.queue;
    this.jobId = missing.jobId;
  }
}

/** The awaited job failed for good. `failedReason` is the message of its last error, `stacktrace` holds the stacks kept. */
export class JobFailedError extends FlashQError {
  readonly queue: string;
  readonly jobId: string;
  readonly failedReason: string;
  readonly stacktrace: readonly string[];

  constructor(
    job: JobNamed & { readonly failedReason: string; readonly stacktrace?: readonly string[] },
    options?: FlashQErrorOptions,
  ) {
    super(`${nameOf(job)} failed: ${job.failedReason}`, options);
    this.queue = job.queue;
    this.jobId = job.jobId;
    this.failedReason = job.failedReason;
    this.stacktrace = job.stacktrace ?? [];
  }
}

/** The awaited job was cancelled. Inside a handler: the reason of its `signal`. */
export class JobCancelledError extends FlashQError {
  readonly queue: string;
  readonly jobId: string;
  readonly reason: string | undefined;

  constructor(job: JobNamed & { readonly reason?: string | undefined }, options?: FlashQErrorOptions) {
    super(`${nameOf(job)} was cancelled${job.reason === undefined ? '' : `: ${job.reason}`}`, options);
    this.queue = job.queue;
    this.jobId = job.jobId;
    this.reason = job.reason;
  }
}

/** The awaited job existed and is gone. `state`: the last one it was in, when that is still known. */
export class JobRemovedError extends FlashQError {
  readonly queue: string;
  readonly jobId: string;
  readonly state: string | undefined;

  constructor(job: JobNamed & { readonly state?: string | undefined }, options?: FlashQErrorOptions) {
    const last = job.state === undefined ? '' : ` (it was ${job.state})`;
    super(
      `${nameOf(job)} has been removed${last}. Keep records longer with removeOnComplete and removeOnFail.`,
      options,
    );
    this.queue = job.queue;
    this.jobId = job.jobId;
    this.state = job.state;
  }
}

/** No job ever had that id. */
export class JobNotFoundError extends FlashQError {
  readonly queue: string;
  readonly jobId: string;

  constructor(job: JobNamed, options?: FlashQErrorOptions) {
    super(`${nameOf(job)} does not exist. A custom id of another queue needs the Job or {queue, id}.`, options);
    this.queue = job.queue;
    this.jobId = job.jobId;
  }
}

/** What was asked for can't be done to a job that runs, or to a queue in which jobs run (`jobId` undefined, `count` of them). */
export class JobActiveError extends FlashQError {
  readonly queue: string;
  readonly jobId: string | undefined;
  readonly count: number;

  constructor(
    about: {
      readonly queue: string;
      readonly jobId?: string | undefined;
      readonly count?: number;
      readonly hint?: string;
    },
    options?: FlashQErrorOptions,
  ) {
    const { queue, jobId, count = 1 } = about;
    const what = jobId === undefined ? `${count} jobs of queue "${queue}" are` : `${nameOf({ queue, jobId })} is`;
    super(`${what} active. ${about.hint ?? 'Cancel first, or wait for the end of the run.'}`, options);
    this.queue = queue;
    this.jobId = jobId;
    this.count = count;
  }
}

/** The time given to `finished` or `addAndWait` has passed. The jobs go on. */
export class WaitTimeoutError extends FlashQError {
  readonly queue: string;
  /** The jobs still unfinished; at most 100 of them are named. */
  readonly jobIds: readonly string[];
  readonly timeoutMs: number;

  constructor(
    wait: { readonly queue: string; readonly jobIds: readonly string[]; readonly timeoutMs: number },
    options?: FlashQErrorOptions,
  ) {
    const [first] = wait.jobIds;
    const what =
      wait.jobIds.length === 1 && first !== undefined
        ? `${nameOf({ queue: wait.queue, jobId: first })} has`
        : `${wait.jobIds.length} jobs of queue "${wait.queue}" have`;
    super(`${what} not finished within ${wait.timeoutMs} ms. The work goes on; wait longer, or cancel it.`, options);
    this.queue = wait.queue;
    this.jobIds = wait.jobIds.slice(0, 100);
    this.timeoutMs = wait.timeoutMs;
  }
}

/** A run took longer than the job's `timeout`, or an operation longer than it may. Inside a handler: the reason of its `signal`. */
export class TimeoutError extends FlashQError {
  readonly timeoutMs: number;

  constructor(timeoutMs: number, message?: string, options?: FlashQErrorOptions) {
    super(message ?? `Not finished within ${timeoutMs} ms`, options);
    this.timeoutMs = timeoutMs;
  }
}

/** The engine's memory is used up: nothing more is admitted until jobs finish. */
export class EngineFullError extends FlashQError {
  readonly limitBytes: number;

  constructor(full: { readonly limitBytes: number; readonly message?: string }, options?: FlashQErrorOptions) {
    super(
      full.message ??
        `The engine's memory is full (maxMemory ${full.limitBytes} bytes). Let workers catch up, or open it with more maxMemory.`,
      options,
    );
    this.limitBytes = full.limitBytes;
  }
}

/** The engine, the queue or the worker has been closed. */
export class EngineClosedError extends FlashQError {
  constructor(message = 'The engine has been closed. Open another one.', options?: FlashQErrorOptions) {
    super(message, options);
  }
}

/** Another process (or engine) has the data directory open. `pid` and `host`: which process, of which machine, when that is known. */
export class DataDirLockedError extends FlashQError {
  readonly dataDir: string;
  readonly pid: number | undefined;
  readonly host: string | undefined;

  constructor(
    lock: { readonly dataDir: string; readonly pid?: number | undefined; readonly host?: string | undefined },
    options?: FlashQErrorOptions,
  ) {
    const at = lock.host === undefined ? '' : ` on ${lock.host}`;
    const holder = lock.pid === undefined ? 'another engine' : `process ${lock.pid}${at}`;
    super(
      `The data directory ${lock.dataDir} is in use by ${holder}. Close it there, or use another directory.`,
      options,
    );
    this.dataDir = lock.dataDir;
    this.pid = lock.pid;
    this.host = lock.host;
  }
}

/**
 * What went wrong with durable state: `full` (no space left), `io` (a read, write or sync failed), `damaged` (what is there is not what was
 * written), `version` (written by a newer flashQ), `fenced` (another owner has taken the log), `unsupported` (this place can't hold one).
 */
export type StoreFault = 'full' | 'io' | 'damaged' | 'version' | 'fenced' | 'unsupported';

/** Reading or writing durable state failed; `reason` says how. After a failed write it is not known whether that write was kept. */
export class StoreError extends FlashQError {
  readonly reason: StoreFault;

  constructor(message: string, options: FlashQErrorOptions & { readonly reason: StoreFault }) {
    super(message, options);
    this.reason = options.reason;
  }
}

/** There is no engine to talk to, or the way to it is lost. */
export class ConnectionError extends FlashQError {}

/** The server doesn't know the token. */
export class AuthenticationError extends FlashQError {}

/** The token doesn't permit that. */
export class PermissionError extends FlashQError {}

/** The other end sent something that isn't the protocol. */
export class ProtocolError extends FlashQError {}

/** The run is no longer this worker's: its lease expired, or the job was given to another. Its outcome doesn't count. */
export class LeaseLostError extends FlashQError {
  readonly queue: string;
  readonly jobId: string;

  constructor(job: JobNamed, options?: FlashQErrorOptions) {
    super(`${nameOf(job)} is no longer run by this worker; the outcome of this run does not count.`, options);
    this.queue = job.queue;
    this.jobId = job.jobId;
  }
}

/** A saga ended without success. `cause` is what made `step` fail; `compensations` says what became of the completed steps. */
export class SagaFailedError extends FlashQError {
  readonly saga: string;
  readonly sagaId: string;
  readonly step: string;
  readonly compensations: readonly unknown[];

  constructor(
    failure: {
      readonly saga: string;
      readonly sagaId: string;
      readonly step: string;
      readonly compensations?: readonly unknown[];
    },
    options?: FlashQErrorOptions,
  ) {
    const why = options?.cause instanceof Error ? `: ${options.cause.message}` : '';
    super(`Saga "${failure.saga}" (${failure.sagaId}) failed at step "${failure.step}"${why}`, options);
    this.saga = failure.saga;
    this.sagaId = failure.sagaId;
    this.step = failure.step;
    this.compensations = failure.compensations ?? [];
  }
}

/** The circuit breaker lets no call through for `retryAfterMs` milliseconds more. Leaving a handler it acts as `RateLimitError`. */
export class CircuitOpenError extends FlashQError {
  readonly retryAfterMs: number;
  readonly key: string | undefined;

  constructor(about: { readonly retryAfterMs: number; readonly key?: string }, options?: FlashQErrorOptions) {
    super('Circuit breaker is OPEN', options);
    this.retryAfterMs = delayOf(about.retryAfterMs);
    this.key = about.key;
  }
}

describe(FlashQError, 'FlashQError', 'FLASHQ_ERROR');
describe(ValidationError, 'ValidationError', 'FLASHQ_VALIDATION');
describe(BulkError, 'BulkError', 'FLASHQ_BULK');
describe(UnrecoverableError, 'UnrecoverableError', 'FLASHQ_UNRECOVERABLE');
describe(RateLimitError, 'RateLimitError', 'FLASHQ_RATE_LIMIT', true);
describe(DelayedError, 'DelayedError', 'FLASHQ_DELAYED', true);
describe(WaitingForJobsError, 'WaitingForJobsError', 'FLASHQ_WAITING_FOR_JOBS', true);
describe(DuplicateJobError, 'DuplicateJobError', 'FLASHQ_DUPLICATE_JOB');
describe(UnknownDependencyError, 'UnknownDependencyError', 'FLASHQ_UNKNOWN_DEPENDENCY');
describe(JobFailedError, 'JobFailedError', 'FLASHQ_JOB_FAILED');
describe(JobCancelledError, 'JobCancelledError', 'FLASHQ_JOB_CANCELLED');
describe(JobRemovedError, 'JobRemovedError', 'FLASHQ_JOB_REMOVED');
describe(JobNotFoundError, 'JobNotFoundError', 'FLASHQ_JOB_NOT_FOUND');
describe(JobActiveError, 'JobActiveError', 'FLASHQ_JOB_ACTIVE', true);
describe(WaitTimeoutError, 'WaitTimeoutError', 'FLASHQ_WAIT_TIMEOUT', true);
describe(TimeoutError, 'TimeoutError', 'FLASHQ_TIMEOUT', true);
describe(EngineFullError, 'EngineFullError', 'FLASHQ_ENGINE_FULL', true);
describe(EngineClosedError, 'EngineClosedError', 'FLASHQ_ENGINE_CLOSED');
describe(DataDirLockedError, 'DataDirLockedError', 'FLASHQ_DATA_DIR_LOCKED', true);
describe(StoreError, 'StoreError', 'FLASHQ_STORE');
describe(ConnectionError, 'ConnectionError', 'FLASHQ_CONNECTION', true);
describe(AuthenticationError, 'AuthenticationError', 'FLASHQ_AUTHENTICATION');
describe(PermissionError, 'PermissionError', 'FLASHQ_PERMISSION');
describe(ProtocolError, 'ProtocolError', 'FLASHQ_PROTOCOL');
describe(LeaseLostError, 'LeaseLostError', 'FLASHQ_LEASE_LOST');
describe(SagaFailedError, 'SagaFailedError', 'FLASHQ_SAGA_FAILED');
describe(CircuitOpenError, 'CircuitOpenError', 'FLASHQ_CIRCUIT_OPEN', true);

/** Every class by its code: how `deserialiseError` finds the class to rebuild. */
export const ERROR_CLASSES: ReadonlyMap<string, { readonly prototype: FlashQError }> = new Map(
  [
    FlashQError,
    ValidationError,
    BulkError,
    UnrecoverableError,
    RateLimitError,
    DelayedError,
    WaitingForJobsError,
    DuplicateJobError,
    UnknownDependencyError,
    JobFailedError,
    JobCancelledError,
    JobRemovedError,
    JobNotFoundError,
    JobActiveError,
    WaitTimeoutError,
    TimeoutError,
    EngineFullError,
    EngineClosedError,
    DataDirLockedError,
    StoreError,
    ConnectionError,
    AuthenticationError,
    PermissionError,
    ProtocolError,
    LeaseLostError,
    SagaFailedError,
    CircuitOpenError,
  ].map((type) => [type.prototype.code, type]),
);

export {
  deserialiseError,
  fromErrorRecord,
  type SerialisedError,
  serialiseError,
  toErrorRecord,
} from './error-records.js';
