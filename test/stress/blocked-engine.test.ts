/** The engine's thread does something else for a while, again and again: threads work on, and what they did counts. */
import { expect, test } from 'vitest';
import { Field, SCALE, type Temper } from './field.js';
import { ledger } from './ledger.js';

const MIXED: readonly Temper[] = ['works', 'works', 'works', 'works', 'works', 'works', 'computes', 'flaky', 'fails'];

const nothing = new Int32Array(new SharedArrayBuffer(4));

/** As a long computation would. */
function block(ms: number): void {
  Atomics.wait(nothing, 0, 0, ms);
}

test.each([false, true])('no job is lost, none runs twice at a time; somebody reads the events: %s', async (events) => {
  const field = await Field.open({ events });
  await field.queue().setConcurrency(16);
  const worker = field.fileWorker({ threads: 2, concurrency: 24 });
  await worker.waitUntilReady();
  await field.add(1500 * SCALE, MIXED);
  await field.add(6 * SCALE, ['spins', 'hangs', 'exits']);
  const ended = field.ended();
  let went = 0;
  await field.whileUnder(6 * SCALE, 200, ended, () => {
    if (field.random(2) === 0) field.endThread();
    const before = ledger.progress;
    block(100 + field.random(200));
    went += ledger.progress - before;
  });
  await ended;
  expect(went).toBeGreaterThan(0); // threads went on while the engine did not
  expect(field.fullestOf('work')).toBeLessThanOrEqual(16);
  await field.reckon({ permits: 16 });
});
