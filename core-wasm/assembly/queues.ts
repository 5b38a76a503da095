/** Queue records: 256 bytes each, in chunks of 256 records, never moved. Engine thread only. */
import {
  CHUNK_SYSTEM,
  ENGINE_THREAD,
  H_QUEUES,
  LIST_BYTES,
  NO_LIMIT,
  PAGE_BYTES,
  Q_FLAGS,
  Q_LISTS,
  Q_PERMIT_HINT,
  Q_PERMIT_LIMIT,
  Q_READY,
  Q_ROOT,
  QUEUE_BYTES,
  QUEUE_COUNTED,
  QUEUE_DIRECTORY_AT,
  QUEUE_PAUSED,
  QUEUES_MAX,
  QUEUES_PER_CHUNK,
  STATES,
} from './layout';
import { chunkAcquire } from './chunks';
import { nodeCreate } from './heap';

if (Q_LISTS + STATES * LIST_BYTES > Q_PERMIT_HINT) ERROR('the lists overlap the hints');
if (QUEUES_PER_CHUNK * QUEUE_BYTES != PAGE_BYTES) ERROR('queue records must fill a chunk');

/** A new, empty queue: its address; 0 when the table or memory is full. */
export function queueOpen(): u32 {
  const index = load<u32>(H_QUEUES);
  if (index == QUEUES_MAX) return 0;
  const directory = QUEUE_DIRECTORY_AT + ((index / QUEUES_PER_CHUNK) << 2);
  // Not by the count alone: an earlier call may have found a chunk, but no memory for the root.
  if (load<u32>(directory) == 0) {
    const chunk = chunkAcquire(ENGINE_THREAD, CHUNK_SYSTEM, true);
    if (chunk == 0) return 0;
    // The records fill the chunk, its header included: a system chunk's header is read by nobody.
    memory.fill(chunk, 0, PAGE_BYTES);
    store<u32>(directory, chunk);
  }
  const queue = load<u32>(directory) + (index % QUEUES_PER_CHUNK) * QUEUE_BYTES;
  const root = nodeCreate(0, 0);
  if (root == 0) return 0;
  store<u32>(queue, root, Q_ROOT);
  store<u32>(queue, NO_LIMIT, Q_PERMIT_LIMIT);
  store<u32>(H_QUEUES, index + 1);
  return queue;
}

/** Sets or clears flags. A pause holds for every claim that begins after this (`epochPassed` tells when earlier ones are over). */
export function queueFlags(queue: u32, set: u32, clear: u32): void {
  atomic.store<u32>(queue, (atomic.load<u32>(queue, Q_FLAGS) | set) & ~clear, Q_FLAGS);
}

// @ts-ignore: decorator
@inline
export function queueFlag(queue: u32, flag: u32): bool {
  return (atomic.load<u32>(queue, Q_FLAGS) & flag) != 0;
}

/** Begins to count the jobs that can be claimed, from `ready` on, or ends it. Claims must be kept out around it. */
export function queueCount(queue: u32, counts: bool, ready: u32): void {
  atomic.store<u32>(queue, ready, Q_READY);
  queueFlags(queue, counts ? QUEUE_COUNTED : 0, counts ? 0 : QUEUE_COUNTED);
}

export function queuePaused(queue: u32): bool {
  return (atomic.load<u32>(queue, Q_FLAGS) & QUEUE_PAUSED) != 0;
}
