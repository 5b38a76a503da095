/** How long a retry waits. */
import { DURATION_MAX_MS } from './checks.js';
import type { BackoffOptions } from './options.js';

/**
 * Milliseconds before the retry that follows failure number `failures` (1, 2, ...): `delay`, or `delay * factor^(failures - 1)` for
 * `exponential`, at most `maxDelay`; with jitter j drawn uniformly from `[d(1 - j), d]`. No overflow: the power is cut off at `maxDelay`.
 */
export function backoffDelay(backoff: BackoffOptions | undefined, failures: number, random: () => number): number {
  if (backoff === undefined) return 0;
  const factor = backoff.type === 'exponential' ? backoff.factor ** (failures - 1) : 1;
  const delay = Math.min(backoff.delay * factor, backoff.maxDelay, DURATION_MAX_MS);
  const whole = Number.isNaN(delay) ? 0 : delay; // 0 times an infinite power
  return Math.round(whole - whole * backoff.jitter * random());
}
