import { type Job, Queue, ValidationError, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { board, handler, open, openEngine, reached, start, until } from './support.js';

describe('concurrency', () => {
  test('is dealt over the threads: the sum runs at once, and no more', async () => {
    const { queue } = await start('tasks.js', { threads: 2, concurrency: 5 });
    const jobs = await queue.addBulk(
      Array.from({ length: 8 }, () => ({ name: 'gate', data: { started: 1, gate: 2 } })),
    );
    await reached(1, 5);
    expect(await queue.getJobCounts()).toMatchObject({ active: 5, waiting: 3 });
    open(2);
    await queue.finished(jobs);
    expect(board[1]).toBe(8);
  });

  test('defaults to one run a thread', async () => {
    const { queue, worker } = await start('tasks.js', { threads: 2 });
    expect(worker.concurrency).toBe(2);
    await queue.addBulk(Array.from({ length: 4 }, () => ({ name: 'gate', data: { started: 1, gate: 2 } })));
    await reached(1, 2);
    expect((await queue.getJobCounts()).active).toBe(2);
  });

  test('is raised while it runs', async () => {
    const { queue, worker } = await start('tasks.js', { threads: 2, concurrency: 2 });
    await queue.addBulk(Array.from({ length: 9 }, () => ({ name: 'gate', data: { started: 1, gate: 2 } })));
    await reached(1, 2);
    worker.concurrency = 7;
    await reached(1, 7);
    expect(await queue.getJobCounts()).toMatchObject({ active: 7, waiting: 2 });
  });

  test('is lowered while it runs: nothing is stopped, and no more start than that', async () => {
    const { queue, worker } = await start('tasks.js', { threads: 2, concurrency: 6 });
    const first = await queue.addBulk(
      Array.from({ length: 6 }, () => ({ name: 'gate', data: { started: 1, gate: 2 } })),
    );
    await reached(1, 6);
    worker.concurrency = 3;
    await worker.pause(true); // the threads have answered this, and so heard of that
    worker.resume();
    await queue.addBulk(Array.from({ length: 9 }, () => ({ name: 'gate', data: { started: 3, gate: 4 } })));
    open(2);
    await queue.finished(first);
    await reached(3, 3);
    expect(await queue.getJobCounts()).toMatchObject({ active: 3, waiting: 6 });
  });

  test('may be lower than the threads: some of them rest', async () => {
    const { queue, worker } = await start('tasks.js', { threads: 2, concurrency: 2 });
    worker.concurrency = 1;
    await worker.pause(true); // the threads have answered this, and so heard of that
    worker.resume();
    await queue.finished(
      await queue.addBulk(Array.from({ length: 20 }, () => ({ name: 'crowd', data: { inside: 1, peak: 2 } }))),
    );
    expect(board[2]).toBe(1);
  });

  test('lower than the threads at the start is refused', async () => {
    const engine = await openEngine();
    const worker = new Worker('work', handler('tasks.js'), {
      connection: engine,
      threads: 2,
      concurrency: 1,
      autorun: false,
    });
    await expect(worker.run()).rejects.toThrow(ValidationError);
  });

  test('set while the file loads counts from the start', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    const worker = new Worker('work', handler('gates-after-loading.js'), { connection: engine, threads: 1 });
    await reached(1, 1);
    worker.concurrency = 3;
    await queue.addBulk(Array.from({ length: 4 }, () => ({ name: 'job', data: 0 })));
    open(0);
    await reached(2, 3);
    expect(await queue.getJobCounts()).toMatchObject({ active: 3, waiting: 1 });
    open(3);
  });
});

describe('threadsMax', () => {
  test('bounds the threads of all Workers: one more is refused, at once', async () => {
    const engine = await openEngine({ threadsMax: 3 });
    const first = new Worker('a', handler('tasks.js'), { connection: engine, threads: 2 });
    await first.waitUntilReady();
    const second = new Worker('b', handler('tasks.js'), { connection: engine, threads: 2, autorun: false });
    await expect(second.run()).rejects.toThrow(/wants 2 threads, but 2 of the engine's threadsMax of 3 are taken/);
    const third = new Worker('b', handler('tasks.js'), { connection: engine, threads: 1 });
    await third.waitUntilReady();
    await first.close();
    void second.run();
    await until(() => second.isRunning() && engine.stats().threads === 3);
  });

  test('what a Worker without run() met reaches its error event', async () => {
    const engine = await openEngine({ threadsMax: 1 });
    const worker = new Worker('a', handler('tasks.js'), { connection: engine, threads: 2 });
    const error = await new Promise<Error>((resolve) => worker.on('error', resolve));
    expect(error).toBeInstanceOf(ValidationError);
  });
});

describe('recycling', () => {
  test('after so many jobs the thread is replaced, and no job is hurt', async () => {
    const { queue, errors } = await start('tasks.js', { concurrency: 2, recycle: { jobs: 5 } });
    const jobs = await queue.addBulk(Array.from({ length: 20 }, () => ({ name: 'thread', data: 0 })));
    const threads = (await queue.finished(jobs)) as number[];
    const counts = new Map<number, number>();
    for (const thread of threads) counts.set(thread, (counts.get(thread) ?? 0) + 1);
    expect(counts.size).toBeGreaterThanOrEqual(3);
    for (const count of counts.values()) expect(count).toBeLessThanOrEqual(6); // 5, and one beside the last
    expect((await queue.getJob(jobs[19]!.id))?.attemptsStarted).toBe(1);
    expect(errors).toEqual([]);
  });

  test('when its heap has grown too large', async () => {
    const { queue } = await start('tasks.js', { recycle: { heapMb: 40 } });
    // The heap is looked at every 64 jobs.
    const jobs = await queue.addBulk(
      Array.from({ length: 192 }, (_, i) => ({ name: i % 5 === 0 ? 'grows' : 'thread', data: 0 })),
    );
    expect(new Set(await queue.finished(jobs)).size).toBeGreaterThan(1);
  });

  test('a resume between its last job and its end does not start another', async () => {
    const { queue, worker } = await start('tasks.js', { concurrency: 2, recycle: { jobs: 1 } });
    const held = await queue.add('gate', { started: 1, gate: 2 });
    await reached(1, 1);
    await queue.addAndWait('thread', 0); // it is worn now, and waits for the held one
    await worker.pause(true);
    worker.resume();
    const after = await queue.add('gate', { started: 3, gate: 4 });
    open(2);
    await queue.finished(held);
    await reached(3, 1);
    open(4);
    expect(await queue.finished(after)).toBe('through');
    expect((await queue.getJob(after.id))?.attemptsStarted).toBe(1);
  });
});

describe('pause and resume', () => {
  test('pause waits for what runs; resume goes on', async () => {
    const { queue, worker } = await start('tasks.js', { threads: 2 });
    const held = await queue.add('gate', { started: 1, gate: 2 });
    await reached(1, 1);
    let paused = false;
    const pausing = worker.pause().then(() => {
      paused = true;
    });
    await worker.pause(true);
    const late = await queue.add('echo', 'later');
    expect(paused).toBe(false);
    open(2);
    expect(await queue.finished(held)).toBe('through');
    await pausing;
    expect(await late.getState()).toBe('waiting');
    expect(worker.isPaused()).toBe(true);
    worker.resume();
    expect(await queue.finished(late)).toBe('later');
  });

  test('pause(true) does not wait', async () => {
    const { queue, worker } = await start('tasks.js');
    await queue.add('gate', { started: 1, gate: 2 });
    await reached(1, 1);
    await worker.pause(true);
    expect((await queue.getJobCounts()).active).toBe(1);
  });

  test('while a thread is replaced: its successor is paused too', async () => {
    const { queue, worker, engine, errors } = await start('tasks.js', { concurrency: 2 });
    const held = await queue.add('gate', { started: 1, gate: 2 });
    await reached(1, 1);
    const pausing = worker.pause();
    await worker.pause(true);
    const job = await queue.add('echo', 1);
    await queue.cancel(held); // the gate ignores it: its thread is replaced
    await pausing;
    await until(() => engine.stats().threads === 1);
    expect(await job.getState()).toBe('waiting');
    worker.resume();
    expect(await queue.finished(job)).toBe(1);
    expect(errors).toEqual([]);
  });

  test('while the file loads', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    const worker = new Worker('work', handler('loads-slowly.js'), { connection: engine, threads: 1 });
    const job = await queue.add('job', 0);
    await reached(1, 1);
    await worker.pause();
    open(0);
    await worker.waitUntilReady();
    await worker.pause(); // has been answered by the thread
    expect(await job.getState()).toBe('waiting');
    worker.resume();
    expect(await queue.finished(job)).toBe('loaded at last');
  });
});

describe('events of a Worker on threads', () => {
  test('active, completed, failed, drained, with their jobs', async () => {
    const { queue, worker } = await start('tasks.js');
    const seen: unknown[] = [];
    worker.on('active', (job) => void seen.push(['active', job.name, job.data]));
    worker.on('completed', (job, result) => void seen.push(['completed', job.name, result, job.returnvalue]));
    worker.on('failed', (job, error) => void seen.push(['failed', job.name, error.message, job.attemptsMade]));
    let drained = 0;
    worker.on('drained', () => void drained++);
    await queue.addAndWait('echo', { a: 1 });
    await until(() => drained === 1);
    const failing = await queue.add('fails', { message: 'no' }, { attempts: 2 });
    await queue.finished(failing).catch(() => {});
    expect(seen).toEqual([
      ['active', 'echo', { a: 1 }],
      ['completed', 'echo', { a: 1 }, { a: 1 }],
      ['active', 'fails', { message: 'no' }],
      ['failed', 'fails', 'no', 1],
      ['active', 'fails', { message: 'no' }],
      ['failed', 'fails', 'no', 2],
    ]);
  });

  test('listeners come and go while it runs', async () => {
    const { queue, worker } = await start('tasks.js');
    const seen: Job[] = [];
    const listener = (job: Job) => void seen.push(job);
    await queue.addAndWait('echo', 1);
    worker.on('active', listener);
    await queue.addAndWait('echo', 2);
    worker.off('active', listener);
    await queue.addAndWait('echo', 3);
    expect(seen.map((job) => job.data)).toEqual([2]);
  });

  test('a listener that throws stops nothing', async () => {
    const { queue, worker } = await start('tasks.js');
    const warnings: Error[] = [];
    const warned = (warning: Error) => void warnings.push(warning);
    process.on('warning', warned);
    worker.on('completed', () => {
      throw new Error('listener');
    });
    expect(await queue.addAndWait('echo', 1)).toBe(1);
    expect(await queue.addAndWait('echo', 2)).toBe(2);
    await until(() => warnings.length === 2);
    process.off('warning', warned);
  });
});

test('many Workers of one queue share its jobs, each once', async () => {
  const { engine, queue } = await start('tasks.js', { threads: 2, concurrency: 8 });
  const other = new Worker('work', handler('tasks.js'), { connection: engine, threads: 1, concurrency: 4 });
  const inline: unknown[] = [];
  const third = new Worker('work', async (job) => void inline.push(job.data), { connection: engine });
  await Promise.all([other.waitUntilReady(), third.waitUntilReady()]);
  const jobs = await queue.addBulk(
    Array.from({ length: 3000 }, (_, i) => ({ name: 'exitsAtFirst', data: { runs: 100 + i, times: 0 } })),
  );
  await queue.finished(jobs);
  for (let i = 0; i < 3000; i++) {
    const here = inline.some((data) => (data as { runs: number }).runs === 100 + i) ? 1 : 0;
    expect(board[100 + i]! + here).toBe(1);
  }
});

test('a job does not wait for the parked thread that was woken for it and can not run: another takes it', async () => {
  const { queue } = await start('tasks.js', { threads: 2, concurrency: 2 });
  await queue.addAndWait('blocksAfter', { started: 0, gate: 1 });
  await reached(0, 1);
  for (let nth = 0; nth < 10; nth++) expect(await queue.addAndWait('echo', nth)).toBe(nth);
  expect(board[1]).toBe(0); // it is still blocked
  open(1);
});
