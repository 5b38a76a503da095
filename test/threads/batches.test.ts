/** Batches on threads: as for functions, straight from shared memory. */
import { Queue, ValidationError, Worker } from 'flashq';
import { expect, test } from 'vitest';
import { board, handler, open, openEngine, reached, start, until } from './support.js';

const items = (count: number, name = 'echo', data: (i: number) => unknown = (i) => i) =>
  Array.from({ length: count }, (_, i) => ({ name, data: data(i) }));

test('each job gets its own result; batches are as large as they may be', async () => {
  const engine = await openEngine();
  const queue = new Queue('work', { connection: engine });
  const jobs = await queue.addBulk(items(1000));
  await start('batches.js', { engine, threads: 2, batch: { size: 50 } });
  const results = (await queue.finished(jobs)) as [number, number][];
  expect(results.map(([data]) => data)).toEqual(jobs.map((_, i) => i));
  expect(Math.max(...results.map(([, size]) => size))).toBe(50);
  expect(new Set(results.map(([, size]) => size)).size).toBeLessThan(10);
});

test('only those that were marked are retried', async () => {
  const { queue } = await start('batches.js', { batch: { size: 10 } });
  const jobs = await queue.addBulk(items(10, 'odd').map((item) => ({ ...item, opts: { attempts: 2 } })));
  expect(await queue.finished(jobs)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const attempts = (await Promise.all(jobs.map((job) => queue.getJob(job)))).map((job) => job?.attemptsMade);
  expect(attempts).toEqual([0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
});

test('jobs wait until there are enough of them, or long enough', async () => {
  const { queue } = await start('batches.js', { batch: { size: 10, minSize: 5, maxWait: 200 } });
  const first = await queue.addBulk(items(4));
  const [one] = (await queue.finished(first)) as [number, number][];
  expect(one![1]).toBe(4);
  const second = await queue.addBulk(items(5));
  expect(((await queue.finished(second)) as [number, number][])[0]![1]).toBe(5);
});

test('concurrency counts batches, the limit of the queue counts jobs', async () => {
  const engine = await openEngine();
  const queue = new Queue('work', { connection: engine });
  await queue.setConcurrency(7);
  await start('batches.js', { engine, threads: 2, concurrency: 2, batch: { size: 5 } });
  const jobs = await queue.addBulk(items(20, 'gate', () => ({ started: 1, gate: 2 })));
  await reached(1, 7);
  expect(board[1]).toBe(7);
  open(2);
  await queue.finished(jobs);
});

test('a job that ignores its end past the grace: its thread is replaced, the others of the batch run again', async () => {
  const { queue } = await start('batches.js', { abortGrace: 20, batch: { size: 3 } });
  await queue.pause();
  const jobs = await queue.addBulk(items(3, 'stubborn', () => ({ started: 1, gate: 2 })));
  await queue.resume();
  await reached(1, 3);
  expect(await queue.cancel(jobs[1]!)).toBe('aborting');
  await until(async () => (await jobs[1]!.getState()) === 'cancelled');
  await reached(1, 5);
  open(2);
  expect(await queue.finished([jobs[0]!, jobs[2]!])).toEqual(['done', 'done']);
  const others = await Promise.all([queue.getJob(jobs[0]!), queue.getJob(jobs[2]!)]);
  expect(others.map((job) => job?.attemptsMade)).toEqual([0, 0]);
});

test('a batch that ends its thread is lost as a whole, and each of its jobs counts it', async () => {
  const { queue } = await start('batches.js', { batch: { size: 3 } });
  await queue.pause();
  const jobs = await queue.addBulk(items(3, 'exits').map((item) => ({ ...item, opts: { maxDeliveries: 2 } })));
  await queue.resume();
  const settled = await queue.finished(jobs, { settled: true });
  expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  expect((await queue.getJob(jobs[0]!))?.dlq?.reason).toBe('worker_lost');
  expect(await queue.addAndWait('echo', 'alive')).toEqual(['alive', 1]);
});

test('a thread has room for 500', () => {
  expect(() => new Worker('work', handler('batches.js'), { batch: { size: 501 } })).toThrow(ValidationError);
});
