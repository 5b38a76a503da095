/** Ends that come by time or by hand, and what they leave: expiry, a run that is taken away, emptied queues, retention. */
import { type Job, JobActiveError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, states, watch } from './kit.js';

export const ends: Suite = (harness) => {
  const kit = kitOf(harness);
  const add = (data: unknown, opts = {}) => kit.queue().add('a', data, opts);

  describe('ttl', () => {
    test('of a job with an id of its own', async () => {
      const job = await add('a', { jobId: 'x', ttl: 100 });
      await kit.pass(99);
      expect(await job.getState()).toBe('waiting');
      await kit.pass(1);
      expect(await job.getState()).toBe('failed');
      expect((await kit.queue().getJob(job))?.dlq?.reason).toBe('expired');
    });

    test('of the items of one call, with nothing else to come', async () => {
      const jobs = await kit.queue().addBulk([
        { name: 'a', data: 1, opts: { ttl: 100 } },
        { name: 'b', data: 2, opts: { ttl: 50 } },
      ]);
      await kit.pass(50);
      expect(await states(...jobs)).toEqual(['waiting', 'failed']);
      await kit.pass(50);
      expect(await states(...jobs)).toEqual(['failed', 'failed']);
    });

    test('begins anew when a job that had expired is retried, and ends it again', async () => {
      const job = await add('a', { ttl: 100 });
      await kit.pass(100);
      await job.retry();
      await kit.pass(99);
      expect(await job.getState()).toBe('waiting');
      await kit.pass(1);
      expect(await job.getState()).toBe('failed');
    });

    test('also of one that is blocked when it is retried', async () => {
      const needed = await add('needed', { delay: 10_000 });
      const job = await add('a', { dependsOn: [needed], ttl: 100 });
      await kit.pass(100);
      await job.retry();
      expect(await job.getState()).toBe('blocked');
      await kit.pass(100);
      expect(await job.getState()).toBe('failed');
    });
  });

  describe('ttl and delay', () => {
    test('delay counts from the admission, and ttl from there on, whatever the queue does meanwhile', async () => {
      await kit.queue().pause();
      const job = await add('a', { delay: 100, ttl: 100 });
      await kit.pass(99);
      expect(await job.getState()).toBe('delayed');
      await kit.pass(1);
      expect(await job.getState()).toBe('waiting');
      await kit.pass(99);
      expect(await job.getState()).toBe('waiting');
      await kit.pass(1);
      expect((await kit.queue().getJob(job))?.dlq?.reason).toBe('expired');
    });

    test('of a job that has started ttl counts no more, even when it waits for a retry', async () => {
      const job = await add('a', { ttl: 100, attempts: 2, backoff: 200 });
      const hand = await kit.hand();
      (await hand.next()).fail(new Error('not yet'));
      await kit.pass(199);
      expect(await job.getState()).toBe('delayed');
      await kit.pass(1);
      (await hand.next()).complete('late');
      expect(await kit.queue().finished(job)).toBe('late');
    });
  });

  describe('a function that ignores its signal', () => {
    test('keeps its place until it has settled, though its job has gone on', async () => {
      const job = await add('a', { timeout: 100, attempts: 2 });
      await add('b');
      const hand = await kit.hand({ abortGrace: 50 });
      const first = await hand.next();
      await kit.pass(150);
      expect(await job.getState()).toBe('waiting'); // its attempt is over, and it is not
      expect(hand.rest()).toEqual([]);
      first.complete('too late');
      await kit.settle();
      expect((await hand.next()).job.data).toBe('b');
      expect(await job.getState()).toBe('waiting');
    });
  });

  describe('a blocked job that ended before its dependency', () => {
    test.each([
      ['expired', 'expired'],
      ['was moved to the dead letter queue', 'moved'],
    ])('and %s, entered the dead letter queue once', async (_how, reason) => {
      const needed = await add('needed');
      const job = await add('a', { dependsOn: [needed], ttl: 100 });
      const dependent = await add('b', { dependsOn: [job], onDependencyFailure: 'run' });
      const recorder = await kit.recorder();
      if (reason === 'moved') await kit.queue().moveToDlq(job, 'by hand');
      else await kit.pass(100);
      await kit.queue().cancel(needed);
      await kit.settle();
      expect(recorder.of(job)).toEqual(['failed']);
      const record = await kit.queue().getJob(job);
      expect(record?.dlq?.reason).toBe(reason);
      expect(await dependent.getState()).toBe('waiting');
    });

    test('is not released by it', async () => {
      const needed = await add('needed');
      const job = await add('a', { dependsOn: [needed], ttl: 100 });
      await kit.pass(100);
      await kit.worker(() => 1);
      await kit.settle();
      expect(await states(needed, job)).toEqual(['completed', 'failed']);
    });
  });

  describe('a run whose job was taken from it', () => {
    test('does not count as active, nor is a waiting job missing', async () => {
      const hand = await kit.hand({ abortGrace: 1000 });
      const job = await add('a', { timeout: 100 });
      await hand.next();
      await kit.pass(100);
      expect(await job.getState()).toBe('active');
      await kit.pass(1000);
      const waiting = await add('b'); // the handler still occupies the worker
      expect(await states(job, waiting)).toEqual(['failed', 'waiting']);
      expect(await kit.queue().getJobCounts()).toMatchObject({ active: 0, waiting: 1, failed: 1 });
      await kit.queue().obliterate();
    });
  });

  describe('drain', () => {
    test('leaves what its removals release, whatever else was waiting', async () => {
      for (const others of [0, 2]) {
        const queue = kit.queue(`q${others}`);
        const needed = await queue.add('needed', null);
        const job = await queue.add('a', null, { dependsOn: [needed], onDependencyFailure: 'run' });
        for (let i = 0; i < others; i++) await queue.add('other', null);
        await queue.drain();
        expect(await job.getState()).toBe('waiting');
        expect(await queue.count()).toBe(1);
      }
    });

    test('with blocked jobs takes those that it releases, too', async () => {
      const needed = await add('needed');
      const job = await add('a', { dependsOn: [needed], onDependencyFailure: 'run' });
      await kit.queue().drain({ blocked: true });
      expect(await job.getState()).toBe('unknown');
    });

    test('leaves in the dead letter queue what fails by it', async () => {
      const needed = await add('needed');
      const job = await add('a', { dependsOn: [needed] });
      await kit.queue().drain({ delayed: true, blocked: true });
      expect(await job.getState()).toBe('failed');
    });
  });

  describe('obliterate', () => {
    test.each(['run', 'run-now'])('takes dependents under the policy %s', async (onDependencyFailure) => {
      const needed = await add('needed', { delay: 100 });
      const job = await add('a', { dependsOn: [needed], onDependencyFailure });
      const waited = watch(kit.queue().finished(job));
      await kit.queue().obliterate();
      await kit.settle();
      expect(await kit.queue().count()).toBe(0);
      expect(waited.error?.name).toBe('JobRemovedError');
    });

    test('twice while a run goes on: the job is removed once, and nobody sees it any more', async () => {
      const recorder = await kit.recorder();
      const hand = await kit.hand();
      const job = await add('a');
      const run = await hand.next();
      await kit.settle();
      for (let time = 0; time < 2; time++) {
        await kit.queue().obliterate({ force: true });
        expect((await kit.queue().getJobs({ states: ['active', 'waiting'] })).jobs).toEqual([]);
        expect(await kit.queue().getActive()).toEqual([]);
      }
      run.complete();
      await kit.settle();
      expect(recorder.of(job)).toEqual(['added', 'waiting', 'active', 'removed']);
    });

    test('that is refused leaves a paused queue paused', async () => {
      const hand = await kit.hand();
      await add('a');
      await hand.next();
      await kit.queue().pause();
      expect(await errorOf(kit.queue().obliterate())).toBeInstanceOf(JobActiveError);
      expect(await kit.queue().isPaused()).toBe(true);
    });
  });

  describe('removing', () => {
    test('happens before what it leads to: the first failure of a wait is the removal', async () => {
      const needed = await add('needed');
      const job = await add('a', { dependsOn: [needed] });
      const waited = watch(kit.queue().finished([job, needed]));
      await kit.settle();
      await needed.remove();
      await kit.settle();
      expect(waited.error?.name).toBe('JobRemovedError');
      expect(await job.getState()).toBe('failed');
    });
  });

  describe('a record whose dependent fails as it goes, and would evict it', () => {
    const few = { onDependencyFailure: 'wait', removeOnFail: { count: 1 } } as const;

    test('is removed, and its id forgotten', async () => {
      const failed = await kit.failed(kit.queue(), { jobId: 'x' });
      const job = await add('a', { dependsOn: [failed], ...few });
      expect(await failed.remove()).not.toBe(false);
      expect(await states(failed, job)).toEqual(['unknown', 'failed']);
      expect((await add('again', { jobId: 'x' })).deduplicated).toBe(false);
    });

    test('is evicted once', async () => {
      const failed = await kit.failed(kit.queue(), { jobId: 'x', removeOnFail: { age: 1000 } });
      const job = await add('a', { dependsOn: [failed], ...few });
      await kit.pass(1000);
      expect(await states(failed, job)).toEqual(['unknown', 'failed']);
      expect((await add('again', { jobId: 'x' })).deduplicated).toBe(true);
      await failed.remove();
      expect((await add('again', { jobId: 'x' })).deduplicated).toBe(false);
    });
  });

  describe('the policy wait', () => {
    test('does not wait when another dependency was cancelled', async () => {
      const failed = await kit.failed(kit.queue());
      const cancelled = await add('a');
      await kit.queue().cancel(cancelled);
      for (const dependsOn of [
        [failed, cancelled],
        [cancelled, failed],
      ]) {
        const job = await add('b', { dependsOn, onDependencyFailure: 'wait' });
        expect(await job.getState()).toBe('failed');
      }
    });
  });

  describe('removeOnFail: {count}', () => {
    test('keeps the newest, also when a dependent fails by the eviction of another', async () => {
      const oldest = await kit.failed(kit.queue());
      const dependent = await add('a', { dependsOn: [oldest], onDependencyFailure: 'wait' });
      const newest = await kit.failed(kit.queue(), { removeOnFail: { count: 1 } });
      expect(await states(oldest, newest, dependent)).toEqual(['unknown', 'failed', 'failed']);
    });
  });

  describe('an item that ends as it is added', () => {
    /** In the dead letter queue, and kept among two. */
    const few = { removeOnFail: { count: 1 } };

    test('and evicts a job that another item of the call names: both are answered', async () => {
      const failed = await kit.failed(kit.queue(), { jobId: 'x' });
      const [known, ended] = await kit.queue().addBulk([
        { name: 'a', data: null, opts: { jobId: 'x' } },
        { name: 'b', data: null, opts: { dependsOn: [failed], ...few } },
      ]);
      expect(known).toMatchObject({ id: 'x', deduplicated: true, failedReason: 'boom' });
      expect(await states(known as Job, ended as Job)).toEqual(['unknown', 'failed']);
    });

    test('and evicts another item that did: both are answered, in order', async () => {
      const failed = await kit.failed(kit.queue());
      const opts = { dependsOn: [failed], ...few, idempotencyTtl: 0 };
      const jobs = await kit.queue().addBulk([
        { name: 'a', data: null, opts: { ...opts, jobId: 'x' } },
        { name: 'b', data: null, opts: { ...opts, jobId: 'y' } },
        { name: 'a', data: null, opts: { jobId: 'x' } },
      ]);
      expect(jobs.map(({ id, deduplicated }) => [id, deduplicated])).toEqual([
        ['x', false],
        ['y', false],
        ['x', true],
      ]);
      expect(await states(...jobs)).toEqual(['unknown', 'failed', 'unknown']);
    });

    test('ends those of the same call that wait for it, once', async () => {
      const recorder = await kit.recorder();
      const failed = await kit.failed(kit.queue());
      const jobs = await kit.queue().addBulk([
        { name: 'a', data: null, opts: { jobId: 'x', dependsOn: [failed] } },
        { name: 'b', data: null, opts: { jobId: 'y', dependsOn: ['x'], removeOnFail: true } },
        { name: 'c', data: null, opts: { jobId: 'z', dependsOn: ['y'], onDependencyFailure: 'run' } },
      ]);
      await kit.settle();
      expect(await states(...jobs)).toEqual(['failed', 'unknown', 'waiting']);
      for (const job of jobs.slice(0, 2)) expect(recorder.of(job)).toEqual(['added', 'blocked', 'failed']);
    });
  });

  describe('updateData', () => {
    test('leaves a lifo job at the head', async () => {
      await add('first');
      const job = await add('lifo', { lifo: true });
      await job.updateData('changed');
      expect(await kit.order()).toEqual(['changed', 'first']);
    });
  });
};
