/** A breaker that a thread has opened, before the engine hears of it by the outcome of the run. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Bench, bench, turn } from '../../support/engine.js';

let b: Bench;
beforeEach(async () => {
  b = await bench();
});
afterEach(() => b.close());

/** As a thread does whose run has failed. */
async function openedByThread(): Promise<void> {
  b.worker(() => 'done', { circuitBreaker: { threshold: 1, timeout: 1000 } });
  await turn();
  const { breakers, core } = b.engine.state;
  expect(core.wasm.breakerReport(breakers.find('q')!.address, 0, 1)).toBe(1);
}

test('closed by hand it lets go on what has met it open', async () => {
  await openedByThread();
  const job = await b.queue().add('a', 1);
  await turn();
  expect(await job.getState()).toBe('waiting');
  await b.queue().closeCircuitBreaker();
  await turn();
  expect(await job.getState()).toBe('completed');
});

test('who claims without it is told of the jobs for which others were woken', async () => {
  await openedByThread();
  const { core } = b.engine.state;
  const { wasm } = core;
  const woken: number[] = [];
  const wakeQueue = (queue: number, count: number): number => {
    woken.push(count);
    return wasm.wakeQueue(queue, count);
  };
  core.wasm = { ...wasm, wakeQueue };
  await b.queue().add('a', 1);
  expect(woken).toEqual([1]); // one thread, which may decline
  expect(b.engine.breakers()).toMatchObject([{ state: 'open' }]);
  expect(woken.at(-1)).toBeGreaterThan(1);
  core.wasm = wasm;
});
