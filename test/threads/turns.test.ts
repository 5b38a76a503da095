/** What holds over several threads of a queue: turns of groups and their limits, and the circuit breaker. */
import { Queue, QueueEvents, TestClock, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { board, handler, open, openEngine, reached, start, until } from './support.js';

const UP = 10;
const CALLS = 11;

describe('the circuit breaker', () => {
  test('a service that is down for 5 s is called no more often than threshold, in flight and probes; no attempt is wasted', async () => {
    const clock = new TestClock();
    const engine = await openEngine({ clock });
    const threads = 4;
    const { queue } = await start('tasks.js', {
      engine,
      threads,
      concurrency: 4,
      circuitBreaker: { threshold: 5, timeout: 1000, timeoutMax: 1000 },
    });
    open(UP);
    const call = { name: 'service', data: { up: UP, calls: CALLS }, opts: { attempts: 3 } };
    await queue.finished(await queue.addBulk(Array.from({ length: 50 }, () => call)));
    const before = board[CALLS]!;
    board[UP] = 0;
    const jobs = await queue.addBulk(Array.from({ length: 200 }, () => call));
    await until(async () => (await queue.getCircuitBreaker())?.state === 'open', 'the breaker is open');
    let probes = 0;
    const events = new QueueEvents('work', { connection: engine });
    events.on('breaker:half-open', () => void probes++);
    await events.waitUntilReady();
    for (let ms = 0; ms < 5000; ms += 500) {
      await clock.advance(500);
      await until(async () => (await queue.getCircuitBreaker())?.state === 'open', 'the probe has failed');
    }
    await events.close();
    expect(probes).toBeGreaterThan(1);
    const during = board[CALLS]! - before;
    expect(during).toBeLessThanOrEqual(5 + threads + probes);
    const attempts = async () => {
      const all = await Promise.all(jobs.map((job) => queue.getJob(job)));
      return all.reduce((sum, job) => sum + (job?.attemptsMade ?? 0), 0);
    };
    expect(await attempts()).toBe(during);
    open(UP);
    await clock.advance(1000);
    await queue.finished(jobs);
    expect(board[CALLS]! - before).toBe(200 + during);
  });

  test('a probe whose thread dies is a failure, and its place is free for the next', async () => {
    const clock = new TestClock();
    const engine = await openEngine({ clock });
    const { queue } = await start('tasks.js', {
      engine,
      threads: 2,
      circuitBreaker: { threshold: 1, timeout: 1000, timeoutMax: 1000 },
    });
    await queue.addAndWait('fails', 0).catch(() => {});
    expect((await queue.getCircuitBreaker())?.state).toBe('open');
    const deadly = await queue.add('exits', {}, { maxDeliveries: 1 });
    await clock.advance(1000);
    await queue.finished(deadly).catch(() => {});
    expect((await queue.getCircuitBreaker())?.state).toBe('open');
    const next = queue.addAndWait('echo', 'served');
    await clock.advance(1000);
    expect(await next).toBe('served');
    expect((await queue.getCircuitBreaker())?.state).toBe('closed');
  });

  test('is one for threads and functions of its key', async () => {
    const engine = await openEngine();
    const breaker = { key: 'service', threshold: 2, timeout: 60_000 };
    const { queue } = await start('tasks.js', { engine, threads: 2, circuitBreaker: breaker });
    let calls = 0;
    const other = new Worker('other', () => calls++, { connection: engine, circuitBreaker: breaker });
    await other.waitUntilReady();
    await queue.finished(await queue.addBulk([{ name: 'fails', data: 0 }]), { settled: true });
    await queue.finished(await queue.addBulk([{ name: 'fails', data: 0 }]), { settled: true });
    const job = await new Queue('other', { connection: engine }).add('a', 1);
    await queue.add('echo', 1);
    expect((await queue.getCircuitBreaker('service'))?.state).toBe('open');
    expect(await job.getState()).toBe('waiting');
    await queue.closeCircuitBreaker('service');
    await job.waitUntilFinished();
    expect(calls).toBe(1);
  });

  test('a handler file says by its settings what counts', async () => {
    const engine = await openEngine();
    const { queue } = await start('settings.js', { engine, circuitBreaker: { threshold: 1, timeout: 60_000 } });
    await queue.addAndWait('fails', { message: 'not found' }).catch(() => {});
    expect((await queue.getCircuitBreaker())?.state).toBe('closed');
  });
});

describe('groups', () => {
  test('no group runs more than its concurrency over threads, and all jobs run', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    await queue.configure({ groups: { concurrency: 2 } });
    await start('tasks.js', { engine, threads: 2, concurrency: 20 });
    const jobs = await queue.addBulk(
      Array.from({ length: 400 }, (_, i) => ({
        name: 'crowd',
        data: { inside: 100 + (i % 4) * 2, peak: 101 + (i % 4) * 2, turns: 3 },
        opts: { group: { id: `g${i % 4}` } },
      })),
    );
    await queue.finished(jobs);
    for (let group = 0; group < 4; group++) {
      expect(board[101 + group * 2]).toBeGreaterThan(0);
      expect(board[101 + group * 2]).toBeLessThanOrEqual(2);
    }
  });

  test('the rate of a group holds in every window, over threads', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    await queue.configure({ groups: { rateLimit: { max: 10, duration: 50 } } });
    await start('tasks.js', { engine, threads: 2, concurrency: 10 });
    const jobs = await queue.addBulk(
      Array.from({ length: 90 }, (_, i) => ({ name: 'echo', data: i, opts: { group: { id: `g${i % 3}` } } })),
    );
    await queue.finished(jobs);
    const done = await Promise.all(jobs.map((job) => queue.getJob(job)));
    for (let group = 0; group < 3; group++) {
      const times = done.filter((_, i) => i % 3 === group).map((job) => job!.processedOn!);
      times.sort((a, b) => a - b);
      for (let i = 10; i < times.length; i++) expect(times[i]! - times[i - 10]!).toBeGreaterThanOrEqual(50);
    }
  });

  test('a thread that dies gives the places of its groups back', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    await queue.configure({ groups: { concurrency: 1 } });
    await start('tasks.js', { engine, threads: 2, concurrency: 2 });
    const group = { id: 'g' };
    for (let round = 0; round < 3; round++) {
      await queue.addAndWait('exits', {}, { maxDeliveries: 1, group }).catch(() => {});
    }
    expect(await queue.addAndWait('echo', 'alive', { group })).toBe('alive');
  });

  test('take turns at a concurrency of 1', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    await queue.pause();
    const names = ['a', 'a', 'a', 'b', 'b', 'c'];
    const jobs = await queue.addBulk(
      names.map((id, i) => ({ name: 'order', data: { next: 1, number: i + 1 }, opts: { group: { id } } })),
    );
    new Worker('work', handler('tasks.js'), { connection: engine, threads: 1 });
    await queue.resume();
    await queue.finished(jobs);
    expect([...board.subarray(2, 8)]).toEqual([1, 4, 6, 2, 5, 3]);
    await reached(1, 6);
  });
});
