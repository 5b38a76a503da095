/**
 * Circuit breakers: whether the claims of those who share one are let through. Whoever ends a run counts it here before it tells the
 * engine: the failure that is one too many opens the breaker at once, for every claim that begins later on any thread. Everything else
 * (when to try again, probes, closing) the engine thread decides, and stores the state.
 *
 * A probe is a cell, CASed from 0 to the thread's index before the claim, as permits are (limits.ts): a thread that stops in between
 * leaves its index in it, and the cell is freed when that thread is reaped. So no more than `cells` probes ever run, and none is lost.
 */
import {
  B_LENGTH,
  BR_CELLS,
  BR_FAILURES_SHIFT,
  BR_FIRST,
  BR_STATE_MASK,
  BR_THRESHOLD,
  BR_WORD,
  BREAKER_CELLS_MAX,
  BREAKER_CLOSED,
  BREAKER_FAILURES_MAX,
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
  store<u32>(breaker, BREAKER_FAILURES_MAX, BR_THRESHOLD);
  store<u32>(breaker, cells, BR_CELLS);
  return breaker;
}

// @ts-ignore: decorator
@inline
function stateOfBreaker(word: u64): u32 {
  return <u32>word & BR_STATE_MASK;
}

/**
 * The state for claims that begin from now on, with no failures counted. A larger `period` than before: the outcomes of runs that began
 * earlier count no more. Engine thread only.
 */
export function breakerSet(breaker: u32, period: u32, state: u32): void {
  atomic.store<u64>(breaker, ((<u64>period) << 32) | state, BR_WORD);
}

/** The failures in a row that open it. Engine thread only. */
export function breakerLimit(breaker: u32, threshold: u32): void {
  atomic.store<u32>(breaker, threshold, BR_THRESHOLD);
}

/**
 * Counts the end of a run that was claimed in `period`; true when this has opened the breaker. Any thread, before the outcome is
 * published: so the engine, which hears of it by that, finds the breaker open. A thread that stops in between has opened it all the same.
 * Period, count and state are one word, or a thread that slept between looking and counting could open a breaker that has been open and
 * closed meanwhile.
 */
export function breakerReport(breaker: u32, period: u32, failed: bool): bool {
  while (true) {
    const word = atomic.load<u64>(breaker, BR_WORD);
    if (<u32>(word >> 32) != period || stateOfBreaker(word) != BREAKER_CLOSED) return false;
    const failures = <u32>word >> BR_FAILURES_SHIFT;
    if (!failed && failures == 0) return false;
    const count: u32 = failed ? failures + 1 : 0;
    const state = count >= load<u32>(breaker, BR_THRESHOLD) ? BREAKER_OPEN : BREAKER_CLOSED;
    const next = ((<u64>period) << 32) | (count << BR_FAILURES_SHIFT) | state;
    if (atomic.cmpxchg<u64>(breaker, word, next, BR_WORD) == word) return state == BREAKER_OPEN;
  }
}

/** The answer to a claim that may go on without a probe. */
export const NO_PROBE: u32 = 0xfffffffe;

/** NO_PROBE: go on; a cell: go on, as a probe; NO_CELL: not now. */
export function probeTake(breaker: u32, thread: u32): u32 {
  const state = stateOfBreaker(atomic.load<u64>(breaker, BR_WORD));
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
  const cells = (load<u32>(breaker + B_LENGTH) - BR_FIRST) >> 3; // all there are: fewer may be in use now
  for (let cell: u32 = 0; cell < cells; cell++) {
    const at = breaker + BR_FIRST + (cell << 3);
    if (atomic.load<u64>(at) == thread) atomic.store<u64>(at, 0);
  }
}
