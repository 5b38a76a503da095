/**
 * Transitions for which there was no memory, not even in the reserve. The core has changed nothing then, so the same call is made again
 * when some may be free: the job stays in the state it was in, and is not lost.
 */
import { L, type Slot } from '../core/index.js';
import { beginAging } from '../jobs/aging.js';
import { groupReach, groupReady, isGrouped } from '../jobs/groups.js';
import type { EngineState } from '../state.js';
import { announce, queueOf } from '../state.js';

export type Move =
  | { to: 'ready' | 'held'; first: boolean }
  | { to: 'reach' }
  | { to: 'delayed'; due: number }
  | { to: 'blocked' };

export interface Postponed {
  readonly slot: Slot;
  /** Job and state that are to be moved: both may have changed meanwhile. */
  readonly number: number;
  readonly raw: number;
  readonly move: Move;
}

function attempt(state: EngineState, slot: Slot, move: Move): boolean {
  const { wasm } = state.core;
  switch (move.to) {
    case 'ready':
      return ready(state, slot, move.first);
    case 'held':
      return hold(state, slot, move.first);
    case 'reach':
      return reach(state, slot);
    case 'delayed':
      return wasm.jobDelay(slot, move.due) !== 0;
    case 'blocked':
      return wasm.jobBlock(slot) !== 0;
  }
}

function postpone(state: EngineState, slot: Slot, move: Move): void {
  const { core } = state;
  state.postponed.push({ slot, number: core.number(slot), raw: core.state(slot), move });
  if (state.postponed.length > 1) return;
  state.warn('No memory is left for what admitted jobs need; they go on when some is free', 'FLASHQ_RESERVE_EMPTY');
}

/** Makes a job ready, now or as soon as there is memory for it. */
export function toReady(state: EngineState, slot: Slot, first: boolean): void {
  if (!ready(state, slot, first)) postpone(state, slot, { to: 'ready', first });
}

function ready(state: EngineState, slot: Slot, first: boolean): boolean {
  const isDone = isGrouped(state, slot)
    ? groupReady(state, slot, first)
    : state.core.wasm.jobReady(slot, first ? 1 : 0) !== 0;
  if (isDone) beginAging(state, slot);
  return isDone;
}

function hold(state: EngineState, slot: Slot, first: boolean): boolean {
  if (state.core.wasm.jobHold(slot, first ? 1 : 0) === 0) return false;
  state.journal?.hold(slot);
  beginAging(state, slot);
  return true;
}

/** Ready as soon as what made it so is durable; at once in an engine that does not promise that. */
export function toReadyOnceDurable(state: EngineState, slot: Slot, first: boolean): void {
  if (state.journal?.gates !== true) toReady(state, slot, first);
  else if (!hold(state, slot, first)) postpone(state, slot, { to: 'held', first });
}

function reach(state: EngineState, slot: Slot): boolean {
  const { core } = state;
  const flags = core.field(slot, L.S_FLAGS);
  if ((flags & L.FLAG_UNREACHED) === 0) return true; // withdrawn meanwhile
  if (isGrouped(state, slot)) return groupReach(state, slot);
  if (core.wasm.jobReach(slot, flags & L.FLAG_LIFO) === 0) return false;
  core.wasm.queueMark(core.field(slot, L.S_QUEUE), core.priority(slot));
  return true;
}

/** A held job is durable, but its hint finds no memory. */
export function postponeReach(state: EngineState, slot: Slot): void {
  postpone(state, slot, { to: 'reach' });
}

/** As `toReady`, at the tail and not reachable before `queueMark`. */
export function toReadyQuietly(state: EngineState, slot: Slot): void {
  if (state.core.wasm.jobReadyQuiet(slot) === 0) postpone(state, slot, { to: 'ready', first: false });
  else beginAging(state, slot);
}

export function toDelayed(state: EngineState, slot: Slot, due: number): void {
  if (state.core.wasm.jobDelay(slot, due) === 0) postpone(state, slot, { to: 'delayed', due });
  else state.alarm.arm();
}

export function toBlocked(state: EngineState, slot: Slot): void {
  if (state.core.wasm.jobBlock(slot) === 0) postpone(state, slot, { to: 'blocked' });
}

/** Tries again, in the order in which they came. */
export function runPostponed(state: EngineState): void {
  if (state.postponed.length === 0) return;
  const { core } = state;
  for (const one of state.postponed.splice(0)) {
    const { slot, number, raw, move } = one;
    if (core.number(slot) !== number || core.state(slot) !== raw) continue;
    if (!attempt(state, slot, move)) {
      state.postponed.push(one);
      continue;
    }
    if (raw !== L.STATE_FREE || move.to === 'ready' || move.to === 'reach') announce(state, queueOf(state, slot), 1);
    state.alarm.arm();
  }
}
