import { EngineClosedError, JobFailedError, Queue, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { board, handler, open, openEngine, reached, start, until } from './support.js';

describe('closing a Worker on threads', () => {
  test('lets its jobs end, and starts no more', async () => {
    const { queue, worker, engine, errors } = await start('tasks.js', { threads: 2 });
    const held = await queue.addBulk(
      Array.from({ length: 2 }, () => ({ name: 'gate', data: { started: 1, gate: 2 } })),
    );
    await reached(1, 2);
    const seen: string[] = [];
    worker.on('closing', () => void seen.push('closing'));
    worker.on('closed', () => void seen.push('closed'));
    const closing = worker.close();
    const late = await queue.addBulk(Array.from({ length: 1000 }, (_, i) => ({ name: 'slowEcho', data: i })));
    open(2);
    await closing;
    expect(await queue.finished(held)).toEqual(['through', 'through']);
    // The threads hear of it a moment later; what they had begun until then has ended too.
    expect(await queue.getJobCounts()).toMatchObject({ active: 0, failed: 0 });
    expect((await queue.getJobCounts()).waiting).toBeGreaterThan(late.length / 2);
    expect(seen).toEqual(['closing', 'closed']);
    expect(engine.stats().threads).toBe(0);
    expect(errors).toEqual([]);
  });

  test('later calls wait for the first', async () => {
    const { worker } = await start('tasks.js');
    const first = worker.close();
    expect(worker.close(true)).toBe(first);
    await first;
    await worker.close();
    expect(worker.isRunning()).toBe(false);
    await expect(worker.waitUntilReady()).rejects.toThrow(EngineClosedError);
  });

  test('requeue: what obeys its signal after the timeout is given back, without an attempt', async () => {
    const { queue, worker, engine } = await start('tasks.js', { abortGrace: 5000 });
    const job = await queue.add('obedient', { started: 1, gate: 2 });
    await reached(1, 1);
    await worker.close({ timeout: 10 });
    expect(await job.getState()).toBe('waiting');
    const again = new Worker('work', handler('tasks.js'), { connection: engine, threads: 1 });
    open(2);
    expect(await queue.finished(job)).toBe('through');
    const record = await queue.getJob(job.id);
    expect([record?.attemptsMade, record?.attemptsStarted]).toEqual([0, 2]);
    await again.close();
  });

  test('requeue: what ignores its signal loses its thread', async () => {
    const { queue, worker, engine, errors } = await start('tasks.js', { threads: 2, abortGrace: 20 });
    const jobs = await queue.addBulk([
      { name: 'hangs', data: { started: 1 } },
      { name: 'spins', data: { started: 1 } },
    ]);
    await reached(1, 2);
    await worker.close({ timeout: 10 });
    for (const job of jobs) {
      expect(await job.getState()).toBe('waiting');
      expect((await queue.getJob(job.id))?.attemptsMade).toBe(0);
    }
    expect(engine.stats().threads).toBe(0);
    expect(errors).toEqual([]);
  });

  test('fail: what still runs after the timeout has failed an attempt', async () => {
    const { queue, worker } = await start('tasks.js', { threads: 2, concurrency: 2, abortGrace: 20 });
    const jobs = await queue.addBulk([
      { name: 'obedient', data: { started: 1, gate: 2 } },
      { name: 'hangs', data: { started: 1 } },
    ]);
    await reached(1, 2);
    await worker.close({ timeout: 10, onTimeout: 'fail' });
    for (const job of jobs) {
      await expect(queue.finished(job)).rejects.toThrow(JobFailedError);
      const record = await queue.getJob(job.id);
      expect([record?.attemptsMade, record?.dlq?.reason]).toEqual([1, 'attempts_exhausted']);
    }
  });

  test('wait: the timeout counts for nothing', async () => {
    const { queue, worker } = await start('tasks.js', { abortGrace: 0 });
    const job = await queue.add('gate', { started: 1, gate: 2 });
    await reached(1, 1);
    let closed = false;
    const closing = worker.close({ timeout: 0, onTimeout: 'wait' }).then(() => {
      closed = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 80)); // longer than any force would have waited
    expect(closed).toBe(false);
    open(2);
    await closing;
    expect(await queue.finished(job)).toBe('through');
  });

  test('close(true) gives everything back at once', async () => {
    const { queue, worker } = await start('tasks.js', { threads: 2, concurrency: 4, abortGrace: 60_000 });
    const jobs = await queue.addBulk(
      Array.from({ length: 4 }, () => ({ name: 'hangs', data: { started: 1 }, opts: { maxDeliveries: 1 } })),
    );
    await reached(1, 4);
    await worker.close(true);
    for (const job of jobs) expect(await job.getState()).toBe('waiting');
  });

  test('a completion while it closes counts', async () => {
    const { queue, worker } = await start('tasks.js', { abortGrace: 5000 });
    const job = await queue.add('stubborn', { started: 1 });
    await reached(1, 1);
    await worker.close({ timeout: 5 });
    expect(await queue.finished(job)).toBe('done all the same');
  });

  test('while its file loads: does not wait for it', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    const worker = new Worker('work', handler('loads-slowly.js'), { connection: engine, threads: 2 });
    let ready = false;
    worker.on('ready', () => {
      ready = true;
    });
    const job = await queue.add('job', 0);
    await reached(1, 2);
    await worker.close();
    expect(ready).toBe(false);
    expect(await job.getState()).toBe('waiting');
    expect(engine.stats().threads).toBe(0);
  });

  test('at once after it was made', async () => {
    const engine = await openEngine();
    const worker = new Worker('work', handler('tasks.js'), { connection: engine, threads: 2 });
    await worker.close();
    expect(engine.stats().threads).toBe(0);
    const second = new Worker('work', handler('tasks.js'), { connection: engine, threads: 1 });
    await Promise.resolve();
    await second.close();
    expect(engine.stats().threads).toBe(0);
  });

  test('while it backs off from a file that does not load', async () => {
    const { worker, errors, engine } = await start('syntax-error.js');
    await until(() => errors.length > 0 && engine.stats().threads === 0);
    await worker.close();
  });

  test('while a dead thread is being replaced', async () => {
    const { queue, worker, engine } = await start('tasks.js', { threads: 2 });
    const job = await queue.add('exits', { started: 1 }, { maxDeliveries: 50 });
    await reached(1, 1);
    await worker.close();
    expect(engine.stats().threads).toBe(0);
    expect(await job.getState()).toBe('waiting');
  });

  test('and opening another: the queue goes on, over and over', async () => {
    const { engine, queue, worker } = await start('tasks.js');
    await worker.close();
    for (let round = 0; round < 5; round++) {
      const next = new Worker('work', handler('tasks.js'), { connection: engine, threads: 1 });
      expect(await queue.addAndWait('echo', round)).toBe(round);
      await next.close();
    }
    expect(engine.stats().threads).toBe(0);
  });
});

describe('closing the engine', () => {
  test('closes its Workers, lets their jobs end, and rejects who still waits', async () => {
    const { engine, queue, worker } = await start('tasks.js', { threads: 2 });
    const held = await queue.add('gate', { started: 1, gate: 2 });
    await reached(1, 1);
    const result = queue.finished(held);
    const never = queue.finished(await queue.add('echo', 0, { delay: 3_600_000 }));
    never.catch(() => {});
    const closing = engine.close();
    expect(engine.close()).toBe(closing);
    open(2);
    await closing;
    expect(await result).toBe('through');
    await expect(never).rejects.toThrow(EngineClosedError);
    expect(worker.isRunning()).toBe(false);
    await expect(queue.add('echo', 0)).rejects.toThrow(EngineClosedError);
  });

  test('passes its options on to the Workers', async () => {
    const { engine, queue } = await start('tasks.js', { abortGrace: 10 });
    await queue.add('spins', { started: 1 });
    await reached(1, 1);
    await engine.close({ timeout: 1 });
    expect(engine.stats().threads).toBe(0);
  });

  test('while a Worker is starting', async () => {
    const engine = await openEngine();
    new Worker('work', handler('loads-slowly.js'), { connection: engine, threads: 1 });
    await reached(1, 1);
    await engine.close();
    expect(board[0]).toBe(0);
  });
});
