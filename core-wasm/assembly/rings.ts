/**
 * One outcome ring and one submit ring a thread: single producer (the thread), single consumer (the engine thread).
 *
 * Each is the bounded queue of L. Lamport ("Specifying concurrent program modules", 1983): the producer fills the entry, then
 * advances the tail; the consumer reads entries below the tail, then advances the head. The store of the tail is the
 * linearization point of a settle or a submit: a thread that stops before it has not settled, one that stops after it has. Both
 * counters run freely over 32 bits; the lengths are powers of two. Wait-free on both sides.
 */
import {
  A_OUTCOMES,
  A_SUBMITS,
  E_AT,
  E_BLOCK,
  E_KIND,
  E_QUEUE,
  E_REQUEST,
  E_TICKET,
  E_VALUE,
  ENGINE_THREAD,
  OUTCOME_RING_ENTRIES,
  OUTCOME_STARTED,
  RING_ENTRY_BYTES,
  SUBMIT_RING_ENTRIES,
  T_OUTCOME_HEAD,
  T_OUTCOME_TAIL,
  T_SUBMIT_HEAD,
  T_SUBMIT_TAIL,
} from './layout';
import { areaOf, inflight, outcomesPending, setInflight, submitsPending, threadAt, wakeThread } from './threads';
import { blockReceive } from './blocks';

if ((OUTCOME_RING_ENTRIES & (OUTCOME_RING_ENTRIES - 1)) != 0) ERROR('ring lengths are powers of two');
if ((SUBMIT_RING_ENTRIES & (SUBMIT_RING_ENTRIES - 1)) != 0) ERROR('ring lengths are powers of two');

// @ts-ignore: decorator
@inline
function outcomeAt(thread: u32, index: u32): usize {
  return areaOf(thread) + A_OUTCOMES + (index & (OUTCOME_RING_ENTRIES - 1)) * RING_ENTRY_BYTES;
}

// @ts-ignore: decorator
@inline
function submitAt(thread: u32, index: u32): usize {
  return areaOf(thread) + A_SUBMITS + (index & (SUBMIT_RING_ENTRIES - 1)) * RING_ENTRY_BYTES;
}

/** Whether one more run could always report its start and its end. */
export function outcomeSpace(thread: u32): bool {
  return outcomesPending(thread) + 2 * (inflight(thread) + 1) <= OUTCOME_RING_ENTRIES;
}

/**
 * Publishes how a run went. `block` is 0 or a block of this thread's, handed over by this. Space is certain: a claim is made only
 * when `outcomeSpace`.
 */
export function outcomePublish(thread: u32, kind: u32, ticket: u64, block: u32, at: f64, value: f64): void {
  const record = threadAt(thread);
  const tail = load<u32>(record, T_OUTCOME_TAIL);
  assert(tail - atomic.load<u32>(record, T_OUTCOME_HEAD) < OUTCOME_RING_ENTRIES);
  const entry = outcomeAt(thread, tail);
  store<u64>(entry, ticket, E_TICKET);
  store<u32>(entry, kind, E_KIND);
  store<u32>(entry, block, E_BLOCK);
  store<f64>(entry, at, E_AT);
  store<f64>(entry, value, E_VALUE);
  atomic.store<u32>(record, tail + 1, T_OUTCOME_TAIL);
  if (kind != OUTCOME_STARTED) setInflight(thread, inflight(thread) - 1);
  wakeThread(ENGINE_THREAD);
}

/** The oldest outcome not taken yet, or 0. Its block belongs to the engine from now on. */
export function outcomePeek(thread: u32): u32 {
  const record = threadAt(thread);
  const head = load<u32>(record, T_OUTCOME_HEAD);
  if (atomic.load<u32>(record, T_OUTCOME_TAIL) == head) return 0;
  const entry = <u32>outcomeAt(thread, head);
  const block = load<u32>(entry, E_BLOCK);
  if (block != 0) blockReceive(block, thread);
  return entry;
}

/** Lets the thread use that entry again. */
export function outcomeTake(thread: u32): void {
  const record = threadAt(thread);
  atomic.store<u32>(record, load<u32>(record, T_OUTCOME_HEAD) + 1, T_OUTCOME_HEAD);
}

/** How many entries this thread may still submit. */
export function submitSpace(thread: u32): u32 {
  return SUBMIT_RING_ENTRIES - submitsPending(thread);
}

/** Hands a job's payload to the engine. `flags` and `request` are the engine's own business. */
export function submitPublish(thread: u32, queue: u32, request: u32, flags: u32, block: u32): void {
  const record = threadAt(thread);
  const tail = load<u32>(record, T_SUBMIT_TAIL);
  assert(tail - atomic.load<u32>(record, T_SUBMIT_HEAD) < SUBMIT_RING_ENTRIES);
  const entry = submitAt(thread, tail);
  store<u32>(entry, queue, E_QUEUE);
  store<u32>(entry, request, E_REQUEST);
  store<u32>(entry, flags, E_KIND);
  store<u32>(entry, block, E_BLOCK);
  atomic.store<u32>(record, tail + 1, T_SUBMIT_TAIL);
  wakeThread(ENGINE_THREAD);
}

export function submitPeek(thread: u32): u32 {
  const record = threadAt(thread);
  const head = load<u32>(record, T_SUBMIT_HEAD);
  if (atomic.load<u32>(record, T_SUBMIT_TAIL) == head) return 0;
  const entry = <u32>submitAt(thread, head);
  const block = load<u32>(entry, E_BLOCK);
  if (block != 0) blockReceive(block, thread);
  return entry;
}

export function submitTake(thread: u32): void {
  const record = threadAt(thread);
  atomic.store<u32>(record, load<u32>(record, T_SUBMIT_HEAD) + 1, T_SUBMIT_HEAD);
}
