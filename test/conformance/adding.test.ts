import { BulkError, DuplicateJobError, Queue, UnknownDependencyError, ValidationError } from 'flashq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Bench, bench, orderOfRuns, turn } from '../support/engine.js';

let b: Bench;
beforeEach(async () => {
  b = await bench();
});
afterEach(() => b.close());

describe('addBulk', () => {
  test('answers in the order given, for any mix of options', async () => {
    const queue = b.queue();
    const jobs = await queue.addBulk([
      { name: 'a', data: 1 },
      { name: 'b', data: 2, opts: { jobId: 'own' } },
      { name: 'c', data: 3, opts: { delay: 1000 } },
      { name: 'd', data: 4, opts: { depends_on: ['own'] } },
    ]);
    expect(jobs.map((job) => job.name)).toEqual(['a', 'b', 'c', 'd']);
    expect(jobs[1]!.id).toBe('own');
    expect(await Promise.all(jobs.map((job) => job.getState()))).toEqual(['waiting', 'waiting', 'delayed', 'blocked']);
  });

  test('is all or nothing, and says which items were refused', async () => {
    const queue = b.queue();
    const error = await queue
      .addBulk([
        { name: 'good', data: 1 },
        { name: 'bad', data: () => 1 },
        { name: 'good', data: 2, opts: { depends_on: ['nobody'] } },
      ])
      .catch((thrown: unknown) => thrown as BulkError);
    expect(error).toBeInstanceOf(BulkError);
    const { errors } = error as BulkError;
    expect(errors.map(({ index }) => index)).toEqual([1, 2]);
    expect(errors[0]!.error).toBeInstanceOf(ValidationError);
    expect(errors[1]!.error).toBeInstanceOf(UnknownDependencyError);
    expect((await queue.getJobCounts()).waiting).toBe(0);
  });

  test('of one bad item rejects with a BulkError too; add with its own error', async () => {
    const queue = b.queue();
    await expect(queue.addBulk([{ name: 'x', data: 1, opts: { depends_on: ['no'] } }])).rejects.toThrow(BulkError);
    await expect(queue.add('x', 1, { depends_on: ['no'] })).rejects.toThrow(UnknownDependencyError);
  });

  test('refuses a member of an item that it does not know: its options would be obeyed by nobody', async () => {
    const queue = b.queue();
    const misspelt = { name: 'x', data: 1, options: { attempts: 3 } } as { name: string; data: number };
    const error = await queue
      .addBulk([{ name: 'x', data: 0 }, misspelt])
      .catch((thrown: unknown) => thrown as BulkError);
    expect(error).toMatchObject({
      errors: [{ index: 1, error: { code: 'FLASHQ_VALIDATION', path: 'items[1].options' } }],
    });
    expect((error as BulkError).message).toContain('Known are: name, data, opts');
    expect((await queue.getJobCounts()).waiting).toBe(0);
  });

  test('{atomic: false} lets each item stand for itself', async () => {
    const queue = b.queue();
    const answers = await queue.addBulk(
      [
        { name: 'a', data: 1 },
        { name: 'b', data: Symbol('no') },
        { name: 'c', data: 3, opts: { priority: 0.5 } as never },
        { name: 'd', data: 4 },
      ],
      { atomic: false },
    );
    expect(answers.map((one) => one.ok)).toEqual([true, false, false, true]);
    expect((await queue.getJobCounts()).waiting).toBe(2);
    const [first, , , last] = answers as { ok: true; job: { data: unknown } }[];
    expect([first!.job.data, last!.job.data]).toEqual([1, 4]);
  });

  test('of nothing is nothing', async () => {
    expect(await b.queue().addBulk([])).toEqual([]);
    expect(await b.queue().addBulk([], { atomic: false })).toEqual([]);
  });

  test('items may name each other in any order, and a cycle is refused by name', async () => {
    const queue = b.queue();
    const jobs = await queue.addBulk([
      { name: 'last', data: 1, opts: { jobId: 'z', depends_on: ['y'] } },
      { name: 'first', data: 1, opts: { jobId: 'y' } },
    ]);
    expect(await jobs[0]!.getState()).toBe('blocked');
    const error = await queue
      .addBulk([
        { name: 'a', data: 1, opts: { jobId: 'a', depends_on: ['b'] } },
        { name: 'b', data: 1, opts: { jobId: 'b', depends_on: ['a'] } },
      ])
      .catch((thrown: unknown) => thrown as BulkError);
    expect((error as BulkError).errors[0]!.error.message).toMatch(/cycle/i);
    expect(await queue.getJob('a')).toBeUndefined();
  });

  test('of 10,000 plain jobs keeps their order', async () => {
    const queue = b.queue<number>();
    await queue.addBulk(Array.from({ length: 10_000 }, (_, i) => ({ name: String(i), data: i })));
    const order = await orderOfRuns(b, 10_000);
    expect(order).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i)));
  });
});

describe('order', () => {
  test('is strictly by priority, over the whole 32-bit range, and by age within one', async () => {
    const queue = b.queue();
    for (const [name, priority] of [
      ['c1', 0],
      ['a', 2147483647],
      ['e', -2147483648],
      ['b1', 7],
      ['c2', 0],
      ['b2', 7],
      ['d', -1],
    ] as const) {
      await queue.add(name, 0, { priority });
    }
    expect(await orderOfRuns(b, 7)).toEqual(['a', 'b1', 'b2', 'c1', 'c2', 'd', 'e']);
  });

  test('lifo goes to the head of its priority, and only of that', async () => {
    const queue = b.queue();
    await queue.add('first', 0);
    await queue.add('second', 0);
    await queue.add('head', 0, { lifo: true });
    await queue.add('higher', 0, { priority: 1 });
    expect(await orderOfRuns(b, 4)).toEqual(['higher', 'head', 'first', 'second']);
  });

  test('a delayed job does not block a ready one, and joins at the tail when it is due', async () => {
    const queue = b.queue();
    await queue.add('late', 0, { delay: 1000, priority: 5 });
    await queue.add('due', 0, { delay: 1000 });
    await queue.add('ready', 0);
    await b.clock.advance(1000);
    await queue.add('after', 0);
    expect(await orderOfRuns(b, 4)).toEqual(['late', 'ready', 'due', 'after']);
  });

  test('a promoted job and one with another priority join at the tail', async () => {
    const queue = b.queue();
    const promoted = await queue.add('promoted', 0, { delay: 1000 });
    const lifted = await queue.add('lifted', 0, { priority: -5 });
    await queue.add('a', 0);
    await promoted.promote();
    await lifted.changePriority(0);
    await queue.add('b', 0);
    expect(await orderOfRuns(b, 4)).toEqual(['a', 'promoted', 'lifted', 'b']);
  });
});

describe('a jobId that is there', () => {
  test('gives the job back, in whatever state it is', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const waiting = await queue.add('a', { n: 1 }, { jobId: 'x' });
    const run = await hands.next();
    const again = await queue.add('a', { n: 1 }, { jobId: 'x' });
    expect([waiting.deduplicated, again.deduplicated]).toEqual([false, true]);
    await run.complete('done');
    const finished = await queue.add('a', { n: 1 }, { jobId: 'x' });
    expect([finished.deduplicated, finished.returnvalue]).toEqual([true, 'done']);
    expect(hands.started.length).toBe(1);
  });

  test('is scoped to its queue', async () => {
    const one = await b.queue('one').add('a', 1, { jobId: 'same' });
    const two = await b.queue('two').add('a', 2, { jobId: 'same' });
    expect(two.deduplicated).toBe(false);
    expect((await one.getState()) === 'waiting' && (await two.getState()) === 'waiting').toBe(true);
  });

  test("'error' rejects, 'replace' gives a job that has not started another payload, 'rerun' runs a finished one again", async () => {
    const queue = b.queue();
    await queue.add('a', 1, { jobId: 'x' });
    await expect(queue.add('a', 1, { jobId: 'x', onDuplicate: 'error' })).rejects.toThrow(DuplicateJobError);
    await queue.add('a', 2, { jobId: 'x', onDuplicate: 'replace', priority: 3 });
    expect((await queue.getJob('x'))!.data).toBe(2);
    const seen: unknown[] = [];
    b.worker((job) => {
      seen.push(job.data);
      return job.data;
    });
    expect(await queue.finished('x')).toBe(2);
    await queue.add('a', 3, { jobId: 'x', onDuplicate: 'replace' }); // it has started: returned as it is
    await turn();
    const again = await queue.add('a', 4, { jobId: 'x', onDuplicate: 'rerun' });
    expect(again.deduplicated).toBe(false);
    expect(await queue.finished('x')).toBe(4);
    expect(seen).toEqual([2, 4]);
  });

  test('is remembered for idempotencyTtl after its record is gone, then forgotten', async () => {
    const queue = b.queue();
    b.worker(() => 'r');
    await queue.addAndWait('a', 1, { jobId: 'x', removeOnComplete: true, idempotencyTtl: 60_000 });
    await b.clock.advance(40_000); // no late waiter finds its result any more
    const again = await queue.add('a', 1, { jobId: 'x' });
    expect([again.deduplicated, again.returnvalue, again.id]).toEqual([true, undefined, 'x']);
    await b.clock.advance(30_000);
    const fresh = await queue.add('a', 1, { jobId: 'x' });
    expect(fresh.deduplicated).toBe(false);
  });

  test('with idempotencyTtl 0 is forgotten with its record', async () => {
    const queue = b.queue();
    b.worker(() => 'r');
    await queue.addAndWait('a', 1, { jobId: 'x', removeOnComplete: true, idempotencyTtl: 0 });
    await b.clock.advance(40_000);
    expect((await queue.add('a', 1, { jobId: 'x' })).deduplicated).toBe(false);
  });

  test('is forgotten by remove, and another payload under it is told', async () => {
    const queue = b.queue();
    const seen = await b.events();
    await queue.add('a', 1, { jobId: 'x' });
    await queue.add('a', 2, { jobId: 'x' });
    expect(seen.of('x')).toContain('duplicate:mismatch');
    expect(await queue.remove('x')).toBe(true);
    expect((await queue.add('a', 3, { jobId: 'x' })).deduplicated).toBe(false);
  });

  test('the ids remembered are bounded, oldest first, with an event', async () => {
    await b.close();
    b = await bench({ idempotencyMax: 2 });
    const queue = b.queue();
    const seen = await b.events();
    b.worker(() => 1);
    for (const jobId of ['a', 'b', 'c']) await queue.addAndWait('x', 1, { jobId, removeOnComplete: true });
    await b.clock.advance(40_000);
    expect(seen.all.filter((one) => one.event === 'idempotency:evicted').map((one) => one.jobId)).toEqual(['a']);
    expect((await queue.add('x', 1, { jobId: 'a' })).deduplicated).toBe(false);
    expect((await queue.add('x', 1, { jobId: 'c' })).deduplicated).toBe(true);
  });

  test('twice in one bulk is one job', async () => {
    const queue = b.queue();
    const [one, two] = await queue.addBulk([
      { name: 'a', data: 1, opts: { jobId: 'x' } },
      { name: 'a', data: 1, opts: { jobId: 'x' } },
    ]);
    expect([one!.deduplicated, two!.deduplicated]).toEqual([false, true]);
    expect((await queue.getJobCounts()).waiting).toBe(1);
  });
});

describe('what a job carries', () => {
  test('its options are what was given, also when it runs', async () => {
    const queue = b.queue();
    const given = {
      attempts: 7,
      backoff: { type: 'exponential', delay: 5, maxDelay: 90 },
      timeout: 1234,
      keepLogs: 3,
    } as const;
    await queue.add('a', { deep: [1, { two: 'zwei ü' }] }, given);
    const run = await b.hands().next();
    expect(run.job.opts).toMatchObject({ attempts: 7, timeout: 1234, keepLogs: 3 });
    expect(run.job.opts.backoff).toMatchObject({ type: 'exponential', delay: 5, maxDelay: 90 });
    expect(run.job.data).toEqual({ deep: [1, { two: 'zwei ü' }] });
    const read = await queue.getJob(run.job.id);
    expect(read!.opts).toEqual(run.job.opts);
    await run.complete();
  });

  test('generated ids grow, and tell what has gone from what never was', async () => {
    const queue = b.queue();
    const [one, two] = [await queue.add('a', 1), await queue.add('a', 1)];
    expect(Number(two.id.slice(1))).toBeGreaterThan(Number(one.id.slice(1)));
    await one.remove();
    await expect(queue.finished(one)).rejects.toMatchObject({ name: 'JobRemovedError' });
    await expect(queue.finished('j999999')).rejects.toMatchObject({ name: 'JobNotFoundError' });
  });

  test('bad input has an error with path, value and way out', async () => {
    const queue = b.queue();
    await expect(queue.add('a', 1, { prioritty: 1 } as never)).rejects.toThrow(/priority/);
    await expect(queue.add('a', 1, { priority: 1.5 })).rejects.toMatchObject({
      name: 'ValidationError',
      path: 'opts.priority',
    });
    await expect(queue.add('', 1)).rejects.toThrow(ValidationError);
    await expect(queue.add('a', 1n << 70n)).rejects.toThrow(/64 bits/);
    await expect(queue.add('a', 1, { jobId: 'cron:x' })).rejects.toThrow(/cron:/);
    await expect(queue.add('a', 'x'.repeat(11_000_000))).rejects.toThrow(/payloadLimit/);
    expect(() => new Queue('no spaces please', { connection: b.engine })).toThrow(ValidationError);
    expect((await queue.getJobCounts()).waiting).toBe(0);
  });
});
