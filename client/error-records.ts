/**
 * How errors cross threads and wires. An `ErrorRecord` fits whatever a handler threw and is what a job keeps; a `SerialisedError`
 * also carries the fields of flashQ's own classes, so that the other side gets the same class back.
 */
import type { ErrorRecord } from './connection.js';
import { ERROR_CLASSES, FlashQError } from './errors.js';

/** A thrown megabyte must not become a megabyte kept with every attempt. */
const MESSAGE_CHARS_MAX = 16_384;
const STACK_CHARS_MAX = 32_768;
const CAUSES_MAX = 5;
const DEPTH_MAX = 8;

function cut(text: string, charsMax: number): string {
  return text.length <= charsMax ? text : `${text.slice(0, charsMax - 1)}…`;
}

/** Getters and proxies of strangers may throw: then the property isn't there. */
function read(thrown: object, key: string): unknown {
  try {
    return (thrown as Record<string, unknown>)[key];
  } catch {
    return undefined;
  }
}

function readText(thrown: object, key: string): string | undefined {
  const value = read(thrown, key);
  return typeof value === 'string' ? value : undefined;
}

/** A thrown object that is no error and has no message, as a person would want to see it. */
function shown(thrown: object): string {
  try {
    const json = JSON.stringify(thrown);
    if (typeof json === 'string' && json !== '{}') return json;
  } catch {
    // Cycles and bigints: the tag below says enough.
  }
  try {
    return Object.prototype.toString.call(thrown);
  } catch {
    return '[object]';
  }
}

function primitiveText(thrown: unknown): string {
  return typeof thrown === 'string' ? thrown : String(thrown); // symbols have no implicit conversion, but this one
}

/** The stack of the error followed by those of its causes. */
function stackOf(thrown: object): string {
  let text = readText(thrown, 'stack') ?? '';
  let cause = read(thrown, 'cause');
  for (
    let depth = 0;
    depth < CAUSES_MAX && cause !== undefined && cause !== null && text.length < STACK_CHARS_MAX;
    depth++
  ) {
    const isObject = typeof cause === 'object';
    const one = isObject
      ? (readText(cause, 'stack') ?? readText(cause, 'message') ?? shown(cause))
      : primitiveText(cause);
    text += `\nCaused by: ${one}`;
    cause = isObject ? read(cause, 'cause') : undefined;
  }
  return cut(text, STACK_CHARS_MAX);
}

/**
 * Whatever was thrown, as strings: an Error keeps name, message, stack (with its causes) and a string or number `code`; anything
 * else becomes its text. Never throws, not even for proxies and getters that do. Messages over 16,384 characters and stacks over
 * 32,768 are cut.
 *
 * @example
 * toErrorRecord('no luck').message; // 'no luck'
 * toErrorRecord(undefined).message; // 'undefined'
 */
export function toErrorRecord(thrown: unknown): ErrorRecord {
  if ((typeof thrown !== 'object' && typeof thrown !== 'function') || thrown === null) {
    return { name: 'Error', message: cut(primitiveText(thrown), MESSAGE_CHARS_MAX), stack: '' };
  }
  const name = readText(thrown, 'name') || 'Error';
  const isError = thrown instanceof Error;
  const message = readText(thrown, 'message') || (isError ? name : typeof thrown === 'function' ? name : shown(thrown));
  const record: ErrorRecord = {
    name: cut(name, 256),
    message: cut(message, MESSAGE_CHARS_MAX),
    stack: stackOf(thrown),
  };
  const code = read(thrown, 'code');
  if (typeof code === 'string' || typeof code === 'number') record.code = cut(String(code), 256);
  return record;
}

/** An Error (of the plain class) with the name, message, stack and code of the record. */
export function fromErrorRecord(record: ErrorRecord): Error {
  const error = new Error(record.message);
  const hidden = (value: unknown) => ({ value, configurable: true, enumerable: false, writable: true });
  if (record.name !== 'Error') Object.defineProperty(error, 'name', hidden(record.name));
  Object.defineProperty(error, 'stack', hidden(record.stack || `${record.name}: ${record.message}`));
  if (record.code !== undefined) (error as Error & { code?: string }).code = record.code;
  return error;
}

/** Plain objects, arrays, strings, numbers and booleans only: fit for `postMessage`, msgpack and JSON. */
export interface SerialisedError extends ErrorRecord {
  /** What the class adds: `jobId`, `errors`, `retryAfterMs` ... An Error inside is `{ $error: SerialisedError }`. */
  fields?: Record<string, unknown>;
  cause?: unknown;
}

const FIXED = new Set(['name', 'message', 'stack', 'code', 'cause', 'retryable']);

/** The value without anything that can't cross: an Error becomes `{ $error }`, functions and symbols disappear. */
function packed(value: unknown, depth: number): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
    return value;
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || depth > DEPTH_MAX) return undefined;
  if (value instanceof Error) return { $error: serialise(value, depth + 1) };
  if (Array.isArray(value)) return value.map((one) => packed(one, depth + 1) ?? null);
  const fields: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    const one = packed(read(value, key), depth + 1);
    if (one !== undefined) fields[key] = one;
  }
  return fields;
}

function unpacked(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(unpacked);
  const fields = value as Record<string, unknown>;
  if (typeof fields.$error === 'object' && fields.$error !== null)
    return deserialiseError(fields.$error as SerialisedError);
  return Object.fromEntries(Object.entries(fields).map(([key, one]) => [key, unpacked(one)]));
}

function serialise(thrown: unknown, depth: number): SerialisedError {
  const record: SerialisedError = toErrorRecord(thrown);
  if (typeof thrown !== 'object' || thrown === null) return record;
  const ownStack = readText(thrown, 'stack'); // the cause travels by itself, so its stack isn't repeated here
  if (ownStack !== undefined) record.stack = cut(ownStack, STACK_CHARS_MAX);
  const cause = packed(read(thrown, 'cause'), depth);
  if (cause !== undefined) record.cause = cause;
  if (!(thrown instanceof FlashQError)) return record;
  record.message = thrown.message;
  const fields: Record<string, unknown> = {};
  for (const key of Object.keys(thrown)) {
    if (FIXED.has(key)) continue;
    const one = packed(read(thrown, key), depth + 1);
    if (one !== undefined) fields[key] = one;
  }
  record.fields = fields;
  return record;
}

/** An error as a message for another thread or process; `deserialiseError` is its inverse. Accepts any thrown value, never throws. */
export function serialiseError(thrown: unknown): SerialisedError {
  return serialise(thrown, 0);
}

/**
 * The same class with the same fields, message and stack when it was one of flashQ's; else an Error with name, message, stack and
 * code. Causes and errors inside fields (`BulkError.errors`) are rebuilt too. `instanceof` holds.
 */
export function deserialiseError(serialised: SerialisedError): Error {
  const error = fromErrorRecord(serialised);
  if (serialised.cause !== undefined) {
    const cause = unpacked(serialised.cause);
    Object.defineProperty(error, 'cause', { value: cause, configurable: true, enumerable: false, writable: true });
  }
  const type = serialised.code === undefined ? undefined : ERROR_CLASSES.get(serialised.code);
  if (type === undefined || serialised.fields === undefined) return error;
  // An object made by `new Error` has what makes it an error for the inspector and for structuredClone; only its class is exchanged.
  Object.setPrototypeOf(error, type.prototype);
  delete (error as { code?: string }).code; // the class has it
  delete (error as { name?: string }).name;
  for (const [key, value] of Object.entries(serialised.fields)) {
    if (!FIXED.has(key))
      Object.defineProperty(error, key, {
        value: unpacked(value),
        configurable: true,
        enumerable: true,
        writable: true,
      });
  }
  return error;
}
