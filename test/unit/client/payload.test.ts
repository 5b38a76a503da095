import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ValidationError } from '../../../client/errors.js';
import { decodePayload, encodePayload } from '../../../client/payload.js';

const shared = new Uint8Array(new SharedArrayBuffer(4 << 20));

/** As the engine does it: the bytes go into shared memory, are read from there, and the memory is reused at once. */
function roundTrip(value: unknown, at = 1001): unknown {
  const bytes = encodePayload(value);
  shared.set(bytes, at);
  const result = decodePayload(shared, at, at + bytes.length);
  shared.fill(0xaa, at, at + bytes.length);
  return result;
}

function refusal(value: unknown, root?: string): { message: string; path: string | undefined } {
  try {
    encodePayload(value, root);
  } catch (error) {
    expect(error).toBeInstanceOf(ValidationError);
    return { message: (error as Error).message, path: (error as ValidationError).path };
  }
  throw new Error('accepted');
}

describe('what survives', () => {
  class Point {
    x = 1;
    y = undefined;
    length2() {
      return this.x;
    }
  }
  const nullPrototype = Object.assign(Object.create(null), { a: 1 });

  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['text', 'héllo wörld ✓ 🎉'],
    ['half a surrogate pair', 'a\ud800b'],
    ['numbers', [0, -1, 127, 128, 255, 256, 65535, 65536, 2 ** 31, 2 ** 32, -(2 ** 31), -(2 ** 40), 1.5, 2 ** 53]],
    ['negative zero', -0],
    ['negative zero inside', { a: [-0, 0], b: -0 }],
    ['NaN and infinities', [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]],
    ['bigints', [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 64n - 1n]],
    [
      'dates',
      [new Date(0), new Date(1_700_000_000_123), new Date(-1), new Date(-123_456_789_012_345), new Date(8.64e15)],
    ],
    ['an invalid date', new Date(Number.NaN)],
    ['undefined in an array', [1, undefined, 2]],
    [
      'maps',
      new Map<unknown, unknown>([
        ['a', 1],
        [2, new Map([[{ k: 1 }, [3]]])],
        [-0, undefined],
      ]),
    ],
    ['a map beside an object', { m: new Map([['a', 1]]), o: { a: 1 } }],
    ['sets', new Set([1, 'a', new Set([2n])])],
    ['a member __proto__', JSON.parse('{"__proto__": {"x": 1}, "y": [{"__proto__": 2}]}')],
    ['odd keys', { constructor: 'x', hasOwnProperty: 1, toString: 2, '': 3, 'é✓': 4, 'a\udc00': 5 }],
    ['an empty object and array', { a: {}, b: [] }],
    ['many members', Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [`k${i}`, i]))],
    ['a long array', Array.from({ length: 70_000 }, (_, i) => i)],
  ])('%s', (_, value) => {
    expect(roundTrip(value)).toStrictEqual(value);
  });

  test.each([
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
  ])('%o stays one', (type) => {
    for (const length of [0, 1, 5, 300, 70_000]) {
      const value = (type as typeof Uint8Array).from({ length }, (_, i) => i % 100);
      expect(roundTrip({ value })).toStrictEqual({ value });
    }
  });

  test('arrays of bigints, Buffers, ArrayBuffers', () => {
    const value = [BigInt64Array.of(-1n, 5n), BigUint64Array.of(2n ** 64n - 1n), Uint8Array.of(1, 2, 3).buffer];
    expect(roundTrip(value)).toStrictEqual(value);
    const buffer = roundTrip({ b: Buffer.from('hello') }) as { b: Buffer };
    expect(Buffer.isBuffer(buffer.b)).toBe(true);
    expect(buffer.b.toString()).toBe('hello');
    expect(Buffer.isBuffer(roundTrip(Uint8Array.of(1)))).toBe(false);
  });

  test('a view of a part carries that part only', () => {
    const whole = Float32Array.of(1, 2, 3, 4);
    expect(roundTrip(whole.subarray(1, 3))).toStrictEqual(Float32Array.of(2, 3));
  });

  test('a view of shared memory is stored as a copy', () => {
    const view = new Uint16Array(new SharedArrayBuffer(4)).fill(7);
    const result = roundTrip(view) as Uint16Array;
    expect([...result]).toEqual([7, 7]);
    expect(result.buffer).toBeInstanceOf(ArrayBuffer);
  });

  test('members that are undefined are left out', () => {
    const result = roundTrip({ a: undefined, b: { c: undefined, d: 1 }, e: [{ f: undefined }] }) as object;
    expect(JSON.stringify(result)).toBe('{"b":{"d":1},"e":[{}]}');
    expect(Object.keys(result)).toEqual(['b', 'e']);
  });

  test('the value itself is never changed', () => {
    const value = { a: undefined, b: -0, c: [undefined, new Map([[1, -0]])] };
    encodePayload(value);
    expect(value).toStrictEqual({ a: undefined, b: -0, c: [undefined, new Map([[1, -0]])] });
  });

  test('instances of classes become their members; toJSON and boxes their value', () => {
    expect(roundTrip(new Point())).toStrictEqual({ x: 1 });
    expect(roundTrip(nullPrototype)).toStrictEqual({ a: 1 });
    expect(roundTrip({ url: new URL('http://a.b/'), n: Object(5), s: Object('t') })).toStrictEqual({
      url: 'http://a.b/',
      n: 5,
      s: 't',
    });
    expect(roundTrip({ v: { toJSON: (key: string) => ({ key }) } })).toStrictEqual({ v: { key: 'v' } });
    expect(roundTrip([class extends Date {}, 1].map((T) => (T === 1 ? 1 : new (T as typeof Date)(5))))).toStrictEqual([
      new Date(5),
      1,
    ]);
  });

  test('errors keep class, message, stack, cause, and the fields of our own', () => {
    const value = new ValidationError('bad', { path: 'a.b', cause: new Error('why') });
    const back = roundTrip({ value }) as { value: ValidationError };
    expect(back.value).toBeInstanceOf(ValidationError);
    expect(back.value).toMatchObject({ message: 'bad', path: 'a.b', stack: value.stack });
    expect(back.value.cause).toMatchObject({ message: 'why' });
    expect(roundTrip(new TypeError('t'))).toMatchObject({ name: 'TypeError', message: 't' });
  });

  test('strings of every length and kind, at every place', () => {
    for (const letter of ['x', 'é', '✓', '🎉']) {
      for (const length of [0, 1, 15, 16, 31, 32, 63, 64, 65, 139, 140, 255, 256, 300, 4096, 65_535, 65_536, 100_000]) {
        const text = letter.repeat(length);
        expect(roundTrip({ [text.slice(0, 40)]: text, after: [text, 1] }, 7)).toStrictEqual({
          [text.slice(0, 40)]: text,
          after: [text, 1],
        });
      }
    }
  });
});

describe('memory', () => {
  test('nothing that is returned changes when the block is reused', () => {
    const value = { b: Buffer.alloc(200, 1), f: Float32Array.of(1.5, 2.5), s: 'é'.repeat(200), a: new ArrayBuffer(8) };
    const bytes = encodePayload(value);
    shared.set(bytes, 64);
    const one = decodePayload(shared, 64, 64 + bytes.length);
    shared.fill(0xff);
    roundTrip({ b: Buffer.alloc(200, 2), s: 'z'.repeat(200) });
    expect(one).toStrictEqual(value);
    for (const view of [(one as typeof value).b, (one as typeof value).f]) {
      expect(view.buffer).not.toBe(shared.buffer);
      expect(view.buffer.byteLength).toBe(view.byteLength); // nor of a scratch or a pool that others share
    }
  });

  test('decodes far above 2 GiB', () => {
    const huge = new Uint8Array(new SharedArrayBuffer(2 ** 32 - 65_536));
    const at = 3_900_000_000;
    const bytes = encodePayload({ id: 1, to: 'user@example.com', more: 'x'.repeat(300) });
    huge.set(bytes, at);
    expect(decodePayload(huge, at, at + bytes.length)).toEqual({
      id: 1,
      to: 'user@example.com',
      more: 'x'.repeat(300),
    });
  });

  test('payloads larger than the scratch', () => {
    const value = { text: 'a✓'.repeat(300_000), bytes: Buffer.alloc(500_000, 3) };
    expect(roundTrip(value)).toStrictEqual(value);
    expect(roundTrip({ small: 1 })).toStrictEqual({ small: 1 });
  });

  test('a payload that is cut is an error, and the next one is read well', () => {
    const bytes = encodePayload({ a: 'x'.repeat(100), b: [1, 2, 3] }).slice();
    for (let end = 0; end < bytes.length; end++) expect(() => decodePayload(bytes, 0, end)).toThrow();
    expect(roundTrip({ fine: true })).toEqual({ fine: true });
  });
});

describe('what is refused', () => {
  const cyclic: Record<string, unknown> = { a: { list: [1, {}] } };
  ((cyclic.a as any).list[1] as Record<string, unknown>).back = cyclic.a;
  const endless = { toJSON: () => ({ again: endless }) };
  const deep: unknown[] = [];
  for (let i = 0, at = deep; i < 2000; i++) {
    const next: unknown[] = [];
    at.push(next);
    at = next;
  }

  test.each<[string, unknown, string, RegExp]>([
    ['functions', { items: [1, 2, 3, { fn: () => 1 }] }, 'data.items[3].fn', /cannot be stored/],
    ['functions as the whole', () => 1, 'data', /function/],
    ['symbols', { 'odd key': Symbol('s') }, 'data["odd key"]', /Symbol\(s\)/],
    ['promises', { p: Promise.resolve() }, 'data.p', /Promise.*Await/],
    ['bigints over 64 bits', [2n ** 64n], 'data[0]', /64 bits/],
    ['regular expressions', { r: /x/ }, 'data.r', /RegExp/],
    ['weak maps', { w: new WeakMap() }, 'data.w', /WeakMap/],
    ['shared memory', { s: new SharedArrayBuffer(1) }, 'data.s', /SharedArrayBuffer/],
    ['functions in maps', new Map([['k', () => 1]]), 'data.k', /cannot be stored/],
    ['functions in sets', new Set([1, () => 1]), 'data[1]', /cannot be stored/],
    ['cycles', cyclic, 'data.a.list[1].back', /leads back to data\.a: a cycle/],
    ['endless toJSON', endless, 'data', /nested deeper/],
    ['depth', deep, 'data', /nested deeper than 1000/],
  ])('%s', (_, value, path, message) => {
    expect(refusal(value)).toEqual({ message: expect.stringMatching(message), path });
  });

  test('the path starts with the name it is given', () => {
    expect(refusal({ a: () => 1 }, 'result').path).toBe('result.a');
  });

  test('a refusal leaves the next call untouched', () => {
    refusal({ a: [() => 1] });
    expect(roundTrip({ a: [1] })).toEqual({ a: [1] });
  });
});

describe('random values', () => {
  const leaf = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ minLength: 100, maxLength: 200 }),
    fc.integer(),
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
    fc.date({ noInvalidDate: false }),
    fc.uint8Array(),
    fc.float32Array(),
    fc.bigInt64Array(),
  );
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof({ maxDepth: 5 }, leaf, tie('array'), tie('object'), tie('map'), tie('set')),
    array: fc.array(tie('value'), { maxLength: 6 }),
    object: fc.dictionary(fc.string({ unit: 'binary' }), tie('value'), { maxKeys: 6, noNullPrototype: true }),
    map: fc.array(fc.tuple(tie('value'), tie('value')), { maxLength: 4 }).map((entries) => new Map(entries)),
    set: fc.array(tie('value'), { maxLength: 4 }).map((members) => new Set(members)),
  }));

  test('come back as they were', () => {
    fc.assert(
      fc.property(value, (one) => {
        expect(roundTrip(one)).toStrictEqual(one);
      }),
      { numRuns: 300 },
    );
  });

  test('random bytes are an error or a value, never a crash', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (bytes) => {
        try {
          decodePayload(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
        expect(roundTrip({ id: 1 })).toEqual({ id: 1 });
      }),
      { numRuns: 300 },
    );
  });
});
