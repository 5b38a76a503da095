/**
 * What a claim must hold before it may take a job: a permit (concurrency of the queue) and a start (rate limit).
 *
 * Permits are cells, CASed from 0 to the thread's index before the claim. A counter would leak a permit for good with a thread that
 * stops between counting and claiming; a cell says whose it is, and is freed when that thread's jobs have been reaped.
 *
 * Starts are the times of the last `max` runs: a start CASes a time that is at least `duration` old to `now`. Every cell's times are
 * thus `duration` apart, so no window of that length, wherever it begins, holds more than `max` starts. Nothing found puts the
 * old time back; a thread that stops in between costs one start, never an excess.
 */
import {
  A_LIMIT,
  B_LENGTH,
  ENGINE_THREAD,
  LIMIT_CELLS_MAX,
  LIMIT_SEGMENT_CELLS,
  LIMIT_SEGMENTS_MAX,
  NO_LIMIT,
  Q_PERMIT_CELLS,
  Q_PERMIT_HINT,
  Q_PERMIT_LIMIT,
  Q_PERMITS,
  Q_RATE,
  Q_RATE_CELLS,
  Q_RATE_HINT,
  Q_RATE_MAX,
  Q_RATE_MS,
  S_PERMIT,
} from './layout';
import { blockAlloc, blockFree } from './blocks';
import { areaOf, retire } from './threads';

/** No cell was free. */
export const NO_CELL: u32 = 0xffffffff;

// @ts-ignore: decorator
@inline
function cellAt(directory: u32, index: u32): usize {
  return load<u32>(directory + ((index / LIMIT_SEGMENT_CELLS) << 2)) + ((index % LIMIT_SEGMENT_CELLS) << 3);
}

/**
 * Grows the directory of cells at the queue's `field` to `count`; false when memory is full: what was added by then stays, for the next
 * time. New cells are 0. Engine thread only.
 */
function cellsGrow(field: usize, count: u32): bool {
  if (count > LIMIT_CELLS_MAX) return false;
  let directory = load<u32>(field);
  if (directory == 0) {
    directory = blockAlloc(ENGINE_THREAD, LIMIT_SEGMENTS_MAX * 4, false);
    if (directory == 0) return false;
    memory.fill(directory, 0, LIMIT_SEGMENTS_MAX * 4);
    store<u32>(field, directory);
  }
  for (let first: u32 = 0; first < count; first += LIMIT_SEGMENT_CELLS) {
    const at = directory + ((first / LIMIT_SEGMENT_CELLS) << 2);
    const bytes = min(count - first, LIMIT_SEGMENT_CELLS) << 3;
    const old = load<u32>(at);
    const before: u32 = old == 0 ? 0 : load<u32>(old + B_LENGTH);
    if (bytes <= before) continue;
    const segment = blockAlloc(ENGINE_THREAD, bytes, false);
    if (segment == 0) return false;
    memory.fill(segment, 0, bytes);
    memory.copy(segment, old, before);
    atomic.store<u32>(at, segment);
    if (old != 0) retire(old);
  }
  return true;
}

// ---- permits --------------------------------------------------------------------------------------------------------------

/**
 * Sets how many jobs of the queue may run at once (NO_LIMIT: any number); false when memory is full or there are no so many cells. While
 * runs of a higher limit go on, the caller keeps the limit lower (`permitsAbove`). The segment that grows must have no claimer
 * inside (the caller pauses claims around it).
 */
export function permitsConfigure(queue: u32, limit: u32): bool {
  if (limit != NO_LIMIT && limit > load<u32>(queue, Q_PERMIT_CELLS)) {
    if (!cellsGrow(queue + Q_PERMITS, limit)) return false;
    store<u32>(queue, limit, Q_PERMIT_CELLS);
  }
  atomic.store<u32>(queue, limit, Q_PERMIT_LIMIT);
  return true;
}

/**
 * How far below `limit` the limit in force must stay while runs of a higher one go on. In force is the largest p for which p cells and
 * the taken ones from p on are at most `limit`: whoever then takes free cells below p, no more than `limit` are ever taken. (To
 * subtract the taken cells from `limit` on is not enough: below it, cells that are free would be let again while others,
 * beyond p, are taken.) p only grows while claims go on: claimers take no cell from p on.
 */
export function permitsAbove(queue: u32, limit: u32): u32 {
  const directory = load<u32>(queue, Q_PERMITS);
  let inForce = load<u32>(queue, Q_PERMIT_CELLS);
  if (inForce <= limit) return 0;
  let beyond: u32 = 0;
  while (inForce > 0 && inForce + beyond > limit) {
    inForce--;
    if (atomic.load<u64>(cellAt(directory, inForce)) != 0) beyond++;
  }
  return limit > inForce ? limit - inForce : 0;
}

/** A free permit, taken for `thread`; NO_CELL when there is none. */
export function permitTake(queue: u32, limit: u32, thread: u32): u32 {
  if (limit == 0) return NO_CELL;
  const directory = load<u32>(queue, Q_PERMITS);
  const start = load<u32>(queue, Q_PERMIT_HINT) % limit;
  for (let i: u32 = 0; i < limit; i++) {
    const cell = start + i < limit ? start + i : start + i - limit;
    const at = cellAt(directory, cell);
    if (atomic.load<u64>(at) == 0 && atomic.cmpxchg<u64>(at, 0, thread) == 0) {
      store<u32>(queue, cell + 1, Q_PERMIT_HINT);
      return cell;
    }
  }
  return NO_CELL;
}

export function permitFree(queue: u32, cell: u32): void {
  atomic.store<u64>(cellAt(load<u32>(queue, Q_PERMITS), cell), 0);
  store<u32>(queue, cell, Q_PERMIT_HINT);
}

/** Gives back the permit that a run held, if any. Engine thread only. */
export function permitReturn(queue: u32, slot: u32): bool {
  const permit = load<u16>(slot, S_PERMIT);
  if (permit == 0) return false;
  store<u16>(slot, 0, S_PERMIT);
  permitFree(queue, permit - 1);
  return true;
}

/** Frees what a dead thread still holds in a queue, its jobs having been reaped. Engine thread only. */
export function permitsReap(queue: u32, thread: u32): void {
  const cells = load<u32>(queue, Q_PERMIT_CELLS);
  for (let cell: u32 = 0; cell < cells; cell++) {
    const at = cellAt(load<u32>(queue, Q_PERMITS), cell);
    if (atomic.load<u64>(at) == thread) atomic.store<u64>(at, 0);
  }
}

// ---- rate -----------------------------------------------------------------------------------------------------------------

/**
 * At most `max` starts in any `duration` ms; max 0: no limit. The starts of the window in which it changes count. Claims must be kept
 * out around it. Engine thread only.
 */
export function rateConfigure(queue: u32, max: u32, duration: f64): bool {
  if (max > load<u32>(queue, Q_RATE_CELLS)) {
    if (!cellsGrow(queue + Q_RATE, max)) return false;
    store<u32>(queue, max, Q_RATE_CELLS);
  }
  if (max != 0) latestFirst(load<u32>(queue, Q_RATE), max, load<u32>(queue, Q_RATE_CELLS));
  store<f64>(queue, duration, Q_RATE_MS);
  store<u32>(queue, 0, Q_RATE_HINT);
  atomic.store<u32>(queue, max, Q_RATE_MAX);
  return true;
}

/**
 * Brings the latest `max` times into the first `max` of `cells` cells: those in use from now on. The others stay behind them, for a limit
 * that is raised again. The first cells are a heap with the earliest on top (J. Williams, "Heapsort", 1964).
 */
function latestFirst(directory: u32, max: u32, cells: u32): void {
  if (max >= cells) return;
  for (let i = max >> 1; i > 0; i--) sinkEarliest(directory, i - 1, max);
  for (let cell = max; cell < cells; cell++) {
    const top = load<f64>(cellAt(directory, 0));
    const time = load<f64>(cellAt(directory, cell));
    if (time <= top) continue;
    store<f64>(cellAt(directory, 0), time);
    store<f64>(cellAt(directory, cell), top);
    sinkEarliest(directory, 0, max);
  }
}

function sinkEarliest(directory: u32, index: u32, count: u32): void {
  const time = load<f64>(cellAt(directory, index));
  while (true) {
    let child = (index << 1) + 1;
    if (child >= count) break;
    if (child + 1 < count && load<f64>(cellAt(directory, child + 1)) < load<f64>(cellAt(directory, child))) child++;
    const below = load<f64>(cellAt(directory, child));
    if (below >= time) break;
    store<f64>(cellAt(directory, index), below);
    index = child;
  }
  store<f64>(cellAt(directory, index), time);
}

/**
 * A start, taken: the cell, with the time it replaced in this thread's area; NO_CELL when the window is full.
 *
 * Times are compared as the integers of their bits, which have the order of positive numbers. Not as numbers: binaryen makes of
 * `reinterpret<f64>(atomic.load(...))` a second, plain load of the cell, and then what is compared is not what the CAS expects. The
 * limit was exceeded by one start in a schedule in which another thread took the cell between the two loads.
 */
export function startTake(queue: u32, max: u32, thread: u32, now: f64): u32 {
  const directory = load<u32>(queue, Q_RATE);
  const windowStart = now - load<f64>(queue, Q_RATE_MS);
  const oldest: u64 = windowStart > 0 ? reinterpret<u64>(windowStart) : 0;
  const start = load<u32>(queue, Q_RATE_HINT) % max;
  const time = reinterpret<u64>(now);
  for (let i: u32 = 0; i < max; i++) {
    const cell = start + i < max ? start + i : start + i - max;
    const at = cellAt(directory, cell);
    const before = atomic.load<u64>(at);
    if (before > oldest) continue;
    if (atomic.cmpxchg<u64>(at, before, time) != before) continue;
    store<u64>(areaOf(thread), before, A_LIMIT);
    store<u32>(queue, cell + 1, Q_RATE_HINT);
    return cell;
  }
  return NO_CELL;
}

/** Puts a start back that was not used, unless this thread slept so long that another has replaced it. */
export function startReturn(queue: u32, cell: u32, thread: u32, now: f64): void {
  atomic.cmpxchg<u64>(cellAt(load<u32>(queue, Q_RATE), cell), reinterpret<u64>(now), load<u64>(areaOf(thread), A_LIMIT));
  store<u32>(queue, cell, Q_RATE_HINT);
}

/** When the next start will be possible: a time, or 0 when one is now or there is no limit. */
export function rateNext(queue: u32, now: f64): f64 {
  const max = atomic.load<u32>(queue, Q_RATE_MAX);
  if (max == 0) return 0;
  const duration = load<f64>(queue, Q_RATE_MS);
  let next: f64 = Infinity;
  for (let cell: u32 = 0; cell < max; cell++) {
    const at = load<f64>(cellAt(load<u32>(queue, Q_RATE), cell)); // one plain load: a hint, when to look again
    const free = at == 0 ? 0 : at + duration;
    if (free <= now) return 0;
    if (free < next) next = free;
  }
  return next;
}

/** Frees the cells of a queue that is obliterated. */
export function limitsClear(queue: u32): void {
  cellsFree(load<u32>(queue, Q_PERMITS));
  cellsFree(load<u32>(queue, Q_RATE));
  store<u32>(queue, 0, Q_PERMITS);
  store<u32>(queue, 0, Q_PERMIT_CELLS);
  store<u32>(queue, NO_LIMIT, Q_PERMIT_LIMIT);
  store<u32>(queue, 0, Q_RATE);
  store<u32>(queue, 0, Q_RATE_CELLS);
  store<u32>(queue, 0, Q_RATE_MAX);
}

function cellsFree(directory: u32): void {
  if (directory == 0) return;
  for (let i: u32 = 0; i < LIMIT_SEGMENTS_MAX; i++) {
    const segment = load<u32>(directory + (i << 2));
    if (segment != 0) blockFree(segment);
  }
  blockFree(directory);
}
