/** The limits of a queue hold while threads that use them up are ended. */
import { expect, test } from 'vitest';
import { Field, SCALE, type Temper } from './field.js';
import { densest, ledger } from './ledger.js';

const MIXED: readonly Temper[] = ['works', 'works', 'works', 'lingers', 'lingers', 'computes', 'flaky', 'fails'];
const HEAVY: readonly Temper[] = ['spins', 'hangs', 'exits', 'throws'];

test.each([1, 4])('no more than %i of the queue run at a time, and every permit comes back', async (limit) => {
  const field = await Field.open();
  await field.queue().setConcurrency(limit);
  await field.fileWorker({ threads: 3, concurrency: 24 }).waitUntilReady();
  await field.add(300 * SCALE, MIXED);
  const ended = field.ended();
  await field.endThreads(10 * SCALE, 30, ended);
  await ended;
  expect(ledger.replaced).toBeGreaterThan(0);
  expect(field.fullestOf('work')).toBe(limit);
  await field.reckon({ permits: limit });
});

test('permits of threads that end themselves come back, too', async () => {
  const field = await Field.open();
  await field.queue().setConcurrency(3);
  field.fileWorker({ threads: 2, concurrency: 8 });
  await field.add(200 * SCALE, MIXED);
  await field.add(8 * SCALE, HEAVY);
  await field.ended();
  expect(field.fullestOf('work')).toBeLessThanOrEqual(3);
  await field.reckon({ permits: 3 });
});

test('no window holds more starts than the rate limit', async () => {
  const field = await Field.open();
  const max = 30;
  const duration = 100;
  await field.queue().setRateLimit({ max, duration });
  await field.queue().setConcurrency(6);
  await field.fileWorker({ threads: 3, concurrency: 24 }).waitUntilReady();
  await field.functionWorker({ concurrency: 5 });
  await field.add(300 * SCALE, MIXED);
  const ended = field.ended();
  await field.endThreads(8 * SCALE, 30, ended);
  await ended;
  const most = densest(ledger.runs(), duration);
  expect(most).toBeLessThanOrEqual(max);
  expect(most).toBeGreaterThan(max / 2);
  expect(field.fullestOf('work')).toBeLessThanOrEqual(6);
  await field.queue().clearRateLimit();
  await field.reckon({ permits: 6 });
});
