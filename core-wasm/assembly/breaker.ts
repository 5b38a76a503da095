/**
 * Circuit breakers: whether the claims of those who share one are let through. The engine thread decides (by the outcomes of runs, and by
 * time) and stores the state; claimers read it, and take a probe while it is half-open.
 *
 * A probe is a cell, CASed from 0 to the thread's index before the claim, as permits are (limits.ts): a thread that stops in between
 * leaves its index in it, and the cell is freed when that thread is reaped. So no more than `cells` probes ever run, and none is lost.
 */
import {
  BR_CELLS,
  BR_FIRST,
  BR_STATE,
  BREAKER_CELLS_MAX,
  BREAKER_CLOSED,
  BREAKER_OPEN,
  ENGINE_THREAD,
  S_PROBE,
} from './layout';
import { blockAlloc } from './blocks';
import { NO_CELL } from './limits';

/** A closed breaker that lets up to `cells` probes through while it is half-open; 0 when memory is full. Engine thread only. */
export function breakerCreate(cells: u32): u32 {
  assert(cells != 0 && cells <= BREAKER_CELLS_MAX);
  const bytes = BR_FIRST + (cells << 3);
  const breaker = blockAlloc(ENGINE_THREAD, bytes, true);
  if (breaker == 0) return 0;
  memory.fill(breaker, 0, bytes);
  store<u32>(breaker, cells, BR_CELLS);
  return breaker;
}

/** For claims that begin from now on. Engine thread only. */
export function breakerSet(breaker: u32, state: u32): void {
  atomic.store<u32>(breaker, state, BR_STATE);
}

/** The answer to a claim that may go on without a probe. */
export const NO_PROBE: u32 = 0xfffffffe;

/** NO_PROBE: go on; a cell: go on, as a probe; NO_CELL: not now. */
export function probeTake(breaker: u32, thread: u32): u32 {
  const state = atomic.load<u32>(breaker, BR_STATE);
  if (state == BREAKER_CLOSED) return NO_PROBE;
  if (state == BREAKER_OPEN) return NO_CELL;
  const cells = load<u32>(breaker, BR_CELLS);
  for (let cell: u32 = 0; cell < cells; cell++) {
    const at = breaker + BR_FIRST + (cell << 3);
    if (atomic.load<u64>(at) == 0 && atomic.cmpxchg<u64>(at, 0, thread) == 0) return cell;
  }
  return NO_CELL;
}

export function probeFree(breaker: u32, cell: u32): void {
  atomic.store<u64>(breaker + BR_FIRST + (cell << 3), 0);
}

/** Ends the probe of a run, if it is one. Engine thread only. */
export function probeReturn(breaker: u32, slot: u32): bool {
  const probe = load<u8>(slot, S_PROBE);
  if (probe == 0) return false;
  store<u8>(slot, 0, S_PROBE);
  probeFree(breaker, probe - 1);
  return true;
}

/** Frees what a dead thread still holds, its jobs having been reaped. Engine thread only. */
export function probesReap(breaker: u32, thread: u32): void {
  const cells = load<u32>(breaker, BR_CELLS);
  for (let cell: u32 = 0; cell < cells; cell++) {
    const at = breaker + BR_FIRST + (cell << 3);
    if (atomic.load<u64>(at) == thread) atomic.store<u64>(at, 0);
  }
}
