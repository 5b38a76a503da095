import { Queue, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { AttachedThread } from './attached.js';
import { board, handler, open, openEngine, reached, start, until } from './support.js';

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);

async function read(queue: Queue, id: string): Promise<unknown[]> {
  const job = await queue.getJob(id);
  const seen: unknown[] = [];
  for await (const chunk of job!.stream()) seen.push(chunk);
  return seen;
}

describe('what a handler in a thread emits', () => {
  test.each([true, false])('arrives in order and before the end (it waits for room: %s)', async (waits) => {
    const { queue } = await start('tasks.js');
    await queue.pause();
    const job = await queue.add('emits', { count: 700, waits });
    const got = read(queue, job.id);
    await queue.resume();
    expect(await got).toEqual(numbers(700));
    expect(await queue.finished(job)).toBe(700);
  });

  test('reaches a handler in another thread', async () => {
    const { queue } = await start('tasks.js', { threads: 2 });
    await queue.pause();
    const job = await queue.add('emits', { count: 1500, waits: true });
    const reader = await queue.add('reads', { queue: 'work', id: job.id }, { priority: 1 });
    await queue.resume();
    expect(await queue.finished(reader)).toEqual(numbers(1500));
  });

  test('goes on when the thread that read it has ended', async () => {
    const { engine, queue } = await start('tasks.js');
    const other = new Worker('readers', handler('tasks.js'), { connection: engine, threads: 1 });
    await other.waitUntilReady();
    await queue.pause();
    const job = await queue.add('emits', { count: 3000, waits: true });
    await new Queue('readers', { connection: engine }).add('reads', { queue: 'work', id: job.id });
    await until(() => engine.state.streams.size === 1);
    await other.close({ timeout: 0 });
    await queue.resume();
    expect(await queue.finished(job)).toBe(3000);
  });
});

describe('events of a Worker whose handler is a file', () => {
  test('progress', async () => {
    const { queue, worker } = await start('tasks.js');
    const told: unknown[] = [];
    worker.on('progress', (job, progress) => told.push([job.id, progress]));
    const job = await queue.add('tells', 0);
    await queue.finished(job);
    expect(told).toEqual([
      [job.id, 50],
      [job.id, { done: 'nearly' }],
    ]);
  });

  test('stalled', async () => {
    const { queue, worker } = await start('tasks.js');
    const told: string[] = [];
    worker.on('stalled', (job) => told.push(job.id));
    const job = await queue.add('exitsAtFirst', { runs: 1, times: 1 });
    expect(await queue.finished(job)).toBe(2);
    expect(told).toEqual([job.id]);
  });
});

test('late: a Worker in a thread of the user hears of it there', async () => {
  const engine = await openEngine();
  const queue = new Queue('work', { connection: engine });
  const thread = await AttachedThread.open(engine);
  await thread.call('work', { started: 1, gate: 2, tellLate: true, opts: { abortGrace: 10 } });
  const job = await queue.add('job', 1);
  await reached(1, 1);
  await queue.cancel(job);
  await until(async () => (await job.getState()) === 'cancelled');
  open(2);
  await until(() => thread.events.length > 0);
  expect(thread.events).toEqual([{ late: job.id }]);
  expect(board[1]).toBe(1);
});

test('a file that does not load: waitUntilReady rejects with why, and `ready` is not told', async () => {
  const engine = await openEngine();
  const worker = new Worker('work', handler('nothing.js'), { connection: engine, threads: 2 });
  let isReady = false;
  worker.on('error', () => {});
  worker.on('ready', () => {
    isReady = true;
  });
  await expect(worker.waitUntilReady()).rejects.toThrow(/must export its handler as default/);
  await expect(worker.waitUntilReady()).rejects.toThrow(/must export its handler as default/);
  expect(isReady).toBe(false);
  expect(worker.isRunning()).toBe(true);
});
