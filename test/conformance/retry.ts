/** Attempts, backoff, and the errors that mean something. */
import { DelayedError, type Job, JobFailedError, RateLimitError, UnrecoverableError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, type WorkerOptions, warnings } from './kit.js';

export const retry: Suite = (harness) => {
  const kit = kitOf(harness);

  /** Runs a job that always throws, and gives the time between each run and the next. */
  async function gaps(opts: object, thrown: (attempt: number) => unknown = () => new Error('x'), worker = {}) {
    const starts: number[] = [];
    const job = await kit.queue().add('a', null, opts);
    const done = kit
      .queue()
      .finished(job)
      .catch((error: unknown) => error);
    let over = false;
    done.then(() => {
      over = true;
    });
    await kit.worker(() => {
      starts.push(kit.now);
      throw thrown(starts.length);
    }, worker as WorkerOptions);
    await kit.settle();
    for (let step = 0; !over && step < 200; step++) {
      const state = await job.getState();
      if (state !== 'delayed') break;
      await stepToNext(job);
    }
    await done;
    return { job, gaps: starts.slice(1).map((at, i) => at - (starts[i] as number)), starts };
  }

  /** Time goes on in growing steps until the job has left the state `delayed`, exactly at its time. */
  async function stepToNext(job: Job): Promise<void> {
    const told = /due at (.*)\.$/.exec((await kit.queue().explain(job)).reason);
    await kit.pass(Date.parse(told?.[1] as string) - kit.now);
  }

  describe('attempts', () => {
    test('default to 1: the first failure is the last', async () => {
      const { job, starts } = await gaps({});
      expect(starts).toHaveLength(1);
      expect(await job.getState()).toBe('failed');
      expect((await kit.queue().getJob(job))?.dlq?.reason).toBe('attempts_exhausted');
    });

    test('count the first run: attempts 5 is 1 run and 4 retries', async () => {
      const { job, starts } = await gaps({ attempts: 5 });
      expect(starts).toHaveLength(5);
      const record = await kit.queue().getJob(job);
      expect(record?.attemptsMade).toBe(5);
      expect(record?.attemptsStarted).toBe(5);
    });

    test('a job that succeeds at last is completed, and its attemptsMade counts the failures', async () => {
      let runs = 0;
      const job = await kit.queue().add('a', null, { attempts: 3 });
      const seen: number[] = [];
      await kit.worker((run) => {
        seen.push(run.attemptsMade);
        if (++runs < 3) throw new Error('not yet');
        return 'done';
      });
      expect(await kit.queue().finished(job)).toBe('done');
      expect(seen).toEqual([0, 1, 2]);
      expect((await kit.queue().getJob(job))?.attemptsMade).toBe(2);
    });

    test('a waiting retry holds no worker slot', async () => {
      const queue = kit.queue();
      await queue.add('bad', null, { attempts: 2, backoff: 1000 });
      const good = await queue.add('good', null);
      await kit.worker((job) => {
        if (job.name === 'bad') throw new Error('x');
        return 'ran';
      });
      expect(await queue.finished(good)).toBe('ran');
      expect(await queue.getDelayedCount()).toBe(1);
    });
  });

  describe('backoff', () => {
    test('none means at once', async () => {
      expect((await gaps({ attempts: 3 })).gaps).toEqual([0, 0]);
    });

    test('a number means fixed', async () => {
      expect((await gaps({ attempts: 4, backoff: 700 })).gaps).toEqual([700, 700, 700]);
    });

    test('fixed takes no factor', async () => {
      expect((await gaps({ attempts: 3, backoff: { type: 'fixed', delay: 50, factor: 9 } })).gaps).toEqual([50, 50]);
    });

    test('exponential doubles: 1 s, 2 s, 4 s, 8 s', async () => {
      const { gaps: waits } = await gaps({ attempts: 5, backoff: { type: 'exponential', delay: 1000 } });
      expect(waits).toEqual([1000, 2000, 4000, 8000]);
    });

    test('exponential with a factor', async () => {
      const { gaps: waits } = await gaps({ attempts: 4, backoff: { type: 'exponential', delay: 10, factor: 3 } });
      expect(waits).toEqual([10, 30, 90]);
    });

    test('maxDelay bounds it', async () => {
      const { gaps: waits } = await gaps({
        attempts: 6,
        backoff: { type: 'exponential', delay: 1000, maxDelay: 3000 },
      });
      expect(waits).toEqual([1000, 2000, 3000, 3000, 3000]);
    });

    test('never overflows: the largest factor and a hundred attempts stay finite', async () => {
      const job = await kit
        .queue()
        .add('a', null, { attempts: 100, backoff: { type: 'exponential', delay: 1, factor: 1000, maxDelay: 10 } });
      await kit.worker(() => {
        throw new Error('x');
      });
      await kit.pass(10 * 100);
      expect(await job.getState()).toBe('failed');
      expect((await kit.queue().getJob(job))?.attemptsMade).toBe(100);
    });

    test('an unbounded one is cut off at the longest time there is, and goes on waiting', async () => {
      const job = await kit
        .queue()
        .add('a', null, { attempts: 30, backoff: { type: 'exponential', delay: 1e12, factor: 1000 } });
      await kit.worker(() => {
        throw new Error('x');
      });
      await kit.pass(1e12);
      expect(await job.getState()).toBe('delayed');
      await kit.pass(1e13);
      expect((await kit.queue().getJob(job))?.attemptsMade).toBe(3);
    });

    test('jitter draws between d(1 - j) and d', async () => {
      for (const [random, wanted] of [
        [0, 1000],
        [0.5, 800],
        [0.999999, 600],
      ] as const) {
        await kit.reopen({ random: () => random });
        const { gaps: waits } = await gaps({ attempts: 2, backoff: { type: 'fixed', delay: 1000, jitter: 0.4 } });
        expect(waits).toEqual([wanted]);
      }
    });

    test('full jitter may draw 0 and then retries at once', async () => {
      await kit.reopen({ random: () => 0.9999999 });
      const { gaps: waits } = await gaps({ attempts: 2, backoff: { type: 'exponential', delay: 1000, jitter: 1 } });
      expect(waits).toEqual([0]);
    });

    test('an early retry never happens', async () => {
      const job = await kit.queue().add('a', null, { attempts: 2, backoff: 1000 });
      await kit.worker(() => {
        throw new Error('x');
      });
      await kit.pass(999);
      expect(await job.getState()).toBe('delayed');
      await kit.pass(1);
      expect(await job.getState()).toBe('failed');
    });

    test.each([
      [{ type: 'fixed' }, 'opts.backoff.delay'],
      [{ type: 'exponential' }, 'opts.backoff.delay'],
      [{ delay: 5 }, 'opts.backoff.type'],
      [{ type: '', delay: 5 }, 'opts.backoff.type'],
      [{ type: 'fixed', delay: -1 }, 'opts.backoff.delay'],
      [{ type: 'fixed', delay: 1, jitter: 1.1 }, 'opts.backoff.jitter'],
      [{ type: 'fixed', delay: 1, factor: 0 }, 'opts.backoff.factor'],
      [{ type: 'fixed', delay: 1, max: 1 }, 'opts.backoff.max'],
      [-1, 'opts.backoff'],
      ['fixed', 'opts.backoff'],
    ])('refuses %j', async (backoff, path) => {
      const error = await errorOf(kit.queue().add('a', null, { attempts: 2, backoff } as object));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.path).toBe(path);
    });
  });

  describe('named strategies', () => {
    test('decide the delay from attemptsMade, the error and the job', async () => {
      const asked: unknown[] = [];
      const settings = {
        backoffStrategies: {
          mine: (attemptsMade: number, error: Error, job: Job) => {
            asked.push([attemptsMade, error.message, job.name]);
            return attemptsMade * 100;
          },
        },
      };
      const { gaps: waits } = await gaps({ attempts: 4, backoff: { type: 'mine' } }, (n) => new Error(`e${n}`), {
        settings,
      });
      expect(waits).toEqual([100, 200, 300]);
      expect(asked).toEqual([
        [1, 'e1', 'a'],
        [2, 'e2', 'a'],
        [3, 'e3', 'a'],
      ]);
    });

    test('may be asynchronous, and hold no slot afterwards', async () => {
      const settings = { backoffStrategies: { mine: async () => 250 } };
      expect((await gaps({ attempts: 2, backoff: { type: 'mine' } }, undefined, { settings })).gaps).toEqual([250]);
    });

    test('-1 fails now', async () => {
      const settings = { backoffStrategies: { mine: () => -1 } };
      const { job, starts } = await gaps({ attempts: 9, backoff: { type: 'mine' } }, undefined, { settings });
      expect(starts).toHaveLength(1);
      expect((await kit.queue().getJob(job))?.dlq?.reason).toBe('attempts_exhausted');
    });

    test('an unknown name waits backoff.delay, or 1 s, and warns', async () => {
      const seen = warnings();
      expect((await gaps({ attempts: 2, backoff: { type: 'nobody-1', delay: 300 } })).gaps).toEqual([300]);
      await kit.reopen({});
      expect((await gaps({ attempts: 2, backoff: { type: 'nobody-2' } })).gaps).toEqual([1000]);
      await kit.settle();
      expect(seen.filter((one) => one.code === 'FLASHQ_UNKNOWN_BACKOFF')).toHaveLength(2);
    });

    test('one that throws, or answers nonsense, waits backoff.delay and is reported', async () => {
      for (const strategy of [
        () => {
          throw new Error('broken');
        },
        () => Number.NaN,
        () => 'soon' as unknown as number,
        async () => {
          throw new Error('broken later');
        },
      ]) {
        await kit.reopen({});
        const errors: string[] = [];
        const worker = await kit.worker(
          () => {
            throw new Error('x');
          },
          { settings: { backoffStrategies: { mine: strategy } } },
        );
        worker.on('error', (error) => errors.push(error.message));
        const job = await kit.queue().add('a', null, { attempts: 2, backoff: { type: 'mine', delay: 40 } });
        await kit.pass(39);
        expect(await job.getState()).toBe('delayed');
        await kit.pass(1);
        expect(await job.getState()).toBe('failed');
        expect(errors.length).toBeGreaterThan(0);
      }
    });

    test("BullMQ's backoffStrategy serves every name that has none of its own", async () => {
      const settings = {
        backoffStrategy: (made: number, type: string | undefined) => (type === 'x' ? made * 10 : 5),
      };
      expect((await gaps({ attempts: 3, backoff: { type: 'x' } }, undefined, { settings })).gaps).toEqual([10, 20]);
    });

    test('fixed and exponential cannot be given another meaning', async () => {
      expect(
        await errorOf(kit.worker(() => 1, { settings: { backoffStrategies: { fixed: () => 1 } } })),
      ).toBeInstanceOf(ValidationError);
    });
  });

  describe('errors that mean something', () => {
    test('UnrecoverableError fails at once, reason unrecoverable', async () => {
      const { job, starts } = await gaps({ attempts: 9 }, () => new UnrecoverableError('never'));
      expect(starts).toHaveLength(1);
      const record = await kit.queue().getJob(job);
      expect(record?.dlq?.reason).toBe('unrecoverable');
      expect(record?.failedReason).toBe('never');
    });

    test.each([RateLimitError, DelayedError])('%o waits without costing an attempt', async (Kind) => {
      let runs = 0;
      const job = await kit.queue().add('a', null);
      await kit.worker(() => {
        if (++runs < 4) throw new Kind(500);
        return runs;
      });
      for (let i = 0; i < 3; i++) {
        expect(await job.getState()).toBe('delayed');
        await kit.pass(500);
      }
      expect(await kit.queue().finished(job)).toBe(4);
      const record = await kit.queue().getJob(job);
      expect(record?.attemptsMade).toBe(0);
      expect(record?.attemptsStarted).toBe(4);
    });

    test('the error is known by its name, so that another copy of the package means the same', async () => {
      const stranger = Object.assign(new Error('no'), { name: 'UnrecoverableError' });
      const { starts } = await gaps({ attempts: 5 }, () => stranger);
      expect(starts).toHaveLength(1);
    });

    test('retryAfterMs overrides the backoff', async () => {
      const { gaps: waits } = await gaps({ attempts: 3, backoff: 9999 }, (n) =>
        Object.assign(new Error('429'), { retryAfterMs: n * 11 }),
      );
      expect(waits).toEqual([11, 22]);
    });

    test('only that name: retryAfter and others count in seconds and mean nothing', async () => {
      const { gaps: waits } = await gaps({ attempts: 2, backoff: 70 }, () =>
        Object.assign(new Error('429'), { retryAfter: 5, retry_after: 5 }),
      );
      expect(waits).toEqual([70]);
    });

    test('retryAfterMs does not add attempts', async () => {
      const { starts } = await gaps({ attempts: 2 }, () => Object.assign(new Error('429'), { retryAfterMs: 1 }));
      expect(starts).toHaveLength(2);
    });

    test("settings.retryAfter reads strangers' errors", async () => {
      const settings = { retryAfter: (error: any) => error.headers?.wait };
      const { gaps: waits } = await gaps(
        { attempts: 3, backoff: 70 },
        (n) => (n === 1 ? Object.assign(new Error('x'), { headers: { wait: 5 } }) : new Error('y')),
        { settings },
      );
      expect(waits).toEqual([5, 70]);
    });
  });

  describe('failedReason and stacktrace', () => {
    test.each([
      ['a string', 'text', 'text'],
      ['undefined', undefined, /./],
      ['null', null, /./],
      ['a number', 42, /42/],
      ['a plain object', { code: 'E1' }, /./],
      ['an object with a message', { message: 'told' }, /told/],
      ['a symbol', Symbol('s'), /s/],
      ['an error with an empty message', new Error(''), /^/],
      ['an error whose message is no string', Object.assign(new Error('x'), { message: 5 }), /./],
      ['a function', () => 1, /./],
      ['a bigint', 5n, /5/],
      [
        'an object that throws when it is read',
        new Proxy(
          {},
          {
            get: () => {
              throw new Error('trap');
            },
          },
        ),
        /./,
      ],
    ])('thrown %s, failedReason is a string', async (_what, thrown, wanted) => {
      const { job } = await gaps({}, () => thrown);
      const record = await kit.queue().getJob(job);
      expect(typeof record?.failedReason).toBe('string');
      expect(record?.failedReason).toMatch(wanted);
      const error = await errorOf(kit.queue().finished(job));
      expect(error).toBeInstanceOf(JobFailedError);
      expect(typeof error.failedReason).toBe('string');
    });

    test('a rejection counts as what is thrown', async () => {
      const job = await kit.queue().add('a', null);
      await kit.worker(() => Promise.reject(new Error('later')));
      await errorOf(kit.queue().finished(job));
      expect((await kit.queue().getJob(job))?.failedReason).toBe('later');
    });

    test('stacktrace keeps the stacks of the last stackTraceLimit attempts, the oldest first', async () => {
      const { job } = await gaps({ attempts: 5, stackTraceLimit: 2 }, (n) => new Error(`e${n}`));
      const { stacktrace = [] } = (await kit.queue().getJob(job)) ?? {};
      expect(stacktrace).toHaveLength(2);
      expect(stacktrace[0]).toContain('e4');
      expect(stacktrace[1]).toContain('e5');
      expect(stacktrace[1]).toMatch(/retry\.ts|at /);
    });

    test('stackTraceLimit defaults to 10, and 0 keeps none', async () => {
      const many = await gaps({ attempts: 13 });
      expect((await kit.queue().getJob(many.job))?.stacktrace).toHaveLength(10);
      await kit.reopen({});
      const none = await gaps({ attempts: 3, stackTraceLimit: 0 });
      expect((await kit.queue().getJob(none.job))?.stacktrace).toHaveLength(0);
      expect((await kit.queue().getJob(none.job))?.failedReason).toBe('x');
    });

    test('dlq.attempts tells when each attempt failed and of what', async () => {
      const { job, starts } = await gaps({ attempts: 3, backoff: 10 }, (n) => new Error(`e${n}`));
      const { dlq } = (await kit.queue().getJob(job)) ?? {};
      expect(dlq?.attempts).toEqual(starts.map((at, i) => ({ at, error: `e${i + 1}` })));
      expect(dlq?.enteredAt).toBe(starts[2]);
    });

    test('a job that failed once and then completed keeps what it failed of', async () => {
      let runs = 0;
      const job = await kit.queue().add('a', null, { attempts: 2 });
      await kit.worker(() => {
        if (++runs === 1) throw new Error('first');
        return 'ok';
      });
      await kit.queue().finished(job);
      const record = await kit.queue().getJob(job);
      expect(record?.returnvalue).toBe('ok');
      expect(record?.stacktrace).toHaveLength(1);
    });
  });
};
