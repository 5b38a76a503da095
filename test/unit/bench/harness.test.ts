import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Case,
  FULL,
  hashOf,
  hashOfIds,
  numberText,
  type Part,
  quantileOf,
  runPart,
  spreadOf,
  tableOf,
} from '../../../bench/harness.js';

const settings = { ...FULL, warmups: 1, repetitions: 5 };

/** A case that takes its values from a list; the warm-up's value must not show up anywhere. */
function scripted(name: string, values: readonly number[], log: string[] = [], count = 1): Case {
  const left = [999_999, ...values];
  return {
    name,
    unit: 'jobs/s',
    expected: { count: 1, hash: 7 },
    once: async () => {
      log.push(name);
      return { value: left.shift()!, count, hash: 7 };
    },
    close: async () => {
      log.push(`${name} closed`);
    },
  };
}

function partOf(cases: readonly Case[], rest: Partial<Awaited<ReturnType<Part['open']>>> = {}): Part {
  return { name: 'part', open: async () => ({ name: 'part', cases, ...rest }) };
}

describe('runPart', () => {
  test('cases take turns, every other turn backwards, and are closed in the end', async () => {
    const log: string[] = [];
    await runPart(
      partOf([scripted('a', [1, 1], log), scripted('b', [1, 1], log)]),
      { ...settings, repetitions: 2 },
      () => {},
    );
    expect(log).toEqual(['b', 'a', 'a', 'b', 'b', 'a', 'a closed', 'b closed']);
  });

  test('a ratio is the median of the ratios of one turn, so that drift cancels out', async () => {
    // Both slow down to a tenth, as on a machine that others use: the ratio of the medians would be 10.
    const cases = [scripted('ours', [100, 100, 100, 10, 10]), scripted('floor', [100, 100, 10, 10, 10])];
    const rows = await runPart(
      partOf(cases, { ratios: [{ of: 'ours', to: 'floor', atLeast: 0.6 }] }),
      settings,
      () => {},
    );
    expect(rows.at(-1)).toMatchObject({
      name: 'ours ÷ floor',
      median: 1,
      min: 1,
      max: 10,
      target: '≥ 0.6',
      reached: true,
    });
  });

  test('a case that did not do its work stops the run', async () => {
    const lazy = scripted('lazy', [1], [], 0);
    await expect(runPart(partOf([lazy]), settings, () => {})).rejects.toThrow(
      'lazy: the work was not done as expected',
    );
  });

  test('a missed target is shown as missed', async () => {
    const part = partOf([scripted('slow', [3, 3, 3, 3, 3])], { targets: [{ of: 'slow', atMost: 2 }] });
    const rows = await runPart(part, settings, () => {});
    expect(rows[0]).toMatchObject({ median: 3, target: '≤ 2', reached: false });
    expect(tableOf(rows)).toContain('| slow | 3.00 jobs/s | 3.00 to 3.00 | ≤ 2    | missed |');
  });
});

describe('figures', () => {
  test('median and quantiles', () => {
    expect(spreadOf([5, 1, 3])).toEqual({ median: 3, min: 1, max: 5 });
    expect(spreadOf([4, 1, 3, 2]).median).toBe(2.5);
    expect(quantileOf([0, 10], 0.99)).toBeCloseTo(9.9);
  });

  test('numbers are as exact as they deserve', () => {
    expect([1234567.8, 123.4, 12.34, 1.234, -4000].map(numberText)).toEqual([
      '1,234,568',
      '123',
      '12.3',
      '1.23',
      '-4,000',
    ]);
  });
});

describe('hashOf', () => {
  test('is the same in any order', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.infiniteStream(fc.nat()), (count, keys) => {
        const ids = Array.from({ length: count }, (_, id) => ({ id, key: keys.next().value as number }));
        ids.sort((a, b) => a.key - b.key);
        expect(ids.reduce((hash, { id }) => hashOf(hash, id), 0)).toBe(hashOfIds(count));
      }),
    );
  });

  test('tells a result that came twice in place of another', () => {
    const ids = [0, 1, 2, 3, 4, 4, 6];
    expect(ids.reduce(hashOf, 0)).not.toBe(hashOfIds(7));
  });
});
