/**
 * The thread table: who is there, who is inside a claim, who is parked, and when memory that a claimer may still look at can be
 * reused.
 *
 * Claim epochs (epoch-based reclamation, K. Fraser, "Practical lock-freedom", 2004): a thread stores the epoch on entering a
 * claim and 0 on leaving. What the engine unlinks goes to limbo; the batch in limbo is tagged with the epoch, which is then
 * advanced; it is freed when every thread is outside or has entered after that. All accesses are sequentially consistent: a
 * thread whose store the engine's scan missed does all its loads after the unlinking. A thread that stops inside a claim delays
 * reuse (memory), never progress; the reaper clears a dead one's epoch.
 *
 * Parking: a thread stores PARKED, looks at its queue once more, and waits on its own word; a waker replaces PARKED by WOKEN and
 * notifies that word. So no wake-up is lost between looking and waiting, and none goes to a thread that is not parked.
 */
import {
  A_END,
  B_LENGTH,
  CHUNK_SYSTEM,
  H_EPOCH,
  H_LIMBO_COUNT,
  H_LIMBO_EPOCH,
  H_LIMBO_NEW,
  H_LIMBO_OLD,
  H_THREADS_HIGH,
  PAGE_BYTES,
  PARK_PARKED,
  PARK_RUNNING,
  PARK_WOKEN,
  T_AREA,
  T_EPOCH,
  T_INFLIGHT,
  T_OUTCOME_HEAD,
  T_OUTCOME_TAIL,
  T_PARK,
  T_QUEUE,
  T_STATE,
  T_SUBMIT_HEAD,
  T_SUBMIT_TAIL,
  THREAD_BYTES,
  THREAD_DEAD,
  THREAD_FREE,
  THREAD_LIVE,
  THREADS_AT,
  THREADS_MAX,
} from './layout';
import { chunkAcquire, chunkRelease } from './chunks';
import { blockFree } from './blocks';

if (A_END > PAGE_BYTES) ERROR('a thread area must fit one chunk');

/** Retired blocks gathered before a batch is tried. */
const LIMBO_BATCH: u32 = 64;

// @ts-ignore: decorator
@inline
export function threadAt(thread: u32): usize {
  return THREADS_AT + thread * THREAD_BYTES;
}

// @ts-ignore: decorator
@inline
export function areaOf(thread: u32): u32 {
  return load<u32>(threadAt(thread), T_AREA);
}

/** Opens a thread record for `queue` (any number for a producer) and gives its index; 0 when table or memory is full. */
export function threadOpen(queue: u32): u32 {
  for (let thread: u32 = 1; thread < THREADS_MAX; thread++) {
    const at = threadAt(thread);
    if (load<u32>(at, T_STATE) != THREAD_FREE) continue;
    const area = chunkAcquire(thread, CHUNK_SYSTEM, thread != 1);
    if (area == 0) return 0;
    memory.fill(area, 0, A_END);
    memory.fill(at, 0, THREAD_BYTES);
    store<u32>(at, queue, T_QUEUE);
    store<u32>(at, area, T_AREA);
    atomic.store<u32>(at, THREAD_LIVE, T_STATE);
    if (thread >= load<u32>(H_THREADS_HIGH)) atomic.store<u32>(H_THREADS_HIGH, thread + 1);
    return thread;
  }
  return 0;
}

/** The thread has ended: it will never run again. Clears what could hold others up; its jobs and chunks are reaped after. */
export function threadDied(thread: u32): void {
  const at = threadAt(thread);
  atomic.store<u32>(at, THREAD_DEAD, T_STATE);
  atomic.store<u32>(at, 0, T_EPOCH);
  atomic.store<u32>(at, PARK_RUNNING, T_PARK);
}

/** After rings, jobs, permits and chunks of a dead thread are back: its index may be used again. */
export function threadFree(thread: u32): void {
  const at = threadAt(thread);
  chunkRelease(load<u32>(at, T_AREA));
  atomic.store<u32>(at, THREAD_FREE, T_STATE);
}

// ---- claim epochs -------------------------------------------------------------------------------------------------------

// @ts-ignore: decorator
@inline
export function claimEnter(thread: u32): void {
  // Pairs with `epochPassed`: whatever was unlinked before that scan is unseen by loads after this store.
  atomic.store<u32>(threadAt(thread), atomic.load<u32>(H_EPOCH), T_EPOCH);
}

// @ts-ignore: decorator
@inline
export function claimLeave(thread: u32): void {
  atomic.store<u32>(threadAt(thread), 0, T_EPOCH);
}

/** Starts a new epoch and returns the one that has ended, for `epochPassed`. Never epoch 0, which means outside. Engine thread only. */
export function epochAdvance(): u32 {
  const ended = load<u32>(H_EPOCH);
  atomic.store<u32>(H_EPOCH, ended == 0xffffffff ? 1 : ended + 1);
  return ended;
}

/** Whether every claim that began in `epoch` or before has been left. */
export function epochPassed(epoch: u32): bool {
  const high = atomic.load<u32>(H_THREADS_HIGH);
  for (let thread: u32 = 1; thread < high; thread++) {
    const entered = atomic.load<u32>(threadAt(thread), T_EPOCH);
    // A difference, not an order: epochs wrap within days. A claim that lasts for half of them (2^31) would be misjudged.
    if (entered != 0 && <i32>(entered - epoch) <= 0) return false;
  }
  return true;
}

/** Frees a block that was unlinked a moment ago, once no claimer can be looking at it. Its length word links the limbo. */
export function retire(block: u32): void {
  store<u32>(block + B_LENGTH, load<u32>(H_LIMBO_NEW));
  store<u32>(H_LIMBO_NEW, block);
  const count = load<u32>(H_LIMBO_COUNT) + 1;
  store<u32>(H_LIMBO_COUNT, count);
  if (count % LIMBO_BATCH == 0) limboAdvance();
}

/** Frees the tagged batch if it may be, and tags the next. Engine thread only. */
export function limboAdvance(): void {
  let old = load<u32>(H_LIMBO_OLD);
  if (old != 0) {
    if (!epochPassed(load<u32>(H_LIMBO_EPOCH))) return;
    let freed: u32 = 0;
    while (old != 0) {
      const next = load<u32>(old + B_LENGTH);
      blockFree(old);
      old = next;
      freed++;
    }
    store<u32>(H_LIMBO_COUNT, load<u32>(H_LIMBO_COUNT) - freed);
  }
  store<u32>(H_LIMBO_OLD, load<u32>(H_LIMBO_NEW));
  store<u32>(H_LIMBO_NEW, 0);
  if (load<u32>(H_LIMBO_OLD) != 0) store<u32>(H_LIMBO_EPOCH, epochAdvance());
}

// ---- parking and waking -------------------------------------------------------------------------------------------------

/** The first half of parking. The caller looks for work after this and before it waits. */
export function parkBegin(thread: u32): void {
  atomic.store<u32>(threadAt(thread), PARK_PARKED, T_PARK);
}

/** Back to work, woken or not. */
export function parkEnd(thread: u32): void {
  atomic.store<u32>(threadAt(thread), PARK_RUNNING, T_PARK);
}

/** Wakes that thread if it is parked. */
export function wakeThread(thread: u32): bool {
  const at = threadAt(thread);
  if (atomic.load<u32>(at, T_PARK) != PARK_PARKED) return false;
  if (atomic.cmpxchg<u32>(at, PARK_PARKED, PARK_WOKEN, T_PARK) != PARK_PARKED) return false;
  atomic.notify(at + T_PARK, 1);
  return true;
}

/**
 * Wakes up to `count` parked threads of a queue; how many. First those that run nothing: a thread parks with runs in flight too, and
 * then it may be inside a handler that computes, and hear of this only when that has ended. What is in flight is read as a hint.
 */
export function wakeQueue(queue: u32, count: u32): u32 {
  const woken = wakeSome(queue, count, false);
  return woken < count ? woken + wakeSome(queue, count - woken, true) : woken;
}

function wakeSome(queue: u32, count: u32, busy: bool): u32 {
  const high = atomic.load<u32>(H_THREADS_HIGH);
  let woken: u32 = 0;
  for (let thread: u32 = 2; thread < high && woken < count; thread++) {
    const at = threadAt(thread);
    if (atomic.load<u32>(at, T_PARK) != PARK_PARKED || load<u32>(at, T_QUEUE) != queue) continue;
    if ((inflight(thread) != 0) == busy && wakeThread(thread)) woken++;
  }
  return woken;
}

// ---- what a thread has under way ----------------------------------------------------------------------------------------

// @ts-ignore: decorator
@inline
export function inflight(thread: u32): u32 {
  return load<u32>(threadAt(thread), T_INFLIGHT);
}

// @ts-ignore: decorator
@inline
export function setInflight(thread: u32, count: u32): void {
  store<u32>(threadAt(thread), count, T_INFLIGHT);
}

// @ts-ignore: decorator
@inline
export function outcomesPending(thread: u32): u32 {
  const at = threadAt(thread);
  return load<u32>(at, T_OUTCOME_TAIL) - atomic.load<u32>(at, T_OUTCOME_HEAD);
}

// @ts-ignore: decorator
@inline
export function submitsPending(thread: u32): u32 {
  const at = threadAt(thread);
  return atomic.load<u32>(at, T_SUBMIT_TAIL) - atomic.load<u32>(at, T_SUBMIT_HEAD);
}
