/**
 * Admission: from items to jobs, in three steps: (1) everything that can be refused is checked and encoded, (2) slots are made,
 * which only full memory can stop, and (3) the jobs become ready, delayed or blocked, which nothing can stop. So an atomic call is
 * all or nothing, and of a call that is not atomic only the refused items are missing.
 */
import type { AddAnswer, AddAnswers, AddItem, JobRef, NewJobs } from '../../client/connection.js';
import { BulkError, DuplicateJobError, EngineFullError } from '../../client/errors.js';
import { JOB_DEFAULTS, type JobOptions } from '../../client/options.js';
import { type Block, L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import type { EngineState } from '../state.js';
import { announce, flagsOf, idOf, tell } from '../state.js';
import { toBlocked, toDelayed, toReadyOnceDurable, toReadyQuietly } from '../upkeep/postponed.js';
import { removeHeld } from './control.js';
import { changeKey, holdKey, meetKey, resolveKeys } from './deduplication.js';
import { applyPolicy, connect, dropDependencies, firstFailed, settleDependents } from './dependencies.js';
import { deferEnds, discard, hashOf } from './endings.js';
import { GROUPED, HAS_DEPENDENCIES, OWN_RETENTION, policyFlags } from './flags.js';
import { type Plan, planDependencies } from './plans.js';
import { finalState, snapshot } from './records.js';
import { leaveSuspects } from './settle.js';
import { withdraw } from './withdraw.js';

/** One item on its way: encoded, and either new, or a job that is there. */
export interface Entry {
  readonly block: Block;
  readonly opts: JobOptions | undefined;
  error?: Error;
  /** The job of the same id that was there; with `replace` it is given the new payload. */
  existing?: Slot;
  replace?: boolean;
  /** The finished job that it runs again, as a new one. */
  reruns?: Slot;
  /** The earlier item of this call with the same id. */
  twin?: Entry;
  plan?: Plan;
  /** Of a graph: what its other nodes call it, and its queue. */
  node?: { readonly key: string; readonly queue: string };
  slot: Slot;
  /** Of a deduplication key that was held when it came. */
  key?: string | undefined;
  /** The id of the job that holds the key, of which there is no record any more. */
  gone?: string;
  /** The job that it takes the place of, under another id. */
  displaces?: Slot | undefined;
  /** Until when it holds the key that it takes over; undefined: as its own options say. */
  until?: number | undefined;
}

/** Adds jobs. Atomic: throws BulkError and has added nothing; else errors stand in the answers. */
export function admit(state: EngineState, queue: QueueEntry, items: readonly AddItem[], atomic: boolean): AddAnswers {
  const first = items[0];
  if (items.length === 1 && first !== undefined && isSimple(first.opts)) {
    const made = admitSimple(state, queue, first);
    if (!(made instanceof Error)) return made;
    if (atomic) throw new BulkError([{ index: 0, error: made }]);
    return [{ id: '', deduplicated: false, timestamp: state.clock.now(), error: made }];
  }
  const made = admitPlain(state, queue, items);
  if (made !== undefined) return made;
  if (!atomic && items.every(({ opts }) => isSimple(opts))) return items.map((item) => admitOne(state, queue, item));
  const entries: Entry[] = new Array(items.length);
  for (let i = 0; i < items.length; i++) entries[i] = encode(state, items[i] as AddItem);
  return admitEntries(state, queue, entries, atomic);
}

/** As `admit`, for payloads that another thread has encoded. The blocks are the engine's: kept or freed. */
export function admitBlocks(
  state: EngineState,
  queue: QueueEntry,
  items: readonly { readonly block: Block; readonly opts: JobOptions | undefined }[],
  atomic: boolean,
): AddAnswer[] {
  const entries = items.map(({ block, opts }): Entry => ({ block, opts, slot: 0 }));
  return admitEntries(state, queue, entries, atomic);
}

/** What is wrong with each of these items, of a call of which another one has been refused already. Adds none; the blocks are freed. */
export function judgeBlocks(
  state: EngineState,
  queue: QueueEntry,
  items: readonly { readonly block: Block; readonly opts: JobOptions | undefined }[],
): { index: number; error: Error }[] {
  const entries = items.map(({ block, opts }): Entry => ({ block, opts, slot: 0 }));
  plan(state, queue, entries);
  for (const { block } of entries) state.core.wasm.blockFree(block);
  return errorsOf(entries);
}

function isSimple(opts: JobOptions | undefined): boolean {
  if (opts === undefined) return true;
  return opts.jobId === undefined && opts.dependsOn === undefined && opts.deduplication === undefined;
}

export function full(state: EngineState): EngineFullError {
  return new EngineFullError({ limitBytes: state.limits.memoryBytes });
}

/** The most frequent call: one job without id and references. Gives the error that refuses it. */
function admitSimple(state: EngineState, queue: QueueEntry, item: AddItem): NewJobs | Error {
  let block: Block;
  try {
    block = state.payloads.encodeJob({ name: item.name, customId: '', opts: item.opts, data: item.data });
  } catch (error) {
    return error as Error;
  }
  if (block === 0) return full(state);
  const now = state.clock.now();
  const slot = create(state, queue, block, item.opts, now);
  if (slot === 0) {
    state.core.wasm.blockFree(block);
    return full(state);
  }
  if (start(state, slot, item.opts, now)) announce(state, queue, 1);
  const places = [slot / L.SLOT_BYTES];
  return { first: state.core.number(slot), count: 1, timestamp: item.opts?.timestamp ?? now, places };
}

/** One of many that stand for themselves: each takes the memory that it needs before the next one takes any. */
function admitOne(state: EngineState, queue: QueueEntry, item: AddItem): AddAnswer {
  const made = admitSimple(state, queue, item);
  if (made instanceof Error) return { id: '', deduplicated: false, timestamp: state.clock.now(), error: made };
  return { id: `j${made.first}`, deduplicated: false, timestamp: made.timestamp };
}

/**
 * Many jobs without options. Undefined, and nothing done, when there are others among them, or when one can't be admitted: then the
 * general way finds out which, and why.
 */
function admitPlain(state: EngineState, queue: QueueEntry, items: readonly AddItem[]): NewJobs | undefined {
  if (items.length === 0) return undefined;
  for (let i = 0; i < items.length; i++) if ((items[i] as AddItem).opts !== undefined) return undefined;
  const { wasm } = state.core;
  const blocks: Block[] = [];
  const places: number[] = [];
  const now = state.clock.now();
  if (encodeAll(state, items, blocks)) {
    for (let i = 0; i < blocks.length; i++) {
      const slot = wasm.jobCreate(queue.address, 0, 0, blocks[i] as Block, now, 0) >>> 0;
      if (slot === 0) break;
      places.push(slot / L.SLOT_BYTES);
    }
  }
  if (places.length < items.length) {
    for (const place of places) wasm.jobRemove(place * L.SLOT_BYTES); // frees the block too
    for (let i = places.length; i < blocks.length; i++) wasm.blockFree(blocks[i] as Block);
    return undefined;
  }
  const isGated = state.journal?.gates === true;
  for (let i = 0; i < places.length; i++) {
    const slot = (places[i] as number) * L.SLOT_BYTES;
    if (isGated) toReadyOnceDurable(state, slot, false);
    else toReadyQuietly(state, slot);
    tellAdded(state, slot, 'waiting');
  }
  if (!isGated) {
    wasm.queueMark(queue.address, 0);
    announce(state, queue, places.length);
  }
  return {
    first: state.core.number((places[0] as number) * L.SLOT_BYTES),
    count: places.length,
    timestamp: now,
    places,
  };
}

function encodeAll(state: EngineState, items: readonly AddItem[], blocks: Block[]): boolean {
  const content = { name: '', customId: '', opts: undefined, data: undefined as unknown };
  try {
    for (let i = 0; i < items.length; i++) {
      const item = items[i] as AddItem;
      content.name = item.name;
      content.data = item.data;
      const block = state.payloads.encodeJob(content);
      if (block === 0) return false;
      blocks.push(block);
    }
    return true;
  } catch {
    return false;
  }
}

export function encode(state: EngineState, item: AddItem): Entry {
  const { name, opts, data } = item;
  try {
    const block = state.payloads.encodeJob({ name, customId: opts?.jobId ?? '', opts, data });
    return block === 0 ? { block: 0, opts, slot: 0, error: full(state) } : { block, opts, slot: 0 };
  } catch (error) {
    return { block: 0, opts, slot: 0, error: error as Error };
  }
}

/** Which items are jobs that are there, which depend on which, and which are refused. Changes nothing. */
function plan(state: EngineState, queue: QueueEntry, entries: Entry[]): void {
  const byId = new Map<string, Entry>();
  for (const entry of entries)
    if (entry.error === undefined && entry.opts?.jobId !== undefined) resolveId(state, queue, entry, byId);
  resolveKeys(state, queue, entries);
  planDependencies(state, queue, entries, byId);
}

function admitEntries(state: EngineState, queue: QueueEntry, entries: Entry[], atomic: boolean): AddAnswer[] {
  plan(state, queue, entries);
  if (atomic) refuseIfAny(state, entries);
  // An item may end at once, and others by it: what follows comes when all items have begun and their answers have been read.
  return deferEnds(() => admitPlanned(state, queue, entries, atomic));
}

function admitPlanned(state: EngineState, queue: QueueEntry, entries: Entry[], atomic: boolean): AddAnswer[] {
  const now = state.clock.now();
  for (const entry of entries) {
    if (!isNew(entry)) continue;
    entry.slot = create(state, queue, entry.block, entry.opts, now);
    if (entry.slot === 0) entry.error = full(state);
  }
  for (const entry of entries) link(state, entry);
  if (atomic) refuseIfAny(state, entries);
  for (const entry of entries) if (entry.error !== undefined) undo(state, entry);
  startAll(state, queue, entries, now);
  return answerAll(state, entries, now);
}

export function isNew(entry: Entry): boolean {
  const { error, existing, twin, gone } = entry;
  return error === undefined && existing === undefined && twin === undefined && gone === undefined;
}

/** Frees what a refused item holds. */
function undo(state: EngineState, entry: Entry): void {
  const { core } = state;
  if (entry.slot !== 0 && entry.existing === undefined) {
    dropDependencies(state, entry.slot);
    core.wasm.jobRemove(entry.slot); // frees the block too
  } else if (entry.block !== 0) core.wasm.blockFree(entry.block);
}

function errorsOf(entries: readonly Entry[]): { index: number; error: Error }[] {
  const errors: { index: number; error: Error }[] = [];
  for (const [index, { error }] of entries.entries()) if (error !== undefined) errors.push({ index, error });
  return errors;
}

export function refuseIfAny(state: EngineState, entries: readonly Entry[]): void {
  const errors = errorsOf(entries);
  if (errors.length === 0) return;
  // Dependents before their dependencies, so that no record is still pinned when its turn comes.
  for (const entry of [...entries].reverse())
    if (entry.slot !== 0 && entry.existing === undefined) dropDependencies(state, entry.slot);
  for (const entry of entries) undo(state, entry);
  throw new BulkError(errors);
}

// ---- ids that are there ----------------------------------------------------------------------------------------------------

export function resolveId(state: EngineState, queue: QueueEntry, entry: Entry, byId: Map<string, Entry>): void {
  const opts = entry.opts as JobOptions;
  const id = opts.jobId as string;
  const twin = byId.get(id);
  if (twin !== undefined) {
    if (opts.onDuplicate === 'error') entry.error = new DuplicateJobError({ queue: queue.name, jobId: id });
    else entry.twin = twin;
    return;
  }
  byId.set(id, entry);
  queue.customIds = true;
  const { core } = state;
  const slot = core.wasm.findId(queue.address, entry.block + L.P_CONTENT, state.payloads.idBytes(entry.block)) >>> 0;
  if (slot === 0) return;
  const raw = core.state(slot);
  const finished = raw >= L.STATE_COMPLETED;
  switch (opts.onDuplicate ?? JOB_DEFAULTS.onDuplicate) {
    case 'error':
      entry.error = new DuplicateJobError({ queue: queue.name, jobId: id, state: finalState(state, slot) });
      entry.existing = slot; // for other items that name it
      return;
    case 'replace':
      entry.replace = hasNotStarted(state, slot);
      entry.existing = slot;
      return;
    case 'rerun':
      if (finished) {
        entry.reruns = slot; // made anew; the old record goes when this one is made
        return;
      }
      entry.existing = slot;
      return;
    default:
      entry.existing = slot;
  }
}

function hasNotStarted({ core }: EngineState, slot: Slot): boolean {
  const raw = core.state(slot);
  const isOpen = raw === L.STATE_WAITING || raw === L.STATE_DELAYED || raw === L.STATE_BLOCKED;
  return isOpen && core.field(slot, L.S_STARTED) === 0;
}

/** Gives a job that has not started another payload and other options. False when its run, or its end by another item, came first. */
function replace(state: EngineState, slot: Slot, entry: Entry, now: number): boolean {
  const { core } = state;
  if (!hasNotStarted(state, slot)) return false;
  if (core.state(slot) === L.STATE_WAITING && !withdraw(state, slot)) return false;
  leaveSuspects(state, slot);
  dropDependencies(state, slot);
  if (entry.key === undefined) changeKey(state, slot, entry.opts?.deduplication, now);
  core.wasm.jobReplacePayload(slot, entry.block);
  const opts = entry.opts;
  core.setField(slot, L.S_PRIORITY, (opts?.priority ?? 0) >>> 0);
  core.setField(slot, L.S_FLAGS, (flagsOf(state, slot) & ~REPLACED_FLAGS) | flagsFor(opts));
  core.setTime(slot, L.S_EXPIRY, expiryOf(opts, now));
  tell(state, slot, 'replaced');
  return true;
}

/** What `flagsFor` sets. */
const REPLACED_FLAGS =
  L.FLAG_LIFO |
  L.FLAG_REPORT_START |
  L.FLAG_OPTIONS |
  OWN_RETENTION |
  GROUPED |
  policyFlags('wait') |
  policyFlags('cancel');

// ---- slots -----------------------------------------------------------------------------------------------------------------

function flagsFor(opts: JobOptions | undefined): number {
  if (opts === undefined) return 0;
  let flags = L.FLAG_OPTIONS | policyFlags(opts.onDependencyFailure);
  if (opts.lifo === true) flags |= L.FLAG_LIFO;
  if (opts.timeout !== undefined && opts.timeout > 0) flags |= L.FLAG_REPORT_START;
  if (opts.removeOnComplete !== undefined || opts.removeOnFail !== undefined) flags |= OWN_RETENTION;
  if (opts.jobId !== undefined) flags |= L.FLAG_CUSTOM_ID;
  if (opts.group !== undefined) flags |= GROUPED;
  return flags;
}

function expiryOf(opts: JobOptions | undefined, now: number): number {
  return opts?.ttl === undefined || opts.ttl === 0 ? 0 : now + (opts.delay ?? 0) + opts.ttl;
}

export function create(
  state: EngineState,
  queue: QueueEntry,
  block: Block,
  opts: JobOptions | undefined,
  now: number,
): Slot {
  const { core } = state;
  if (opts === undefined) return core.wasm.jobCreate(queue.address, 0, 0, block, now, 0) >>> 0;
  if (opts.onDuplicate === 'rerun' && opts.jobId !== undefined) removeFinished(state, queue, block);
  return (
    core.wasm.jobCreate(
      queue.address,
      opts.priority ?? 0,
      flagsFor(opts),
      block,
      opts.timestamp ?? now,
      expiryOf(opts, now),
    ) >>> 0
  );
}

/** The finished job that is run again under its id makes way for the new one. */
function removeFinished(state: EngineState, queue: QueueEntry, block: Block): void {
  const slot = state.core.wasm.findId(queue.address, block + L.P_CONTENT, state.payloads.idBytes(block)) >>> 0;
  if (slot === 0) return;
  if (state.core.field(slot, L.S_DEPENDENTS) !== 0) settleDependents(state, slot, 'gone');
  dropDependencies(state, slot);
  discard(state, slot);
}

/** Connects a new job to its dependencies, whose slots are all there now. */
export function link(state: EngineState, entry: Entry): void {
  const { plan } = entry;
  if (plan === undefined || !isNew(entry)) return;
  const slots: Slot[] = [];
  for (const { slot, entry: other } of plan) {
    const dependency = other === undefined ? slot : (other.existing ?? other.slot);
    if (dependency !== 0) slots.push(dependency);
  }
  // References of one form have been compared; one job may still have been named in two forms.
  const mayRepeat = plan.length > 1 && (entry.node !== undefined || hasMixedForms(entry.opts?.dependsOn));
  const distinct = mayRepeat ? [...new Set(slots)] : slots;
  if (connect(state, entry.slot, distinct) === false) entry.error = full(state);
}

function hasMixedForms(refs: readonly JobRef[] = []): boolean {
  const form = ({ number = 0, queue }: JobRef) =>
    number !== 0 ? 'number' : queue === undefined ? 'id' : 'queue and id';
  const first = refs[0];
  return first !== undefined && refs.some((ref) => form(ref) !== form(first));
}

// ---- starting --------------------------------------------------------------------------------------------------------------

/** Many jobs of one priority in a row are made reachable with one walk up the heap. */
export function startAll(state: EngineState, queue: QueueEntry, entries: readonly Entry[], now: number): void {
  const { core } = state;
  let quiet: number | undefined;
  let ready = 0;
  for (const entry of entries) {
    if (entry.error !== undefined) continue;
    if (entry.twin !== undefined) {
      const { existing, slot, error, gone } = entry.twin;
      if (error === undefined && gone === undefined) compare(state, existing ?? slot, entry);
      continue;
    }
    if (entry.key !== undefined) meetKey(state, queue, entry, now);
    if (entry.gone !== undefined) continue;
    if (entry.existing !== undefined) {
      restart(state, queue, entry, now);
      continue;
    }
    holdKey(state, queue, entry, now);
    const { slot, opts } = entry;
    const priority = opts?.priority ?? 0;
    if (quiet !== undefined && quiet !== priority) {
      core.wasm.queueMark(queue.address, quiet);
      quiet = undefined;
    }
    if (canBeQuiet(state, slot, opts)) {
      toReadyQuietly(state, slot);
      if (opts?.ttl !== undefined) state.alarm.arm();
      tellAdded(state, slot, 'waiting');
      quiet = priority;
      ready++;
    } else if (start(state, slot, opts, now)) ready++;
  }
  if (quiet !== undefined) core.wasm.queueMark(queue.address, quiet);
  if (ready !== 0) announce(state, queue, ready);
}

/** A delayed job goes, since the same call adds what takes its place; last of all, since others of the call may name it. */
function displace(state: EngineState, { displaces, error }: Entry): void {
  if (displaces === undefined || error !== undefined) return;
  if (state.core.state(displaces) === L.STATE_DELAYED) removeHeld(state, displaces, 'delayed');
}

function canBeQuiet(state: EngineState, slot: Slot, opts: JobOptions | undefined): boolean {
  if (state.journal?.gates === true) return false;
  if (opts === undefined) return true;
  return (
    opts.lifo !== true &&
    opts.group === undefined &&
    !((opts.delay ?? 0) > 0) &&
    (flagsOf(state, slot) & HAS_DEPENDENCIES) === 0
  );
}

function restart(state: EngineState, queue: QueueEntry, entry: Entry, now: number): void {
  const slot = entry.existing as Slot;
  if (entry.replace !== true) {
    if (entry.key === undefined) compare(state, slot, entry);
    state.core.wasm.blockFree(entry.block);
    return;
  }
  if (!replace(state, slot, entry, now)) {
    state.core.wasm.blockFree(entry.block);
    return;
  }
  entry.replace = false;
  if (entry.plan !== undefined) {
    entry.slot = slot;
    delete entry.existing;
    link(state, entry);
    entry.existing = slot;
  }
  start(state, slot, entry.opts, now);
  announce(state, queue, 1);
}

/** Another payload under the same id is told as an event. */
function compare(state: EngineState, slot: Slot, entry: Entry): void {
  const { core, payloads, events } = state;
  const { key } = entry;
  tell(state, slot, 'deduplicated', key === undefined ? undefined : () => ({ deduplicationId: key }));
  if (!events.recording || key !== undefined) return; // who shares a key may carry what it likes
  const mine = payloads.dataBytes(entry.block);
  const theirs = payloads.dataBytes(core.field(slot, L.S_PAYLOAD));
  const remembered = core.state(slot) === L.STATE_REMEMBERED;
  if (Buffer.compare(remembered ? hashOf(mine) : mine, theirs) !== 0) tell(state, slot, 'duplicate:mismatch');
}

/** Ready, delayed or blocked, as its options and dependencies have it. True when it can be claimed at once. */
function start(state: EngineState, slot: Slot, opts: JobOptions | undefined, now: number): boolean {
  if (opts === undefined) {
    toReadyOnceDurable(state, slot, false);
    tellAdded(state, slot, 'waiting');
    return state.journal?.gates !== true;
  }
  if ((flagsOf(state, slot) & HAS_DEPENDENCIES) !== 0 && startDependent(state, slot)) return false;
  const delay = opts.delay ?? 0;
  if (delay > 0) {
    toDelayed(state, slot, now + delay);
    tellAdded(state, slot, 'delayed');
    return false;
  }
  toReadyOnceDurable(state, slot, opts.lifo === true);
  if (opts.ttl !== undefined) state.alarm.arm();
  tellAdded(state, slot, 'waiting');
  return state.journal?.gates !== true;
}

/** Blocks a job on its dependencies, or does at once what its policy says of those that failed. False: nothing holds it. */
function startDependent(state: EngineState, slot: Slot): boolean {
  const { core } = state;
  const failed = firstFailed(state, slot);
  if (core.field(slot, L.S_UNSETTLED) === 0 && failed === 0) return false;
  toBlocked(state, slot);
  state.alarm.arm();
  tellAdded(state, slot, 'blocked');
  if (failed !== 0) applyPolicy(state, slot, failed, 0, 'failed');
  if (core.state(slot) === L.STATE_BLOCKED && core.field(slot, L.S_UNSETTLED) === 0) return false; // policy `run`: all have settled
  return true;
}

function tellAdded(state: EngineState, slot: Slot, event: 'waiting' | 'delayed' | 'blocked'): void {
  if (!state.events.recording) {
    state.events.skip();
    return;
  }
  tell(state, slot, 'added', () => ({ name: state.payloads.name(state.core.field(slot, L.S_PAYLOAD)) }));
  tell(state, slot, event);
}

// ---- answers ---------------------------------------------------------------------------------------------------------------

export function answerAll(state: EngineState, entries: readonly Entry[], now: number): AddAnswer[] {
  const answers = entries.map((entry) => answer(state, entry, now));
  for (const entry of entries) displace(state, entry);
  return answers;
}

function answer(state: EngineState, entry: Entry, now: number): AddAnswer {
  const { error, twin, opts } = entry;
  if (error !== undefined) return { id: opts?.jobId ?? '', deduplicated: false, timestamp: now, error };
  const gone = entry.gone ?? twin?.gone;
  if (gone !== undefined) {
    state.core.wasm.blockFree(entry.block);
    return { id: gone, deduplicated: true, timestamp: now };
  }
  if (twin !== undefined) {
    state.core.wasm.blockFree(entry.block);
    if (twin.error !== undefined)
      return { id: opts?.jobId ?? '', deduplicated: false, timestamp: now, error: twin.error };
  }
  const slot = twin === undefined ? entry.existing : (twin.existing ?? twin.slot);
  if (slot !== undefined) {
    // Found by the id that it was given, unless it was found by its key.
    const existing = snapshot(state, slot, entry.key === undefined ? opts?.jobId : undefined);
    existing.deduplicated = true;
    return { id: existing.id, deduplicated: true, timestamp: existing.timestamp, existing };
  }
  return { id: idOf(state, entry.slot), deduplicated: false, timestamp: opts?.timestamp ?? now };
}
