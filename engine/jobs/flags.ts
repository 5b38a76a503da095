/** What the engine keeps in the upper bits of a slot's flags (the core's own are in layout.ts). */
import type { DlqReason } from '../../client/connection.js';
import type { OnDependencyFailure } from '../../client/options.js';

/** Somebody waits for this job's end. */
export const WAITED = 1 << 8;
/** Its run was told to stop because it took too long. */
export const TIMED_OUT = 1 << 9;
/** Its run was told to stop because the job was cancelled. */
export const CANCELLING = 1 << 10;
/** Its run's outcome will be dropped: the job was obliterated. */
export const DISCARDED = 1 << 11;
/** Lost twice or more: runs with no other such job beside it. */
export const SUSPECT = 1 << 12;
/** A suspect that is in the heap or running (the others of its queue are held back). */
export const SUSPECT_OUT = 1 << 13;
/** Its dependencies' pins are held (it is not finished, or in the dead letter queue). */
export const HAS_DEPENDENCIES = 1 << 14;
/** Its `removeOnComplete` or `removeOnFail` is its own, not the default. */
export const OWN_RETENTION = 1 << 15;

const POLICY_SHIFT = 16;
const POLICIES: readonly OnDependencyFailure[] = ['fail', 'run', 'run-now', 'cancel', 'wait'];

export function policyFlags(policy: OnDependencyFailure | undefined): number {
  return policy === undefined ? 0 : POLICIES.indexOf(policy) << POLICY_SHIFT;
}

export function policyOf(flags: number): OnDependencyFailure {
  return POLICIES[(flags >>> POLICY_SHIFT) & 7] as OnDependencyFailure;
}

const REASON_SHIFT = 20;
const REASON_MASK = 15 << REASON_SHIFT;
const REASONS: readonly DlqReason[] = [
  'attempts_exhausted',
  'unrecoverable',
  'timeout',
  'worker_lost',
  'expired',
  'dependency_failed',
  'result_unserialisable',
  'moved',
];

export function withReason(flags: number, reason: DlqReason): number {
  return (flags & ~REASON_MASK) | (REASONS.indexOf(reason) << REASON_SHIFT);
}

export function reasonOf(flags: number): DlqReason {
  return REASONS[(flags & REASON_MASK) >>> REASON_SHIFT] as DlqReason;
}

/** The final state of a record that is only remembered or lingering. */
const FINAL_SHIFT = 24;

export function withFinal(flags: number, state: number): number {
  return (flags & ~(15 << FINAL_SHIFT)) | (state << FINAL_SHIFT);
}

/** It has ended, and what follows from that (waiters, dependents, retention) is still to come: its record stays until then. */
export const ENDING = 1 << 28;
/** It has a group. */
export const GROUPED = 1 << 29;

export function finalOf(flags: number): number {
  return (flags >>> FINAL_SHIFT) & 15;
}
