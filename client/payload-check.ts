/**
 * The walk over a value before msgpackr encodes it. It refuses what can't be stored, naming the place, and replaces what msgpackr
 * would change silently; a value that needs neither, nearly every one, comes back as it is, without a copy.
 */
import { shown } from './checks.js';
import { serialiseError } from './error-records.js';
import { ValidationError } from './errors.js';

/** Numbers, since they are stored. */
export const WrapKind = { negativeZero: 0, map: 1, object: 2, text: 3, error: 4 } as const;
export type WrapKind = (typeof WrapKind)[keyof typeof WrapKind];

/** What msgpack has no form for. Made here and read in `payload.ts`; users never see one. */
export class Wrapped {
  readonly kind: WrapKind;
  readonly content: unknown;

  constructor(kind: WrapKind, content: unknown) {
    this.kind = kind;
    this.content = content;
  }
}

const DEPTH_MAX = 1000;
const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;
const NEGATIVE_ZERO = new Wrapped(WrapKind.negativeZero, 0);
const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;

/** From ES2024 on; every supported Node has it. In V8 it costs nothing for strings of Latin letters. */
interface WellFormed {
  isWellFormed(): boolean;
}

/** The keys on the way to the value being looked at, `keys[0..depth)`, and the objects they led through. */
const keys: (string | number)[] = [];
let rootName = 'data';
let rootValue: unknown;

/** `value` itself, or what to encode in its place. Throws ValidationError with a path that starts with `root`. */
export function encodable(value: unknown, root: string): unknown {
  if (typeof value !== 'object' || value === null) {
    rootName = root;
    return checked(value, 0);
  }
  rootName = root;
  rootValue = value;
  const result = checkedObject(value, 0);
  rootValue = undefined;
  return result;
}

function pathTo(depth: number): string {
  let path = rootName;
  for (let i = 0; i < depth; i++) {
    const key = keys[i] as string | number;
    if (typeof key === 'number') path += `[${key}]`;
    else path += IDENTIFIER.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
  }
  return path;
}

function refuse(depth: number, what: string, help: string, cause?: unknown): never {
  const path = pathTo(depth);
  rootValue = undefined;
  throw new ValidationError(`${path} ${what}. ${help}`, { path, ...(cause === undefined ? {} : { cause }) });
}

/** A value that isn't an object, or any value outside the fast loop. `keys[0..depth)` lead to it. */
function checked(value: unknown, depth: number): unknown {
  switch (typeof value) {
    case 'object':
      return value === null ? null : checkedObject(value, depth);
    case 'string':
      return (value as unknown as WellFormed).isWellFormed() ? value : wrappedText(value);
    case 'number':
      return value === 0 && Object.is(value, -0) ? NEGATIVE_ZERO : value;
    case 'bigint':
      if (value >= INT64_MIN && value <= UINT64_MAX) return value;
      return refuse(depth, `is a BigInt of more than 64 bits (${shown(value)})`, 'Store it as a string.');
    case 'function':
      return refuse(depth, `is ${shown(value)}, which cannot be stored`, 'Leave it out.');
    case 'symbol':
      return refuse(depth, `is ${shown(value)}, which cannot be stored`, 'Store its description.');
    default:
      return value; // booleans and undefined
  }
}

/** Half a surrogate pair has no UTF-8: such text is kept as its UTF-16 units. */
function wrappedText(text: string): Wrapped {
  const units = new Uint16Array(text.length);
  for (let i = 0; i < text.length; i++) units[i] = text.charCodeAt(i);
  return new Wrapped(WrapKind.text, units);
}

function checkedObject(value: object, depth: number): unknown {
  if (depth > DEPTH_MAX) refuseDepth();
  if (Array.isArray(value)) return checkedArray(value, depth);
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    const special = checkedSpecial(value, depth);
    if (special !== undefined) return special;
  }
  const { toJSON } = value as { toJSON?: unknown };
  if (typeof toJSON === 'function') return checkedJson(value, depth);
  return checkedMembers(value as Record<string, unknown>, prototype === Object.prototype, depth);
}

/** The members of an object. Nothing is copied until one of them has to be replaced or left out. */
function checkedMembers(value: Record<string, unknown>, isPlain: boolean, depth: number): unknown {
  let copy: Record<string, unknown> | undefined = isPlain ? undefined : {};
  for (const key in value) {
    if (!isPlain && !Object.hasOwn(value, key)) continue;
    if (key === '__proto__' || !(key as unknown as WellFormed).isWellFormed()) return wrappedMembers(value, depth);
    const one = value[key];
    let other: unknown = one;
    if (typeof one === 'string') {
      if (!(one as unknown as WellFormed).isWellFormed()) other = wrappedText(one);
    } else if (typeof one !== 'boolean' && one !== null) {
      keys[depth] = key;
      other = checked(one, depth + 1);
    }
    if (copy === undefined) {
      if (other === one && one !== undefined) continue;
      if (other !== one && Number.isNaN(one)) continue;
      copy = membersBefore(value, key);
    }
    if (other !== undefined) copy[key] = other;
  }
  return copy ?? value;
}

function membersBefore(value: Record<string, unknown>, end: string): Record<string, unknown> {
  const copy: Record<string, unknown> = {};
  for (const key in value) {
    if (key === end) break;
    copy[key] = value[key];
  }
  return copy;
}

/**
 * An object with an own member `__proto__` (JSON.parse makes such) can't be built by assignment, and a key of half a surrogate pair
 * has no UTF-8: keys and values, flat.
 */
function wrappedMembers(value: Record<string, unknown>, depth: number): Wrapped {
  const flat: unknown[] = [];
  for (const key of Object.keys(value)) {
    keys[depth] = key;
    const one = checked(value[key], depth + 1);
    if (one !== undefined) flat.push(checked(key, depth + 1), one);
  }
  return new Wrapped(WrapKind.object, flat);
}

function checkedArray(value: unknown[], depth: number): unknown[] {
  let copy: unknown[] | undefined;
  for (let i = 0; i < value.length; i++) {
    const one = value[i];
    if (typeof one === 'boolean' || one === null) continue;
    keys[depth] = i;
    const other = checked(one, depth + 1);
    if (other === one || Number.isNaN(one)) continue;
    copy ??= Array.from(value);
    copy[i] = other;
  }
  return copy ?? value;
}

/** Objects that aren't plain ones; undefined when it is an instance of a user's class, encoded as its members. */
function checkedSpecial(value: object, depth: number): unknown {
  if (value instanceof Date) return value.constructor === Date ? value : new Date(value.getTime());
  if (ArrayBuffer.isView(value)) return checkedView(value, depth);
  if (value instanceof Map) return wrappedMap(value, depth);
  if (value instanceof Set) return checkedSet(value, depth);
  if (value instanceof Error) return new Wrapped(WrapKind.error, serialiseError(value));
  if (value instanceof ArrayBuffer) return value;
  if (value instanceof Number || value instanceof String || value instanceof Boolean)
    return checked(value.valueOf(), depth);
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  if (UNSTORABLE.has(tag)) refuse(depth, `is a ${tag}, which cannot be stored`, UNSTORABLE.get(tag) as string);
  return undefined;
}

const UNSTORABLE = new Map([
  ['Promise', 'Await it first.'],
  ['RegExp', 'Store its source and flags.'],
  ['DataView', 'Store a Uint8Array over the same bytes.'],
  ['SharedArrayBuffer', 'Store a copy of its bytes.'],
  ['WeakMap', 'Leave it out.'],
  ['WeakSet', 'Leave it out.'],
  ['WeakRef', 'Leave it out.'],
  ['Generator', 'Store an array of what it yields.'],
  ['AsyncGenerator', 'Store an array of what it yields.'],
]);

type AnyTypedArray = Uint8Array & {
  constructor: { new (buffer: ArrayBufferLike, at: number, length: number): object };
};
const TYPED_ARRAYS = new Set<unknown>([
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
]);

/** A subclass becomes what it extends; Buffers stay Buffers. */
function checkedView(value: ArrayBufferView, depth: number): unknown {
  const type = value.constructor;
  if (TYPED_ARRAYS.has(type) || (typeof Buffer !== 'undefined' && type === Buffer)) return value;
  let base = Object.getPrototypeOf(type);
  while (typeof base === 'function' && !TYPED_ARRAYS.has(base)) base = Object.getPrototypeOf(base);
  if (typeof base !== 'function') {
    const tag = Object.prototype.toString.call(value).slice(8, -1);
    return refuse(
      depth,
      `is a ${tag}, which cannot be stored`,
      UNSTORABLE.get(tag) ?? 'Store a Uint8Array over the same bytes.',
    );
  }
  const array = value as AnyTypedArray;
  return new (base as AnyTypedArray['constructor'])(array.buffer, array.byteOffset, array.length);
}

/** msgpack's map is the plain object's form, so a Map goes as its keys and values, flat. */
function wrappedMap(map: Map<unknown, unknown>, depth: number): Wrapped {
  const flat: unknown[] = [];
  for (const [key, value] of map) {
    keys[depth] = `key ${flat.length / 2}`;
    flat.push(checked(key, depth + 1));
    keys[depth] = typeof key === 'string' ? key : `value ${(flat.length - 1) / 2}`;
    flat.push(checked(value, depth + 1));
  }
  return new Wrapped(WrapKind.map, flat);
}

function checkedSet(set: Set<unknown>, depth: number): Set<unknown> {
  let index = 0;
  let isSame = set.constructor === Set;
  const members: unknown[] = [];
  for (const one of set) {
    keys[depth] = index++;
    const other = checked(one, depth + 1);
    if (other !== one && !Number.isNaN(one)) isSame = false;
    members.push(other);
  }
  return isSame ? set : new Set(members);
}

function checkedJson(value: object, depth: number): unknown {
  let json: unknown;
  try {
    json = (value as { toJSON(key: string): unknown }).toJSON(depth === 0 ? '' : String(keys[depth - 1]));
  } catch (error) {
    refuse(depth, 'has a toJSON that threw', 'See the cause.', error);
  }
  if (json === value) return checkedMembers(value as Record<string, unknown>, false, depth);
  // Counted as a level, or a toJSON that makes new objects with a toJSON would never end.
  keys[depth] = 'toJSON()';
  return checked(json, depth + 1);
}

/** Too deep: nearly always a cycle, which is then looked for, since the walk itself keeps no list of ancestors. */
function refuseDepth(): never {
  const root = rootValue;
  rootValue = undefined;
  const ancestors: object[] = [];
  const found = typeof root === 'object' && root !== null ? cycle(root, ancestors) : undefined;
  if (found === undefined)
    return refuse(0, `is nested deeper than ${DEPTH_MAX} levels`, 'Store less, or store it flat.');
  const target = pathTo(found);
  return refuse(ancestors.length, `leads back to ${target}: a cycle cannot be stored`, 'Store an id in its place.');
}

/** The depth of the ancestor that the first cycle leads back to; `keys` and the length of `ancestors` then name the place. */
function cycle(value: object, ancestors: object[]): number | undefined {
  const at = ancestors.indexOf(value);
  if (at !== -1) return at;
  if (ancestors.length > DEPTH_MAX) return undefined;
  const depth = ancestors.length;
  ancestors.push(value);
  const members = value instanceof Map || value instanceof Set ? value.entries() : Object.entries(value);
  for (const [key, one] of members) {
    if (typeof one !== 'object' || one === null) continue;
    keys[depth] = Array.isArray(value) ? Number(key) : String(key);
    const found = cycle(one, ancestors);
    if (found !== undefined) return found;
  }
  ancestors.pop();
  return undefined;
}
