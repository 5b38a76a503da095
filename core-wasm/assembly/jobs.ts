/**
 * Admission and every transition but the claim: what a job's change of state does to its word, its queue's lists, the heap, the
 * timers and the index. Engine thread only. The table of transitions is `docs/STATE_MACHINE.md`.
 */
import {
  FLAG_CUSTOM_ID,
  FLAG_UNREACHED,
  H_JOB_NEXT,
  LOW_MASK,
  P_CONTENT,
  P_ID_BYTES,
  Q_READY,
  QUEUE_COUNTED,
  S_DUE,
  S_EXPIRY,
  S_EXTRA,
  S_FINISHED_ON,
  S_FLAGS,
  S_HASH,
  S_HEAP,
  S_NUMBER,
  S_PAYLOAD,
  S_PINS,
  S_PRIORITY,
  S_QUEUE,
  S_RESULT,
  S_TIMESTAMP,
  STATE_ACTIVE,
  STATE_BLOCKED,
  STATE_COMPLETED,
  STATE_DELAYED,
  STATE_FREE,
  STATE_GONE,
  STATE_LINGERING,
  STATE_REMEMBERED,
  STATE_WAITING,
} from './layout';
import { blockFree } from './blocks';
import { heapMark, heapPush, heapPushQuiet, heapRoom, heapStale } from './heap';
import { queueFlag } from './queues';
import { hashId, hashNumber, indexInsert, indexRemove } from './ids';
import { permitReturn } from './limits';
import { hintOf, listAppend, listAt, listRemove, ownerOfWord, setState, slotAlloc, slotFree, slotOfHint, stateOf, stateOfWord, withdraw, wordOf } from './slots';
import { timerClear, timerSet } from './timers';

// @ts-ignore: decorator
@inline
function listOf(slot: u32, state: u32): u32 {
  // A claim cannot move a job between lists, so waiting and active jobs share one.
  return listAt(load<u32>(slot, S_QUEUE), state == STATE_ACTIVE ? STATE_WAITING : state);
}

/** Moves a slot between its queue's lists. */
function relist(slot: u32, from: u32, to: u32): void {
  if (from == STATE_ACTIVE) from = STATE_WAITING;
  if (from == to) return;
  if (from != STATE_FREE && from != STATE_GONE) listRemove(listOf(slot, from), slot);
  if (to != STATE_GONE) listAppend(listOf(slot, to), slot);
}

/**
 * A new job in no state yet; its slot, or 0 when memory is full (the payload stays the caller's). It is in the index at once.
 * `expiry`: time at which it expires if it has not started, 0 = never.
 */
export function jobCreate(queue: u32, priority: i32, flags: u32, payload: u32, timestamp: f64, expiry: f64): u32 {
  const slot = slotAlloc();
  if (slot == 0) return 0;
  const number = load<u64>(H_JOB_NEXT);
  store<u64>(H_JOB_NEXT, number + 1);
  store<u64>(slot, number, S_NUMBER);
  store<f64>(slot, timestamp, S_TIMESTAMP);
  store<f64>(slot, expiry, S_EXPIRY);
  store<u32>(slot, queue, S_QUEUE);
  store<i32>(slot, priority, S_PRIORITY);
  store<u32>(slot, payload, S_PAYLOAD);
  store<u32>(slot, flags, S_FLAGS);
  const custom = (flags & FLAG_CUSTOM_ID) != 0;
  store<u32>(slot, custom ? hashId(queue, payload + P_CONTENT, load<u16>(payload, P_ID_BYTES)) : hashNumber(number), S_HASH);
  indexInsert(slot);
  return slot;
}

/** A job that was entered by its number is found by the id in its payload from now on. */
export function jobName(slot: u32): void {
  indexRemove(slot);
  const payload = load<u32>(slot, S_PAYLOAD);
  store<u32>(slot, load<u32>(slot, S_FLAGS) | FLAG_CUSTOM_ID, S_FLAGS);
  store<u32>(slot, hashId(load<u32>(slot, S_QUEUE), payload + P_CONTENT, load<u16>(payload, P_ID_BYTES)), S_HASH);
  indexInsert(slot);
}

/** Sets the expiry timer of a job that may be claimed, or none; false when memory is full. */
export function armExpiry(slot: u32): bool {
  const expiry = load<f64>(slot, S_EXPIRY);
  if (expiry != 0) return timerSet(slot, expiry);
  timerClear(slot);
  return true;
}

/** What a run held is given back. */
function endRun(slot: u32, state: u32): void {
  if (state == STATE_ACTIVE) permitReturn(load<u32>(slot, S_QUEUE), slot);
}

/** Into `state` from any but `waiting`. */
export function move(slot: u32, state: u32): void {
  const from = stateOf(slot);
  assert(from != STATE_WAITING);
  endRun(slot, from);
  relist(slot, from, state);
  if (state == STATE_WAITING) store<u64>(slot, 0, S_HEAP); // in no group's heap, and not aged
  setState(slot, state);
}

/** So many more jobs, or fewer, can be claimed. */
// @ts-ignore: decorator
@inline
export function readyCount(queue: u32, change: i32): void {
  if (queueFlag(queue, QUEUE_COUNTED)) atomic.add<i32>(queue, change, Q_READY);
}

/**
 * Ready to be claimed: at the tail of its priority, or in the head lane when `first`. False when memory is full: the job is then as it
 * was, in its state and with its timer, and the same may be tried again.
 */
export function jobReady(slot: u32, first: bool): bool {
  const level = heapRoom(load<u32>(slot, S_QUEUE), load<i32>(slot, S_PRIORITY), first);
  if (level == 0 || !armExpiry(slot)) return false;
  move(slot, STATE_WAITING);
  readyCount(load<u32>(slot, S_QUEUE), 1);
  heapPush(level, hintOf(slot, wordOf(slot)), first);
  return true;
}

/** As `jobReady`, at the tail, for many in a row: `queueMark` of its queue and priority must follow the last. */
export function jobReadyQuiet(slot: u32): bool {
  const level = heapRoom(load<u32>(slot, S_QUEUE), load<i32>(slot, S_PRIORITY), false);
  if (level == 0 || !armExpiry(slot)) return false;
  move(slot, STATE_WAITING);
  readyCount(load<u32>(slot, S_QUEUE), 1);
  heapPushQuiet(level, hintOf(slot, wordOf(slot)));
  return true;
}

export function queueMark(queue: u32, priority: i32): void {
  heapMark(queue, priority);
}

/** As `jobReady`, but out of every claimer's reach until `jobReach`. */
export function jobHold(slot: u32, first: bool): bool {
  if (heapRoom(load<u32>(slot, S_QUEUE), load<i32>(slot, S_PRIORITY), first) == 0 || !armExpiry(slot)) return false;
  move(slot, STATE_WAITING);
  store<u32>(slot, load<u32>(slot, S_FLAGS) | FLAG_UNREACHED, S_FLAGS);
  return true;
}

// @ts-ignore: decorator
@inline
export function isUnreached(slot: u32): bool {
  return (load<u32>(slot, S_FLAGS) & FLAG_UNREACHED) != 0;
}

export function clearUnreached(slot: u32): void {
  store<u32>(slot, load<u32>(slot, S_FLAGS) & ~FLAG_UNREACHED, S_FLAGS);
}

/**
 * Puts a job that `jobHold` held into the heap, `first` into the head lane; else quietly, so that `queueMark` must follow the last of a
 * row. False when memory is full: it is held as before.
 */
export function jobReach(slot: u32, first: bool): bool {
  assert(isUnreached(slot) && stateOf(slot) == STATE_WAITING);
  const level = heapRoom(load<u32>(slot, S_QUEUE), load<i32>(slot, S_PRIORITY), first);
  if (level == 0) return false;
  clearUnreached(slot);
  readyCount(load<u32>(slot, S_QUEUE), 1);
  const hint = hintOf(slot, wordOf(slot));
  if (first) heapPush(level, hint, true);
  else heapPushQuiet(level, hint);
  return true;
}

/** Waits until `due`. Its timer is the earlier of that and its expiry. False when memory is full: the job is then as it was. */
export function jobDelay(slot: u32, due: f64): bool {
  const expiry = load<f64>(slot, S_EXPIRY);
  if (!timerSet(slot, expiry != 0 && expiry < due ? expiry : due)) return false;
  move(slot, STATE_DELAYED);
  store<f64>(slot, due, S_DUE);
  return true;
}

/** Held by the engine: waiting for other jobs. False when memory is full: the job is then as it was. */
export function jobBlock(slot: u32): bool {
  if (!armExpiry(slot)) return false;
  move(slot, STATE_BLOCKED);
  return true;
}

/** Completed, failed or cancelled, with `result` (a block handed over, or 0). Not from `waiting`: see `jobWithdraw`. */
export function jobFinish(slot: u32, state: u32, result: u32, now: f64): void {
  move(slot, state);
  timerClear(slot);
  const before = load<u32>(slot, S_RESULT);
  if (before != 0) blockFree(before);
  store<u32>(slot, result, S_RESULT);
  store<f64>(slot, now, S_FINISHED_ON);
}

/** The slot of a run, if the ticket is still its own; else 0 (the outcome is late). */
export function runSlot(ticket: u64): u32 {
  const slot = slotOfHint(ticket);
  const word = wordOf(slot);
  if (stateOfWord(word) != STATE_ACTIVE) return 0;
  return (word & ~(<u64>LOW_MASK)) == (ticket & ~(<u64>LOW_MASK)) ? slot : 0;
}

/** The most frequent end of a run in one step: its slot, or 0 when the ticket is late (the result stays the caller's). */
export function runComplete(ticket: u64, result: u32, now: f64): u32 {
  const slot = runSlot(ticket);
  if (slot != 0) jobFinish(slot, STATE_COMPLETED, result, now);
  return slot;
}

/** Takes a waiting job out of the heap and into `state` (not `waiting`); false when a claim came first. */
export function jobWithdraw(slot: u32, state: u32): bool {
  if (!withdraw(slot, state)) return false;
  relist(slot, STATE_WAITING, state);
  timerClear(slot);
  if (isUnreached(slot)) clearUnreached(slot); // it has left no hint
  else leaveHeap(slot);
  return true;
}

/** The hint of a job that was withdrawn is stale, in the queue's heap or in its group's. */
function leaveHeap(slot: u32): void {
  const queue = load<u32>(slot, S_QUEUE);
  const group = load<u32>(slot, S_HEAP);
  if (group == 0) readyCount(queue, -1);
  heapStale(group == 0 ? queue : group, load<i32>(slot, S_PRIORITY));
}

/**
 * Another priority, at the tail of it (or first). False, and the job as it was, when it is waiting and a claim came first (it is active
 * then) or memory is full (it still waits where it did).
 */
export function jobPrioritise(slot: u32, priority: i32, first: bool): bool {
  if (stateOf(slot) != STATE_WAITING || isUnreached(slot)) {
    store<i32>(slot, priority, S_PRIORITY);
    return true;
  }
  const group = load<u32>(slot, S_HEAP);
  const queue = group == 0 ? load<u32>(slot, S_QUEUE) : group;
  const level = heapRoom(queue, priority, first);
  if (level == 0 || !withdraw(slot, STATE_WAITING)) return false;
  const before = load<i32>(slot, S_PRIORITY);
  store<i32>(slot, priority, S_PRIORITY);
  heapPush(level, hintOf(slot, wordOf(slot)), first);
  heapStale(queue, before);
  return true;
}

/** Another payload for the same job (same id and name bytes). The old block is freed. */
export function jobReplacePayload(slot: u32, payload: u32): void {
  blockFree(load<u32>(slot, S_PAYLOAD));
  store<u32>(slot, payload, S_PAYLOAD);
}

/** Sets or clears (`due` 0) the timer of a job whose state has no other use for it (run timeout, retention). */
export function jobTimer(slot: u32, due: f64): bool {
  if (due != 0) return timerSet(slot, due);
  timerClear(slot);
  return true;
}

/**
 * Removes a job that is neither waiting nor active: out of the index, its record freed, or kept as `gone` while a dependent may read
 * it. True when the record is free.
 */
export function jobRemove(slot: u32): bool {
  const from = stateOf(slot);
  assert(from != STATE_WAITING && from != STATE_ACTIVE);
  indexRemove(slot);
  timerClear(slot);
  if (load<u32>(slot, S_PINS) != 0) {
    if (from != STATE_GONE) {
      relist(slot, from, STATE_GONE);
      setState(slot, STATE_GONE);
    }
    return false;
  }
  if (from != STATE_GONE && from != STATE_FREE) listRemove(listOf(slot, from), slot);
  blocksFree(slot);
  slotFree(slot);
  return true;
}

function blocksFree(slot: u32): void {
  const payload = load<u32>(slot, S_PAYLOAD);
  if (payload != 0) blockFree(payload);
  const result = load<u32>(slot, S_RESULT);
  if (result != 0) blockFree(result);
  const extra = load<u32>(slot, S_EXTRA);
  if (extra != 0) blockFree(extra);
}

/**
 * Keeps only the id (in `payload`, with what the engine puts behind it) of a finished job, until `due`. False when memory is full: the
 * job is then as it was, and the payload the caller's.
 */
export function jobRemember(slot: u32, payload: u32, due: f64): bool {
  if (!timerSet(slot, due)) return false;
  move(slot, STATE_REMEMBERED);
  blocksFree(slot);
  store<u32>(slot, payload, S_PAYLOAD);
  store<u32>(slot, 0, S_RESULT);
  store<u32>(slot, 0, S_EXTRA);
  return true;
}

/** Out of sight, but kept with its result until `due`. False when memory is full: the job is then as it was. */
export function jobLinger(slot: u32, due: f64): bool {
  if (!timerSet(slot, due)) return false;
  move(slot, STATE_LINGERING);
  return true;
}

/** The owner in a slot's word. */
export function jobOwner(slot: u32): u32 {
  return ownerOfWord(wordOf(slot));
}
