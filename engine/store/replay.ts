/**
 * From the log to slots: reads batches, puts groups together, and gives every job a slot with its last known fields and parts. The jobs
 * are in no state yet: where each belongs, `restore.ts` decides when the whole log has been read.
 */
import { EngineFullError, StoreError } from '../../client/errors.js';
import { type Block, L, type Slot } from '../core/index.js';
import { DISCARDED, ENDING, HAS_DEPENDENCIES, SUSPECT_OUT, TIMED_OUT, WAITED } from '../jobs/flags.js';
import type { QueueEntry } from '../queues.js';
import type { EngineState } from '../state.js';
import * as F from './format.js';
import { GroupAssembler, recordsFault } from './groups.js';
import { Ledger } from './ledger.js';
import { QueueRecords, settingsOf } from './queue-records.js';
import { forgetRecords, noteRecord, PAGE_SHIFT, SlotTable } from './slot-table.js';

/** Flags that mean something only to the engine that set them, or that are set anew. */
const PASSING_FLAGS =
  L.FLAG_INDEXED | L.FLAG_UNREACHED | WAITED | TIMED_OUT | DISCARDED | SUSPECT_OUT | ENDING | HAS_DEPENDENCIES;
/** Up to here bytes are copied one by one: a view for `set` costs more. */
const SHORT_BYTES = 64;
const utf8 = new TextDecoder();
const NO_BYTES = new Uint8Array(0);

export class Replay {
  readonly table = new SlotTable();
  readonly ledger = new Ledger();
  readonly queues = new QueueRecords();
  /** Numbers of the dependencies of a slot's job, in order; below 0 for those it waits for. */
  readonly dependencies = new Map<Slot, Float64Array>();
  /** The engine before was closed in order: nothing stands behind that. True of an empty log, too. */
  wasClosed = true;
  seq = 0;
  jobNext = 1;
  jobs = 0;
  /** Number of the newest job so far. */
  #highest = 0;
  readonly #state: EngineState;
  readonly #byId = new Map<number, QueueEntry>();
  /** By page as in the table: state | 16 when it has an id of its own. */
  readonly #targets: Uint8Array[] = [];
  readonly #groups: GroupAssembler;
  /**
   * The log forgets what is oldest, and what replaces it may stand anywhere behind: changes of a job whose first record has been
   * forgotten are followed by a newer one, or by its end; and a queue's record may come after its jobs. Where they stood.
   */
  readonly #orphans = new Map<number, number>();
  readonly #homeless = new Map<Slot, { readonly queue: number; readonly position: number }>();

  constructor(state: EngineState) {
    this.#state = state;
    this.#groups = new GroupAssembler({
      group: (position, bytes) => this.#group(position, bytes),
      unfinished: () => {}, // nobody was told of it
      fault: (position, kind, what) => this.#refuse(position, kind, what),
    });
  }

  /** @throws StoreError when it is not what was written, or of a newer version. */
  batch(position: number, bytes: Uint8Array): void {
    this.#groups.batch(position, bytes);
  }

  /**
   * After the last batch.
   *
   * @throws StoreError when something is missing that nothing has replaced.
   */
  end(): void {
    this.#groups.end();
    for (const [number, position] of this.#orphans)
      this.#refuse(position, 'damaged', `it tells of a change of job ${number}, which isn't there`);
    for (const [slot, { queue, position }] of this.#homeless) {
      const entry = this.#byId.get(queue);
      if (entry === undefined) this.#refuse(position, 'damaged', "it holds a job of a queue that isn't there");
      this.#state.core.setField(slot, L.S_QUEUE, entry.address);
    }
  }

  #refuse(position: number, reason: 'damaged' | 'version', what: string): never {
    const way =
      reason === 'version'
        ? 'Open it with the flashQ that wrote it, or a newer one.'
        : 'Nothing was changed. Check the directory with doctor({ dataDir }), which can save what is whole into a new one.';
    throw new StoreError(`Batch ${position} of the log can't be read: ${what}. ${way}`, { reason });
  }

  #group(position: number, bytes: Uint8Array): void {
    const number = this.ledger.newest + 1;
    this.ledger.add(number, position, bytes.length);
    this.wasClosed = false;
    const reader = new RecordReader(bytes);
    const fault = recordsFault(reader.view);
    if (fault !== undefined) this.#refuse(position, 'damaged', fault);
    // Queues first: the records of a group are in no order but that of the jobs.
    for (let at = 0; at < bytes.length; at += reader.bytes(at))
      if (reader.kind(at) === F.KIND_QUEUE) this.#queue(reader, at, number);
    for (let at = 0; at < bytes.length; at += reader.bytes(at)) this.#record(reader, at, number, position);
  }

  #record(reader: RecordReader, at: number, group: number, position: number): void {
    switch (reader.kind(at)) {
      case F.KIND_JOB_BASE:
      case F.KIND_JOB_DELTA:
        this.#job(reader, at, group, position);
        return;
      case F.KIND_JOB_GONE:
        this.#gone(reader.f64(at + F.J_NUMBER));
        return;
      case F.KIND_GROUP:
        this.jobNext = reader.f64(at + F.G_JOB_NEXT);
        this.seq = reader.f64(at + F.G_SEQ);
        return;
      case F.KIND_CLOSED:
        this.wasClosed = true;
        return;
      case F.KIND_ENTRY:
        this.#entry(reader, at, group);
        return;
      case F.KIND_OPENED:
      case F.KIND_QUEUE:
        return;
      default:
        this.#refuse(position, 'version', `it holds a record of the unknown kind ${reader.kind(at)}`);
    }
  }

  #queue(reader: RecordReader, at: number, group: number): void {
    const id = reader.u32(at + F.Q_ID);
    const name = reader.part(at + F.Q_NAME);
    const entry = this.#state.queues.open(utf8.decode(name));
    const settings = reader.part(at + F.Q_NAME + 4 + F.padTo4(name.length));
    entry.config = settingsOf(new Uint8Array(settings));
    entry.paused = reader.u32(at + F.Q_PAUSED) !== 0;
    this.queues.restore(entry, id, group, reader.bytes(at), this.ledger);
    this.#byId.set(id, entry);
  }

  #entry(reader: RecordReader, at: number, group: number): void {
    const room = reader.part(at + F.E_ROOM);
    const nameAt = at + F.E_ROOM + 4 + F.padTo4(room.length);
    const name = reader.part(nameAt);
    const value = new Uint8Array(reader.part(nameAt + 4 + F.padTo4(name.length)));
    const { entries } = this.#state;
    entries.restore(utf8.decode(room), utf8.decode(name), value, group, reader.bytes(at), this.ledger);
  }

  // ---- jobs -------------------------------------------------------------------------------------------------------------------

  #job(reader: RecordReader, at: number, group: number, position: number): void {
    const number = reader.f64(at + F.J_NUMBER);
    const isBase = reader.kind(at) === F.KIND_JOB_BASE;
    const unknown = reader.u16(at + F.R_PARTS) & ~F.PARTS_ALL;
    if (unknown !== 0) this.#refuse(position, 'version', `job ${number} has parts of the unknown kind ${unknown}`);
    // Most are of new jobs: looking for those would cost a miss in the cache each.
    let slot = number > this.#highest ? 0 : this.#state.core.findNumber(number);
    this.#highest = Math.max(this.#highest, number);
    if (slot === 0) {
      if (!isBase) {
        if (!this.#orphans.has(number)) this.#orphans.set(number, position);
        return;
      }
      if (this.#orphans.size !== 0) this.#orphans.delete(number);
      slot = this.#create(reader, at, number, position);
    } else this.#exchange(reader, at, slot);
    this.#fields(reader, at, slot);
    noteRecord(this.table, this.ledger, slot, {
      group,
      bytes: reader.bytes(at),
      isBase,
      parts: reader.u16(at + F.R_PARTS),
    });
    this.table.page(slot).seq[this.table.index(slot)] = reader.f64(at + F.J_SEQ);
  }

  #create(reader: RecordReader, at: number, number: number, position: number): Slot {
    const { core } = this.#state;
    const id = reader.u32(at + F.J_QUEUE);
    const queue = this.#byId.get(id);
    const payload = this.#block(reader.part(at + F.JOB_BYTES));
    core.setNextNumber(number);
    const slot = core.wasm.jobCreate(queue?.address ?? 0, 0, 0, payload, 0, 0) >>> 0;
    if (slot === 0) this.#full();
    if (queue === undefined) this.#homeless.set(slot, { queue: id, position });
    this.jobs++;
    this.#exchange(reader, at, slot, F.PART_PAYLOAD);
    return slot;
  }

  /** Exchanges the parts that the record has, but for those in `done`. What a base does not have is not there. */
  #exchange(reader: RecordReader, at: number, slot: Slot, done = 0): void {
    const parts = reader.u16(at + F.R_PARTS);
    const isBase = reader.kind(at) === F.KIND_JOB_BASE;
    let from = at + F.JOB_BYTES;
    for (const [part, field] of BLOCK_PARTS) {
      const has = (parts & part) !== 0;
      const bytes = has ? reader.part(from) : NO_BYTES;
      if (has) from += 4 + F.padTo4(bytes.length);
      if ((has || isBase) && (done & part) === 0) this.#set(slot, field, bytes);
    }
    const has = (parts & F.PART_DEPENDENCIES) !== 0;
    const numbers = has ? reader.part(from) : NO_BYTES;
    if (numbers.length !== 0) this.dependencies.set(slot, new Float64Array(new Uint8Array(numbers).buffer));
    else if (has || isBase) this.dependencies.delete(slot);
  }

  #set(slot: Slot, field: number, bytes: Uint8Array): void {
    const { core } = this.#state;
    const before = core.field(slot, field);
    if (before !== 0) core.wasm.blockFree(before);
    core.setField(slot, field, bytes.length === 0 ? 0 : this.#block(bytes));
  }

  #block(bytes: Uint8Array): Block {
    const { core } = this.#state;
    const block = core.wasm.blockAlloc(L.ENGINE_THREAD, bytes.length) >>> 0;
    if (block === 0) this.#full();
    if (bytes.length <= SHORT_BYTES) {
      const { u8 } = core;
      for (let i = 0; i < bytes.length; i++) u8[block + i] = bytes[i] as number;
    } else core.blockWrite(block, 0, bytes);
    return block;
  }

  #full(): never {
    const { memoryBytes } = this.#state.limits;
    throw new EngineFullError({
      limitBytes: memoryBytes,
      message: `The jobs of this data directory need more than the maxMemory of ${memoryBytes} bytes. Open it with more; nothing was changed.`,
    });
  }

  #fields(reader: RecordReader, at: number, slot: Slot): void {
    const { core } = this.#state;
    const flags = reader.u32(at + F.J_FLAGS);
    core.setTime(slot, L.S_TIMESTAMP, reader.f64(at + F.J_TIMESTAMP));
    core.setTime(slot, L.S_PROCESSED_ON, reader.f64(at + F.J_PROCESSED_ON));
    core.setTime(slot, L.S_FINISHED_ON, reader.f64(at + F.J_FINISHED_ON));
    core.setTime(slot, L.S_DUE, reader.f64(at + F.J_DUE));
    core.setTime(slot, L.S_EXPIRY, reader.f64(at + F.J_EXPIRY));
    core.setField(slot, L.S_PRIORITY, reader.u32(at + F.J_PRIORITY));
    core.setField(slot, L.S_ATTEMPTS, reader.u32(at + F.J_ATTEMPTS));
    core.setField(slot, L.S_STARTED, reader.u32(at + F.J_STARTED));
    core.setLost(slot, reader.u32(at + F.J_LOST));
    core.setField(slot, L.S_FLAGS, (flags & ~PASSING_FLAGS & ~L.FLAG_CUSTOM_ID) | L.FLAG_INDEXED);
    this.#aim(slot, reader.u8(at + F.R_STATE), (flags & L.FLAG_CUSTOM_ID) !== 0);
  }

  #aim(slot: Slot, state: number, isNamed: boolean): void {
    const page = slot >>> (L.SLOT_SHIFT + PAGE_SHIFT);
    let targets = this.#targets[page];
    if (targets === undefined) {
      targets = new Uint8Array(1 << PAGE_SHIFT);
      this.#targets[page] = targets;
    }
    targets[this.table.index(slot)] = state | (isNamed ? 16 : 0);
  }

  stateOf(slot: Slot): number {
    return this.#target(slot) & 15;
  }

  isNamed(slot: Slot): boolean {
    return (this.#target(slot) & 16) !== 0;
  }

  #target(slot: Slot): number {
    return this.#targets[slot >>> (L.SLOT_SHIFT + PAGE_SHIFT)]?.[this.table.index(slot)] ?? 0;
  }

  #gone(number: number): void {
    const { core } = this.#state;
    if (this.#orphans.size !== 0) this.#orphans.delete(number);
    const slot = core.findNumber(number);
    if (slot === 0) return; // its base has been forgotten before
    if (this.#homeless.size !== 0) this.#homeless.delete(slot);
    this.dependencies.delete(slot);
    forgetRecords(this.table, this.ledger, slot);
    core.wasm.jobRemove(slot);
    this.jobs--;
  }
}

const BLOCK_PARTS = [
  [F.PART_PAYLOAD, L.S_PAYLOAD],
  [F.PART_RESULT, L.S_RESULT],
  [F.PART_EXTRA, L.S_EXTRA],
] as const;

/** Reads the words of a group. */
class RecordReader {
  readonly #bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  bytes(at: number): number {
    return this.view.getUint32(at + F.R_BYTES, true);
  }

  kind(at: number): number {
    return this.u8(at + F.R_KIND);
  }

  u8(at: number): number {
    return this.#bytes[at] as number;
  }

  u16(at: number): number {
    return this.view.getUint16(at, true);
  }

  u32(at: number): number {
    return this.view.getUint32(at, true);
  }

  f64(at: number): number {
    return this.view.getFloat64(at, true);
  }

  /** Bytes behind their length. */
  part(at: number): Uint8Array {
    const length = this.u32(at);
    return this.#bytes.subarray(at + 4, at + 4 + length);
  }
}
