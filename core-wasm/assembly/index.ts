/**
 * The exported calls; no logic. 64-bit values cross the border as two u32 (low, high): a BigInt costs an allocation.
 * Unless it says "any thread", a call is the engine thread's alone.
 */
import {
  A_CLAIMS,
  CHUNK_FIRST,
  ENGINE_THREAD,
  H_CHUNK_HINT,
  H_CHUNKS_MAX,
  H_CHUNKS_TOUCHED,
  H_EPOCH,
  H_JOB_NEXT,
  H_MAGIC,
  H_THREADS_HIGH,
  H_VERSION,
  LAYOUT_VERSION,
  MAGIC,
} from './layout';
import * as blocks from './blocks';
import * as claims from './claim';
import * as ids from './ids';
import * as jobs from './jobs';
import * as rings from './rings';
import * as threads from './threads';

export { blockFree, blockPart, blockRetain, chunksReap, sealedCollect } from './blocks';
export { breakerCreate, breakerLimit, breakerReport, breakerSet, probeReturn, probesReap } from './breaker';
export { edgeAdd, edgeDrop, edgeLink, edgeUnlink } from './edges';
export { groupClose, groupOpen, groupPut, groupReach, groupSink, groupSurface, groupTop, jobAge } from './groups';
export { indexRemove } from './ids';
export { heapClear, heapMayHave, levelsSweep } from './heap';
export {
  jobBlock,
  jobCreate,
  jobDelay,
  jobFinish,
  jobHold,
  jobLinger,
  jobName,
  jobOwner,
  jobPrioritise,
  jobReach,
  jobReady,
  jobReadyQuiet,
  jobRemember,
  jobRemove,
  jobReplacePayload,
  jobTimer,
  jobWithdraw,
  queueMark,
} from './jobs';
export { limitsClear, permitReturn, permitsAbove, permitsConfigure, permitsReap, rateConfigure, rateNext } from './limits';
export { queueCount, queueFlags, queueOpen, queuePaused } from './queues';
export { runNext, runOf, runsActive } from './reap';
export { outcomePeek, outcomeSpace, outcomeTake, submitPeek, submitPublish, submitSpace, submitTake } from './rings';
export { stateOf } from './slots';
export { epochAdvance, epochPassed, limboAdvance, parkBegin, parkEnd, threadDied, threadFree, threadOpen, wakeQueue, wakeThread } from './threads';
export { timerNext, timerPop } from './timers';

// @ts-ignore: decorator
@inline
function wide(low: u32, high: u32): u64 {
  return ((<u64>high) << 32) | low;
}

/** Lays out an untouched memory of which `chunks` pages may be used; opens the engine's own thread. False when that is too few. */
export function format(chunks: u32): bool {
  store<u32>(H_CHUNKS_MAX, chunks);
  store<u32>(H_CHUNKS_TOUCHED, CHUNK_FIRST);
  store<u32>(H_CHUNK_HINT, CHUNK_FIRST);
  atomic.store<u32>(H_EPOCH, 1);
  store<u32>(H_THREADS_HIGH, 1);
  store<u64>(H_JOB_NEXT, 1);
  if (threads.threadOpen(0) != ENGINE_THREAD || !ids.indexFormat()) return false;
  store<u32>(H_VERSION, LAYOUT_VERSION);
  atomic.store<u32>(H_MAGIC, MAGIC);
  return true;
}

/** Any thread: a block of its own; 0 when memory is full. */
export function blockAlloc(thread: u32, bytes: u32): u32 {
  return blocks.blockAlloc(thread, bytes, true);
}

/** A block that an admitted job needs, from the reserve if it must be. */
export function blockAllocReserved(bytes: u32): u32 {
  return blocks.blockAlloc(ENGINE_THREAD, bytes, false);
}

/** Any thread. */
export function claim(thread: u32, queue: u32, run: u32, now: f64, breaker: u32): u32 {
  return claims.claim(thread, queue, run, now, breaker);
}

/** Any thread: publishes the end of the run in its claim entry `run`. `block`: a block of its own, handed over, or 0. */
export function outcomePublish(thread: u32, kind: u32, run: u32, block: u32, at: f64, value: f64): void {
  const ticket = load<u64>(threads.areaOf(thread) + A_CLAIMS + (run << 3));
  rings.outcomePublish(thread, kind, ticket, block, at, value);
}

export function runSlot(low: u32, high: u32): u32 {
  return jobs.runSlot(wide(low, high));
}

export function runComplete(low: u32, high: u32, result: u32, now: f64): u32 {
  return jobs.runComplete(wide(low, high), result, now);
}

export function findNumber(low: u32, high: u32): u32 {
  return ids.findNumber(wide(low, high));
}

export function findId(queue: u32, id: u32, bytes: u32): u32 {
  return ids.findId(queue, id, bytes);
}
