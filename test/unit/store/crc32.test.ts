import * as zlib from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc32, crc32Portable } from '#engine/store/crc32.js';

const native = (zlib as { crc32?: (bytes: Uint8Array) => number }).crc32;
const utf8 = (text: string) => new TextEncoder().encode(text);

/** Known values of CRC-32/ISO-HDLC, as in the catalogue of G. Cook. */
const KNOWN: [string, Uint8Array, number][] = [
  ['nothing', utf8(''), 0],
  ['123456789', utf8('123456789'), 0xcbf43926],
  ['a', utf8('a'), 0xe8b7be43],
  ['four zeros', new Uint8Array(4), 0x2144df1c],
  ['32 times 255', new Uint8Array(32).fill(255), 0xff6cab0b],
];

describe.each([
  ['in JavaScript alone', crc32Portable],
  ['as the log takes it', crc32],
])('%s', (_, sum) => {
  test.each(KNOWN)('the checksum of %s is the one of the catalogue', (_name, bytes, expected) => {
    expect(sum(bytes)).toBe(expected);
  });
});

test.skipIf(native === undefined)(
  'the portable checksum is that of zlib, whatever the bytes and wherever they lie',
  () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(7), (bytes, offset) => {
        const moved = new Uint8Array(bytes.length + offset).subarray(offset);
        moved.set(bytes);
        expect(crc32Portable(moved)).toBe(native!(bytes));
      }),
    );
  },
);
