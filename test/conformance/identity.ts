/** Custom ids: what an `add` of an id that is there, or was, gives; section 7 of the semantics. */
import { DuplicateJobError, type Job, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, watch } from './kit.js';

const DAY_MS = 86_400_000;

export const identity: Suite = (harness) => {
  const kit = kitOf(harness);
  const add = (data: unknown, opts = {}) => kit.queue().add('a', data, opts);

  describe('return, the default', () => {
    test.each([
      ['waiting', {}],
      ['delayed', { delay: 1000 }],
    ])('a %s job comes back, deduplicated', async (state, opts) => {
      const first = await add('first', { jobId: 'x', ...opts });
      const second = await add('second', { jobId: 'x', priority: 9 });
      expect(first.deduplicated).toBe(false);
      expect(second.deduplicated).toBe(true);
      expect(second.id).toBe('x');
      expect(second.data).toBe('first');
      expect(second.priority).toBe(0);
      expect(await second.getState()).toBe(state);
      expect(await kit.queue().count()).toBe(1);
    });

    test('a blocked and an active job come back', async () => {
      const needed = await add('needed', { jobId: 'n' });
      await add('blocked', { jobId: 'b', dependsOn: [needed] });
      const hand = await kit.hand();
      await hand.next();
      const [n, b] = [await add(1, { jobId: 'n' }), await add(1, { jobId: 'b' })];
      expect([n.deduplicated, b.deduplicated]).toEqual([true, true]);
      expect([await n.getState(), await b.getState()]).toEqual(['active', 'blocked']);
    });

    test('a finished job comes back with its result while the record is kept', async () => {
      await kit.completed(kit.queue(), { r: 1 }, { jobId: 'x' });
      const again = await add('again', { jobId: 'x' });
      expect(again.deduplicated).toBe(true);
      expect(again.returnvalue).toEqual({ r: 1 });
      expect(again.finishedOn).toBe(kit.now);
    });

    test('a failed job comes back failed, and a cancelled one cancelled', async () => {
      await kit.failed(kit.queue(), { jobId: 'f' }, 'why');
      const failed = await add(1, { jobId: 'f' });
      expect(failed.deduplicated).toBe(true);
      expect(failed.failedReason).toBe('why');
      expect(await failed.getState()).toBe('failed');
      const cancelled = await add(1, { jobId: 'c' });
      await kit.queue().cancel(cancelled, 'no');
      const again = await add(1, { jobId: 'c' });
      expect(again.deduplicated).toBe(true);
      expect(await again.getState()).toBe('cancelled');
      expect(await kit.queue().getWaitingCount()).toBe(0);
    });

    test('the job object of a deduplicated add acts on the job that is there', async () => {
      await add('first', { jobId: 'x', delay: 1000 });
      const again = await add('second', { jobId: 'x' });
      await again.promote();
      expect(await again.getState()).toBe('waiting');
    });

    test('without a jobId two equal jobs are two jobs', async () => {
      const [a, b] = [await add(1), await add(1)];
      expect(a.id).not.toBe(b.id);
      expect(await kit.queue().count()).toBe(2);
    });
  });

  describe('what is remembered', () => {
    test('after the record has gone, an add returns deduplicated without a result', async () => {
      await kit.completed(kit.queue(), 'result', { jobId: 'x', removeOnComplete: { age: 1000 } });
      await kit.pass(1001);
      expect(await kit.queue().getJob('x')).toBeUndefined();
      const again = await add(null, { jobId: 'x' });
      expect(again.deduplicated).toBe(true);
      expect(again.returnvalue).toBeUndefined();
      expect(await kit.queue().count()).toBe(0);
    });

    test('an id is remembered for 24 h from finishing', async () => {
      await kit.completed(kit.queue(), 1, { jobId: 'x', removeOnComplete: true });
      await kit.pass(DAY_MS - 1);
      expect((await add(1, { jobId: 'x' })).deduplicated).toBe(true);
      await kit.pass(2);
      expect((await add(1, { jobId: 'x' })).deduplicated).toBe(false);
    });

    test('idempotencyTtl says how long', async () => {
      await kit.completed(kit.queue(), 1, { jobId: 'x', removeOnComplete: true, idempotencyTtl: 60_000 });
      await kit.pass(59_999);
      expect((await add(1, { jobId: 'x' })).deduplicated).toBe(true);
      await kit.pass(2);
      expect((await add(1, { jobId: 'x' })).deduplicated).toBe(false);
    });

    test('idempotencyTtl 0: forgotten with its record', async () => {
      await kit.completed(kit.queue(), 1, { jobId: 'x', removeOnComplete: { age: 1000 }, idempotencyTtl: 0 });
      expect((await add(1, { jobId: 'x' })).deduplicated).toBe(true);
      await kit.pass(1001);
      expect((await add(1, { jobId: 'x' })).deduplicated).toBe(false);
    });

    test('a record that is kept longer than the ttl still answers', async () => {
      await kit.completed(kit.queue(), 1, { jobId: 'x', removeOnComplete: false, idempotencyTtl: 1000 });
      await kit.pass(DAY_MS * 10);
      const again = await add(1, { jobId: 'x' });
      expect(again.deduplicated).toBe(true);
      expect(again.returnvalue).toBe(1);
    });

    test('a remembered id of a failed or cancelled job', async () => {
      await kit.failed(kit.queue(), { jobId: 'f', removeOnFail: true });
      const cancelled = await add(1, { jobId: 'c', removeOnComplete: true });
      await kit.queue().cancel(cancelled);
      await kit.pass(31_000);
      for (const jobId of ['f', 'c']) expect((await add(1, { jobId })).deduplicated).toBe(true);
    });

    test('ids without custom id are not remembered', async () => {
      const job = await kit.completed(kit.queue(), 1, { removeOnComplete: { age: 10 } });
      await kit.pass(11);
      expect(await kit.queue().getJob(job)).toBeUndefined();
    });

    test('remove forgets the id, of a record and of a remembered one', async () => {
      await kit.completed(kit.queue(), 1, { jobId: 'kept' });
      await kit.completed(kit.queue(), 1, { jobId: 'remembered', removeOnComplete: { age: 10 } });
      await kit.pass(11);
      await kit.queue().remove('kept');
      await kit.queue().remove('remembered');
      for (const jobId of ['kept', 'remembered']) expect((await add(1, { jobId })).deduplicated).toBe(false);
    });

    test('obliterate forgets all ids of its queue, and no other', async () => {
      await kit.completed(kit.queue('q'), 1, { jobId: 'x', removeOnComplete: true });
      await kit.completed(kit.queue('other'), 1, { jobId: 'x', removeOnComplete: true });
      await kit.pass(31_000);
      await kit.queue().obliterate();
      expect((await add(1, { jobId: 'x' })).deduplicated).toBe(false);
      expect((await kit.queue('other').add('a', 1, { jobId: 'x' })).deduplicated).toBe(true);
    });

    test('idempotencyMax bounds how many, the oldest go, and an event tells', async () => {
      await kit.reopen({ idempotencyMax: 3 });
      const recorder = await kit.recorder();
      for (let i = 0; i < 5; i++) {
        await kit.completed(kit.queue(), i, { jobId: `x${i}`, removeOnComplete: { age: 10 } });
        await kit.pass(11);
      }
      const known: boolean[] = [];
      for (let i = 0; i < 5; i++) known.push((await add(null, { jobId: `x${i}`, delay: DAY_MS })).deduplicated);
      expect(known).toEqual([false, false, true, true, true]);
      expect(recorder.count('idempotency:evicted')).toBe(2);
      expect(recorder.last('idempotency:evicted')?.jobId).toBe('x1');
    });
  });

  describe('another payload under the same id', () => {
    test('is told by the event duplicate:mismatch, and the job that is there is returned', async () => {
      const recorder = await kit.recorder();
      await add({ n: 1 }, { jobId: 'x' });
      await add({ n: 1 }, { jobId: 'x' });
      await kit.settle();
      expect(recorder.count('duplicate:mismatch')).toBe(0);
      expect(recorder.count('deduplicated')).toBe(1);
      const other = await add({ n: 2 }, { jobId: 'x' });
      await kit.settle();
      expect(other.data).toEqual({ n: 1 });
      expect(recorder.last('duplicate:mismatch')?.jobId).toBe('x');
    });

    test('also when only the hash of the payload is left', async () => {
      const recorder = await kit.recorder();
      await kit.completed(kit.queue(), 1, { jobId: 'x', removeOnComplete: { age: 10 } });
      await kit.pass(11);
      await add(null, { jobId: 'x' });
      await kit.settle();
      expect(recorder.count('duplicate:mismatch')).toBe(0);
      await add('other', { jobId: 'x' });
      await kit.settle();
      expect(recorder.count('duplicate:mismatch')).toBe(1);
    });

    test('also between two items of one call', async () => {
      const recorder = await kit.recorder();
      await kit.queue().addBulk([
        { name: 'a', data: 1, opts: { jobId: 'x' } },
        { name: 'a', data: 2, opts: { jobId: 'x' } },
      ]);
      await kit.settle();
      expect(recorder.count('duplicate:mismatch')).toBe(1);
      expect(recorder.count('deduplicated')).toBe(1);
    });
  });

  describe('error', () => {
    test('DuplicateJobError with id and state, for any job that is there or remembered', async () => {
      const opts = { onDuplicate: 'error' } as const;
      await add(1, { jobId: 'w', ...opts });
      await kit.failed(kit.queue('q'), { jobId: 'f', priority: 9 });
      const error = await errorOf(add(1, { jobId: 'w', ...opts }));
      expect(error).toBeInstanceOf(DuplicateJobError);
      expect(error).toMatchObject({ queue: 'q', jobId: 'w', code: 'FLASHQ_DUPLICATE_JOB' });
      expect((await errorOf(add(1, { jobId: 'f', ...opts }))).state).toBe('failed');
      await kit.completed(kit.queue(), 1, { jobId: 'r', removeOnComplete: true });
      await kit.pass(31_000);
      expect((await errorOf(add(1, { jobId: 'r', ...opts }))).state).toBe('completed');
    });
  });

  describe('replace', () => {
    const opts = { onDuplicate: 'replace' } as const;

    test.each([
      ['waiting', {}],
      ['delayed', { delay: 1000 }],
    ])('a %s job gets the new data and options', async (_state, before) => {
      await add('old', { jobId: 'x', ...before });
      const job = await add('new', { jobId: 'x', ...opts, attempts: 4, priority: 3 });
      expect(job.id).toBe('x');
      const record = await kit.queue().getJob('x');
      expect(record?.data).toBe('new');
      expect(record?.opts).toMatchObject({ attempts: 4, priority: 3 });
      expect(await job.getState()).toBe('waiting');
      expect(await kit.queue().count()).toBe(1);
      expect(await kit.order()).toEqual(['new']);
    });

    test('a blocked job gets the new dependencies', async () => {
      const [a, b] = [await add('a', { delay: 100 }), await add('b', { delay: 200 })];
      await add('old', { jobId: 'x', dependsOn: [a] });
      const job = await add('new', { jobId: 'x', dependsOn: [b], ...opts });
      expect((await job.getDependencies()).map((one) => one.id)).toEqual([b.id]);
      await kit.worker((run) => run.data);
      await kit.pass(100);
      expect(await job.getState()).toBe('blocked');
      await kit.pass(100);
      expect(await kit.queue().finished(job)).toBe('new');
    });

    test('a waiting job may be delayed, and blocked, by it', async () => {
      await add('old', { jobId: 'x' });
      expect(await (await add('new', { jobId: 'x', ...opts, delay: 500 })).getState()).toBe('delayed');
      const needed = await add('needed');
      expect(await (await add('newer', { jobId: 'x', ...opts, dependsOn: [needed] })).getState()).toBe('blocked');
      await kit.pass(500);
      expect(await kit.queue().getJobState('x')).toBe('blocked');
    });

    test('shows another name', async () => {
      await kit.queue().add('one', 1, { jobId: 'x' });
      await kit.queue().add('two', 2, { jobId: 'x', ...opts });
      expect((await kit.queue().getJob('x'))?.name).toBe('two');
    });

    test('waiters and dependents wait on', async () => {
      const first = await add('old', { jobId: 'x' });
      const dependent = await add('d', { dependsOn: [first] });
      const waited = watch(kit.queue().finished(first));
      await add('new', { jobId: 'x', ...opts });
      await kit.settle();
      expect(waited.settled).toBe(false);
      expect(await dependent.getState()).toBe('blocked');
      await kit.worker((job) => job.data);
      await kit.settle();
      expect(waited.value).toBe('new');
      expect(await dependent.getState()).toBe('completed');
    });

    test('a cycle through jobs that are there is refused, and nothing has changed', async () => {
      await add('x', { jobId: 'x' });
      await add('y', { jobId: 'y', dependsOn: ['x'] });
      await add('z', { jobId: 'z', dependsOn: ['y'] });
      for (const dependsOn of [['x'], ['y'], ['z']]) {
        expect(await errorOf(add('new', { jobId: 'x', dependsOn, ...opts }))).toBeInstanceOf(ValidationError);
      }
      expect(await kit.order()).toEqual(['x', 'y', 'z']);
    });

    test('two items of a call that replace jobs by ones that wait for each other are refused', async () => {
      for (const jobId of ['x', 'y']) await add('old', { jobId });
      const answers = await kit.queue().addBulk(
        [
          { name: 'a', data: 'new', opts: { jobId: 'x', dependsOn: ['y'], ...opts } },
          { name: 'a', data: 'new', opts: { jobId: 'y', dependsOn: ['x'], ...opts } },
        ],
        { atomic: false },
      );
      expect(answers.map(({ ok }) => ok)).toEqual([false, false]);
      expect(await kit.order()).toEqual(['old', 'old']);
    });

    test('a job that has started stays as it is', async () => {
      await add('old', { jobId: 'x' });
      const hand = await kit.hand();
      const run = await hand.next();
      const again = await add('new', { jobId: 'x', ...opts });
      expect(again.deduplicated).toBe(true);
      expect(again.data).toBe('old');
      run.complete('done');
      await kit.settle();
      const after = await add('new', { jobId: 'x', ...opts });
      expect(after.returnvalue).toBe('done');
    });

    test('a job that waits for its retry has started', async () => {
      await add('old', { jobId: 'x', attempts: 2, backoff: 1000 });
      const hand = await kit.hand();
      (await hand.next()).fail(new Error('x'));
      await kit.settle();
      const again = await add('new', { jobId: 'x', ...opts });
      expect(again.data).toBe('old');
      expect((await kit.queue().getJob('x'))?.data).toBe('old');
    });
  });

  describe('rerun', () => {
    const opts = { onDuplicate: 'rerun' } as const;

    test('a finished job runs again under its id', async () => {
      await kit.completed(kit.queue(), 'first', { jobId: 'x' });
      const job = await add('again', { jobId: 'x', ...opts });
      expect(job.deduplicated).toBe(false);
      expect(await job.getState()).toBe('waiting');
      await kit.worker((run) => `second: ${run.data}`);
      expect(await kit.queue().finished('x')).toBe('second: again');
      expect(await kit.queue().getCompletedCount()).toBe(1);
    });

    test('a failed, a cancelled and a remembered one too', async () => {
      await kit.failed(kit.queue(), { jobId: 'f' });
      await add(1, { jobId: 'c' });
      await kit.queue().cancel('c');
      await kit.completed(kit.queue(), 1, { jobId: 'r', removeOnComplete: true });
      await kit.pass(31_000);
      for (const jobId of ['f', 'c', 'r']) {
        const job = await add('again', { jobId, ...opts });
        expect(job.deduplicated).toBe(false);
        expect(await job.getState()).toBe('waiting');
      }
      expect(await kit.queue().getDlqCount()).toBe(0);
    });

    test('one that has not finished is returned', async () => {
      await add('first', { jobId: 'x' });
      const again = await add('second', { jobId: 'x', ...opts });
      expect(again.deduplicated).toBe(true);
      expect(again.data).toBe('first');
    });

    test('a dependent of the failed run is dealt with by its policy', async () => {
      const failed = await kit.failed(kit.queue(), { jobId: 'f' });
      const dependent = await add('d', { dependsOn: [failed], onDependencyFailure: 'wait' });
      await add('again', { jobId: 'f', ...opts });
      expect(await dependent.getState()).toBe('failed');
    });
  });

  test.each(['keep', '', 'Return', 1, null])('onDuplicate refuses %j', async (onDuplicate) => {
    const error = await errorOf(add(1, { jobId: 'x', onDuplicate }));
    expect(error).toBeInstanceOf(ValidationError);
    expect(error.path).toBe('opts.onDuplicate');
  });

  test('a thousand ids stay apart', async () => {
    const queue = kit.queue();
    const items = Array.from({ length: 1000 }, (_, i) => ({ name: 'a', data: i, opts: { jobId: `id-${i}` } }));
    await queue.addBulk(items);
    const again = await queue.addBulk(items);
    expect(again.every((job: Job) => job.deduplicated)).toBe(true);
    expect(again.map((job) => job.data)).toEqual(items.map((item) => item.data));
    expect(await queue.count()).toBe(1000);
  });
};
