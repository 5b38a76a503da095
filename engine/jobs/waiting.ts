/** `finished` and `addAndWait`: from references to waits, in one step, so that there is no moment between looking and subscribing. */
import type { JobRef } from '../../client/connection.js';
import { JobNotFoundError } from '../../client/errors.js';
import type { EngineState } from '../state.js';
import { idOf, queueOf, setFlags } from '../state.js';
import { WAITED } from './flags.js';
import { endingOf } from './records.js';
import { resolve } from './references.js';
import type { Awaited } from './waiters.js';

/** Results in the order of the references; see `Waiters.wait`. Throws JobNotFoundError for a job that never existed. */
export function awaitJobs(
  state: EngineState,
  queue: string,
  refs: readonly JobRef[],
  timeoutMs: number | undefined,
  settled: boolean,
): Promise<unknown[]> {
  const jobs = refs.map((ref) => awaited(state, queue, ref));
  return state.waiters.wait(jobs, timeoutMs, settled);
}

export async function awaitOne(state: EngineState, queue: string, ref: JobRef, timeoutMs: number | undefined): Promise<unknown> {
  const [value] = await awaitJobs(state, queue, [ref], timeoutMs, false);
  return value;
}

function awaited(state: EngineState, queue: string, ref: JobRef): Awaited {
  const { slot, existed } = resolve(state, queue, ref);
  if (slot === 0) {
    const named = { queue: ref.queue ?? queue, jobId: ref.id };
    if (!existed) throw new JobNotFoundError(named);
    return { number: 0, queue: named.queue, id: ref.id, ending: { kind: 'removed', state: undefined } };
  }
  const ending = endingOf(state, slot);
  if (ending === undefined) setFlags(state, slot, WAITED);
  return { number: state.core.number(slot), queue: queueOf(state, slot).name, id: idOf(state, slot), ending };
}
