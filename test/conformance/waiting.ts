/** `finished`, `addAndWait` and `waitUntilFinished`: results, every way of not getting one, and late waiters. */
import {
  EngineClosedError,
  type Job,
  JobCancelledError,
  JobFailedError,
  JobNotFoundError,
  JobRemovedError,
  ValidationError,
  WaitTimeoutError,
} from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, watch } from './kit.js';

export const waiting: Suite = (harness) => {
  const kit = kitOf(harness);
  const add = (data: unknown, opts = {}) => kit.queue().add('a', data, opts);

  describe('finished, for one job', () => {
    test('gives the result of a job that has yet to run', async () => {
      const job = await add(3);
      const waited = kit.queue().finished(job);
      await kit.worker((run) => run.data * 2);
      expect(await waited).toBe(6);
    });

    test('works for a job that has finished already', async () => {
      const job = await kit.completed(kit.queue(), { x: 1 });
      expect(await kit.queue().finished(job)).toEqual({ x: 1 });
      expect(await kit.queue().finished(job.id)).toEqual({ x: 1 });
    });

    test('each waiter gets a value of its own', async () => {
      const job = await add(1);
      const waits = [kit.queue().finished(job), kit.queue().finished(job)];
      await kit.worker(() => ({ list: [1] }));
      const [one, two] = await Promise.all(waits);
      expect(one).toEqual(two);
      expect(one).not.toBe(two);
      expect(await kit.queue().finished(job)).not.toBe(one);
    });

    test('gives undefined when the handler returned nothing, and null when it returned null', async () => {
      const [a, b] = [await add('u'), await add('n')];
      await kit.worker((job) => (job.data === 'u' ? undefined : null));
      expect(await kit.queue().finished(a)).toBeUndefined();
      expect(await kit.queue().finished(b)).toBeNull();
    });

    test('waits through retries', async () => {
      let runs = 0;
      const job = await add(1, { attempts: 3, backoff: 1000 });
      const waited = watch(kit.queue().finished(job));
      await kit.worker(() => {
        if (++runs < 3) throw new Error('x');
        return 'third';
      });
      await kit.pass(1000);
      expect(waited.settled).toBe(false);
      await kit.pass(1000);
      expect(waited.value).toBe('third');
    });

    test('JobFailedError says which job, why, and with which stacks', async () => {
      const job = await add(1, { attempts: 2 });
      const waited = errorOf(kit.queue().finished(job));
      await kit.worker(() => {
        throw new Error('boom');
      });
      for (const error of [await waited, await errorOf(kit.queue().finished(job))]) {
        expect(error).toBeInstanceOf(JobFailedError);
        expect(error).toMatchObject({ queue: 'q', jobId: job.id, failedReason: 'boom', code: 'FLASHQ_JOB_FAILED' });
        expect(error.stacktrace).toHaveLength(2);
      }
    });

    test('JobCancelledError says which job and why', async () => {
      const job = await add(1);
      const waited = errorOf(kit.queue().finished(job));
      await kit.queue().cancel(job, 'not needed');
      for (const error of [await waited, await errorOf(kit.queue().finished(job))]) {
        expect(error).toBeInstanceOf(JobCancelledError);
        expect(error).toMatchObject({ queue: 'q', jobId: job.id, reason: 'not needed' });
      }
    });

    test('JobRemovedError for a job that is removed while it is waited for, with the state it was in', async () => {
      const jobs = [await add(1), await add(2, { delay: 1000 })];
      const waited = jobs.map((job) => errorOf(kit.queue().finished(job)));
      await kit.settle();
      for (const job of jobs) await job.remove();
      const errors = await Promise.all(waited);
      for (const error of errors) expect(error).toBeInstanceOf(JobRemovedError);
      expect(errors.map((error) => error.state)).toEqual(['waiting', 'delayed']);
    });

    test('JobRemovedError for a job that existed and is gone', async () => {
      const job = await add(1);
      await job.remove();
      for (const ref of [job, job.id]) {
        const error = await errorOf(kit.queue().finished(ref));
        expect(error).toBeInstanceOf(JobRemovedError);
        expect(error.jobId).toBe(job.id);
      }
    });

    test('JobRemovedError with the state for a custom id that is only remembered', async () => {
      const job = await kit.completed(kit.queue(), 1, { jobId: 'x', removeOnComplete: true });
      await kit.pass(40_000);
      const error = await errorOf(kit.queue().finished(job));
      expect(error).toBeInstanceOf(JobRemovedError);
      expect(error.state).toBe('completed');
    });

    test('JobNotFoundError for a job that never existed', async () => {
      for (const ref of ['nobody', 'j12345', { queue: 'nowhere', id: 'x' }]) {
        const error = await errorOf(kit.queue().finished(ref));
        expect(error).toBeInstanceOf(JobNotFoundError);
      }
    });

    test('WaitTimeoutError after the time given; the job goes on', async () => {
      const job = await add(1);
      const waited = watch(kit.queue().finished(job, { timeout: 500 }));
      const short = watch(kit.queue().finished(job, 200));
      await kit.pass(200);
      expect(short.error).toBeInstanceOf(WaitTimeoutError);
      await kit.pass(299);
      expect(waited.settled).toBe(false);
      await kit.pass(1);
      expect(waited.error).toBeInstanceOf(WaitTimeoutError);
      expect(waited.error).toMatchObject({ jobIds: [job.id], timeoutMs: 500, queue: 'q' });
      await kit.worker(() => 'later');
      expect(await kit.queue().finished(job)).toBe('later');
    });

    test('a timeout of 0 gives up unless it has finished already', async () => {
      const done = await kit.completed(kit.queue(), 5);
      expect(await kit.queue().finished(done, { timeout: 0 })).toBe(5);
      const waited = watch(kit.queue().finished(await add(1), { timeout: 0 }));
      await kit.pass(0);
      expect(waited.error).toBeInstanceOf(WaitTimeoutError);
    });

    test('no timeout by default', async () => {
      const waited = watch(kit.queue().finished(await add(1)));
      await kit.pass(10 * 86_400_000);
      expect(waited.settled).toBe(false);
    });

    test('has no window between checking and subscribing: a job that ends at that moment is seen', async () => {
      const queue = kit.queue();
      await kit.worker((job) => job.data, { concurrency: 8 });
      for (let i = 0; i < 200; i++) {
        const job = await queue.add('a', i);
        expect(await queue.finished(job)).toBe(i);
      }
    });

    test('takes a job of another queue', async () => {
      const generated = await kit.queue('other').add('a', 1);
      const custom = await kit.queue('other').add('a', 2, { jobId: 'c' });
      await kit.worker((job) => job.data, {}, 'other');
      const queue = kit.queue();
      expect(await queue.finished(generated.id)).toBe(1);
      expect(await queue.finished(custom)).toBe(2);
      expect(await queue.finished({ queue: 'other', id: 'c' })).toBe(2);
    });

    test('many waiters of one job are all told', async () => {
      const job = await add(1);
      const waits = Array.from({ length: 100 }, () => kit.queue().finished(job));
      await kit.worker(() => 'all');
      expect(await Promise.all(waits)).toEqual(Array(100).fill('all'));
    });

    test('a job that is retried by hand: new waiters wait for the new end', async () => {
      const job = await kit.failed(kit.queue());
      await job.retry();
      const waited = watch(kit.queue().finished(job));
      await kit.settle();
      expect(waited.settled).toBe(false);
      await kit.worker(() => 1);
      await kit.settle();
      expect(waited.value).toBe(1);
    });
  });

  describe('finished, for many jobs', () => {
    test('gives the results in the order given, whatever the order of the ends', async () => {
      const jobs = [await add(1), await add(2), await add(3)];
      const waited = kit.queue().finished(jobs);
      const hand = await kit.hand({ concurrency: 3 });
      await kit.settle();
      for (const run of [...hand.started].reverse()) run.complete(run.job.data * 10);
      expect(await waited).toEqual([10, 20, 30]);
    });

    test('[] gives []', async () => {
      expect(await kit.queue().finished([])).toEqual([]);
      expect(await kit.queue().finished([], { settled: true })).toEqual([]);
    });

    test('repeats keep their places', async () => {
      const [a, b] = [await add(1), await add(2)];
      await kit.worker((job) => job.data);
      expect(await kit.queue().finished([a, b, a.id, a])).toEqual([1, 2, 1, 1]);
    });

    test('rejects with the failure that happened first', async () => {
      const jobs = [await add(1), await add(2), await add(3)];
      const waited = watch(kit.queue().finished(jobs));
      const hand = await kit.hand({ concurrency: 3 });
      await kit.settle();
      hand.started[2]?.fail(new Error('third'));
      await kit.settle();
      hand.started[0]?.fail(new Error('first'));
      await kit.settle();
      expect(waited.error).toBeInstanceOf(JobFailedError);
      expect(waited.error.failedReason).toBe('third');
    });

    test('rejects at once when one has failed before', async () => {
      const failed = await kit.failed(kit.queue());
      const open = await add(1);
      const error = await errorOf(kit.queue().finished([open, failed]));
      expect(error.jobId).toBe(failed.id);
    });

    test('settled: true gives status and value or reason for each, and does not reject', async () => {
      const good = await add('good');
      const bad = await add('bad');
      const cancelled = await add('cancelled', { delay: 10 });
      const removed = await add('removed', { delay: 10 });
      const waited = kit.queue().finished([bad, good, cancelled, removed], { settled: true });
      await kit.settle();
      await kit.queue().cancel(cancelled);
      await removed.remove();
      await kit.worker((job) => {
        if (job.data === 'bad') throw new Error('boom');
        return job.data;
      });
      const results = await waited;
      expect(results.map((one) => one.status)).toEqual(['rejected', 'fulfilled', 'rejected', 'rejected']);
      expect(results[1]).toEqual({ status: 'fulfilled', value: 'good' });
      const reasons = results.map((one) => (one.status === 'rejected' ? one.reason : undefined));
      expect(reasons[0]).toBeInstanceOf(JobFailedError);
      expect(reasons[2]).toBeInstanceOf(JobCancelledError);
      expect(reasons[3]).toBeInstanceOf(JobRemovedError);
    });

    test('one that never existed rejects the call, and settled: true tells it in its place', async () => {
      const job = await add(1);
      expect(await errorOf(kit.queue().finished([job, 'nobody']))).toBeInstanceOf(JobNotFoundError);
      await kit.worker(() => 'ran');
      const results = await kit.queue().finished([job, 'nobody'], { settled: true });
      expect(results[0]).toEqual({ status: 'fulfilled', value: 'ran' });
      expect(results[1]?.status).toBe('rejected');
      expect((results[1] as { reason: Error }).reason).toBeInstanceOf(JobNotFoundError);
    });

    test('one timeout for all, naming those that are left', async () => {
      const jobs = [await add(1), await add(2), await add(3)];
      const waited = watch(kit.queue().finished(jobs, { timeout: 100 }));
      const hand = await kit.hand();
      (await hand.next()).complete();
      await kit.pass(100);
      expect(waited.error).toBeInstanceOf(WaitTimeoutError);
      expect(waited.error.jobIds).toEqual([jobs[1]?.id, jobs[2]?.id]);
    });

    test('a timeout rejects with settled: true too', async () => {
      const waited = watch(kit.queue().finished([await add(1)], { timeout: 100, settled: true }));
      await kit.pass(100);
      expect(waited.error).toBeInstanceOf(WaitTimeoutError);
    });

    test('ten thousand at a time', async () => {
      const jobs = await kit.queue().addBulk(Array.from({ length: 10_000 }, (_, i) => ({ name: 'a', data: i })));
      const waited = kit.queue().finished(jobs);
      await kit.worker((job) => job.data + 1, { concurrency: 50 });
      const results = await waited;
      expect(results[0]).toBe(1);
      expect(results[9999]).toBe(10_000);
      expect(results).toHaveLength(10_000);
    });

    test('a wait that is over is forgotten: its other jobs may end without harm', async () => {
      const jobs = [await add(1), await add(2)];
      const hand = await kit.hand({ concurrency: 2 });
      await kit.settle();
      const waited = watch(kit.queue().finished(jobs));
      const both = watch(kit.queue().finished(jobs, { settled: true }));
      hand.started[0]?.fail(new Error('x'));
      await kit.settle();
      hand.started[1]?.complete(2);
      await kit.settle();
      expect(waited.error).toBeInstanceOf(JobFailedError);
      expect(both.value?.[1]).toEqual({ status: 'fulfilled', value: 2 });
    });
  });

  describe('late waiters', () => {
    test('the result of a job with removeOnComplete: true lingers 30 s', async () => {
      const job = await kit.completed(kit.queue(), 'kept a while', { removeOnComplete: true });
      expect(await job.getState()).toBe('unknown');
      expect(await kit.queue().getJob(job)).toBeUndefined();
      await kit.pass(29_000);
      expect(await kit.queue().finished(job)).toBe('kept a while');
      await kit.pass(2000);
      expect(await errorOf(kit.queue().finished(job))).toBeInstanceOf(JobRemovedError);
    });

    test('so does the failure of a job with removeOnFail: true', async () => {
      const job = await kit.failed(kit.queue(), { removeOnFail: true }, 'gone soon');
      expect(await job.getState()).toBe('unknown');
      const error = await errorOf(kit.queue().finished(job));
      expect(error).toBeInstanceOf(JobFailedError);
      expect(error.failedReason).toBe('gone soon');
      await kit.pass(31_000);
      expect(await errorOf(kit.queue().finished(job))).toBeInstanceOf(JobRemovedError);
    });

    test('ten thousand results may be waited for late', async () => {
      const queue = kit.queue();
      const jobs = await queue.addBulk(
        Array.from({ length: 10_000 }, (_, i) => ({ name: 'a', data: i, opts: { removeOnComplete: true } })),
      );
      await kit.worker((job) => job.data, { concurrency: 10 });
      await queue.finished(jobs.at(-1) as Job);
      await kit.settle();
      const results = await queue.finished(jobs);
      expect(results[0]).toBe(0);
      expect(results.at(-1)).toBe(9999);
    });
  });

  describe('addAndWait', () => {
    test('gives the result', async () => {
      await kit.worker((job) => job.data + 1);
      expect(await kit.queue().addAndWait('a', 1)).toBe(2);
      expect(await kit.queue().addAndWait('a', 1, { removeOnComplete: true })).toBe(2);
      expect(await kit.queue().addAndWait('a', 1, { jobId: 'x', dependsOn: [] }, {})).toBe(2);
    });

    test('rejects as finished does', async () => {
      await kit.worker(() => {
        throw new Error('boom');
      });
      expect(await errorOf(kit.queue().addAndWait('a', 1))).toBeInstanceOf(JobFailedError);
      expect(await errorOf(kit.queue().addAndWait('a', 1, { removeOnFail: true }))).toBeInstanceOf(JobFailedError);
    });

    test('rejects as add does', async () => {
      expect(await errorOf(kit.queue().addAndWait('a', () => 1))).toBeInstanceOf(ValidationError);
      expect((await errorOf(kit.queue().addAndWait('a', 1, { dependsOn: ['x'] }))).name).toBe('UnknownDependencyError');
      expect(await errorOf(kit.queue().addAndWait('a', 1, { jobId: '' }))).toBeInstanceOf(ValidationError);
    });

    test('times out, and the job goes on', async () => {
      const waited = watch(kit.queue().addAndWait('a', 1, { jobId: 'x' }, { timeout: 100 }));
      await kit.pass(100);
      expect(waited.error).toBeInstanceOf(WaitTimeoutError);
      expect(waited.error.jobIds).toEqual(['x']);
      expect(await kit.queue().getJobState('x')).toBe('waiting');
    });

    test('on a job that is there already waits for that one', async () => {
      await kit.queue().add('a', 'first', { jobId: 'x' });
      const waited = kit.queue().addAndWait('a', 'second', { jobId: 'x' });
      await kit.worker((job) => job.data);
      expect(await waited).toBe('first');
      expect(await kit.queue().addAndWait('a', 'third', { jobId: 'x' })).toBe('first');
    });

    test('on a job of which only the id is remembered rejects with JobRemovedError', async () => {
      await kit.completed(kit.queue(), 1, { jobId: 'x', removeOnComplete: true });
      await kit.pass(31_000);
      expect(await errorOf(kit.queue().addAndWait('a', 1, { jobId: 'x' }))).toBeInstanceOf(JobRemovedError);
    });

    test('a blocked job whose dependency fails is told', async () => {
      const bad = await kit.failed(kit.queue());
      expect(await errorOf(kit.queue().addAndWait('a', 1, { dependsOn: [bad] }))).toBeInstanceOf(JobFailedError);
    });
  });

  describe('waitUntilFinished', () => {
    test('is finished for a Job, with or without a time, and in BullMQ’s form', async () => {
      const job = await add(1);
      const timed = watch(job.waitUntilFinished(50));
      const events = watch(job.waitUntilFinished({}, 80));
      await kit.pass(50);
      expect(timed.error).toBeInstanceOf(WaitTimeoutError);
      await kit.pass(30);
      expect(events.error).toBeInstanceOf(WaitTimeoutError);
      await kit.worker(() => 'r');
      expect(await job.waitUntilFinished()).toBe('r');
    });
  });

  test('engine.close rejects those that wait with EngineClosedError', async () => {
    const jobs = [await add(1), await add(2)];
    const waits = [
      watch(kit.queue().finished(jobs[0] as Job)),
      watch(kit.queue().finished(jobs)),
      watch(kit.queue().addAndWait('a', 1, {}, { timeout: 1000 })),
    ];
    await kit.settle();
    await kit.engine.close();
    await kit.settle();
    for (const wait of waits) expect(wait.error).toBeInstanceOf(EngineClosedError);
  });
};
