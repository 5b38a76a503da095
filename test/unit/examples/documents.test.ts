import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildIndex, nearest } from '../../../examples/demo/collect.js';
import { cpuMsOf } from '../../../examples/demo/cpu.js';
import { passagesOf, walk } from '../../../examples/demo/documents.js';
import { DIMENSIONS } from '../../../examples/demo/embedding.js';

describe('walk', () => {
  let folder = '';
  const all = { documentsMax: 1000, passageBytesMax: 0 };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flashq-walk-'));
    await mkdir(join(folder, 'guide'));
    await mkdir(join(folder, '.hidden'));
    await writeFile(join(folder, 'b.md'), '# Title\n');
    await writeFile(join(folder, 'a.ts'), 'export const x = 1;\n');
    await writeFile(join(folder, 'guide', 'long.txt'), 'one line\n'.repeat(100));
    await writeFile(join(folder, 'blank.txt'), ' \n\t\n');
    await writeFile(join(folder, 'really-binary.txt'), Buffer.from([65, 0, 66]));
    await writeFile(join(folder, 'picture.png'), 'not looked at');
    await writeFile(join(folder, 'big.json'), ' 1'.repeat(200_000));
    await writeFile(join(folder, '.hidden', 'c.md'), 'unseen');
  });

  afterAll(() => rm(folder, { recursive: true }));

  test('finds text files in the order of their names and says what it left out', async () => {
    const found = await walk(folder, all);
    expect(found.documents.map(({ name }) => name)).toEqual(['a.ts', 'b.md', 'guide/long.txt']);
    expect(found.files).toBe(3);
    expect(found.bytes).toBe(20 + 8 + 900);
    expect(found.skipped).toEqual({ tooLarge: 1, binary: 1, empty: 1, unreadable: 0 });
  });

  test('divides a long file and names its passages by their first line', async () => {
    const { documents } = await walk(folder, { ...all, passageBytesMax: 400 });
    expect(documents.map(({ name }) => name)).toEqual([
      'a.ts',
      'b.md',
      'guide/long.txt',
      'guide/long.txt:45',
      'guide/long.txt:89',
    ]);
  });

  test('stops at the limit', async () => {
    expect((await walk(folder, { documentsMax: 2, passageBytesMax: 400 })).documents).toHaveLength(2);
  });
});

describe('passagesOf', () => {
  test('covers every byte that is not blank once, within the limit, and cuts no character', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', maxLength: 200 }),
        fc.integer({ min: 4, max: 60 }),
        (text, bytesMax) => {
          const content = Buffer.from(text);
          let end = 0;
          let kept = '';
          for (const { start, length, line } of passagesOf(content, bytesMax)) {
            expect(start).toBeGreaterThanOrEqual(end);
            expect(length).toBeLessThanOrEqual(bytesMax);
            expect(content.subarray(end, start).toString('latin1').trim()).toBe('');
            expect(line).toBe(content.subarray(0, start).toString('latin1').split('\n').length);
            kept += content.toString('utf8', start, start + length);
            end = start + length;
          }
          if (content.length > bytesMax) expect(content.subarray(end).toString('latin1').trim()).toBe('');
          expect(kept.includes('\ufffd')).toBe(text.includes('\ufffd'));
        },
      ),
    );
  });
});

describe('the index', () => {
  const row = (at: number): Float32Array => new Float32Array(DIMENSIONS).fill(1, at, at + 1);

  test('refuses a missing vector, a wrong one, and one too many', () => {
    expect(() => buildIndex(['a', 'b'], (at) => (at === 0 ? row(0) : undefined), 2)).toThrow('The result for b');
    expect(() => buildIndex(['a'], () => new Float32Array(3), 1)).toThrow('not a vector of 256');
    expect(() => buildIndex(['a'], row, 2)).toThrow('2 results for 1 documents');
  });

  test('gives the nearest first, and of a divided file one passage only', () => {
    const index = buildIndex(['x.md', 'x.md:40', 'y.md'], row, 3);
    const query = new Float32Array(DIMENSIONS);
    query.set([0.5, 0.8, 0.6]);
    expect(nearest(index, query, 5).map(({ name }) => name)).toEqual(['x.md:40', 'y.md']);
  });
});

test('the CPU time of a thread is read right whatever its name is', () => {
  const stat = '17 (a ) (b 1) S 1 17 17 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 11 0 1000 1 1';
  expect(cpuMsOf(stat)).toBe(3000);
});
