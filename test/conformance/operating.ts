/** What operators do to a queue: reading, cleaning, settings, and asking why; "Queue control" of the semantics. */
import { type Job, JobRemovedError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, states, thrownBy } from './kit.js';

export const operating: Suite = (harness) => {
  const kit = kitOf(harness);
  const queue = () => kit.queue();
  const ids = (jobs: readonly Job[]) => jobs.map((job) => job.id);

  /** One job in each state. */
  const oneOfEach = async (): Promise<Record<string, Job>> => {
    const completed = await kit.completed(queue(), 1);
    const failed = await kit.failed(queue());
    const cancelled = await queue().add('cancelled', 1);
    await queue().cancel(cancelled);
    const active = await queue().add('active', 1);
    const hand = await kit.hand();
    await hand.next();
    await hand.worker.pause(true);
    const waiting = await queue().add('waiting', 1);
    const delayed = await queue().add('delayed', 1, { delay: 1e6 });
    const blocked = await queue().add('blocked', 1, { dependsOn: [delayed] });
    return { waiting, delayed, blocked, active, completed, failed, cancelled };
  };

  describe('rateLimit(ms)', () => {
    test('no job of the queue starts for so long, of whatever worker; what runs goes on', async () => {
      const hand = await kit.hand({ concurrency: 3 });
      await queue().add('first', 1);
      const first = await hand.next();
      await hand.worker.rateLimit(1000);
      const job = await queue().add('second', 2);
      await kit.worker(() => 'other');
      await kit.pass(999);
      expect(await states(job)).toEqual(['waiting']);
      expect((await queue().explain(job)).reason).toMatch(/^No job of the queue starts before 20\d\d-/);
      first.complete('one');
      await kit.pass(1);
      expect(await states(job)).not.toEqual(['waiting']);
    });

    test('the longest hold counts', async () => {
      await queue().rateLimit(1000);
      await queue().rateLimit(10);
      const worker = await kit.hand();
      await queue().add('a', 1);
      await kit.pass(999);
      expect(worker.started).toEqual([]);
      await kit.pass(1);
      expect(worker.started.length).toBe(1);
    });

    test('pausing and resuming does not end it', async () => {
      const hand = await kit.hand();
      await queue().rateLimit(1000);
      await queue().pause();
      await queue().resume();
      await queue().add('a', 1);
      await kit.settle();
      expect(hand.started).toEqual([]);
      await kit.pass(1000);
      expect(hand.started.length).toBe(1);
    });

    test.each([-1, Number.NaN, '1'])('refuses %s', async (ms) => {
      const error = await errorOf(queue().rateLimit(ms as number));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.path).toBe('ms');
    });
  });

  describe('getJobs', () => {
    test('by state, in the order of admission in a page', async () => {
      const jobs = await oneOfEach();
      for (const [state, job] of Object.entries(jobs)) {
        const page = await queue().getJobs({ states: [state as 'waiting'] });
        expect([state, ids(page.jobs)]).toEqual([state, [job.id]]);
        expect(page.cursor).toBeUndefined();
      }
      const all = await queue().getJobs();
      expect(new Set(ids(all.jobs))).toEqual(new Set(Object.values(jobs).map((job) => job.id)));
      expect(ids(all.jobs)).toEqual([...ids(all.jobs)].sort((a, b) => Number(a.slice(1)) - Number(b.slice(1))));
    });

    test('only those of the queue', async () => {
      await kit.queue('other').add('a', 1);
      expect((await queue().getJobs()).jobs).toEqual([]);
    });

    test('page by page each job comes once, whatever comes and goes meanwhile', async () => {
      const jobs = await queue().addBulk(Array.from({ length: 1200 }, (_, i) => ({ name: 'a', data: i })));
      const seen: string[] = [];
      let removed = 0;
      let cursor: string | undefined;
      do {
        const page = await queue().getJobs({ limit: 100, cursor });
        seen.push(...ids(page.jobs));
        await queue().add('new', -1);
        const gone = jobs[removed * 90] as Job;
        removed++;
        if (await gone.remove()) await queue().changePriority(jobs[1199 - removed] as Job, removed);
        cursor = page.cursor;
      } while (cursor !== undefined);
      expect(new Set(seen).size).toBe(seen.length);
      const stayed = jobs.filter((_, i) => i % 90 !== 0 || i >= removed * 90);
      expect(ids(stayed).filter((id) => !seen.includes(id))).toEqual([]);
    });

    test('a filter by name, tag and moment of admission', async () => {
      await queue().add('a', 1, { tags: ['x'] });
      await kit.pass(1000);
      await queue().add('a', 2, { tags: ['y', 'x'] });
      await queue().add('b', 3, { delay: 5 });
      const data = async (filter: object) => (await queue().getJobs({ filter })).jobs.map((job) => job.data);
      expect(await data({ name: 'a' })).toEqual([1, 2]);
      expect(await data({ tag: 'x', since: kit.now })).toEqual([2]);
      expect(await data({ until: kit.now })).toEqual([1]);
      expect(await data({ reason: 'timeout' })).toEqual([]);
      expect((await queue().getJobs({ states: ['delayed'], filter: { name: 'b' } })).jobs).toHaveLength(1);
    });

    test.each([
      [{ states: ['wating'] }, /waiting/],
      [{ states: 'waiting' }, /array/],
      [{ limit: 0 }, /limit/],
      [{ limit: 10_001 }, /limit/],
      [{ cursor: 'x' }, /cursor/],
      [{ cursor: 5 }, /cursor/],
      [{ types: ['waiting'] }, /states/],
    ])('%j is refused', async (opts, message) => {
      const error = await errorOf(queue().getJobs(opts as never));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(message);
    });
  });

  test('the getters of BullMQ, with places', async () => {
    const jobs = await oneOfEach();
    const more = [await queue().add('more', 1), await queue().add('more', 2)];
    expect(ids(await queue().getWaiting())).toEqual([jobs.waiting?.id, ...ids(more)]);
    expect(ids(await queue().getWaiting(1, 1))).toEqual([more[0]?.id]);
    expect(ids(await queue().getWaiting(1))).toEqual(ids(more));
    expect(ids(await queue().getActive())).toEqual([jobs.active?.id]);
    expect(ids(await queue().getDelayed())).toEqual([jobs.delayed?.id]);
    expect(ids(await queue().getWaitingChildren())).toEqual([jobs.blocked?.id]);
    const last = await kit.completed(kit.queue('p'), 1);
    const newest = await kit.completed(kit.queue('p'), 2);
    expect(ids(await kit.queue('p').getCompleted())).toEqual([newest.id, last.id]);
    expect(ids(await kit.queue('p').getCompleted(0, 0))).toEqual([newest.id]);
    expect(ids(await queue().getFailed())).toEqual([jobs.failed?.id]);
    expect(await errorOf(queue().getFailed(-1))).toBeInstanceOf(ValidationError);
  });

  describe('clean', () => {
    test('those that ended at least so long ago, the oldest first, at most so many', async () => {
      const done: Job[] = [];
      for (let i = 0; i < 4; i++) {
        done.push(await kit.completed(queue(), i));
        await kit.pass(100);
      }
      const recorder = await kit.recorder();
      expect(await queue().clean(150, 2)).toEqual([done[0]?.id, done[1]?.id]);
      await kit.settle();
      expect(recorder.last('cleaned')?.args).toMatchObject({ count: 2, state: 'completed' });
      expect(await queue().clean(150)).toEqual([done[2]?.id]);
      expect(await states(...done)).toEqual(['unknown', 'unknown', 'unknown', 'completed']);
    });

    test.each(['waiting', 'delayed', 'blocked', 'completed', 'failed', 'cancelled'] as const)('%s', async (state) => {
      const jobs = await oneOfEach();
      await kit.pass(10);
      expect(await queue().clean(11, 0, state)).toEqual([]);
      expect(await queue().clean(10, 0, state)).toEqual([jobs[state]?.id]);
      expect(await jobs[state]?.getState()).toBe('unknown');
      expect(await jobs.active?.getState()).toBe('active');
    });

    test('never active ones', async () => {
      expect((await errorOf(queue().clean(0, 0, 'active' as never))).message).toMatch(/cancel/);
      expect(await errorOf(queue().clean(0, 0, 'done' as never))).toBeInstanceOf(ValidationError);
      expect(await errorOf((queue() as any).clean())).toBeInstanceOf(ValidationError);
    });

    test('waiters and dependents are told, and ids forgotten', async () => {
      const job = await queue().add('a', 1, { jobId: 'x' });
      const dependent = await kit.queue('other').add('d', 1, { dependsOn: [job] });
      const told = queue()
        .finished(job)
        .catch((error: unknown) => error);
      await queue().clean(0, 0, 'wait');
      expect(await told).toBeInstanceOf(JobRemovedError);
      expect(await dependent.getState()).toBe('failed');
      expect((await queue().add('a', 1, { jobId: 'x' })).deduplicated).toBe(false);
    });
  });

  describe('expireWhilePaused: false', () => {
    const opts = { ttl: 1000, expireWhilePaused: false };

    test('time in which the queue is paused does not count', async () => {
      const [held, other] = [await queue().add('a', 1, opts), await queue().add('a', 1, { ttl: 1000 })];
      await kit.pass(400);
      await queue().pause();
      await kit.pass(5000);
      expect(await states(held, other)).toEqual(['waiting', 'failed']);
      await queue().resume();
      await kit.pass(599);
      expect(await held.getState()).toBe('waiting');
      await kit.pass(2);
      expect((await queue().getJob(held))?.dlq?.reason).toBe('expired');
    });

    test('of one that came during the pause, since it came; and over several pauses', async () => {
      await queue().pause();
      await kit.pass(5000);
      const job = await queue().add('a', 1, opts);
      await kit.pass(5000);
      await queue().resume();
      await kit.pass(500);
      await queue().pause();
      await kit.pass(5000);
      await queue().resume();
      await kit.pass(499);
      expect(await job.getState()).toBe('waiting');
      await kit.pass(2);
      expect(await job.getState()).toBe('failed');
    });

    test('delays elapse meanwhile, and blocked ones keep their time', async () => {
      const delayed = await queue().add('a', 1, { ...opts, delay: 100 });
      const blocked = await queue().add('b', 1, { ...opts, dependsOn: [await kit.queue('other').add('o', 1)] });
      await queue().pause();
      await kit.pass(2000);
      expect(await states(delayed, blocked)).toEqual(['waiting', 'blocked']);
      await queue().resume();
      await kit.pass(999);
      expect(await states(delayed, blocked)).toEqual(['waiting', 'blocked']);
      await kit.pass(2);
      expect(await states(delayed, blocked)).toEqual(['waiting', 'failed']);
      await kit.pass(100);
      expect(await delayed.getState()).toBe('failed');
    });

    test('one that starts does not expire', async () => {
      await queue().pause();
      const job = await queue().add('a', 1, opts);
      await kit.pass(5000);
      await queue().resume();
      await kit.worker(() => 'ran');
      expect(await queue().finished(job)).toBe('ran');
    });
  });

  describe('settings', () => {
    const all = {
      rateLimit: { max: 5, duration: 1000 },
      concurrency: 3,
      dlq: { age: 1000, count: 10, threshold: 5, redriveRate: 2.5 },
      idempotencyTtl: 1000,
      idempotencyMax: 50,
      maxDeliveries: 2,
    };

    test('one setting a queue, the last call wins, null takes away; the event configured tells all of them', async () => {
      const recorder = await kit.recorder();
      await queue().configure(all);
      await kit.queue().configure({ concurrency: 4, dlq: { count: 7 } });
      expect(await queue().getConfig()).toEqual({ ...all, concurrency: 4, dlq: { count: 7 } });
      await queue().configure({ rateLimit: null, dlq: null });
      const { rateLimit: _rate, dlq: _dlq, ...rest } = all;
      expect(await queue().getConfig()).toEqual({ ...rest, concurrency: 4 });
      await kit.settle();
      expect(recorder.count('configured')).toBe(3);
      expect(recorder.last('configured')?.args.config).toEqual({ ...rest, concurrency: 4 });
      expect(await kit.queue('other').getConfig()).toEqual({});
    });

    test.each([
      [{ idempotencyTtl: -1 }, /idempotencyTtl/],
      [{ idempotencyMax: 1.5 }, /idempotencyMax/],
      [{ maxDeliveries: 0 }, /maxDeliveries/],
      [{ dql: {} }, /dlq/],
    ])('%j is refused', async (config, message) => {
      const error = await errorOf(queue().configure(config as never));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(message);
    });

    test('obliterate takes them away', async () => {
      await queue().configure(all);
      await queue().obliterate();
      expect(await queue().getConfig()).toEqual({});
    });

    test.each([{ concurrency: 1 }, { rateLimit: { max: 1, duration: 1e9 } }])(
      'obliterate while a job runs takes away %j for those to come',
      async (limits) => {
        await queue().configure(limits);
        const hand = await kit.hand({ concurrency: 5 });
        await queue().add('a', 1);
        await hand.next();
        await queue().obliterate({ force: true });
        for (const data of [2, 3]) await queue().add('a', data);
        await kit.settle();
        expect(hand.rest().map(({ job }) => job.data)).toEqual([2, 3]);
      },
    );
  });

  describe('explain', () => {
    const reason = async (job: Job) => (await queue().explain(job)).reason;

    test('a rate limit, with the moment at which it lets the next one go', async () => {
      await queue().configure({ rateLimit: { max: 1, duration: 1000 } });
      await kit.worker(() => 1);
      await queue().add('first', 1);
      await kit.settle();
      const job = await queue().add('a', 1);
      await kit.settle();
      expect(await reason(job)).toContain(`rate limit of 1 in 1000 ms`);
      expect(await reason(job)).toContain(new Date(kit.now + 1000).toISOString());
    });

    test('a concurrency limit', async () => {
      await queue().setConcurrency(1);
      const hand = await kit.hand({ concurrency: 5 });
      await queue().add('first', 1);
      await hand.next();
      const job = await queue().add('a', 1);
      await kit.settle();
      expect(await reason(job)).toContain('concurrency limit of 1');
    });

    test('a group at its limits, and one whose turn it is not', async () => {
      await queue().configure({ groups: { concurrency: 1 } });
      const hand = await kit.hand({ concurrency: 5 });
      await queue().add('first', 1, { group: { id: 'g' } });
      await hand.next();
      const job = await queue().add('a', 1, { group: { id: 'g' } });
      await kit.settle();
      expect(await reason(job)).toContain('Its group "g" has as many jobs under way as it may');
      await hand.worker.pause(true);
      await queue().configure({ groups: null });
      const behind = await queue().add('b', 1, { group: { id: 'g' } });
      await kit.settle();
      expect(await reason(behind)).toContain('Its group "g" takes turns');
    });

    test('a circuit breaker', async () => {
      await kit.worker(() => 1, { circuitBreaker: {} });
      await queue().openCircuitBreaker();
      const job = await queue().add('a', 1);
      await kit.settle();
      expect(await reason(job)).toContain('The circuit breaker "q" is open');
    });

    test('a retry, with how often it has failed', async () => {
      const job = await queue().add('a', 1, { attempts: 3, backoff: 1000 });
      const hand = await kit.hand();
      (await hand.next()).fail(new Error('x'));
      await kit.settle();
      expect(await reason(job)).toMatch(/failed 1 of 3 times.*due at/);
    });

    test('a dependency that failed and may be retried', async () => {
      const failed = await kit.failed(kit.queue('other'));
      const job = await queue().add('a', 1, { dependsOn: [failed], onDependencyFailure: 'wait' });
      expect(await reason(job)).toContain('1 failed and must be retried');
    });

    test('an id that is not there', async () => {
      expect(await queue().explain('nobody')).toMatchObject({ state: 'unknown', waitsFor: [] });
    });
  });

  describe('told at once', () => {
    test.each([
      [{ host: 'localhost', port: 6379 }, /address \(host, port\)/],
      [{ url: 'redis://localhost' }, /address \(url\)/],
      [{}, /Engine/],
      [5, /Engine/],
    ])('connection: %j', (connection, message) => {
      const error = thrownBy(() => kit.queue('q', { connection: connection as never }));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(message);
    });

    test.each(['expo', 'exponental', 'Exponential', 'fix', 'fixd'])('backoff.type: %s', async (type) => {
      const error = await errorOf(queue().add('a', 1, { backoff: { type, delay: 5 } }));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(/did you mean '(exponential|fixed)'/);
    });

    test.each(['fibonacci', 'steps', 'mixed', 'ex'])('backoff.type: %s is a strategy of somebody', async (type) => {
      expect((await queue().add('a', 1, { backoff: { type } })).opts.backoff?.type).toBe(type);
    });
  });

  test('job.moveToDlq', async () => {
    const job = await queue().add('a', 1);
    await job.moveToDlq('by hand');
    expect((await queue().getJob(job))?.dlq?.reason).toBe('moved');
    expect((await queue().getJob(job))?.failedReason).toBe('by hand');
  });
};
