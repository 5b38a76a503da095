/** The circuit breaker of Workers: what opens it, what waits meanwhile, and what closes it. */
import { DelayedError, RateLimitError, UnrecoverableError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite } from './kit.js';

export const breaker: Suite = (harness) => {
  const kit = kitOf(harness);
  const addMany = (count: number, opts = {}) =>
    kit.queue().addBulk(Array.from({ length: count }, (_, i) => ({ name: 'a', data: i, opts })));
  const state = async (key?: string) => (await kit.queue().getCircuitBreaker(key))?.state;

  /** A worker whose service is up or down as the test says; counts the calls. */
  const serviced = async (circuitBreaker: object, opts = {}) => {
    const service = { isUp: false, calls: 0, error: () => new Error('down') as Error };
    const worker = await kit.worker(
      () => {
        service.calls++;
        if (!service.isUp) throw service.error();
        return 'done';
      },
      { circuitBreaker, ...opts },
    );
    await kit.settle();
    return { service, worker };
  };

  test('opens after so many failures in a row; its jobs wait and lose no attempt; a probe closes it', async () => {
    const { service } = await serviced({ threshold: 3, timeout: 1000 });
    const recorder = await kit.recorder();
    const jobs = await addMany(10, { attempts: 2, backoff: 60_000 });
    await kit.settle();
    expect(service.calls).toBe(3);
    expect(await kit.queue().getCircuitBreaker()).toMatchObject({ state: 'open', retryAfterMs: 1000 });
    expect((await kit.queue().getJobCounts()).waiting).toBe(7);
    await kit.pass(999);
    expect(service.calls).toBe(3);
    service.isUp = true;
    await kit.pass(1);
    expect(service.calls).toBe(10);
    expect(await state()).toBe('closed');
    await kit.pass(60_000);
    const ended = await Promise.all(jobs.map((job) => kit.queue().getJob(job)));
    expect(ended.map((job) => job?.attemptsMade)).toEqual([1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
    expect(await Promise.all(jobs.map((job) => job.getState()))).toEqual(jobs.map(() => 'completed'));
    const told = recorder.told.filter(({ event }) => event.startsWith('breaker')).map(({ event }) => event);
    expect(told).toEqual(['breaker:open', 'breaker:half-open', 'breaker:closed']);
  });

  test('successes between failures keep it closed', async () => {
    const { service } = await serviced({ threshold: 3, timeout: 1000 });
    for (let i = 0; i < 10; i++) {
      service.isUp = i % 3 === 2;
      await kit.queue().add('a', i);
      await kit.settle();
    }
    expect(service.calls).toBe(10);
    expect(await state()).toBe('closed');
  });

  test('a probe that fails opens it for twice as long, less a fifth at most, up to timeoutMax', async () => {
    const { service } = await serviced({ threshold: 1, timeout: 1000, timeoutMax: 3000 });
    await addMany(10, { attempts: 9 });
    await kit.settle();
    const waits: number[] = [];
    for (let i = 0; i < 4; i++) {
      const { retryAfterMs } = (await kit.queue().getCircuitBreaker())!;
      waits.push(retryAfterMs);
      await kit.pass(Math.ceil(retryAfterMs));
    }
    expect(service.calls).toBe(5);
    expect(waits[0]).toBe(1000);
    for (const [wait, most] of [
      [waits[1], 2000],
      [waits[2], 3000],
      [waits[3], 3000],
    ]) {
      expect(wait).toBeGreaterThanOrEqual(most! * 0.8);
      expect(wait).toBeLessThanOrEqual(most!);
    }
  });

  test('half-open lets no more through than halfOpenMax, and closes after successThreshold', async () => {
    const queue = kit.queue();
    const hand = await kit.hand({
      concurrency: 10,
      circuitBreaker: { threshold: 1, timeout: 100, halfOpenMax: 2, successThreshold: 3 },
    });
    await queue.add('a', 'first');
    (await hand.next()).fail(new Error('down'));
    await addMany(8);
    await kit.settle();
    expect(hand.rest()).toEqual([]);
    await kit.pass(100);
    const probes = hand.rest();
    expect(probes.length).toBe(2);
    probes[0]!.complete();
    await kit.settle();
    const third = hand.rest();
    expect(third.length).toBe(1);
    probes[1]!.complete();
    await kit.settle();
    expect(await state()).toBe('half-open');
    third[0]!.complete();
    await kit.settle();
    expect(await state()).toBe('closed');
    expect(hand.rest().length).toBe(5);
  });

  test('the last Worker of a key says how long it stays open', async () => {
    await kit.worker(() => 'done', { circuitBreaker: { threshold: 1, timeout: 60_000 } }, 'other');
    const { service } = await serviced({ key: 'other', threshold: 1, timeout: 100 });
    await addMany(2);
    await kit.settle();
    expect(await kit.queue().getCircuitBreaker('other')).toMatchObject({ state: 'open', retryAfterMs: 100 });
    service.isUp = true;
    await kit.pass(100);
    expect(await state('other')).toBe('closed');
  });

  test('what began before it opened does not count', async () => {
    const hand = await kit.hand({ concurrency: 10, circuitBreaker: { threshold: 2, timeout: 100 } });
    await addMany(6);
    await kit.settle();
    const [first, second, third, fourth, fifth, sixth] = hand.rest();
    first!.fail(new Error('down'));
    second!.fail(new Error('down'));
    await kit.settle();
    expect(await state()).toBe('open');
    third!.complete();
    await kit.settle();
    expect(await state()).toBe('open');
    await kit.pass(100);
    expect(await state()).toBe('half-open');
    fourth!.complete();
    fifth!.fail(new Error('down'));
    await kit.settle();
    expect(await state()).toBe('half-open');
    await kit.queue().add('a', 'probe');
    (await hand.next()).complete();
    sixth!.fail(new Error('down'));
    await kit.settle();
    expect(await kit.queue().getCircuitBreaker()).toMatchObject({ state: 'closed', failures: 0 });
  });

  test('a final failure that trips it counts for its job', async () => {
    await serviced({ threshold: 1, timeout: 1000 });
    const job = await kit.queue().add('a', 1);
    await kit.settle();
    expect(await job.getState()).toBe('failed');
    expect(await state()).toBe('open');
  });

  describe('what counts', () => {
    test.each([
      ['UnrecoverableError', () => new UnrecoverableError('bad input')],
      ['RateLimitError', () => new RateLimitError(10)],
      ['DelayedError', () => new DelayedError(10)],
    ])('%s does not', async (_name, error) => {
      const { service } = await serviced({ threshold: 1, timeout: 1000 });
      service.error = error;
      await addMany(3);
      await kit.settle();
      expect(service.calls).toBe(3);
      expect(await state()).toBe('closed');
    });

    test('cancellation does not', async () => {
      const hand = await kit.hand({ circuitBreaker: { threshold: 1, timeout: 1000 } });
      const job = await kit.queue().add('a', 1);
      const run = await hand.next();
      await kit.queue().cancel(job);
      run.fail(new Error('stopped'));
      await kit.settle();
      expect(await job.getState()).toBe('cancelled');
      expect(await state()).toBe('closed');
    });

    test('isFailure decides', async () => {
      const isFailure = (error: unknown) => (error as Error).message === 'down';
      const { service } = await serviced({ threshold: 2, timeout: 1000, isFailure });
      service.error = () => new Error('not found');
      await addMany(5);
      await kit.settle();
      expect(await state()).toBe('closed');
      service.error = () => new Error('down');
      await addMany(5);
      await kit.settle();
      expect(await state()).toBe('open');
      expect(service.calls).toBe(7);
    });

    test('a share of failures within the window, once there are enough outcomes', async () => {
      const { service } = await serviced({ threshold: 100, errorRate: 0.5, window: 1000, minimum: 4, timeout: 100 });
      const run = async (isUp: boolean) => {
        service.isUp = isUp;
        await kit.queue().add('a', 1);
        await kit.settle();
      };
      for (const isUp of [true, false, true]) await run(isUp);
      expect(await state()).toBe('closed');
      await kit.pass(1000);
      for (const isUp of [true, true, false]) await run(isUp);
      expect(await state()).toBe('closed');
      await run(false);
      expect(await state()).toBe('open');
    });
  });

  test('workers that name one key share one breaker, over queues; others go on', async () => {
    const down = async (name: string, opts = {}) => {
      let calls = 0;
      await kit.worker(
        () => {
          calls++;
          throw new Error('down');
        },
        opts,
        name,
      );
      return () => calls;
    };
    const circuitBreaker = { key: 'payments', threshold: 2, timeout: 1000 };
    const first = await down('one', { circuitBreaker });
    const second = await down('two', { circuitBreaker });
    const other = await down('three');
    for (const name of ['one', 'two', 'three']) {
      await kit.queue(name).addBulk(Array.from({ length: 5 }, (_, i) => ({ name: 'a', data: i })));
      await kit.settle();
    }
    expect(first() + second()).toBe(2);
    expect(other()).toBe(5);
    expect((await kit.queue('one').getCircuitBreaker('payments'))?.state).toBe('open');
  });

  test('a ttl runs on while it is open', async () => {
    await serviced({ threshold: 1, timeout: 1000 });
    await kit.queue().add('a', 1);
    await kit.settle();
    const job = await kit.queue().add('a', 2, { ttl: 500 });
    await kit.pass(500);
    expect((await kit.queue().getJob(job))?.dlq?.reason).toBe('expired');
  });

  test('by hand', async () => {
    const { service } = await serviced({ threshold: 2, timeout: 1000 });
    const queue = kit.queue();
    service.isUp = true;
    expect((await queue.openCircuitBreaker())?.state).toBe('open');
    await addMany(2);
    await kit.settle();
    expect(service.calls).toBe(0);
    expect((await queue.closeCircuitBreaker())?.state).toBe('closed');
    await kit.settle();
    expect(service.calls).toBe(2);
    await queue.openCircuitBreaker();
    expect((await queue.resetCircuitBreaker())?.state).toBe('closed');
    expect(await queue.getCircuitBreaker('nobody')).toBeUndefined();
  });

  test.each([
    [{ threshold: 0 }, 'threshold'],
    [{ timeout: 0 }, 'timeout'],
    [{ errorRate: 2 }, 'errorRate'],
    [{ halfOpenMax: 256 }, 'halfOpenMax'],
    [{ key: '' }, 'key'],
    [{ isFailure: true }, 'isFailure'],
    [{ resetTimeout: 5 }, 'resetTimeout'],
  ])('refuses %o', async (circuitBreaker, name) => {
    const error = await errorOf(kit.worker(() => 1, { circuitBreaker: circuitBreaker as object }));
    expect(error).toBeInstanceOf(ValidationError);
    expect(error.path).toBe(`opts.circuitBreaker.${name}`);
  });
};
