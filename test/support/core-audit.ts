/** A walk over all that the core keeps, to be made while no thread is inside a call: throws at the first thing that is not as it must be. */
import { type Core, L, ownerOf, word } from './core.js';

function must(condition: boolean, what: string, ...details: readonly unknown[]): void {
  if (!condition) throw new Error(details.length === 0 ? what : `${what} (${details.join(', ')})`);
}

/** Live blocks of every size class and large payload: what an allocation that is never given back would raise. */
export interface Audit {
  readonly blocksLive: number;
  readonly largeChunks: number;
}

export function audit(core: Core, ...queues: readonly number[]): Audit {
  for (const queue of queues) auditLists(core, queue);
  auditFreeSlots(core);
  auditTimers(core);
  auditIndex(core);
  return auditChunks(core);
}

function each(count: number, at: (index: number) => number): number[] {
  return Array.from({ length: count }, (_, index) => at(index));
}

/** Chunks whose whole content is somebody's, the header's place included. */
function systemChunks(core: Core): Set<number> {
  const threads = each(L.THREADS_MAX, (i) => i)
    .filter((thread) => word(core, L.THREADS_AT + thread * L.THREAD_BYTES + L.T_STATE) !== L.THREAD_FREE)
    .map((thread) => core.area(thread));
  const segments = Math.ceil(word(core, L.H_INDEX_BUCKETS) / L.INDEX_SEGMENT_BUCKETS);
  const queueChunks = Math.ceil(word(core, L.H_QUEUES) / L.QUEUES_PER_CHUNK);
  const index = each(L.INDEX_SEGMENTS_MAX, (i) => word(core, L.INDEX_DIRECTORY_AT + i * 4));
  const timers = each(word(core, L.H_TIMER_SEGMENTS), (i) => word(core, L.TIMER_DIRECTORY_AT + i * 4));
  const queues = each(L.QUEUES_MAX / L.QUEUES_PER_CHUNK, (i) => word(core, L.QUEUE_DIRECTORY_AT + i * 4));
  must(index.filter((at) => at !== 0).length >= segments, 'index segments are missing');
  must(queues.filter((at) => at !== 0).length >= queueChunks, 'chunks of queue records are missing');
  const all = [...threads, ...index, ...timers, ...queues].filter((at) => at !== 0);
  const set = new Set(all);
  must(set.size === all.length, 'two structures share a system chunk');
  return set;
}

function auditChunks(core: Core): Audit {
  const system = systemChunks(core);
  const touched = word(core, L.H_CHUNKS_TOUCHED);
  let used = 0;
  let blocksLive = 0;
  let largeChunks = 0;
  const withFree = new Map<number, number>();
  for (let page = L.CHUNK_FIRST; page < touched; page++) {
    const chunk = page * L.PAGE_BYTES;
    if (ownerOf(core, chunk) === 0) {
      must(!system.has(chunk), 'a system chunk is free', chunk);
      continue;
    }
    used++;
    if (system.delete(chunk)) continue;
    const kind = word(core, chunk + L.C_KIND);
    if (kind === L.CHUNK_LARGE) largeChunks++;
    else if (kind === L.CHUNK_BLOCKS) {
      blocksLive += auditBlocks(core, chunk);
      if (word(core, chunk + L.C_FREE) !== 0) withFree.set(chunk, word(core, chunk + L.C_CLASS));
    } else must(kind === L.CHUNK_SLOTS, 'a chunk is taken and nobody knows it', chunk, kind);
  }
  must(system.size === 0, 'a structure lies in a chunk that is not taken');
  must(used === word(core, L.H_CHUNKS_USED), 'the count of chunks is wrong', used, word(core, L.H_CHUNKS_USED));
  auditPartial(core, withFree);
  return { blocksLive, largeChunks };
}

/** Live blocks of a chunk. */
function auditBlocks(core: Core, chunk: number): number {
  const index = word(core, chunk + L.C_CLASS);
  const capacity = word(core, chunk + L.C_CAPACITY);
  const carved = word(core, chunk + L.C_CARVED);
  const bytes = Math.floor((L.PAGE_BYTES - L.CHUNK_HEADER_BYTES) / capacity / 16) * 16;
  must(index < L.SIZE_CLASSES && carved <= capacity, 'a chunk of blocks is not one', chunk);
  const free = new Set<number>();
  for (let block = word(core, chunk + L.C_FREE); block !== 0; block = word(core, block)) {
    must(!free.has(block), 'a block is free twice', block);
    must(word(core, block + L.B_REFS) === 0, 'a free block has readers', block);
    must(Math.floor(block / L.PAGE_BYTES) === chunk / L.PAGE_BYTES, 'a free block is in another chunk', block);
    free.add(block);
  }
  const live = carved - free.size;
  const sealed = word(core, chunk + L.C_SEALED) !== 0;
  const counted = (word(core, chunk + L.C_LIVE) + (sealed ? 0 : carved)) | 0;
  must(counted === live, 'the count of live blocks is wrong', chunk, counted, live, bytes);
  must(!sealed || live > 0, 'an empty chunk was kept', chunk);
  return live;
}

function auditPartial(core: Core, withFree: Map<number, number>): void {
  for (let index = 0; index < L.SIZE_CLASSES; index++) {
    let previous = 1;
    for (let chunk = word(core, L.H_PARTIAL + index * 4); chunk !== 0; chunk = word(core, chunk + L.C_PARTIAL_NEXT)) {
      must(withFree.get(chunk) === index, 'a chunk without free blocks of that class is listed', chunk, index);
      must(word(core, chunk + L.C_PARTIAL_PREV) === previous, 'the list of partial chunks is broken', chunk);
      withFree.delete(chunk);
      previous = chunk;
    }
  }
  must(withFree.size === 0, 'a chunk with free blocks is not listed', [...withFree.keys()]);
}

function auditFreeSlots(core: Core): void {
  let last = 0;
  const seen = new Set<number>();
  for (let slot = word(core, L.H_SLOT_FREE_HEAD); slot !== 0; slot = word(core, slot + L.S_NEXT)) {
    must(!seen.has(slot), 'a slot is free twice', slot);
    seen.add(slot);
    must(core.state(slot) === L.STATE_FREE, 'a slot in use is in the free list', slot);
    last = slot;
  }
  must(word(core, L.H_SLOT_FREE_TAIL) === last, 'the tail of the free list is wrong');
}

function auditLists(core: Core, queue: number): void {
  for (let state = 1; state < L.STATES; state++) {
    if (state === L.STATE_ACTIVE) continue; // shares the list of the waiting jobs
    let previous = 0;
    let count = 0;
    for (let slot = core.listHead(queue, state); slot !== 0; slot = word(core, slot + L.S_NEXT)) {
      const actual = core.state(slot) === L.STATE_ACTIVE ? L.STATE_WAITING : core.state(slot);
      must(actual === state, 'a job is in the list of another state', slot, actual, state);
      must(word(core, slot + L.S_QUEUE) === queue, 'a job is in the list of another queue', slot);
      must(word(core, slot + L.S_PREV) === previous, 'a list is broken', slot);
      previous = slot;
      count++;
    }
    must(core.listTail(queue, state) === previous, 'the tail of a list is wrong', state);
    must(core.listCount(queue, state) === count, 'the count of a list is wrong', state, count);
  }
}

function auditTimers(core: Core): void {
  const count = word(core, L.H_TIMERS);
  const entry = (index: number): number =>
    word(core, L.TIMER_DIRECTORY_AT + Math.floor(index / L.TIMER_SEGMENT_ENTRIES) * 4) +
    (index % L.TIMER_SEGMENT_ENTRIES) * L.TIMER_BYTES;
  for (let index = 0; index < count; index++) {
    const due = core.f64[entry(index) >>> 3]!;
    const slot = word(core, entry(index) + 8);
    must(word(core, slot + L.S_TIMER) === index + 1, 'a slot does not know the place of its timer', slot);
    if (index > 0) must(core.f64[entry((index - 1) >> 2) >>> 3]! <= due, 'a timer is before its parent', index);
  }
}

function auditIndex(core: Core): void {
  const buckets = word(core, L.H_INDEX_BUCKETS);
  let count = 0;
  for (let bucket = 0; bucket < buckets; bucket++) {
    const segment = word(core, L.INDEX_DIRECTORY_AT + Math.floor(bucket / L.INDEX_SEGMENT_BUCKETS) * 4);
    const at = segment + (bucket % L.INDEX_SEGMENT_BUCKETS) * 4;
    for (let slot = word(core, at); slot !== 0; slot = word(core, slot + L.S_INDEX_NEXT)) {
      const hash = word(core, slot + L.S_HASH);
      const mask = 2 ** Math.ceil(Math.log2(buckets)) - 1;
      const low = (hash & mask) >>> 0;
      must((low < buckets ? low : low & (mask >> 1)) === bucket, 'a job is in the wrong bucket', slot);
      must((word(core, slot + L.S_FLAGS) & L.FLAG_INDEXED) !== 0, 'a job in the index does not know it', slot);
      count++;
    }
  }
  must(count === word(core, L.H_INDEX_COUNT), 'the count of the index is wrong', count);
}
