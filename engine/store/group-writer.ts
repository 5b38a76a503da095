/** Writes records one behind the other into memory that the journal's thread can read; the memory grows when a group needs more. */
import { type Block, type Core, L, type Slot } from '../core/index.js';
import * as F from './format.js';

/** What fits a group of some thousand small jobs; larger groups get memory of their own, for as long as they need it. */
export const BUFFER_BYTES = 512 * 1024;
/** Up to here bytes are copied word by word: a view for `set` costs more. */
const SHORT_BYTES = 256;

export class GroupWriter {
  buffer: SharedArrayBuffer;
  /** Bytes written. */
  length = 0;
  #u8!: Uint8Array;
  #u32!: Uint32Array;
  #i32!: Int32Array;
  #f64!: Float64Array;
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
    this.buffer = new SharedArrayBuffer(0);
  }

  /** Begins a group in that memory. */
  begin(buffer: SharedArrayBuffer, jobNext: number, seq: number, time: number): void {
    this.#use(buffer);
    this.length = 0;
    const at = this.#record(F.KIND_GROUP, F.GROUP_BYTES);
    this.#f64[(at + F.G_JOB_NEXT) >>> 3] = jobNext;
    this.#f64[(at + F.G_SEQ) >>> 3] = seq;
    this.#f64[(at + F.G_TIME) >>> 3] = time;
  }

  #use(buffer: SharedArrayBuffer): void {
    this.buffer = buffer;
    this.#u8 = new Uint8Array(buffer);
    this.#u32 = new Uint32Array(buffer);
    this.#i32 = new Int32Array(buffer);
    this.#f64 = new Float64Array(buffer);
  }

  /** A record of `bytes` bytes: where it is. Its memory may hold old bytes. */
  #record(kind: number, bytes: number): number {
    const at = this.length;
    const end = at + F.padTo8(bytes);
    if (end > this.#u8.length) this.#grow(end);
    this.length = end;
    this.#u32[(at + F.R_BYTES) >>> 2] = end - at;
    this.#u32[(at + F.R_KIND) >>> 2] = kind;
    return at;
  }

  #grow(bytes: number): void {
    const larger = new SharedArrayBuffer(F.padTo8(Math.max(bytes, this.#u8.length * 2)));
    new Uint8Array(larger).set(this.#u8.subarray(0, this.length));
    this.#use(larger);
  }

  // ---- jobs -------------------------------------------------------------------------------------------------------------------

  /** The job as it is now; how many bytes that took. */
  job(kind: number, slot: Slot, state: number, parts: number, queue: number, seq: number): number {
    const core = this.#core;
    const payload = (parts & F.PART_PAYLOAD) === 0 ? 0 : core.field(slot, L.S_PAYLOAD);
    const result = (parts & F.PART_RESULT) === 0 ? 0 : core.field(slot, L.S_RESULT);
    const extra = (parts & F.PART_EXTRA) === 0 ? 0 : core.field(slot, L.S_EXTRA);
    const dependencies = (parts & F.PART_DEPENDENCIES) === 0 ? 0 : edgesOf(core, slot);
    let bytes = F.JOB_BYTES;
    if ((parts & F.PART_PAYLOAD) !== 0) bytes += this.#partBytes(payload);
    if ((parts & F.PART_RESULT) !== 0) bytes += this.#partBytes(result);
    if ((parts & F.PART_EXTRA) !== 0) bytes += this.#partBytes(extra);
    if ((parts & F.PART_DEPENDENCIES) !== 0) bytes += 4 + dependencies * 8;
    const at = this.#record(kind | (state << 8) | (parts << 16), bytes);
    this.#fields(at, slot, queue, seq);
    let end = at + F.JOB_BYTES;
    if ((parts & F.PART_PAYLOAD) !== 0) end = this.#block(end, payload);
    if ((parts & F.PART_RESULT) !== 0) end = this.#block(end, result);
    if ((parts & F.PART_EXTRA) !== 0) end = this.#block(end, extra);
    if ((parts & F.PART_DEPENDENCIES) !== 0) this.#edges(end, slot, dependencies);
    return this.length - at;
  }

  #fields(at: number, slot: Slot, queue: number, seq: number): void {
    const core = this.#core;
    const f64 = this.#f64;
    const u32 = this.#u32;
    const wide = at >>> 3;
    const from = slot >>> 3;
    f64[wide + (F.J_NUMBER >>> 3)] = core.number(slot);
    f64[wide + (F.J_SEQ >>> 3)] = seq;
    f64[wide + (F.J_TIMESTAMP >>> 3)] = core.f64[from + (L.S_TIMESTAMP >>> 3)] as number;
    f64[wide + (F.J_PROCESSED_ON >>> 3)] = core.f64[from + (L.S_PROCESSED_ON >>> 3)] as number;
    f64[wide + (F.J_FINISHED_ON >>> 3)] = core.f64[from + (L.S_FINISHED_ON >>> 3)] as number;
    f64[wide + (F.J_DUE >>> 3)] = core.f64[from + (L.S_DUE >>> 3)] as number;
    f64[wide + (F.J_EXPIRY >>> 3)] = core.f64[from + (L.S_EXPIRY >>> 3)] as number;
    u32[(at + F.J_QUEUE) >>> 2] = queue;
    u32[(at + F.J_PRIORITY) >>> 2] = core.ownPriority(slot);
    u32[(at + F.J_FLAGS) >>> 2] = core.field(slot, L.S_FLAGS);
    u32[(at + F.J_ATTEMPTS) >>> 2] = core.field(slot, L.S_ATTEMPTS);
    u32[(at + F.J_STARTED) >>> 2] = core.field(slot, L.S_STARTED);
    u32[(at + F.J_LOST) >>> 2] = core.lost(slot);
  }

  #partBytes(block: Block): number {
    return block === 0 ? 4 : 4 + F.padTo4(this.#core.blockLength(block));
  }

  /** Length and bytes of a block; where they end. */
  #block(at: number, block: Block): number {
    const length = block === 0 ? 0 : this.#core.blockLength(block);
    this.#u32[at >>> 2] = length;
    const start = at + 4;
    if (length === 0) return start;
    if (length <= SHORT_BYTES && (block & 3) === 0) {
      const from = this.#core.i32;
      const to = this.#i32;
      const words = (length + 3) >>> 2;
      for (let i = 0, source = block >>> 2, target = start >>> 2; i < words; i++)
        to[target + i] = from[source + i] as number;
    } else this.#core.blockCopy(block, this.#u8, start);
    return start + F.padTo4(length);
  }

  #edges(at: number, slot: Slot, count: number): void {
    const core = this.#core;
    this.#u32[at >>> 2] = count * 8;
    const view = new DataView(this.buffer, at + 4, count * 8); // not aligned to 8
    let to = 0;
    for (let edge = core.field(slot, L.S_DEPENDENCIES); edge !== 0; edge = core.field(edge, L.D_IN_NEXT)) {
      const number = core.number(core.field(edge, L.D_DEPENDENCY));
      view.setFloat64(to, core.field(edge, L.D_LINKED) === 0 ? number : -number, true);
      to += 8;
    }
  }

  gone(number: number): void {
    const at = this.#record(F.KIND_JOB_GONE, F.GONE_BYTES);
    this.#f64[(at + F.J_NUMBER) >>> 3] = number;
  }

  // ---- the rest ---------------------------------------------------------------------------------------------------------------

  queue(id: number, paused: boolean, name: Uint8Array, settings: Uint8Array): number {
    const bytes = F.Q_NAME + 8 + F.padTo4(name.length) + F.padTo4(settings.length);
    const at = this.#record(F.KIND_QUEUE, bytes);
    this.#u32[(at + F.Q_ID) >>> 2] = id;
    this.#u32[(at + F.Q_PAUSED) >>> 2] = paused ? 1 : 0;
    this.#bytes(this.#bytes(at + F.Q_NAME, name), settings);
    return this.length - at;
  }

  entry(room: Uint8Array, name: Uint8Array, value: Uint8Array): number {
    const bytes = F.E_ROOM + 12 + F.padTo4(room.length) + F.padTo4(name.length) + F.padTo4(value.length);
    const at = this.#record(F.KIND_ENTRY, bytes);
    this.#bytes(this.#bytes(this.#bytes(at + F.E_ROOM, room), name), value);
    return this.length - at;
  }

  #bytes(at: number, bytes: Uint8Array): number {
    this.#u32[at >>> 2] = bytes.length;
    this.#u8.set(bytes, at + 4);
    return at + 4 + F.padTo4(bytes.length);
  }

  opened(epoch: number): void {
    const at = this.#record(F.KIND_OPENED, F.OPENED_BYTES);
    this.#f64[(at + F.O_EPOCH) >>> 3] = epoch;
  }

  closed(): void {
    this.#record(F.KIND_CLOSED, F.RECORD_HEADER_BYTES);
  }
}

function edgesOf(core: Core, slot: Slot): number {
  let count = 0;
  for (let edge = core.field(slot, L.S_DEPENDENCIES); edge !== 0; edge = core.field(edge, L.D_IN_NEXT)) count++;
  return count;
}
