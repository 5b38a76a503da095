import { UnknownDependencyError } from 'flashq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Bench, bench, turn } from '../support/engine.js';

let b: Bench;
beforeEach(async () => {
  b = await bench();
});
afterEach(() => b.close());

describe('depends_on', () => {
  test('runs when all are completed, with their results in order, across queues', async () => {
    const [one, two] = [b.queue('one'), b.queue('two')];
    b.worker((job) => job.data * 10, {}, 'one');
    const first = await one.add('a', 1);
    const second = await one.add('b', 2, { jobId: 'own' });
    const last = await two.add('sum', 0, { depends_on: [first, { queue: 'one', id: 'own' }, first] });
    const seen: unknown[] = [];
    b.worker(
      async (job) => {
        seen.push(await job.getDependencyResults(), await job.getDependencies());
        return 'done';
      },
      {},
      'two',
    );
    expect(await two.finished(last)).toBe('done');
    expect(seen[0]).toEqual({ [`one:${first.id}`]: 10, 'one:own': 20 });
    expect(seen[1]).toEqual([
      { queue: 'one', id: first.id, state: 'completed', result: 10 },
      { queue: 'one', id: second.id, state: 'completed', result: 20 },
    ]);
  });

  test('on a job already completed is satisfied at once, even if its record is gone; [] means none', async () => {
    const queue = b.queue();
    b.worker(() => 1);
    const done = await queue.add('a', 1, { removeOnComplete: true });
    await queue.finished(done);
    await b.clock.advance(60_000);
    expect(await queue.getJob(done)).toBeUndefined();
    expect(await queue.addAndWait('b', 1, { depends_on: [done] })).toBe(1);
    expect(await queue.addAndWait('c', 1, { depends_on: [] })).toBe(1);
  });

  test('on one that never existed is refused by name', async () => {
    const error = await b
      .queue()
      .add('a', 1, { depends_on: ['nobody'] })
      .catch((thrown: Error) => thrown);
    expect(error).toBeInstanceOf(UnknownDependencyError);
    expect((error as Error).message).toContain('nobody');
  });

  test('10,000 of them, with a failing one in the middle', async () => {
    const queue = b.queue();
    b.worker((job) => {
      if (job.data === 5000) throw new Error('the one');
      return job.data;
    });
    const jobs = await queue.addBulk(Array.from({ length: 10_000 }, (_, i) => ({ name: 'a', data: i })));
    const last = await queue.add('last', -1, { depends_on: jobs, onDependencyFailure: 'run' });
    expect(await queue.finished(last)).toBe(-1);
    expect(Object.keys(await last.getDependencyFailures()).length).toBe(1);
  });

  test('a delay counts from the release, and the order is that of the release', async () => {
    const queue = b.queue();
    const hands = b.hands();
    const first = await queue.add('first', 1);
    const later = await queue.add('later', 1, { depends_on: [first], delay: 100 });
    const run = await hands.next();
    await b.clock.advance(500);
    await run.complete();
    expect(await later.getState()).toBe('delayed');
    await b.clock.advance(100);
    expect((await hands.next()).job.name).toBe('later');
  });

  test('explain says what a job waits for', async () => {
    const queue = b.queue();
    const first = await queue.add('first', 1);
    const last = await queue.add('last', 1, { depends_on: [first] });
    const { state, reason, waitsFor } = await queue.explain(last);
    expect(state).toBe('blocked');
    expect(reason).toMatch(/1 job/);
    expect(waitsFor).toEqual([{ queue: 'q', id: first.id, state: 'waiting' }]);
  });

  test('its dependencies can still be read after it has finished', async () => {
    const queue = b.queue();
    b.worker(() => 5);
    const first = await queue.add('first', 1);
    const last = await queue.add('last', 1, { depends_on: [first] });
    await queue.finished(last);
    expect((await last.getDependencies()).map(({ id }) => id)).toEqual([first.id]);
  });
});

type End = 'failed' | 'cancelled' | 'removed';
const POLICIES = ['fail', 'run', 'run-now', 'cancel', 'wait'] as const;
const EXPECTED: Record<(typeof POLICIES)[number], Record<End, string>> = {
  fail: { failed: 'failed', cancelled: 'failed', removed: 'failed' },
  run: { failed: 'blocked', cancelled: 'blocked', removed: 'blocked' }, // the other one is still open
  'run-now': { failed: 'waiting', cancelled: 'waiting', removed: 'waiting' },
  cancel: { failed: 'cancelled', cancelled: 'cancelled', removed: 'cancelled' },
  wait: { failed: 'blocked', cancelled: 'failed', removed: 'failed' },
};

describe('onDependencyFailure', () => {
  for (const policy of POLICIES) {
    for (const end of ['failed', 'cancelled', 'removed'] as const) {
      test(`'${policy}' when a dependency is ${end}: ${EXPECTED[policy][end]}`, async () => {
        const queue = b.queue();
        const [bad, open] = [await queue.add('bad', 1, { priority: 1 }), await queue.add('open', 1, { delay: 1e9 })];
        const job = await queue.add('last', 1, { depends_on: [bad, open], onDependencyFailure: policy, delay: 0 });
        if (end === 'removed') await queue.remove(bad);
        else if (end === 'cancelled') await queue.cancel(bad);
        else await queue.moveToDlq(bad, 'by hand');
        expect(await job.getState()).toBe(EXPECTED[policy][end]);
        if (EXPECTED[policy][end] === 'failed') {
          const read = await queue.getJob(job);
          expect(read!.dlq!.reason).toBe('dependency_failed');
          expect(read!.failedReason).toContain(bad.id);
        }
        if (policy === 'run') {
          await queue.cancel(open);
          expect(await job.getState()).toBe('waiting');
        }
      });
    }

    test(`'${policy}' when a dependency had failed before`, async () => {
      const queue = b.queue();
      const bad = await queue.add('bad', 1);
      await queue.moveToDlq(bad, 'by hand');
      const job = await queue.add('last', 1, { depends_on: [bad], onDependencyFailure: policy });
      const expected = { fail: 'failed', run: 'waiting', 'run-now': 'waiting', cancel: 'cancelled', wait: 'blocked' }[
        policy
      ];
      expect(await job.getState()).toBe(expected);
    });
  }

  test('a job lost this way goes back to blocked when it and its dependency are retried', async () => {
    const queue = b.queue();
    const bad = await queue.add('bad', 1);
    const job = await queue.add('last', 1, { depends_on: [bad] });
    await queue.moveToDlq(bad, 'by hand');
    expect(await job.getState()).toBe('failed');
    expect(await queue.retryDlq(job)).toBe(0); // its dependency is still failed
    expect(await queue.retryDlq()).toBe(2);
    expect([await bad.getState(), await job.getState()]).toEqual(['waiting', 'blocked']);
    b.worker(() => 1);
    expect(await queue.finished(job)).toBe(1);
  });

  test("a chain falls as a whole, however long, and 'wait' goes on when the dependency is retried", async () => {
    const queue = b.queue();
    const bad = await queue.add('bad', 1);
    const patient = await queue.add('patient', 1, { depends_on: [bad], onDependencyFailure: 'wait' });
    let before = bad;
    for (let i = 0; i < 3000; i++) before = await queue.add(`c${i}`, 1, { depends_on: [before] });
    await queue.moveToDlq(bad, 'by hand');
    expect(await before.getState()).toBe('failed');
    expect(await patient.getState()).toBe('blocked');
    await queue.retryDlq(bad);
    b.worker(() => 1);
    expect(await queue.finished(patient)).toBe(1);
  });

  test("a dependency's result is kept for its dependents, whatever its own retention", async () => {
    const queue = b.queue();
    const hands = b.hands();
    const first = await queue.add('first', 1, { removeOnComplete: true });
    const gate = await queue.add('gate', 1);
    const last = await queue.add('last', 1, { depends_on: [first, gate] });
    await (await hands.next()).complete('kept');
    await b.clock.advance(7_200_000);
    const run = await hands.next();
    await run.complete();
    const { job, complete } = await hands.next();
    expect(job.id).toBe(last.id);
    expect((await job.getDependencyResults())[first.id]).toBe('kept');
    await complete();
    await turn();
  });
});
