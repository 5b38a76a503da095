import { inspect } from 'node:util';
import { EngineFullError, JobFailedError, Queue, QueueEvents, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { board, handler, openEngine, start, until } from './support.js';

async function failedReason(queue: Queue, promise: Promise<unknown>): Promise<string | undefined> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(JobFailedError);
  return (await queue.getJob((error as JobFailedError).jobId))?.dlq?.reason;
}

describe('from inside a handler', () => {
  test('progress, logs and state go to the engine', async () => {
    const { engine, queue } = await start('tasks.js');
    const events = new QueueEvents('work', { connection: engine });
    const progress: unknown[] = [];
    events.on('progress', ({ data }) => void progress.push(data));
    await events.waitUntilReady();
    const job = await queue.add('tells', 0);
    expect(await queue.finished(job)).toEqual({ state: 'active', logs: ['half way', 'nearly there'] });
    const record = await queue.getJob(job.id);
    expect(record?.progress).toEqual({ done: 'nearly' });
    expect(await record?.getLogs()).toEqual(['half way', 'nearly there']);
    await until(() => progress.length === 2);
    expect(progress).toEqual([50, { done: 'nearly' }]);
    await events.close();
  });

  test("the job's data can be changed, and the next run has it", async () => {
    const { queue } = await start('tasks.js');
    const job = await queue.add('updates', { seen: false, big: 'x'.repeat(1000) }, { attempts: 2 });
    expect(await queue.finished(job)).toEqual({ seen: true, run: 2 });
    expect((await queue.getJob(job.id))?.data).toEqual({ seen: true });
  });

  test('the default connection is the engine that runs the handler: jobs add jobs and await them', async () => {
    const { engine, queue } = await start('tasks.js');
    const other = new Worker('other', handler('tasks.js'), { connection: engine, threads: 1 });
    await other.waitUntilReady();
    expect(await queue.addAndWait('adds', { queue: 'other' })).toEqual(['from a handler', 'and another']);
  });

  test('addAndWait on another queue, nested, at concurrency 1', async () => {
    const { engine, queue } = await start('tasks.js', { queueName: 'q0' });
    for (const name of ['q1', 'q2', 'q3']) new Worker(name, handler('tasks.js'), { connection: engine, threads: 1 });
    const names = ['q1', 'q2', 'q3'];
    expect(await queue.addAndWait('nests', { queue: names, depth: 3 })).toEqual([3, 2, 1, 'the bottom']);
  });

  test('waitFor lets the slot go: a queue of one thread and one slot waits for itself', async () => {
    const { queue } = await start('tasks.js', { concurrency: 1 });
    const job = await queue.add('waits', { queue: 'work' }, { attempts: 1, maxDeliveries: 1 });
    expect(await queue.finished(job)).toEqual({
      swallowed: 'FLASHQ_UNKNOWN_DEPENDENCY',
      results: [1, 2, 3],
      runs: 2,
    });
    expect((await queue.getJob(job.id))?.attemptsMade).toBe(0);
  });

  test('many handlers add many jobs at once', async () => {
    const { engine, queue } = await start('tasks.js', { threads: 2, concurrency: 50 });
    const inline = new Worker('other', async (job) => job.data, { connection: engine, concurrency: 100 });
    const results = await queue.finished(
      await queue.addBulk(Array.from({ length: 200 }, () => ({ name: 'adds', data: { queue: 'other' } }))),
    );
    expect(results).toHaveLength(200);
    expect((await new Queue('other', { connection: engine }).getJobCounts()).completed).toBe(400);
    await inline.close();
  });
});

describe('values', () => {
  const shared = { again: true };
  const all = {
    text: 'žluťoučký kůň 🐎',
    empty: '',
    numbers: [0, -1, 1.5, 2 ** 40, -(2 ** 40), Number.MAX_SAFE_INTEGER, Number.NaN, Number.POSITIVE_INFINITY],
    flags: [true, false, null],
    date: new Date(1_700_000_000_123),
    buffer: Buffer.from([0, 1, 254, 255]),
    bytes: new Uint8Array([1, 2, 3]),
    floats: new Float32Array([1.5, -2.5]),
    doubles: new Float64Array([Math.PI]),
    words: new Uint16Array([65535]),
    bigs: new BigInt64Array([-5n]),
    map: new Map<unknown, unknown>([
      ['a', 1],
      [2, new Set([3])],
    ]),
    set: new Set(['x', { y: 1 }]),
    bigints: [1n, -(2n ** 63n), 2n ** 64n - 1n],
    nested: [[[{ deep: [shared, shared] }]]],
    long: 'x'.repeat(200_000),
  };

  test('of every kind go to a thread and come back as they were', async () => {
    const { queue } = await start('tasks.js');
    const back = await queue.addAndWait('echo', all);
    expect(back).toEqual(all);
    const { floats, buffer, map } = back as typeof all;
    expect([floats, buffer, map].map((one) => one.constructor.name)).toEqual(['Float32Array', 'Buffer', 'Map']);
  });

  test.each([undefined, null, 0, '', false, [], {}, 'text', 12.5, 2n ** 40n].map((value) => [inspect(value), value]))(
    '%s alone',
    async (_, value) => {
      const { queue } = await start('tasks.js');
      expect(await queue.addAndWait('echo', value)).toEqual(value);
    },
  );

  test('errors keep name, message and cause', async () => {
    const { queue } = await start('tasks.js');
    const error = new TypeError('wrong', { cause: 'because' });
    const back = (await queue.addAndWait('echo', error)) as Error;
    expect(back).toBeInstanceOf(Error);
    expect([back.name, back.message]).toEqual(['TypeError', 'wrong']);
  });

  test('a result that can not be encoded fails the job for good: result_unserialisable', async () => {
    const { queue } = await start('tasks.js');
    const job = queue.addAndWait('returnsFunction', 0, { attempts: 5 });
    await expect(job).rejects.toThrow(/deep\.down/);
    expect(await failedReason(queue, job)).toBe('result_unserialisable');
    expect(await queue.addAndWait('echo', 'goes on')).toBe('goes on');
  });

  test('a result over the limit too', async () => {
    const engine = await openEngine({ payloadLimit: 10_000 });
    const { queue } = await start('tasks.js', { engine });
    expect(await queue.addAndWait('big', { bytes: 9000 })).toHaveLength(9000);
    const job = queue.addAndWait('big', { bytes: 11_000 }, { attempts: 5 });
    expect(await failedReason(queue, job)).toBe('result_unserialisable');
  });
});

describe('full memory', () => {
  const MEGABYTE = 1024 * 1024;

  test('results wait for memory, and no job is lost', async () => {
    const engine = await openEngine({ maxMemory: 16 * MEGABYTE });
    const { queue, errors } = await start('tasks.js', { engine, concurrency: 8, abortGrace: 20_000 });
    const jobs = await queue.addBulk(
      Array.from({ length: 12 }, () => ({ name: 'big', data: { bytes: 2 * MEGABYTE }, opts: { attempts: 1 } })),
    );
    // Twelve results of 2 MiB don't fit. Whoever reads one and removes its job makes room for another.
    const done = new Set<string>();
    await until(
      async () => {
        for (const job of jobs) {
          if (done.has(job.id) || (await job.getState()) !== 'completed') continue;
          expect(await queue.finished(job)).toHaveLength(2 * MEGABYTE);
          await queue.remove(job);
          done.add(job.id);
        }
        return done.size === jobs.length;
      },
      'every job done',
      18_000,
    );
    expect(errors).toEqual([]);
  });

  test('a result that finds none before its grace ends fails its attempt, naming EngineFullError', async () => {
    const engine = await openEngine({ maxMemory: 10 * MEGABYTE });
    const { queue } = await start('tasks.js', { engine, abortGrace: 50 });
    const held: unknown[] = [];
    for (;;) {
      try {
        held.push(await queue.add('echo', Buffer.alloc(MEGABYTE / 2), { delay: 3_600_000 }));
      } catch (error) {
        expect(error).toBeInstanceOf(EngineFullError);
        break;
      }
    }
    const job = await queue.add('big', { bytes: MEGABYTE }).catch(() => undefined);
    if (job === undefined) throw new Error('not even a small job fits');
    await expect(queue.finished(job)).rejects.toThrow(/memory is full/);
    await queue.drain(true);
    expect(await queue.addAndWait('big', { bytes: MEGABYTE })).toHaveLength(MEGABYTE);
    expect(board[0]).toBe(0);
  });
});
