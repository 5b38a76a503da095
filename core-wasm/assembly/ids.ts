/**
 * The id index: linear hashing (W. Litwin, 1980) from a job's number, or from its queue and custom id, to its slot. Each insertion
 * beyond one entry a bucket splits one bucket, so no insertion ever pays for rehashing everything (rehashing 10 million at once
 * takes 0.8 s). Buckets are chains through the slots; an entry is verified against the number or the id's bytes in the
 * payload block. Engine thread only.
 */
import {
  CHUNK_SYSTEM,
  ENGINE_THREAD,
  FLAG_CUSTOM_ID,
  FLAG_INDEXED,
  H_INDEX_BUCKETS,
  H_INDEX_COUNT,
  INDEX_DIRECTORY_AT,
  INDEX_SEGMENT_BUCKETS,
  INDEX_SEGMENTS_MAX,
  P_CONTENT,
  P_ID_BYTES,
  PAGE_BYTES,
  S_FLAGS,
  S_HASH,
  S_INDEX_NEXT,
  S_NUMBER,
  S_PAYLOAD,
  S_QUEUE,
} from './layout';
import { chunkAcquire } from './chunks';

// @ts-ignore: decorator
@inline
function bucketAt(bucket: u32): usize {
  const segment = load<u32>(INDEX_DIRECTORY_AT + ((bucket / INDEX_SEGMENT_BUCKETS) << 2));
  return segment + ((bucket % INDEX_SEGMENT_BUCKETS) << 2);
}

/** The bucket of a hash among `count` buckets. */
// @ts-ignore: decorator
@inline
function bucketOf(hash: u32, count: u32): u32 {
  const mask: u32 = (<u32>0xffffffff) >> clz(count - 1 | 1);
  const bucket = hash & mask;
  return bucket < count ? bucket : bucket & (mask >> 1);
}

/** Mixes 32 bits (the finaliser of A. Appleby's MurmurHash3). */
function mix(value: u32): u32 {
  value ^= value >> 16;
  value *= 0x85ebca6b;
  value ^= value >> 13;
  value *= 0xc2b2ae35;
  return value ^ (value >> 16);
}

export function hashNumber(number: u64): u32 {
  return mix(<u32>number ^ mix(<u32>(number >> 32)));
}

/** FNV-1a over the id's bytes (G. Fowler, L. Noll, K.-P. Vo), mixed with the queue. */
export function hashId(queue: u32, id: u32, bytes: u32): u32 {
  let hash: u32 = 0x811c9dc5;
  for (let i: u32 = 0; i < bytes; i++) hash = (hash ^ load<u8>(id + i)) * 0x01000193;
  return mix(hash ^ mix(queue));
}

/** Prepares the first segment; false when memory is full. */
export function indexFormat(): bool {
  store<u32>(H_INDEX_COUNT, 0);
  store<u32>(H_INDEX_BUCKETS, 0);
  return segmentAdd(0);
}

function segmentAdd(index: u32): bool {
  if (index >= INDEX_SEGMENTS_MAX) return false;
  const chunk = chunkAcquire(ENGINE_THREAD, CHUNK_SYSTEM, false);
  if (chunk == 0) return false;
  memory.fill(chunk, 0, PAGE_BYTES);
  store<u32>(INDEX_DIRECTORY_AT + (index << 2), chunk);
  if (index == 0) store<u32>(H_INDEX_BUCKETS, INDEX_SEGMENT_BUCKETS);
  return true;
}

/** Adds one bucket and moves into it what now belongs there. Without memory for a segment chains grow instead. */
function split(): void {
  const count = load<u32>(H_INDEX_BUCKETS);
  if (count % INDEX_SEGMENT_BUCKETS == 0 && !segmentAdd(count / INDEX_SEGMENT_BUCKETS)) return;
  const from = bucketAt(bucketOf(count, count));
  const to = bucketAt(count);
  store<u32>(H_INDEX_BUCKETS, count + 1);
  let slot = load<u32>(from);
  let kept: u32 = 0;
  let moved: u32 = 0;
  while (slot != 0) {
    const next = load<u32>(slot, S_INDEX_NEXT);
    if (bucketOf(load<u32>(slot, S_HASH), count + 1) == count) {
      store<u32>(slot, moved, S_INDEX_NEXT);
      moved = slot;
    } else {
      store<u32>(slot, kept, S_INDEX_NEXT);
      kept = slot;
    }
    slot = next;
  }
  store<u32>(from, kept);
  store<u32>(to, moved);
}

/** Enters a slot whose S_HASH is set. */
export function indexInsert(slot: u32): void {
  const count = load<u32>(H_INDEX_COUNT) + 1;
  store<u32>(H_INDEX_COUNT, count);
  if (count > load<u32>(H_INDEX_BUCKETS)) split();
  const head = bucketAt(bucketOf(load<u32>(slot, S_HASH), load<u32>(H_INDEX_BUCKETS)));
  store<u32>(slot, load<u32>(head), S_INDEX_NEXT);
  store<u32>(head, slot);
  store<u32>(slot, load<u32>(slot, S_FLAGS) | FLAG_INDEXED, S_FLAGS);
}

export function indexRemove(slot: u32): void {
  const flags = load<u32>(slot, S_FLAGS);
  if ((flags & FLAG_INDEXED) == 0) return;
  store<u32>(slot, flags & ~FLAG_INDEXED, S_FLAGS);
  store<u32>(H_INDEX_COUNT, load<u32>(H_INDEX_COUNT) - 1);
  let link = bucketAt(bucketOf(load<u32>(slot, S_HASH), load<u32>(H_INDEX_BUCKETS)));
  while (true) {
    const at = load<u32>(link);
    assert(at != 0);
    if (at == slot) break;
    link = at + S_INDEX_NEXT;
  }
  store<u32>(link, load<u32>(slot, S_INDEX_NEXT));
}

export function findNumber(number: u64): u32 {
  const hash = hashNumber(number);
  let slot = load<u32>(bucketAt(bucketOf(hash, load<u32>(H_INDEX_BUCKETS))));
  for (; slot != 0; slot = load<u32>(slot, S_INDEX_NEXT)) {
    if (load<u32>(slot, S_HASH) != hash || (load<u32>(slot, S_FLAGS) & FLAG_CUSTOM_ID) != 0) continue;
    if (load<u64>(slot, S_NUMBER) == number) return slot;
  }
  return 0;
}

/** `id`: address of the id's bytes. */
export function findId(queue: u32, id: u32, bytes: u32): u32 {
  const hash = hashId(queue, id, bytes);
  let slot = load<u32>(bucketAt(bucketOf(hash, load<u32>(H_INDEX_BUCKETS))));
  for (; slot != 0; slot = load<u32>(slot, S_INDEX_NEXT)) {
    if (load<u32>(slot, S_HASH) != hash || (load<u32>(slot, S_FLAGS) & FLAG_CUSTOM_ID) == 0) continue;
    if (load<u32>(slot, S_QUEUE) != queue) continue;
    const payload = load<u32>(slot, S_PAYLOAD);
    if (load<u16>(payload, P_ID_BYTES) == bytes && memory.compare(payload + P_CONTENT, id, bytes) == 0) return slot;
  }
  return 0;
}
