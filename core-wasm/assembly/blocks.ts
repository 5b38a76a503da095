/**
 * Payload blocks of any size, and every small structure of the core.
 *
 * Small blocks (to 32,704 bytes, header included) come from chunks of one size class. A thread other than the engine's only ever
 * *carves*: it takes the next untouched block of its current chunk, and when it has carved the last one it pushes the chunk onto the
 * stack of sealed chunks. Freeing is the engine thread's alone, and a freed block is the engine's to hand out again, whoever carves
 * that chunk. So a chunk has two sides that never meet: the carving owner's words and the engine's. They meet once, on the stack:
 * threads push with a CAS, the engine takes the whole stack with one exchange, so there is no ABA (a pushed chunk whose successor
 * came back meanwhile is linked to what is the top all the same). Only the engine gives chunks of blocks back, and only sealed
 * ones. A thread that stops before its push leaves a chunk that still carries its index: the reaper seals it (`chunksReap`).
 *
 * Large payloads are chains of whole chunks: no run of free pages is ever looked for, so churn cannot fragment them. Readers copy
 * parts (`blockPart`).
 *
 * A block's first header word counts its readers. BLOCK_HELD: carved by a thread, not handed over yet; the engine thread makes it
 * 1 when the ring entry that carries it arrives. A dead thread's held blocks are freed by the reaper.
 */
import {
  A_CURRENT,
  B_LENGTH,
  B_REFS,
  BLOCK_BYTES_MAX,
  BLOCK_HEADER_BYTES,
  BLOCK_HELD,
  C_CAPACITY,
  C_CARVED,
  C_CLASS,
  C_FREE,
  C_KIND,
  C_LIVE,
  C_NEXT_PART,
  C_PARTIAL_NEXT,
  C_PARTIAL_PREV,
  C_SEALED,
  CHUNK_BLOCKS,
  CHUNK_FIRST,
  CHUNK_HEADER_BYTES,
  CHUNK_LARGE,
  ENGINE_THREAD,
  H_CHUNKS_TOUCHED,
  H_PARTIAL,
  H_SEALED,
  LARGE_FIRST_BYTES,
  LARGE_PART_BYTES,
  PAGE_BYTES,
  SIZE_CLASSES,
  T_AREA,
  THREAD_BYTES,
  THREADS_AT,
} from './layout';
import { chunkAcquire, chunkHandOver, chunkOf, chunkOwner, chunkRelease } from './chunks';

const SHARED_BYTES: u32 = PAGE_BYTES - CHUNK_HEADER_BYTES;

/** Size classes: steps of 16 bytes to 256, four a doubling to 16,384, then three and two blocks a chunk. `total` has the header. */
export function sizeClass(total: u32): u32 {
  if (total <= 256) return ((total + 15) >> 4) - 1;
  if (total > 16384) return total <= 21792 ? SIZE_CLASSES - 2 : SIZE_CLASSES - 1;
  const high: u32 = 31 - clz(total - 1);
  return 16 + ((high - 8) << 2) + (((total - 1) >> (high - 2)) & 3);
}

export function sizeOfClass(index: u32): u32 {
  if (index < 16) return (index + 1) << 4;
  if (index == SIZE_CLASSES - 2) return 21792;
  if (index == SIZE_CLASSES - 1) return BLOCK_BYTES_MAX;
  const high = 8 + ((index - 16) >> 2);
  return (1 << high) + ((((index - 16) & 3) + 1) << (high - 2));
}

// @ts-ignore: decorator
@inline
function currentAt(thread: u32, index: u32): usize {
  return load<u32>(THREADS_AT + thread * THREAD_BYTES, T_AREA) + A_CURRENT + (index << 2);
}

/** A thread will not carve this chunk any more: the engine's from the moment of the exchange. */
function sealedPush(chunk: u32): void {
  while (true) {
    const top = atomic.load<u32>(H_SEALED);
    store<u32>(chunk, top, C_NEXT_PART);
    if (atomic.cmpxchg<u32>(H_SEALED, top, chunk) == top) return;
  }
}

/** The engine's side of sealing: counts what was carved, and lets go of a chunk in which nothing lives. */
function seal(chunk: u32): void {
  store<u32>(chunk, 1, C_SEALED);
  const live = load<u32>(chunk, C_LIVE) + load<u32>(chunk, C_CARVED);
  store<u32>(chunk, live, C_LIVE);
  if (live == 0) chunkDrop(chunk);
}

function chunkDrop(chunk: u32): void {
  partialUnlink(chunk);
  chunkRelease(chunk);
}

/** Takes over every chunk that threads have sealed since. Engine thread only. */
export function sealedCollect(): void {
  if (atomic.load<u32>(H_SEALED) == 0) return;
  for (let chunk = atomic.xchg<u32>(H_SEALED, 0); chunk != 0; ) {
    const next = load<u32>(chunk, C_NEXT_PART);
    chunkHandOver(chunk, chunkOwner(chunk), ENGINE_THREAD);
    seal(chunk);
    chunk = next;
  }
}

/** The next untouched block of the thread's current chunk of that class; 0 when memory is full. */
function carve(thread: u32, index: u32, reserve: bool): u32 {
  const current = currentAt(thread, index);
  let chunk = load<u32>(current);
  if (chunk != 0 && load<u32>(chunk, C_CARVED) == load<u32>(chunk, C_CAPACITY)) {
    // Pushed first: a chunk that is neither current nor pushed would look to the reaper like one never used.
    if (thread == ENGINE_THREAD) seal(chunk);
    else sealedPush(chunk);
    store<u32>(current, 0);
    chunk = 0;
  }
  const bytes = sizeOfClass(index);
  if (chunk == 0) {
    chunk = chunkAcquire(thread, CHUNK_BLOCKS, reserve);
    if (chunk == 0) return 0;
    store<u32>(chunk, index, C_CLASS);
    store<u32>(chunk, SHARED_BYTES / bytes, C_CAPACITY);
    store<u32>(current, chunk);
  }
  const carved = load<u32>(chunk, C_CARVED);
  const block = chunk + CHUNK_HEADER_BYTES + carved * bytes + BLOCK_HEADER_BYTES;
  // The header before the count: the reaper reads headers of carved blocks only.
  atomic.store<u32>(block + B_REFS, thread == ENGINE_THREAD ? 1 : BLOCK_HELD);
  atomic.store<u32>(chunk, carved + 1, C_CARVED);
  return block;
}

function partialLink(chunk: u32, index: u32): void {
  const head = H_PARTIAL + (index << 2);
  const next = load<u32>(head);
  store<u32>(chunk, 1, C_PARTIAL_PREV); // 1: first in the list (0: not in it)
  store<u32>(chunk, next, C_PARTIAL_NEXT);
  if (next != 0) store<u32>(next, chunk, C_PARTIAL_PREV);
  store<u32>(head, chunk);
}

function partialUnlink(chunk: u32): void {
  const previous = load<u32>(chunk, C_PARTIAL_PREV);
  if (previous == 0) return;
  const next = load<u32>(chunk, C_PARTIAL_NEXT);
  if (previous == 1) store<u32>(H_PARTIAL + (load<u32>(chunk, C_CLASS) << 2), next);
  else store<u32>(previous, next, C_PARTIAL_NEXT);
  if (next != 0) store<u32>(next, previous, C_PARTIAL_PREV);
  store<u32>(chunk, 0, C_PARTIAL_PREV);
}

/** A freed block of that class, for the engine thread; 0 when there is none. */
function reuse(index: u32): u32 {
  const chunk = load<u32>(H_PARTIAL + (index << 2));
  if (chunk == 0) return 0;
  const block = load<u32>(chunk, C_FREE);
  const next = load<u32>(block);
  store<u32>(chunk, next, C_FREE);
  if (next == 0) partialUnlink(chunk);
  atomic.store<u32>(block + B_REFS, 1);
  store<u32>(chunk, load<u32>(chunk, C_LIVE) + 1, C_LIVE);
  return block;
}

function largeAlloc(thread: u32, bytes: u32, reserve: bool): u32 {
  const first = chunkAcquire(thread, CHUNK_LARGE, reserve);
  if (first == 0) return 0;
  const block = first + CHUNK_HEADER_BYTES + BLOCK_HEADER_BYTES;
  atomic.store<u32>(block + B_REFS, thread == ENGINE_THREAD ? 1 : BLOCK_HELD);
  let last = first;
  let covered: u32 = LARGE_FIRST_BYTES;
  while (covered < bytes) {
    const part = chunkAcquire(thread, CHUNK_LARGE, reserve);
    if (part == 0) {
      largeRelease(first);
      return 0;
    }
    store<u32>(last, part, C_NEXT_PART);
    last = part;
    covered += LARGE_PART_BYTES;
  }
  return block;
}

function largeRelease(first: u32): void {
  for (let chunk = first; chunk != 0; ) {
    const next = load<u32>(chunk, C_NEXT_PART);
    chunkRelease(chunk);
    chunk = next;
  }
}

/**
 * A block of `bytes` for `thread`; its address, or 0 when memory is full. At most one block at a time may be in a thread's hands
 * (alloc, fill, publish), which is what lets the reaper tell a held block from a published one.
 */
export function blockAlloc(thread: u32, bytes: u32, reserve: bool): u32 {
  let block: u32;
  // Not `bytes + header`: that wraps for the largest numbers.
  if (bytes > BLOCK_BYTES_MAX - BLOCK_HEADER_BYTES) {
    block = largeAlloc(thread, bytes, reserve);
  } else {
    const index = sizeClass(bytes + BLOCK_HEADER_BYTES);
    block = thread == ENGINE_THREAD ? reuse(index) : 0;
    if (block == 0) block = carve(thread, index, reserve);
  }
  if (block != 0) store<u32>(block + B_LENGTH, bytes);
  return block;
}

/** One reader more. Engine thread only. */
export function blockRetain(block: u32): void {
  store<u32>(block + B_REFS, load<u32>(block + B_REFS) + 1);
}

/** A block that arrived through a ring is the engine's from now on. */
export function blockReceive(block: u32, from: u32): void {
  assert(load<u32>(block + B_REFS) == BLOCK_HELD);
  atomic.store<u32>(block + B_REFS, 1);
  let chunk = chunkOf(block);
  if (load<u32>(chunk, C_KIND) != CHUNK_LARGE) return;
  for (; chunk != 0; chunk = load<u32>(chunk, C_NEXT_PART)) chunkHandOver(chunk, from, ENGINE_THREAD);
}

/** One reader less; the last frees the block. Engine thread only. */
export function blockFree(block: u32): void {
  const readers = load<u32>(block + B_REFS);
  assert(readers != 0 && readers != BLOCK_HELD);
  if (readers > 1) {
    store<u32>(block + B_REFS, readers - 1);
    return;
  }
  const chunk = chunkOf(block);
  if (load<u32>(chunk, C_KIND) == CHUNK_LARGE) largeRelease(chunk);
  else freeShared(chunk, block);
}

function freeShared(chunk: u32, block: u32): void {
  atomic.store<u32>(block + B_REFS, 0);
  const next = load<u32>(chunk, C_FREE);
  store<u32>(block, next);
  store<u32>(chunk, block, C_FREE);
  if (next == 0) partialLink(chunk, load<u32>(chunk, C_CLASS));
  // Below 0 (as a signed number) while a thread still carves: what it carved is counted at the seal.
  const live = load<u32>(chunk, C_LIVE) - 1;
  store<u32>(chunk, live, C_LIVE);
  if (live == 0 && load<u32>(chunk, C_SEALED) != 0) chunkDrop(chunk);
}

/** Address of part `index` of a block's bytes; its length is the lesser of what is left and what a chunk holds. */
export function blockPart(block: u32, index: u32): u32 {
  if (index == 0) return block;
  let chunk = chunkOf(block);
  for (; index > 0; index--) chunk = load<u32>(chunk, C_NEXT_PART);
  return chunk + CHUNK_HEADER_BYTES;
}

/** The engine takes over a chunk that a dead thread was carving: frees what it held, seals the rest. */
function reapBlocks(chunk: u32, thread: u32): void {
  const bytes = sizeOfClass(load<u32>(chunk, C_CLASS));
  const carved = atomic.load<u32>(chunk, C_CARVED);
  chunkHandOver(chunk, thread, ENGINE_THREAD);
  for (let i: u32 = 0; i < carved; i++) {
    const block = chunk + CHUNK_HEADER_BYTES + i * bytes + BLOCK_HEADER_BYTES;
    if (atomic.load<u32>(block + B_REFS) == BLOCK_HELD) freeShared(chunk, block);
  }
  seal(chunk);
}

/**
 * Takes back every chunk of a dead thread but its area. Its rings must have been drained before, so what is still held was never
 * handed over. Engine thread only; reads two bytes a page, not the chunks of others.
 */
export function chunksReap(thread: u32): void {
  sealedCollect();
  const area = load<u32>(THREADS_AT + thread * THREAD_BYTES, T_AREA);
  const touched = atomic.load<u32>(H_CHUNKS_TOUCHED);
  for (let page: u32 = CHUNK_FIRST; page < touched; page++) {
    const chunk = page * PAGE_BYTES;
    if (chunk == area || chunkOwner(chunk) != thread) continue;
    // A chunk whose owner stopped before it wrote the header has an old kind or an old count: `current` tells.
    if (isCurrent(chunk, thread)) reapBlocks(chunk, thread);
    else chunkRelease(chunk);
  }
}

function isCurrent(chunk: u32, thread: u32): bool {
  for (let index: u32 = 0; index < SIZE_CLASSES; index++) {
    if (load<u32>(currentAt(thread, index)) == chunk) return true;
  }
  return false;
}
