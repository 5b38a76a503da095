/** In which order jobs run: strict priority, first come first served within one, and who goes to the head or the tail. */
import { type Job, RateLimitError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, states } from './kit.js';

export const order: Suite = (harness) => {
  const kit = kitOf(harness);
  const add = (data: unknown, opts = {}) => kit.queue().add('a', data, opts);

  describe('priority', () => {
    test('higher runs first, over the whole 32-bit range', async () => {
      for (const priority of [0, -1, 5, 2 ** 31 - 1, -(2 ** 31), 1000, -1000, 4]) await add(priority, { priority });
      expect(await kit.order()).toEqual([2 ** 31 - 1, 1000, 5, 4, 0, -1, -1000, -(2 ** 31)]);
    });

    test('within a priority the first that became ready runs first', async () => {
      for (let i = 0; i < 20; i++) await add(i, { priority: i % 2 });
      const even = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18];
      expect(await kit.order()).toEqual([...even.map((i) => i + 1), ...even]);
    });

    test('without a priority it is 0', async () => {
      await add('none');
      await add('low', { priority: -1 });
      await add('high', { priority: 1 });
      await add('zero', { priority: 0 });
      expect(await kit.order()).toEqual(['high', 'none', 'zero', 'low']);
    });

    test('a job that comes later and counts more overtakes the backlog', async () => {
      for (let i = 0; i < 100; i++) await add(i);
      const hand = await kit.hand();
      const first = await hand.next();
      await add('urgent', { priority: 1 });
      first.complete();
      expect((await hand.next()).job.data).toBe('urgent');
    });

    test('a delayed job of high priority never blocks a ready one', async () => {
      await add('later', { priority: 100, delay: 1000 });
      await add('now');
      expect(await kit.order()).toEqual(['now']);
    });

    test.each([1.5, 2 ** 31, -(2 ** 31) - 1, Number.NaN, Number.POSITIVE_INFINITY, '1', null, true])(
      'refuses %s',
      async (priority) => {
        const error = await errorOf(add(1, { priority }));
        expect(error).toBeInstanceOf(ValidationError);
        expect(error.path).toBe('opts.priority');
      },
    );
  });

  describe('lifo', () => {
    test('goes to the head of its priority', async () => {
      await add('first');
      await add('second');
      await add('lifo 1', { lifo: true });
      await add('lifo 2', { lifo: true });
      await add('higher', { priority: 1 });
      expect(await kit.order()).toEqual(['higher', 'lifo 2', 'lifo 1', 'first', 'second']);
    });

    test('holds again when the job becomes ready after a delay', async () => {
      await add('delayed lifo', { lifo: true, delay: 100 });
      await add('first');
      await kit.pass(100);
      expect(await kit.order()).toEqual(['delayed lifo', 'first']);
    });

    test('holds again when the job is retried, released by its dependencies, or promoted', async () => {
      const retried = await add('retried', { lifo: true, attempts: 2 });
      const hand = await kit.hand();
      const run = await hand.next();
      await hand.worker.pause(true);
      const needed = await add('needed', { priority: 1 });
      await add('tail');
      await add('dependent', { lifo: true, dependsOn: [needed] });
      const promoted = await add('promoted', { lifo: true, delay: 5000 });
      run.fail(new Error('once'));
      await kit.settle();
      await promoted.promote();
      await hand.worker.close();
      expect(await retried.getState()).toBe('waiting');
      expect(await kit.order()).toEqual(['needed', 'dependent', 'promoted', 'retried', 'tail']);
    });
  });

  describe('who goes to the head', () => {
    test('a released job, which did not fail, runs before its equals and keeps its priority', async () => {
      await add('released', { priority: 1 });
      const hand = await kit.hand();
      await hand.next();
      await add('equal', { priority: 1 });
      await add('higher', { priority: 2 });
      await hand.worker.close(true);
      expect(await kit.order()).toEqual(['higher', 'released', 'equal']);
    });

    test('several released jobs do not lose attempts', async () => {
      const jobs = [await add(1), await add(2), await add(3)];
      const hand = await kit.hand({ concurrency: 3 });
      await kit.settle();
      expect(hand.started).toHaveLength(3);
      await hand.worker.close(true);
      expect(await states(...jobs)).toEqual(['waiting', 'waiting', 'waiting']);
      for (const job of jobs) expect((await kit.queue().getJob(job))?.attemptsMade).toBe(0);
    });
  });

  describe('who goes to the tail', () => {
    /** Fails or asks for more time once, with two others waiting behind. */
    async function behind(make: () => unknown, opts: object): Promise<unknown[]> {
      await add('again', opts);
      const hand = await kit.hand();
      const run = await hand.next();
      await hand.worker.pause(true);
      await add('one');
      await add('two');
      run.fail(make());
      await kit.settle();
      await hand.worker.close();
      return kit.order();
    }

    test('a retry without backoff', async () => {
      expect(await behind(() => new Error('x'), { attempts: 2 })).toEqual(['one', 'two', 'again']);
    });

    test('a retry keeps its priority', async () => {
      expect(await behind(() => new Error('x'), { attempts: 2, priority: 1 })).toEqual(['again', 'one', 'two']);
    });

    test('a RateLimitError of 0 ms', async () => {
      expect(await behind(() => new RateLimitError(0), {})).toEqual(['one', 'two', 'again']);
    });

    test('a delay that is over', async () => {
      await add('delayed', { delay: 100 });
      await add('one');
      await kit.pass(100);
      await add('two');
      expect(await kit.order()).toEqual(['one', 'delayed', 'two']);
    });

    test('delays that are over at the same moment keep the order of their due times', async () => {
      await add('late', { delay: 300 });
      await add('early', { delay: 100 });
      await add('middle', { delay: 200 });
      await kit.pass(1000);
      expect(await kit.order()).toEqual(['early', 'middle', 'late']);
    });

    test('a promoted job', async () => {
      const promoted = await add('promoted', { delay: 1000 });
      await add('one');
      await promoted.promote();
      await add('two');
      expect(await kit.order()).toEqual(['one', 'promoted', 'two']);
    });

    test('a released dependent', async () => {
      const hand = await kit.hand();
      const needed = await add('needed');
      await add('dependent', { dependsOn: [needed] });
      const run = await hand.next();
      await hand.worker.pause(true);
      await add('one');
      run.complete();
      await kit.settle();
      await add('two');
      await hand.worker.close();
      expect(await kit.order()).toEqual(['one', 'dependent', 'two']);
    });

    test('a job whose priority has changed, to any value', async () => {
      const jobs: Job[] = [];
      for (const data of ['a', 'b', 'c', 'd']) jobs.push(await add(data));
      await jobs[0]?.changePriority(5);
      await jobs[0]?.changePriority(0);
      expect(await kit.order()).toEqual(['b', 'c', 'd', 'a']);
    });

    test('a failed job that is retried by hand', async () => {
      const failed = await kit.failed(kit.queue());
      await add('one');
      await failed.retry();
      await add('two');
      expect(await kit.order()).toEqual(['one', null, 'two']);
    });
  });

  describe('changePriority', () => {
    test('moves a waiting job among the others', async () => {
      const jobs: Job[] = [];
      for (const data of ['a', 'b', 'c']) jobs.push(await add(data));
      await jobs[2]?.changePriority(1);
      await jobs[0]?.changePriority({ priority: -1 });
      expect(jobs[2]?.priority).toBe(1);
      expect((await kit.queue().getJob(jobs[0] as Job))?.priority).toBe(-1);
      expect(await kit.order()).toEqual(['c', 'b', 'a']);
    });

    test('with lifo goes to the head of the new priority', async () => {
      await add('a', { priority: 3 });
      const job = await add('b');
      await job.changePriority({ priority: 3, lifo: true });
      expect(await kit.order()).toEqual(['b', 'a']);
    });

    test('leaves a lifo job at the head', async () => {
      await add('a', { priority: 3 });
      const job = await add('b', { lifo: true });
      await job.changePriority(3);
      expect(await kit.order()).toEqual(['b', 'a']);
    });

    test('holds for delayed and blocked jobs once they are ready', async () => {
      const needed = await add('needed', { priority: 9 });
      const blocked = await add('blocked', { dependsOn: [needed] });
      const delayed = await add('delayed', { delay: 100 });
      await add('one', { priority: 1 });
      await blocked.changePriority(2);
      await kit.queue().changePriority(delayed.id, 3);
      expect(await states(blocked, delayed)).toEqual(['blocked', 'delayed']);
      await kit.pass(100);
      expect(await kit.order()).toEqual(['needed', 'delayed', 'blocked', 'one']);
    });

    test('is refused once the job runs or is finished', async () => {
      const job = await add('a');
      const hand = await kit.hand();
      const run = await hand.next();
      expect(await errorOf(job.changePriority(1))).toBeInstanceOf(ValidationError);
      run.complete();
      await kit.queue().finished(job);
      expect(await errorOf(job.changePriority(1))).toBeInstanceOf(ValidationError);
    });

    test('holds through later retries', async () => {
      const job = await add('a', { attempts: 3 });
      await job.changePriority(7);
      const hand = await kit.hand();
      (await hand.next()).fail(new Error('x'));
      await hand.next();
      expect((await kit.queue().getJob(job))?.priority).toBe(7);
    });
  });
};
