/**
 * Deduplication keys: while one is held, an add that names it gives the job that holds it. A key without a `ttl` is held until its job
 * has ended, one with a `ttl` until that is over; whichever it is, a key goes with its job when that is removed. Keys are entries of
 * the log (`entries.ts`), so they and the jobs that hold them are durable in one group.
 */
import type { DeduplicationOptions, JobOptions } from '../../client/options.js';
import { L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import { type EngineState, flagsOf, idOf, queueOf, tell, tellQueue } from '../state.js';
import { admit, type Entry } from './admission.js';
import { resolve } from './references.js';

const ROOM = 'deduplication';
/** Keys whose time is over are looked for no more often than this. */
const SWEEP_MS = 10_000;

/** What an add left that came while the job of its key was running. */
interface Next {
  readonly name: string;
  readonly data: unknown;
  readonly opts: JobOptions;
}

interface Key {
  readonly queue: string;
  readonly job: string;
  /** Tells the job from another one under its id. */
  readonly number: number;
  /** 0: until its job has ended. */
  readonly until: number;
  readonly next?: Next;
}

/** What an engine keeps about its keys beside them. */
export interface KeyNotes {
  /** There is a key, or was one. */
  any: boolean;
  /** Before that no key's time is over. */
  due: number;
}

function nameOf(queue: string, id: string): string {
  return `${queue} ${id}`; // no queue's name holds a space
}

/** The key, if it is held. */
function find(state: EngineState, queue: string, id: string): Key | undefined {
  if (!state.keys.any) return undefined;
  const name = nameOf(queue, id);
  const key = state.entries.get<Key>(ROOM, name);
  if (key === undefined || key.until === 0 || key.until > state.clock.now()) return key;
  state.entries.delete(ROOM, name);
  return undefined;
}

function put(state: EngineState, queue: string, id: string, key: Key): void {
  const { keys } = state;
  keys.any = true;
  if (key.until !== 0 && key.until < keys.due) keys.due = key.until;
  state.entries.put(ROOM, nameOf(queue, id), key);
}

/** The record of the job that holds it, or 0. */
function slotOf(state: EngineState, { queue, job, number }: Key): Slot {
  const { slot } = resolve(state, queue, { id: job, queue });
  return slot !== 0 && state.core.number(slot) === number ? slot : 0;
}

/** After a log has been read. */
export function restoreKeys(state: EngineState): void {
  for (const [, { until }] of state.entries.all<Key>(ROOM)) {
    state.keys.any = true;
    if (until !== 0) state.keys.due = Math.min(state.keys.due, until);
  }
}

/** Forgets keys whose time is over. */
export function sweepKeys(state: EngineState): void {
  const now = state.clock.now();
  if (now < state.keys.due) return;
  let due = Number.POSITIVE_INFINITY;
  for (const [name, { until }] of [...state.entries.all<Key>(ROOM)]) {
    if (until === 0) continue;
    if (until <= now) state.entries.delete(ROOM, name);
    else due = Math.min(due, until);
  }
  state.keys.due = Math.max(due, now + SWEEP_MS);
}

// ---- admission --------------------------------------------------------------------------------------------------------------

/** Which items are no new jobs, since the key they name is held: by a job that is there, or by another item of the call. */
export function resolveKeys(state: EngineState, queue: QueueEntry, entries: readonly Entry[]): void {
  const byKey = new Map<string, Entry>();
  const rerunBy = new Map<Slot, Entry>();
  for (const entry of entries) if (entry.reruns !== undefined) rerunBy.set(entry.reruns, entry);
  for (const entry of entries) {
    const wanted = entry.opts?.deduplication;
    if (wanted === undefined || entry.error !== undefined) continue;
    if (entry.existing !== undefined || entry.twin !== undefined) continue; // found by its own id
    const earlier = byKey.get(wanted.id);
    if (earlier === undefined || earlier.existing !== undefined || earlier.gone !== undefined) {
      meet(state, queue, entry, wanted);
      const again = entry.existing === undefined ? undefined : rerunBy.get(entry.existing);
      if (again !== undefined && again !== entry) {
        delete entry.existing; // that record goes
        entry.twin = again;
        continue;
      }
      byKey.set(wanted.id, entry);
    } else if (wanted.replace === true && isReplaceable(earlier) && entry.opts?.jobId === undefined) {
      giveWay(earlier, entry, entries);
      byKey.set(wanted.id, entry);
    } else {
      entry.twin = earlier;
      entry.key = wanted.id;
    }
  }
  for (const entry of entries) nameTwin(entry);
}

/** The item of the same id may have turned out to be another one by its key. */
function nameTwin(entry: Entry): void {
  while (entry.twin?.twin !== undefined) {
    entry.key ??= entry.twin.key;
    entry.twin = entry.twin.twin;
  }
}

function isReplaceable({ opts }: Entry): boolean {
  return (opts?.delay ?? 0) > 0 && opts?.jobId === undefined;
}

/** The later of two items of one call takes the place of the earlier one. */
function giveWay(earlier: Entry, later: Entry, entries: readonly Entry[]): void {
  for (const other of entries) if (other.twin === earlier) other.twin = later;
  earlier.twin = later;
  earlier.key = later.opts?.deduplication?.id;
  later.displaces = earlier.displaces;
  later.until = earlier.until;
  earlier.displaces = undefined;
}

function meet(state: EngineState, queue: QueueEntry, entry: Entry, wanted: DeduplicationOptions): void {
  const key = find(state, queue.name, wanted.id);
  if (key === undefined) return;
  const slot = slotOf(state, key);
  if (slot === 0) {
    if (key.until === 0) return; // its job has gone without a word: so has the key
    entry.key = wanted.id;
    entry.gone = key.job;
    return;
  }
  entry.key = wanted.id;
  const { core } = state;
  const isDelayed = core.state(slot) === L.STATE_DELAYED && core.field(slot, L.S_STARTED) === 0;
  if (wanted.replace !== true || !isDelayed) {
    entry.existing = slot;
    return;
  }
  // A job keeps its id: where both have the same kind of one, the old record is given the new content.
  if ((flagsOf(state, slot) & L.FLAG_CUSTOM_ID) === 0 && entry.opts?.jobId === undefined) {
    entry.existing = slot;
    entry.replace = true;
  } else {
    entry.displaces = slot;
    if (wanted.extend !== true) entry.until = key.until;
  }
}

/** A new job takes its key. */
export function holdKey(state: EngineState, queue: QueueEntry, entry: Entry, now: number): void {
  const { slot, opts } = entry;
  const wanted = opts?.deduplication;
  if (wanted === undefined) return;
  const until = entry.until ?? (wanted.ttl === undefined ? 0 : now + wanted.ttl);
  put(state, queue.name, wanted.id, {
    queue: queue.name,
    job: idOf(state, slot),
    number: state.core.number(slot),
    until,
  });
}

/** A job is being given other options: its key is free, and it holds the one that they name, unless another job does. */
export function changeKey(state: EngineState, slot: Slot, wanted: DeduplicationOptions | undefined, now: number): void {
  const held = keyHeldBy(state, slot);
  if (held?.id === wanted?.id) return;
  const queue = queueOf(state, slot);
  if (held !== undefined) state.entries.delete(ROOM, nameOf(queue.name, held.id));
  if (wanted === undefined) return;
  const other = find(state, queue.name, wanted.id);
  if (other !== undefined && (other.until !== 0 || slotOf(state, other) !== 0)) return;
  const until = wanted.ttl === undefined ? 0 : now + wanted.ttl;
  put(state, queue.name, wanted.id, {
    queue: queue.name,
    job: idOf(state, slot),
    number: state.core.number(slot),
    until,
  });
}

/** An item has met a key that is held: before its block is freed. */
export function meetKey(state: EngineState, queue: QueueEntry, entry: Entry, now: number): void {
  const id = entry.key as string;
  if (entry.existing !== undefined) tell(state, entry.existing, 'deduplicated', () => ({ deduplicationId: id }));
  else if (entry.gone !== undefined) tellQueue(state, queue.name, 'deduplicated', { deduplicationId: id }, entry.gone);
  const key = find(state, queue.name, id);
  const { extend, ttl, keepLastIfActive } = (entry.opts as JobOptions).deduplication as DeduplicationOptions;
  if (key === undefined) return;
  if (extend === true && ttl !== undefined) put(state, queue.name, id, { ...key, until: now + ttl });
  const isActive = entry.existing !== undefined && state.core.state(entry.existing) === L.STATE_ACTIVE;
  if (keepLastIfActive !== true || !isActive) return;
  const { payloads } = state;
  const next = { name: payloads.name(entry.block), data: payloads.data(entry.block), opts: entry.opts as JobOptions };
  put(state, queue.name, id, { ...key, next });
}

// ---- the end ----------------------------------------------------------------------------------------------------------------

/** The key that this job holds, and its name. */
function keyHeldBy(state: EngineState, slot: Slot): { id: string; key: Key } | undefined {
  if (!state.keys.any || (flagsOf(state, slot) & L.FLAG_OPTIONS) === 0) return undefined;
  const { core, payloads } = state;
  const wanted = payloads.opts(core.field(slot, L.S_PAYLOAD)).deduplication;
  if (wanted === undefined) return undefined;
  const key = find(state, queueOf(state, slot).name, wanted.id);
  return key?.number === core.number(slot) ? { id: wanted.id, key } : undefined;
}

/** The job has ended: its key is free, unless that has a time of its own; and what came meanwhile is added. */
export function keyEnded(state: EngineState, slot: Slot): void {
  const held = keyHeldBy(state, slot);
  if (held === undefined || held.key.until !== 0) return;
  const queue = queueOf(state, slot);
  state.entries.delete(ROOM, nameOf(queue.name, held.id));
  const { next } = held.key;
  if (next === undefined) return;
  const answers = admit(state, queue, [next], false);
  const error = 'first' in answers ? undefined : answers[0]?.error;
  if (error !== undefined)
    state.warn(
      `The last add under the deduplication key ${JSON.stringify(held.id)} of queue "${queue.name}" is lost: ${error.message}`,
      'FLASHQ_DEDUPLICATION_LOST',
    );
}

/** The job is being removed, and its key with it. */
export function keyGone(state: EngineState, slot: Slot): void {
  const held = keyHeldBy(state, slot);
  if (held !== undefined) state.entries.delete(ROOM, nameOf(queueOf(state, slot).name, held.id));
}

/** All keys of a queue. */
export function dropKeys(state: EngineState, { name }: QueueEntry): void {
  if (!state.keys.any) return;
  for (const [entry, { queue }] of [...state.entries.all<Key>(ROOM)])
    if (queue === name) state.entries.delete(ROOM, entry);
}

// ---- what users ask ---------------------------------------------------------------------------------------------------------

export function keyHolder(state: EngineState, queue: QueueEntry, id: string): string | undefined {
  return find(state, queue.name, id)?.job;
}

/** Whether there was one. */
export function releaseKey(state: EngineState, queue: QueueEntry, id: string): boolean {
  return find(state, queue.name, id) !== undefined && state.entries.delete(ROOM, nameOf(queue.name, id));
}
