import { ConnectionError, Engine, Queue, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { type Core, L } from '#engine/core/index.js';
import { AttachedThread } from './attached.js';
import { board, handler, open, openEngine, reached, until } from './support.js';

async function opened() {
  const engine = await openEngine();
  const queue = new Queue('work', { connection: engine });
  const thread = await AttachedThread.open(engine);
  return { engine, queue, thread };
}

describe('adding from an attached thread', () => {
  test('one job: it is there when add resolves', async () => {
    const { queue, thread } = await opened();
    const job = await thread.call<{ id: string }>('add', { data: { a: new Date(5) }, opts: { priority: 7 } });
    const record = await queue.getJob(job.id);
    expect(record?.data).toEqual({ a: new Date(5) });
    expect(record?.priority).toBe(7);
  });

  test.each([true, false])('a bulk of 10,000, atomic %s', async (atomic) => {
    const { engine, queue, thread } = await opened();
    expect(await thread.call('addMany', { count: 10_000, atomic })).toBe(10_000);
    expect((await queue.getJobCounts()).waiting).toBe(10_000);
    const data: number[] = [];
    const worker = new Worker('work', (job) => void data.push(job.data), { connection: engine });
    await until(() => data.length === 10_000);
    expect(data.every((number, i) => number === i)).toBe(true);
    await worker.close();
  });

  test('many bulks at once keep apart', async () => {
    const { queue, thread } = await opened();
    const counts = [1, 700, 3, 2000, 1, 1, 999];
    expect(await Promise.all(counts.map((count) => thread.call('addMany', { count })))).toEqual(counts);
    expect((await queue.getJobCounts()).waiting).toBe(counts.reduce((sum, count) => sum + count));
  });

  test('an item that is refused refuses the whole when atomic', async () => {
    const { queue, thread } = await opened();
    const items = [
      { name: 'job', data: 1 },
      { name: 'job', data: 2, opts: { depends_on: ['j999999'] } },
      { name: 'job', data: 3 },
    ];
    const told = await thread.failing('addBulk', { items });
    expect(told).toMatchObject({ name: 'BulkError', errors: [{ index: 1, name: 'UnknownDependencyError' }] });
    expect((await queue.getJobCounts()).waiting).toBe(0);
  });

  test('and is left out otherwise, its place kept', async () => {
    const { queue, thread } = await opened();
    const items = [
      { name: 'job', data: 1 },
      { name: 'job', data: 'x'.repeat(11_000_000) },
      { name: 'job', data: 3, opts: { depends_on: ['j999999'] } },
      { name: 'job', data: 4 },
    ];
    const answers = await thread.call<{ ok: boolean; job?: { id: string } }[]>('addBulk', { items, atomic: false });
    expect(answers.map(({ ok }) => ok)).toEqual([true, false, false, true]);
    expect((await queue.getJob(answers[3]!.job!.id))?.data).toBe(4);
    expect((await queue.getJobCounts()).waiting).toBe(2);
  });

  test('too large an item refuses an atomic bulk', async () => {
    const { queue, thread } = await opened();
    const items = [
      { name: 'job', data: 1 },
      { name: 'job', data: 'x'.repeat(11_000_000) },
    ];
    expect(await thread.failing('addBulk', { items })).toMatchObject({
      errors: [{ index: 1, name: 'ValidationError' }],
    });
    expect((await queue.getJobCounts()).waiting).toBe(0);
    expect(await thread.call('addMany', { count: 5 })).toBe(5);
  });

  test('depends_on, across threads', async () => {
    const { engine, queue, thread } = await opened();
    const first = await queue.add('job', 'first', { delay: 3_600_000 });
    const job = await thread.call<{ id: string }>('add', { data: 'second', opts: { depends_on: [first.id] } });
    expect(await queue.getJobState(job.id)).toBe('blocked');
    const worker = new Worker('work', async (one) => [one.data, Object.values(await one.getDependencyResults())], {
      connection: engine,
    });
    await first.promote();
    expect(await queue.finished(job.id)).toEqual(['second', [['first', []]]]);
    await worker.close();
  });

  test('a jobId that is there gives that job', async () => {
    const { queue, thread } = await opened();
    await queue.add('job', 'mine', { jobId: 'only' });
    const job = await thread.call('add', { data: 'theirs', opts: { jobId: 'only' } });
    expect(job).toEqual({ id: 'only', data: 'mine', deduplicated: true });
    expect(await thread.failing('add', { data: 0, opts: { jobId: 'only', onDuplicate: 'error' } })).toMatchObject({
      name: 'DuplicateJobError',
    });
  });

  test('addAndWait, finished, and their errors', async () => {
    const { engine, queue, thread } = await opened();
    const worker = new Worker(
      'work',
      async (job) => {
        if (job.data === 'fail') throw new Error('as told');
        return { got: job.data };
      },
      { connection: engine },
    );
    expect(await thread.call('addAndWait', { data: 5n })).toEqual({ got: 5n });
    expect(await thread.failing('addAndWait', { data: 'fail' })).toMatchObject({
      name: 'JobFailedError',
      message: expect.stringContaining('as told'),
    });
    const jobs = await queue.addBulk([1, 2].map((data) => ({ name: 'job', data })));
    expect(await thread.call('finished', { refs: jobs.map(({ id }) => id) })).toEqual([{ got: 1 }, { got: 2 }]);
    const late = await queue.add('job', 0, { delay: 3_600_000 });
    expect(await thread.failing('finished', { refs: late.id, opts: { timeout: 5 } })).toMatchObject({
      name: 'WaitTimeoutError',
    });
    expect(
      await thread.failing('addAndWait', { data: 0, opts: { delay: 3_600_000 }, wait: { timeout: 5 } }),
    ).toMatchObject({ name: 'WaitTimeoutError' });
    await worker.close();
  });

  test('events reach the thread', async () => {
    const { engine, queue, thread } = await opened();
    await thread.call('events');
    const worker = new Worker('work', async (job) => job.data, { connection: engine });
    const job = await queue.add('job', 'seen');
    await until(() => thread.events.length === 1);
    expect(thread.events).toEqual([{ jobId: job.id, returnvalue: 'seen' }]);
    await worker.close();
  });
});

describe('working in an attached thread', () => {
  test('a function Worker claims there', async () => {
    const { engine, queue, thread } = await opened();
    await thread.call('work', { opts: { concurrency: 10 } });
    const results = await queue.finished(
      await queue.addBulk(Array.from({ length: 2000 }, (_, i) => ({ name: 'job', data: i }))),
    );
    expect(results).toEqual(Array.from({ length: 2000 }, (_, i) => ({ here: i })));
    await thread.call('closeWorkers');
    expect(engine.stats().threads).toBe(1);
    expect(await (await queue.add('job', 0)).getState()).toBe('waiting');
  });

  test('a thread that parks waits once: a second wait would stay, and take a wake-up from who has its place next', async () => {
    const engine = await openEngine();
    const attached = Engine.attach(engine.handle);
    const { core } = attached.connection as unknown as { core: Core };
    const queue = new Queue('here', { connection: attached });
    const worker = new Worker('here', (job) => job.data, { connection: attached }); // its runs end before they are waited for
    for (let i = 0; i < 5; i++) expect(await queue.addAndWait('job', i)).toBe(i);
    const parked = () =>
      [2, 3, 4].map((thread) => core.parkIndex(thread)).filter((at) => core.i32[at] === L.PARK_PARKED);
    await until(() => parked().length === 1);
    expect(Atomics.notify(core.i32, parked()[0] as number)).toBe(1);
    await worker.close();
    attached.close();
  });

  test('several Workers in one thread', async () => {
    const { engine, queue, thread } = await opened();
    await thread.call('work');
    await thread.call('work');
    expect(engine.stats().threads).toBe(3);
    const jobs = await queue.addBulk(Array.from({ length: 500 }, (_, i) => ({ name: 'job', data: i })));
    expect(await queue.finished(jobs)).toHaveLength(500);
  });

  test('a Worker with a file belongs to the thread that has the engine', async () => {
    const { thread } = await opened();
    const told = await thread.failing('fileWorker', { file: handler('tasks.js').pathname });
    expect(told).toMatchObject({ name: 'ConnectionError' });
  });

  test('the thread is terminated while it runs jobs: they are lost runs, and run elsewhere', async () => {
    const { engine, queue, thread } = await opened();
    await thread.call('work', { started: 1, gate: 2, opts: { concurrency: 5 } });
    const jobs = await queue.addBulk(Array.from({ length: 5 }, (_, i) => ({ name: 'job', data: i })));
    await reached(1, 5);
    await thread.terminate();
    const worker = new Worker('work', async (job) => job.data, { connection: engine });
    expect(await queue.finished(jobs)).toEqual([0, 1, 2, 3, 4]);
    expect((await queue.getJob(jobs[0]!.id))?.attemptsMade).toBe(0);
    await until(() => engine.stats().threads === 0);
    await worker.close();
  });

  test('the thread exits while it runs jobs', async () => {
    const { engine, queue, thread } = await opened();
    await thread.call('work', { started: 1, gate: 2 });
    const job = await queue.add('job', 0, { maxDeliveries: 1 });
    await reached(1, 1);
    void thread.call('exit');
    await expect(queue.finished(job)).rejects.toThrow(/worker died/);
    await until(() => engine.stats().threads === 0);
  });

  test('an attached engine that is closed gives its runs back: not lost', async () => {
    const { engine, queue, thread } = await opened();
    await thread.call('work', { started: 1, gate: 2 });
    const job = await queue.add('job', 'x', { maxDeliveries: 1 });
    await reached(1, 1);
    await thread.call('close');
    const worker = new Worker('work', async (one) => one.data, { connection: engine });
    expect(await queue.finished(job)).toBe('x');
    await until(() => thread.workerErrors.length === 1);
    expect(thread.workerErrors[0]).toMatchObject({ message: 'This connection to the engine has been closed' });
    open(2); // the handler there ends now; its outcome must go nowhere
    for (let round = 0; round < 5; round++) {
      const other = await AttachedThread.open(engine); // takes the index over
      expect(await other.call('addMany', { count: 100 })).toBe(100);
      await other.terminate();
    }
    await until(async () => (await queue.getJobCounts()).completed === 501);
    await worker.close();
  });
});

describe('the end of an attached thread', () => {
  test('calls after its close reject, and touch nothing', async () => {
    const { queue, thread } = await opened();
    await thread.call('add', { data: 1 });
    await thread.call('close');
    for (const command of ['add', 'addAndWait', 'counts']) {
      expect(await thread.failing(command, { data: 2 })).toMatchObject({ name: 'EngineClosedError' });
    }
    expect((await queue.getJobCounts()).waiting).toBe(1);
  });

  test('the engine is closed: calls under way and later ones reject', async () => {
    const { engine, thread } = await opened();
    await thread.call('add', { data: 1 });
    const waiting = thread.failing('addAndWait', { data: 0, opts: { delay: 3_600_000 } });
    await until(async () => (await thread.call<{ delayed: number }>('counts')).delayed === 1);
    await engine.close();
    expect(await waiting).toMatchObject({ name: 'EngineClosedError' });
    for (const command of ['add', 'addMany', 'counts']) {
      expect(await thread.failing(command, { data: 2, count: 5 })).toMatchObject({ name: 'EngineClosedError' });
    }
  });

  test.each([true, false])(
    'terminated in the middle of bulks (atomic %s): whole ones only, memory returns',
    async (atomic) => {
      const { engine, queue } = await opened();
      const whole = async () => {
        const { waiting } = await queue.getJobCounts();
        expect(waiting % 500).toBe(0);
        await queue.drain();
      };
      const round = async (n: number) => {
        const thread = await AttachedThread.open(engine);
        void thread.call('addsForEver', { cell: 1, atomic });
        await reached(1, board[1]! + 1 + (n % 3));
        await thread.terminate();
        await until(() => engine.stats().threads === 1);
        await whole();
      };
      for (let n = 0; n < 3; n++) await round(n);
      const { used } = engine.stats().memory;
      for (let n = 0; n < 8; n++) await round(n);
      // The engine's upkeep gives chunks back once a second.
      await until(() => engine.stats().memory.used <= used + 5 * 65536, 'the memory of before');
      expect(engine.stats().jobs).toBe(0);
    },
  );
});

describe('attaching', () => {
  test('without attach there is no engine in a thread', async () => {
    const thread = await AttachedThread.open();
    expect(await thread.failing('add', { data: 0 })).toMatchObject({ name: 'ConnectionError' });
  });

  test('needs a handle', async () => {
    for (const wrong of [undefined, {}, { flashq: 'x' }, 'handle']) {
      expect(() => Engine.attach(wrong as never)).toThrow(ConnectionError);
    }
  });

  test('refuses a handle of another version', async () => {
    const engine = await openEngine();
    const { handle } = engine;
    expect(() => Engine.attach({ ...handle, flashq: '0.0.0' })).toThrow(/0\.0\.0/);
    handle.port.close();
  });

  test('refuses a handle that has been used', async () => {
    const engine = await openEngine();
    const thread = await AttachedThread.open();
    const { handle } = engine;
    const told = thread.call('attach', { handle, twice: true }, [handle.port]);
    await expect(told).rejects.toMatchObject({ name: 'ConnectionError', message: expect.stringContaining('already') });
  });

  test('to an engine that is closed: calls reject', async () => {
    const engine = await openEngine();
    const thread = await AttachedThread.open();
    const { handle } = engine;
    const attaching = thread.call('attach', { handle }, [handle.port]);
    await engine.close();
    await attaching;
    expect(await thread.failing('add', { data: 0 })).toMatchObject({ name: 'EngineClosedError' });
    expect(() => engine.handle).toThrow(/closed/);
  });

  test('threads come and go: no place is kept', async () => {
    const engine = await openEngine();
    const before = engine.stats().memory.used;
    for (let round = 0; round < 6; round++) {
      const threads = await Promise.all([AttachedThread.open(engine), AttachedThread.open(engine)]);
      await Promise.all(threads.map((thread) => thread.call('counts')));
      await Promise.all(threads.map((thread) => thread.terminate()));
    }
    await until(() => engine.stats().threads === 0);
    expect(engine.stats().memory.used).toBeLessThanOrEqual(before + 4 * 65536);
  });
});

test('crons: the same calls, answers and errors as on the engine’s thread', async () => {
  const { queue, thread } = await opened();
  const method = <T = unknown>(name: string, ...args: unknown[]) => thread.call<T>('method', { name, args });
  const data = { at: new Date(5), set: new Set([1]) };
  const info = await method('addCron', 'c', { every: 3_600_000, data, opts: { priority: 3 } });
  expect([info]).toEqual(await queue.listCrons());
  expect(info).toMatchObject({ name: 'c', queue: 'work', data, opts: { priority: 3 }, runs: 0 });
  expect(await method('triggerCron', 'c')).toMatchObject({ name: 'c', data, priority: 3, cron: { backfilled: false } });
  await method('pauseCron', 'c');
  expect(await method('listCrons', { all: true })).toMatchObject([{ paused: true }]);
  await method('resumeCron', 'c');
  expect(await queue.listCrons()).toMatchObject([{ paused: false }]);
  const refused = await thread.failing('method', { name: 'addCron', args: ['d', { schedule: '0 0 31 2 *' }] });
  expect(refused).toMatchObject({ name: 'ValidationError', message: expect.stringContaining('0 0 31 2') });
  expect(await method('removeCron', 'c')).toBe(true);
  expect(await queue.listCrons({ all: true })).toEqual([]);
});

test('graphs: in one step, with its data and errors as on the engine’s thread', async () => {
  const { engine, queue, thread } = await opened();
  const nodes = {
    a: { name: 'a', queueName: 'work', data: { at: new Date(5), tags: new Set(['x']) }, opts: { jobId: 'a' } },
    b: { name: 'b', queueName: 'other', data: 2 },
  };
  const jobs = await thread.call<Record<string, { id: string }>>('addGraph', {
    graph: { nodes, edges: [['a', 'b']] },
    after: true,
  });
  expect((await queue.getJob('a'))!.data).toEqual({ at: new Date(5), tags: new Set(['x']) });
  const other = new Queue('other', { connection: engine });
  expect(await (await other.getJob(jobs.b!.id))!.getDependencies()).toMatchObject([
    { queue: 'work', id: 'a', state: 'waiting' },
  ]);
  expect(await (await queue.getJob(jobs.late!.id))!.getDependencies()).toMatchObject([
    { queue: 'work', state: 'waiting' },
  ]);
  const cycle = { nodes: { x: { name: 'x', queueName: 'work' } }, edges: [['x', 'x']] };
  const refused = await thread.failing('addGraph', { graph: cycle });
  expect(refused).toMatchObject({ name: 'BulkError', errors: [{ index: 0, name: 'ValidationError' }] });
  expect((await queue.getJobCounts()).waiting).toBe(2);
});
