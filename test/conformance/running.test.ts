import { DelayedError, QueueEvents, RateLimitError, UnrecoverableError, Worker } from 'flashq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Bench, bench, turn } from '../support/engine.js';

let b: Bench;
beforeEach(async () => {
  b = await bench();
});
afterEach(() => b.close());

let queues = 0;

/** When each retry starts after the failure before it. */
async function retryDelays(
  opts: object,
  failures: number,
  error: () => unknown = () => new Error('no'),
): Promise<number[]> {
  const name = `retry${queues++}`;
  const queue = b.queue(name);
  const hands = b.hands({}, name);
  await queue.add('a', 1, opts);
  const delays: number[] = [];
  for (let i = 0; i < failures; i++) {
    const run = await hands.next();
    const failedAt = b.clock.now();
    await run.fail(error());
    const job = await queue.getJob(run.job);
    if (job === undefined || !['delayed', 'waiting', 'active'].includes(await job.getState())) break;
    while ((await job.getState()) === 'delayed') await b.clock.advance(1);
    delays.push(b.clock.now() - failedAt);
  }
  return delays;
}

describe('retries', () => {
  test('attempts 5 is one run and four retries, exponential from delay', async () => {
    expect(await retryDelays({ attempts: 5, backoff: { type: 'exponential', delay: 100 } }, 5)).toEqual([
      100, 200, 400, 800,
    ]);
  });

  test('a number is fixed, none is at once, maxDelay caps', async () => {
    expect(await retryDelays({ attempts: 3, backoff: 50 }, 3)).toEqual([50, 50]);
    expect(await retryDelays({ attempts: 3 }, 3)).toEqual([0, 0]);
    const backoff = { type: 'exponential', delay: 10, factor: 10, maxDelay: 300 };
    expect(await retryDelays({ attempts: 4, backoff }, 4)).toEqual([10, 100, 300]);
  });

  test('jitter draws from [d(1-j), d]', async () => {
    await b.close();
    b = await bench({ random: () => 0.5 });
    const backoff = { type: 'fixed', delay: 100, jitter: 0.4 };
    expect(await retryDelays({ attempts: 2, backoff }, 2)).toEqual([80]);
  });

  test('err.retryAfterMs overrides the backoff', async () => {
    const error = () => Object.assign(new Error('busy'), { retryAfterMs: 70 });
    expect(await retryDelays({ attempts: 2, backoff: 5000 }, 2, error)).toEqual([70]);
  });

  test('named strategies get attempts, error and job, and -1 fails now', async () => {
    const queue = b.queue();
    const calls: unknown[] = [];
    const settings = {
      backoffStrategies: {
        mine: (attemptsMade: number, error: Error) => {
          calls.push([attemptsMade, error.message]);
          return attemptsMade === 2 ? -1 : 30;
        },
      },
    };
    const hands = b.hands({ settings });
    const job = await queue.add('a', 1, { attempts: 9, backoff: { type: 'mine', delay: 1 } });
    await (await hands.next()).fail(new Error('one'));
    await b.clock.advance(30);
    await (await hands.next()).fail(new Error('two'));
    expect(await job.getState()).toBe('failed');
    expect(calls).toEqual([
      [1, 'one'],
      [2, 'two'],
    ]);
  });

  test('UnrecoverableError fails at once; DelayedError and RateLimitError are no attempts', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const job = await queue.add('a', 1, { attempts: 2 });
    await (await hands.next()).fail(new DelayedError(20));
    expect(await job.getState()).toBe('delayed');
    await b.clock.advance(20);
    await (await hands.next()).fail(new RateLimitError(10));
    await b.clock.advance(10);
    const run = await hands.next();
    expect(run.job.attemptsMade).toBe(0);
    await run.fail(new UnrecoverableError('never'));
    const [failed] = await queue.getDlq();
    expect(failed).toMatchObject({ failedReason: 'never', attemptsMade: 1 });
    expect(failed!.dlq).toMatchObject({ reason: 'unrecoverable' });
  });

  test.each([
    ['a string', 'text', 'text'],
    ['undefined', undefined, 'undefined'],
    ['an object', { a: 1 }, '{"a":1}'],
    ['a number', 5, '5'],
  ])('failedReason is a string when %s is thrown', async (_what, thrown, reason) => {
    const queue = b.queue();
    const hands = b.hands();
    await queue.add('a', 1);
    const run = await hands.next();
    await run.fail(thrown === undefined ? (null as never) : thrown);
    const [failed] = await queue.getDlq();
    expect(typeof failed!.failedReason).toBe('string');
    if (thrown !== undefined) expect(failed!.failedReason).toBe(reason);
  });

  test('the last stackTraceLimit stacks are kept', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const job = await queue.add('a', 1, { attempts: 4, stackTraceLimit: 2 });
    for (const text of ['one', 'two', 'three', 'four']) await (await hands.next()).fail(new Error(text));
    const read = await queue.getJob(job);
    expect(read!.stacktrace.map((stack) => /two|three|four|one/.exec(stack)![0])).toEqual(['three', 'four']);
    expect(read!.dlq!.attempts.map((one) => one.error)).toEqual(['one', 'two', 'three', 'four']);
    expect(read!.dlq!.reason).toBe('attempts_exhausted');
  });

  test('a waiting retry holds no slot, and a retry goes to the tail', async () => {
    const queue = b.queue();
    const hands = b.hands();
    await queue.add('failing', 1, { attempts: 2, backoff: 1000 });
    await queue.add('other', 1);
    await (await hands.next()).fail();
    const other = await hands.next();
    expect(other.job.name).toBe('other');
    await queue.add('third', 1);
    await b.clock.advance(1000);
    await other.complete();
    expect((await hands.next()).job.name).toBe('third');
  });
});

describe('timeouts, ttl, cancelling', () => {
  test('a run over its timeout is aborted, and fails with its rejection', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const job = await queue.add('a', 1, { timeout: 100, attempts: 2 });
    const run = await hands.next();
    await b.clock.advance(100);
    expect(run.signal.aborted).toBe(true);
    await run.fail(run.signal.reason);
    const second = await hands.next();
    expect(second.job.attemptsMade).toBe(1);
    await b.clock.advance(100);
    await second.fail(second.signal.reason);
    expect((await queue.getJob(job))!.dlq!.reason).toBe('timeout');
  });

  test('a completion within the grace counts; after it the job is taken away, and what comes is late', async () => {
    const queue = b.queue();
    const seen = await b.events();
    const hands = b.hands({ abortGrace: 500 });
    const first = await queue.add('a', 1, { timeout: 100 });
    const run = await hands.next();
    await b.clock.advance(300);
    await run.complete('in time');
    expect(await queue.finished(first)).toBe('in time');
    const second = await queue.add('b', 1, { timeout: 100 });
    const slow = await hands.next();
    await b.clock.advance(600);
    expect(await second.getState()).toBe('failed');
    await slow.complete('too late');
    expect(await second.getState()).toBe('failed');
    expect(seen.of(second.id)).toContain('late');
  });

  test('ttl ends at the first start; expired jobs go to the DLQ and their waiters are told', async () => {
    const queue = b.queue();
    const waiting = await queue.add('a', 1, { ttl: 100 });
    const delayed = await queue.add('b', 1, { ttl: 100, delay: 50 });
    const told = queue.finished(waiting).catch((error: Error) => error.message);
    await b.clock.advance(100);
    expect((await queue.getJob(waiting))!.dlq!.reason).toBe('expired');
    expect(await told).toMatch(/ttl/);
    expect(await delayed.getState()).toBe('waiting'); // ttl counts from admission plus delay
    const run = await b.hands().next();
    expect(run.job.name).toBe('b');
    await b.clock.advance(1000);
    await run.complete();
    expect(await delayed.getState()).toBe('completed');
  });

  test('cancel: waiting at once, active by its signal, finished not', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const active = await queue.add('a', 1);
    const waiting = await queue.add('b', 1);
    const run = await hands.next();
    expect(await queue.cancel(waiting, 'not needed')).toBe('cancelled');
    expect((await queue.getJob(waiting))!.failedReason).toBe('not needed');
    expect(await queue.cancel(active)).toBe('aborting');
    expect(run.signal.aborted).toBe(true);
    await run.fail(run.signal.reason);
    expect(await active.getState()).toBe('cancelled');
    expect(await queue.cancel(active)).toBe('finished');
  });

  test('cancel of a run that completes within the grace: completed', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const job = await queue.add('a', 1);
    const run = await hands.next();
    await queue.cancel(job);
    await run.complete('done');
    expect(await job.getState()).toBe('completed');
  });
});

describe('workers', () => {
  test('concurrency is how many run at once, live', async () => {
    const queue = b.queue();
    const hands = b.hands({ concurrency: 2 });
    await queue.addBulk(Array.from({ length: 6 }, (_, i) => ({ name: `j${i}`, data: i })));
    await hands.next();
    await hands.next();
    await turn();
    expect(hands.started.length).toBe(2);
    hands.worker.concurrency = 4;
    await turn();
    expect(hands.started.length).toBe(4);
    hands.worker.concurrency = 1;
    await hands.started[0]!.complete();
    await hands.started[1]!.complete();
    expect(hands.started.length).toBe(4);
    await hands.started[2]!.complete();
    await hands.started[3]!.complete();
    expect(hands.started.length).toBe(5);
  });

  test('a queue-wide concurrency and a rate limit hold over all workers', async () => {
    const queue = b.queue();
    await queue.setConcurrency(2);
    const [one, two] = [b.hands({ concurrency: 5 }), b.hands({ concurrency: 5 })];
    await queue.addBulk(Array.from({ length: 6 }, (_, i) => ({ name: `j${i}`, data: i })));
    await turn();
    expect(one.started.length + two.started.length).toBe(2);
    await (one.started[0] ?? two.started[0])!.complete();
    expect(one.started.length + two.started.length).toBe(3);
    await queue.clearConcurrency();
    await turn();
    expect(one.started.length + two.started.length).toBe(6);
  });

  test('the limiter of a Worker is the rate limit of its queue; one that changes another is told', async () => {
    const queue = b.queue();
    const warned: string[] = [];
    const hear = ({ code }: Error & { code?: string }) => warned.push(code ?? '');
    process.on('warning', hear);
    await b.worker(() => 1, { limiter: { max: 1, duration: 1000 } }).waitUntilReady();
    expect((await queue.getConfig()).rateLimit).toEqual({ max: 1, duration: 1000 });
    await b.worker(() => 1, { limiter: { max: 1, duration: 1000 } }).waitUntilReady();
    await turn();
    expect(warned).toEqual([]);
    await b.worker(() => 1, { limiter: { max: 3, duration: 500 } }).waitUntilReady();
    await turn();
    process.off('warning', hear);
    expect(warned).toEqual(['FLASHQ_RATE_LIMIT_CHANGED']);
    const jobs = await queue.addBulk([1, 2, 3, 4].map((data) => ({ name: 'a', data })));
    await turn();
    expect(await Promise.all(jobs.map((job) => job.getState()))).toEqual([
      'completed',
      'completed',
      'completed',
      'waiting',
    ]);
  });

  test('of Worker.typed: a job whose name it has no handler for fails for good', async () => {
    const queue = b.queue();
    const worker = Worker.typed('q', { known: () => 'fine' }, { connection: b.engine });
    expect(await queue.addAndWait('known', 1)).toBe('fine');
    const job = await queue.add('unknown', 1, { attempts: 5 });
    await expect(queue.finished(job)).rejects.toThrow(/No handler for jobs named "unknown"/);
    expect((await queue.getJob(job))!.dlq!.reason).toBe('unrecoverable');
    await worker.close();
  });

  test('a rate limit holds over every sliding window', async () => {
    const queue = b.queue();
    await queue.setRateLimit({ max: 2, duration: 1000 });
    const starts: number[] = [];
    b.worker(() => void starts.push(b.clock.now()), { concurrency: 10 });
    await queue.addBulk(Array.from({ length: 7 }, (_, i) => ({ name: `j${i}`, data: i })));
    for (let i = 0; i < 40; i++) await b.clock.advance(100);
    expect(starts.length).toBe(7);
    for (let i = 2; i < starts.length; i++) expect(starts[i]! - starts[i - 2]!).toBeGreaterThanOrEqual(1000);
  });

  test('pause lets nothing start, resume goes on; delays elapse meanwhile', async () => {
    const queue = b.queue();
    const hands = b.hands();
    await queue.pause();
    await queue.add('a', 1);
    await queue.add('b', 1, { delay: 100 });
    await b.clock.advance(100);
    expect([hands.started.length, await queue.isPaused(), (await queue.getJobCounts()).waiting]).toEqual([0, true, 2]);
    await queue.resume();
    await turn();
    expect(hands.started.length).toBe(1);
  });

  test('close gives back what still runs after the timeout, without an attempt', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const job = await queue.add('a', 1);
    const run = await hands.next();
    await hands.worker.close({ timeout: 0 });
    expect(run.signal.aborted).toBe(true);
    expect(await job.getState()).toBe('waiting');
    const again = await b.hands().next();
    expect(again.job.attemptsMade).toBe(0);
    await again.complete();
  });

  test("close with onTimeout 'fail' counts an attempt; graceful close waits", async () => {
    const queue = b.queue();
    const hands = b.hands();
    const job = await queue.add('a', 1);
    await hands.next();
    await hands.worker.close({ timeout: 0, onTimeout: 'fail' });
    expect(await job.getState()).toBe('failed');
    const second = b.hands();
    const next = await queue.add('b', 1);
    const run = await second.next();
    const closing = second.worker.close();
    await run.complete(5);
    await closing;
    expect(await queue.finished(next)).toBe(5);
  });

  test('a listener that throws stops nothing', async () => {
    const queue = b.queue();
    const worker = b.worker(() => 1);
    const warnings: string[] = [];
    const hear = (warning: Error & { code?: string }) => warnings.push(warning.code ?? '');
    process.on('warning', hear);
    const events = new QueueEvents('q', { connection: b.engine });
    await events.waitUntilReady();
    let told = 0;
    const fails = () => {
      throw new Error('in a listener');
    };
    worker.on('completed', fails);
    events.on('completed', fails);
    events.on('completed', () => told++);
    expect(await queue.addAndWait('a', 1)).toBe(1);
    expect(await queue.addAndWait('b', 1)).toBe(1);
    await turn();
    process.off('warning', hear);
    expect(warnings).toEqual(Array(4).fill('FLASHQ_LISTENER_ERROR'));
    expect(told).toBe(2);
    await events.close();
  });

  test('progress and logs are kept, the last keepLogs lines', async () => {
    const queue = b.queue();
    const seen = await b.events();
    const hands = b.hands();
    await queue.add('a', 1, { keepLogs: 2 });
    const { job, complete } = await hands.next();
    await job.updateProgress({ done: 50 });
    for (const line of ['one', 'two', 'three']) await job.log(line);
    await complete();
    expect((await queue.getJob(job))!.progress).toEqual({ done: 50 });
    expect(await job.getLogs()).toEqual(['two', 'three']);
    expect(seen.all.find((one) => one.event === 'progress')!.args.data).toEqual({ done: 50 });
  });

  test('a result that cannot be stored sends the job to the DLQ, never to be retried', async () => {
    const queue = b.queue();
    b.worker(() => () => 1);
    const job = await queue.add('a', 1, { attempts: 5 });
    await expect(queue.finished(job)).rejects.toMatchObject({ name: 'JobFailedError' });
    expect((await queue.getJob(job))!.dlq!.reason).toBe('result_unserialisable');
  });
});
