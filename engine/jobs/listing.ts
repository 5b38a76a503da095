/** Many jobs of a queue: to read page by page, by state, and to clean away. */
import type { JobPage, JobQuery, JobSnapshot, JobState } from '../../client/connection.js';
import { ValidationError } from '../../client/errors.js';
import { type Core, L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import { type EngineState, flagsOf, idOf, tellQueue } from '../state.js';
import { hold, removeHeld } from './control.js';
import { deferEnds } from './endings.js';
import { matches } from './filter.js';
import { DISCARDED } from './flags.js';
import { STATE_NAMES, snapshot, visibleState } from './records.js';

/** Slots looked at in one call: some milliseconds. Whoever reads asks again. */
const SCAN_SLOTS = 50_000;
const SLOTS_PER_CHUNK = Math.floor((L.PAGE_BYTES - L.CHUNK_HEADER_BYTES) / L.SLOT_BYTES);

const RAW: Readonly<Record<JobState, number>> = Object.fromEntries(
  Object.entries(STATE_NAMES).map(([raw, name]) => [name, Number(raw)]),
) as Record<JobState, number>;

// ---- page by page -------------------------------------------------------------------------------------------------------------

/**
 * The jobs in the order of their slots: a job keeps its slot as long as it lives, so one that is there from the first page to the last comes
 * once, whatever else comes and goes. In a page they are in the order of their admission.
 */
export function listJobs(state: EngineState, queue: QueueEntry, query: JobQuery): JobPage {
  const { core } = state;
  const wanted = new Set(query.states.map((name) => RAW[name]));
  const slots: Slot[] = [];
  const timers = timerChunks(core);
  let place = placeOf(state, query.cursor);
  let seen = 0;
  const touched = Atomics.load(core.u32, L.H_CHUNKS_TOUCHED >>> 2);
  for (; slots.length < query.limit && seen < SCAN_SLOTS; place++) {
    const chunk = Math.floor(place / SLOTS_PER_CHUNK) + L.CHUNK_FIRST;
    if (chunk >= touched) return pageOf(state, slots, undefined);
    if (!holdsSlots(core, chunk, timers)) {
      place = (chunk - L.CHUNK_FIRST + 1) * SLOTS_PER_CHUNK - 1;
      continue;
    }
    seen++;
    const slot = chunk * L.PAGE_BYTES + L.CHUNK_HEADER_BYTES + (place % SLOTS_PER_CHUNK) * L.SLOT_BYTES;
    if (!wanted.has(core.state(slot)) || core.field(slot, L.S_QUEUE) !== queue.address) continue;
    if (isDiscarded(state, slot)) continue;
    if (query.filter === undefined || matches(state, slot, query.filter)) slots.push(slot);
  }
  return pageOf(state, slots, `${state.events.epoch}:${place}`);
}

/** Its run goes on, but it has been removed. */
function isDiscarded(state: EngineState, slot: Slot): boolean {
  return (flagsOf(state, slot) & DISCARDED) !== 0;
}

function pageOf(state: EngineState, slots: Slot[], cursor: string | undefined): JobPage {
  slots.sort((a, b) => state.core.number(a) - state.core.number(b));
  return { jobs: slots.map((slot) => snapshot(state, slot)), ...(cursor === undefined ? {} : { cursor }) };
}

function placeOf(state: EngineState, cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  const [epoch, place] = cursor.split(':');
  if (epoch === state.events.epoch && /^\d{1,15}$/.test(place ?? '')) return Number(place);
  throw new ValidationError(
    `The cursor ${JSON.stringify(cursor)} is not one of this engine: it was opened anew since. Begin without a cursor.`,
    { path: 'opts.cursor' },
  );
}

/** A chunk of slots stays one for good, and says so; but a chunk of timers has no header, and may begin with any number. */
function holdsSlots(core: Core, chunk: number, timers: ReadonlySet<number>): boolean {
  if (core.u16[(L.OWNERS_AT + chunk * L.OWNER_BYTES) >>> 1] !== L.ENGINE_THREAD) return false;
  return core.u32[(chunk * L.PAGE_BYTES + L.C_KIND) >>> 2] === L.CHUNK_SLOTS && !timers.has(chunk);
}

function timerChunks(core: Core): Set<number> {
  const chunks = new Set<number>();
  const count = core.u32[L.H_TIMER_SEGMENTS >>> 2] as number;
  for (let i = 0; i < count; i++) chunks.add((core.u32[(L.TIMER_DIRECTORY_AT >>> 2) + i] as number) / L.PAGE_BYTES);
  return chunks;
}

// ---- by state -----------------------------------------------------------------------------------------------------------------

/** Those from `start` to `end`, both included, in the order in which they came into that state, or the newest first. */
export function listState(
  state: EngineState,
  queue: QueueEntry,
  name: JobState,
  { start, end, newestFirst }: { start: number; end: number; newestFirst: boolean },
): JobSnapshot[] {
  const { core } = state;
  const raw = RAW[name];
  const found: JobSnapshot[] = [];
  const next = newestFirst ? L.S_PREV : L.S_NEXT;
  let slot = newestFirst ? core.listTail(queue.address, raw) : core.listHead(queue.address, raw);
  for (let at = 0; slot !== 0 && at <= end; slot = core.field(slot, next)) {
    if (core.state(slot) !== raw || isDiscarded(state, slot)) continue; // waiting and active jobs share a list
    if (at++ >= start) found.push(snapshot(state, slot));
  }
  return found;
}

// ---- cleaning -----------------------------------------------------------------------------------------------------------------

/** Removes jobs that ended, or were admitted, at least `graceMs` ago; the oldest first, at most `limit`. Their ids. */
export function clean(state: EngineState, queue: QueueEntry, graceMs: number, limit: number, name: JobState): string[] {
  const { core } = state;
  const raw = RAW[name];
  const before = state.clock.now() - graceMs;
  const since = raw >= L.STATE_COMPLETED ? L.S_FINISHED_ON : L.S_TIMESTAMP;
  const slots: Slot[] = [];
  for (let slot = core.listHead(queue.address, raw); slot !== 0; slot = core.field(slot, L.S_NEXT)) {
    if (slots.length === limit) break;
    if (core.state(slot) === raw && core.time(slot, since) <= before) slots.push(slot);
  }
  const ids: string[] = [];
  deferEnds(() => {
    for (const slot of slots) {
      const prev = visibleState(state, slot);
      if (core.state(slot) !== raw || (raw < L.STATE_COMPLETED && !hold(state, slot))) continue; // a claim came first
      ids.push(idOf(state, slot));
      removeHeld(state, slot, prev);
    }
  });
  tellQueue(state, queue.name, 'cleaned', { count: ids.length, state: name });
  return ids;
}
