import {
  EngineClosedError,
  JobCancelledError,
  JobFailedError,
  JobNotFoundError,
  JobRemovedError,
  WaitTimeoutError,
} from 'flashq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Bench, bench, turn } from '../support/engine.js';

let b: Bench;
beforeEach(async () => {
  b = await bench();
});
afterEach(() => b.close());

describe('finished', () => {
  test('is the result, also of a job that has finished already, for any number of waiters', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const job = await queue.add('a', 1);
    const [one, two] = [queue.finished(job), queue.finished(job.id)];
    await (await hands.next()).complete({ list: [1] });
    const results = [await one, await two, await queue.finished(job)] as { list: number[] }[];
    expect(results).toEqual([{ list: [1] }, { list: [1] }, { list: [1] }]);
    results[0]!.list.push(2);
    expect(results[1]!.list).toEqual([1]); // each waiter has its own
  });

  test('each way of not completing has its error', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const failing = await queue.add('a', 1);
    const told = queue.finished(failing).catch((error: unknown) => error as JobFailedError);
    await (await hands.next()).fail(new Error('why'));
    const failed = (await told) as JobFailedError;
    expect(failed).toBeInstanceOf(JobFailedError);
    expect([failed.jobId, failed.failedReason]).toEqual([failing.id, 'why']);
    expect(failed.stacktrace.length).toBe(1);
    await queue.pause();
    const [cancelled, removed] = [await queue.add('b', 1), await queue.add('c', 1)];
    const waits = [cancelled, removed].map((job) => queue.finished(job).catch((error: unknown) => error));
    await queue.cancel(cancelled, 'reason');
    await queue.remove(removed);
    const [one, two] = await Promise.all(waits);
    expect(one).toBeInstanceOf(JobCancelledError);
    expect(two).toBeInstanceOf(JobRemovedError);
    await expect(queue.finished('nobody')).rejects.toThrow(JobNotFoundError);
  });

  test('many at once: results in order, or the first failure, or all settled', async () => {
    const queue = b.queue();
    b.worker((job) => {
      if (job.data < 0) throw new Error(`no ${job.data}`);
      return job.data;
    });
    const jobs = await queue.addBulk([3, -1, 2, -2].map((data) => ({ name: 'a', data })));
    expect(await queue.finished([jobs[2]!, jobs[0]!, jobs[2]!])).toEqual([2, 3, 2]);
    await expect(queue.finished(jobs)).rejects.toMatchObject({ failedReason: 'no -1' });
    const settled = await queue.finished(jobs, { settled: true });
    expect(settled.map((one) => one.status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected']);
    expect(await queue.finished([])).toEqual([]);
  });

  test('times out with the names of what was still open, and the job goes on', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const [one, two] = [await queue.add('a', 1), await queue.add('b', 1)];
    const told = queue.finished([one, two], { timeout: 100 }).catch((error: unknown) => error as WaitTimeoutError);
    await (await hands.next()).complete();
    await b.clock.advance(100);
    const error = (await told) as WaitTimeoutError;
    expect(error).toBeInstanceOf(WaitTimeoutError);
    expect(error.message).toContain(two.id);
    expect(error.message).not.toContain(one.id);
    await (await hands.next()).complete('still');
    expect(await queue.finished(two)).toBe('still');
  });

  test('the result of a job removed at once lingers 30 s for late waiters', async () => {
    const queue = b.queue();
    b.worker(() => 'late');
    const job = await queue.add('a', 1, { removeOnComplete: true });
    await turn();
    expect(await queue.getJob(job)).toBeUndefined();
    await b.clock.advance(29_000);
    expect(await queue.finished(job)).toBe('late');
    await b.clock.advance(2000);
    await expect(queue.finished(job)).rejects.toThrow(JobRemovedError);
  });

  test('addAndWait on a job that is there waits for that one', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const one = queue.addAndWait('a', 1, { jobId: 'x' });
    const two = queue.addAndWait('a', 1, { jobId: 'x' });
    await (await hands.next()).complete(7);
    expect([await one, await two]).toEqual([7, 7]);
    const late = queue.addAndWait('a', 1, { delay: 1e6 }, { timeout: 50 }).catch((error: unknown) => error);
    await b.clock.advance(50);
    expect(await late).toBeInstanceOf(WaitTimeoutError);
  });

  test('whoever still waits when the engine closes is told', async () => {
    const queue = b.queue();
    const told = queue.addAndWait('a', 1).catch((error: unknown) => error);
    await turn();
    await b.engine.close();
    expect(await told).toBeInstanceOf(EngineClosedError);
    await expect(queue.add('b', 1)).rejects.toThrow(EngineClosedError);
    await expect(queue.getJobCounts()).rejects.toThrow(EngineClosedError);
  });
});

describe('retention', () => {
  test('by count and by age, driven by time and not by the next job', async () => {
    const queue = b.queue();
    b.worker(() => 1);
    const jobs = await queue.addBulk(
      Array.from({ length: 5 }, (_, i) => ({ name: `a${i}`, data: i, opts: { removeOnComplete: { count: 2 } } })),
    );
    await queue.finished(jobs[4]!);
    expect((await queue.getJobCounts()).completed).toBe(2);
    const aged = await queue.add('aged', 1, { removeOnComplete: { age: 500 } });
    await queue.finished(aged);
    await b.clock.advance(500);
    expect(await queue.getJob(aged)).toBeUndefined();
  });

  test('completed and cancelled jobs go after an hour by themselves; failed ones stay', async () => {
    const queue = b.queue();
    b.worker((job) => {
      if (job.name === 'bad') throw new Error('no');
    });
    const done = await queue.add('done', 1);
    const bad = await queue.add('bad', 1);
    const gone = await queue.add('gone', 1, { delay: 1e6 });
    await queue.cancel(gone);
    await turn();
    await b.clock.advance(3_599_000);
    expect((await queue.getJobCounts()).completed).toBe(1);
    await b.clock.advance(2000);
    expect(await queue.getJobCounts()).toMatchObject({ completed: 0, cancelled: 0, failed: 1 });
    expect([await done.getState(), await gone.getState(), await bad.getState()]).toEqual([
      'unknown',
      'unknown',
      'failed',
    ]);
  });

  test('removeOnFail: true skips the DLQ but still tells waiters and dependents', async () => {
    const queue = b.queue();
    b.worker(() => {
      throw new Error('no');
    });
    const job = await queue.add('a', 1, { removeOnFail: true, delay: 10 });
    const told = queue.finished(job).catch((error: Error) => error.constructor.name);
    const dependent = await queue.add('b', 1, { depends_on: [job] });
    await b.clock.advance(10);
    expect(await told).toBe('JobFailedError');
    expect(await dependent.getState()).toBe('failed');
    expect(await queue.getDlqCount()).toBe(1); // the dependent alone
  });
});
