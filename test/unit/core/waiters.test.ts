/** Who waits for which slot. */

import { expect, test } from 'vitest';
import { OneWait, Waiters } from '#engine/jobs/waiters.js';
import { SystemClock } from '#engine/upkeep/clock.js';
import { KeepAlive } from '#engine/upkeep/keep-alive.js';

test('a wait is found under its slot alone, when slots far apart are waited for one after the other', () => {
  const waiters = new Waiters(new SystemClock(), new KeepAlive());
  const places = [1, 100_000, 5_000, 4_095, 4_096, 100_000, 1];
  for (const place of places) {
    const wait = new OneWait();
    waiters.add(wait, 0, place);
    for (const other of places) if (other !== place) expect(waiters.next(other)).toBe(false);
    expect(waiters.next(place)).toBe(true);
    expect(waiters.wait).toBe(wait);
    expect(waiters.next(place)).toBe(false);
  }
});

test('several waits for one slot are found in their order, and those of its neighbours stay', () => {
  const waiters = new Waiters(new SystemClock(), new KeepAlive());
  const [first, second, neighbour] = [new OneWait(), new OneWait(), new OneWait()];
  waiters.add(neighbour, 0, 8);
  waiters.add(first, 0, 7);
  waiters.add(second, 0, 7);
  for (const wait of [first, second]) {
    expect(waiters.next(7)).toBe(true);
    expect(waiters.wait).toBe(wait);
  }
  expect(waiters.next(7)).toBe(false);
  expect(waiters.next(8)).toBe(true);
  expect(waiters.wait).toBe(neighbour);
});
