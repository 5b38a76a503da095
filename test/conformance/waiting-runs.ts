/** `job.waitFor`: a run that ends to wait for other jobs, and the run after it. */
import { type Job, UnknownDependencyError, ValidationError, WaitingForJobsError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, states } from './kit.js';

export const waitingRuns: Suite = (harness) => {
  const kit = kitOf(harness);
  /** Fans out to `children` by ids of their own, waits for them, and gives their results. */
  const fansOut = (name = 'children') => {
    const children = kit.queue(name);
    return async (job: Job): Promise<unknown> => {
      const items = (job.data as number[]).map((n) => ({ name: 'n', data: n, opts: { jobId: `${job.id}-${n}` } }));
      await job.waitFor(await children.addBulk(items));
      return Object.values(await job.getDependencyResults());
    };
  };

  describe('a run that waits', () => {
    test('is over, and the job runs again with the results when all have settled', async () => {
      const queue = kit.queue();
      let runs = 0;
      const handler = fansOut();
      await kit.worker((job) => {
        runs++;
        return handler(job);
      });
      const job = await queue.add('sum', [1, 2, 3]);
      await kit.settle();
      expect(await job.getState()).toBe('blocked');
      expect(await queue.getJobCounts()).toMatchObject({ active: 0, blocked: 1 });
      expect((await queue.explain(job)).waitsFor.map((one) => one.id)).toEqual(
        ['1', '2', '3'].map((n) => `${job.id}-${n}`),
      );
      await kit.worker((child) => child.data * 10, {}, 'children');
      await kit.settle();
      expect(await job.waitUntilFinished()).toEqual([10, 20, 30]);
      expect(runs).toBe(2);
    });

    test('goes on when there is no record any more of what it names, and completes', async () => {
      const gone = await kit.completed(kit.queue('children'), 1, { removeOnComplete: { age: 10 } });
      await kit.pass(11);
      await kit.worker(async (job) => {
        await job.waitFor(gone);
        return Object.keys(await job.getDependencyResults()).length;
      });
      const job = await kit.queue().add('a', null);
      await kit.settle();
      expect(await job.getState()).toBe('completed');
      expect((await kit.queue().getJob(job))?.returnvalue).toBe(0);
    });

    test('costs neither an attempt nor a delivery', async () => {
      const queue = kit.queue();
      await kit.worker(async (job) => {
        for (const n of [1, 2, 3])
          await job.waitFor(await kit.queue('children').add('n', n, { jobId: `${job.id}-${n}` }));
        return 'done';
      });
      const job = await queue.add('steps', null, { attempts: 1, maxDeliveries: 1 });
      const hand = await kit.hand({}, 'children');
      for (let n = 1; n <= 3; n++) {
        await kit.settle();
        (await hand.next()).complete();
      }
      expect(await job.waitUntilFinished()).toBe('done');
      expect((await queue.getJob(job))?.toJSON()).toMatchObject({
        attemptsMade: 0,
        attemptsStarted: 4,
        stacktrace: [],
      });
    });

    test('waits for jobs of its own queue at a concurrency of 1, in any depth', async () => {
      const queue = kit.queue();
      await kit.worker(
        async (job): Promise<number> => {
          if (job.data === 0) return 1;
          const below = [1, 2].map((n) => ({ name: 'n', data: job.data - 1, opts: { jobId: `${job.id}/${n}` } }));
          await job.waitFor(await queue.addBulk(below));
          const results = await job.getDependencyResults<number>();
          return Object.values(results).reduce((a, b) => a + b, 0);
        },
        { concurrency: 1 },
      );
      expect(await queue.addAndWait('n', 4, { jobId: 'root' })).toBe(16);
    });

    test('goes on at once when all have settled already, and has their results', async () => {
      const settled = [await kit.completed(kit.queue('a'), 1), await kit.failed(kit.queue('b'))];
      const queue = kit.queue();
      await kit.worker(async (job) => {
        await job.waitFor(settled);
        return [await job.getDependencyResults(), await job.getDependencyFailures()];
      });
      const job = await queue.add('reads', null);
      await kit.settle();
      const [a, b] = settled as [Job, Job];
      expect(await job.waitUntilFinished()).toEqual([{ [`a:${a.id}`]: 1 }, { [`b:${b.id}`]: 'boom' }]);
      expect((await queue.getJob(job))?.attemptsStarted).toBe(1);
    });

    test('waits for nothing when there is nothing', async () => {
      await kit.worker(async (job) => {
        await job.waitFor([]);
        return 'so';
      });
      expect(await kit.queue().addAndWait('a', null)).toBe('so');
    });

    test('an awaited job that fails, is cancelled or removed counts as settled', async () => {
      const queue = kit.queue();
      const children = kit.queue('children');
      const ids = ['fails', 'cancelled', 'removed'];
      await children.addBulk(ids.map((id) => ({ name: id, data: null, opts: { jobId: id } })));
      await kit.worker(async (job) => {
        await job.waitFor(ids.map((id) => ({ queue: 'children', id })));
        return job.getDependencyFailures();
      });
      const job = await queue.add('a', null, { onDependencyFailure: 'fail' });
      await kit.settle();
      await children.cancel('cancelled', 'no more');
      await children.remove('removed');
      await kit.settle();
      expect(await job.getState()).toBe('blocked');
      const hand = await kit.hand({}, 'children');
      (await hand.next()).fail(new Error('boom'));
      expect(await job.waitUntilFinished()).toEqual({
        'children:fails': 'boom',
        'children:cancelled': 'no more',
        'children:removed': 'removed',
      });
    });

    test('comes after those that its job depended on from the start', async () => {
      const first = await kit.queue('first').add('first', null);
      const queue = kit.queue();
      const job = await queue.add('a', [1], { dependsOn: [first] });
      await kit.worker(fansOut());
      await kit.worker(() => 'first', {}, 'first');
      await kit.worker((child) => child.data, {}, 'children');
      await kit.settle();
      expect(await job.waitUntilFinished()).toEqual(['first', 1]);
      expect((await job.getDependencies()).map((one) => one.id)).toEqual([first.id, `${job.id}-1`]);
    });

    test('does not delay its job again, and keeps its priority, behind those that are ready', async () => {
      const queue = kit.queue();
      const gate = await kit.queue('gate').add('gate', null);
      const ran: string[] = [];
      const handler = async (job: Job) => {
        ran.push(job.name);
        if (job.name === 'waits') await job.waitFor(gate);
      };
      const job = await queue.add('waits', null, { delay: 1000, priority: 1 });
      const worker = await kit.worker(handler);
      await kit.pass(1000);
      expect(await job.getState()).toBe('blocked');
      await worker.pause();
      await queue.add('low', null);
      await queue.add('high', null, { priority: 1 });
      await kit.worker(() => 1, {}, 'gate');
      await kit.settle();
      expect(await job.getState()).toBe('waiting');
      worker.resume();
      await kit.settle();
      expect(ran).toEqual(['waits', 'high', 'waits', 'low']);
    });

    test('lets its slot and its place under a limit go', async () => {
      const queue = kit.queue();
      await queue.setConcurrency(1);
      const gate = await kit.queue('gate').add('gate', null);
      await kit.worker((job) => (job.name === 'waits' ? job.waitFor(gate) : 'ran'), { concurrency: 5 });
      const job = await queue.add('waits', null, { timeout: 1000 });
      await kit.settle();
      expect(await queue.addAndWait('other', null)).toBe('ran');
      await kit.pass(10_000); // the run is over, and with it its timeout
      expect(await job.getState()).toBe('blocked');
    });
  });

  describe('what can end it', () => {
    test('a failed attempt after the wait is retried as any other', async () => {
      const queue = kit.queue();
      let runs = 0;
      await kit.worker(async (job) => {
        await job.waitFor(await kit.queue('children').add('n', 1, { jobId: 'child' }));
        if (++runs === 1) throw new Error('once');
        return Object.values(await job.getDependencyResults());
      });
      await kit.worker(() => 7, {}, 'children');
      const job = await queue.add('a', null, { attempts: 2 });
      await kit.settle();
      expect(await job.waitUntilFinished()).toEqual([7]);
      expect((await queue.getJob(job))?.attemptsMade).toBe(1);
    });

    test('a job that waits can be cancelled and removed', async () => {
      const queue = kit.queue();
      const gate = await kit.queue('gate').add('gate', null);
      await kit.worker((job) => job.waitFor(gate));
      const jobs = [await queue.add('a', null), await queue.add('b', null)] as const;
      await kit.settle();
      expect(await queue.cancel(jobs[0])).toBe('cancelled');
      expect(await queue.remove(jobs[1])).toBe(true);
      await kit.worker(() => 1, {}, 'gate');
      await kit.settle();
      expect(await states(...jobs)).toEqual(['cancelled', 'unknown']);
    });

    test('a job cancelled while it begins to wait is cancelled', async () => {
      const queue = kit.queue();
      const gate = await kit.queue('gate').add('gate', null);
      const hand = await kit.hand();
      const job = await queue.add('a', null);
      const run = await hand.next();
      const waits = await errorOf(run.job.waitFor(gate));
      await queue.cancel(job);
      run.fail(waits);
      await kit.settle();
      expect(await job.getState()).toBe('cancelled');
    });

    test('a wait that the handler does not carry out holds nothing', async () => {
      const queue = kit.queue();
      const gate = await kit.queue('gate').add('gate', null);
      await kit.worker(async (job) => {
        await errorOf(job.waitFor(gate));
        if (job.attemptsMade === 0) throw new Error('first');
        return 'went on';
      });
      const job = await queue.add('a', null, { attempts: 2, backoff: 1000 });
      await kit.settle();
      expect(await job.getState()).toBe('delayed');
      expect((await queue.explain(job)).waitsFor).toEqual([]);
      await kit.pass(1000);
      expect(await job.waitUntilFinished()).toBe('went on');
    });

    test('what settles between the call and the end of the run is not waited for', async () => {
      const queue = kit.queue();
      const gate = await kit.queue('gate').add('gate', null);
      const hand = await kit.hand();
      const job = await queue.add('a', null);
      const run = await hand.next();
      const waits = await errorOf(run.job.waitFor(gate));
      await kit.worker(() => 1, {}, 'gate');
      await kit.settle();
      expect(await job.getState()).toBe('active');
      run.fail(waits);
      await kit.settle();
      const again = hand.rest()[0]!;
      await again.job.waitFor(gate);
      again.complete(await again.job.getDependencyResults());
      expect(await job.waitUntilFinished()).toEqual({ [`gate:${gate.id}`]: 1 });
    });

    test('from the dead letter queue it runs again whatever became of the awaited ones, after those that may still settle', async () => {
      const queue = kit.queue();
      const dead = await kit.failed(kit.queue('dead'));
      await kit.worker(async (job) => {
        await job.waitFor(dead);
        throw new Error('so it is');
      });
      const job = await queue.add('a', null);
      await kit.settle();
      expect(await job.getState()).toBe('failed');
      expect(await queue.retryDlq(job)).toBe(1);
      await kit.settle();
      expect((await queue.getJob(job))?.toJSON()).toMatchObject({ attemptsStarted: 2, failedReason: 'so it is' });
      expect(await kit.queue('dead').retryDlq(dead)).toBe(1);
      expect(await queue.retryDlq(job)).toBe(1);
      expect(await job.getState()).toBe('blocked');
      await kit.worker(() => 1, {}, 'dead');
      await kit.settle();
      expect((await queue.getJob(job))?.attemptsStarted).toBe(3);
    });
  });

  describe('what it refuses', () => {
    test('a job that never existed, one that waits for it, itself; and the handler hears of it', async () => {
      const queue = kit.queue();
      const hand = await kit.hand();
      const job = await queue.add('a', null, { jobId: 'a' });
      const run = await hand.next();
      const after = await kit.queue('other').add('after', null, { dependsOn: [job] });
      const last = await kit.queue('other').add('last', null, { dependsOn: [after] });
      const unknown = await errorOf(run.job.waitFor('nobody'));
      expect(unknown).toBeInstanceOf(UnknownDependencyError);
      expect(unknown).toMatchObject({ queue: 'q', jobId: 'nobody' });
      for (const one of [job, after, last]) {
        const error = await errorOf(run.job.waitFor(one));
        expect(error).toBeInstanceOf(ValidationError);
        expect(error.message).toMatch(/can't wait for/);
      }
      run.complete('still its own');
      expect(await job.waitUntilFinished()).toBe('still its own');
    });

    test('two runs that would wait for each other', async () => {
      const queue = kit.queue();
      const hand = await kit.hand({ concurrency: 2 });
      const [a, b] = [await queue.add('a', null), await queue.add('b', null)];
      const [runA, runB] = [await hand.next(), await hand.next()];
      expect(await errorOf(runA.job.waitFor(b))).toBeInstanceOf(WaitingForJobsError);
      expect(await errorOf(runB.job.waitFor(a))).toBeInstanceOf(ValidationError);
    });

    test('a job that is replaced by one that would wait for it', async () => {
      const queue = kit.queue();
      const later = await kit.queue('later').add('later', null, { jobId: 'later', delay: 1000 });
      const hand = await kit.hand();
      const job = await queue.add('a', null);
      const run = await hand.next();
      run.fail(await errorOf(run.job.waitFor(later)));
      await kit.settle();
      const opts = { jobId: 'later', onDuplicate: 'replace', dependsOn: [job] } as const;
      expect(await errorOf(kit.queue('later').add('later', null, opts))).toBeInstanceOf(ValidationError);
    });

    test('a job that does not run', async () => {
      const queue = kit.queue();
      const job = await queue.add('a', null);
      const gate = await kit.queue('gate').add('gate', null);
      const error = await errorOf(job.waitFor(gate));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(/does not run/);
      expect(await errorOf(job.waitFor([17 as never]))).toBeInstanceOf(ValidationError);
    });
  });
};
