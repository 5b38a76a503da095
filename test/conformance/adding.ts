/** `add` and `addBulk`: what they answer, in which order, and all or nothing. */
import { BulkError, DuplicateJobError, UnknownDependencyError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite } from './kit.js';

const cyclic: Record<string, unknown> = {};
cyclic.self = cyclic;

export const adding: Suite = (harness) => {
  const kit = kitOf(harness);

  describe('add', () => {
    test('gives a job with an id, its name, data, options and the time of its admission', async () => {
      const job = await kit.queue().add('greet', { to: 'Ada' }, { priority: 3, attempts: 2 });
      expect(job.id).toMatch(/^j\d+$/);
      expect(job.name).toBe('greet');
      expect(job.data).toEqual({ to: 'Ada' });
      expect(job.opts).toEqual({ priority: 3, attempts: 2 });
      expect(job.queueName).toBe('q');
      expect(job.timestamp).toBe(kit.now);
      expect(job.priority).toBe(3);
      expect(job.deduplicated).toBe(false);
      expect(job.attemptsMade).toBe(0);
      expect(await job.getState()).toBe('waiting');
    });

    test('shows the timestamp that was given', async () => {
      const job = await kit.queue().add('a', null, { timestamp: 12345 });
      expect(job.timestamp).toBe(12345);
      expect((await kit.queue().getJob(job))?.timestamp).toBe(12345);
    });

    test('rejects with the error of its item, not with a BulkError', async () => {
      const error = await errorOf(kit.queue().add('a', null, { dependsOn: ['j999'] }));
      expect(error).toBeInstanceOf(UnknownDependencyError);
      expect(await errorOf(kit.queue().add('a', cyclic))).toBeInstanceOf(ValidationError);
    });

    test('leaves nothing behind when it rejects', async () => {
      await errorOf(kit.queue().add('a', { f: () => 1 }));
      await errorOf(kit.queue().add('a', null, { priority: 1.5 }));
      expect(await kit.queue().count()).toBe(0);
    });

    test('defaultJobOptions hold for what an add leaves open, and for that Queue object only', async () => {
      const queue = kit.queue('q', { defaultJobOptions: { attempts: 4, priority: 2 } });
      const job = await queue.add('a', null, { priority: 9 });
      expect(job.opts).toEqual({ attempts: 4, priority: 9 });
      expect((await kit.queue().add('a', null)).opts).toEqual({});
    });

    test('an option that is undefined counts as absent', async () => {
      const queue = kit.queue('q', { defaultJobOptions: { attempts: 4 } });
      const job = await queue.add('a', null, { attempts: undefined, delay: undefined });
      expect(job.opts).toEqual({ attempts: 4 });
    });
  });

  describe('addBulk', () => {
    test('gives the jobs in the order of the items', async () => {
      const queue = kit.queue();
      const jobs = await queue.addBulk(Array.from({ length: 50 }, (_, i) => ({ name: `n${i}`, data: i })));
      expect(jobs.map((job) => job.name)).toEqual(Array.from({ length: 50 }, (_, i) => `n${i}`));
      expect(jobs.map((job) => job.data)).toEqual(Array.from({ length: 50 }, (_, i) => i));
      for (const job of jobs) expect((await queue.getJob(job.id))?.data).toBe(job.data);
    });

    test('[] gives []', async () => {
      expect(await kit.queue().addBulk([])).toEqual([]);
      expect(await kit.queue().addBulk([], { atomic: false })).toEqual([]);
    });

    test('aligns results when items have options, ids and twins', async () => {
      const queue = kit.queue();
      const jobs = await queue.addBulk([
        { name: 'a', data: 1, opts: { jobId: 'x' } },
        { name: 'b', data: 2, opts: { delay: 5 } },
        { name: 'c', data: 3, opts: { jobId: 'x' } },
        { name: 'd', data: 4 },
      ]);
      expect(jobs.map((job) => job.deduplicated)).toEqual([false, false, true, false]);
      expect(jobs[2]?.id).toBe('x');
      expect(jobs[2]?.data).toBe(1);
      expect(await queue.count()).toBe(3);
    });

    test('is all or nothing: one bad item, and nothing is there', async () => {
      const queue = kit.queue();
      const error = await errorOf(
        queue.addBulk([
          { name: 'a', data: 1 },
          { name: 'b', data: cyclic },
          { name: 'c', data: 3 },
        ]),
      );
      expect(error).toBeInstanceOf(BulkError);
      expect(error.errors).toHaveLength(1);
      expect(error.errors[0].index).toBe(1);
      expect(error.errors[0].error).toBeInstanceOf(ValidationError);
      expect(await queue.count()).toBe(0);
    });

    test('BulkError names every bad item, whatever is wrong with it', async () => {
      const queue = kit.queue();
      await queue.add('a', null, { jobId: 'taken' });
      const error = await errorOf(
        queue.addBulk([
          { name: 'ok', data: 1 },
          { name: 'a', data: 1, opts: { dependsOn: ['nowhere'] } },
          { name: 'b', data: Symbol('x') },
          { name: 'c', data: 1, opts: { jobId: 'taken', onDuplicate: 'error' } },
        ]),
      );
      expect(error).toBeInstanceOf(BulkError);
      expect(error.errors.map((one: { index: number }) => one.index)).toEqual([1, 2, 3]);
      expect(error.errors[0].error).toBeInstanceOf(UnknownDependencyError);
      expect(error.errors[1].error).toBeInstanceOf(ValidationError);
      expect(error.errors[2].error).toBeInstanceOf(DuplicateJobError);
      expect(await queue.count()).toBe(1);
    });

    test('a call of one bad item rejects with BulkError too', async () => {
      const queue = kit.queue();
      for (const item of [
        { name: 'a', data: cyclic },
        { name: 'a', data: 1, opts: { dependsOn: ['nowhere'] } },
        { name: 'a', data: cyclic, opts: { jobId: 'x' } },
        { name: '', data: 1 },
      ]) {
        const error = await errorOf(queue.addBulk([item]));
        expect(error).toBeInstanceOf(BulkError);
        expect(error.errors).toHaveLength(1);
        expect(error.errors[0].index).toBe(0);
      }
      expect(await queue.count()).toBe(0);
    });

    test('atomic: false gives ok and job, or the error, for each item in its place', async () => {
      const queue = kit.queue();
      const answers = await queue.addBulk(
        [
          { name: 'a', data: 1 },
          { name: 'b', data: cyclic },
          { name: 'c', data: 3, opts: { dependsOn: ['nowhere'] } },
          { name: 'd', data: 4, opts: { attempts: 0 } },
          { name: 'e', data: 5, opts: { delay: 10 } },
        ],
        { atomic: false },
      );
      expect(answers.map((one) => one.ok)).toEqual([true, false, false, false, true]);
      const [a, b, c, d, e] = answers as any[];
      expect(a.job.data).toBe(1);
      expect(b.error).toBeInstanceOf(ValidationError);
      expect(c.error).toBeInstanceOf(UnknownDependencyError);
      expect(d.error).toBeInstanceOf(ValidationError);
      expect(e.job.data).toBe(5);
      expect(await e.job.getState()).toBe('delayed');
      expect(await queue.count()).toBe(2);
    });

    test('atomic: false refuses an item that waits for a refused one', async () => {
      const answers = await kit.queue().addBulk(
        [
          { name: 'a', data: cyclic, opts: { jobId: 'a' } },
          { name: 'b', data: 2, opts: { dependsOn: ['a'] } },
          { name: 'c', data: 3 },
        ],
        { atomic: false },
      );
      expect(answers.map((one) => one.ok)).toEqual([false, false, true]);
      expect((answers[1] as { error: Error }).error).toBeInstanceOf(UnknownDependencyError);
    });

    test('items may name custom ids of the same call, in any order', async () => {
      const queue = kit.queue();
      const [late, early] = await queue.addBulk([
        { name: 'late', data: 'late', opts: { dependsOn: ['first'] } },
        { name: 'early', data: 'early', opts: { jobId: 'first' } },
      ]);
      expect(await late?.getState()).toBe('blocked');
      expect(await early?.getState()).toBe('waiting');
      expect(await kit.order()).toEqual(['early', 'late']);
    });

    test('keeps the order of its items among equals', async () => {
      await kit.queue().addBulk(Array.from({ length: 300 }, (_, i) => ({ name: 'a', data: i })));
      expect(await kit.order()).toEqual(Array.from({ length: 300 }, (_, i) => i));
    });

    test('keeps strict priority over items of mixed priorities', async () => {
      const items = Array.from({ length: 60 }, (_, i) => ({ name: 'a', data: i, opts: { priority: i % 3 } }));
      await kit.queue().addBulk(items);
      const order = (await kit.order()) as number[];
      const wanted = [...items].sort((a, b) => b.opts.priority - a.opts.priority || a.data - b.data);
      expect(order).toEqual(wanted.map((one) => one.data));
    });

    test('a jobId twice with onDuplicate error is refused', async () => {
      const error = await errorOf(
        kit.queue().addBulk([
          { name: 'a', data: 1, opts: { jobId: 'x' } },
          { name: 'b', data: 1, opts: { jobId: 'x', onDuplicate: 'error' } },
        ]),
      );
      expect(error).toBeInstanceOf(BulkError);
      expect(error.errors[0]).toMatchObject({ index: 1 });
      expect(error.errors[0].error).toBeInstanceOf(DuplicateJobError);
      expect(await kit.queue().count()).toBe(0);
    });

    test('takes ten thousand items with options', async () => {
      const queue = kit.queue();
      const items = Array.from({ length: 10_000 }, (_, i) => ({ name: 'a', data: i, opts: { attempts: 2 } }));
      const jobs = await queue.addBulk(items);
      expect(jobs).toHaveLength(10_000);
      expect(await queue.count()).toBe(10_000);
    });
  });

  describe('ids', () => {
    test('generated ids are unique in the engine and grow', async () => {
      const ids: number[] = [];
      for (const name of ['a', 'b', 'a', 'c']) {
        const jobs = await kit.queue(name).addBulk([
          { name: 'x', data: 1 },
          { name: 'x', data: 2 },
        ]);
        ids.push(...jobs.map((job) => Number(job.id.slice(1))));
      }
      expect(new Set(ids).size).toBe(ids.length);
      expect([...ids].sort((a, b) => a - b)).toEqual(ids);
    });

    test('an id is never given out again, even after its job is gone', async () => {
      const queue = kit.queue();
      const first = await queue.add('a', 1);
      await queue.remove(first);
      const second = await queue.add('a', 1);
      expect(Number(second.id.slice(1))).toBeGreaterThan(Number(first.id.slice(1)));
    });

    test('custom ids belong to their queue', async () => {
      const one = await kit.queue('one').add('a', 1, { jobId: 'same' });
      const two = await kit.queue('two').add('a', 2, { jobId: 'same' });
      expect(two.deduplicated).toBe(false);
      expect((await kit.queue('one').getJob('same'))?.data).toBe(1);
      expect((await kit.queue('two').getJob('same'))?.data).toBe(2);
      expect(one.id).toBe(two.id);
    });

    test('a custom id that looks like a generated one is the custom one in its queue', async () => {
      const queue = kit.queue();
      const generated = await queue.add('a', 'generated');
      const other = await kit.queue('other').add('a', 'custom', { jobId: generated.id });
      expect((await kit.queue('other').getJob(generated.id))?.data).toBe('custom');
      expect((await queue.getJob(generated.id))?.data).toBe('generated');
      expect(other.id).toBe(generated.id);
    });

    test('a custom id may be any text to 512 bytes', async () => {
      const queue = kit.queue();
      for (const jobId of ['ä'.repeat(256), 'a b\nc', '0', '💥', '__proto__', 'x'.repeat(512)]) {
        const job = await queue.add('a', jobId, { jobId });
        expect(job.id).toBe(jobId);
        expect((await queue.getJob(jobId))?.data).toBe(jobId);
      }
      expect(await errorOf(queue.add('a', 1, { jobId: 'ä'.repeat(257) }))).toBeInstanceOf(ValidationError);
      expect(await errorOf(queue.add('a', 1, { jobId: 'cron:x' }))).toBeInstanceOf(ValidationError);
      expect(await errorOf(queue.add('a', 1, { jobId: '' }))).toBeInstanceOf(ValidationError);
    });
  });

  describe('references', () => {
    test('an id, the Job, and {queue, id} mean the same job', async () => {
      const queue = kit.queue();
      const job = await queue.add('a', 7);
      for (const ref of [job.id, job, { queue: 'q', id: job.id }, { queueName: 'q', id: job.id }]) {
        expect((await queue.getJob(ref))?.data).toBe(7);
        expect(await queue.getJobState(ref)).toBe('waiting');
      }
    });

    test('a generated id is found from any queue; a custom one needs its queue', async () => {
      const job = await kit.queue('home').add('a', 'generated');
      await kit.queue('home').add('a', 'custom', { jobId: 'mine' });
      const away = kit.queue('away');
      expect((await away.getJob(job.id))?.data).toBe('generated');
      expect(await away.getJob('mine')).toBeUndefined();
      expect((await away.getJob({ queue: 'home', id: 'mine' }))?.data).toBe('custom');
      expect((await away.getJob(job))?.queueName).toBe('home');
    });

    test('a generated id under the name of another queue is nobody', async () => {
      const job = await kit.queue('home').add('a', 1);
      await kit.queue('away').count();
      expect(await kit.queue().getJob({ queue: 'away', id: job.id })).toBeUndefined();
    });
  });
};
