/** `defineSaga`: what is run, what is undone, and what becomes of a saga that can do neither. */
import {
  type CompensationContext,
  DuplicateJobError,
  defineSaga,
  type Job,
  JobCancelledError,
  JobFailedError,
  JobNotFoundError,
  RateLimitError,
  type Saga,
  SagaFailedError,
  type SagaOptions,
  type SagaStep,
  type StepContext,
  TimeoutError,
  UnrecoverableError,
  ValidationError,
  WaitTimeoutError,
} from 'flashq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, thrownBy, watch } from './kit.js';

/** What was called, in order. */
interface Call {
  readonly what: string;
  readonly value: any;
  readonly context: StepContext & Partial<CompensationContext>;
}

export const sagas: Suite = (harness) => {
  const kit = kitOf(harness);
  const open: Saga[] = [];
  afterEach(async () => {
    for (const saga of open.splice(0)) await saga.close(true);
  });

  const define = (steps: readonly SagaStep[], opts: Partial<SagaOptions> = {}): Saga => {
    const saga = defineSaga({ name: 'order', steps, connection: kit.world.connection, ...opts });
    open.push(saga);
    return saga;
  };

  let calls: Call[];
  /** A step that notes its calls; `acts` are what its attempts do, the last one from then on. */
  const step = (
    name: string,
    execute: (n: number, context: StepContext) => unknown = () => name,
    opts: object = {},
  ): SagaStep => {
    let n = 0;
    return {
      name,
      execute: (value, context) => {
        calls.push({ what: name, value, context });
        return execute(n++, context);
      },
      compensate: (value, context) => void calls.push({ what: `undo ${name}`, value, context }),
      ...opts,
    };
  };
  const fails =
    (message = 'boom') =>
    (): never => {
      throw new Error(message);
    };
  const order = () => calls.map((one) => one.what);
  beforeEach(() => {
    calls = [];
  });

  describe('forward', () => {
    test('each step gets what the one before returned, the first one the data; the result is that of the last', async () => {
      const saga = define([step('a', () => ({ a: 1 })), step('b', () => [2]), step('c', () => 'end')]);
      const handle = await saga.run({ of: 'mine' });
      expect(await handle.result()).toBe('end');
      expect(calls.map(({ value }) => value)).toEqual([{ of: 'mine' }, { a: 1 }, [2]]);
      expect(await handle.status()).toMatchObject({
        id: handle.id,
        saga: 'order',
        state: 'completed',
        data: { of: 'mine' },
        result: 'end',
        failure: undefined,
        steps: [
          { name: 'a', state: 'completed', output: { a: 1 } },
          { name: 'b', state: 'completed', output: [2] },
          { name: 'c', state: 'completed', output: 'end' },
        ],
      });
    });

    test('a step can not change what was recorded', async () => {
      const saga = define([
        step('a', () => ({ list: [1] })),
        {
          name: 'spoils',
          attempts: 2,
          execute: (data) => {
            calls.push({ what: 'spoils', value: structuredClone(data), context: {} as never });
            data.list.push(2);
            throw new Error('spoilt');
          },
        },
      ]);
      await errorOf((await saga.run(null)).result());
      expect(calls.slice(1).map(({ value }) => value)).toEqual([{ list: [1] }, { list: [1] }, { list: [1] }]);
    });

    test('a step is retried by its own attempts and backoff, with the same key, and holds no slot meanwhile', async () => {
      const saga = define(
        [
          step('a', (n) => (n < 2 ? fails()() : 'at last'), {
            attempts: 3,
            backoff: { type: 'exponential', delay: 1000 },
          }),
        ],
        { concurrency: 1 },
      );
      const handle = await saga.run(null, { id: 'one' });
      const result = watch(handle.result());
      await kit.settle();
      expect(order()).toEqual(['a']);
      const other = await saga.run(null, { id: 'two' });
      await kit.settle();
      expect(order()).toEqual(['a', 'a']);
      expect(calls[1]?.context.sagaId).toBe('two');
      await kit.pass(1000);
      await kit.pass(2000);
      expect(result).toMatchObject({ settled: true, value: 'at last' });
      const mine = calls.filter(({ context }) => context.sagaId === 'one');
      expect(mine.map(({ context }) => context.attempt)).toEqual([1, 2]);
      expect(new Set(mine.map(({ context }) => context.idempotencyKey))).toEqual(new Set(['saga:order:one:a']));
      expect((await other.status()).state).toBe('completed');
    });

    test('RateLimitError waits without an attempt, retryAfterMs overrides the backoff, UnrecoverableError is the end', async () => {
      const acts = [
        () => Promise.reject(new RateLimitError(500)),
        () => Promise.reject(Object.assign(new Error('later'), { retryAfterMs: 700 })),
        () => Promise.reject(new UnrecoverableError('never')),
      ];
      const saga = define([step('a', (n) => acts[n]?.(), { attempts: 5, backoff: 60_000 })]);
      const result = watch((await saga.run(null)).result());
      await kit.settle();
      await kit.pass(500);
      expect(order()).toHaveLength(2);
      await kit.pass(700);
      expect(result.error).toMatchObject({ step: 'a', cause: { message: 'never' } });
      expect(order()).toHaveLength(3);
    });

    test('a known id with the same data gives its run; with other data it is refused', async () => {
      const saga = define([step('a')]);
      const first = await saga.run({ x: 1, m: new Map([[1, 2]]) }, { id: 'id' });
      await first.result();
      const again = await saga.run({ x: 1, m: new Map([[1, 2]]) }, { id: 'id' });
      expect(again.id).toBe('id');
      expect(await again.result()).toBe('a');
      expect(order()).toEqual(['a']);
      const error = await errorOf(saga.run({ x: 2 }, { id: 'id' }));
      expect(error).toBeInstanceOf(DuplicateJobError);
      expect(error).toMatchObject({ jobId: 'id', state: 'completed' });
    });

    test('an output that can not be kept fails its step, which is not tried again', async () => {
      const saga = define([step('a'), step('b', () => () => 1, { attempts: 3, compensateInDoubt: true })]);
      const error = await errorOf((await saga.run(null)).result());
      expect(error.cause.message).toMatch(/output/);
      expect(order()).toEqual(['a', 'b', 'undo b', 'undo a']);
    });

    test('a result over the payload limit parks the saga: its steps have settled, and none runs again', async () => {
      await kit.reopen({ payloadLimit: 2048 });
      const saga = define([step('a'), step('b', () => 'x'.repeat(3000))]);
      const handle = await saga.run(null, { id: 's' });
      const error = await errorOf(handle.result());
      expect(error.cause.message).toMatch(/the limit is 2048/);
      expect((await handle.status()).state).toBe('parked');
      await saga.resume('s');
      await kit.settle();
      expect((await handle.status()).state).toBe('parked');
      await saga.abandon('s');
      await kit.settle();
      expect((await handle.status()).state).toBe('abandoned');
      expect(order()).toEqual(['a', 'b']);
    });

    test('many run side by side', async () => {
      const saga = define([step('a', (_, { sagaId }) => sagaId), step('b', (_, { sagaId }) => sagaId)]);
      const handles = await Promise.all(Array.from({ length: 200 }, (_, i) => saga.run(i)));
      expect(await Promise.all(handles.map((one) => one.result()))).toEqual(handles.map(({ id }) => id));
    });
  });

  describe('backward', () => {
    test('the completed steps are compensated in reverse, with their output, input and key', async () => {
      const saga = define([
        step('a', () => ({ id: 1 })),
        step('none', () => 'nothing to undo', { compensate: undefined }),
        step('b', () => ({ id: 2 })),
        step('c', fails('declined')),
        step('d'),
      ]);
      const handle = await saga.run('data', { id: 's' });
      const error = await errorOf(handle.result());
      expect(error).toBeInstanceOf(SagaFailedError);
      expect(error).toMatchObject({ saga: 'order', sagaId: 's', step: 'c' });
      expect(error.cause).toBeInstanceOf(Error);
      expect(error.cause.message).toBe('declined');
      expect(error.compensations).toEqual([
        { step: 'b', state: 'compensated' },
        { step: 'none', state: 'skipped' },
        { step: 'a', state: 'compensated' },
      ]);
      expect(order()).toEqual(['a', 'none', 'b', 'c', 'undo b', 'undo a']);
      expect(calls[4]).toMatchObject({
        value: { id: 2 },
        context: {
          forwardKey: 'saga:order:s:b',
          idempotencyKey: 'saga:order:s:b:compensate',
          input: 'nothing to undo',
          inDoubt: false,
        },
      });
      expect(calls[5]).toMatchObject({ value: { id: 1 }, context: { input: 'data' } });
      expect(await handle.status()).toMatchObject({
        state: 'compensated',
        failure: { step: 'c', inDoubt: false },
        steps: [{}, {}, {}, { name: 'c', state: 'failed' }, { name: 'd', state: 'waiting' }],
      });
    });

    test('a step that timed out is in doubt: it is compensated only with compensateInDoubt', async () => {
      const hangs = (_: number, { signal }: StepContext) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('stopped'))));
      for (const compensateInDoubt of [false, true]) {
        calls = [];
        const saga = define([step('a'), step('b', hangs, { timeout: 1000, compensateInDoubt })], {
          name: `doubt-${compensateInDoubt}`,
        });
        const result = watch((await saga.run('x')).result());
        await kit.settle();
        expect(result.settled).toBe(false);
        await kit.pass(1000);
        await kit.settle();
        expect(result.error.cause).toBeInstanceOf(TimeoutError);
        expect(order()).toEqual(compensateInDoubt ? ['a', 'b', 'undo b', 'undo a'] : ['a', 'b', 'undo a']);
        expect(result.error.compensations[0]).toEqual({
          step: 'b',
          state: compensateInDoubt ? 'compensated' : 'in_doubt',
        });
        if (!compensateInDoubt) continue;
        const undo = calls[2]!;
        expect(undo.value).toBeUndefined();
        expect(undo.context).toMatchObject({ inDoubt: true, input: 'a', forwardKey: calls[1]?.context.idempotencyKey });
      }
    });

    test('a step that threw is not in doubt, though an attempt before timed out', async () => {
      const acts = [() => new Promise(() => {}), fails('clear')];
      const saga = define([step('a', (n) => acts[n]?.(), { attempts: 2, timeout: 1000, compensateInDoubt: true })]);
      const result = watch((await saga.run('x')).result());
      await kit.settle();
      await kit.pass(1000);
      await kit.pass(5000); // the grace of a function that heeds no signal
      await kit.settle();
      expect(result.error).toMatchObject({ cause: { message: 'clear' }, compensations: [] });
    });

    test('work that is done within the grace counts', async () => {
      const late = (_: number, { signal }: StepContext) =>
        new Promise((resolve) => signal.addEventListener('abort', () => resolve('just in time')));
      const saga = define([step('a', late, { timeout: 1000 })]);
      const result = watch((await saga.run('x')).result());
      await kit.settle();
      await kit.pass(1000);
      await kit.settle();
      expect(result.value).toBe('just in time');
    });
  });

  describe('parked', () => {
    const parks = (n: { fails: boolean }) => [
      step('a'),
      step('b', () => 'b', {
        attempts: 2,
        backoff: 100,
        compensate: (_value: unknown, context: StepContext) => {
          calls.push({ what: 'undo b', value: undefined, context: context as never });
          if (n.fails) throw new Error('no way back');
        },
      }),
      step('c', fails('forward')),
    ];

    test('a compensation that fails parks the saga, visible, without a slot; resume goes on there', async () => {
      const how = { fails: true };
      const saga = define(parks(how), { concurrency: 1 });
      const handle = await saga.run(null, { id: 's' });
      const result = watch(handle.result());
      await kit.settle();
      await kit.pass(100);
      expect(order()).toEqual(['a', 'b', 'c', 'undo b', 'undo b']);
      expect(result.error).toBeInstanceOf(SagaFailedError);
      expect(result.error).toMatchObject({ step: 'c', cause: { message: 'forward' } });
      expect(result.error.compensations).toMatchObject([
        { step: 'b', state: 'failed', error: { message: 'no way back' } },
      ]);
      expect(await handle.status()).toMatchObject({ state: 'compensation_failed', error: { message: 'no way back' } });
      expect((await saga.list({ state: 'compensation_failed' })).map(({ id }) => id)).toEqual(['s']);
      await kit.pass(40 * 86_400_000);
      expect((await handle.status()).state).toBe('compensation_failed');
      await kit.queue('saga:order').retryDlq(); // only resume and abandon decide
      await kit.settle();
      expect((await handle.status()).state).toBe('compensation_failed');

      how.fails = false;
      await saga.resume('s');
      await kit.settle();
      expect(order().slice(5)).toEqual(['undo b', 'undo a']);
      expect(calls[5]?.context.idempotencyKey).toBe(calls[3]?.context.idempotencyKey);
      expect(await handle.status()).toMatchObject({ state: 'compensated' });
      expect(await errorOf(handle.result())).toMatchObject({
        step: 'c',
        compensations: [{ step: 'b' }, { step: 'a' }],
      });
      expect(await errorOf(saga.resume('s'))).toBeInstanceOf(ValidationError);
    });

    test('abandon ends it: nothing more runs', async () => {
      const saga = define(parks({ fails: true }));
      const handle = await saga.run(null, { id: 's' });
      await errorOf(Promise.all([handle.result(), kit.settle().then(() => kit.pass(100))]));
      await saga.abandon('s');
      await kit.settle();
      expect(order()).toEqual(['a', 'b', 'c', 'undo b', 'undo b']);
      expect((await handle.status()).state).toBe('abandoned');
      expect((await saga.list({ state: 'abandoned' })).map(({ id }) => id)).toEqual(['s']);
      expect(await errorOf(handle.result())).toBeInstanceOf(SagaFailedError);
      expect(await errorOf(saga.abandon('s'))).toBeInstanceOf(ValidationError);
    });

    test('a step that the definition has no more parks it; resumed with it, it goes on', async () => {
      const gate = await kit.hand({}, 'gate');
      const first = define([step('a'), { name: 'waits', queue: 'gate', job: 'go' }, step('b', () => 'end')]);
      const handle = await first.run(null, { id: 's' });
      const run = await gate.next();
      await first.close(true);
      const second = define([step('a'), { name: 'waits', queue: 'gate', job: 'go' }]);
      run.complete('gone');
      await kit.settle();
      const error = await errorOf(handle.result().catch(() => second.get('s').then((one) => one?.result())));
      expect(error).toMatchObject({ step: 'b' });
      expect(error.cause.message).toMatch(/has no step "b" any more/);
      expect((await second.list({ state: 'parked' })).map(({ id }) => id)).toEqual(['s']);
      await second.close(true);
      const third = define([step('new'), step('b', () => 'end'), step('a')]);
      await third.resume('s');
      expect(await (await third.get('s'))?.result()).toBe('end');
      expect(order()).toEqual(['a', 'b']);
    });
  });

  describe('cancel', () => {
    test('aborts the step that runs, then compensates', async () => {
      let reason: any;
      const hangs = (_: number, { signal }: StepContext) =>
        new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => {
            reason = signal.reason;
            reject(signal.reason);
          }),
        );
      const saga = define([step('a'), step('b', hangs, { attempts: 5 }), step('c')]);
      const handle = await saga.run(null, { id: 's' });
      const result = watch(handle.result());
      await kit.settle();
      const elsewhere = define([step('a'), step('b'), step('c')], { work: false });
      expect(await elsewhere.cancel('s', 'changed my mind')).toBe('cancelling');
      await kit.settle();
      expect(reason).toBeInstanceOf(JobCancelledError);
      expect(result.error).toMatchObject({ step: 'b' });
      expect(result.error.cause).toBeInstanceOf(JobCancelledError);
      expect(result.error.cause.message).toMatch(/changed my mind/);
      expect(order()).toEqual(['a', 'b', 'undo a']);
      expect(await saga.cancel('s')).toBe('finished');
    });

    test('while it waits for its next attempt', async () => {
      const saga = define([step('a'), step('b', fails(), { attempts: 5, backoff: 3_600_000 })]);
      const handle = await saga.run(null, { id: 's' });
      const result = watch(handle.result());
      await kit.settle();
      await saga.cancel('s');
      await kit.settle();
      expect(result.error.cause).toBeInstanceOf(JobCancelledError);
      expect(order()).toEqual(['a', 'b', 'undo a']);
    });

    test('while it waits for a job: that job is cancelled', async () => {
      const saga = define([step('a'), { name: 'j', queue: 'jobs', job: 'j' }]);
      const handle = await saga.run(null, { id: 's' });
      const result = watch(handle.result());
      await kit.settle();
      await saga.cancel('s');
      await kit.settle();
      expect(result.error).toMatchObject({ step: 'j' });
      expect(result.error.cause).toBeInstanceOf(JobCancelledError);
      expect(await kit.queue('jobs').getJobState('saga:order:s:j')).toBe('cancelled');
      expect(order()).toEqual(['a', 'undo a']);
    });

    test('before it begins, and once it goes backward', async () => {
      const starts = define([step('a')], { work: false });
      const handle = await starts.run(null, { id: 's' });
      await starts.cancel('s');
      const undone = await kit.hand({}, 'undo');
      const saga = define([{ name: 'a', queue: 'do', job: 'do', compensateJob: 'undo' }, step('b', fails('first'))], {
        name: 'other',
      });
      define([step('a')]);
      expect(await errorOf(handle.result())).toMatchObject({ step: 'a', cause: { name: 'JobCancelledError' } });
      expect(order()).toEqual([]);

      await kit.worker(
        (job: Job) => (job.name === 'do' ? 'done' : kit.queue('undo').addAndWait('undo', null)),
        {},
        'do',
      );
      const back = await saga.run(null, { id: 'back' });
      const run = await undone.next();
      expect((await back.status()).state).toBe('compensating');
      expect(await saga.cancel('back')).toBe('cancelling');
      run.complete();
      expect(await errorOf(back.result())).toMatchObject({
        cause: { message: 'first' },
        compensations: [{ state: 'compensated' }],
      });
    });
  });

  describe('steps that are jobs', () => {
    test('run in their queue, by their own attempts; a queue of one slot serves the saga and its steps', async () => {
      const seen: any[] = [];
      let n = 0;
      await kit.worker(
        (job: Job) => {
          seen.push({ name: job.name, id: job.id, data: job.data });
          if (job.name === 'charge' && n++ === 0) throw new Error('busy');
          return { did: job.name };
        },
        { concurrency: 1 },
        'payments',
      );
      const saga = define(
        [
          step('a', () => 'from a'),
          { name: 'charge', queue: 'payments', job: 'charge', compensateJob: 'refund', attempts: 2 },
          step('b', fails()),
        ],
        { concurrency: 1 },
      );
      const handle = await saga.run(null, { id: 's' });
      expect(await errorOf(handle.result())).toMatchObject({
        compensations: [
          { step: 'charge', state: 'compensated' },
          { step: 'a', state: 'compensated' },
        ],
      });
      const id = 'saga:order:s:charge';
      expect(seen).toEqual([
        { name: 'charge', id, data: 'from a' },
        { name: 'charge', id, data: 'from a' },
        {
          name: 'refund',
          id: `${id}:compensate`,
          data: {
            sagaId: 's',
            step: 'charge',
            output: { did: 'charge' },
            input: 'from a',
            forwardKey: id,
            inDoubt: false,
          },
        },
      ]);
      expect(calls.find(({ what }) => what === 'b')?.value).toEqual({ did: 'charge' });
    });

    test('one that fails makes the saga fail; in doubt when it timed out', async () => {
      await kit.worker(
        (job) => (job.data === 'hangs' ? new Promise(() => {}) : fails('declined')()),
        { abortGrace: 0, concurrency: 5 },
        'p',
      );
      const saga = define([{ name: 'p', queue: 'p', job: 'p', compensateJob: 'undo', timeout: 1000 }]);
      const thrown = await errorOf((await saga.run('throws')).result());
      expect(thrown.cause).toBeInstanceOf(JobFailedError);
      expect(thrown).toMatchObject({ cause: { failedReason: 'declined' }, compensations: [] });
      const result = watch((await saga.run('hangs')).result());
      await kit.settle();
      await kit.pass(1001);
      await kit.settle();
      expect(result.error.compensations).toEqual([{ step: 'p', state: 'in_doubt' }]);
    });

    test('a compensation that failed is retried by resume', async () => {
      let isUp = false;
      await kit.worker((job) => (job.name === 'undo' && !isUp ? fails('down')() : job.name), {}, 'p');
      const saga = define([{ name: 'p', queue: 'p', job: 'do', compensateJob: 'undo' }, step('b', fails())]);
      const handle = await saga.run(null, { id: 's' });
      expect(await errorOf(handle.result())).toMatchObject({ compensations: [{ step: 'p', state: 'failed' }] });
      isUp = true;
      await saga.resume('s');
      await kit.settle();
      expect((await handle.status()).state).toBe('compensated');
      expect((await kit.queue('p').getJob('saga:order:s:p:compensate'))?.attemptsStarted).toBe(2);
    });
  });

  describe('looking after', () => {
    test('get, list and status; what is not there is said so', async () => {
      const saga = define([step('a', (_, { sagaId }) => (sagaId === 'bad' ? fails()() : sagaId))]);
      await (await saga.run(1, { id: 'good' })).result();
      await errorOf((await saga.run(2, { id: 'bad' })).result());
      const waits = define([step('a')], { name: 'elsewhere', work: false });
      await waits.run(3, { id: 'begins' });
      expect((await saga.list()).map(({ id, state }) => [id, state])).toEqual([
        ['good', 'completed'],
        ['bad', 'compensated'],
      ]);
      expect((await saga.list({ state: 'compensated' })).map(({ id }) => id)).toEqual(['bad']);
      expect((await saga.list({ limit: 1, offset: 1 })).map(({ id }) => id)).toEqual(['bad']);
      expect((await waits.list({ state: 'running' })).map(({ id }) => id)).toEqual(['begins']);
      expect(await saga.get('nobody')).toBeUndefined();
      expect(await errorOf(saga.resume('nobody'))).toBeInstanceOf(JobNotFoundError);
      expect(await errorOf(saga.cancel('nobody'))).toBeInstanceOf(JobNotFoundError);
      const late = watch((await waits.get('begins'))!.result({ timeout: 10 }));
      await kit.settle();
      await kit.pass(10);
      expect(late.error).toBeInstanceOf(WaitTimeoutError);
    });

    test('one that has ended is kept for the retention, and its id with it', async () => {
      const saga = define([step('a')], { retention: 1000 });
      const handle = await saga.run(1, { id: 's' });
      await handle.result();
      await kit.pass(999);
      expect((await handle.status()).state).toBe('completed');
      await kit.pass(2);
      expect(await saga.get('s')).toBeUndefined();
      await (await saga.run(1, { id: 's' })).result();
      expect(order()).toEqual(['a', 'a']);
    });

    test('what can not be a saga is refused', async () => {
      const execute = () => 1;
      const bad: [unknown, RegExp][] = [
        [{ name: 'a b', steps: [{ name: 'x', execute }] }, /name of a queue/],
        [{ name: 'x'.repeat(101), steps: [{ name: 'x', execute }] }, /at most 100/],
        [{ name: 'x', steps: [] }, /at least one step/],
        [
          {
            name: 'x',
            steps: [
              { name: 'x', execute },
              { name: 'x', execute },
            ],
          },
          /unique/,
        ],
        [{ name: 'x', steps: [{ name: 'x' }] }, /execute must be a function/],
        [{ name: 'x', steps: [{ name: 'x', execute, queue: 'q', job: 'j' }] }, /either functions, or a queue/],
        [{ name: 'x', steps: [{ name: 'x', queue: 'q' }] }, /name of a job/],
        [{ name: 'x', steps: [{ name: 'x', execute, compensateJob: 'q' }] }, /is for steps with a queue/],
        [{ name: 'x', steps: [{ name: 'x', execute, retries: 3 }] }, /not a known option/],
        [{ name: 'x', steps: [{ name: 'x', execute, backoff: { type: 'mine' } }] }, /'fixed' or 'exponential'/],
        [{ name: 'x', steps: [{ name: 'x', execute }], retention: -1 }, /retention/],
      ];
      for (const [options, message] of bad) {
        const error = thrownBy(() => defineSaga(options as SagaOptions));
        expect(error).toBeInstanceOf(ValidationError);
        expect(error.message).toMatch(message);
      }
      const saga = define([{ name: 'x', execute }]);
      expect(await errorOf(saga.run(1, { id: '' }))).toBeInstanceOf(ValidationError);
      expect(await errorOf(saga.run(1, { id: 'x'.repeat(257) }))).toBeInstanceOf(ValidationError);
      expect(await errorOf(saga.run(() => 1))).toBeInstanceOf(ValidationError);
    });
  });
};
