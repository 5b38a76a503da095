import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as F from '#engine/store/format.js';

const contents = fc.uint8Array({ maxLength: 2000 });
const limits = fc.integer({ min: F.BATCH_HEADER_BYTES + 1, max: 700 });
const numbers = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER - 5000 });
const epochs = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });

function batchesFrom(content: Uint8Array, most: number, epoch = 1, first = 1): Uint8Array[] {
  const batches: Uint8Array[] = [];
  F.cutGroup(content, most, epoch, first, (batch) => batches.push(batch));
  return batches;
}

function headerOf(batch: Uint8Array, number: number): F.BatchHeader {
  const header = F.readBatch(batch, number);
  if ('what' in header) throw new Error(header.what);
  return header;
}

describe('a group', () => {
  test('comes back from its batches as it was, whatever their size', () => {
    fc.assert(
      fc.property(contents, limits, epochs, numbers, (content, most, epoch, first) => {
        const batches = batchesFrom(content, most, epoch, first);
        const parts: Uint8Array[] = [];
        for (const [nth, batch] of batches.entries()) {
          expect(batch.length).toBeLessThanOrEqual(most);
          const header = headerOf(batch, first + nth);
          expect(header).toEqual({
            isFirst: nth === 0,
            isLast: nth === batches.length - 1,
            epoch,
            number: first + nth,
          });
          parts.push(batch.subarray(F.BATCH_HEADER_BYTES));
        }
        expect(Buffer.concat(parts).equals(content)).toBe(true);
        expect(batches.length).toBe(F.batchesOf(content.length, most));
      }),
    );
  });

  test('lies in memory of its own: the group may be overwritten at once', () => {
    const content = new Uint8Array(new SharedArrayBuffer(100)).fill(7);
    const batches = batchesFrom(content, 60);
    content.fill(0);
    for (const [nth, batch] of batches.entries()) headerOf(batch, 1 + nth);
    expect(batches.every((batch) => batch.buffer instanceof ArrayBuffer)).toBe(true);
  });
});

describe('a batch', () => {
  const seeds = fc.tuple(contents, numbers);

  test('of which a bit has changed is damaged', () => {
    fc.assert(
      fc.property(seeds, fc.nat(), ([content, number], at) => {
        const [batch] = batchesFrom(content, 1 << 20, 3, number) as [Uint8Array];
        const bit = at % (batch.length * 8);
        batch[bit >> 3]! ^= 1 << (bit & 7);
        expect(F.readBatch(batch, number)).toMatchObject({ kind: 'damaged' });
      }),
    );
  });

  test('that was cut is torn, and one with more than it should have is damaged', () => {
    fc.assert(
      fc.property(seeds, fc.nat(), ([content, number], at) => {
        const [batch] = batchesFrom(content, 1 << 20, 3, number) as [Uint8Array];
        expect(F.readBatch(batch.subarray(0, at % batch.length), number)).toMatchObject({ kind: 'torn' });
        expect(F.readBatch(Buffer.concat([batch, Uint8Array.of(0)]), number)).toMatchObject({ kind: 'damaged' });
      }),
    );
  });

  test('of other bytes is damaged, or the beginning of nothing', () => {
    fc.assert(
      fc.property(contents, numbers, (bytes, number) => {
        expect(F.readBatch(bytes, number)).toHaveProperty('what');
      }),
    );
  });

  test('at another place than its own is damaged', () => {
    const [batch] = batchesFrom(new Uint8Array(8), 100, 1, 7) as [Uint8Array];
    expect(F.readBatch(batch, 8)).toEqual({ kind: 'damaged', what: 'it is number 7' });
  });

  test('of a newer version is told from damage', () => {
    const [batch] = batchesFrom(new Uint8Array(8), 100) as [Buffer];
    batch.writeUInt16LE(2, F.B_VERSION);
    expect(F.readBatch(batch, 1)).toMatchObject({ kind: 'damaged' });
    expect(F.readBatch(F.seal(batch), 1)).toMatchObject({ kind: 'version' });
  });
});

test('what is padded is the next multiple', () => {
  expect([0, 1, 4, 5, 8].map(F.padTo4)).toEqual([0, 4, 4, 8, 8]);
  expect([0, 1, 8, 9].map(F.padTo8)).toEqual([0, 8, 8, 16]);
});
