/** Threads of file Workers, under jobs that end them and a test that ends them too. */
import { expect, test } from 'vitest';
import { Field, SCALE, type Temper } from './field.js';
import { ledger } from './ledger.js';

const MIXED: readonly Temper[] = [
  ...Array.from({ length: 24 }, (): Temper => 'works'),
  ...Array.from({ length: 8 }, (): Temper => 'computes'),
  ...Array.from({ length: 6 }, (): Temper => 'flaky'),
  'fails',
  'refuses',
  'later',
];
const HEAVY: readonly Temper[] = ['spins', 'hangs', 'exits', 'throws', 'rejects'];

test.each([false, true])('no job is lost, none runs twice at a time; somebody reads the events: %s', async (events) => {
  const field = await Field.open({ events });
  field.fileWorker({ threads: 3, concurrency: 12 });
  await field.add(500 * SCALE, MIXED);
  await field.add(10 * SCALE, HEAVY);
  await field.add(1, ['eats']);
  await field.add(1, ['poison']);
  const ended = field.ended();
  const killed = await field.endThreads(15 * SCALE, 40, ended);
  await ended;
  expect(killed).toBeGreaterThan(0);
  expect(ledger.replaced).toBeGreaterThan(0);
  await field.reckon();
});
