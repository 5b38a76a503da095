import { vi } from 'vitest';

/** Five times what the slowest of these tests takes when each core has three others to serve. */
const TEST_MS = 120_000;

/**
 * For files whose tests only compute, without a turn of the event loop: the runner can't stop such a test at its time limit, but only
 * condemn it after it has passed, for the machine's load. A program that spins is found by the bound on its steps, and the run as a
 * whole has a limit of its own (.ci/run). The long run's limit is larger anyway.
 */
export function onlyComputes(): void {
  if (process.env.FLASHQ_LONG !== '1') vi.setConfig({ testTimeout: TEST_MS });
}
