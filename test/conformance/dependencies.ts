/** `depends_on`: fan-in, references, results, and what a job says it waits for. */
import { BulkError, type Job, UnknownDependencyError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, states, watch } from './kit.js';

export const dependencies: Suite = (harness) => {
  const kit = kitOf(harness);
  const add = (data: unknown, opts = {}, name = 'q') => kit.queue(name).add('a', data, opts);

  describe('waiting for dependencies', () => {
    test('a job is blocked until all of them have completed', async () => {
      const [a, b] = [await add('a'), await add('b')];
      const last = await add('last', { dependsOn: [a, b] });
      const hand = await kit.hand({ concurrency: 3 });
      const first = await hand.next();
      const second = await hand.next();
      expect(await last.getState()).toBe('blocked');
      first.complete();
      await kit.settle();
      expect(await last.getState()).toBe('blocked');
      second.complete();
      expect((await hand.next()).job.id).toBe(last.id);
    });

    test('depends_on is the same option, and both together are refused', async () => {
      const a = await add('a');
      const b = await add('b', { depends_on: [a] });
      expect(await b.getState()).toBe('blocked');
      expect(b.opts.dependsOn).toHaveLength(1);
      const error = await errorOf(add('c', { depends_on: [a], dependsOn: [a] }));
      expect(error).toBeInstanceOf(ValidationError);
    });

    test('[] means none', async () => {
      expect(await (await add('a', { dependsOn: [] })).getState()).toBe('waiting');
    });

    test('takes every form of reference, and repeats collapse', async () => {
      const a = await add('a', { jobId: 'mine' });
      const b = await add('b');
      const last = await add('last', {
        dependsOn: ['mine', a, { queue: 'q', id: 'mine' }, b, b.id, { queue: 'q', id: b.id }],
      });
      const records = await last.getDependencies();
      expect(new Set(records.map((one) => one.id))).toEqual(new Set(['mine', b.id]));
      await kit.worker(() => 1);
      await kit.queue().finished(last);
      expect(await last.getState()).toBe('completed');
    });

    test('a reference in several forms is one dependency', async () => {
      const a = await add('a', { jobId: 'mine' });
      const last = await add('last', { dependsOn: ['mine', a, { queue: 'q', id: 'mine' }] });
      expect(await last.getDependencies()).toHaveLength(1);
      const b = await add('b');
      const more = await add('more', { dependsOn: [b, b.id, { queue: 'q', id: b.id }] });
      expect(await more.getDependencies()).toHaveLength(1);
    });

    test('across queues, by Job, by generated id, and by {queue, id}', async () => {
      const one = await add('one', {}, 'one');
      const two = await add('two', { jobId: 'custom' }, 'two');
      const last = await add('last', { dependsOn: [one.id, { queue: 'two', id: 'custom' }] });
      const same = await add('same', { dependsOn: [one, two] });
      expect(await states(last, same)).toEqual(['blocked', 'blocked']);
      await kit.worker(() => 1, {}, 'one');
      await kit.worker(() => 2, {}, 'two');
      await kit.settle();
      expect(await states(last, same)).toEqual(['waiting', 'waiting']);
    });

    test('a custom id of another queue as a bare string is unknown', async () => {
      await add('two', { jobId: 'custom' }, 'two');
      expect(await errorOf(add('last', { dependsOn: ['custom'] }))).toBeInstanceOf(UnknownDependencyError);
    });

    test('one that has completed is satisfied at once', async () => {
      const a = await kit.completed(kit.queue(), 5);
      expect(await (await add('last', { dependsOn: [a] })).getState()).toBe('waiting');
    });

    test('one that has completed is satisfied even if its record is gone', async () => {
      const generated = await kit.completed(kit.queue(), 5, { removeOnComplete: true });
      const custom = await kit.completed(kit.queue(), 5, { removeOnComplete: true, jobId: 'mine' });
      await kit.pass(31_000);
      expect(await states(generated, custom)).toEqual(['unknown', 'unknown']);
      const last = await add('last', { dependsOn: [generated.id, 'mine'] });
      expect(await last.getState()).toBe('waiting');
    });

    test('one that never existed is refused by name', async () => {
      for (const ref of ['nobody', 'j99999', { queue: 'nowhere', id: 'x' }]) {
        const error = await errorOf(add('last', { dependsOn: [ref] }));
        expect(error).toBeInstanceOf(UnknownDependencyError);
        expect(error.jobId).toBe(typeof ref === 'string' ? ref : ref.id);
        expect(error.message).toContain(error.jobId);
      }
      expect(await kit.queue().count()).toBe(0);
    });

    test('a cycle within one call is an error that names it', async () => {
      const error = await errorOf(
        kit.queue().addBulk([
          { name: 'a', data: 1, opts: { jobId: 'one', dependsOn: ['three'] } },
          { name: 'b', data: 1, opts: { jobId: 'two', dependsOn: ['one'] } },
          { name: 'c', data: 1, opts: { jobId: 'three', dependsOn: ['two'] } },
          { name: 'd', data: 1 },
        ]),
      );
      expect(error).toBeInstanceOf(BulkError);
      expect(error.errors).toHaveLength(3);
      const [first] = error.errors;
      expect(first.error).toBeInstanceOf(ValidationError);
      for (const name of ['one', 'two', 'three']) expect(first.error.message).toContain(name);
      expect(await kit.queue().count()).toBe(0);
    });

    test('a job cannot depend on itself', async () => {
      const error = await errorOf(add('a', { jobId: 'me', dependsOn: ['me'] }));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toContain('me');
    });

    test('not atomic: the items of a cycle are refused, the others are added', async () => {
      const answers = await kit.queue().addBulk(
        [
          { name: 'a', data: 1, opts: { jobId: 'one', dependsOn: ['two'] } },
          { name: 'b', data: 1, opts: { jobId: 'two', dependsOn: ['one'] } },
          { name: 'c', data: 1 },
        ],
        { atomic: false },
      );
      expect(answers.map((one) => one.ok)).toEqual([false, false, true]);
    });

    test('not atomic: a dependency that is there is known, although an item with its id is refused', async () => {
      await kit.queue().add('a', null, { jobId: 'x' });
      const answers = await kit.queue().addBulk(
        [
          { name: 'b', data: null, opts: { dependsOn: ['x'] } },
          { name: 'a', data: null, opts: { jobId: 'x', onDuplicate: 'error' } },
        ],
        { atomic: false },
      );
      expect(answers.map(({ ok }) => ok)).toEqual([true, false]);
    });

    test('a diamond runs in its order', async () => {
      await kit.queue().addBulk([
        { name: 'a', data: 'bottom', opts: { dependsOn: ['left', 'right'] } },
        { name: 'a', data: 'left', opts: { jobId: 'left', dependsOn: ['top'] } },
        { name: 'a', data: 'right', opts: { jobId: 'right', dependsOn: ['top'] } },
        { name: 'a', data: 'top', opts: { jobId: 'top' } },
      ]);
      expect(await kit.order()).toEqual(['top', 'left', 'right', 'bottom']);
    });

    test('delay counts from the release', async () => {
      const a = await add('a');
      const last = await add('last', { dependsOn: [a], delay: 1000 });
      await kit.pass(5000);
      expect(await last.getState()).toBe('blocked');
      await kit.worker(() => 1);
      await kit.settle();
      expect(await last.getState()).toBe('delayed');
      await kit.pass(999);
      expect(await last.getState()).toBe('delayed');
      await kit.pass(1);
      expect(await last.getState()).toBe('completed');
    });

    test('its priority holds among the others once it is released', async () => {
      const a = await add('a', { priority: 5 });
      await add('last', { dependsOn: [a], priority: 2 });
      await add('low', { priority: 1 });
      expect(await kit.order()).toEqual(['a', 'last', 'low']);
    });

    test('a dependency that fails and is retried keeps its dependents waiting', async () => {
      let runs = 0;
      const a = await add('a', { attempts: 2, backoff: 100 });
      const last = await add('last', { dependsOn: [a] });
      await kit.worker(() => {
        if (++runs === 1) throw new Error('once');
      });
      await kit.settle();
      expect(await last.getState()).toBe('blocked');
      await kit.pass(100);
      expect(await last.getState()).toBe('completed');
    });

    test('a job waits for dependencies from a handler without a slot being held', async () => {
      const queue = kit.queue();
      const worker = await kit.worker(async (job) => {
        if (job.name !== 'parent') return job.data;
        const child = await queue.add('child', 7);
        await queue.add('after', 9, { dependsOn: [child], jobId: 'after' });
        return undefined;
      });
      await queue.add('parent', null);
      await kit.settle();
      expect(await queue.finished('after')).toBe(9);
      await worker.close();
    });

    test('10,000 dependencies: released by the last of them', async () => {
      const queue = kit.queue();
      const jobs = await queue.addBulk(
        Array.from({ length: 10_000 }, (_, i) => ({ name: 'a', data: i, opts: { priority: 1 } })),
      );
      const last = await queue.add('last', 'last', { dependsOn: jobs });
      let ran = 0;
      let before = -1;
      await kit.worker(
        (job) => {
          if (job.name === 'last') before = ran;
          ran++;
          return job.data;
        },
        { concurrency: 100 },
      );
      await queue.finished(last);
      expect(before).toBe(10_000);
      expect(ran).toBe(10_001);
    });

    test('10,000 dependents of one job are all released by it', async () => {
      const queue = kit.queue();
      const one = await queue.add('one', 1);
      await queue.addBulk(
        Array.from({ length: 10_000 }, (_, i) => ({ name: 'a', data: i, opts: { dependsOn: [one] } })),
      );
      expect(await queue.getWaitingChildrenCount()).toBe(10_000);
      await queue.pause();
      const hand = await kit.hand();
      await queue.resume();
      (await hand.next()).complete();
      await kit.settle();
      expect(await queue.getWaitingChildrenCount()).toBe(0);
    });

    test('a chain of 2,000 runs to its end', async () => {
      const queue = kit.queue();
      const jobs = await queue.addBulk(
        Array.from({ length: 2000 }, (_, i) => ({
          name: 'a',
          data: i,
          opts: { jobId: `c${i}`, dependsOn: i === 0 ? [] : [`c${i - 1}`] },
        })),
      );
      await kit.worker((job) => job.data);
      expect(await queue.finished(jobs[1999] as Job)).toBe(1999);
    });
  });

  describe('what became of them', () => {
    test('getDependencyResults gives results by id for this queue, by queue:id for others', async () => {
      const a = await add(10);
      const b = await add(20, { jobId: 'bee' });
      const c = await add(30, {}, 'other');
      const d = await add(40, { jobId: 'dee' }, 'other');
      const last = await add('last', { dependsOn: [a, b, c, d] });
      await kit.worker((job) => job.data, {}, 'other');
      let seen: unknown;
      let alias: unknown;
      await kit.worker(async (job) => {
        if (job.id !== last.id) return job.data;
        seen = await job.getDependencyResults();
        alias = await job.getChildrenValues();
        return 'done';
      });
      await kit.queue().finished(last);
      expect(seen).toEqual({ [a.id]: 10, bee: 20, [`other:${c.id}`]: 30, 'other:dee': 40 });
      expect(alias).toEqual(seen);
    });

    test('getDependencies gives queue, id, state and result in the order given', async () => {
      const a = await add('a');
      const b = await add('b');
      const c = await add('c', {}, 'other');
      const last = await add('last', { dependsOn: [c, b, a] });
      expect(await last.getDependencies()).toEqual([
        { queue: 'other', id: c.id, state: 'waiting' },
        { queue: 'q', id: b.id, state: 'waiting' },
        { queue: 'q', id: a.id, state: 'waiting' },
      ]);
      const hand = await kit.hand();
      (await hand.next()).complete('ra');
      await hand.next();
      expect(await last.getDependencies()).toEqual([
        { queue: 'other', id: c.id, state: 'waiting' },
        { queue: 'q', id: b.id, state: 'active' },
        { queue: 'q', id: a.id, state: 'completed', result: 'ra' },
      ]);
    });

    test("a dependency's result is kept until its dependent has finished, whatever its own retention", async () => {
      const a = await add('a', { removeOnComplete: true });
      const b = await add('b', { removeOnComplete: { age: 1000 }, jobId: 'bee' });
      const last = await add('last', { dependsOn: [a, b], delay: 100_000 });
      await kit.worker((job) => (job.data === 'last' ? job.getDependencyResults() : `result of ${job.data}`));
      await kit.pass(60_000);
      expect(await states(a, b)).toEqual(['unknown', 'unknown']);
      expect((await last.getDependencies()).map((one) => [one.state, one.result])).toEqual([
        ['completed', 'result of a'],
        ['completed', 'result of b'],
      ]);
      const waited = kit.queue().finished(last);
      await kit.pass(100_000);
      expect(await waited).toEqual({ [a.id]: 'result of a', bee: 'result of b' });
    });

    test("a dependency's result is kept while its dependent is in the dead letter queue", async () => {
      const a = await add('a', { removeOnComplete: true });
      const last = await add('last', { dependsOn: [a] });
      let fail = true;
      await kit.worker(async (job) => {
        if (job.data === 'a') return 'kept';
        if (fail) throw new Error('not now');
        return job.getDependencyResults();
      });
      await kit.pass(600_000);
      expect(await last.getState()).toBe('failed');
      fail = false;
      await last.retry();
      await kit.settle();
      expect(await kit.queue().finished(last)).toEqual({ [a.id]: 'kept' });
    });

    test('getDependencies still answers after the dependent has finished, while its record is kept', async () => {
      const a = await add('a');
      const last = await add('last', { dependsOn: [a] });
      await kit.worker((job) => job.data);
      await kit.queue().finished(last);
      expect(await last.getDependencies()).toEqual([{ queue: 'q', id: a.id, state: 'completed', result: 'a' }]);
      expect(await last.getDependencyResults()).toEqual({ [a.id]: 'a' });
    });

    test('a custom id is remembered although a dependent held the record when it was evicted', async () => {
      const queue = kit.queue();
      await queue.add('a', 1, { jobId: 'mine', removeOnComplete: { age: 1000 } });
      await queue.add('last', 2, { dependsOn: ['mine'], delay: 50_000, jobId: 'last' });
      await kit.worker((job) => job.data);
      await kit.pass(2000);
      expect(await queue.getJob('mine')).toBeUndefined();
      const again = await queue.add('a', 1, { jobId: 'mine' });
      expect(again.deduplicated).toBe(true);
      await kit.pass(60_000);
      expect(await queue.getJobState('last')).toBe('completed');
      expect((await queue.add('a', 1, { jobId: 'mine' })).deduplicated).toBe(true);
      await kit.pass(24 * 3_600_000);
      expect((await queue.add('a', 1, { jobId: 'mine' })).deduplicated).toBe(false);
    });
  });

  describe('explain', () => {
    test('names the dependencies a blocked job waits for', async () => {
      const done = await kit.completed(kit.queue(), 1);
      const a = await add('a');
      const last = await add('last', { dependsOn: [done, a] });
      const told = await kit.queue().explain(last);
      expect(told.state).toBe('blocked');
      expect(told.waitsFor).toEqual([{ queue: 'q', id: a.id, state: 'waiting' }]);
      expect(told.reason).toContain('1 job');
    });

    test('says of each state what the job waits for', async () => {
      const queue = kit.queue();
      const waiting = await add('w');
      expect((await queue.explain(waiting)).reason).toContain('No worker');
      const delayed = await add('d', { delay: 5000 });
      expect((await queue.explain(delayed)).reason).toContain(new Date(kit.now + 5000).toISOString());
      await queue.pause();
      expect((await queue.explain(waiting)).reason).toContain('paused');
      await queue.resume();
      const hand = await kit.hand();
      const run = await hand.next();
      expect((await queue.explain(waiting)).state).toBe('active');
      const behind = await add('b');
      expect((await queue.explain(behind)).reason).toContain('worker');
      run.complete();
      await queue.finished(waiting);
      expect((await queue.explain(waiting)).reason).toContain('completed');
      expect((await queue.explain('nobody')).state).toBe('unknown');
    });

    test('a blocked job under the policy wait names the failed dependency', async () => {
      const failed = await kit.failed(kit.queue());
      const last = await add('last', { dependsOn: [failed], onDependencyFailure: 'wait' });
      expect((await kit.queue().explain(last)).waitsFor).toMatchObject([{ id: failed.id, state: 'failed' }]);
    });
  });

  test('a dependent that is added while its dependency runs is released by it', async () => {
    const a = await add('a');
    const hand = await kit.hand();
    const run = await hand.next();
    const last = await add('last', { dependsOn: [a] });
    const waited = watch(kit.queue().finished(last));
    run.complete();
    (await hand.next()).complete('end');
    await kit.settle();
    expect(waited).toMatchObject({ settled: true, value: 'end' });
  });
};
