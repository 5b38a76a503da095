/** What users test with: no server, no sleeps. */
import { Engine, FlowProducer, Queue, SystemClock, Worker } from 'flashq';
import { drainAll, Spy, spy, TestClock } from 'flashq/testing';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemoryStore } from '#engine/store/memory-store.js';
import { errorOf } from '../../conformance/kit.js';
import { handler } from '../../threads/support.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const START = Date.UTC(2025, 0, 1);

describe.each(['in memory', 'durable'])('%s', (kind) => {
  let clock: TestClock;
  let engine: Engine;
  let queue: Queue;
  let ran: unknown[];

  beforeEach(async () => {
    clock = new TestClock(START);
    engine = await Engine.open({ clock, ...(kind === 'durable' ? { store: new MemoryStore() } : {}) });
    queue = new Queue('q', { connection: engine });
    ran = [];
  });
  afterEach(() => engine.close({ timeout: 0 }));

  function work(run: (data: any, attemptsMade: number) => unknown = () => {}, name = 'q', opts: object = {}): Worker {
    const worker = new Worker(
      name,
      async (job) => {
        ran.push(job.data);
        return run(job.data, job.attemptsMade);
      },
      { connection: engine, ...opts },
    );
    worker.on('error', () => {});
    return worker;
  }

  describe('drainAll', () => {
    test('runs what waits, and what that leads to', async () => {
      work(async (n: number) => void (n > 0 && (await queue.add('next', n - 1))));
      await queue.add('first', 3);
      await drainAll(engine);
      expect(ran).toEqual([3, 2, 1, 0]);
      expect(clock.now() - START).toBe(0);
    });

    test('goes through delays and retries, as far as they go and no further', async () => {
      work((_data, attemptsMade) => {
        if (attemptsMade < 3) throw new Error('not yet');
      });
      const job = await queue.add('a', 'x', {
        delay: HOUR,
        attempts: 4,
        backoff: { type: 'exponential', delay: MINUTE },
      });
      await drainAll(engine);
      expect(await job.getState()).toBe('completed');
      expect(ran).toEqual(['x', 'x', 'x', 'x']);
      expect(clock.now() - START).toBe(HOUR + 7 * MINUTE);
    });

    test('waits for handlers that wait for something real', async () => {
      work(() => new Promise((resolve) => setTimeout(resolve, 20)));
      const job = await queue.add('slow', 1);
      await drainAll(engine);
      expect(await job.getState()).toBe('completed');
    });

    test('and for those on threads', async () => {
      const worker = new Worker('q', handler('tells-cron.js'), { connection: engine, threads: 1 });
      await worker.waitUntilReady();
      const jobs = await queue.addBulk([1, 2, 3].map((data) => ({ name: 'a', data, opts: { delay: data * MINUTE } })));
      await drainAll(engine);
      expect(await Promise.all(jobs.map((job) => job.getState()))).toEqual(['completed', 'completed', 'completed']);
      await worker.close();
    });

    test('runs whole graphs', async () => {
      work();
      work(undefined, 'other');
      const { job } = await new FlowProducer({ connection: engine }).add({
        ...{ name: 'top', queueName: 'q', data: 'top' },
        children: [{ name: 'late', queueName: 'other', data: 'late', opts: { delay: MINUTE } }],
      });
      await drainAll(engine);
      expect(await job.getState()).toBe('completed');
      expect(ran).toEqual(['late', 'top']);
    });

    test('lets a rate limit have its time', async () => {
      await queue.setRateLimit(2, MINUTE);
      work();
      await queue.addBulk([1, 2, 3, 4, 5].map((data) => ({ name: 'a', data })));
      await drainAll(engine);
      expect(ran).toEqual([1, 2, 3, 4, 5]);
      expect(clock.now() - START).toBe(2 * MINUTE);
    });

    test('leaves what nobody can take', async () => {
      work();
      await queue.pause();
      await queue.add('paused', 1);
      const job = await new Queue('unserved', { connection: engine }).add('a', 1);
      await queue.add('behind', 2, { dependsOn: [job] });
      await drainAll(engine);
      expect(ran).toEqual([]);
      expect(clock.now() - START).toBe(0);
    });

    test('crons come as far as the time goes on, and don’t keep it going', async () => {
      work();
      await queue.addCron('each-minute', { every: MINUTE, data: 'tick' });
      await drainAll(engine);
      expect(ran).toEqual([]);
      await queue.add('a', 'later', { delay: 150_000 });
      await drainAll(engine);
      expect(ran).toEqual(['tick', 'tick', 'later']);
      await drainAll(engine, { advance: 10 * MINUTE });
      expect(ran.length).toBe(3 + 10);
      expect(clock.now() - START).toBe(150_000 + 10 * MINUTE);
    });

    test('gives up on a handler that does not end, and says where', async () => {
      work(() => new Promise(() => {}));
      await queue.add('stuck', 1);
      const error = await errorOf(drainAll(engine, { timeout: 20 }));
      expect(error).toMatchObject({
        name: 'TimeoutError',
        message: expect.stringMatching(/1 job has been running.*"q" 1 active/),
      });
    });

    test('and on a job that is put off for ever', async () => {
      work(() => {
        throw Object.assign(new Error('again'), { name: 'DelayedError', delayMs: MINUTE });
      });
      await queue.add('again', 1);
      const error = await errorOf(drainAll(engine, { limit: HOUR }));
      expect(error).toMatchObject({
        name: 'TimeoutError',
        message: expect.stringMatching(/"q" 0 active, 0 waiting, 1 delayed/),
      });
      expect(clock.now() - START).toBe(HOUR);
    });
  });

  describe('spy', () => {
    test('waits for what comes', async () => {
      const watched = spy(queue);
      work((data) => data.n * 2);
      const wanted = watched.waitFor('completed', { name: 'double', data: { n: 2 } });
      for (const n of [1, 2, 3]) await queue.add('double', { n, other: true });
      const job = await wanted;
      expect(job).toMatchObject({ data: { n: 2, other: true }, returnvalue: 4 });
      expect(await watched.count('completed', { name: 'double' })).toBeLessThanOrEqual(3);
      await drainAll(engine);
      expect(await watched.count('completed')).toBe(3);
    });

    test('and finds what has come already: even what is gone, or came before it', async () => {
      work();
      await queue.add('before', 1);
      await drainAll(engine);
      const watched = spy(engine);
      const gone = await queue.add('gone', 2, { removeOnComplete: true });
      await drainAll(engine);
      expect((await watched.waitFor('completed', { data: 1 })).name).toBe('before');
      expect((await watched.waitFor('completed', { id: gone.id })).data).toBe(2);
      expect((await watched.waitFor('added', { name: 'gone' })).data).toBe(2);
      expect(await watched.count('completed')).toBe(2);
    });

    test('a job that fails for good, and its retries', async () => {
      const watched = spy(engine);
      work(() => {
        throw new Error('no');
      });
      await queue.add('bad', 1, { attempts: 3, backoff: MINUTE });
      await drainAll(engine);
      expect(await watched.waitFor('failed', (job) => job.data === 1)).toMatchObject({
        failedReason: 'no',
        attemptsMade: 3,
      });
      expect(await watched.count('retrying')).toBe(2);
    });

    test('of one queue hears nothing of others', async () => {
      const watched = spy(queue);
      const other = new Queue('other', { connection: engine });
      await other.add('a', 1);
      expect(await watched.count('added')).toBe(0);
      expect(await spy(engine).count('added', { queue: 'other' })).toBe(1);
    });

    test('states of those that are there: waiting, delayed, active', async () => {
      await queue.add('a', 1);
      await queue.add('b', 2, { delay: 5 });
      const watched = spy(engine);
      expect((await watched.waitFor('waiting')).name).toBe('a');
      expect((await watched.waitFor('delayed')).name).toBe('b');
      work(() => new Promise(() => {}));
      expect((await watched.waitFor('active')).name).toBe('a');
    });

    test('gives up after a time, and tells what there was', async () => {
      const watched = spy(engine);
      await queue.add('something', 1);
      const error = await errorOf(watched.waitFor('completed', { name: 'else' }, { timeout: 5 }));
      expect(error).toMatchObject({ name: 'TimeoutError', message: expect.stringContaining('something added') });
      watched.close();
      await queue.add('unheard', 1);
      expect(await watched.count('added')).toBe(2); // there is a record of it
    });
  });
});

test('what can’t be drained or watched is refused', async () => {
  const engine = await Engine.open({ clock: new SystemClock() });
  expect((await errorOf(drainAll(engine))).message).toContain('new TestClock()');
  await engine.close();
  expect(() => spy({} as never)).toThrow(/target must be an Engine or a Queue/);
  const other = await Engine.open({ clock: new TestClock() });
  const watched = spy(other);
  expect(watched).toBeInstanceOf(Spy);
  expect((await errorOf(watched.waitFor('finished' as never))).message).toMatch(/event must be one of/);
  expect((await errorOf(watched.waitFor('added', 'x' as never))).message).toMatch(/selector must be/);
  expect((await errorOf(drainAll(other, { forever: true } as never))).message).toMatch(/forever is not a known option/);
  await other.close();
});
