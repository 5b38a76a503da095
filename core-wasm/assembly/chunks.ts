/**
 * The pool of 64 KiB chunks that everything else is made of.
 *
 * A chunk belongs to the thread whose index stands in the owner table (u16 a chunk; 0 = free). Taking one is a CAS `0 -> me`,
 * giving one back a store of 0: there is no list, so nothing to corrupt and no ABA, and a thread that stops between the CAS and
 * the first use leaves its index behind, by which the reaper finds the chunk. Lock-free: a CAS fails only because another
 * thread got that chunk. `used`, `touched` and `hint` are advice (a thread that dies between its CAS and the count leaves `used`
 * one too low, which costs a longer search, never a chunk).
 *
 * Memory is reused before more of it is touched, so that what the process occupies follows what it holds.
 */
import {
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
  CHUNK_FIRST,
  FIXED_END,
  H_CHUNK_HINT,
  H_CHUNKS_MAX,
  H_CHUNKS_RESERVED,
  H_CHUNKS_TOUCHED,
  H_CHUNKS_USED,
  OWNERS_AT,
  PAGE_BYTES,
} from './layout';

// The chain of fixed regions must end before the first chunk.
if (FIXED_END > CHUNK_FIRST * PAGE_BYTES) ERROR('the fixed regions overlap the first chunk');

// @ts-ignore: decorator
@inline
function ownerAt(chunk: u32): usize {
  return OWNERS_AT + ((chunk / PAGE_BYTES) << 1);
}

// @ts-ignore: decorator
@inline
export function chunkOf(address: u32): u32 {
  return address & ~(PAGE_BYTES - 1);
}

export function chunkOwner(chunk: u32): u32 {
  return atomic.load<u16>(ownerAt(chunk));
}

/** Takes the first free chunk of `[from, to)`; 0 when there is none. */
function takeBetween(from: u32, to: u32, owner: u32): u32 {
  for (let page = from; page < to; page++) {
    const at: usize = OWNERS_AT + (page << 1);
    if (atomic.load<u16>(at) == 0 && atomic.cmpxchg<u16>(at, 0, <u16>owner) == 0) {
      atomic.store<u32>(H_CHUNK_HINT, page + 1);
      return page;
    }
  }
  return 0;
}

/** A page never used before; 0 at the limit. */
function takeUntouched(owner: u32, max: u32): u32 {
  while (true) {
    const page = atomic.load<u32>(H_CHUNKS_TOUCHED);
    if (page >= max) return 0;
    if (atomic.cmpxchg<u32>(H_CHUNKS_TOUCHED, page, page + 1) != page) continue;
    // Between the two steps the page is below `touched` and free: another thread may find it first.
    if (atomic.cmpxchg<u16>(OWNERS_AT + (page << 1), 0, <u16>owner) == 0) return page;
  }
}

/**
 * A chunk for `owner`, its header zeroed; 0 when memory is full. `reserve`: leave the engine's reserve alone (everything but the
 * engine's bookkeeping for jobs already admitted).
 */
export function chunkAcquire(owner: u32, kind: u32, reserve: bool): u32 {
  const max = atomic.load<u32>(H_CHUNKS_MAX);
  const used = atomic.load<u32>(H_CHUNKS_USED);
  if (reserve && used + atomic.load<u32>(H_CHUNKS_RESERVED) >= max - CHUNK_FIRST) return 0;
  const touched = atomic.load<u32>(H_CHUNKS_TOUCHED);
  let page: u32 = 0;
  if (used < touched - CHUNK_FIRST) {
    const hint = atomic.load<u32>(H_CHUNK_HINT);
    page = takeBetween(hint, touched, owner);
    if (page == 0) page = takeBetween(CHUNK_FIRST, min(hint, touched), owner);
  }
  if (page == 0) page = takeUntouched(owner, max);
  // Others may have given chunks back since: look once more before saying that memory is full.
  if (page == 0) page = takeBetween(CHUNK_FIRST, max, owner);
  if (page == 0) return 0;
  atomic.add<u32>(H_CHUNKS_USED, 1);
  const chunk = page * PAGE_BYTES;
  store<u32>(chunk, kind, C_KIND);
  store<u32>(chunk, 0, C_CLASS);
  store<u32>(chunk, 0, C_CARVED);
  store<u32>(chunk, 0, C_CAPACITY);
  store<u32>(chunk, 0, C_NEXT_PART);
  store<u32>(chunk, 0, C_LIVE);
  store<u32>(chunk, 0, C_SEALED);
  store<u32>(chunk, 0, C_FREE);
  store<u32>(chunk, 0, C_PARTIAL_PREV);
  store<u32>(chunk, 0, C_PARTIAL_NEXT);
  return chunk;
}

/** Gives a chunk back. Its owner's last act on it. */
export function chunkRelease(chunk: u32): void {
  const page = chunk / PAGE_BYTES;
  atomic.sub<u32>(H_CHUNKS_USED, 1);
  atomic.store<u16>(ownerAt(chunk), 0);
  if (page < atomic.load<u32>(H_CHUNK_HINT)) atomic.store<u32>(H_CHUNK_HINT, page);
}

/** Moves a chunk from one owner to another; false when it was not `from`'s any more. */
export function chunkHandOver(chunk: u32, from: u32, to: u32): bool {
  return atomic.cmpxchg<u16>(ownerAt(chunk), <u16>from, <u16>to) == <u16>from;
}
