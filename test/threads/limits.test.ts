import { Queue, TestClock, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { board, handler, open, openEngine, reached, start, until } from './support.js';

describe('order', () => {
  test('strict priority, and first in first out within one, at concurrency 1', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    const expected: { number: number; priority: number }[] = [];
    let seed = 42;
    const items = Array.from({ length: 1000 }, (_, number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      const priority = (seed % 7) - 3;
      expected.push({ number, priority });
      return { name: 'order', data: { next: 1, number }, opts: { priority } };
    });
    const jobs = await queue.addBulk(items);
    new Worker('work', handler('tasks.js'), { connection: engine, threads: 1 });
    await queue.finished(jobs);
    expected.sort((a, b) => b.priority - a.priority || a.number - b.number);
    expect([...board.subarray(2, 1002)]).toEqual(expected.map(({ number }) => number));
  });

  test('a later job of higher priority is next', async () => {
    const { queue } = await start('tasks.js');
    await queue.add('gate', { started: 2000, gate: 2001 });
    await reached(2000, 1);
    const low = await queue.addBulk(
      Array.from({ length: 10 }, (_, i) => ({ name: 'order', data: { next: 1, number: i + 1 } })),
    );
    const high = await queue.add('order', { next: 1, number: 100 }, { priority: 1 });
    open(2001);
    await queue.finished([...low, high]);
    expect([...board.subarray(2, 13)]).toEqual([100, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test('given back jobs come first of their priority', async () => {
    const { queue, worker, engine } = await start('tasks.js', { concurrency: 1, abortGrace: 20 });
    const first = await queue.add('gate', { started: 2000, gate: 2001 });
    await reached(2000, 1);
    const rest = await queue.addBulk([
      { name: 'order', data: { next: 1, number: 1 } },
      { name: 'order', data: { next: 1, number: 2 } },
    ]);
    await worker.close(true);
    const again = new Worker('work', handler('tasks.js'), { connection: engine, threads: 1 });
    await reached(2000, 2); // the first one again, not those behind it
    expect(board[1]).toBe(0);
    open(2001);
    await queue.finished([first, ...rest]);
    await again.close();
  });
});

describe('the concurrency of a queue', () => {
  test.each([1, 2, 5])('of %i holds over two threads, a function Worker, and bulks', async (limit) => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    await queue.setConcurrency(limit);
    const { worker } = await start('tasks.js', { engine, threads: 2, concurrency: 20 });
    const jobs = await queue.addBulk(
      Array.from({ length: 600 }, () => ({ name: 'crowd', data: { inside: 1, peak: 2 } })),
    );
    const second = new Worker('work', handler('tasks.js'), { connection: engine, threads: 1, concurrency: 10 });
    await queue.finished(jobs);
    expect(board[2]).toBe(limit);
    await Promise.all([worker.close(), second.close()]);
  });

  test('lowered, then raised, while jobs run', async () => {
    const { queue } = await start('tasks.js', { threads: 2, concurrency: 12 });
    await queue.setConcurrency(8);
    const first = await queue.addBulk(
      Array.from({ length: 8 }, () => ({ name: 'gate', data: { started: 1, gate: 2 } })),
    );
    await reached(1, 8);
    await queue.setConcurrency(3);
    const second = await queue.addBulk(
      Array.from({ length: 100 }, () => ({ name: 'crowd', data: { inside: 3, peak: 4 } })),
    );
    open(2);
    await queue.finished([...first, ...second]);
    expect(board[4]).toBeLessThanOrEqual(3);
    await queue.setConcurrency(6);
    board[4] = 0;
    await queue.finished(
      await queue.addBulk(
        Array.from({ length: 300 }, () => ({ name: 'crowd', data: { inside: 3, peak: 4, turns: 5 } })),
      ),
    );
    expect(board[4]).toBeLessThanOrEqual(6);
    expect(board[4]).toBeGreaterThan(3);
  });

  test('a thread that dies gives its permits back', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    await queue.setConcurrency(2);
    await start('tasks.js', { engine, threads: 2, concurrency: 2 });
    for (let round = 0; round < 4; round++) {
      await queue.addAndWait('exits', {}, { maxDeliveries: 1 }).catch(() => {});
    }
    const both = await queue.addBulk(
      Array.from({ length: 2 }, () => ({ name: 'gate', data: { started: 1, gate: 2 } })),
    );
    await reached(1, 2);
    open(2);
    await queue.finished(both);
  });
});

describe('delays and rate limits, driven by a TestClock', () => {
  test('a delayed job starts on a thread when it is due, and not before', async () => {
    const clock = new TestClock();
    const engine = await openEngine({ clock });
    const { queue } = await start('tasks.js', { engine });
    const job = await queue.add('echo', 'due', { delay: 60_000 });
    await clock.advance(59_999);
    expect(await queue.addAndWait('echo', 'meanwhile')).toBe('meanwhile');
    expect(await job.getState()).toBe('delayed');
    await clock.advance(1);
    expect(await queue.finished(job)).toBe('due');
  });

  test('a retry waits its backoff', async () => {
    const clock = new TestClock();
    const engine = await openEngine({ clock });
    const { queue } = await start('tasks.js', { engine });
    const job = await queue.add('fails', 0, { attempts: 3, backoff: { type: 'exponential', delay: 1000 } });
    for (const ms of [1000, 2000]) {
      await until(async () => (await job.getState()) === 'delayed');
      await clock.advance(ms - 1);
      expect(await job.getState()).toBe('delayed');
      await clock.advance(1);
    }
    await expect(queue.finished(job)).rejects.toThrow('it fails');
  });

  test('the rate limit holds over threads, in every window', async () => {
    const clock = new TestClock();
    const engine = await openEngine({ clock });
    const { queue } = await start('tasks.js', { engine, threads: 2, concurrency: 10 });
    await queue.setRateLimit({ max: 5, duration: 1000 });
    const jobs = await queue.addBulk(
      Array.from({ length: 20 }, () => ({ name: 'gate', data: { started: 1, gate: 2 } })),
    );
    open(2);
    for (let window = 1; window <= 4; window++) {
      await reached(1, 5 * window);
      await clock.advance(999);
      expect(board[1]).toBe(5 * window);
      await clock.advance(1);
    }
    await queue.finished(jobs);
    const times = (await Promise.all(jobs.map(({ id }) => queue.getJob(id)))).map((job) => job?.processedOn ?? 0);
    times.sort((a, b) => a - b);
    for (let i = 5; i < times.length; i++) expect(times[i]! - times[i - 5]!).toBeGreaterThanOrEqual(1000);
  });

  test('timeouts on threads follow it', async () => {
    const clock = new TestClock();
    const engine = await openEngine({ clock });
    const { queue } = await start('tasks.js', { engine, concurrency: 2 });
    const job = await queue.add('obedient', { started: 1, gate: 2 }, { timeout: 60_000 });
    await reached(1, 1);
    await queue.addAndWait('echo', 0); // what the thread had to say before this has been heard: the start too
    await clock.advance(60_000);
    await expect(queue.finished(job)).rejects.toThrow(/timeout of 60000 ms/);
  });
});

test('the rate limit holds over threads in real time', async () => {
  const { queue } = await start('tasks.js', { threads: 2, concurrency: 10 });
  await queue.setRateLimit({ max: 20, duration: 100 });
  const jobs = await queue.addBulk(Array.from({ length: 120 }, (_, i) => ({ name: 'echo', data: i })));
  await queue.finished(jobs);
  const times = (await Promise.all(jobs.map(({ id }) => queue.getJob(id)))).map((job) => job?.processedOn ?? 0);
  times.sort((a, b) => a - b);
  for (let i = 20; i < times.length; i++) expect(times[i]! - times[i - 20]!).toBeGreaterThanOrEqual(100);
  expect(times.at(-1)! - times[0]!).toBeLessThan(2000);
});
