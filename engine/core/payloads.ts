/**
 * A job's payload block: a header of lengths, then id, name, options and data, so that the id and the name can be read, and the id
 * compared by the core, without decoding the rest. And the blocks of results.
 */

import { ValidationError } from '../../client/errors.js';
import type { JobOptions } from '../../client/options.js';
import { copyEncoded, decodePayload, encoded, encodePayload, encodeRaw } from '../../client/payload.js';
import * as L from '../../core-wasm/assembly/layout.js';
import type { Block, Core } from './calls.js';

const utf8 = new TextEncoder();
const NO_BYTES = new Uint8Array(0);
/** Names and options repeat from job to job: their bytes are kept. */
const NAMES_KEPT = 1000;
export const NO_OPTIONS: JobOptions = Object.freeze({});

export interface JobContent {
  readonly name: string;
  /** '' for a generated id. */
  readonly customId: string;
  readonly opts: JobOptions | undefined;
  readonly data: unknown;
}

/** Up to here it's cheaper to write a text's characters one by one. */
const ASCII_CHARS_MAX = 64;

function isAscii(text: string): boolean {
  if (text.length > ASCII_CHARS_MAX) return false;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

/** Whether equal options of other jobs are the very same object (`validateJobOptions`). */
function isShared({ jobId, dependsOn, timestamp, deduplication }: JobOptions): boolean {
  return jobId === undefined && dependsOn === undefined && timestamp === undefined && deduplication === undefined;
}

/** The id and the references have places of their own in a payload. */
function encodeOptions(opts: JobOptions): Uint8Array {
  let isEmpty = true;
  for (const name in opts) if (name !== 'jobId' && name !== 'dependsOn') isEmpty = false;
  if (isEmpty) return NO_BYTES;
  const { jobId: _id, dependsOn: _references, ...rest } = opts;
  return new Uint8Array(encodePayload(rest)); // a copy: what encodePayload returns is reused
}

/** Encodes into and decodes from one thread's view of the shared memory. */
export class Payloads {
  readonly #core: Core;
  readonly #thread: number;
  readonly #bytesMax: number;
  readonly #buffer: Buffer;
  readonly #header = new Uint8Array(L.P_CONTENT);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #nameBytes = new Map<string, Uint8Array>();
  readonly #optionBytes = new WeakMap<object, Uint8Array>();
  #lastName = '';
  #lastNameBytes: Uint8Array = NO_BYTES;

  constructor(core: Core, thread: number, bytesMax: number) {
    this.#core = core;
    this.#thread = thread;
    this.#bytesMax = bytesMax;
    this.#buffer = Buffer.from(core.handle.memory.buffer as unknown as ArrayBuffer, 0, core.u8.length);
  }

  // ---- writing ----------------------------------------------------------------------------------------------------------

  /** A block of this thread's with the job in it; 0 when memory is full. Throws ValidationError for what can't be encoded. */
  encodeJob(content: JobContent): Block {
    const name = this.#bytesOfName(content.name);
    const options = this.#bytesOfOptions(content.opts);
    const { customId } = content;
    const isPlain = isAscii(customId);
    const id = isPlain ? NO_BYTES : utf8.encode(customId);
    const idBytes = isPlain ? customId.length : id.length;
    // Last, since it lies in a scratch that the next call reuses.
    const dataBytes = encodeRaw(content.data);
    if (dataBytes > this.#bytesMax) this.#refuseSize(dataBytes, 'data');
    const ahead = L.P_CONTENT + idBytes + name.length + options.length;
    const core = this.#core;
    const bytes = ahead + dataBytes;
    const block = core.wasm.blockAlloc(this.#thread, bytes) >>> 0;
    if (block === 0) return 0;
    if (bytes + L.BLOCK_HEADER_BYTES > L.BLOCK_BYTES_MAX) {
      const { source, start, end } = encoded;
      this.#writeParts(block, isPlain ? utf8.encode(customId) : id, name, options, source.subarray(start, end));
      return block;
    }
    core.u16[(block + L.P_ID_BYTES) >>> 1] = idBytes;
    core.u16[(block + L.P_NAME_BYTES) >>> 1] = name.length;
    core.u32[(block + L.P_OPTION_BYTES) >>> 2] = options.length;
    let at = block + L.P_CONTENT;
    const u8 = core.u8;
    if (!isPlain) u8.set(id, at);
    else for (let i = 0; i < idBytes; i++) u8[at + i] = customId.charCodeAt(i);
    at += idBytes;
    for (let i = 0; i < name.length; i++) u8[at + i] = name[i] as number;
    at += name.length;
    if (options.length !== 0) u8.set(options, at);
    copyEncoded(u8, at + options.length);
    return block;
  }

  #refuseSize(bytes: number, what: string): never {
    throw new ValidationError(
      `${what} takes ${bytes} bytes encoded; the limit is ${this.#bytesMax}. Pass a reference (a path, a key) instead, or open the engine with a larger payloadLimit.`,
      { path: what },
    );
  }

  #writeParts(block: Block, id: Uint8Array, name: Uint8Array, options: Uint8Array, data: Uint8Array): void {
    this.#headerView.setUint16(L.P_ID_BYTES, id.length, true);
    this.#headerView.setUint16(L.P_NAME_BYTES, name.length, true);
    this.#headerView.setUint32(L.P_OPTION_BYTES, options.length, true);
    let at = 0;
    for (const part of [this.#header, id, name, options, data]) {
      this.#core.blockWrite(block, at, part);
      at += part.length;
    }
  }

  #bytesOfName(name: string): Uint8Array {
    const known = this.#nameBytes.get(name);
    if (known !== undefined) return known;
    if (this.#nameBytes.size >= NAMES_KEPT) this.#nameBytes.clear();
    const bytes = utf8.encode(name);
    this.#nameBytes.set(name, bytes);
    return bytes;
  }

  #bytesOfOptions(opts: JobOptions | undefined): Uint8Array {
    if (opts === undefined) return NO_BYTES;
    if (!isShared(opts)) return encodeOptions(opts); // nobody will ask for these again
    const known = this.#optionBytes.get(opts);
    if (known !== undefined) return known;
    const bytes = encodeOptions(opts);
    this.#optionBytes.set(opts, bytes);
    return bytes;
  }

  /** A block with one value in it; 0 for `undefined`, undefined when memory is full. */
  encodeValue(value: unknown): Block | undefined {
    return value === undefined ? 0 : this.#blockOf(encodeRaw(value));
  }

  /** As `encodeValue`, for a job's result: throws ValidationError when it can't be encoded or is over the payload limit. */
  encodeResult(value: unknown): Block | undefined {
    if (value === undefined) return 0;
    const bytes = encodeRaw(value, 'result');
    if (bytes > this.#bytesMax) this.#refuseSize(bytes, 'result');
    return this.#blockOf(bytes);
  }

  /** A block with what was encoded last. */
  #blockOf(bytes: number): Block | undefined {
    const core = this.#core;
    const block = core.wasm.blockAlloc(this.#thread, bytes) >>> 0;
    if (block === 0) return undefined;
    if (bytes + L.BLOCK_HEADER_BYTES <= L.BLOCK_BYTES_MAX) copyEncoded(core.u8, block);
    else core.blockWrite(block, 0, encoded.source.subarray(encoded.start, encoded.end));
    return block;
  }

  /** A block with another job's id, name and options, and other data; 0 when memory is full. */
  encodeData(payload: Block, data: unknown): Block {
    const core = this.#core;
    const ahead = core.blockRead(payload, 0, this.#dataStart(payload));
    const bytes = encodePayload(data);
    if (bytes.length > this.#bytesMax) this.#refuseSize(bytes.length, 'data');
    const block = core.wasm.blockAlloc(this.#thread, ahead.length + bytes.length) >>> 0;
    if (block === 0) return 0;
    core.blockWrite(block, 0, ahead);
    core.blockWrite(block, ahead.length, bytes);
    return block;
  }

  /** The block of a remembered id: the id's bytes of `payload`, and a hash in place of the data. 0 when memory is full. */
  encodeRemembered(payload: Block, hash: Uint8Array): Block {
    const core = this.#core;
    const id = core.blockRead(payload, L.P_CONTENT, this.idBytes(payload));
    const block = core.wasm.blockAllocReserved(L.P_CONTENT + id.length + hash.length) >>> 0;
    if (block === 0) return 0;
    core.u16[(block + L.P_ID_BYTES) >>> 1] = id.length;
    core.u16[(block + L.P_NAME_BYTES) >>> 1] = 0;
    core.u32[(block + L.P_OPTION_BYTES) >>> 2] = 0;
    core.u8.set(id, block + L.P_CONTENT);
    core.u8.set(hash, block + L.P_CONTENT + id.length);
    return block;
  }

  // ---- reading ----------------------------------------------------------------------------------------------------------

  name(block: Block): string {
    const start = block + L.P_CONTENT + this.idBytes(block);
    return this.#text(start, this.#core.u16[(block + L.P_NAME_BYTES) >>> 1] as number);
  }

  idBytes(block: Block): number {
    return this.#core.u16[(block + L.P_ID_BYTES) >>> 1] as number;
  }

  customId(block: Block): string {
    const start = block + L.P_CONTENT;
    return this.#buffer.toString('utf8', start, start + this.idBytes(block));
  }

  /** Names lie in the first part of a block, and the same few come again and again. */
  #text(start: number, length: number): string {
    const last = this.#lastNameBytes;
    const u8 = this.#core.u8;
    let same = last.length === length;
    for (let i = 0; same && i < length; i++) same = u8[start + i] === last[i];
    if (same) return this.#lastName;
    this.#lastNameBytes = u8.slice(start, start + length);
    this.#lastName = this.#buffer.toString('utf8', start, start + length);
    return this.#lastName;
  }

  #optionsStart(block: Block): number {
    const { u16 } = this.#core;
    return (
      L.P_CONTENT + (u16[(block + L.P_ID_BYTES) >>> 1] as number) + (u16[(block + L.P_NAME_BYTES) >>> 1] as number)
    );
  }

  opts(block: Block): JobOptions {
    const length = this.#core.u32[(block + L.P_OPTION_BYTES) >>> 2] as number;
    if (length === 0) return NO_OPTIONS;
    return this.#decode(block, this.#optionsStart(block), length) as JobOptions;
  }

  #dataStart(block: Block): number {
    return this.#optionsStart(block) + (this.#core.u32[(block + L.P_OPTION_BYTES) >>> 2] as number);
  }

  data(block: Block): unknown {
    const start = this.#dataStart(block);
    return this.#decode(block, start, this.#core.blockLength(block) - start);
  }

  /** The encoded data, copied: to compare or to hash. */
  dataBytes(block: Block): Uint8Array {
    const start = this.#dataStart(block);
    return this.#core.blockRead(block, start, this.#core.blockLength(block) - start);
  }

  value(block: Block): unknown {
    return block === 0 ? undefined : this.#decode(block, 0, this.#core.blockLength(block));
  }

  #decode(block: Block, offset: number, length: number): unknown {
    const core = this.#core;
    if (core.isContiguous(block)) return decodePayload(this.#buffer, block + offset, block + offset + length);
    return decodePayload(core.blockRead(block, offset, length), 0, length);
  }

  /** Writes text where the core can compare it, runs `use(address, bytes)`, and frees it. */
  withText<T>(text: string, use: (address: number, bytes: number) => T): T {
    const bytes = utf8.encode(text);
    const block = this.#core.wasm.blockAllocReserved(Math.max(1, bytes.length)) >>> 0;
    if (block === 0) throw new RangeError('no memory is left even in the reserve');
    this.#core.u8.set(bytes, block);
    try {
      return use(block, bytes.length);
    } finally {
      this.#core.wasm.blockFree(block);
    }
  }
}
