import { JobActiveError, QueueEvents, ValidationError } from 'flashq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Bench, bench, turn } from '../support/engine.js';

let b: Bench;
beforeEach(async () => {
  b = await bench();
});
afterEach(() => b.close());

describe('control of a queue', () => {
  test('remove: any state but active, and the id is free', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const active = await queue.add('a', 1);
    const run = await hands.next();
    await expect(queue.remove(active)).rejects.toThrow(JobActiveError);
    await run.complete();
    expect(await queue.remove(active)).toBe(true);
    expect(await queue.remove(active)).toBe(false);
    expect(await active.getState()).toBe('unknown');
  });

  test('drain takes what waits, and what is delayed or blocked if asked', async () => {
    const queue = b.queue();
    const first = await queue.add('a', 1);
    await queue.add('b', 1, { delay: 1e6 });
    await queue.add('c', 1, { depends_on: [await queue.add('d', 1, { delay: 1e6 })] });
    await queue.drain();
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 0, delayed: 2, blocked: 1 });
    expect(await first.getState()).toBe('unknown');
    await queue.drain({ delayed: true, blocked: true } as never);
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 0, delayed: 0, blocked: 0 });
  });

  test('obliterate refuses with active jobs, unless forced: then their outcome is dropped', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const job = await queue.add('a', 1, { jobId: 'x' });
    await queue.add('b', 1);
    const run = await hands.next();
    await expect(queue.obliterate()).rejects.toThrow(JobActiveError);
    const told = queue.finished(job).catch((error: Error) => error.constructor.name);
    await queue.obliterate({ force: true });
    expect(await told).toBe('JobRemovedError');
    expect(run.signal.aborted).toBe(true);
    await run.complete('dropped');
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 0, active: 0, completed: 0, failed: 0 });
    expect((await queue.add('a', 2, { jobId: 'x' })).deduplicated).toBe(false);
  });

  test('changeDelay counts from now, updateData exchanges what the next run gets', async () => {
    const queue = b.queue();
    const job = await queue.add('a', { v: 1 }, { delay: 1000 });
    await b.clock.advance(500);
    await job.changeDelay(2000);
    await job.updateData({ v: 2 });
    await b.clock.advance(1999);
    expect(await job.getState()).toBe('delayed');
    await b.clock.advance(1);
    const run = await b.hands().next();
    expect(run.job.data).toEqual({ v: 2 });
    await run.complete();
  });

  test('what cannot be done in a state is refused with the state in the message', async () => {
    const queue = b.queue();
    const job = await queue.add('a', 1);
    await expect(job.promote()).rejects.toThrow(/waiting/);
    await expect(job.changeDelay(5)).rejects.toThrow(/waiting/);
    await expect(job.retry()).rejects.toThrow(ValidationError);
    await expect(queue.getJob('')).rejects.toThrow(ValidationError);
  });

  test('the DLQ: newest first, retried with id, data and history, counts reset', async () => {
    const queue = b.queue();
    b.worker(() => {
      throw new Error('no');
    });
    const jobs = await queue.addBulk([1, 2, 3].map((data) => ({ name: `j${data}`, data })));
    await queue.finished(jobs, { settled: true });
    expect((await queue.getDlq()).map((job) => job.name)).toEqual(['j3', 'j2', 'j1']);
    expect((await queue.getDlq(1, { offset: 1 })).map((job) => job.name)).toEqual(['j2']);
    expect(await queue.getDlqCount()).toBe(3);
    await queue.pause();
    expect(await queue.retryDlq([jobs[0]!, jobs[1]!])).toBe(2);
    const again = await queue.getJob(jobs[0]!);
    expect([again!.id, again!.data, again!.attemptsMade]).toEqual([jobs[0]!.id, 1, 0]);
    expect(await queue.getDlqCount()).toBe(1);
  });

  test.each([undefined, null, {}])('retryDlq(%j), given explicitly, is refused', async (selection) => {
    await expect(b.queue().retryDlq(selection as never)).rejects.toThrow(ValidationError);
  });

  test('settings: the last call wins, and an unknown one is refused', async () => {
    const queue = b.queue();
    await queue.configure({ concurrency: 3, rateLimit: { max: 5, duration: 100 } });
    await queue.setConcurrency(4);
    expect(await queue.getConfig()).toMatchObject({ concurrency: 4, rateLimit: { max: 5, duration: 100 } });
    await queue.clearRateLimit();
    expect((await queue.getConfig()).rateLimit ?? null).toBeNull();
    await expect(queue.configure({ concurency: 1 } as never)).rejects.toThrow(/concurrency/);
  });
});

describe('events', () => {
  test('every transition has one, in order', async () => {
    const queue = b.queue();
    const seen = await b.events();
    const hands = b.hands();
    const job = await queue.add('a', 1, { attempts: 2, backoff: 10, delay: 5 });
    await b.clock.advance(5);
    await (await hands.next()).fail();
    await b.clock.advance(10);
    await (await hands.next()).complete('r');
    expect(seen.of(job.id)).toEqual([
      'added',
      'delayed',
      'waiting',
      'active',
      'retrying',
      'delayed',
      'waiting',
      'active',
      'completed',
    ]);
    expect(seen.all.find((one) => one.event === 'completed')!.args.returnvalue).toBe('r');
  });

  test('a reader that comes back resumes after the last it saw, or is told of a gap', async () => {
    const queue = b.queue();
    const first = new QueueEvents('q', { connection: b.engine });
    const ids: string[] = [];
    first.on('added', (_args, id) => ids.push(id));
    await first.waitUntilReady();
    await queue.add('a', 1);
    await first.close();
    const job = await queue.add('missed', 1);
    const second = new QueueEvents('q', { connection: b.engine, lastEventId: ids[0]!, autorun: false });
    const missed: string[] = [];
    second.on('added', ({ jobId }) => missed.push(jobId));
    await second.run();
    expect(missed).toEqual([job.id]);
    const third = new QueueEvents('q', { connection: b.engine, lastEventId: 'other-5', autorun: false });
    let gaps = 0;
    third.on('gap', () => gaps++);
    await third.run();
    expect(gaps).toBe(1);
    await second.close();
    await third.close();
  });

  test('counts are exact through it all', async () => {
    const queue = b.queue();
    const hands = b.hands({ concurrency: 2 });
    await queue.addBulk(Array.from({ length: 5 }, (_, i) => ({ name: 'a', data: i })));
    await turn();
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 3, active: 2, completed: 0 });
    await hands.started[0]!.complete();
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 2, active: 2, completed: 1 });
    await hands.started[1]!.fail();
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 1, active: 2, completed: 1, failed: 1 });
  });

  test('two changes of its settings at a time: claims are kept out until both are made', async () => {
    const queue = b.queue();
    const hands = b.hands({ concurrency: 2 });
    await turn();
    const { core } = b.engine.state;
    const { wasm } = core;
    const epochs: number[] = [];
    let over = 0; // of the changes, as many find that the claims before them are over
    const epochPassed = (epoch: number): number => {
      if (!epochs.includes(epoch)) epochs.push(epoch);
      return epochs.indexOf(epoch) < over ? 1 : 0;
    };
    core.wasm = { ...wasm, epochPassed };
    const first = queue.setConcurrency(1);
    const second = queue.setRateLimit({ max: 9, duration: 1000 });
    await turn();
    expect(epochs.length).toBe(2);
    over = 1;
    await first;
    await queue.add('a', 1);
    await turn();
    expect(hands.started.length).toBe(0);
    over = 2;
    await second;
    await turn();
    expect(hands.started.length).toBe(1);
    core.wasm = wasm;
  });

  test('a limit that was lowered holds, and no lower one, when the runs of the higher one have failed', async () => {
    const queue = b.queue();
    await queue.setConcurrency(3);
    const hands = b.hands({ concurrency: 5 });
    await queue.addBulk(Array.from({ length: 5 }, (_, i) => ({ name: 'a', data: i })));
    await turn();
    await queue.setConcurrency(1);
    for (const run of hands.started.slice(0, 3)) await run.fail();
    expect(hands.started.length).toBe(4);
    await hands.started[3]!.fail();
    expect(hands.started.length).toBe(5);
  });

  test('obliterated under running jobs, the queue has none of its limits any more', async () => {
    const queue = b.queue();
    await queue.configure({ concurrency: 2, rateLimit: { max: 2, duration: 1e6 } });
    const hands = b.hands({ concurrency: 5 });
    await queue.addBulk(Array.from({ length: 2 }, (_, i) => ({ name: 'a', data: i })));
    await turn();
    await queue.setConcurrency(1);
    await queue.obliterate({ force: true });
    await queue.addBulk(Array.from({ length: 3 }, (_, i) => ({ name: 'b', data: i })));
    await turn();
    expect(hands.started.map(({ job }) => job.name)).toEqual(['a', 'a', 'b', 'b', 'b']);
    await queue.setConcurrency(4);
    for (const run of hands.started) await run.complete();
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 0, active: 0, completed: 3 });
  });
});
