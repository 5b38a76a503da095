/** A circuit breaker for any call: while what it calls keeps failing, it is left alone. In this process only, and durable in no way. */
import {
  checkDuration,
  checkFunction,
  checkInteger,
  checkObject,
  checkOptionNames,
  INT32_MAX,
  type KnownNames,
  refuse,
} from './checks.js';
import { reportWarning } from './emitter.js';
import { CircuitOpenError } from './errors.js';

export type CircuitState = 'CLOSED' | 'OPEN' | 'HALF-OPEN';

export interface CircuitBreakerOptions {
  /** So many failures one after the other open it. Default 5. */
  readonly threshold?: number | undefined;
  /** How many milliseconds it stays open before it lets a probe through. Default 60,000. */
  readonly timeout?: number | undefined;
  /** How many probes may be under way at a time. Default 1. */
  readonly halfOpenMax?: number | undefined;
  /** So many probes that succeed close it. Default 1. */
  readonly successThreshold?: number | undefined;
  /**
   * Whether an error says that what was called is in trouble. Default: all do but `UnrecoverableError`, `RateLimitError`, `DelayedError`,
   * and cancellation (`JobCancelledError`, `AbortError`). Those that don't count as neither failure nor success.
   */
  readonly isFailure?: ((error: unknown) => boolean) | undefined;
  /** Told of every change. What it throws is shown as a process warning. */
  readonly onChange?: ((state: CircuitState, before: CircuitState) => void) | undefined;
  /** Where the time comes from, in milliseconds: for tests. Default: the monotonic clock of the process. */
  readonly clock?: { now(): number } | undefined;
}

const THRESHOLD = 5;
const TIMEOUT_MS = 60_000;
/** Who comes while a probe is under way asks again after this long at the latest: most probes are over by then. */
const PROBE_MS = 1000;
const OPTIONS: KnownNames = {
  known: ['threshold', 'timeout', 'halfOpenMax', 'successThreshold', 'isFailure', 'onChange', 'clock'],
  elsewhere: {
    errorThresholdPercentage: 'failures in a row are counted: it is called threshold here.',
    failureThreshold: 'it is called threshold here.',
    resetTimeout: 'it is called timeout here (milliseconds).',
    timeoutMs: 'it is called timeout here (milliseconds).',
  },
};
/** By name, so that errors of another copy of the package mean the same. */
const NO_FAILURES = new Set([
  'UnrecoverableError',
  'RateLimitError',
  'DelayedError',
  'JobCancelledError',
  'AbortError',
]);

function saysTrouble(error: unknown): boolean {
  return !(typeof error === 'object' && error !== null && NO_FAILURES.has((error as { name?: string }).name ?? ''));
}

/**
 * `CLOSED`: calls go through, and failures in a row are counted. `OPEN`, when there were `threshold` of them: calls are refused with
 * `CircuitOpenError` for `timeout` milliseconds. `HALF-OPEN`, from then on: one call goes through as a probe, and decides.
 *
 * `CircuitOpenError` that leaves a handler does not fail its job: it is put back and runs again when the next probe is due, without an
 * attempt being counted. So a breaker in a handler doesn't pour the queue into the dead letter queue.
 *
 * @example
 * const breaker = new CircuitBreaker(5, 60_000);
 * const worker = new Worker('mails', (job) => breaker.execute(() => send(job.data)));
 */
export class CircuitBreaker {
  readonly #threshold: number;
  readonly #timeoutMs: number;
  readonly #halfOpenMax: number;
  readonly #successThreshold: number;
  readonly #isFailure: (error: unknown) => boolean;
  readonly #onChange: ((state: CircuitState, before: CircuitState) => void) | undefined;
  readonly #clock: { now(): number };
  #state: CircuitState = 'CLOSED';
  /** Calls count only in the period in which they began. */
  #period = 0;
  #failures = 0;
  #successes = 0;
  #openedAt = 0;
  #probes = 0;
  #probedAt = 0;

  /**
   * @param timeout Milliseconds.
   * @throws ValidationError
   */
  constructor(threshold?: number, timeout?: number);
  constructor(options: CircuitBreakerOptions);
  constructor(first: number | CircuitBreakerOptions = {}, second?: number) {
    const given: CircuitBreakerOptions = typeof first === 'object' ? first : { threshold: first, timeout: second };
    checkOptionNames(checkObject(given, 'options'), 'options', OPTIONS);
    const { threshold, timeout, halfOpenMax, successThreshold, isFailure, onChange, clock } = given;
    const count = (value: number | undefined, name: string, standard: number) =>
      value === undefined ? standard : checkInteger(value, `options.${name}`, 1, INT32_MAX);
    this.#threshold = count(threshold, 'threshold', THRESHOLD);
    this.#timeoutMs = timeout === undefined ? TIMEOUT_MS : checkDuration(timeout, 'options.timeout');
    this.#halfOpenMax = count(halfOpenMax, 'halfOpenMax', 1);
    this.#successThreshold = count(successThreshold, 'successThreshold', 1);
    this.#isFailure = isFailure === undefined ? saysTrouble : checkFunction(isFailure, 'options.isFailure');
    this.#onChange = onChange === undefined ? undefined : checkFunction(onChange, 'options.onChange');
    if (clock !== undefined && typeof clock.now !== 'function') refuse('options.clock', 'have a function now()', clock);
    this.#clock = clock ?? performance;
  }

  get state(): CircuitState {
    this.#look();
    return this.#state;
  }

  /**
   * Calls `fn`, and resolves or rejects as it does.
   *
   * @throws CircuitOpenError without having called it, with `retryAfterMs`.
   *
   * @example
   * const answer = await breaker.execute(() => fetch(url, { signal }));
   */
  async execute<T>(fn: () => T | PromiseLike<T>): Promise<T> {
    checkFunction(fn, 'fn');
    this.#admit();
    const period = this.#period;
    try {
      const value = await fn();
      if (period === this.#period) this.#succeeded();
      return value;
    } catch (error) {
      if (period === this.#period) this.#failed(error);
      throw error;
    }
  }

  /** Opens it, as if it had tripped now. */
  open(): void {
    this.#openedAt = this.#clock.now();
    this.#change('OPEN');
  }

  /** Closes it, with no failures counted: calls go through again. What is under way doesn't count. */
  close(): void {
    this.#change('CLOSED');
  }

  /** The same as `close`: as it was when it was made. */
  reset(): void {
    this.close();
  }

  /** Its time may be over. */
  #look(): void {
    if (this.#state === 'OPEN' && this.#clock.now() - this.#openedAt >= this.#timeoutMs) this.#change('HALF-OPEN');
  }

  #admit(): void {
    this.#look();
    if (this.#state === 'CLOSED') return;
    const now = this.#clock.now();
    if (this.#state === 'OPEN')
      throw new CircuitOpenError({ retryAfterMs: Math.ceil(this.#openedAt + this.#timeoutMs - now) });
    if (this.#probes >= this.#halfOpenMax) {
      // A probe that never ends must not keep it from ever closing.
      if (now - this.#probedAt < this.#timeoutMs)
        throw new CircuitOpenError({ retryAfterMs: Math.min(PROBE_MS, this.#timeoutMs) });
      this.#probes = 0;
    }
    this.#probes++;
    this.#probedAt = now;
  }

  #succeeded(): void {
    this.#failures = 0;
    if (this.#state !== 'HALF-OPEN') return;
    this.#probeEnded();
    if (++this.#successes >= this.#successThreshold) this.#change('CLOSED');
  }

  #failed(error: unknown): void {
    let counts: boolean;
    try {
      counts = this.#isFailure(error);
    } catch (thrown) {
      reportWarning(
        'isFailure of a CircuitBreaker threw: the error counts as a failure',
        'FLASHQ_LISTENER_ERROR',
        thrown,
      );
      counts = true;
    }
    if (this.#state === 'HALF-OPEN') this.#probeEnded();
    if (!counts) return;
    this.#failures++;
    if (this.#state === 'HALF-OPEN' || this.#failures >= this.#threshold) this.open();
  }

  #probeEnded(): void {
    this.#probes = Math.max(0, this.#probes - 1);
  }

  #change(state: CircuitState): void {
    const before = this.#state;
    this.#state = state;
    this.#period++;
    this.#probes = 0;
    this.#successes = 0;
    if (state !== 'OPEN') this.#failures = 0;
    if (state === before || this.#onChange === undefined) return;
    try {
      this.#onChange(state, before);
    } catch (thrown) {
      reportWarning('onChange of a CircuitBreaker threw', 'FLASHQ_LISTENER_ERROR', thrown);
    }
  }
}
