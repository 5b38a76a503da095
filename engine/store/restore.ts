/**
 * From slots to an engine that goes on: gives every job that was read from the log the state that it had, in the order that it had; and
 * decides about those whose run ended with the engine before.
 */
import { L, type Slot } from '../core/index.js';
import { applyPolicy, release } from '../jobs/dependencies.js';
import { deferEnds, retainAgain } from '../jobs/endings.js';
import { finalOf, HAS_DEPENDENCIES, SUSPECT, SUSPECT_OUT } from '../jobs/flags.js';
import { loseRun, makeReady, SUSPECT_LOSSES } from '../jobs/settle.js';
import { type EngineState, flagsOf, queueOf, setFlags } from '../state.js';
import { toReady } from '../upkeep/postponed.js';
import type { Replay } from './replay.js';
import { slotAt } from './slot-table.js';

/** What is left to decide once changes are written down again. */
export interface Unfinished {
  /** Their run was lost with the engine, in the order in which they'd be claimed. */
  readonly lost: readonly Slot[];
  /** Held apart, or released by the last thing that happened. */
  readonly held: readonly Slot[];
  /** Something that they wait for has failed, which they had not heard of when the process ended. */
  readonly unheard: readonly Slot[];
  /** Removed, and read by nobody any more. */
  readonly unread: readonly Slot[];
  readonly finished: readonly Slot[];
}

/**
 * Everything that has been decided already. Nothing of it is a change. `noted`: starts that the engine before noted elsewhere, by the
 * numbers of their jobs: how often these had been started before.
 */
export function restoreStates(state: EngineState, replay: Replay, noted: ReadonlyMap<number, number>): Unfinished {
  state.core.setNextNumber(replay.jobNext);
  const slots = slotsOf(replay);
  // In the order in which they began to wait: in that one they are told.
  const dependents = inOrderOfPlace(replay, [...replay.dependencies.keys()]);
  const unheard = dependents.filter((slot) => connectAgain(state, replay, slot) === 'unheard');
  for (const slot of slots) nameAgain(state, replay, slot);
  const by: Slot[][] = Array.from({ length: L.STATES }, () => []);
  for (const slot of slots) (by[stateBefore(state, replay, slot, noted)] as Slot[]).push(slot);
  const of = (...states: number[]): Slot[] => states.flatMap((raw) => by[raw] as Slot[]);
  const finished = inOrderOfEnd(state, of(L.STATE_COMPLETED, L.STATE_FAILED, L.STATE_CANCELLED));
  for (const slot of finished) finishAgain(state, slot, replay.stateOf(slot));
  for (const slot of inOrderOfEnd(state, of(L.STATE_REMEMBERED))) rememberAgain(state, slot);
  for (const slot of inOrderOfEnd(state, of(L.STATE_LINGERING))) {
    finishAgain(state, slot, finalOf(flagsOf(state, slot)));
    state.core.wasm.jobLinger(slot, state.core.time(slot, L.S_DUE));
  }
  const unread = hideAgain(state, of(L.STATE_GONE));
  for (const slot of of(L.STATE_DELAYED)) state.core.wasm.jobDelay(slot, state.core.time(slot, L.S_DUE));
  const blocked = of(L.STATE_BLOCKED);
  for (const slot of blocked) state.core.wasm.jobBlock(slot);
  const held = inOrderOfPlace(
    replay,
    blocked.filter((slot) => state.core.field(slot, L.S_UNSETTLED) === 0),
  );
  const waiting = inOrderOfPlace(replay, of(L.STATE_FREE, L.STATE_WAITING));
  const lost = inOrderOfPlace(replay, of(L.STATE_ACTIVE));
  for (const slot of lost) {
    state.core.wasm.jobBlock(slot);
    state.core.setTime(slot, L.S_DUE, 0); // of a run: where it waited, and how it aged
  }
  return { lost, held: [...pushAgain(state, replay, waiting), ...held], unheard, unread, finished };
}

/** As the log has it, unless a start was noted of which the log does not know the end. */
function stateBefore({ core }: EngineState, replay: Replay, slot: Slot, noted: ReadonlyMap<number, number>): number {
  const raw = replay.stateOf(slot);
  if (raw >= L.STATE_COMPLETED || noted.size === 0) return raw;
  // 'relaxed': it was started after its dependencies had completed, of which the log does not know; they will run first, again.
  if (raw === L.STATE_BLOCKED && core.field(slot, L.S_UNSETTLED) !== 0) return raw;
  return noted.get(core.number(slot)) === core.field(slot, L.S_STARTED) ? L.STATE_ACTIVE : raw;
}

function slotsOf({ table }: Replay): Slot[] {
  const slots: Slot[] = [];
  for (let page = 0; page < table.pages.length; page++) {
    const base = table.pages[page]?.base ?? [];
    for (let index = 0; index < base.length; index++) if (base[index] !== 0) slots.push(slotAt(page, index));
  }
  return slots;
}

// ---- dependencies and ids -------------------------------------------------------------------------------------------------------

/** What has completed since that was written down is waited for no more. `unheard`: some of it has failed, and nothing followed. */
function connectAgain(state: EngineState, replay: Replay, slot: Slot): 'unheard' | undefined {
  const numbers = replay.dependencies.get(slot) as Float64Array;
  const { core } = state;
  let unsettled = 0;
  let failed = 0;
  for (let i = numbers.length - 1; i >= 0; i--) {
    const number = numbers[i] as number;
    const dependency = core.findNumber(Math.abs(number));
    if (dependency === 0) continue;
    const edge = core.wasm.edgeAdd(slot, dependency) >>> 0;
    if (number > 0 || hasCompleted(state, replay, dependency)) continue;
    core.wasm.edgeLink(edge);
    unsettled++;
    if (replay.stateOf(dependency) >= L.STATE_COMPLETED) failed++;
  }
  core.setField(slot, L.S_UNSETTLED, unsettled);
  if (core.field(slot, L.S_DEPENDENCIES) !== 0) setFlags(state, slot, HAS_DEPENDENCIES);
  return failed === 0 ? undefined : 'unheard';
}

function hasCompleted(state: EngineState, replay: Replay, slot: Slot): boolean {
  const raw = replay.stateOf(slot);
  return raw === L.STATE_COMPLETED || (raw > L.STATE_CANCELLED && finalOf(flagsOf(state, slot)) === L.STATE_COMPLETED);
}

function nameAgain(state: EngineState, replay: Replay, slot: Slot): void {
  if (!replay.isNamed(slot)) return;
  if (replay.stateOf(slot) === L.STATE_GONE) {
    setFlags(state, slot, L.FLAG_CUSTOM_ID); // it has a name, but nobody finds it by that
    return;
  }
  state.core.wasm.jobName(slot);
  state.queues.at(state.core.field(slot, L.S_QUEUE)).customIds = true;
}

// ---- states ---------------------------------------------------------------------------------------------------------------------

function inOrderOfEnd({ core }: EngineState, slots: Slot[]): Slot[] {
  const end = (slot: Slot) => core.time(slot, L.S_FINISHED_ON);
  return slots.sort((a, b) => end(a) - end(b) || core.number(a) - core.number(b));
}

/** In the order in which they'd be claimed, were they of one priority. They mostly lie in it. */
function inOrderOfPlace({ table }: Replay, slots: Slot[]): Slot[] {
  const seqOf = (slot: Slot) => table.page(slot).seq[table.index(slot)] as number;
  const inOrder = slots.every((slot, i) => i === 0 || seqOf(slots[i - 1] as Slot) <= seqOf(slot));
  return inOrder ? slots : slots.sort((a, b) => seqOf(a) - seqOf(b));
}

function finishAgain({ core }: EngineState, slot: Slot, raw: number): void {
  const result = core.field(slot, L.S_RESULT);
  core.setField(slot, L.S_RESULT, 0); // or it would be freed
  core.wasm.jobFinish(slot, raw, result, core.time(slot, L.S_FINISHED_ON));
}

function rememberAgain(state: EngineState, slot: Slot): void {
  const { core } = state;
  const id = core.field(slot, L.S_PAYLOAD);
  core.setField(slot, L.S_PAYLOAD, 0);
  core.wasm.jobRemember(slot, id, core.time(slot, L.S_DUE));
  state.remembered++;
}

/** Records that only dependents see. Those that none reads. */
function hideAgain(state: EngineState, slots: readonly Slot[]): Slot[] {
  const { core } = state;
  const unread: Slot[] = [];
  for (const slot of slots) {
    finishAgain(state, slot, finalOf(flagsOf(state, slot)) || L.STATE_CANCELLED);
    if (core.field(slot, L.S_PINS) === 0) unread.push(slot);
    else core.wasm.jobRemove(slot);
  }
  return unread;
}

/** Puts waiting jobs where they were: those of the head lane before all others. Gives those for which it is another's turn. */
function pushAgain(state: EngineState, { table }: Replay, slots: readonly Slot[]): Slot[] {
  const apart: Slot[] = [];
  let behind = 0;
  while (behind < slots.length && isInLane(table, slots[behind] as Slot)) behind++;
  for (let i = behind - 1; i >= 0; i--) {
    const slot = slots[i] as Slot;
    if (mayBeOut(state, slot)) toReady(state, slot, true);
    else apart.push(slot);
  }
  for (let i = behind; i < slots.length; i++) {
    const slot = slots[i] as Slot;
    if (mayBeOut(state, slot)) toReady(state, slot, false);
    else apart.push(slot);
  }
  for (const slot of apart) state.core.wasm.jobBlock(slot);
  return apart;
}

/** Of those that were lost twice or more one was waiting; the others waited for it. */
function mayBeOut(state: EngineState, slot: Slot): boolean {
  if (state.core.lost(slot) < SUSPECT_LOSSES) return true;
  const queue = queueOf(state, slot);
  if (queue.suspectOut) return false;
  queue.suspectOut = true;
  setFlags(state, slot, SUSPECT | SUSPECT_OUT);
  return true;
}

function isInLane(table: Replay['table'], slot: Slot): boolean {
  return (table.page(slot).seq[table.index(slot)] as number) < 0;
}

// ---- decisions ------------------------------------------------------------------------------------------------------------------

/** What becomes of the rest. Each of it is a change, written down like any other. */
export function decideRest(state: EngineState, { lost, held, unheard, unread, finished }: Unfinished): void {
  const { core } = state;
  for (const slot of unheard) deferEnds(() => tellFailures(state, slot));
  for (const slot of unread) core.wasm.jobRemove(slot);
  // The first to be claimed comes last to the head.
  for (let i = lost.length - 1; i >= 0; i--) loseRun(state, lost[i] as Slot);
  for (const slot of held) {
    if (core.state(slot) !== L.STATE_BLOCKED || core.field(slot, L.S_UNSETTLED) !== 0) continue;
    if (core.lost(slot) >= SUSPECT_LOSSES) makeReady(state, slot, true, 'waiting');
    else release(state, slot);
  }
  for (const slot of finished) if (core.state(slot) >= L.STATE_COMPLETED) retainAgain(state, slot);
}

/** Does what a blocked job's policy says of what it waits for and has failed. */
function tellFailures(state: EngineState, slot: Slot): void {
  const { core } = state;
  let edge = core.field(slot, L.S_DEPENDENCIES);
  for (; edge !== 0 && core.state(slot) === L.STATE_BLOCKED; edge = core.field(edge, L.D_IN_NEXT)) {
    const dependency = core.field(edge, L.D_DEPENDENCY);
    if (core.field(edge, L.D_LINKED) === 0 || core.state(dependency) < L.STATE_COMPLETED) continue;
    applyPolicy(state, slot, dependency, edge, 'failed');
  }
}
