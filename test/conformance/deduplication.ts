/** Deduplication keys, and what a queue says about ids; section 7 of the semantics. */
import { JobRemovedError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, states, watch } from './kit.js';

export const deduplication: Suite = (harness) => {
  const kit = kitOf(harness);
  const queue = () => kit.queue();
  const add = (data: unknown, key: object = {}, opts: object = {}) =>
    queue().add('a', data, { deduplication: { id: 'k', ...key }, ...opts });

  describe('simple: until the job has ended', () => {
    test.each([
      ['waiting', {}],
      ['delayed', { delay: 1000 }],
    ])('an add while it is %s gives that job, and an event tells', async (state, opts) => {
      const recorder = await kit.recorder();
      const first = await add(1, {}, opts);
      const second = await add(2, {}, opts);
      expect([first.deduplicated, second.deduplicated]).toEqual([false, true]);
      expect(second.id).toBe(first.id);
      expect(second.data).toBe(1);
      expect(await second.getState()).toBe(state);
      await kit.settle();
      expect(recorder.last('deduplicated')).toMatchObject({ jobId: first.id, args: { deduplicationId: 'k' } });
      expect(recorder.count('duplicate:mismatch')).toBe(0);
      expect(await queue().count()).toBe(1);
    });

    test('an add while it runs, and waits for its retry', async () => {
      const first = await add(1, {}, { attempts: 2, backoff: 1000 });
      const hand = await kit.hand();
      const run = await hand.next();
      expect((await add(2)).id).toBe(first.id);
      run.fail(new Error('x'));
      await kit.settle();
      expect((await add(3)).id).toBe(first.id);
      expect(await queue().count()).toBe(1);
    });

    test('the key is free when it has completed, failed for good, or been cancelled', async () => {
      const a = await add(1);
      const worker = await kit.worker(() => 1);
      await queue().finished(a);
      await worker.close();
      const b = await add(2);
      expect(b.deduplicated).toBe(false);
      await queue().moveToDlq(b, 'no');
      const c = await add(3);
      expect(c.deduplicated).toBe(false);
      await queue().cancel(c);
      expect((await add(4)).deduplicated).toBe(false);
    });

    test('other keys, other queues and jobs without a key are others', async () => {
      const jobs = [
        await add(1),
        await add(1, { id: 'other' }),
        await kit.queue('p').add('a', 1, { deduplication: { id: 'k' } }),
        await queue().add('a', 1),
      ];
      expect(jobs.map((job) => job.deduplicated)).toEqual([false, false, false, false]);
      expect(new Set(jobs.map((job) => job.id)).size).toBe(4);
    });

    test('addAndWait waits for the job that is there', async () => {
      const first = await add('first');
      const second = queue().addAndWait('a', 'second', { deduplication: { id: 'k' } });
      await kit.worker((job) => job.data);
      expect(await second).toBe('first');
      expect(await queue().finished(first)).toBe('first');
    });
  });

  describe('the key dies with its job', () => {
    test.each([
      ['remove', (id: string) => queue().remove(id)],
      ['drain', () => queue().drain({ delayed: true })],
      ['obliterate', () => queue().obliterate()],
    ])('%s', async (_name, happens) => {
      for (const key of [{}, { ttl: 60_000 }]) {
        const job = await add(1, key, { delay: 10 });
        await happens(job.id);
        expect(await queue().getDeduplicationJobId('k')).toBeNull();
        const next = await add(2, key, { delay: 10 });
        expect(next.deduplicated).toBe(false);
        await queue().remove(next);
      }
    });

    test('a record that was removed does not free the key of the one after it', async () => {
      const a = await add(1);
      const worker = await kit.worker(() => 1);
      await queue().finished(a);
      await worker.close();
      const b = await add(2);
      await queue().remove(a);
      expect((await add(3)).id).toBe(b.id);
    });
  });

  describe('throttle: a ttl', () => {
    test('holds the key for its time, also after the job has ended and its record has gone', async () => {
      const a = await add(1, { ttl: 1000 }, { removeOnComplete: true });
      const worker = await kit.worker(() => 1);
      await queue().finished(a);
      await worker.close();
      await kit.pass(500);
      const b = await add(2, { ttl: 1000 });
      expect([b.deduplicated, b.id]).toEqual([true, a.id]);
      await kit.pass(501);
      expect((await add(3, { ttl: 1000 })).deduplicated).toBe(false);
    });

    test('over, while the job still waits', async () => {
      const a = await add(1, { ttl: 1000 });
      await kit.pass(1001);
      const b = await add(2, { ttl: 1000 });
      expect(b.deduplicated).toBe(false);
      expect(b.id).not.toBe(a.id);
    });

    test('extend lets it begin anew', async () => {
      const a = await add(1, { ttl: 1000 });
      await kit.pass(900);
      await add(2, { ttl: 1000, extend: true });
      await kit.pass(900);
      expect((await add(3, { ttl: 1000 })).id).toBe(a.id);
      await kit.pass(200);
      expect((await add(4, { ttl: 1000 })).deduplicated).toBe(false);
    });

    test('a record that is gone for good: the id is all that is given', async () => {
      const a = await add(1, { ttl: 60_000 }, { removeOnComplete: { age: 10 } });
      const worker = await kit.worker(() => 1);
      await queue().finished(a);
      await worker.close();
      await kit.pass(11);
      const recorder = await kit.recorder();
      const b = await add(2, { ttl: 60_000 });
      expect([b.deduplicated, b.id, b.returnvalue]).toEqual([true, a.id, undefined]);
      await kit.settle();
      expect(recorder.last('deduplicated')).toMatchObject({ jobId: a.id });
      expect(await queue().count()).toBe(0);
    });

    test('addAndWait of one whose record is gone: it was removed, whatever its id', async () => {
      const forgotten = { removeOnComplete: { age: 10 }, idempotencyTtl: 0, deduplication: { id: 'k', ttl: 60_000 } };
      await kit.completed(queue(), 1, { jobId: 'mine', ...forgotten });
      await kit.pass(11);
      expect(await errorOf(queue().addAndWait('a', 2, forgotten))).toBeInstanceOf(JobRemovedError);
    });
  });

  describe('debounce: replace', () => {
    test('the newest add counts, and the delay begins anew', async () => {
      const key = { ttl: 1000, extend: true, replace: true };
      const first = await add('old', key, { delay: 1000 });
      const waited = watch(queue().finished(first));
      await kit.pass(900);
      const second = await add('new', key, { delay: 1000, priority: 3 });
      expect([second.id, second.deduplicated, second.data]).toEqual([first.id, true, 'new']);
      await kit.pass(900);
      expect(await queue().getDelayedCount()).toBe(1);
      await kit.worker((job) => job.data);
      await kit.pass(101);
      expect(waited.value).toBe('new');
      expect(await queue().getJobCounts()).toMatchObject({ completed: 1, waiting: 0, delayed: 0 });
    });

    test('only while it is delayed', async () => {
      const key = { replace: true };
      const first = await add('old', key, { delay: 100 });
      await kit.pass(100);
      const second = await add('new', key, { delay: 100 });
      expect([second.id, second.data]).toEqual([first.id, 'old']);
    });

    test('not while it waits for a retry', async () => {
      const first = await add('old', { replace: true }, { attempts: 2, backoff: 1000 });
      const hand = await kit.hand();
      (await hand.next()).fail(new Error('x'));
      await kit.settle();
      const second = await add('new', { replace: true }, { delay: 5000 });
      expect([second.id, second.data]).toEqual([first.id, 'old']);
    });

    test('with a jobId of its own the old job makes way for it', async () => {
      const old = await add('old', { replace: true }, { delay: 100, jobId: 'one' });
      const job = await add('new', { replace: true }, { delay: 100, jobId: 'two' });
      expect([job.id, job.deduplicated]).toEqual(['two', false]);
      expect(await states(old, job)).toEqual(['unknown', 'delayed']);
      expect(await queue().getDeduplicationJobId('k')).toBe('two');
    });
  });

  test('replace without extend leaves the key its time, whichever way the job is replaced', async () => {
    for (const ids of [{}, { jobId: 'a' }]) {
      const key = { ttl: 1000, replace: true };
      await add('old', key, { delay: 5000, ...ids });
      await kit.pass(600);
      await add('new', key, { delay: 5000, ...('jobId' in ids ? { jobId: 'b' } : {}) });
      expect(await queue().getDelayedCount()).toBe(1);
      await kit.pass(401);
      expect(await queue().getDeduplicationJobId('k')).toBeNull();
      await queue().drain({ delayed: true });
    }
  });

  describe('keepLastIfActive', () => {
    const key = { keepLastIfActive: true };

    test('the last add while it runs is added when it has ended', async () => {
      const hand = await kit.hand();
      const first = await add(1, key);
      const run = await hand.next();
      for (const data of [2, 3]) expect((await add(data, key, { priority: data })).id).toBe(first.id);
      expect(await queue().count()).toBe(0);
      run.complete('one');
      const second = await hand.next();
      expect(second.job.data).toBe(3);
      expect(second.job.priority).toBe(3);
      expect(await queue().getDeduplicationJobId('k')).toBe(second.job.id);
      second.fail(new Error('x'));
      await kit.settle();
      expect(await queue().getJobCounts()).toMatchObject({ waiting: 0, active: 0, completed: 1, failed: 1 });
      expect(await queue().getDeduplicationJobId('k')).toBeNull();
    });

    test('while it waits, adds are dropped as ever; a retry does not let the next one in', async () => {
      const first = await add(1, key, { attempts: 2 });
      await add('dropped', key);
      const hand = await kit.hand();
      const run = await hand.next();
      await add('kept', key, { jobId: 'mine' });
      run.fail(new Error('x'));
      const again = await hand.next();
      expect(again.job.id).toBe(first.id);
      again.complete();
      const next = await hand.next();
      expect([next.job.id, next.job.data]).toEqual(['mine', 'kept']);
    });
  });

  test('a job that is replaced by its jobId lets go of its key, and takes the one that it is given unless that is held', async () => {
    const recorder = await kit.recorder();
    const replaceBy = (key: object) => queue().add('a', 2, { jobId: 'x', onDuplicate: 'replace', ...key });
    const holders = async () => [await queue().getDeduplicationJobId('k'), await queue().getDeduplicationJobId('m')];
    await add(1, {}, { jobId: 'x' });
    await replaceBy({ deduplication: { id: 'k' } });
    expect(await holders()).toEqual(['x', null]);
    await replaceBy({ deduplication: { id: 'm' } });
    expect(await holders()).toEqual([null, 'x']);
    const other = await add(3);
    await replaceBy({ deduplication: { id: 'k' } });
    expect(await holders()).toEqual([other.id, null]);
    await replaceBy({});
    expect(await holders()).toEqual([other.id, null]);
    await kit.settle();
    expect(recorder.count('replaced')).toBe(4);
  });

  test('a job that takes the place of the one it depends on has lost its dependency, once', async () => {
    const recorder = await kit.recorder();
    const old = await add(1, { replace: true }, { delay: 1000, jobId: 'old' });
    const job = await add(2, { replace: true }, { delay: 1000, jobId: 'new', dependsOn: [old] });
    await kit.settle();
    expect(recorder.of(job)).toEqual(['added', 'blocked', 'failed']);
    expect(await states(old, job)).toEqual(['unknown', 'failed']);
    expect(await queue().getDeduplicationJobId('k')).toBeNull();
  });

  describe('many in one call', () => {
    test('items of one key are one job', async () => {
      const jobs = await queue().addBulk([
        { name: 'a', data: 1, opts: { deduplication: { id: 'k' } } },
        { name: 'a', data: 2, opts: { deduplication: { id: 'other' } } },
        { name: 'a', data: 3, opts: { deduplication: { id: 'k' } } },
      ]);
      expect(jobs.map((job) => job.deduplicated)).toEqual([false, false, true]);
      expect(jobs[2]?.id).toBe(jobs[0]?.id);
      expect(await queue().count()).toBe(2);
    });

    test('with replace the last of them counts', async () => {
      const opts = { delay: 100, deduplication: { id: 'k', replace: true } };
      for (let round = 0; round < 2; round++) {
        const jobs = await queue().addBulk([1, 2, 3].map((n) => ({ name: 'a', data: n + round * 10, opts })));
        expect(new Set(jobs.map((job) => job.id)).size).toBe(1);
        expect(await queue().count()).toBe(1);
        expect((await queue().getJob(jobs[0] as never))?.data).toBe(3 + round * 10);
      }
    });

    test('one that is given the job that a later one takes the place of, and one that is given what a later one runs again', async () => {
      const old = await add(1, {}, { delay: 100, jobId: 'old' });
      const opts = { deduplication: { id: 'k' } };
      const displaced = await queue().addBulk([
        { name: 'a', data: 2, opts },
        { name: 'a', data: 3, opts: { delay: 100, jobId: 'new', deduplication: { id: 'k', replace: true } } },
      ]);
      expect(displaced.map(({ id, data }) => [id, data])).toEqual([
        ['old', 1],
        ['new', 3],
      ]);
      expect(await old.getState()).toBe('unknown');
      await kit.completed(queue(), 1, { jobId: 'x', deduplication: { id: 'm', ttl: 60_000 } });
      const rerun = await queue().addBulk([
        { name: 'a', data: 4, opts: { deduplication: { id: 'm', ttl: 60_000 } } },
        { name: 'a', data: 5, opts: { jobId: 'x', onDuplicate: 'rerun' } },
      ]);
      expect(rerun.map(({ id, data, deduplicated }) => [id, data, deduplicated])).toEqual([
        ['x', 5, true],
        ['x', 5, false],
      ]);
    });

    test('one of the same id as one that the key has given another job gets that job', async () => {
      const opts = { jobId: 'x', deduplication: { id: 'k', ttl: 60_000 } };
      const items = [
        { name: 'a', data: 1, opts: { ...opts, jobId: undefined, removeOnComplete: { age: 10 } } },
        { name: 'a', data: 2, opts },
        { name: 'a', data: 3, opts: { jobId: 'x' } },
      ];
      const jobs = await queue().addBulk(items);
      const answers = (all: typeof jobs) => all.map(({ id, deduplicated }) => [id === jobs[0]?.id, deduplicated]);
      expect(answers(jobs)).toEqual([
        [true, false],
        [true, true],
        [true, true],
      ]);
      expect(jobs.map(({ data }) => data)).toEqual([1, 1, 1]);
      expect(await queue().count()).toBe(1);
      await kit.worker(() => 1);
      await kit.pass(1000);
      const again = await queue().addBulk(items); // there is no record of it any more
      expect(answers(again)).toEqual(Array.from({ length: 3 }, () => [true, true]));
    });

    test('an atomic call that is refused leaves no key', async () => {
      const items = [
        { name: 'a', data: 1, opts: { deduplication: { id: 'k' } } },
        { name: 'a', data: 2, opts: { dependsOn: ['absent'] } },
      ];
      await errorOf(queue().addBulk(items));
      expect(await queue().getDeduplicationJobId('k')).toBeNull();
    });
  });

  test('getDeduplicationJobId and removeDeduplicationKey', async () => {
    expect(await queue().getDeduplicationJobId('k')).toBeNull();
    const first = await add(1);
    expect(await queue().getDeduplicationJobId('k')).toBe(first.id);
    expect(await queue().removeDeduplicationKey('k')).toBe(1);
    expect(await queue().removeDeduplicationKey('k')).toBe(0);
    expect((await add(2)).deduplicated).toBe(false);
    expect(await first.getState()).toBe('waiting');
  });

  test('a jobId that is there comes first', async () => {
    const mine = await queue().add('a', 'mine', { jobId: 'x' });
    const held = await add('held');
    const job = await add('new', {}, { jobId: 'x' });
    expect(job.id).toBe(mine.id);
    expect((await add('newer', {}, { jobId: 'y' })).id).toBe(held.id);
  });

  test.each([
    [{}, /id/],
    [{ id: '' }, /id/],
    [{ id: 'x', ttl: 0 }, /ttl/],
    [{ id: 'x', extend: true }, /ttl/],
    [{ id: 'x', keepLastIfActive: true, ttl: 5 }, /ttl/],
    [{ id: 'x', replce: true }, /replace/],
  ])('deduplication: %j is refused', async (value, message) => {
    const error = await errorOf(queue().add('a', 1, { deduplication: value as never }));
    expect(error).toBeInstanceOf(ValidationError);
    expect(error.message).toMatch(message);
    expect(() => kit.queue('q', { defaultJobOptions: { deduplication: { id: 'x' } } })).toThrow(ValidationError);
  });

  describe('settings of the queue', () => {
    const done = async (jobId: string, opts: object = {}) => {
      await kit.completed(queue(), 1, { jobId, removeOnComplete: { age: 10 }, ...opts });
      await kit.pass(11);
    };
    const isKnown = async (jobId: string) => (await queue().add('a', null, { jobId, delay: 1e9 })).deduplicated;

    test('idempotencyTtl, for jobs that do not say', async () => {
      await queue().configure({ idempotencyTtl: 1000 });
      await done('a');
      await done('b', { idempotencyTtl: 60_000 });
      await kit.pass(1000);
      expect([await isKnown('a'), await isKnown('b')]).toEqual([false, true]);
    });

    test('idempotencyTtl 0: forgotten with its record', async () => {
      await queue().configure({ idempotencyTtl: 0 });
      await done('a');
      expect(await isKnown('a')).toBe(false);
    });

    test('idempotencyMax bounds this queue, at once, and the oldest go with an event', async () => {
      await queue().configure({ idempotencyMax: 2 });
      const recorder = await kit.recorder();
      for (const id of ['a', 'b', 'c']) await done(id);
      expect(recorder.last('idempotency:evicted')?.jobId).toBe('a');
      await queue().configure({ idempotencyMax: 1 });
      expect(recorder.last('idempotency:evicted')?.jobId).toBe('b');
      expect([await isKnown('a'), await isKnown('b'), await isKnown('c')]).toEqual([false, false, true]);
    });

    test('null gives the default back', async () => {
      await queue().configure({ idempotencyTtl: 0, maxDeliveries: 2, idempotencyMax: 5 });
      expect(await queue().getConfig()).toEqual({ idempotencyTtl: 0, maxDeliveries: 2, idempotencyMax: 5 });
      await queue().configure({ idempotencyTtl: null, maxDeliveries: null, idempotencyMax: null });
      expect(await queue().getConfig()).toEqual({});
      await done('a');
      expect(await isKnown('a')).toBe(true);
    });
  });
};
