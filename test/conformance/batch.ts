/** Handlers that take many jobs at once. */
import { type Job, UnrecoverableError, ValidationError, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, thrownBy } from './kit.js';

interface Call {
  readonly jobs: readonly Job[];
  readonly signal: AbortSignal;
  done(results: readonly unknown[]): void;
  fail(error: unknown): void;
}

export const batch: Suite = (harness) => {
  const kit = kitOf(harness);
  const addMany = (count: number, opts = {}, from = 0) =>
    kit.queue().addBulk(Array.from({ length: count }, (_, i) => ({ name: 'a', data: from + i, opts })));

  /** A worker whose batches end as the test says. */
  const calls = async (options: object, opts: object = {}) => {
    const made: Call[] = [];
    const worker = new Worker(
      'q',
      (jobs, { signal }) =>
        new Promise<unknown[]>((done, fail) => made.push({ jobs, signal, done: done as never, fail })),
      { connection: kit.world.connection, batch: { size: 10, ...options }, ...opts },
    );
    worker.on('error', () => {});
    kit.atEnd(() => worker.close(true));
    await worker.waitUntilReady();
    await kit.settle();
    return made;
  };
  const dataOf = (call: Call) => call.jobs.map(({ data }) => data);

  test('gets as many jobs as there are, at most size; each has its own result', async () => {
    const jobs = await addMany(25);
    const seen: number[] = [];
    const worker = new Worker(
      'q',
      (batch: readonly Job[]) => {
        seen.push(batch.length);
        return batch.map(({ data }) => data * 2);
      },
      { connection: kit.world.connection, batch: { size: 10 } },
    );
    kit.atEnd(() => worker.close(true));
    const results = await kit.queue().finished(jobs);
    expect(results).toEqual(jobs.map((_, i) => i * 2));
    expect(seen).toEqual([10, 10, 5]);
  });

  test('concurrency counts batches', async () => {
    const made = await calls({ size: 3 }, { concurrency: 2 });
    await addMany(10);
    await kit.settle();
    expect(made.map(dataOf)).toEqual([
      [0, 1, 2],
      [3, 4, 5],
    ]);
    expect((await kit.queue().getJobCounts()).active).toBe(6);
    made[0]!.done([0, 0, 0]);
    await kit.settle();
    expect(dataOf(made[2]!)).toEqual([6, 7, 8]);
  });

  test('limits count jobs, and shorten batches', async () => {
    await kit.queue().setConcurrency(4);
    const made = await calls({ size: 10 }, { concurrency: 3 });
    await addMany(10);
    await kit.settle();
    expect(made.map(dataOf)).toEqual([[0, 1, 2, 3]]);
    await kit.queue().clearConcurrency();
    await kit.settle();
    expect(dataOf(made[1]!)).toEqual([4, 5, 6, 7, 8, 9]);
  });

  describe('minSize and maxWait', () => {
    test('jobs stay waiting until there are enough: a higher priority still overtakes', async () => {
      const made = await calls({ size: 3, minSize: 3, maxWait: 1000 });
      const [job] = await addMany(2);
      await kit.settle();
      expect(made).toEqual([]);
      expect((await kit.queue().getJobCounts()).waiting).toBe(2);
      expect((await kit.queue().explain(job!)).reason).toContain('There are 2 jobs, and a batch begins with 3');
      await kit.queue().add('a', 'urgent', { priority: 1 });
      await kit.settle();
      expect(made.map(dataOf)).toEqual([['urgent', 0, 1]]);
    });

    test('or until the longest wait is over', async () => {
      const made = await calls({ size: 10, maxWait: 1000 });
      await addMany(2);
      await kit.pass(600);
      await addMany(1, {}, 2);
      await kit.pass(399);
      expect(made).toEqual([]);
      await kit.pass(1);
      expect(made.map(dataOf)).toEqual([[0, 1, 2]]);
    });

    test('the wait begins anew for what comes after', async () => {
      const made = await calls({ size: 10, timeout: 1000 });
      await addMany(1);
      await kit.pass(1000);
      made[0]!.done([0]);
      await kit.pass(5000);
      await addMany(1, {}, 1);
      await kit.pass(999);
      expect(made.length).toBe(1);
      await kit.pass(1);
      expect(made.map(dataOf)).toEqual([[0], [1]]);
    });

    test('what was there before the worker counts', async () => {
      await addMany(5);
      const made = await calls({ size: 10, minSize: 5, maxWait: 60_000 });
      expect(made.map(dataOf)).toEqual([[0, 1, 2, 3, 4]]);
    });

    test('jobs that were removed meanwhile do not', async () => {
      const made = await calls({ size: 10, minSize: 3, maxWait: 60_000 });
      const [first] = await addMany(2);
      await kit.queue().remove(first!);
      await addMany(1, {}, 2);
      await kit.settle();
      expect(made).toEqual([]);
      await addMany(1, {}, 3);
      await kit.settle();
      expect(made.map(dataOf)).toEqual([[1, 2, 3]]);
    });
  });

  describe('failures', () => {
    test('only those that were marked are retried, each by its own attempts and backoff', async () => {
      const queue = kit.queue();
      const made = await calls({ size: 3 });
      const items = [
        { name: 'a', data: 0, opts: { attempts: 2, backoff: 100 } },
        { name: 'a', data: 1, opts: { attempts: 2, backoff: 100 } },
        { name: 'a', data: 2, opts: {} },
      ];
      const jobs = await queue.addBulk(items);
      await kit.settle();
      made[0]!.jobs[0]!.setAsFailed(new Error('not yet'));
      made[0]!.jobs[2]!.setAsFailed(new Error('never'));
      made[0]!.done(['lost', 'one', 'lost']);
      await kit.settle();
      expect(await Promise.all(jobs.map((job) => job.getState()))).toEqual(['delayed', 'completed', 'failed']);
      expect((await queue.getJob(jobs[2]!))?.failedReason).toBe('never');
      await kit.pass(100);
      expect(dataOf(made[1]!)).toEqual([0]);
      made[1]!.done(['zero']);
      expect(await queue.finished([jobs[0]!, jobs[1]!])).toEqual(['zero', 'one']);
    });

    test('a handler that throws fails all, each by its own attempts', async () => {
      const made = await calls({ size: 3 });
      const jobs = await kit.queue().addBulk([
        { name: 'a', data: 0, opts: { attempts: 2, backoff: 100 } },
        { name: 'a', data: 1 },
      ]);
      await kit.settle();
      made[0]!.fail(new Error('down'));
      await kit.settle();
      expect(await Promise.all(jobs.map((job) => job.getState()))).toEqual(['delayed', 'failed']);
    });

    test.each([
      ['undefined', undefined],
      ['too few', [1]],
      ['too many', [1, 2, 3]],
      ['no array', { 0: 1, 1: 2, length: 2 }],
    ])('an answer that is not an array of that length (%s) fails all as unrecoverable', async (_name, answer) => {
      const made = await calls({ size: 3 });
      const jobs = await addMany(2, { attempts: 5 });
      await kit.settle();
      made[0]!.done(answer as never);
      await kit.settle();
      const found = await Promise.all(jobs.map((job) => kit.queue().getJob(job)));
      expect(found.map((job) => job?.dlq?.reason)).toEqual(['unrecoverable', 'unrecoverable']);
      expect(found[0]?.failedReason).toContain('must return an array of 2 results');
    });

    test('an UnrecoverableError is one for the job that is marked with it', async () => {
      const made = await calls({ size: 3 });
      const jobs = await addMany(2, { attempts: 5 });
      await kit.settle();
      made[0]!.jobs[1]!.setAsFailed(new UnrecoverableError('bad input'));
      made[0]!.done([0, 0]);
      await kit.settle();
      expect((await kit.queue().getJob(jobs[1]!))?.dlq?.reason).toBe('unrecoverable');
      expect(await jobs[0]!.getState()).toBe('completed');
    });

    test('setAsFailed is for batches', async () => {
      const hand = await kit.hand();
      await kit.queue().add('a', 1);
      const run = await hand.next();
      expect(thrownBy(() => run.job.setAsFailed(new Error('no')))).toBeInstanceOf(ValidationError);
    });
  });

  describe('signals', () => {
    test("each job's aborts by itself; the batch's when all have", async () => {
      const made = await calls({ size: 2 });
      const jobs = await addMany(2);
      await kit.settle();
      const [call] = made as [Call];
      await kit.queue().cancel(jobs[0]!);
      await kit.settle();
      expect(call.jobs.map(({ signal }) => signal!.aborted)).toEqual([true, false]);
      expect(call.signal.aborted).toBe(false);
      await kit.queue().cancel(jobs[1]!);
      await kit.settle();
      expect(call.signal.aborted).toBe(true);
      call.jobs[0]!.setAsFailed(call.jobs[0]!.signal!.reason);
      call.done(['', 'done all the same']);
      await kit.settle();
      expect(await Promise.all(jobs.map((job) => job.getState()))).toEqual(['cancelled', 'completed']);
    });

    test('each job has its own timeout', async () => {
      const made = await calls({ size: 2 }, { abortGrace: 50 });
      const jobs = await kit.queue().addBulk([
        { name: 'a', data: 0, opts: { timeout: 100 } },
        { name: 'a', data: 1, opts: {} },
      ]);
      await kit.settle();
      await kit.pass(100);
      const [call] = made as [Call];
      expect(call.jobs.map(({ signal }) => signal!.aborted)).toEqual([true, false]);
      await kit.pass(50);
      expect((await kit.queue().getJob(jobs[0]!))?.dlq?.reason).toBe('timeout');
      call.done([0, 'one']);
      await kit.settle();
      expect(await jobs[1]!.getState()).toBe('completed');
    });

    test('closing the worker gives back what is left, without an attempt', async () => {
      const made: (readonly Job[])[] = [];
      const worker = new Worker(
        'q',
        (jobs: readonly Job[]) => {
          made.push(jobs);
          return new Promise<number[]>(() => {});
        },
        {
          connection: kit.world.connection,
          batch: { size: 5 },
        },
      );
      const jobs = await addMany(3);
      await worker.waitUntilReady();
      await kit.settle();
      expect(made.length).toBe(1);
      await worker.close(true);
      await kit.settle();
      const found = await Promise.all(jobs.map((job) => kit.queue().getJob(job)));
      expect(found.map((job) => [job?.attemptsMade])).toEqual([[0], [0], [0]]);
      expect(await Promise.all(jobs.map((job) => job.getState()))).toEqual(['waiting', 'waiting', 'waiting']);
    });
  });

  test('every job has its events', async () => {
    const recorder = await kit.recorder();
    const heard: string[] = [];
    const worker = new Worker('q', (jobs: readonly Job[]) => jobs.map(() => 1), {
      connection: kit.world.connection,
      batch: { size: 5 },
    });
    worker.on('active', (job) => heard.push(`active ${job.data}`));
    worker.on('completed', (job, result) => heard.push(`completed ${job.data} ${result}`));
    kit.atEnd(() => worker.close(true));
    const jobs = await addMany(2);
    await kit.queue().finished(jobs);
    await kit.settle();
    expect(heard).toEqual(['active 0', 'active 1', 'completed 0 1', 'completed 1 1']);
    for (const job of jobs) expect(recorder.of(job)).toEqual(['added', 'waiting', 'active', 'completed']);
  });

  test('with groupAffinity all jobs of a batch are of one group, and groups take turns', async () => {
    const group = (id: string) => ({ group: { id } });
    await kit.queue().pause();
    const made = await calls({ size: 3, groupAffinity: true });
    await addMany(3, group('a'));
    await addMany(2, group('b'), 10);
    await addMany(2, group('a'), 20);
    await addMany(1, {}, 30);
    await kit.queue().resume();
    await kit.settle();
    for (let i = 0; i < made.length; i++) {
      made[i]!.done(made[i]!.jobs.map(() => 0));
      await kit.settle();
    }
    const sets = made.map(dataOf);
    for (const call of made) expect(new Set(call.jobs.map(({ opts }) => opts.group?.id)).size).toBe(1);
    expect(sets.flat().sort((a, b) => Number(a) - Number(b))).toEqual([0, 1, 2, 10, 11, 20, 21, 30]);
    expect(sets).toEqual([[0], [10], [30], [1, 2, 20], [11], [21]]);
    for (const { jobs } of made) for (const job of jobs) expect(job.attemptsStarted).toBe(1);
  });

  test('a job of another group is put back as if it had not been claimed: the last table of docs/STATE_MACHINE.md', async () => {
    await kit.queue().pause();
    const recorder = await kit.recorder();
    const made = await calls({ size: 3, groupAffinity: true });
    await addMany(1, { group: { id: 'a' } });
    const [other] = await addMany(1, { group: { id: 'b' } }, 1);
    await kit.queue().resume();
    await kit.settle();
    expect(made.map(dataOf)).toEqual([[0]]);
    expect(await other!.getState()).toBe('waiting');
    expect(recorder.of(other!).slice(2)).toEqual(['active', 'waiting']);
    expect(recorder.last('waiting')?.args.prev).toBe('active');
    made[0]!.done([0]);
    await kit.settle();
    made[1]!.done([1]);
    await kit.settle();
    const done = (await kit.queue().getJob(other!))!;
    expect([done.attemptsStarted, done.attemptsMade, await done.getState()]).toEqual([1, 0, 'completed']);
  });

  test('other workers of the queue take jobs that a batch still waits for', async () => {
    const made = await calls({ size: 10, maxWait: 60_000 });
    const hand = await kit.hand();
    await addMany(2);
    expect((await hand.next()).job.data).toBe(0);
    expect(made).toEqual([]);
  });

  test.each([
    [{}, 'size'],
    [{ size: 0 }, 'size'],
    [{ size: 10_001 }, 'size'],
    [{ size: 5, minSize: 6, maxWait: 1 }, 'minSize'],
    [{ size: 5, minSize: 2 }, 'maxWait'],
    [{ size: 5, maxWait: 1, timeout: 1 }, 'timeout'],
    [{ size: 5, groupAffinity: 1 }, 'groupAffinity'],
    [{ size: 5, affinity: true }, 'affinity'],
  ])('refuses %o', async (options, name) => {
    const make = async () => new Worker('q', () => [], { connection: kit.world.connection, batch: options as never });
    const error = await errorOf(make());
    expect(error).toBeInstanceOf(ValidationError);
    expect(error.path).toBe(`opts.batch.${name}`);
  });
};
