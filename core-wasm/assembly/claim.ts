/**
 * A claim, from entering to leaving: pause, breaker, permit, start, heap. Any thread. Lock-free.
 *
 * The order is what makes a stop at any step harmless: the probe, the permit and the start are taken before the job (so no limit is ever
 * exceeded), the claim entry is written before the CAS (so the run is found), and everything after the CAS is written by the run's
 * owner into words that the reaper does not need.
 */
import {
  A_CLAIMS,
  CLAIM_BREAKER,
  CLAIM_CODES,
  CLAIM_EMPTY,
  CLAIM_NO_OUTCOME_SPACE,
  CLAIM_NO_PERMIT,
  CLAIM_PAUSED,
  CLAIM_RATE_LIMITED,
  ENGINE_THREAD,
  FLAG_REPORT_START,
  NO_LIMIT,
  OUTCOME_STARTED,
  Q_FLAGS,
  Q_PERMIT_LIMIT,
  Q_RATE_MAX,
  Q_READY,
  QUEUE_COUNTED,
  QUEUE_HELD,
  QUEUE_PAUSED,
  QUEUE_REPORT_START,
  S_FLAGS,
  S_PERMIT,
  S_PROBE,
  S_PROCESSED_ON,
} from './layout';
import { areaOf, claimEnter, claimLeave, inflight, setInflight, wakeQueue } from './threads';
import { NO_CELL, permitFree, permitTake, startReturn, startTake } from './limits';
import { NO_PROBE, probeFree, probeTake } from './breaker';
import { heapClaim, heapMayHave } from './heap';
import { queueFlag } from './queues';
import { outcomePublish, outcomeSpace } from './rings';

function claimWithin(thread: u32, queue: u32, run: u32, now: f64, breaker: u32): u32 {
  const flags = atomic.load<u32>(queue, Q_FLAGS);
  if ((flags & (QUEUE_PAUSED | QUEUE_HELD)) != 0) return CLAIM_PAUSED;
  if (!heapMayHave(queue)) return CLAIM_EMPTY;
  if (breaker == 0) return claimLimited(thread, queue, run, now);
  const probe = probeTake(breaker, thread);
  if (probe == NO_CELL) return CLAIM_BREAKER;
  const slot = claimLimited(thread, queue, run, now);
  if (probe != NO_PROBE) {
    if (slot < CLAIM_CODES) probeFree(breaker, probe);
    else store<u8>(slot, <u8>(probe + 1), S_PROBE);
  }
  return slot;
}

/** Permit, start, heap. */
function claimLimited(thread: u32, queue: u32, run: u32, now: f64): u32 {
  const limit = atomic.load<u32>(queue, Q_PERMIT_LIMIT);
  let permit = NO_CELL;
  if (limit != NO_LIMIT) {
    permit = permitTake(queue, limit, thread);
    if (permit == NO_CELL) return CLAIM_NO_PERMIT;
  }
  const max = atomic.load<u32>(queue, Q_RATE_MAX);
  let start = NO_CELL;
  if (max != 0) {
    start = startTake(queue, max, thread, now);
    if (start == NO_CELL) {
      if (permit != NO_CELL) permitFree(queue, permit);
      return CLAIM_RATE_LIMITED;
    }
  }
  const slot = heapClaim(queue, thread, run);
  if (slot == CLAIM_EMPTY) {
    if (start != NO_CELL) startReturn(queue, start, thread, now);
    if (permit != NO_CELL) permitFree(queue, permit);
    return CLAIM_EMPTY;
  }
  if (queueFlag(queue, QUEUE_COUNTED)) atomic.sub<i32>(queue, 1, Q_READY);
  store<f64>(slot, now, S_PROCESSED_ON);
  if (permit != NO_CELL) store<u16>(slot, <u16>(permit + 1), S_PERMIT);
  return slot;
}

/**
 * Claims the queue's next job for `thread`: its slot, or a CLAIM_ code. The run's ticket is in the thread's claim entry `run`, which
 * must be one without a run. `now` in ms since the epoch. `breaker`: who must let it through, 0 = nobody. A worker thread that leaves
 * jobs behind wakes one more.
 */
export function claim(thread: u32, queue: u32, run: u32, now: f64, breaker: u32): u32 {
  if (thread != ENGINE_THREAD && !outcomeSpace(thread)) return CLAIM_NO_OUTCOME_SPACE;
  claimEnter(thread);
  const slot = claimWithin(thread, queue, run, now, breaker);
  claimLeave(thread);
  if (slot < CLAIM_CODES) return slot;
  if (thread != ENGINE_THREAD) {
    setInflight(thread, inflight(thread) + 1);
    const report = (load<u32>(slot, S_FLAGS) & FLAG_REPORT_START) | (atomic.load<u32>(queue, Q_FLAGS) & QUEUE_REPORT_START);
    if (report != 0) {
      const ticket = load<u64>(areaOf(thread) + A_CLAIMS + (run << 3));
      outcomePublish(thread, OUTCOME_STARTED, ticket, 0, now, 0);
    }
    if (heapMayHave(queue)) wakeQueue(queue, 1);
  }
  return slot;
}
