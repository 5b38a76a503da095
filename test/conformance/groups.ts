/** Groups take turns, within priorities and their own limits; and what waits long rises. */
import { ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite } from './kit.js';

export const groups: Suite = (harness) => {
  const kit = kitOf(harness);
  const add = (data: string, opts = {}) => kit.queue().add('a', data, { group: { id: data[0] as string }, ...opts });
  const addAll = async (...data: string[]) => {
    for (const one of data) await add(one);
  };

  describe('groups take turns', () => {
    test('however many jobs each has', async () => {
      await addAll('a1', 'a2', 'a3', 'a4', 'a5', 'b1', 'b2', 'c1');
      expect(await kit.order()).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4', 'a5']);
    });

    test('also those that were admitted in one step', async () => {
      const names = ['a1', 'a2', 'a3', 'b1', 'b2', 'c1'];
      await kit.queue().addBulk(names.map((data) => ({ name: 'x', data, opts: { group: { id: data[0] as string } } })));
      expect(await kit.order()).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
    });

    test('one that comes late waits for one job of each of the others', async () => {
      await addAll('a1', 'a2', 'a3', 'b1', 'b2', 'b3');
      const hand = await kit.hand();
      const first = await hand.next();
      await addAll('c1', 'c2');
      first.complete();
      const rest: string[] = [];
      for (let i = 0; i < 7; i++) {
        const run = await hand.next();
        rest.push(run.job.data);
        run.complete();
      }
      expect(rest).toEqual(['b1', 'a2', 'c1', 'b2', 'a3', 'c2', 'b3']);
    });

    test('jobs without a group are not held up by groups, nor hold them up', async () => {
      await addAll('a1', 'a2');
      await kit.queue().add('a', 'none 1');
      await kit.queue().add('a', 'none 2');
      expect(await kit.order()).toEqual(['a1', 'none 1', 'none 2', 'a2']);
    });

    test('the highest priority among all groups runs first; only groups whose first job has it take turns', async () => {
      await add('a1', { priority: 1 });
      await add('a2', { priority: 5 });
      await add('b1', { priority: 5 });
      await add('b2', { priority: 5 });
      await add('c1', { priority: 3 });
      expect(await kit.order()).toEqual(['a2', 'b1', 'b2', 'c1', 'a1']);
    });

    test('within a group priority and order hold, and lifo jobs come first', async () => {
      await addAll('a1', 'a2');
      await add('a3', { lifo: true });
      await add('a4', { priority: 1 });
      await add('a5', { lifo: true, priority: 1 });
      expect(await kit.order()).toEqual(['a5', 'a4', 'a3', 'a1', 'a2']);
    });

    test('a job that was given another priority, removed or cancelled makes way for its group', async () => {
      const queue = kit.queue();
      const jobs = [];
      for (const name of ['a1', 'a2', 'a3', 'a4']) jobs.push(await add(name));
      await queue.remove(jobs[0]!);
      await queue.cancel(jobs[1]!);
      await queue.changePriority(jobs[3]!, 2);
      expect(await kit.order()).toEqual(['a4', 'a3']);
    });

    test('a retry waits in its group', async () => {
      await add('a1', { attempts: 2 });
      await addAll('a2', 'b1', 'b2');
      const hand = await kit.hand();
      (await hand.next()).fail(new Error('no'));
      const rest: string[] = [];
      for (let i = 0; i < 4; i++) {
        const run = await hand.next();
        rest.push(run.job.data);
        run.complete();
      }
      expect(rest).toEqual(['b1', 'a2', 'b2', 'a1']);
    });

    test('ten thousand of them', async () => {
      const [groups, each] = [10_000, 2];
      const items = Array.from({ length: groups * each }, (_, nth) => {
        const id = `g${Math.floor(nth / each)}`;
        return { name: 'a', data: id, opts: { group: { id } } };
      });
      const jobs = await kit.queue().addBulk(items);
      const ran: string[] = [];
      await kit.worker(({ data }) => void ran.push(data));
      await kit.queue().finished(jobs);
      const turn = Array.from({ length: groups }, (_, nth) => `g${nth}`);
      expect(ran).toEqual([...turn, ...turn]);
    });

    test('delayed jobs and dependents come into their groups when they are due', async () => {
      const needed = await kit.queue().add('a', 'needed');
      await add('a1', { dependsOn: [needed] });
      await add('a2', { delay: 100 });
      await addAll('a3', 'b1');
      await kit.pass(100);
      expect(await kit.order()).toEqual(['needed', 'a3', 'b1', 'a2', 'a1']);
    });
  });

  describe('limits of groups', () => {
    test('at most so many jobs of each run at a time', async () => {
      await kit.queue().configure({ groups: { concurrency: 2 } });
      await addAll('a1', 'a2', 'a3', 'b1', 'b2', 'b3', 'c1');
      const hand = await kit.hand({ concurrency: 10 });
      await kit.settle();
      const runs = hand.rest();
      expect(runs.map(({ job }) => job.data)).toEqual(['a1', 'b1', 'c1', 'a2', 'b2']);
      runs[0]!.complete();
      expect((await hand.next()).job.data).toBe('a3');
      await kit.settle();
      expect(hand.rest()).toEqual([]);
    });

    test('a limit that is raised, or taken away, holds at once', async () => {
      const queue = kit.queue();
      await queue.configure({ groups: { concurrency: 1 } });
      await addAll('a1', 'a2', 'a3', 'a4');
      const hand = await kit.hand({ concurrency: 10 });
      await kit.settle();
      expect(hand.rest().length).toBe(1);
      await queue.configure({ groups: { concurrency: 2 } });
      await kit.settle();
      expect(hand.rest().length).toBe(1);
      await queue.configure({ groups: null });
      await kit.settle();
      expect(hand.rest().length).toBe(2);
      expect(await queue.getConfig()).toEqual({});
    });

    test('at most so many jobs of each start within any such time', async () => {
      await kit.queue().configure({ groups: { rateLimit: { max: 2, duration: 1000 } } });
      await addAll('a1', 'a2', 'a3', 'a4', 'a5', 'b1', 'b2');
      const starts: [string, number][] = [];
      const begin = kit.now;
      await kit.worker(async (job) => void starts.push([job.data, kit.now - begin]), { concurrency: 5 });
      await kit.settle();
      for (let i = 0; i < 25; i++) await kit.pass(100);
      const of = (group: string) => starts.filter(([name]) => name.startsWith(group)).map(([, at]) => at);
      expect(of('b')).toEqual([0, 0]);
      const times = of('a');
      expect(times.length).toBe(5);
      for (let i = 2; i < times.length; i++) expect(times[i]! - times[i - 2]!).toBeGreaterThanOrEqual(1000);
    });

    test('a run that fails, is cancelled or is given back makes way for the next of its group', async () => {
      await kit.queue().configure({ groups: { concurrency: 1 } });
      const first = await add('a1');
      await addAll('a2', 'a3');
      const hand = await kit.hand({ concurrency: 5 });
      const run = await hand.next();
      await kit.queue().cancel(first);
      run.fail(new Error('cancelled'));
      const second = await hand.next();
      expect(second.job.data).toBe('a2');
      second.fail(new Error('no'));
      expect((await hand.next()).job.data).toBe('a3');
    });

    test.each([
      [{ groups: { concurrency: 0 } }, 'config.groups.concurrency'],
      [{ groups: { rateLimit: { max: 1 } } }, 'config.groups.rateLimit.duration'],
      [{ groups: { limit: 1 } }, 'config.groups.limit'],
      [{ aging: { every: 0, max: 1 } }, 'config.aging.every'],
      [{ aging: { every: 10 } }, 'config.aging.max'],
    ])('refuses %o', async (config, path) => {
      const error = await errorOf(kit.queue().configure(config as object));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.path).toBe(path);
    });

    test.each([[{}], [{ id: '' }], [{ id: 7 }], ['a'], [null]])('refuses the group %o', async (group) => {
      const error = await errorOf(kit.queue().add('a', 1, { group: group as never }));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.path).toMatch(/^opts\.group/);
    });
  });

  describe('aging', () => {
    test('what waits long enough overtakes what counts more, and shows the priority that it was given', async () => {
      const queue = kit.queue();
      await queue.configure({ aging: { every: 1000, step: 3, max: 5 } });
      const old = await queue.add('a', 'old', { priority: 1 });
      await kit.pass(1000);
      await queue.add('a', 'new', { priority: 3 });
      await queue.add('a', 'newer', { priority: 7 });
      expect((await queue.getJob(old))?.priority).toBe(1);
      const hand = await kit.hand();
      const seen: [string, number][] = [];
      for (let i = 0; i < 3; i++) {
        const { job, complete } = await hand.next();
        seen.push([job.data, job.priority]);
        complete();
      }
      expect(seen).toEqual([
        ['newer', 7],
        ['old', 1],
        ['new', 3],
      ]);
    });

    test('adds no more than max, and begins anew with a retry', async () => {
      const queue = kit.queue();
      await queue.configure({ aging: { every: 100, max: 2 } });
      await queue.pause();
      await queue.add('a', 'old', { attempts: 2, backoff: 10 });
      await kit.pass(1000);
      await queue.add('a', 'three', { priority: 3 });
      await queue.add('a', 'two', { priority: 2 });
      await queue.add('a', 'one', { priority: 1 });
      const hand = await kit.hand();
      await queue.resume();
      const order: string[] = [];
      for (let i = 0; i < 5; i++) {
        const run = await hand.next();
        order.push(run.job.data);
        if (order.length === 2) {
          run.fail(new Error('again'));
          await kit.pass(10);
        } else run.complete();
      }
      expect(order).toEqual(['three', 'old', 'two', 'one', 'old']);
    });

    test('goes on step by step while a ttl stands still, and when it counts again', async () => {
      const queue = kit.queue();
      await queue.configure({ aging: { every: 1000, max: 100 } });
      const job = await queue.add('a', 'old', { ttl: 10_500, expireWhilePaused: false });
      await queue.add('a', 'twenty', { priority: 20 });
      await queue.pause();
      await kit.pass(12_000);
      await queue.resume();
      await queue.add('a', 'ten', { priority: 10 });
      expect(await kit.order()).toEqual(['twenty', 'old', 'ten']);
      expect(await job.getState()).toBe('completed');
      const other = await queue.add('a', 'b', { ttl: 1500, expireWhilePaused: false });
      await queue.pause();
      await kit.pass(5000);
      await queue.resume();
      await kit.pass(1499);
      expect(await other.getState()).toBe('waiting');
      await kit.pass(1);
      expect(await other.getState()).toBe('failed');
    });

    test('a ttl still ends in time', async () => {
      const queue = kit.queue();
      await queue.configure({ aging: { every: 1000, max: 10 } });
      const job = await queue.add('a', 1, { ttl: 2500 });
      await kit.pass(2400);
      expect(await job.getState()).toBe('waiting');
      await kit.pass(100);
      expect(await job.getState()).toBe('failed');
    });

    test('set later it holds for those that wait, and taken away the priorities are their own again', async () => {
      const queue = kit.queue();
      await queue.add('a', 'old');
      await queue.configure({ aging: { every: 100, max: 5 } });
      await kit.pass(200);
      await queue.add('a', 'one', { priority: 1 });
      await queue.configure({ aging: null });
      expect(await kit.order()).toEqual(['one', 'old']);
    });

    test('taken away it leaves the ttl of what waits', async () => {
      const queue = kit.queue();
      await queue.configure({ aging: { every: 100, max: 5 } });
      const young = await queue.add('a', 1, { ttl: 2500 });
      const old = await queue.add('a', 2, { ttl: 2600 });
      await kit.pass(50);
      await queue.configure({ aging: null });
      await kit.pass(2450);
      expect(await young.getState()).toBe('failed');
      expect(await old.getState()).toBe('waiting');
      await kit.pass(100);
      expect(await old.getState()).toBe('failed');
    });

    test('goes on beside a ttl that stands still while the queue is paused', async () => {
      const queue = kit.queue();
      await queue.configure({ aging: { every: 1000, max: 5 } });
      await queue.pause();
      const job = await queue.add('a', 'old', { ttl: 1500, expireWhilePaused: false });
      await kit.pass(3000);
      await queue.add('a', 'two', { priority: 2 });
      await queue.resume();
      await kit.pass(1000);
      await queue.add('a', 'late', { priority: 4 });
      expect(await job.getState()).toBe('waiting');
      expect(await kit.order()).toEqual(['old', 'late', 'two']);
    });

    test('come to its end, it leaves the ttl that counts again after a pause', async () => {
      const queue = kit.queue();
      await queue.configure({ aging: { every: 100, max: 2 } });
      const job = await queue.add('a', 'old', { ttl: 1500, expireWhilePaused: false });
      await kit.pass(500);
      await queue.pause();
      await kit.pass(5000);
      await queue.resume();
      await kit.pass(999);
      expect(await job.getState()).toBe('waiting');
      await kit.pass(1);
      expect(await job.getState()).toBe('failed');
    });

    test('begins anew with another priority, also when it had come to its end', async () => {
      const queue = kit.queue();
      await queue.configure({ aging: { every: 100, max: 2 } });
      const job = await queue.add('a', 'old');
      await kit.pass(500);
      await queue.changePriority(job, 1);
      await queue.add('a', 'two', { priority: 2 });
      await kit.pass(200);
      await queue.add('a', 'three', { priority: 3 });
      expect(await kit.order()).toEqual(['two', 'old', 'three']);
    });

    test('raises a group by its first job', async () => {
      const queue = kit.queue();
      await queue.configure({ aging: { every: 100, max: 5 } });
      await addAll('a1', 'a2', 'a3');
      await kit.pass(200);
      await add('b1', { priority: 2 });
      await add('b2', { priority: 1 });
      expect(await kit.order()).toEqual(['a1', 'b1', 'a2', 'a3', 'b2']);
    });
  });
};
