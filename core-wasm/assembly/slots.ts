/**
 * Job slots: 128 bytes each, the job's record, whose first word is the truth about it.
 *
 * word = generation(39) | owner(16) | state(9). Two threads may change it: a worker by the claim, a CAS from `waiting` to `active`
 * with itself as owner and the generation + 1; the engine thread by everything else (CAS while the job is waiting, since claimers
 * are about; a plain atomic store in every other state, since nobody else writes then). A generation is never used twice for one
 * slot, so a hint, a ticket or a late outcome that carries an old one is recognised.
 *
 * Memory that once was a slot stays one for good: a claimer that slept may still CAS a word by an old hint, and must find a word.
 * Free slots are a FIFO: with last-in-first-out the same few slots would use up their generations.
 */
import {
  CHUNK_FIRST,
  CHUNK_HEADER_BYTES,
  CHUNK_SLOTS,
  ENGINE_THREAD,
  GENERATION_SHIFT,
  H_CHUNKS_MAX,
  H_CHUNKS_RESERVED,
  H_CHUNKS_USED,
  H_SLOT_CARVED,
  H_SLOT_CHUNK,
  H_SLOT_FREE_HEAD,
  H_SLOT_FREE_TAIL,
  H_SLOTS_LIVE,
  LIST_BYTES,
  LOW_MASK,
  OWNER_SHIFT,
  PAGE_BYTES,
  Q_LISTS,
  S_NEXT,
  S_PINS,
  S_PREV,
  S_WORD,
  SLOT_BYTES,
  SLOT_SHIFT,
  STATE_ACTIVE,
  STATE_FREE,
  STATE_MASK,
  STATE_WAITING,
} from './layout';
import { chunkAcquire } from './chunks';

if (S_PINS + 4 != SLOT_BYTES) ERROR('the fields of a slot must fill it');
if (1 << SLOT_SHIFT != SLOT_BYTES) ERROR('SLOT_SHIFT must be the logarithm of SLOT_BYTES');

/** Kept free for what admitted jobs will still need (a hint 8, a timer 16, an edge 32 bytes): 64 bytes a job, and 16 chunks to start. */
const RESERVE_CHUNKS: u32 = 16;
const RESERVE_JOBS: u32 = PAGE_BYTES / 64;

const SLOTS_PER_CHUNK: u32 = (PAGE_BYTES - CHUNK_HEADER_BYTES) / SLOT_BYTES;

// @ts-ignore: decorator
@inline
export function wordOf(slot: u32): u64 {
  return atomic.load<u64>(slot, S_WORD);
}

// @ts-ignore: decorator
@inline
export function stateOfWord(word: u64): u32 {
  return <u32>word & STATE_MASK;
}

// @ts-ignore: decorator
@inline
export function stateOf(slot: u32): u32 {
  return stateOfWord(wordOf(slot));
}

// @ts-ignore: decorator
@inline
export function ownerOfWord(word: u64): u32 {
  return (<u32>word >> OWNER_SHIFT) & 0xffff;
}

/** A hint, ticket or reference to this slot in the generation of that word. */
// @ts-ignore: decorator
@inline
export function hintOf(slot: u32, word: u64): u64 {
  return (word & ~(<u64>LOW_MASK)) | <u64>(slot >> SLOT_SHIFT);
}

// @ts-ignore: decorator
@inline
export function slotOfHint(hint: u64): u32 {
  return (<u32>hint & LOW_MASK) << SLOT_SHIFT;
}

/** The word of a waiting job to which this hint is still true. */
// @ts-ignore: decorator
@inline
export function waitingWord(hint: u64): u64 {
  return (hint & ~(<u64>LOW_MASK)) | STATE_WAITING;
}

/** The word of a run: the next generation, owned. */
// @ts-ignore: decorator
@inline
export function activeWord(hint: u64, thread: u32): u64 {
  return ((hint & ~(<u64>LOW_MASK)) + (<u64>1 << GENERATION_SHIFT)) | ((<u64>thread) << OWNER_SHIFT) | STATE_ACTIVE;
}

/**
 * The one setter: every change of state but the claim goes through it. The generation grows with every requeue; in other states it
 * stays, so that whoever waits for a record can tell that it is the same one.
 */
export function setState(slot: u32, state: u32): void {
  let word = wordOf(slot) & ~(<u64>LOW_MASK);
  if (state == STATE_WAITING || state == STATE_FREE) word += <u64>1 << GENERATION_SHIFT;
  atomic.store<u64>(slot, word | state, S_WORD);
}

/** Takes a waiting job out of every claimer's reach; false when a claim came first. Its hint in the heap is stale from now on. */
export function withdraw(slot: u32, state: u32): bool {
  const word = wordOf(slot);
  if (stateOfWord(word) != STATE_WAITING) return false;
  const next = ((word & ~(<u64>LOW_MASK)) + (<u64>1 << GENERATION_SHIFT)) | state;
  return atomic.cmpxchg<u64>(slot, word, next, S_WORD) == word;
}

// ---- the pool -----------------------------------------------------------------------------------------------------------

/**
 * Whether one more job may be admitted. A new job that finds a free slot and a free block asks for no chunk itself, but its hint may (a
 * level and nodes of a new priority), from the reserve: half of that is left to the jobs admitted before.
 */
function admits(): bool {
  const usable = atomic.load<u32>(H_CHUNKS_MAX) - CHUNK_FIRST;
  return atomic.load<u32>(H_CHUNKS_USED) + (load<u32>(H_CHUNKS_RESERVED) >> 1) <= usable;
}

/** A slot in state `free`, every field but the word 0; 0 when memory is full. */
export function slotAlloc(): u32 {
  if (!admits()) return 0;
  let slot = load<u32>(H_SLOT_FREE_HEAD);
  if (slot != 0) {
    const next = load<u32>(slot, S_NEXT);
    store<u32>(H_SLOT_FREE_HEAD, next);
    if (next == 0) store<u32>(H_SLOT_FREE_TAIL, 0);
    memory.fill(slot + 8, 0, SLOT_BYTES - 8);
  } else {
    slot = slotCarve();
    if (slot == 0) return 0;
  }
  setLive(load<u32>(H_SLOTS_LIVE) + 1);
  return slot;
}

/** The reserve follows the number of jobs, down as well: a payload is allocated before its job. */
function setLive(live: u32): void {
  store<u32>(H_SLOTS_LIVE, live);
  atomic.store<u32>(H_CHUNKS_RESERVED, RESERVE_CHUNKS + live / RESERVE_JOBS);
}

function slotCarve(): u32 {
  let chunk = load<u32>(H_SLOT_CHUNK);
  let carved = load<u32>(H_SLOT_CARVED);
  if (chunk == 0 || carved == SLOTS_PER_CHUNK) {
    chunk = chunkAcquire(ENGINE_THREAD, CHUNK_SLOTS, true);
    if (chunk == 0) return 0;
    memory.fill(chunk + CHUNK_HEADER_BYTES, 0, PAGE_BYTES - CHUNK_HEADER_BYTES);
    store<u32>(H_SLOT_CHUNK, chunk);
    carved = 0;
  }
  store<u32>(H_SLOT_CARVED, carved + 1);
  return chunk + CHUNK_HEADER_BYTES + carved * SLOT_BYTES;
}

export function slotFree(slot: u32): void {
  setState(slot, STATE_FREE);
  store<u32>(slot, 0, S_NEXT);
  const tail = load<u32>(H_SLOT_FREE_TAIL);
  if (tail == 0) store<u32>(H_SLOT_FREE_HEAD, slot);
  else store<u32>(tail, slot, S_NEXT);
  store<u32>(H_SLOT_FREE_TAIL, slot);
  setLive(load<u32>(H_SLOTS_LIVE) - 1);
}

// ---- a queue's lists of jobs, one a state (waiting and active share one: a claim cannot move a job between lists) ---------

// @ts-ignore: decorator
@inline
export function listAt(queue: u32, state: u32): u32 {
  return queue + Q_LISTS + state * LIST_BYTES;
}

export function listAppend(list: u32, slot: u32): void {
  const tail = load<u32>(list, 4);
  store<u32>(slot, tail, S_PREV);
  store<u32>(slot, 0, S_NEXT);
  if (tail == 0) store<u32>(list, slot);
  else store<u32>(tail, slot, S_NEXT);
  store<u32>(list, slot, 4);
  store<u32>(list, load<u32>(list, 8) + 1, 8);
}

export function listRemove(list: u32, slot: u32): void {
  const previous = load<u32>(slot, S_PREV);
  const next = load<u32>(slot, S_NEXT);
  if (previous == 0) store<u32>(list, next);
  else store<u32>(previous, next, S_NEXT);
  if (next == 0) store<u32>(list, previous, 4);
  else store<u32>(next, previous, S_PREV);
  store<u32>(list, load<u32>(list, 8) - 1, 8);
}
