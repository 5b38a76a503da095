import { vi } from 'vitest';

/** The slowest took 4 s alone, and 20 s on two cores with eight busy threads. */
const TEST_MS = 120_000;

/**
 * For files whose tests only compute, without a turn of the event loop: the runner can't stop such a test at its time limit, but only
 * condemn it after it has passed, for the load of the machine. One that never ends is stopped by the limit of the whole run
 * (.ci/run). The long run's limit is larger anyway.
 */
export function onlyComputes(): void {
  if (process.env.FLASHQ_LONG !== '1') vi.setConfig({ testTimeout: TEST_MS });
}
