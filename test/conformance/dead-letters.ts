/** The dead letter queue; section 6 of the semantics. */
import { type Job, JobFailedError, JobNotFoundError, UnrecoverableError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, states } from './kit.js';

const DAY_MS = 86_400_000;

export const deadLetters: Suite = (harness) => {
  const kit = kitOf(harness);
  const queue = () => kit.queue();

  /** Runs what there is, failing it all. */
  const failAll = async (name = 'q', error: () => Error = () => new Error('boom')) => {
    const worker = await kit.worker(
      () => {
        throw error();
      },
      {},
      name,
    );
    await kit.settle();
    await worker.close();
  };
  const failed = async (count: number, opts: object = {}, name = 'q'): Promise<Job[]> => {
    const jobs: Job[] = [];
    for (let i = 0; i < count; i++) jobs.push(await kit.queue(name).add(`n${i}`, i, opts));
    await failAll(name);
    return jobs;
  };

  describe('getDlq', () => {
    test('newest first, with reason, moment and attempts', async () => {
      const first = await kit.failed(queue(), { attempts: 2 }, 'one');
      await kit.pass(10);
      const second = await kit.failed(queue(), {}, 'two');
      const [a, b] = await queue().getDlq();
      expect([a?.id, b?.id]).toEqual([second.id, first.id]);
      expect(b).toMatchObject({ failedReason: 'one', attemptsMade: 2, finishedOn: kit.now - 10 });
      expect(b?.dlq).toEqual({
        reason: 'attempts_exhausted',
        enteredAt: kit.now - 10,
        attempts: [
          { at: kit.now - 10, error: 'one' },
          { at: kit.now - 10, error: 'one' },
        ],
      });
      expect(await queue().getDlqCount()).toBe(2);
    });

    test('count, 100 by default, and offset', async () => {
      await failed(105);
      expect(await queue().getDlq()).toHaveLength(100);
      expect((await queue().getDlq(2, { offset: 1 })).map((job) => job.data)).toEqual([103, 102]);
      expect(await queue().getDlq(0)).toEqual([]);
    });

    test('a filter by name, tag, reason and moment; the offset counts those that match', async () => {
      await failed(3, { tags: ['x', 'y'] });
      await kit.pass(1000);
      const since = kit.now;
      await queue().add('n1', 'late', { tags: ['x'] });
      await failAll('q', () => new UnrecoverableError('no'));
      const data = async (filter: object, offset = 0) =>
        (await queue().getDlq(10, { filter, offset })).map((job) => job.data);
      expect(await data({ name: 'n1' })).toEqual(['late', 1]);
      expect(await data({ name: 'n1' }, 1)).toEqual([1]);
      expect(await data({ tag: 'y' })).toEqual([2, 1, 0]);
      expect(await data({ tag: 'x', name: 'n1', reason: 'attempts_exhausted' })).toEqual([1]);
      expect(await data({ reason: 'unrecoverable' })).toEqual(['late']);
      expect(await data({ since })).toEqual(['late']);
      expect(await data({ until: new Date(since) })).toEqual([2, 1, 0]);
      expect(await data({})).toHaveLength(4);
    });

    test.each([
      [{ nme: 'x' }, /name/],
      [{ reason: 'timout' }, /timeout/],
      [{ since: 'yesterday' }, /milliseconds/],
      [{ tags: ['x'] }, /tag/],
    ])('the filter %j is refused', async (filter, message) => {
      const error = await errorOf(queue().getDlq(1, { filter: filter as never }));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(message);
    });
  });

  describe('what chooses jobs', () => {
    test.each([
      ['undefined', undefined],
      ['null', null],
      ['{}', {}],
      ['an undefined member', { name: undefined }],
      ['an undefined member beside another', { name: 'n0', since: undefined }],
      ['a number', 5],
    ])('%s is refused by retryDlq and purgeDlq', async (_name, which) => {
      await failed(1);
      for (const call of [queue().retryDlq(which as never), queue().purgeDlq(which as never)])
        expect(await errorOf(call)).toBeInstanceOf(ValidationError);
      expect(await queue().getDlqCount()).toBe(1);
    });

    test('retryDlq() means all, purgeDlq() is refused', async () => {
      await failed(3);
      await queue().pause();
      expect(await errorOf((queue() as any).purgeDlq())).toBeInstanceOf(ValidationError);
      expect(await queue().retryDlq()).toBe(3);
      expect(await queue().getWaitingCount()).toBe(3);
    });

    test('one, several, a filter, all', async () => {
      for (const call of ['retryDlq', 'purgeDlq'] as const) {
        await queue().resume();
        const jobs = await failed(6);
        await queue().pause();
        const [a, b, c] = jobs as [Job, Job, Job];
        expect(await queue()[call](a)).toBe(1);
        expect(await queue()[call](b.id)).toBe(1);
        expect(await queue()[call]([c, { queue: 'q', id: a.id }].slice(0, 1))).toBe(1);
        expect(await queue()[call]({ name: 'n3' })).toBe(1);
        expect(await queue()[call]([])).toBe(0);
        expect(await queue()[call]('all')).toBe(2);
        await queue().drain();
      }
    });

    test('an unknown one: nothing has been done', async () => {
      const [job] = await failed(1);
      for (const call of ['retryDlq', 'purgeDlq'] as const)
        expect(await errorOf(queue()[call]([job as Job, 'absent']))).toBeInstanceOf(JobNotFoundError);
      expect(await queue().getDlqCount()).toBe(1);
    });

    test('a job that is not failed is left as it is and not counted', async () => {
      const job = await queue().add('a', 1);
      expect(await queue().retryDlq(job)).toBe(0);
      expect(await queue().purgeDlq(job)).toBe(0);
      expect(await job.getState()).toBe('waiting');
    });
  });

  describe('retryDlq', () => {
    test('keeps id, data and history, and counts attempts anew', async () => {
      const job = await kit.failed(queue(), { attempts: 2 }, 'why');
      await queue().pause();
      await queue().retryDlq(job);
      const again = await queue().getJob(job);
      expect(again).toMatchObject({ id: job.id, attemptsMade: 0, failedReason: 'why', finishedOn: undefined });
      expect(again?.stacktrace).toHaveLength(2);
      await queue().resume();
      await kit.worker(() => Promise.reject(new Error('again')));
      await errorOf(queue().finished(job));
      expect((await queue().getJob(job))?.attemptsMade).toBe(2);
    });

    test('who was told of the failure stays told; who asks now waits for the new end', async () => {
      const job = await queue().add('a', 1);
      const first = queue()
        .finished(job)
        .catch((error: unknown) => error);
      await failAll();
      expect(await first).toBeInstanceOf(JobFailedError);
      await queue().retryDlq(job);
      const second = queue().finished(job);
      await kit.worker(() => 'good');
      expect(await second).toBe('good');
    });

    test('redriveRate lets the first go and delays the others by turns', async () => {
      await queue().configure({ dlq: { redriveRate: 10 } });
      const jobs = await failed(4);
      expect(await queue().retryDlq()).toBe(4);
      expect(await states(...jobs)).toEqual(['waiting', 'delayed', 'delayed', 'delayed']);
      await kit.pass(100);
      expect(await states(...jobs)).toEqual(['waiting', 'waiting', 'delayed', 'delayed']);
      const [late] = await failed(1, { priority: 5 });
      expect((late as Job).id).toBeDefined();
      await kit.pass(200);
      expect(await queue().getDelayedCount()).toBe(0);
    });

    test('the turns of a second call come after those of the first', async () => {
      await queue().configure({ dlq: { redriveRate: 1 } });
      const jobs = await failed(3);
      for (const job of jobs) await queue().retryDlq(job);
      expect(await states(...jobs)).toEqual(['waiting', 'delayed', 'delayed']);
      await kit.pass(1000);
      expect(await states(...jobs)).toEqual(['waiting', 'waiting', 'delayed']);
    });

    test('ttl is counted from the turn', async () => {
      await queue().configure({ dlq: { redriveRate: 1 } });
      await queue().pause();
      const jobs = [await queue().add('a', 1, { ttl: 500 }), await queue().add('a', 2, { ttl: 500 })];
      await kit.pass(501);
      expect(await queue().retryDlq()).toBe(2);
      await kit.pass(999);
      expect(await states(...jobs)).toEqual(['failed', 'delayed']);
      await kit.pass(2);
      expect(await states(...jobs)).toEqual(['failed', 'waiting']);
    });
  });

  describe('dependencies', () => {
    /** c waits for b, b for a, which is in another queue; all have failed by a. */
    const chain = async () => {
      const a = await kit.queue('other').add('a', 'a');
      const b = await queue().add('b', 'b', { dependsOn: [a] });
      const c = await queue().add('c', 'c', { dependsOn: [b] });
      await failAll('other');
      expect(await states(a, b, c)).toEqual(['failed', 'failed', 'failed']);
      return [a, b, c] as const;
    };

    test('a job whose dependency has failed and is not in the call stays, and is not counted', async () => {
      const [a, b, c] = await chain();
      expect(await queue().retryDlq()).toBe(0);
      expect(await queue().retryDlq([b, c])).toBe(0);
      expect(await states(a, b, c)).toEqual(['failed', 'failed', 'failed']);
    });

    test('in one call with it, it waits again', async () => {
      const [a, b, c] = await chain();
      expect(await queue().retryDlq([c, b, a])).toBe(3);
      expect(await states(a, b, c)).toEqual(['waiting', 'blocked', 'blocked']);
    });

    test('withDependencies takes them along, in any depth and queue, and they go first', async () => {
      const [a, b, c] = await chain();
      const recorder = await kit.recorder('*');
      expect(await queue().retryDlq(c, { withDependencies: true })).toBe(3);
      expect(await states(a, b, c)).toEqual(['waiting', 'blocked', 'blocked']);
      await kit.settle();
      const retried = recorder.told.filter(({ event }) => event === 'retrying').map(({ jobId }) => jobId);
      expect(retried).toEqual([a.id, b.id, c.id]);
      await kit.worker(() => 1, {}, 'other');
      await kit.worker(() => 2);
      expect(await queue().finished(c)).toBe(2);
    });

    test('a thousand deep', async () => {
      let last = await queue().add('first', 0);
      const first = last;
      for (let i = 1; i < 1000; i++) last = await queue().add('next', i, { dependsOn: [last] });
      await failAll();
      expect(await queue().getDlqCount()).toBe(1000);
      expect(await queue().retryDlq(last, { withDependencies: true })).toBe(1000);
      expect(await states(first, last)).toEqual(['waiting', 'blocked']);
    });

    test('a dependency that was cancelled or removed can not come back: what needs it stays', async () => {
      const a = await kit.queue('other').add('a', 1);
      const b = await queue().add('b', 1, { dependsOn: [a] });
      await a.remove();
      await kit.settle();
      expect(await b.getState()).toBe('failed');
      expect(await queue().retryDlq(b, { withDependencies: true })).toBe(0);
    });

    test('dependencies that have not completed by then are waited for', async () => {
      const [a, slow] = [await kit.queue('other').add('a', 1), await kit.queue('slow').add('s', 1)];
      const b = await queue().add('b', 'b', { dependsOn: [a, slow] });
      await failAll('other');
      expect(await b.getState()).toBe('failed');
      await queue().retryDlq(b, { withDependencies: true });
      await kit.worker(() => 1, {}, 'other');
      await kit.settle();
      expect(await b.getState()).toBe('blocked');
      await kit.worker(() => 1, {}, 'slow');
      await kit.settle();
      expect(await b.getState()).toBe('waiting');
    });
  });

  describe('purgeDlq', () => {
    test('removes records and ids, and tells dependents that wait', async () => {
      const job = await kit.failed(queue(), { jobId: 'x' });
      const waiting = await kit.queue('other').add('w', 1, { dependsOn: [job], onDependencyFailure: 'wait' });
      expect(await waiting.getState()).toBe('blocked');
      const recorder = await kit.recorder();
      expect(await queue().purgeDlq({ reason: 'attempts_exhausted' })).toBe(1);
      await kit.settle();
      expect(recorder.of(job)).toEqual(['removed']);
      expect(await queue().getJob('x')).toBeUndefined();
      expect(await waiting.getState()).toBe('failed');
      expect((await queue().add('a', 1, { jobId: 'x' })).deduplicated).toBe(false);
    });
  });

  describe('limits', () => {
    test('count: the oldest go, and an event tells', async () => {
      await queue().configure({ dlq: { count: 2 } });
      const recorder = await kit.recorder();
      const jobs = await failed(4);
      expect((await queue().getDlq()).map((job) => job.data)).toEqual([3, 2]);
      await kit.settle();
      const evicted = recorder.told.filter(({ event }) => event === 'dlq:evicted').map(({ jobId }) => jobId);
      expect(evicted).toEqual([jobs[0]?.id, jobs[1]?.id]);
    });

    test('age', async () => {
      await queue().configure({ dlq: { age: 1000 } });
      await failed(1);
      await kit.pass(999);
      expect(await queue().getDlqCount()).toBe(1);
      await kit.pass(2);
      expect(await queue().getDlqCount()).toBe(0);
    });

    test('30 days by default', async () => {
      await failed(1);
      await kit.pass(30 * DAY_MS - 1);
      expect(await queue().getDlqCount()).toBe(1);
      await kit.pass(2);
      expect(await queue().getDlqCount()).toBe(0);
    });

    test('changed limits hold for what is there; a limit of the job is its own', async () => {
      await failed(3);
      await failed(1, { removeOnFail: { age: 10_000 } });
      await queue().configure({ dlq: { age: 1000 } });
      await kit.pass(1001);
      expect(await queue().getDlqCount()).toBe(1);
      await failed(3);
      await queue().configure({ dlq: { count: 2 } });
      expect(await queue().getDlqCount()).toBe(2);
      await queue().configure({ dlq: null });
      await kit.pass(20_000);
      expect(await queue().getDlqCount()).toBe(2);
    });

    test('threshold: told each time the count has grown to it', async () => {
      await queue().configure({ dlq: { threshold: 2 } });
      const recorder = await kit.recorder();
      await failed(3);
      await kit.settle();
      expect(recorder.count('dlq:threshold')).toBe(1);
      expect(recorder.last('dlq:threshold')?.args).toMatchObject({ count: 2, threshold: 2, queue: 'q' });
      await queue().purgeDlq('all');
      await failed(1, { removeOnFail: true });
      await failed(1);
      await kit.settle();
      expect(recorder.count('dlq:threshold')).toBe(1);
      await failed(1);
      await kit.settle();
      expect(recorder.count('dlq:threshold')).toBe(2);
    });

    test.each([
      [{ threshold: 5, count: 2 }, /threshold/],
      [{ count: 0 }, /count/],
      [{ redriveRate: 0 }, /redriveRate/],
      [{ agee: 5 }, /age/],
    ])('the setting %j is refused', async (dlq, message) => {
      const error = await errorOf(queue().configure({ dlq: dlq as never }));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(message);
    });

    test('removeOnFail: true skips it, and waiters and dependents are told', async () => {
      const job = await queue().add('a', 1, { removeOnFail: true });
      const dependent = await kit.queue('other').add('d', 1, { dependsOn: [job] });
      const told = queue()
        .finished(job)
        .catch((error: unknown) => error);
      await failAll();
      expect(await told).toBeInstanceOf(JobFailedError);
      expect(await dependent.getState()).toBe('failed');
      expect(await queue().getDlq()).toEqual([]);
      expect(await queue().getDlqCount()).toBe(0);
      expect(await errorOf(queue().finished(job))).toBeInstanceOf(JobFailedError);
    });
  });

  test('tags: an array of words, without repeats', async () => {
    expect((await queue().add('a', 1, { tags: ['x', 'y', 'x'] })).opts.tags).toEqual(['x', 'y']);
    for (const tags of ['x', [5], [''], Array(33).fill('x')])
      expect(await errorOf(queue().add('a', 1, { tags: tags as never }))).toBeInstanceOf(ValidationError);
  });
};
