/**
 * What is due when: a 4-ary heap of (due, slot), jobs due at one moment in the order of their numbers; at most one entry a slot, in segments that are taken and given back as it grows and
 * shrinks. Engine thread only. A 4-ary heap (D. Johnson, 1975) has half the depth of a binary one, and its four children share
 * a cache line of 16-byte entries. The slot knows its place, so an entry is moved or removed in O(log n).
 */
import {
  CHUNK_SYSTEM,
  ENGINE_THREAD,
  H_TIMER_SEGMENTS,
  H_TIMERS,
  S_NUMBER,
  S_TIMER,
  TIMER_BYTES,
  TIMER_DIRECTORY_AT,
  TIMER_SEGMENT_ENTRIES,
  TIMER_SEGMENTS_MAX,
} from './layout';
import { chunkAcquire, chunkRelease } from './chunks';

// @ts-ignore: decorator
@inline
function entryAt(index: u32): usize {
  const segment = load<u32>(TIMER_DIRECTORY_AT + ((index / TIMER_SEGMENT_ENTRIES) << 2));
  return segment + (index % TIMER_SEGMENT_ENTRIES) * TIMER_BYTES;
}

// @ts-ignore: decorator
@inline
function place(index: u32, due: f64, slot: u32): void {
  const entry = entryAt(index);
  store<f64>(entry, due);
  store<u32>(entry, slot, 8);
  store<u32>(slot, index + 1, S_TIMER);
}

// @ts-ignore: decorator
@inline
function isBefore(due: f64, slot: u32, otherDue: f64, other: u32): bool {
  return due < otherDue || (due == otherDue && load<u64>(slot, S_NUMBER) < load<u64>(other, S_NUMBER));
}

function siftUp(index: u32, due: f64, slot: u32): void {
  while (index > 0) {
    const parent = (index - 1) >> 2;
    const above = entryAt(parent);
    if (!isBefore(due, slot, load<f64>(above), load<u32>(above, 8))) break;
    place(index, load<f64>(above), load<u32>(above, 8));
    index = parent;
  }
  place(index, due, slot);
}

function siftDown(index: u32, due: f64, slot: u32): void {
  const count = load<u32>(H_TIMERS);
  while (true) {
    const first = (index << 2) + 1;
    if (first >= count) break;
    let least = first;
    let leastDue = load<f64>(entryAt(first));
    let leastSlot = load<u32>(entryAt(first), 8);
    const end = min(first + 4, count);
    for (let child = first + 1; child < end; child++) {
      const childDue = load<f64>(entryAt(child));
      const childSlot = load<u32>(entryAt(child), 8);
      if (isBefore(childDue, childSlot, leastDue, leastSlot)) {
        least = child;
        leastDue = childDue;
        leastSlot = childSlot;
      }
    }
    if (!isBefore(leastDue, leastSlot, due, slot)) break;
    place(index, leastDue, leastSlot);
    index = least;
  }
  place(index, due, slot);
}

/** Sets a slot's timer, replacing the one it has; false when memory is full. */
export function timerSet(slot: u32, due: f64): bool {
  const at = load<u32>(slot, S_TIMER);
  if (at != 0) {
    const before = load<f64>(entryAt(at - 1));
    if (due <= before) siftUp(at - 1, due, slot);
    else siftDown(at - 1, due, slot);
    return true;
  }
  const count = load<u32>(H_TIMERS);
  const segments = load<u32>(H_TIMER_SEGMENTS);
  if (count == segments * TIMER_SEGMENT_ENTRIES) {
    if (segments == TIMER_SEGMENTS_MAX) return false;
    const chunk = chunkAcquire(ENGINE_THREAD, CHUNK_SYSTEM, false);
    if (chunk == 0) return false;
    store<u32>(TIMER_DIRECTORY_AT + (segments << 2), chunk);
    store<u32>(H_TIMER_SEGMENTS, segments + 1);
  }
  store<u32>(H_TIMERS, count + 1);
  siftUp(count, due, slot);
  return true;
}

/** Removes a slot's timer, if it has one. */
export function timerClear(slot: u32): void {
  const at = load<u32>(slot, S_TIMER);
  if (at == 0) return;
  store<u32>(slot, 0, S_TIMER);
  const last = load<u32>(H_TIMERS) - 1;
  store<u32>(H_TIMERS, last);
  if (at - 1 != last) {
    const moved = entryAt(last);
    const due = load<f64>(moved);
    const movedSlot = load<u32>(moved, 8);
    const removed = entryAt(at - 1);
    if (isBefore(due, movedSlot, load<f64>(removed), slot)) siftUp(at - 1, due, movedSlot);
    else siftDown(at - 1, due, movedSlot);
  }
  // One spare segment is kept, so that a count going to and fro across the border does not take and give chunks.
  const segments = load<u32>(H_TIMER_SEGMENTS);
  if (segments > 1 && last <= (segments - 2) * TIMER_SEGMENT_ENTRIES) {
    chunkRelease(load<u32>(TIMER_DIRECTORY_AT + ((segments - 1) << 2)));
    store<u32>(H_TIMER_SEGMENTS, segments - 1);
  }
}

/** The earliest due time, or infinity. */
export function timerNext(): f64 {
  return load<u32>(H_TIMERS) == 0 ? Infinity : load<f64>(entryAt(0));
}

/** Takes the earliest timer that is due by `now`; its slot, or 0. */
export function timerPop(now: f64): u32 {
  // The count too: an empty heap is due at infinity, and so may `now` be.
  if (load<u32>(H_TIMERS) == 0 || timerNext() > now) return 0;
  const slot = load<u32>(entryAt(0), 8);
  timerClear(slot);
  return slot;
}
