/**
 * The codec of payloads: msgpack by msgpackr, with what msgpackr would change or lose without a word put right before it sees the
 * value (`payload-check.ts`). The format is plain msgpack, msgpackr's own extensions for Set, typed arrays and ArrayBuffer, the
 * standard timestamp for Date, and one extension of ours (`Wrapped`) for the rest.
 *
 * Decoding never happens in shared memory: the bytes are copied into a private scratch first. Measured for `{id, to}` (25 bytes, Node
 * 20): decoding in place 6.2 µs, since msgpackr's native string extraction can't read a SharedArrayBuffer and falls back through an
 * exception, and TextDecoder refuses it too; copy and decode 0.21 µs, of which the copy is 0.03. It is also what makes it impossible
 * for a view of shared memory to reach a caller.
 */
import { addExtension, Packr, RESET_BUFFER_MODE, REUSE_BUFFER_MODE } from 'msgpackr';
import { deserialiseError, type SerialisedError } from './error-records.js';
import { encodable, WrapKind, Wrapped } from './payload-check.js';
import { type Latin1Source, NOT_SMALL, readSmall, smallBytes, writeSmall } from './small-codec.js';

/** 'Q'; none of msgpackr's own. */
const WRAPPED_TYPE = 0x51;
const SCRATCH_BYTES = 65_536;
/** Up to here a loop copies faster than `set(subarray())`, which makes an object. */
const LOOP_BYTES_MAX = 96;

/** A Buffer where there is one, so that a Buffer comes back as a Buffer; never from Node's pool. */
function allocate(bytes: number): Uint8Array {
  return typeof Buffer === 'undefined' ? new Uint8Array(bytes) : Buffer.allocUnsafeSlow(bytes);
}

addExtension({
  Class: Wrapped,
  type: WRAPPED_TYPE,
  write: ({ kind, content }: Wrapped) => [kind, content],
  read: ([kind, content]: [WrapKind, unknown]) => unwrapped(kind, content),
});

const packr = new Packr({
  useRecords: false, // records pay where one message holds many objects of one shape; most jobs are one object
  mapsAsObjects: true,
  variableMapSize: true, // else an object of more than 65,535 members can't be written
  moreTypes: true,
  copyBuffers: true,
});

function unwrapped(kind: WrapKind, content: unknown): unknown {
  switch (kind) {
    case WrapKind.negativeZero:
      return -0;
    case WrapKind.map: {
      const flat = content as unknown[];
      const map = new Map();
      for (let i = 0; i < flat.length; i += 2) map.set(flat[i], flat[i + 1]);
      return map;
    }
    case WrapKind.object: {
      const flat = content as unknown[];
      const object = {};
      for (let i = 0; i < flat.length; i += 2) {
        const property = { value: flat[i + 1], configurable: true, enumerable: true, writable: true };
        Object.defineProperty(object, flat[i] as string, property);
      }
      return object;
    }
    case WrapKind.text:
      return textOf(content as Uint16Array);
    case WrapKind.error:
      return deserialiseError(content as SerialisedError);
    default:
      throw new RangeError(`A payload holds the kind ${String(kind)}, which this version of flashQ doesn't know`);
  }
}

function textOf(units: Uint16Array): string {
  let text = '';
  for (let i = 0; i < units.length; i += 8192) text += String.fromCharCode(...units.subarray(i, i + 8192));
  return text;
}

/** Where `encodeRaw` has put its bytes: `source[start, end)`. Valid until the next call of anything in here. */
export const encoded: { source: Uint8Array; start: number; end: number } = { source: smallBytes, start: 0, end: 0 };

/** What msgpackr returns when it is told not to make a view of its buffer. */
interface ReusedBuffer extends Uint8Array {
  readonly start: number;
  readonly end: number;
}

/** As `encodePayload`, without an object for the bytes: they are where `encoded` says. Gives their number. */
export function encodeRaw(value: unknown, root = 'data'): number {
  const length = writeSmall(value);
  if (length !== -1) {
    encoded.source = smallBytes;
    encoded.start = 0;
    encoded.end = length;
    return length;
  }
  // The buffer is the one that all users of this copy of msgpackr share; the mode leaves theirs before ours alone.
  const buffer = packr.pack(encodable(value, root), RESET_BUFFER_MODE | REUSE_BUFFER_MODE) as unknown as ReusedBuffer;
  encoded.source = buffer;
  encoded.start = buffer.start;
  encoded.end = buffer.end;
  return buffer.end - buffer.start;
}

/** Copies what `encodeRaw` has written to `target[offset, ...)`. */
export function copyEncoded(target: Uint8Array, offset: number): void {
  const { source, start, end } = encoded;
  if (end - start > LOOP_BYTES_MAX) target.set(source.subarray(start, end), offset);
  else for (let i = start, to = offset; i < end; i++, to++) target[to] = source[i] as number;
}

/**
 * The bytes of `value`, in a private scratch: valid until the next call of anything in here, so copy them at once. What survives as
 * what: JSON values (members that are `undefined` are left out), Date, Buffer, typed arrays, ArrayBuffer, Map, Set, BigInt to 64
 * bits, Error, -0, NaN, Infinity; objects with `toJSON` become its value; `undefined` inside arrays stays.
 *
 * @param root The name of the value in error messages: `data`, `result`, `progress`.
 * @throws ValidationError with the `path` inside the value for functions, symbols, Promises, cycles, BigInts over 64 bits and the
 *   like, and for values nested deeper than 1,000.
 *
 * @example
 * const bytes = encodePayload({ id: 123, to: 'user@example.com' });
 * memory.set(bytes, address);
 */
export function encodePayload(value: unknown, root = 'data'): Uint8Array {
  encodeRaw(value, root);
  return encoded.source.subarray(encoded.start, encoded.end);
}

const scratch = allocate(SCRATCH_BYTES);

/**
 * The value that `encodePayload` wrote into `source[start, end)`. `source` may lie over shared memory of any size: nothing of it is
 * referenced by what is returned, and it may be reused at once.
 *
 * @throws Error when the bytes are no payload.
 */
export function decodePayload(source: Uint8Array, start = 0, end = source.length): unknown {
  if ('latin1Slice' in source) {
    const value = readSmall(source as Latin1Source, start, end);
    if (value !== NOT_SMALL) return value;
  }
  const length = end - start;
  if (length > SCRATCH_BYTES) return decodeLarge(source, start, end);
  if (length <= LOOP_BYTES_MAX) for (let i = 0; i < length; i++) scratch[i] = source[start + i] as number;
  else scratch.set(source.subarray(start, end));
  return packr.unpack(scratch, length);
}

function decodeLarge(source: Uint8Array, start: number, end: number): unknown {
  const copy = allocate(end - start);
  copy.set(source.subarray(start, end));
  return packr.unpack(copy);
}
