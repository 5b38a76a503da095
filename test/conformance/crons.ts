/** Crons: what the clock adds, and when. */
import { type CronOptions, JobRemovedError, type Queue, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite } from './kit.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** The moment at which a test's clock stands: midnight of a Wednesday. */
const START = Date.UTC(2025, 0, 1);

export const crons: Suite = (harness) => {
  const kit = kitOf(harness);

  /** Times of the ticks that have a job, from the start, by its id; of jobs that are waiting or running. */
  async function made(
    queue: Queue,
    count = 200,
  ): Promise<{ at: number; backfilled: boolean; id: string; name: string }[]> {
    const { waiting } = await queue.getJobCounts();
    expect(waiting).toBeLessThanOrEqual(count);
    const jobs: { at: number; backfilled: boolean; id: string; name: string }[] = [];
    const seen = (await kit.hand({ concurrency: count }, queue.name)).started;
    await kit.settle();
    for (const { job, complete } of seen) {
      jobs.push({ at: job.cron!.scheduledFor - START, backfilled: job.cron!.backfilled, id: job.id, name: job.name });
      complete(null);
    }
    await kit.settle();
    return jobs;
  }

  async function waiting(queue = kit.queue()): Promise<number> {
    return (await queue.getJobCounts()).waiting;
  }

  describe('ticks', () => {
    test('come by the clock, whether or not the job before has run, and each is one job with an id of its own', async () => {
      const queue = kit.queue();
      await queue.addCron('poll', { every: 15_000, data: { n: 1 }, overlap: 'allow' });
      await kit.pass(45_000);
      const run = await kit.hand();
      await kit.settle();
      const [first] = run.started;
      expect(first!.job).toMatchObject({ name: 'poll', data: { n: 1 } });
      expect(run.started.length).toBe(1);
      first!.complete(null);
      await kit.settle();
      run.started[1]!.complete(null);
      await kit.settle();
      run.started[2]!.complete(null);
      await kit.settle();
      expect(run.started.map(({ job }) => job.id)).toEqual([15, 30, 45].map((s) => `cron:poll:${START + s * 1000}`));
      expect(run.started.map(({ job }) => job.cron)).toEqual(
        [15, 30, 45].map((s) => ({ scheduledFor: START + s * 1000, backfilled: false })),
      );
    });

    test('by a schedule in a time zone', async () => {
      const queue = kit.queue();
      const info = await queue.addCron('report', { schedule: '30 2 * * *', tz: 'Europe/Berlin' });
      expect(info).toMatchObject({
        name: 'report',
        queue: 'q',
        tz: 'Europe/Berlin',
        next: START + 1.5 * HOUR,
        runs: 0,
      });
      await kit.pass(1.5 * HOUR - 1);
      expect(await waiting()).toBe(0);
      await kit.pass(1);
      expect(await waiting()).toBe(1);
    });

    test('make jobs with the options of the cron, a name of their own, and what cron they are of', async () => {
      const queue = kit.queue('q', { defaultJobOptions: { attempts: 3 } });
      await queue.addCron('c', { every: MINUTE, opts: { name: 'work', priority: 7 } });
      await kit.pass(MINUTE);
      const job = await queue.getJob(`cron:c:${START + MINUTE}`);
      expect(job).toMatchObject({ name: 'work', priority: 7, opts: { attempts: 3, priority: 7 } });
      expect(job!.cron).toEqual({ scheduledFor: START + MINUTE, backfilled: false });
      expect(job!.opts).not.toHaveProperty('cron');
      expect(job!.toJSON().cron).toEqual(job!.cron);
      const run = await (await kit.hand()).next();
      expect(run.job.opts).not.toHaveProperty('cron');
      expect(run.job.cron).toEqual(job!.cron);
    });

    test('a job that no cron has made has none', async () => {
      const job = await kit.queue().add('a', null);
      expect(job.cron).toBeUndefined();
      expect((await kit.queue().getJob(job))!.cron).toBeUndefined();
    });

    test('go to the queue that the options name', async () => {
      await kit.queue().addCron('c', { queue: 'other', every: MINUTE });
      await kit.pass(MINUTE);
      expect([await waiting(), await waiting(kit.queue('other'))]).toEqual([0, 1]);
    });

    test('begin at startDate and end at endDate, both included', async () => {
      const queue = kit.queue();
      const startDate = new Date(START + 90_000);
      const endDate = new Date(START + 3.5 * MINUTE);
      await queue.addCron('c', { every: MINUTE, startDate, endDate, overlap: 'allow' });
      await kit.pass(HOUR);
      expect((await made(queue)).map(({ at }) => at)).toEqual([90_000, 150_000, 210_000]);
      expect(await queue.listCrons()).toMatchObject([{ next: undefined, last: START + 210_000, runs: 3 }]);
    });

    test('that would have come before the cron was added have not been missed', async () => {
      const info = await kit.queue().addCron('c', { every: MINUTE, startDate: START - HOUR - 1000, missed: 'all' });
      expect(info).toMatchObject({ next: START + 59_000, runs: 0 });
      expect(await waiting()).toBe(0);
    });

    test('end with the limit', async () => {
      const queue = kit.queue();
      await queue.addCron('c', { every: MINUTE, limit: 2, overlap: 'allow' });
      await kit.pass(HOUR);
      expect(await waiting()).toBe(2);
      expect(await queue.listCrons()).toMatchObject([{ next: undefined, runs: 2, limit: 2 }]);
    });

    test('immediately: one at once, which counts, and then as the clock says', async () => {
      const queue = kit.queue();
      await kit.pass(1234);
      await queue.addCron('c', { every: MINUTE, immediately: true, overlap: 'allow', limit: 2 });
      expect(await waiting()).toBe(1);
      await kit.pass(HOUR);
      expect((await made(queue)).map(({ at }) => at)).toEqual([1234, MINUTE]);
    });

    test('the data is what it was when the cron was added', async () => {
      const data = { list: [1], at: new Date(5), set: new Set([1]) };
      await kit.queue().addCron('c', { every: MINUTE, data });
      data.list.push(2);
      await kit.pass(MINUTE);
      const job = await kit.queue().getJob(`cron:c:${START + MINUTE}`);
      expect(job!.data).toEqual({ list: [1], at: new Date(5), set: new Set([1]) });
    });
  });

  describe('adding again', () => {
    test('the same changes nothing, not even the phase', async () => {
      const queue = kit.queue();
      const options: CronOptions = { every: MINUTE, data: { b: 1, a: [2] }, opts: { attempts: 2 }, immediately: true };
      const recorder = await kit.recorder();
      await queue.addCron('c', options);
      await kit.pass(45_000);
      const info = await queue.addCron('c', { ...options, data: { a: [2], b: 1 } });
      expect(info).toMatchObject({ next: START + MINUTE, runs: 1 });
      await kit.settle();
      expect([recorder.count('cron:added'), recorder.count('cron:changed'), await waiting()]).toEqual([1, 0, 1]);
    });

    test('a changed one takes effect at once, and keeps what it has counted', async () => {
      const queue = kit.queue();
      const recorder = await kit.recorder();
      await queue.addCron('c', { schedule: '0 * * * *', data: 1, limit: 2, overlap: 'allow' });
      await kit.pass(HOUR);
      await queue.addCron('c', { every: MINUTE, data: 2, limit: 3, overlap: 'allow' });
      await kit.pass(HOUR);
      expect(await queue.listCrons()).toMatchObject([{ every: MINUTE, data: 2, runs: 3, next: undefined }]);
      expect((await made(queue)).map(({ at }) => at)).toEqual([HOUR, HOUR + MINUTE, HOUR + 2 * MINUTE]);
      expect(recorder.count('cron:changed')).toBe(1);
    });

    test('a name is one in the engine, whatever the queue', async () => {
      await kit.queue().addCron('c', { every: MINUTE });
      await kit.queue('other').addCron('c', { every: MINUTE });
      expect(await kit.queue().listCrons()).toEqual([]);
      expect(await kit.queue().listCrons({ all: true })).toMatchObject([{ name: 'c', queue: 'other' }]);
    });
  });

  describe('from any Queue', () => {
    test('listCrons tells those of this queue, or all', async () => {
      const queue = kit.queue();
      await queue.addCron('a', { every: MINUTE });
      await queue.addCron('b', { queue: 'other', schedule: '@daily', opts: { priority: 1 } });
      expect(await queue.listCrons()).toEqual([
        {
          ...{ name: 'a', queue: 'q', every: MINUTE, jobName: 'a', missed: 'once', missedMax: 100, overlap: 'skip' },
          ...{ immediately: false, paused: false, next: START + MINUTE, runs: 0 },
        },
      ]);
      expect(await queue.listCrons({ all: true })).toMatchObject([
        { name: 'a' },
        { name: 'b', tz: 'UTC', schedule: '@daily', opts: { priority: 1 }, next: START + 24 * HOUR },
      ]);
    });

    test.each(['removeCron', 'deleteCron'] as const)('%s ends it, and its jobs stay', async (method) => {
      const recorder = await kit.recorder('q');
      await kit.queue().addCron('c', { every: MINUTE, overlap: 'allow' });
      await kit.pass(MINUTE);
      expect(await kit.queue('other')[method]('c')).toBe(true);
      expect(await kit.queue('other')[method]('c')).toBe(false);
      await kit.pass(HOUR);
      expect(await waiting()).toBe(1);
      expect(recorder.last('cron:removed')?.args).toMatchObject({ name: 'c' });
    });

    test('a name that was removed begins anew', async () => {
      const queue = kit.queue();
      await queue.addCron('c', { every: MINUTE, limit: 1 });
      await kit.pass(MINUTE);
      await queue.removeCron('c');
      expect(await queue.addCron('c', { every: MINUTE, limit: 1 })).toMatchObject({
        runs: 0,
        next: START + 2 * MINUTE,
      });
    });

    test('triggerCron makes a job now, which is no tick', async () => {
      const queue = kit.queue();
      await queue.addCron('c', { every: HOUR, data: 'd', limit: 1, opts: { name: 'work' } });
      await kit.pass(1000);
      const job = await kit.queue('other').triggerCron('c');
      expect(job).toMatchObject({
        queueName: 'q',
        name: 'work',
        data: 'd',
        cron: { scheduledFor: START + 1000, backfilled: false },
      });
      expect(job.id).toMatch(/^j\d+$/);
      expect(await queue.listCrons()).toMatchObject([{ runs: 0, next: START + HOUR }]);
      expect((await queue.triggerCron('c')).id).not.toBe(job.id);
    });

    test('triggerCron gives the job that holds the deduplication key of the cron, as long as there is a record of it', async () => {
      const opts = { removeOnComplete: { age: 10 }, deduplication: { id: 'k', ttl: 10 * MINUTE } };
      await kit.queue().addCron('c', { every: 60 * MINUTE, opts });
      const first = await kit.queue().triggerCron('c');
      const second = await kit.queue().triggerCron('c');
      expect([first.deduplicated, second.deduplicated, second.id]).toEqual([false, true, first.id]);
      await kit.worker(() => 1);
      await kit.pass(MINUTE);
      expect(await errorOf(kit.queue().triggerCron('c'))).toBeInstanceOf(JobRemovedError);
    });

    test('a paused one has no ticks, and none of those that passed are made up for', async () => {
      const queue = kit.queue();
      const recorder = await kit.recorder();
      await queue.addCron('c', { every: MINUTE, missed: 'all' });
      await kit.queue('other').pauseCron('c');
      await queue.pauseCron('c');
      expect(await queue.listCrons()).toMatchObject([{ paused: true, next: undefined }]);
      await kit.pass(10 * MINUTE);
      expect(await waiting()).toBe(0);
      expect((await queue.triggerCron('c')).name).toBe('c');
      await queue.drain();
      await kit.queue('other').resumeCron('c');
      expect(await queue.listCrons()).toMatchObject([{ paused: false, next: START + 11 * MINUTE }]);
      await kit.pass(MINUTE);
      expect((await made(queue)).map(({ at }) => at)).toEqual([11 * MINUTE]);
      expect([recorder.count('cron:paused'), recorder.count('cron:resumed')]).toEqual([1, 1]);
    });

    test.each(['triggerCron', 'pauseCron', 'resumeCron'] as const)(
      '%s of a name that is not there says so',
      async (method) => {
        const error = await errorOf(kit.queue()[method]('nobody'));
        expect(error).toBeInstanceOf(ValidationError);
        expect(error.message).toContain('"nobody"');
      },
    );

    test('obliterate removes the crons whose jobs go to that queue', async () => {
      const recorder = await kit.recorder();
      await kit.queue().addCron('mine', { every: MINUTE });
      await kit.queue().addCron('theirs', { queue: 'other', every: MINUTE });
      await kit.queue().obliterate();
      expect(await kit.queue().listCrons({ all: true })).toMatchObject([{ name: 'theirs' }]);
      await kit.pass(MINUTE);
      expect([await waiting(), await waiting(kit.queue('other'))]).toEqual([0, 1]);
      expect(recorder.last('cron:removed')?.args).toMatchObject({ name: 'mine' });
    });
  });

  describe('overlap', () => {
    test('skip: no job while the one before waits or runs', async () => {
      const queue = kit.queue();
      const recorder = await kit.recorder();
      await queue.addCron('c', { every: MINUTE });
      await kit.pass(3 * MINUTE); // nobody takes it
      expect(await waiting()).toBe(1);
      const hand = await kit.hand();
      await kit.settle();
      await kit.pass(MINUTE); // it runs
      hand.started[0]!.complete(null);
      await kit.settle();
      await kit.pass(MINUTE);
      expect(hand.started.map(({ job }) => job.cron!.scheduledFor - START)).toEqual([MINUTE, 5 * MINUTE]);
      const skipped = recorder.told.filter(({ event }) => event === 'cron:skipped').map(({ args }) => args);
      expect(skipped).toMatchObject(
        [2, 3, 4].map((n) => ({ name: 'c', scheduledFor: START + n * MINUTE, reason: 'overlap' })),
      );
      expect(await queue.listCrons()).toMatchObject([{ runs: 2, last: START + 5 * MINUTE, next: START + 6 * MINUTE }]);
    });

    test('skip: a paused queue does not pile up', async () => {
      const queue = kit.queue();
      await queue.pause();
      await queue.addCron('c', { every: MINUTE });
      await kit.pass(HOUR);
      expect(await waiting()).toBe(1);
    });

    test('skip: a retry that waits is not finished, a failed job is', async () => {
      const queue = kit.queue();
      await queue.addCron('c', { every: MINUTE, opts: { attempts: 2, backoff: 90_000 } });
      const hand = await kit.hand();
      await kit.pass(MINUTE);
      hand.started[0]!.fail(new Error('once'));
      await kit.pass(MINUTE);
      expect(hand.started).toHaveLength(1);
      await kit.pass(30_000);
      hand.started[1]!.fail(new Error('twice'));
      await kit.pass(30_000);
      expect(hand.started.map(({ job }) => job.cron!.scheduledFor - START)).toEqual([MINUTE, MINUTE, 3 * MINUTE]);
    });

    test('a triggered job overlaps as well', async () => {
      const queue = kit.queue();
      await queue.addCron('c', { every: MINUTE });
      await queue.triggerCron('c');
      await kit.pass(MINUTE);
      expect(await waiting()).toBe(1);
    });

    test('buffer: one more, which runs when the one before has ended, however it did', async () => {
      const queue = kit.queue();
      const recorder = await kit.recorder();
      await queue.addCron('c', { every: MINUTE, overlap: 'buffer' });
      const hand = await kit.hand({ concurrency: 10 });
      await kit.pass(3 * MINUTE);
      expect(hand.started).toHaveLength(1);
      expect(recorder.last('cron:skipped')?.args).toMatchObject({ scheduledFor: START + 3 * MINUTE });
      hand.started[0]!.fail(new Error('no matter'));
      await kit.settle();
      expect(hand.started.map(({ job }) => job.cron!.scheduledFor - START)).toEqual([MINUTE, 2 * MINUTE]);
      await kit.pass(MINUTE); // while the kept one runs, there may be one more again
      hand.started[1]!.complete(null);
      await kit.settle();
      expect(hand.started.map(({ job }) => job.cron!.scheduledFor - START)).toEqual([MINUTE, 2 * MINUTE, 4 * MINUTE]);
    });

    test('cancel: the one before, waiting or running', async () => {
      const queue = kit.queue();
      await queue.addCron('c', { every: MINUTE, overlap: 'cancel' });
      await kit.pass(2 * MINUTE);
      expect(await queue.getJobState(`cron:c:${START + MINUTE}`)).toBe('cancelled');
      const hand = await kit.hand({ concurrency: 2 });
      await kit.settle();
      await kit.pass(MINUTE);
      expect(hand.started[0]!.signal.aborted).toBe(true);
      expect(hand.started.map(({ job }) => job.cron!.scheduledFor - START)).toEqual([2 * MINUTE, 3 * MINUTE]);
    });

    test('cancel: the one before may have made way by its deduplication key, or be what the key gives', async () => {
      const opts = { delay: 10 * MINUTE, deduplication: { id: 'k', replace: true } };
      await kit.queue().addCron('replaces', { every: MINUTE, overlap: 'cancel', opts });
      await kit.queue('p').addCron('keeps', { every: MINUTE, overlap: 'cancel', opts: { deduplication: { id: 'k' } } });
      for (let tick = 0; tick < 3; tick++) await kit.pass(MINUTE);
      expect(await kit.queue().getJobCounts()).toMatchObject({ delayed: 1, cancelled: 0 });
      expect(await kit.queue('p').getJobCounts()).toMatchObject({ waiting: 1, cancelled: 0 });
      expect(await kit.queue('p').listCrons()).toMatchObject([{ runs: 1 }]);
    });

    test('allow: one beside the other', async () => {
      await kit.queue().addCron('c', { every: MINUTE, overlap: 'allow' });
      const hand = await kit.hand({ concurrency: 10 });
      await kit.pass(3 * MINUTE);
      expect(hand.started).toHaveLength(3);
    });
  });

  describe('what is refused', () => {
    const bad: [options: object, message: RegExp][] = [
      [{}, /needs either options.schedule or options.every: neither/],
      [{ every: 1000, schedule: '* * * * *' }, /both were given/],
      [{ every: 1000, repeat_every: 1000 }, /same option/],
      [{ every: 0 }, /options.every must be at least 1 ms/],
      [{ every: -1 }, /options.every/],
      [{ every: '1m' }, /options.every/],
      [{ schedule: 5 }, /options.schedule must be a cron expression/],
      [{ schedule: '61 * * * *' }, /five fields.*"61 \* \* \* \*"/],
      [{ schedule: '* * * *' }, /it has 4 fields/],
      [{ schedule: '0 0 30 2 *' }, /0 0 30 2/],
      [{ schedule: '* * * * *', tz: 'Mars/Olympus' }, /name of a time zone.*Mars/],
      [{ every: 1000, tz: 'UTC' }, /options.tz must be left out with every/],
      [{ every: 1000, startDate: 'soon' }, /options.startDate/],
      [{ every: 1000, startDate: 5000, endDate: 4000 }, /options.endDate must not lie before/],
      [{ every: 1000, limit: 0 }, /options.limit/],
      [{ every: 1000, missed: 'some' }, /options.missed must be one of/],
      [{ every: 1000, missedMax: 5 }, /options.missedMax must be left out unless missed is 'all'/],
      [{ every: 1000, missed: 'all', missedMax: 0 }, /options.missedMax/],
      [{ every: 1000, overlap: 'queue' }, /options.overlap/],
      [{ every: 1000, immediately: 1 }, /options.immediately/],
      [{ every: 1000, opts: { jobId: 'x' } }, /options.opts.jobId can't be given/],
      [{ every: 1000, opts: { depends_on: ['x'] } }, /options.opts.depends_on can't be given/],
      [{ every: 1000, opts: { onDuplicate: 'error' } }, /options.opts.onDuplicate can't be given/],
      [{ every: 1000, opts: { priority: 1.5 } }, /opts.priority/],
      [{ every: 1000, opts: { name: '' } }, /name of a job/],
      [{ every: 1000, queue: 'no/such' }, /name of a queue/],
      [{ pattern: '* * * * *' }, /it is called schedule here/],
      [{ every: 1000, overlaps: 'skip' }, /Did you mean 'overlap'/],
      [{ every: 1000, data: { a: [() => {}] } }, /data\.a\[0\] is a function/],
    ];
    test.each(bad)('%j', async (options, message) => {
      const error = await errorOf(kit.queue().addCron('c', options as CronOptions));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(message);
      expect(await kit.queue().listCrons({ all: true })).toEqual([]);
    });

    test.each(['', 5, 'x'.repeat(401), undefined])('the name %j', async (name) => {
      expect(await errorOf(kit.queue().addCron(name as string, { every: 1000 }))).toBeInstanceOf(ValidationError);
    });

    test('an id of one’s own that begins with cron:', async () => {
      const error = await errorOf(kit.queue().add('a', null, { jobId: `cron:c:${START}` }));
      expect(error.message).toMatch(/not start with 'cron:'/);
    });
  });
};
