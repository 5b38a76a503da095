/** From what a handler threw to what becomes of the job: errors that mean something, aborts, and the retry's delay. */
import type { AbortReason, Outcome } from './connection.js';
import { reportWarning } from './emitter.js';
import { toErrorRecord } from './errors.js';
import type { Job } from './job.js';

/** Decides the delay before a retry: milliseconds, or -1 to fail the job now. `attemptsMade` counts this failure too. */
export type BackoffStrategy = (attemptsMade: number, error: Error, job: Job) => number | Promise<number>;

/** BullMQ's form: one function for all names. */
export type AnyBackoffStrategy = (
  attemptsMade: number,
  type: string | undefined,
  error: Error,
  job: Job,
) => number | Promise<number>;

export interface RunnerSettings {
  /** By the name that jobs give as `backoff.type`. */
  readonly backoffStrategies?: Readonly<Record<string, BackoffStrategy>> | undefined;
  /** For names that aren't among `backoffStrategies`. */
  readonly backoffStrategy?: AnyBackoffStrategy | undefined;
  /** The delay in ms that a stranger's error asks for (a `Retry-After` header), or undefined. Overrides the backoff. */
  readonly retryAfter?: ((error: unknown) => number | undefined) | undefined;
  /** Whether a failure counts for the Worker's circuit breaker. By default all do but `UnrecoverableError`. */
  readonly isFailure?: ((error: unknown) => boolean) | undefined;
}

/** What there is to know about the run that failed. */
export interface FailedRun {
  readonly job: Job;
  readonly abortReason: AbortReason | undefined;
  readonly abortError: Error | undefined;
}

type FailedOutcome = Extract<Outcome, { kind: 'failed' }>;
type Report = (error: Error) => void;

/** `fixed` and `exponential` are the engine's own. */
const ENGINE_STRATEGIES = new Set(['fixed', 'exponential']);
const warnedOf = new Set<string>();

function asError(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown;
  const error = new Error(toErrorRecord(thrown).message);
  error.cause = thrown;
  return error;
}

function nameOf(thrown: unknown): string | undefined {
  if (typeof thrown !== 'object' || thrown === null) return undefined;
  const { name } = thrown as { name?: unknown };
  return typeof name === 'string' ? name : undefined;
}

/** A number of milliseconds under that name, or undefined. */
function millisecondsOf(thrown: unknown, key: string): number | undefined {
  if (typeof thrown !== 'object' || thrown === null) return undefined;
  const value = (thrown as Record<string, unknown>)[key];
  return isDelay(value) ? value : undefined;
}

function isDelay(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value < Number.POSITIVE_INFINITY;
}

/**
 * Errors are told by their name, so that another copy of the package means the same. A promise only when a strategy gives one; it
 * never rejects.
 */
export function outcomeOfFailure(
  thrown: unknown,
  run: FailedRun,
  settings: RunnerSettings,
  report: Report,
): Outcome | Promise<Outcome> {
  const outcome = decide(thrown, run, settings, report);
  if (settings.isFailure === undefined) return outcome;
  const counts = countedBy(settings.isFailure, run.abortReason === 'timeout' ? run.abortError : thrown, report);
  const withCounts = (one: Outcome): Outcome => (one.kind === 'failed' ? { ...one, counts } : one);
  return outcome instanceof Promise ? outcome.then(withCounts) : withCounts(outcome);
}

function countedBy(isFailure: (error: unknown) => boolean, thrown: unknown, report: Report): boolean {
  try {
    return isFailure(thrown) !== false;
  } catch (error) {
    report(asError(error));
    return true;
  }
}

function decide(thrown: unknown, run: FailedRun, settings: RunnerSettings, report: Report): Outcome | Promise<Outcome> {
  if (run.abortReason !== undefined && run.abortReason !== 'timeout') return outcomeOfAbort(thrown, run);
  if (run.abortReason === 'timeout') {
    const error = run.abortError ?? asError(thrown);
    if (thrown !== error && error.cause === undefined) error.cause = thrown;
    return withDelay(
      { kind: 'failed', error: toErrorRecord(error), unrecoverable: false, timedOut: true },
      error,
      run,
      settings,
      report,
    );
  }
  switch (nameOf(thrown)) {
    case 'UnrecoverableError':
      return { kind: 'failed', error: toErrorRecord(thrown), unrecoverable: true };
    case 'RateLimitError':
    case 'DelayedError':
      return { kind: 'delayed', delayMs: millisecondsOf(thrown, 'delayMs') ?? 0 };
    case 'WaitingForJobsError':
      return { kind: 'waiting' };
    case 'CircuitOpenError':
      return { kind: 'delayed', delayMs: millisecondsOf(thrown, 'retryAfterMs') ?? 0 };
    default:
      return withDelay(
        { kind: 'failed', error: toErrorRecord(thrown), unrecoverable: false },
        thrown,
        run,
        settings,
        report,
      );
  }
}

function outcomeOfAbort(thrown: unknown, run: FailedRun): Outcome {
  if (run.abortReason === 'closing') return { kind: 'released' };
  if (run.abortReason === 'failing')
    return { kind: 'failed', error: toErrorRecord(run.abortError ?? thrown), unrecoverable: false };
  return { kind: 'cancelled', error: toErrorRecord(run.abortError ?? thrown) };
}

/** Adds the delay that the error, the settings or a named strategy decides; without any, the job's own backoff holds. */
function withDelay(
  outcome: FailedOutcome,
  thrown: unknown,
  run: FailedRun,
  settings: RunnerSettings,
  report: Report,
): Outcome | Promise<Outcome> {
  const asked = millisecondsOf(thrown, 'retryAfterMs') ?? askedBy(settings, thrown, report);
  if (asked !== undefined) return { ...outcome, retryDelay: asked };
  const { backoff, attempts = 1 } = run.job.opts;
  if (backoff === undefined || ENGINE_STRATEGIES.has(backoff.type)) return outcome;
  const attemptsMade = run.job.attemptsMade + 1;
  if (attemptsMade >= attempts) return outcome; // no retry to delay
  const decided = byStrategy(backoff.type, attemptsMade, asError(thrown), run.job, settings, report);
  if (!(decided instanceof Promise)) return { ...outcome, retryDelay: judged(decided, backoff, report) };
  return decided.then(
    (delay) => ({ ...outcome, retryDelay: judged(delay, backoff, report) }),
    (error: unknown) => {
      report(asError(error));
      return { ...outcome, retryDelay: backoff.delay };
    },
  );
}

function askedBy({ retryAfter }: RunnerSettings, thrown: unknown, report: Report): number | undefined {
  if (retryAfter === undefined) return undefined;
  try {
    const delay = retryAfter(thrown);
    return isDelay(delay) ? delay : undefined;
  } catch (error) {
    report(asError(error));
    return undefined;
  }
}

/** undefined when there is no such strategy, or it threw. */
function byStrategy(
  type: string,
  attemptsMade: number,
  error: Error,
  job: Job,
  settings: RunnerSettings,
  report: Report,
): unknown {
  try {
    const { backoffStrategies, backoffStrategy } = settings;
    if (backoffStrategies !== undefined && Object.hasOwn(backoffStrategies, type)) {
      return backoffStrategies[type]?.(attemptsMade, error, job);
    }
    if (backoffStrategy !== undefined) return backoffStrategy(attemptsMade, type, error, job);
  } catch (thrown) {
    report(asError(thrown));
    return undefined;
  }
  if (!warnedOf.has(type)) {
    warnedOf.add(type);
    reportWarning(
      `No backoff strategy '${type}': its jobs wait their backoff.delay instead. Give it to the Worker as settings.backoffStrategies.`,
      'FLASHQ_UNKNOWN_BACKOFF',
    );
  }
  return undefined;
}

/** A strategy's answer, if it is one; else the job's `backoff.delay`. */
function judged(delay: unknown, backoff: { type: string; delay: number; maxDelay: number }, report: Report): number {
  if (delay === -1) return -1;
  if (isDelay(delay)) return Math.min(Math.ceil(delay), backoff.maxDelay);
  if (delay !== undefined) {
    report(
      new RangeError(
        `The backoff strategy '${backoff.type}' returned ${String(delay)}: milliseconds from 0, or -1, are expected`,
      ),
    );
  }
  return backoff.delay;
}
