/** `finished` and `addAndWait`: from references to waits, in one step, so that there is no moment between looking and subscribing. */
import type { JobRef } from '../../client/connection.js';
import { JobNotFoundError } from '../../client/errors.js';
import type { Slot } from '../core/index.js';
import type { EngineState } from '../state.js';
import { idOf, queueOf, setFlags } from '../state.js';
import { WAITED } from './flags.js';
import { endingOf } from './records.js';
import { resolve } from './references.js';
import { Wait } from './waiters.js';

/**
 * Results in the order of the references. Not `settled`: rejects with the failure that happened first (of those already there, the
 * first in order). Throws JobNotFoundError for a job that never existed, and then waits for none.
 */
export function awaitJobs(
  state: EngineState,
  queue: string,
  refs: readonly JobRef[],
  timeoutMs: number | undefined,
  settled: boolean,
): Promise<unknown[]> {
  if (refs.length === 0) return Promise.resolve([]);
  const slots = refs.map((ref) => find(state, queue, ref));
  const wait = new Wait(refs.length, settled);
  for (let index = 0; index < slots.length; index++) {
    place(state, wait, index, slots[index] as Slot, queue, refs[index] as JobRef);
    if (wait.done) break;
  }
  return state.waiters.begin(wait, timeoutMs, (index) => {
    const ref = refs[index] as JobRef;
    return { queue: ref.queue ?? queue, id: ref.id };
  });
}

/** The record, or 0 for a job that is gone. */
function find(state: EngineState, queue: string, ref: JobRef): Slot {
  const { slot, existed } = resolve(state, queue, ref);
  if (slot === 0 && !existed) throw new JobNotFoundError({ queue: ref.queue ?? queue, jobId: ref.id });
  return slot;
}

function place(state: EngineState, wait: Wait, index: number, slot: Slot, queue: string, ref: JobRef): void {
  if (slot === 0) {
    wait.settle(index, ref.queue ?? queue, ref.id, { kind: 'removed', state: undefined });
    return;
  }
  const ending = endingOf(state, slot);
  if (ending !== undefined) {
    wait.settle(index, queueOf(state, slot).name, idOf(state, slot), ending);
    return;
  }
  setFlags(state, slot, WAITED);
  state.waiters.add(wait, index, state.core.number(slot));
}

export async function awaitOne(
  state: EngineState,
  queue: string,
  ref: JobRef,
  timeoutMs: number | undefined,
): Promise<unknown> {
  const [value] = await awaitJobs(state, queue, [ref], timeoutMs, false);
  return value;
}
