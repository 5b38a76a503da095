/** `finished` and `addAndWait`: from references to waits, in one step, so that there is no moment between looking and subscribing. */
import { type AddAnswers, areNew, type JobRef } from '../../client/connection.js';
import { JobNotFoundError } from '../../client/errors.js';
import { L, type Slot } from '../core/index.js';
import type { EngineState } from '../state.js';
import { afterDurable, flagsOf, idOf, queueOf, setFlags } from '../state.js';
import { WAITED } from './flags.js';
import { endingOf, resultOf } from './records.js';
import { resolve } from './references.js';
import { type Ending, endingError, ManyWait, type NameOf, OneWait, type Wait } from './waiters.js';

/**
 * Results in the order of the references. Not `settled`: rejects with the failure that happened first (of those already there, the
 * first in order). That a job never existed is a failure that happened before.
 */
export function awaitJobs(
  state: EngineState,
  queue: string,
  refs: readonly JobRef[],
  timeoutMs: number | undefined,
  settled: boolean,
): Promise<unknown[]> {
  if (refs.length === 0) return Promise.resolve([]);
  const wait = new ManyWait(refs.length, settled);
  for (let index = 0; index < refs.length; index++) join(state, wait, index, queue, refs[index] as JobRef);
  state.waiters.begin(wait, timeoutMs, namesOf(queue, refs));
  return wait.promise;
}

function namesOf(queue: string, refs: readonly JobRef[]): NameOf {
  return (index) => {
    const ref = refs[index] as JobRef;
    return { queue: ref.queue ?? queue, id: ref.id };
  };
}

/** The job of a one-item `add`: its result. */
export function awaitAdded(
  state: EngineState,
  queue: string,
  answers: AddAnswers,
  timeoutMs: number | undefined,
): Promise<unknown> {
  const wait = new OneWait();
  if (areNew(answers)) {
    const slot = (answers.places?.[0] as number) * L.SLOT_BYTES;
    waitFor(state, wait, 0, slot);
    state.waiters.begin(wait, timeoutMs, () => ({ queue, id: `j${answers.first}` }));
    return wait.promise;
  }
  const [answer] = answers;
  if (answer?.error !== undefined) throw answer.error;
  const ref = { id: answer?.id ?? '', queue };
  join(state, wait, 0, queue, ref, answer?.deduplicated);
  state.waiters.begin(wait, timeoutMs, namesOf(queue, [ref]));
  return wait.promise;
}

/** Waits for the job, or takes what it ended with. `wasThere`: it is known to have existed. */
function join(state: EngineState, wait: Wait, index: number, queue: string, ref: JobRef, wasThere = false): void {
  const { slot, existed } = resolve(state, queue, ref);
  if (slot === 0 && !existed && !wasThere) {
    wait.fail(index, new JobNotFoundError({ queue: ref.queue ?? queue, jobId: ref.id }));
    return;
  }
  if (slot !== 0 && state.core.state(slot) < L.STATE_COMPLETED) {
    if (!wait.done) waitFor(state, wait, index, slot);
    return;
  }
  const ending = slot === 0 ? REMOVED : endingOf(state, slot);
  if (ending === undefined) return;
  if (ending.kind === 'completed') {
    const { value } = ending;
    tellEnd(state, slot, wait, () => wait.complete(index, value));
    return;
  }
  const named =
    slot === 0
      ? { queue: ref.queue ?? queue, id: ref.id }
      : { queue: queueOf(state, slot).name, id: idOf(state, slot) };
  const error = endingError(named.queue, named.id, ending);
  tellEnd(state, slot, wait, () => wait.fail(index, error));
}

/** Of a job that ended before somebody asked: at once when that is durable. */
function tellEnd(state: EngineState, slot: Slot, wait: Wait, told: () => void): void {
  if (state.journal === undefined || (slot !== 0 && state.journal.isDurable(slot))) told();
  else afterDurable(state, told, abandon(wait));
}

function abandon(wait: Wait): (error: Error) => void {
  return (error) => wait.abandon(error);
}

const REMOVED: Ending = { kind: 'removed', state: undefined };

function waitFor(state: EngineState, wait: Wait, index: number, slot: Slot): void {
  setFlags(state, slot, WAITED);
  state.waiters.add(wait, index, slot / L.SLOT_BYTES);
}

/** The job has ended, or is about to be removed (`removedFrom`: its state): tells whoever waits. Each gets a value of its own. */
export function tellWaiters(state: EngineState, slot: Slot, removedFrom?: string): void {
  if ((flagsOf(state, slot) & WAITED) === 0) return;
  setFlags(state, slot, 0, WAITED);
  const { waiters } = state;
  const place = slot / L.SLOT_BYTES;
  if (removedFrom === undefined && state.core.state(slot) === L.STATE_COMPLETED) {
    while (waiters.next(place)) {
      const { wait, index } = waiters;
      const value = resultOf(state, slot);
      if (state.journal === undefined) wait.complete(index, value);
      else state.journal.result(wait, index, value);
    }
    return;
  }
  const ending: Ending | undefined =
    removedFrom === undefined ? endingOf(state, slot) : { kind: 'removed', state: removedFrom };
  if (ending === undefined || ending.kind === 'completed') return;
  const error = () => endingError(queueOf(state, slot).name, idOf(state, slot), ending);
  while (waiters.next(place)) {
    const { wait, index } = waiters;
    const why = error();
    const told = (): void => {
      wait.fail(index, why);
      waiters.told(wait);
    };
    afterDurable(state, told, abandon(wait));
  }
}
