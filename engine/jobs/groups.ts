/**
 * Groups: jobs of one `group.id` take turns with those of the others. A group waits in a heap of its own, and at most one of its jobs, the
 * first by priority and order, stands in the queue's heap (a few, while somebody claims batches of one group). When it is claimed the
 * group's next comes to the tail of its priority: so the highest priority among all groups is first, and groups of one priority take
 * turns. A group at its limit has none there.
 *
 * Limits: a job stands in the queue's heap only if it may start at any moment from then on. `running` and those that stand there are
 * never more than the group's concurrency. And at most `max` starts lie in any window: those that began within `duration` before the
 * moment at which a job came to stand there, and those that stand there, are at most so many; no window that a later start falls into
 * holds others.
 */
import type { GroupsConfig } from '../../client/connection.js';
import { L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import { announce, type EngineState, flagsOf, queueOf } from '../state.js';
import { GROUPED } from './flags.js';

/** Between two tries to make room in full memory. */
const RETRY_MS = 1000;

export interface Group {
  readonly id: string;
  /** Where its jobs wait; 0 while none ever had to. */
  heap: number;
  /** The jobs that stand in the queue's heap, and have not been heard of as claimed. */
  stands: Slot[];
  /** When the last of them came there. */
  since: number;
  running: number;
  /** Times of its last starts, while there is a rate limit. */
  starts: number[];
  cancelTimer: (() => void) | undefined;
}

export function isGrouped(state: EngineState, slot: Slot): boolean {
  return (flagsOf(state, slot) & GROUPED) !== 0;
}

function idOfGroup(state: EngineState, slot: Slot): string {
  return state.payloads.opts(state.core.field(slot, L.S_PAYLOAD)).group?.id ?? '';
}

/** The group of a job that stands in the queue's heap, or runs. Their options need not be read for that. */
function groupOfRun(state: EngineState, queue: QueueEntry, slot: Slot): Group {
  return queue.groupOf.get(slot) ?? groupOf(state, queue, slot);
}

/** The group of a job, made on first use. */
function groupOf(state: EngineState, queue: QueueEntry, slot: Slot): Group {
  const id = idOfGroup(state, slot);
  let group = queue.groups.get(id);
  if (group === undefined) {
    // Threads tell of starts as soon as there are groups: it is then that the next one's turn comes.
    if (queue.groups.size === 0) state.queues.setThreadsReport(queue, queue.groups, true);
    group = { id, heap: 0, stands: [], since: 0, running: 0, starts: [], cancelTimer: undefined };
    queue.groups.set(id, group);
  }
  return group;
}

function limitsOf(queue: QueueEntry): GroupsConfig {
  return queue.config.groups ?? {};
}

/** When one more job may come to stand in the queue's heap: now or before, later, or when something has ended or begun (infinity). */
function mayStandAt(queue: QueueEntry, group: Group): number {
  const { concurrency, rateLimit } = limitsOf(queue);
  const { running, stands, starts } = group;
  if (concurrency !== undefined && running + stands.length >= concurrency) return Number.POSITIVE_INFINITY;
  if (rateLimit === undefined) return 0;
  const free = rateLimit.max - stands.length;
  if (free <= 0) return Number.POSITIVE_INFINITY;
  const before = starts[starts.length - free];
  return before === undefined ? 0 : before + rateLimit.duration;
}

/** What holds a waiting job back in its group: the group, and when it may go on by itself (infinity: when a run has ended). */
export function heldInGroup(state: EngineState, queue: QueueEntry, slot: Slot): { id: string; at: number } | undefined {
  if (!isGrouped(state, slot)) return undefined;
  const group = queue.groups.get(idOfGroup(state, slot));
  if (group === undefined || group.stands.includes(slot)) return undefined;
  return { id: group.id, at: mayStandAt(queue, group) };
}

// ---- waiting ----------------------------------------------------------------------------------------------------------------

/** Makes a job ready in its group. False when memory is full: the job is then as it was. */
export function groupReady(state: EngineState, slot: Slot, first: boolean): boolean {
  const { wasm } = state.core;
  const queue = queueOf(state, slot);
  const group = groupOf(state, queue, slot);
  if (standsAtOnce(state, queue, group)) {
    if (wasm.jobReady(slot, first ? 1 : 0) === 0) return false;
    stand(state, queue, group, slot);
    return true;
  }
  if (!openHeap(state, group)) return false;
  makeWay(state, queue, group, state.core.priority(slot), first);
  const isDone = wasm.groupPut(slot, group.heap, first ? 1 : 0) !== 0;
  if (isDone) state.journal?.place(slot, first);
  advance(state, queue, group, first);
  return isDone;
}

/** The same for a job that was held until it was durable: it has its place. */
export function groupReach(state: EngineState, slot: Slot): boolean {
  const { wasm } = state.core;
  const queue = queueOf(state, slot);
  const group = groupOf(state, queue, slot);
  const first = (flagsOf(state, slot) & L.FLAG_LIFO) !== 0;
  if (standsAtOnce(state, queue, group)) {
    if (wasm.jobReach(slot, first ? 1 : 0) === 0) return false;
    stand(state, queue, group, slot);
    wasm.queueMark(queue.address, state.core.priority(slot));
    announce(state, queue, 1);
    return true;
  }
  if (!openHeap(state, group)) return false;
  makeWay(state, queue, group, state.core.priority(slot), first);
  const isDone = wasm.groupReach(slot, group.heap, first ? 1 : 0) !== 0;
  advance(state, queue, group, first);
  return isDone;
}

/** Nobody of the group waits, and it may start one. */
function standsAtOnce(state: EngineState, queue: QueueEntry, group: Group): boolean {
  if (group.stands.length !== 0 || hasWaiting(state, group)) return false;
  return mayStandAt(queue, group) <= state.clock.now();
}

function stand(state: EngineState, queue: QueueEntry, group: Group, slot: Slot): void {
  group.stands.push(slot);
  queue.groupOf.set(slot, group);
  group.since = state.clock.now();
}

function openHeap({ core }: EngineState, group: Group): boolean {
  if (group.heap === 0) group.heap = core.wasm.groupOpen() >>> 0;
  return group.heap !== 0;
}

/** A job that goes before those that stand in the queue's heap is to take their place: they go back, unless they were claimed. */
function makeWay({ core }: EngineState, queue: QueueEntry, group: Group, priority: number, first: boolean): void {
  for (let i = group.stands.length - 1; i >= 0; i--) {
    const slot = group.stands[i] as Slot;
    const by = priority - core.priority(slot);
    if (by < 0 || (by === 0 && !first)) return;
    if (core.wasm.groupSink(slot, group.heap) === 0) continue; // claimed: its thread will tell
    group.stands.splice(i, 1);
    queue.groupOf.delete(slot);
  }
}

/** Lets the group's next jobs into the queue's heap, as many as may start. `first`: to the head of their priority. */
function advance(state: EngineState, queue: QueueEntry, group: Group, first = false): void {
  if (group.stands.length !== 0) return;
  const { wasm } = state.core;
  const now = state.clock.now();
  while (group.stands.length < queue.groupWindow) {
    if (group.heap === 0) break;
    const at = mayStandAt(queue, group);
    if (at > now) {
      const isNext = group.stands.length === 0 && at !== Number.POSITIVE_INFINITY;
      if (isNext && hasWaiting(state, group)) comeBack(state, queue, group, at - now);
      break;
    }
    const slot = wasm.groupSurface(group.heap, first ? 1 : 0) >>> 0;
    if (slot === 0) {
      if (hasWaiting(state, group)) comeBack(state, queue, group, RETRY_MS); // memory is full
      break;
    }
    stand(state, queue, group, slot);
  }
  if (group.stands.length !== 0) announce(state, queue, group.stands.length);
  else leaveIfIdle(state, queue, group);
}

function hasWaiting({ core }: EngineState, group: Group): boolean {
  return group.heap !== 0 && core.wasm.groupTop(group.heap) !== 0;
}

function comeBack(state: EngineState, queue: QueueEntry, group: Group, ms: number): void {
  group.cancelTimer?.();
  group.cancelTimer = state.clock.setTimer(
    () => {
      group.cancelTimer = undefined;
      advance(state, queue, group);
    },
    Math.max(1, Math.ceil(ms)),
  );
}

/** A group of which there is nothing left to know goes. */
function leaveIfIdle(state: EngineState, queue: QueueEntry, group: Group): void {
  if (group.running > 0 || hasWaiting(state, group)) return;
  const duration = limitsOf(queue).rateLimit?.duration ?? 0;
  const left = (group.starts[group.starts.length - 1] ?? Number.NEGATIVE_INFINITY) + duration - state.clock.now();
  if (left > 0) {
    comeBack(state, queue, group, left);
    return;
  }
  if (group.heap !== 0) state.core.wasm.groupClose(group.heap);
  group.cancelTimer?.();
  queue.groups.delete(group.id);
  if (queue.groups.size === 0) state.queues.setThreadsReport(queue, queue.groups, false);
}

// ---- runs -------------------------------------------------------------------------------------------------------------------

/** The job has been claimed: its group's next may come. */
export function groupStarted(state: EngineState, slot: Slot): void {
  const queue = queueOf(state, slot);
  const group = groupOfRun(state, queue, slot);
  if (begin(state, queue, group, slot)) advance(state, queue, group);
}

/** False when that was known. */
function begin(state: EngineState, queue: QueueEntry, group: Group, slot: Slot): boolean {
  if (!leave(group, slot)) return false;
  group.running++;
  const { rateLimit } = limitsOf(queue);
  if (rateLimit === undefined) return true;
  const { core } = state;
  // A thread looks at the clock before it claims, and may sleep in between: it began no earlier than it could have.
  const startedOn = Math.max(core.time(slot, L.S_PROCESSED_ON), group.since);
  core.setTime(slot, L.S_PROCESSED_ON, startedOn);
  const { starts } = group;
  const isLate = starts.length !== 0 && (starts[starts.length - 1] as number) > startedOn;
  starts.push(startedOn);
  if (isLate) starts.sort((a, b) => a - b); // several stood there, and their threads tell in any order
  if (starts.length > rateLimit.max) starts.splice(0, starts.length - rateLimit.max);
  return true;
}

function leave(group: Group, slot: Slot): boolean {
  const at = group.stands.indexOf(slot);
  if (at !== -1) group.stands.splice(at, 1);
  return at !== -1;
}

/** It was claimed and not used: it stands in the queue's heap again, before the others of its group. */
export function groupUnused(state: EngineState, slot: Slot): void {
  const queue = queueOf(state, slot);
  const group = groupOfRun(state, queue, slot);
  begin(state, queue, group, slot);
  group.running--;
  const start = group.starts.lastIndexOf(state.core.time(slot, L.S_PROCESSED_ON));
  if (start !== -1) group.starts.splice(start, 1);
  group.stands.unshift(slot);
}

/** Its run has ended, whether its start was told or not. */
export function groupRunOver(state: EngineState, slot: Slot): void {
  const queue = queueOf(state, slot);
  if (state.core.state(slot) === L.STATE_BLOCKED) return; // it ran in an engine before this one
  const group = groupOfRun(state, queue, slot);
  begin(state, queue, group, slot);
  group.running--;
  queue.groupOf.delete(slot);
  advance(state, queue, group);
}

/** It was taken back from claimers. Its group's next may come. */
export function groupLeft(state: EngineState, slot: Slot): void {
  const queue = queueOf(state, slot);
  const group = groupOf(state, queue, slot);
  if (leave(group, slot)) queue.groupOf.delete(slot);
  advance(state, queue, group);
}

/** Its place in its group has changed. */
export function groupMoved(state: EngineState, slot: Slot): void {
  const { core } = state;
  const queue = queueOf(state, slot);
  const group = groupOf(state, queue, slot);
  if (group.heap === 0) return; // it waits alone
  const top = core.wasm.groupTop(group.heap) >>> 0;
  if (top === 0) return;
  makeWay(state, queue, group, core.priority(top), false);
  advance(state, queue, group);
}

/** The limits of groups, or how many may stand in the queue's heap, have changed. */
export function groupsConfigured(state: EngineState, queue: QueueEntry): void {
  const { wasm } = state.core;
  for (const group of [...queue.groups.values()]) {
    // They came to stand there under other limits.
    for (const slot of [...group.stands].reverse()) {
      if (!openHeap(state, group) || wasm.groupSink(slot, group.heap) === 0) continue;
      leave(group, slot);
      queue.groupOf.delete(slot);
    }
    advance(state, queue, group);
  }
}
