import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Bench, bench } from '../support/engine.js';

let b: Bench;
beforeEach(async () => {
  b = await bench();
});
afterEach(() => b.close());

test('a loop of awaited adds lets the event loop turn', async () => {
  const queue = b.queue();
  let turns = 0;
  let isDone = false;
  const count = () => {
    turns++;
    if (!isDone) setImmediate(count);
  };
  setImmediate(count);
  for (let i = 0; i < 10_000; i++) await queue.add('a', i);
  isDone = true;
  expect(turns).toBeGreaterThanOrEqual(4);
});

test('handlers that never wait let the event loop turn', async () => {
  const queue = b.queue();
  let ran = 0;
  let atTurn = -1;
  const jobs = await queue.addBulk(Array.from({ length: 10_000 }, (_, i) => ({ name: 'a', data: i })));
  b.worker(() => void ran++);
  setImmediate(() => {
    atTurn = ran;
  });
  await queue.finished(jobs);
  expect(atTurn).toBeGreaterThanOrEqual(0);
  expect(atTurn).toBeLessThan(10_000);
});
