/**
 * Interrupting: a job that waits in the midst of its life runs again at once, and one that runs is told to look up; it is not stopped, and
 * what it does about it is its own affair. For jobs that are run by the library itself (a saga that is cancelled).
 */
import type { JobRef } from '../../client/connection.js';
import { EngineFullError } from '../../client/errors.js';
import { L, type Slot } from '../core/index.js';
import type { EngineState } from '../state.js';
import { release, unlinkAll } from './dependencies.js';
import { coldOf, setCold } from './records.js';
import { mustResolve } from './references.js';
import { makeReady } from './settle.js';

/** The reason stays with the job, for the runs to come. False when it has completed or was cancelled. */
export function interrupt(state: EngineState, queue: string, ref: JobRef, reason: string): boolean {
  const { core } = state;
  const slot = mustResolve(state, queue, ref);
  const raw = core.state(slot);
  if (raw === L.STATE_COMPLETED || raw === L.STATE_CANCELLED) return false;
  const isActive = raw === L.STATE_ACTIVE;
  const cold = coldOf(state, slot);
  const run = core.field(slot, L.S_STARTED) - (isActive ? 0 : 1);
  const interruption = { reason: cold.interruption?.reason ?? reason, run };
  if (!setCold(state, slot, { ...cold, interruption }))
    throw new EngineFullError({ limitBytes: state.limits.memoryBytes });
  if (isActive) state.owners[core.wasm.jobOwner(slot)]?.abort(slot, 'interrupted', interruption.reason);
  else if (raw === L.STATE_DELAYED) makeReady(state, slot, false, 'delayed');
  else if (raw === L.STATE_BLOCKED && run >= 0 && core.field(slot, L.S_UNSETTLED) !== 0) {
    unlinkAll(state, slot);
    release(state, slot);
  }
  return true;
}

/** Whether the run that is over now was interrupted: it may not have looked since, so its job must not wait. */
export function isInterrupted(state: EngineState, slot: Slot): boolean {
  return coldOf(state, slot).interruption?.run === state.core.field(slot, L.S_STARTED) - 1;
}
