/**
 * What stands in the log, byte by byte: `docs/STORAGE.md` in code. All numbers are little-endian.
 *
 * A *group* is what one commit of the engine holds: a string of records that counts as a whole or not at all. It is cut into *batches*,
 * which are what the store keeps; where it is cut has no meaning.
 */
import { crc32 } from './crc32.js';

export const FORMAT_VERSION = 1;

// ---- batches ------------------------------------------------------------------------------------------------------------------

/** "fqB1" */
export const BATCH_MAGIC = 0x31427166;
export const B_MAGIC = 0; // u32
/** Of everything behind it, so that no bit of a batch can change unseen. */
export const B_CRC = 4; // u32
export const B_VERSION = 8; // u16
export const B_FLAGS = 10; // u16
export const B_BYTES = 12; // u32: behind the header
export const B_EPOCH = 16; // f64
export const B_NUMBER = 24; // f64
export const BATCH_HEADER_BYTES = 32;

/** The first, and the last, of a group. */
export const BATCH_FIRST = 1;
export const BATCH_LAST = 2;

export interface BatchHeader {
  readonly isFirst: boolean;
  readonly isLast: boolean;
  /** Of the engine that wrote it. */
  readonly epoch: number;
  /** Its position in the log. */
  readonly number: number;
}

/** Bytes of a batch, at most, where the store would take more: a group of some thousand jobs is one, and one commit. */
export const BATCH_BYTES_MAX = 1024 * 1024;

/** How many batches a group of that many bytes becomes. */
export function batchesOf(groupBytes: number, batchBytesMax: number): number {
  return Math.max(1, Math.ceil(groupBytes / (batchBytesMax - BATCH_HEADER_BYTES)));
}

/** Gives `append` the batches of a group, in order; each lies in memory of its own. */
export function cutGroup(
  group: Uint8Array,
  batchBytesMax: number,
  epoch: number,
  firstNumber: number,
  append: (batch: Uint8Array) => void,
): void {
  const most = batchBytesMax - BATCH_HEADER_BYTES;
  const count = batchesOf(group.length, batchBytesMax);
  for (let nth = 0; nth < count; nth++) {
    const content = group.subarray(nth * most, Math.min(group.length, (nth + 1) * most));
    const batch = Buffer.allocUnsafeSlow(BATCH_HEADER_BYTES + content.length);
    batch.set(content, BATCH_HEADER_BYTES);
    const flags = (nth === 0 ? BATCH_FIRST : 0) | (nth === count - 1 ? BATCH_LAST : 0);
    batch.writeUInt32LE(BATCH_MAGIC, B_MAGIC);
    batch.writeUInt16LE(FORMAT_VERSION, B_VERSION);
    batch.writeUInt16LE(flags, B_FLAGS);
    batch.writeUInt32LE(content.length, B_BYTES);
    batch.writeDoubleLE(epoch, B_EPOCH);
    batch.writeDoubleLE(firstNumber + nth, B_NUMBER);
    append(seal(batch));
  }
}

/** Gives a batch its checksum. */
export function seal(batch: Buffer): Buffer {
  batch.writeUInt32LE(crc32(batch.subarray(B_VERSION)), B_CRC);
  return batch;
}

/**
 * What is wrong with a batch, for a message. `torn`: it has a beginning only, as a crash leaves the last one in a store that can't keep
 * all of it or nothing. `version`: it is as it was written, by a newer flashQ.
 */
export interface BatchFault {
  readonly kind: 'torn' | 'damaged' | 'version';
  readonly what: string;
}

/** The header of a batch that is whole, or what is wrong with it. `number`: where it was found. */
export function readBatch(batch: Uint8Array, number: number): BatchHeader | BatchFault {
  if (batch.length < BATCH_HEADER_BYTES) return shortFault(batch);
  const view = new DataView(batch.buffer, batch.byteOffset, batch.length);
  if (view.getUint32(B_MAGIC, true) !== BATCH_MAGIC) return damagedBatch('it does not begin as a batch does');
  const bytes = view.getUint32(B_BYTES, true);
  const held = batch.length - BATCH_HEADER_BYTES;
  if (bytes !== held) {
    const what = `it should hold ${bytes} bytes, and holds ${held}`;
    return bytes < held || isWholeWith(batch, held) ? damagedBatch(what) : { kind: 'torn', what };
  }
  if (view.getUint32(B_CRC, true) !== crc32(batch.subarray(B_VERSION))) return damagedBatch('its checksum is wrong');
  const version = view.getUint16(B_VERSION, true);
  if (version > FORMAT_VERSION)
    return { kind: 'version', what: `it is of version ${version}; this flashQ reads up to ${FORMAT_VERSION}` };
  if (view.getFloat64(B_NUMBER, true) !== number)
    return damagedBatch(`it is number ${view.getFloat64(B_NUMBER, true)}`);
  const flags = view.getUint16(B_FLAGS, true);
  return {
    isFirst: (flags & BATCH_FIRST) !== 0,
    isLast: (flags & BATCH_LAST) !== 0,
    epoch: view.getFloat64(B_EPOCH, true),
    number,
  };
}

function damagedBatch(what: string): BatchFault {
  return { kind: 'damaged', what };
}

function shortFault(batch: Uint8Array): BatchFault {
  const what = `it has only ${batch.length} bytes`;
  const isBeginning = batch.every((byte, at) => at >= B_CRC || byte === ((BATCH_MAGIC >>> (at * 8)) & 255));
  return { kind: isBeginning ? 'torn' : 'damaged', what };
}

/** Whether only the length is wrong: then nothing has been torn off, and what was acknowledged must not be taken for unfinished. */
function isWholeWith(batch: Uint8Array, bytes: number): boolean {
  const copy = Buffer.from(batch);
  copy.writeUInt32LE(bytes, B_BYTES);
  return copy.readUInt32LE(B_CRC) === crc32(copy.subarray(B_VERSION));
}

// ---- records ------------------------------------------------------------------------------------------------------------------

/** Every record begins with its length (a multiple of 8, this word included), its kind, and two fields that the kind defines. */
export const R_BYTES = 0;
export const R_KIND = 4;
/** Of a job: the state it was in. */
export const R_STATE = 5;
/** Of a job: which parts follow. */
export const R_PARTS = 6;
export const RECORD_HEADER_BYTES = 8;

/** First in every group: counters, so that they survive the jobs that used them up. */
export const KIND_GROUP = 1;
/** A job's full state: everything before it about that job has been superseded. */
export const KIND_JOB_BASE = 2;
/** A job's fields as they are now, and of its parts those that have changed since its base. */
export const KIND_JOB_DELTA = 3;
/** The job is gone. */
export const KIND_JOB_GONE = 4;
/** A queue's name and settings. */
export const KIND_QUEUE = 5;
/** The engine was closed in order; nothing was under way. */
export const KIND_CLOSED = 6;
/** The engine was opened. */
export const KIND_OPENED = 7;
/** What is no job, as a whole; or that it is gone. */
export const KIND_ENTRY = 8;

// KIND_GROUP
export const G_JOB_NEXT = 8; // f64
export const G_SEQ = 16; // f64
export const G_TIME = 24; // f64: ms since the epoch
export const GROUP_BYTES = 32;

// KIND_JOB_BASE, KIND_JOB_DELTA; KIND_JOB_GONE ends behind the number
export const J_NUMBER = 8; // f64
export const GONE_BYTES = 16;
export const J_SEQ = 16; // f64: place in its level; below 0 in the head lane
export const J_TIMESTAMP = 24; // f64
export const J_PROCESSED_ON = 32; // f64
export const J_FINISHED_ON = 40; // f64
export const J_DUE = 48; // f64
export const J_EXPIRY = 56; // f64
export const J_QUEUE = 64; // u32
export const J_PRIORITY = 68; // i32
export const J_FLAGS = 72; // u32
export const J_ATTEMPTS = 76; // u32
export const J_STARTED = 80; // u32
export const J_LOST = 84; // u32
export const JOB_BYTES = 88;

/** Parts follow in this order: u32 length, bytes, padded to 4. A part of length 0 says that there is none. */
export const PART_PAYLOAD = 1;
export const PART_RESULT = 2;
export const PART_EXTRA = 4;
/** For each dependency, in order: f64 number, negative while it is waited for. */
export const PART_DEPENDENCIES = 8;
export const PARTS_ALL = 15;

// KIND_QUEUE
export const Q_ID = 8; // u32
export const Q_PAUSED = 12; // u32
/** u32 length and bytes of the name, then of the settings in MessagePack, each padded to 4. */
export const Q_NAME = 16;

// KIND_ENTRY
/** Room, name and value, each u32 length, bytes, padded to 4. A value of length 0: it is gone. */
export const E_ROOM = 8;

// KIND_OPENED
export const O_EPOCH = 8; // f64
export const OPENED_BYTES = 16;

export function padTo4(bytes: number): number {
  return (bytes + 3) & ~3;
}

export function padTo8(bytes: number): number {
  return (bytes + 7) & ~7;
}
