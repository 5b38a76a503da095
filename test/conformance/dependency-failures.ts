/**
 * What `onDependencyFailure` says, for every way in which a dependency can be unable to complete: it failed, was cancelled, removed,
 * evicted; before or after the dependent was added; in the same queue or another.
 */
import { type Job, JobFailedError, type JobStateOrUnknown } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, type Kit, kitOf, type Suite, states, watch } from './kit.js';

type Policy = 'fail' | 'run' | 'run-now' | 'cancel' | 'wait';

/** What a dependent becomes when its only dependency ends that way, under each policy; nobody works its queue. */
const BECOMES: Readonly<Record<Policy, { failed: JobStateOrUnknown; gone: JobStateOrUnknown }>> = {
  fail: { failed: 'failed', gone: 'failed' },
  run: { failed: 'waiting', gone: 'waiting' },
  'run-now': { failed: 'waiting', gone: 'waiting' },
  cancel: { failed: 'cancelled', gone: 'cancelled' },
  wait: { failed: 'blocked', gone: 'failed' },
};

/** Ways to end, each done to a job of the queue `deps` after its dependents were added. */
const ENDINGS: Readonly<
  Record<string, { kind: 'failed' | 'gone'; opts?: object; end(kit: Kit, job: Job): Promise<unknown> }>
> = {
  fails: {
    kind: 'failed',
    end: async (kit) => {
      const hand = await kit.hand({}, 'deps');
      (await hand.next()).fail(new Error('why it failed'));
      await kit.settle();
    },
  },
  expires: { kind: 'failed', opts: { ttl: 1000 }, end: (kit) => kit.pass(1000) },
  'fails and is not kept': {
    kind: 'gone',
    opts: { removeOnFail: true },
    end: async (kit) => {
      const hand = await kit.hand({}, 'deps');
      (await hand.next()).fail(new Error('why it failed'));
      await kit.settle();
    },
  },
  'is cancelled': { kind: 'gone', end: (kit, job) => kit.queue('deps').cancel(job, 'no longer needed') },
  'is cancelled while it runs': {
    kind: 'gone',
    end: async (kit, job) => {
      const hand = await kit.hand({}, 'deps');
      const run = await hand.next();
      await kit.queue('deps').cancel(job);
      run.fail(new Error('aborted'));
      await kit.settle();
    },
  },
  'is removed': { kind: 'gone', end: (_kit, job) => job.remove() },
  'is drained': { kind: 'gone', end: (kit) => kit.queue('deps').drain() },
  'is obliterated': { kind: 'gone', end: (kit) => kit.queue('deps').obliterate() },
  'is obliterated while it runs': {
    kind: 'gone',
    end: async (kit) => {
      const hand = await kit.hand({}, 'deps');
      const run = await hand.next();
      await kit.queue('deps').obliterate({ force: true });
      run.fail(new Error('aborted'));
      await kit.settle();
    },
  },
};

export const dependencyFailures: Suite = (harness) => {
  const kit = kitOf(harness);
  const POLICIES = Object.keys(BECOMES) as Policy[];

  for (const policy of POLICIES) {
    describe(`the policy ${policy}`, () => {
      for (const [way, { kind, opts, end }] of Object.entries(ENDINGS)) {
        test(`a dependency that ${way}`, async () => {
          const dependency = await kit.queue('deps').add('a', null, opts);
          const job = await kit.queue().add('b', null, { dependsOn: [dependency], onDependencyFailure: policy });
          const waited = watch(kit.queue().finished(job));
          await end(kit, dependency);
          await kit.settle();
          const wanted = BECOMES[policy][kind];
          expect(await job.getState()).toBe(wanted);
          expect(waited.settled).toBe(wanted === 'failed' || wanted === 'cancelled');
          if (wanted !== 'failed') return;
          const record = await kit.queue().getJob(job);
          expect(record?.dlq?.reason).toBe('dependency_failed');
          expect(record?.failedReason).toContain(dependency.id);
          expect(record?.failedReason).toContain('deps');
          expect(waited.error).toBeInstanceOf(JobFailedError);
        });
      }

      test('a dependency that had failed before: as if it failed now', async () => {
        const dependency = await kit.failed(kit.queue('deps'));
        const job = await kit.queue().add('b', null, { dependsOn: [dependency], onDependencyFailure: policy });
        expect(await job.getState()).toBe(BECOMES[policy].failed);
      });

      test('a dependency that had been cancelled before', async () => {
        const dependency = await kit.queue('deps').add('a', null);
        await kit.queue('deps').cancel(dependency);
        const job = await kit.queue().add('b', null, { dependsOn: [dependency], onDependencyFailure: policy });
        expect(await job.getState()).toBe(BECOMES[policy].gone);
      });

      test('a remembered id of a job that was cancelled', async () => {
        const dependency = await kit.queue('deps').add('a', null, { jobId: 'x', removeOnComplete: { age: 10 } });
        await kit.queue('deps').cancel(dependency);
        await kit.pass(100);
        const job = await kit.queue().add('b', null, { dependsOn: [dependency], onDependencyFailure: policy });
        expect(await job.getState()).toBe(BECOMES[policy].gone);
      });
    });
  }

  describe('fail', () => {
    test('is the default, and acts at once, with other dependencies still open', async () => {
      const [bad, open] = [await kit.queue('deps').add('a', null), await kit.queue('deps').add('a', null)];
      const job = await kit.queue().add('b', null, { dependsOn: [open, bad] });
      await bad.remove();
      expect(await job.getState()).toBe('failed');
      expect(await open.getState()).toBe('waiting');
    });

    test('goes down a chain of dependents, each told of its own dependency', async () => {
      const queue = kit.queue();
      const a = await queue.add('a', null, { jobId: 'a' });
      const b = await queue.add('b', null, { jobId: 'b', dependsOn: [a] });
      const c = await queue.add('c', null, { jobId: 'c', dependsOn: [b] });
      await a.remove();
      expect(await states(b, c)).toEqual(['failed', 'failed']);
      expect((await queue.getJob(c))?.failedReason).toContain('"b"');
    });

    test('a chain of 10,000 does not overflow the stack', async () => {
      const queue = kit.queue();
      const jobs = await queue.addBulk(
        Array.from({ length: 10_000 }, (_, i) => ({
          name: 'a',
          data: i,
          opts: { jobId: `c${i}`, dependsOn: i === 0 ? [] : [`c${i - 1}`] },
        })),
      );
      await queue.cancel(jobs[0] as Job);
      expect(await queue.getFailedCount()).toBe(9999);
    });

    test('with removeOnFail its waiters and dependents are told all the same', async () => {
      const queue = kit.queue();
      const a = await queue.add('a', null);
      const b = await queue.add('b', null, { dependsOn: [a], removeOnFail: true });
      const c = await queue.add('c', null, { dependsOn: [b] });
      const waited = watch(queue.finished(b));
      await a.remove();
      await kit.settle();
      expect(waited.error).toBeInstanceOf(JobFailedError);
      expect(await states(b, c)).toEqual(['unknown', 'failed']);
    });

    test('the reason names the queue of the dependency', async () => {
      const dependency = await kit.queue('elsewhere').add('a', null);
      const job = await kit.queue().add('b', null, { dependsOn: [dependency] });
      await dependency.remove();
      expect((await kit.queue().getJob(job))?.failedReason).toContain('"elsewhere"');
    });

    test('dependents that fail together and of which few are kept: the waiters of each are told', async () => {
      const queue = kit.queue();
      const a = await queue.add('a', null);
      const jobs = await queue.addBulk(
        Array.from({ length: 5 }, () => ({ name: 'b', data: 1, opts: { dependsOn: [a], removeOnFail: { count: 2 } } })),
      );
      const waited = jobs.map((job) => watch(queue.finished(job)));
      await a.remove();
      await kit.settle();
      expect(waited.map((one) => one.error?.name)).toEqual(jobs.map(() => 'JobFailedError'));
      expect(await states(...jobs)).toEqual(['unknown', 'unknown', 'unknown', 'failed', 'failed']);
      expect((await queue.getJobCounts()).failed).toBe(2);
    });

    test('a dependent that is named by another dependent of the same job', async () => {
      const queue = kit.queue();
      for (const policy of ['cancel', 'fail', 'run-now'] as const) {
        const [x] = await queue.addBulk([
          { name: 'x', data: 1, opts: { jobId: `x${policy}` } },
          { name: 'a', data: 1, opts: { jobId: `a${policy}`, dependsOn: [`x${policy}`], onDependencyFailure: policy } },
          {
            name: 'b',
            data: 1,
            opts: { dependsOn: [`x${policy}`, `a${policy}`], onDependencyFailure: policy, jobId: `b${policy}` },
          },
        ]);
        await x?.remove();
        const wanted = { cancel: 'cancelled', fail: 'failed', 'run-now': 'waiting' }[policy];
        expect(await queue.getJobState(`a${policy}`)).toBe(wanted);
        expect(await queue.getJobState(`b${policy}`)).toBe(wanted);
      }
    });

    test('costs no attempt', async () => {
      const dependency = await kit.queue().add('a', null);
      const job = await kit.queue().add('b', null, { dependsOn: [dependency], attempts: 3 });
      await dependency.remove();
      expect((await kit.queue().getJob(job))?.attemptsMade).toBe(0);
    });
  });

  describe('run', () => {
    test('waits until all dependencies have settled', async () => {
      const queue = kit.queue('deps');
      const [bad, good] = [await queue.add('bad', null), await queue.add('good', null)];
      const job = await kit.queue().add('b', null, { dependsOn: [bad, good], onDependencyFailure: 'run' });
      const hand = await kit.hand({}, 'deps');
      (await hand.next()).fail(new Error('x'));
      const run = await hand.next();
      expect(await job.getState()).toBe('blocked');
      run.complete(1);
      await kit.settle();
      expect(await job.getState()).toBe('waiting');
    });

    test('with one failed before it was added, it waits for the others', async () => {
      const failed = await kit.failed(kit.queue('deps'));
      const open = await kit.queue('deps').add('a', null);
      const job = await kit.queue().add('b', null, { dependsOn: [failed, open], onDependencyFailure: 'run' });
      expect(await job.getState()).toBe('blocked');
      await kit.queue('deps').cancel(open);
      expect(await job.getState()).toBe('waiting');
    });

    test('the handler reads results and failures', async () => {
      const bad = await kit.failed(kit.queue('deps'), {}, 'why');
      const good = await kit.completed(kit.queue(), 7);
      const cancelled = await kit.queue().add('c', null);
      await kit.queue().cancel(cancelled, 'not wanted');
      const removed = await kit.queue().add('r', null);
      const job = await kit
        .queue()
        .add('b', null, { dependsOn: [bad, good, cancelled, removed], onDependencyFailure: 'run' });
      await removed.remove();
      let results: unknown;
      let failures: unknown;
      let alias: unknown;
      await kit.worker(async (run) => {
        results = await run.getDependencyResults();
        failures = await run.getDependencyFailures();
        alias = await run.getIgnoredChildrenFailures();
      });
      await kit.queue().finished(job);
      expect(results).toEqual({ [good.id]: 7 });
      expect(failures).toEqual({ [`deps:${bad.id}`]: 'why', [cancelled.id]: 'not wanted', [removed.id]: 'removed' });
      expect(await job.getDependencies()).toMatchObject([
        { state: 'failed' },
        { state: 'completed' },
        { state: 'cancelled' },
        { state: 'unknown' },
      ]);
      expect(alias).toEqual(failures);
    });

    test('delay begins when the last has settled', async () => {
      const bad = await kit.failed(kit.queue('deps'));
      const job = await kit.queue().add('b', null, { dependsOn: [bad], onDependencyFailure: 'run', delay: 100 });
      expect(await job.getState()).toBe('delayed');
    });
  });

  describe('run-now', () => {
    test('runs at the first failure, the others still open', async () => {
      const [bad, open] = [await kit.queue('deps').add('a', null), await kit.queue('deps').add('a', null)];
      const job = await kit.queue().add('b', null, { dependsOn: [open, bad], onDependencyFailure: 'run-now' });
      await kit.queue('deps').cancel(bad);
      expect(await job.getState()).toBe('waiting');
      await kit.worker(() => 'ran');
      expect(await kit.queue().finished(job)).toBe('ran');
      expect(await open.getState()).toBe('waiting');
    });

    test('later ends of the others change nothing', async () => {
      const [bad, open] = [await kit.queue('deps').add('a', null), await kit.queue('deps').add('a', null)];
      const job = await kit.queue().add('b', null, { dependsOn: [open, bad], onDependencyFailure: 'run-now' });
      const hand = await kit.hand();
      await bad.remove();
      const run = await hand.next();
      await open.remove();
      await kit.settle();
      expect(await job.getState()).toBe('active');
      run.complete();
      await kit.queue().finished(job);
      expect(hand.started).toHaveLength(1);
    });

    test('without a failure it waits for all', async () => {
      const [a, b] = [await kit.queue('deps').add('a', null), await kit.queue('deps').add('a', null)];
      const job = await kit.queue().add('b', null, { dependsOn: [a, b], onDependencyFailure: 'run-now' });
      const hand = await kit.hand({}, 'deps');
      (await hand.next()).complete();
      await hand.next();
      expect(await job.getState()).toBe('blocked');
    });
  });

  describe('cancel', () => {
    test('its waiters and dependents are told', async () => {
      const queue = kit.queue();
      const a = await queue.add('a', null);
      const b = await queue.add('b', null, { dependsOn: [a], onDependencyFailure: 'cancel' });
      const c = await queue.add('c', null, { dependsOn: [b], onDependencyFailure: 'run' });
      const waited = watch(queue.finished(b));
      await a.remove();
      await kit.settle();
      expect(waited.error.name).toBe('JobCancelledError');
      expect(waited.error.reason).toContain(a.id);
      expect(await states(b, c)).toEqual(['cancelled', 'waiting']);
    });
  });

  describe('wait', () => {
    test('is released when the failed dependency is retried and completes', async () => {
      const dependency = await kit.failed(kit.queue('deps'));
      const job = await kit.queue().add('b', null, { dependsOn: [dependency], onDependencyFailure: 'wait' });
      await dependency.retry();
      expect(await job.getState()).toBe('blocked');
      await kit.worker(() => 1, {}, 'deps');
      await kit.settle();
      expect(await job.getState()).toBe('waiting');
    });

    test('of several dependencies, each may fail and be retried', async () => {
      const queue = kit.queue('deps');
      const [a, b] = [await queue.add('a', null), await queue.add('b', null)];
      const job = await kit.queue().add('c', null, { dependsOn: [a, b], onDependencyFailure: 'wait' });
      const hand = await kit.hand({}, 'deps');
      (await hand.next()).fail(new Error('x'));
      (await hand.next()).fail(new Error('y'));
      await kit.settle();
      expect(await job.getState()).toBe('blocked');
      expect(await queue.retryDlq()).toBe(2);
      (await hand.next()).complete();
      (await hand.next()).complete();
      await kit.settle();
      expect(await job.getState()).toBe('waiting');
    });

    test('fails when the failed dependency is removed from the dead letter queue', async () => {
      const dependency = await kit.failed(kit.queue('deps'));
      const job = await kit.queue().add('b', null, { dependsOn: [dependency], onDependencyFailure: 'wait' });
      await dependency.remove();
      expect(await job.getState()).toBe('failed');
    });

    test('fails when the failed dependency is evicted', async () => {
      const dependency = await kit.failed(kit.queue('deps'), { removeOnFail: { age: 1000 } });
      const job = await kit.queue().add('b', null, { dependsOn: [dependency], onDependencyFailure: 'wait' });
      await kit.pass(1001);
      expect(await dependency.getState()).toBe('unknown');
      expect(await job.getState()).toBe('failed');
    });
  });

  describe('a finished dependent', () => {
    test('a completed dependency that is removed later changes nothing', async () => {
      const a = await kit.completed(kit.queue('deps'), 1);
      const b = await kit.queue('deps').add('b', null);
      const job = await kit.queue().add('c', null, { dependsOn: [a, b] });
      await a.remove();
      expect(await job.getState()).toBe('blocked');
      await kit.worker(() => 2, {}, 'deps');
      await kit.settle();
      expect(await job.getState()).toBe('waiting');
      expect(await job.getDependencyResults()).toEqual({ [`deps:${a.id}`]: 1, [`deps:${b.id}`]: 2 });
    });

    test('removing a blocked job frees its dependencies', async () => {
      const a = await kit.queue('deps').add('a', null);
      const job = await kit.queue().add('b', null, { dependsOn: [a] });
      await job.remove();
      await kit.worker(() => 1, {}, 'deps');
      expect(await kit.queue('deps').finished(a)).toBe(1);
    });
  });

  describe('retrying what failed for a dependency', () => {
    test('it goes back to blocked on what has not completed', async () => {
      const dependency = await kit.queue('deps').add('a', null);
      const failing = await kit.hand({}, 'deps');
      const job = await kit.queue().add('b', null, { dependsOn: [dependency] });
      (await failing.next()).fail(new Error('x'));
      await kit.settle();
      expect(await job.getState()).toBe('failed');
      expect(await kit.queue().retryDlq(job)).toBe(0);
      expect(await job.getState()).toBe('failed');
      await dependency.retry();
      expect(await kit.queue().retryDlq(job)).toBe(1);
      expect(await job.getState()).toBe('blocked');
      (await failing.next()).complete(5);
      await kit.settle();
      expect(await job.getState()).toBe('waiting');
    });

    test('dependencies in the same call go first, in any depth', async () => {
      const queue = kit.queue();
      await queue.addBulk([
        { name: 'c', data: 'c', opts: { jobId: 'c', dependsOn: ['b'] } },
        { name: 'b', data: 'b', opts: { jobId: 'b', dependsOn: ['a'] } },
        { name: 'a', data: 'a', opts: { jobId: 'a' } },
      ]);
      const worker = await kit.worker(() => {
        throw new Error('x');
      });
      await kit.settle();
      await worker.close();
      expect(await queue.getFailedCount()).toBe(3);
      expect(await queue.retryDlq(['c', 'b', 'a'])).toBe(3);
      expect(await Promise.all(['a', 'b', 'c'].map((id) => queue.getJobState(id)))).toEqual([
        'waiting',
        'blocked',
        'blocked',
      ]);
      expect(await kit.order()).toEqual(['a', 'b', 'c']);
    });

    test('one whose dependency is still failed stays and is not counted, in any depth', async () => {
      const queue = kit.queue();
      await queue.addBulk([
        { name: 'a', data: 'a', opts: { jobId: 'a' } },
        { name: 'b', data: 'b', opts: { jobId: 'b', dependsOn: ['a'] } },
        { name: 'c', data: 'c', opts: { jobId: 'c', dependsOn: ['b'] } },
      ]);
      await queue.cancel('a');
      expect(await queue.getFailedCount()).toBe(2);
      // b cannot run, so c, which needs b, cannot either.
      expect(await queue.retryDlq(['c', 'b'])).toBe(0);
      expect(await queue.retryDlq()).toBe(0);
      expect(await queue.getFailedCount()).toBe(2);
    });

    test('waiters rejected earlier stay rejected; new ones wait for the new end', async () => {
      const job = await kit.failed(kit.queue());
      expect(await errorOf(kit.queue().finished(job))).toBeInstanceOf(JobFailedError);
      await job.retry();
      await kit.worker(() => 'now');
      expect(await kit.queue().finished(job)).toBe('now');
    });
  });
};
