/** From what users call a job to its slot. */
import type { JobRef } from '../../client/connection.js';
import { JobNotFoundError, JobRemovedError } from '../../client/errors.js';
import { L, type Slot } from '../core/index.js';
import type { EngineState } from '../state.js';
import { finalState, visibleState } from './records.js';

const PREFIX = 0x6a; // j
const ZERO = 0x30;
/** Digits of a generated id: numbers stay below 2^53. */
const DIGITS_MAX = 16;

/** The number in a generated id, or 0. By hand: this runs for every job that is waited for. */
function generatedNumber(id: string): number {
  const { length } = id;
  if (length < 2 || length > DIGITS_MAX + 1 || id.charCodeAt(0) !== PREFIX || id.charCodeAt(1) === ZERO) return 0;
  let number = 0;
  for (let i = 1; i < length; i++) {
    const digit = id.charCodeAt(i) - ZERO;
    if (digit < 0 || digit > 9) return 0;
    number = number * 10 + digit;
  }
  return number;
}

export interface Found {
  readonly slot: Slot;
  /** Without a slot: a generated id that has been given out, so the job existed and is gone. */
  readonly existed: boolean;
}

const NOTHING: Found = { slot: 0, existed: false };

/**
 * The record under a reference, also one that only lingers or is remembered. A custom id of the queue comes first; a generated id is
 * found in any queue, unless the reference names another one.
 */
export function resolve(state: EngineState, queueName: string, ref: JobRef): Found {
  const { core, payloads, queues } = state;
  const { number: known = 0, place = 0 } = ref;
  if (place !== 0) {
    const hinted = place * L.SLOT_BYTES;
    const isThere = (core.field(hinted, L.S_FLAGS) & L.FLAG_INDEXED) !== 0;
    if (isThere && core.number(hinted) === known) return { slot: hinted, existed: true };
  }
  const name = ref.queue ?? queueName;
  const queue = queues.find(name);
  if (queue?.customIds === true) {
    const slot = payloads.withText(ref.id, (address, bytes) => core.wasm.findId(queue.address, address, bytes) >>> 0);
    if (slot !== 0) return { slot, existed: true };
  }
  const number = generatedNumber(ref.id);
  if (number === 0) return NOTHING;
  const slot = core.findNumber(number);
  if (slot === 0) return { slot: 0, existed: number < core.nextNumber() };
  if (ref.queue !== undefined && core.field(slot, L.S_QUEUE) !== queue?.address) return NOTHING;
  return { slot, existed: true };
}

/** The slot of a job that users can see; throws JobNotFoundError or JobRemovedError. */
export function mustResolve(state: EngineState, queueName: string, ref: JobRef): Slot {
  const { slot, existed } = resolve(state, queueName, ref);
  const named = { queue: ref.queue ?? queueName, jobId: ref.id };
  if (slot !== 0 && visibleState(state, slot) !== 'unknown') return slot;
  if (slot !== 0) throw new JobRemovedError({ ...named, state: finalState(state, slot) });
  throw existed ? new JobRemovedError(named) : new JobNotFoundError(named);
}

/** The slot of a job that users can see, or 0. */
export function visibleSlot(state: EngineState, queueName: string, ref: JobRef): Slot {
  const { slot } = resolve(state, queueName, ref);
  return slot !== 0 && visibleState(state, slot) !== 'unknown' ? slot : 0;
}
