/**
 * Groups of a queue: each has a heap of its own, in which its jobs wait until the engine lets one of them into the queue's. Which group's
 * turn it is, and how many of its jobs may run, the engine decides (engine/jobs/groups.ts); here is where they wait. Engine thread only:
 * claimers know the queue's heap alone, so limits of a group can't be exceeded by them, and a claim costs the same with any number
 * of groups.
 *
 * A job in a group's heap is `waiting` like those in the queue's; S_HEAP says where its hint is. Its word does not change when it
 * moves from one to the other, so the hint is the same.
 */
import { ENGINE_THREAD, GROUP_BYTES, Q_ROOT, S_AGED, S_HEAP, S_PRIORITY, S_QUEUE, STATE_WAITING } from './layout';
import { blockAlloc, blockFree } from './blocks';
import { frontHint, frontPop, heapClear, heapPush, heapRoom, heapStale, heapTop, nodeCreate } from './heap';
import { armExpiry, clearUnreached, isUnreached, move, readyCount } from './jobs';
import { hintOf, slotOfHint, stateOf, withdraw, wordOf } from './slots';
import { retire } from './threads';

/** An empty group; 0 when memory is full. */
export function groupOpen(): u32 {
  const group = blockAlloc(ENGINE_THREAD, GROUP_BYTES, false);
  if (group == 0) return 0;
  memory.fill(group, 0, GROUP_BYTES);
  const root = nodeCreate(0, 0);
  if (root == 0) {
    blockFree(group);
    return 0;
  }
  store<u32>(group, root, Q_ROOT);
  return group;
}

/** A group in which nobody waits any more. */
export function groupClose(group: u32): void {
  heapClear(group);
  retire(load<u32>(group, Q_ROOT));
  blockFree(group);
}

/** Ready, but in its group's heap. False when memory is full: the job is then as it was. */
export function groupPut(slot: u32, group: u32, first: bool): bool {
  const level = heapRoom(group, load<i32>(slot, S_PRIORITY), first);
  if (level == 0 || !armExpiry(slot)) return false;
  move(slot, STATE_WAITING);
  store<u32>(slot, group, S_HEAP);
  heapPush(level, hintOf(slot, wordOf(slot)), first);
  return true;
}

/** As `jobReach`, into its group's heap. */
export function groupReach(slot: u32, group: u32, first: bool): bool {
  assert(isUnreached(slot) && stateOf(slot) == STATE_WAITING);
  const level = heapRoom(group, load<i32>(slot, S_PRIORITY), first);
  if (level == 0) return false;
  clearUnreached(slot);
  store<u32>(slot, group, S_HEAP);
  heapPush(level, hintOf(slot, wordOf(slot)), first);
  return true;
}

/** The job in the group whose turn is first, or 0. */
export function groupTop(group: u32): u32 {
  const level = heapTop(group);
  return level == 0 ? 0 : slotOfHint(frontHint(level));
}

/**
 * Lets the group's first job into the queue's heap, at the tail of its priority or `first` into the head lane: its slot; 0 when there is
 * none, or memory is full.
 */
export function groupSurface(group: u32, first: bool): u32 {
  const from = heapTop(group);
  if (from == 0) return 0;
  const hint = frontHint(from);
  const slot = slotOfHint(hint);
  const queue = load<u32>(slot, S_QUEUE);
  const level = heapRoom(queue, load<i32>(slot, S_PRIORITY), first);
  if (level == 0) return 0;
  frontPop(from);
  store<u32>(slot, 0, S_HEAP);
  readyCount(queue, 1);
  heapPush(level, hint, first);
  return slot;
}

/** Takes a job back from the queue's heap, to the head of its priority in its group. False when a claim came first, or memory is full. */
export function groupSink(slot: u32, group: u32): bool {
  assert(load<u32>(slot, S_HEAP) == 0);
  const level = heapRoom(group, load<i32>(slot, S_PRIORITY), true);
  if (level == 0 || !withdraw(slot, STATE_WAITING)) return false;
  const queue = load<u32>(slot, S_QUEUE);
  heapStale(queue, load<i32>(slot, S_PRIORITY));
  readyCount(queue, -1);
  store<u32>(slot, group, S_HEAP);
  heapPush(level, hintOf(slot, wordOf(slot)), true);
  return true;
}

/**
 * Age raises the priority of a job that waits, wherever it does, to `priority`, at its tail; S_AGED keeps by how much. False, and the job as
 * it was, when a claim came first or memory is full.
 */
export function jobAge(slot: u32, priority: i32): bool {
  if (stateOf(slot) != STATE_WAITING) return false;
  const before = load<i32>(slot, S_PRIORITY);
  if (!isUnreached(slot)) {
    const own = load<u32>(slot, S_HEAP);
    const heap = own == 0 ? load<u32>(slot, S_QUEUE) : own;
    const level = heapRoom(heap, priority, false);
    if (level == 0 || !withdraw(slot, STATE_WAITING)) return false;
    setAged(slot, priority, before);
    heapPush(level, hintOf(slot, wordOf(slot)), false);
    heapStale(heap, before);
  } else setAged(slot, priority, before);
  return true;
}

function setAged(slot: u32, priority: i32, before: i32): void {
  store<i32>(slot, priority, S_PRIORITY);
  store<i32>(slot, load<i32>(slot, S_AGED) + priority - before, S_AGED);
}
