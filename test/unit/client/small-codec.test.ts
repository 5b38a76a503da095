import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { decodePayload, encodePayload } from '../../../client/payload.js';
import { type Latin1Source, NOT_SMALL, readSmall, smallBytes, writeSmall } from '../../../client/small-codec.js';

/** As payload.ts has it. */
const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true, moreTypes: true });

/** What was written, where jobs are read: in a Buffer over shared memory, with other bytes around it. */
function shared(bytes: Uint8Array): { source: Latin1Source; start: number; end: number } {
  const memory = Buffer.from(new SharedArrayBuffer(bytes.length + 20)).fill(0x61);
  memory.set(bytes, 7);
  return { source: memory as unknown as Latin1Source, start: 7, end: 7 + bytes.length };
}

const leaf = fc.oneof(
  fc.string({ maxLength: 240 }),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.integer(),
  fc.integer({ min: -300, max: 70_000 }),
  fc.maxSafeInteger(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
);
const values = fc.letrec((tie) => ({
  value: fc.oneof({ depthSize: 'small' }, leaf, fc.array(tie('value'), { maxLength: 20 }), tie('object')),
  object: fc.dictionary(fc.string({ maxLength: 40 }), tie('value'), { maxKeys: 20, noNullPrototype: true }),
})).value;

describe('the codec of small payloads', () => {
  test('writes what msgpackr writes, byte for byte, or nothing', () => {
    let small = 0;
    fc.assert(
      fc.property(values, (value) => {
        const length = writeSmall(value);
        if (length === -1) return;
        small++;
        expect(Buffer.from(smallBytes.subarray(0, length))).toEqual(Buffer.from(packr.pack(value)));
      }),
      { numRuns: 2000 },
    );
    expect(small).toBeGreaterThan(500);
  });

  test('reads back what either codec wrote, from shared memory', () => {
    fc.assert(
      fc.property(values, (value) => {
        const { source, start, end } = shared(encodePayload({ value }).slice());
        expect(decodePayload(source, start, end)).toStrictEqual({ value });
      }),
      { numRuns: 2000 },
    );
  });

  test.each([
    ['undefined', { a: undefined }],
    ['a Date', { a: new Date(0) }],
    ['-0', -0],
    ['text beyond ASCII', 'é'],
    ['a member __proto__', JSON.parse('{"__proto__": 1}')],
    ['an object of a class', new URL('http://localhost')],
    ['more than 15 members', Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`k${i}`, i]))],
    ['too many levels', JSON.parse('['.repeat(9) + ']'.repeat(9))],
    ['a function', { a: () => 1 }],
    ['too much', Array.from({ length: 4096 }, () => 1)],
    ['a long text', 'a'.repeat(201)],
  ])('leaves %s to the general one', (_what, value) => {
    expect(writeSmall(value)).toBe(-1);
  });

  test('values that end at the edge of the scratch are whole', () => {
    for (let length = 3900; length < 4100; length++) {
      const value = [...Array.from({ length: Math.floor(length / 10) }, () => 'abcdefghi'), 'x'.repeat(length % 10)];
      const bytes = writeSmall(value);
      if (bytes === -1) continue;
      const { source, start, end } = shared(smallBytes.slice(0, bytes));
      expect(readSmall(source, start, end)).toEqual(value);
    }
  });

  test('bytes that are cut off or not of these kinds are not read', () => {
    const { source, start, end } = shared(Uint8Array.from(packr.pack({ a: [1, 'text', { b: 2.5 }] })));
    for (let cut = start; cut < end; cut++) expect(readSmall(source, start, cut)).toBe(NOT_SMALL);
    expect(readSmall(source, start, end + 1)).toBe(NOT_SMALL);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const random = shared(bytes);
        const value = readSmall(random.source, random.start, random.end);
        if (value !== NOT_SMALL) expect(value).toStrictEqual(packr.unpack(Buffer.from(bytes)));
      }),
      { numRuns: 3000 },
    );
  });
});
