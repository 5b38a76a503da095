import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Ledger } from '#engine/store/ledger.js';

/** Groups of 100 bytes, each with that many objects; the first batch of group n is at 10 n. */
function ledgerOf(...live: number[]): Ledger {
  const ledger = new Ledger();
  for (const [at, count] of live.entries()) {
    ledger.add(at + 1, (at + 1) * 10, 100);
    for (let n = 0; n < count; n++) ledger.hold(at + 1);
  }
  return ledger;
}

describe('what can go', () => {
  test('is what lies before the oldest group that is needed', () => {
    const ledger = ledgerOf(0, 0, 1, 0, 2);
    expect(ledger.oldestNeeded(5)).toBe(3);
    ledger.release(3);
    expect(ledger.oldestNeeded(5)).toBe(5);
  });

  test('is never the newest durable group, nor one behind it', () => {
    expect(ledgerOf(0, 0, 0).oldestNeeded(2)).toBe(2);
    expect(ledgerOf().oldestNeeded(0)).toBe(1);
  });

  test('is gone when it is dropped, with its bytes', () => {
    const ledger = ledgerOf(0, 0, 1, 1);
    expect(ledger.drop(3)).toBe(30);
    expect({ oldest: ledger.oldest, newest: ledger.newest, bytes: ledger.bytes }).toEqual({
      oldest: 3,
      newest: 4,
      bytes: 200,
    });
    expect(ledger.get(2)).toBeUndefined();
    expect(ledger.get(3)).toMatchObject({ number: 3, position: 30, live: 1 });
    ledger.release(2); // long gone: nothing to do
    expect(ledger.drop(1)).toBe(30);
  });
});

test('the middle is behind the older half of the bytes', () => {
  expect(ledgerOf(1, 1, 1, 1).middle()).toBe(3);
  const uneven = new Ledger();
  uneven.add(1, 1, 1000);
  uneven.add(2, 2, 10);
  uneven.add(3, 3, 10);
  expect(uneven.middle()).toBe(2);
});

test('it counts like a list of groups would, over any history', () => {
  const step = fc.record({
    hold: fc.boolean(),
    at: fc.double({ min: 0, max: 0.999, noNaN: true }),
    drop: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const ledger = new Ledger();
      let groups: { number: number; live: number }[] = [];
      let next = 1;
      for (const { hold, at, drop } of steps) {
        const group = groups[Math.floor(at * groups.length)];
        if (group === undefined || hold) {
          ledger.add(next, next * 10, 1);
          ledger.hold(next);
          groups.push({ number: next++, live: 1 });
        } else if (group.live > 0) {
          ledger.release(group.number);
          group.live--;
        }
        const newest = next - 1;
        const needed = groups.find(({ live, number }) => live > 0 || number === newest)!.number;
        expect(ledger.oldestNeeded(newest)).toBe(needed);
        if (!drop) continue;
        expect(ledger.drop(needed)).toBe(needed * 10);
        groups = groups.filter(({ number }) => number >= needed);
        expect([ledger.oldest, ledger.newest, ledger.bytes]).toEqual([needed, newest, groups.length]);
      }
    }),
  );
});
