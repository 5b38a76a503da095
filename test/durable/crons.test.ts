/** Crons over the ends of engines: no tick is lost or comes twice, wherever the log ends, and what was missed is made up for as they say. */
import { type CronOptions, Engine, type Job, Queue, QueueEvents, TestClock } from 'flashq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LogStore } from '#engine/store/log-store.js';
import { MemoryStore } from '#engine/store/memory-store.js';
import { Hand } from '../conformance/kit.js';
import { FaultStore } from '../support/fault-store.js';
import { SMALL } from '../support/lived.js';
import { Tape } from '../support/tape.js';

const MINUTE = 60_000;
const START = Date.UTC(2025, 0, 1);

let store: LogStore;
let clock: TestClock;
let engine: Engine;
let queue: Queue;

async function open(at: number): Promise<void> {
  clock = new TestClock(at);
  engine = await Engine.open({ clock, store, ...SMALL });
  queue = new Queue('q', { connection: engine });
}

async function reopen(downMs: number): Promise<void> {
  await engine.close({ timeout: 0 });
  await open(clock.now() + downMs);
}

async function settled(): Promise<void> {
  for (let quiet = 0; quiet < 3; quiet++) {
    await clock.advance(0);
    await engine.connection.durable();
  }
}

async function pass(ms: number): Promise<void> {
  await clock.advance(ms);
  await settled();
}

beforeEach(async () => {
  store = new MemoryStore();
  await open(START);
});
afterEach(() => engine.close({ timeout: 0 }).catch(() => {}));

/** The jobs of ticks until now, by the minutes of their ticks. */
async function jobsOf(name: string, everyMs = MINUTE): Promise<{ minute: number; job: Job }[]> {
  const found: { minute: number; job: Job }[] = [];
  for (let at = START; at <= clock.now(); at += everyMs) {
    const job = await queue.getJob(`cron:${name}:${at}`);
    if (job !== undefined) found.push({ minute: (at - START) / MINUTE, job });
  }
  return found;
}

async function minutesOf(name: string): Promise<number[]> {
  return (await jobsOf(name)).map(({ minute }) => minute);
}

async function total(): Promise<number> {
  const { paused: _paused, ...counts } = await queue.getJobCounts();
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

describe('after a reopening', () => {
  test('a cron is as it was: its next tick, its last, its runs and its limit', async () => {
    await queue.addCron('c', { every: MINUTE, limit: 3, overlap: 'allow', data: { at: new Date(7) } });
    await queue.addCron('asleep', { schedule: '0 0 * * *' });
    await queue.pauseCron('asleep');
    await pass(2 * MINUTE + 1000);
    const before = await queue.listCrons();
    await reopen(1000);
    expect(await queue.listCrons()).toEqual(before);
    expect(before).toMatchObject([{ runs: 2, next: START + 3 * MINUTE, data: { at: new Date(7) } }, { paused: true }]);
    await pass(10 * MINUTE);
    expect(await minutesOf('c')).toEqual([1, 2, 3]);
    expect(await queue.listCrons()).toMatchObject([
      { runs: 3, next: undefined },
      { paused: true, next: undefined },
    ]);
  });

  test('adding the same again at the start of a service changes nothing', async () => {
    const options: CronOptions = {
      every: MINUTE,
      data: { list: [1, { a: null }] },
      immediately: true,
      overlap: 'allow',
    };
    await queue.addCron('c', options);
    await pass(1000);
    await reopen(1000);
    await queue.addCron('c', options);
    expect(await total()).toBe(1);
  });

  test('a clock that was put back fires no tick again', async () => {
    await queue.addCron('c', { every: MINUTE, overlap: 'allow', missed: 'all' });
    await pass(3 * MINUTE);
    await reopen(-2 * MINUTE);
    await pass(2 * MINUTE);
    expect(await queue.listCrons()).toMatchObject([{ runs: 3, next: START + 4 * MINUTE }]);
    await pass(MINUTE);
    expect(await minutesOf('c')).toEqual([1, 2, 3, 4]);
  });

  test('a cron that was removed stays away, and one of a queue that was obliterated', async () => {
    await queue.addCron('c', { every: MINUTE });
    await new Queue('other', { connection: engine }).addCron('d', { every: MINUTE });
    await queue.removeCron('c');
    await new Queue('other', { connection: engine }).obliterate();
    await reopen(MINUTE);
    expect(await queue.listCrons({ all: true })).toEqual([]);
  });

  test('the job of the tick before still counts for overlap', async () => {
    await queue.addCron('c', { every: MINUTE });
    await pass(MINUTE);
    await reopen(1000);
    await pass(MINUTE);
    expect(await minutesOf('c')).toEqual([1]);
  });

  test('a kept tick waits for the one before', async () => {
    await queue.addCron('c', { every: MINUTE, overlap: 'buffer' });
    await pass(2 * MINUTE);
    await reopen(1000);
    expect((await queue.getJobCounts()).blocked).toBe(1);
    const hand = new Hand('q', { connection: engine, concurrency: 5 });
    (await hand.next()).complete();
    expect((await hand.next()).job.id).toBe(`cron:c:${START + 2 * MINUTE}`);
  });
});

describe('ticks that passed while the engine was down', () => {
  async function madeAfter(downMs: number, options: CronOptions): Promise<{ minute: number; backfilled: boolean }[]> {
    await queue.addCron('c', { every: MINUTE, overlap: 'allow', ...options });
    await pass(MINUTE);
    await reopen(downMs);
    await settled();
    return (await jobsOf('c')).map(({ minute, job }) => ({ minute, backfilled: job.cron!.backfilled }));
  }

  const FIRST = { minute: 1, backfilled: false };

  test('once, the default: one job for all, of the last', async () => {
    expect(await madeAfter(3.5 * MINUTE, {})).toEqual([FIRST, { minute: 4, backfilled: true }]);
  });

  test('skip: none, and the next comes in its time', async () => {
    expect(await madeAfter(3.5 * MINUTE, { missed: 'skip' })).toEqual([FIRST]);
    await pass(MINUTE);
    expect(await minutesOf('c')).toEqual([1, 5]);
  });

  test('all: each', async () => {
    expect(await madeAfter(3.5 * MINUTE, { missed: 'all' })).toEqual([
      FIRST,
      ...[2, 3, 4].map((minute) => ({ minute, backfilled: true })),
    ]);
  });

  test('all: even if they overlap, since each was asked for', async () => {
    await queue.addCron('c', { every: MINUTE, missed: 'all' });
    await pass(MINUTE);
    await reopen(2.5 * MINUTE);
    expect(await minutesOf('c')).toEqual([1, 2, 3]);
    await pass(MINUTE);
    expect(await minutesOf('c')).toEqual([1, 2, 3]); // and this one overlaps
  });

  test('all: at most missedMax, the newest', async () => {
    const made = await madeAfter(1000.5 * MINUTE, { missed: 'all', missedMax: 3 });
    expect(made.map(({ minute }) => minute)).toEqual([1, 999, 1000, 1001]);
  });

  test('no more than the limit has left', async () => {
    expect((await madeAfter(10 * MINUTE, { missed: 'all', limit: 3 })).map(({ minute }) => minute)).toEqual([1, 2, 3]);
    expect(await queue.listCrons()).toMatchObject([{ runs: 3, next: undefined }]);
  });

  test('none passed: nothing', async () => {
    expect(await madeAfter(1000, { missed: 'all' })).toEqual([FIRST]);
  });

  test('once counts as an overlap, too', async () => {
    await queue.addCron('c', { every: MINUTE });
    await pass(MINUTE);
    await reopen(3.5 * MINUTE);
    expect(await minutesOf('c')).toEqual([1]);
  });

  test('a schedule of days, weeks later', async () => {
    await queue.addCron('c', { schedule: '0 9 * * 1-5', tz: 'Europe/Berlin', missed: 'all', missedMax: 2 });
    await reopen(21 * 24 * 60 * MINUTE);
    const ids = [Date.UTC(2025, 0, 20, 8), Date.UTC(2025, 0, 21, 8)].map((at) => `cron:c:${at}`);
    expect(await Promise.all(ids.map((id) => queue.getJobState(id)))).toEqual(['waiting', 'waiting']);
    expect(await total()).toBe(2);
  });
});

describe('ticks that passed while the engine stood still', () => {
  /** The process slept, or was kept busy: the clock has jumped when the timer rings. */
  function stall(ms: number): void {
    const now = clock.now.bind(clock);
    clock.now = () => now() + ms;
  }

  async function madeAfter(ms: number, options: CronOptions): Promise<[minute: number, backfilled: boolean][]> {
    await queue.addCron('c', { every: MINUTE, overlap: 'allow', ...options });
    await pass(MINUTE - 1);
    stall(ms);
    await pass(1);
    return (await jobsOf('c')).map(({ minute, job }) => [minute, job.cron!.backfilled]);
  }

  test('one that is late by less than a minute is on time', async () => {
    expect(await madeAfter(30_000, { missed: 'skip' })).toEqual([[1, false]]);
  });

  test('of many the last is on time when it is', async () => {
    expect(await madeAfter(3.5 * MINUTE, { missed: 'all' })).toEqual([
      [1, true],
      [2, true],
      [3, true],
      [4, false],
    ]);
  });

  test('skip: only that one', async () => {
    const events = new QueueEvents('q', { connection: engine });
    const skipped: unknown[] = [];
    events.on('cron:skipped', (args) => skipped.push(args));
    expect(await madeAfter(3.5 * MINUTE, { missed: 'skip' })).toEqual([[4, false]]);
    expect(skipped).toMatchObject([{ name: 'c', scheduledFor: START + MINUTE, reason: 'missed' }]);
    await events.close();
  });

  test('once: one for all', async () => {
    expect(await madeAfter(3.5 * MINUTE, {})).toEqual([[4, false]]);
  });

  test('a daily one that is hours late has been missed', async () => {
    await queue.addCron('c', { schedule: '0 1 * * *' });
    await pass(59 * MINUTE);
    stall(5 * 60 * MINUTE);
    await pass(MINUTE);
    expect((await queue.getJob(`cron:c:${START + 60 * MINUTE}`))!.cron).toMatchObject({ backfilled: true });
  });
});

describe('at every end that the log can have', () => {
  /** Lives with crons: ticks come, jobs run, some overlap. */
  async function live(): Promise<void> {
    await queue.addCron('each', { every: MINUTE, missed: 'all', overlap: 'allow' });
    await queue.addCron('limited', { every: MINUTE, missed: 'all', limit: 4, overlap: 'allow' });
    const hand = new Hand('q', { connection: engine, concurrency: 2 });
    await hand.worker.waitUntilReady();
    for (let minute = 1; minute <= 6; minute++) {
      await pass(MINUTE);
      for (const run of hand.rest()) run.complete(minute);
      await settled();
      if (minute === 3)
        await queue.addCron('each', { every: MINUTE, missed: 'all', overlap: 'allow', data: 'changed' });
    }
  }

  async function expectEachOnce(minutes: number): Promise<void> {
    const names = (await queue.listCrons()).map(({ name }) => name);
    const made = { each: await minutesOf('each'), limited: await minutesOf('limited') };
    const all = Array.from({ length: minutes }, (_, i) => i + 1);
    expect(made.each).toEqual(names.includes('each') ? all : []);
    expect(made.limited).toEqual(names.includes('limited') ? all.slice(0, 4) : []);
    expect(await total()).toBe(made.each.length + made.limited.length);
    for (const { name, runs } of await queue.listCrons()) expect(runs).toBe(made[name as 'each' | 'limited'].length);
  }

  test('each tick is one job', async () => {
    await engine.close();
    const whole = new FaultStore();
    store = whole;
    await open(START);
    await live();
    await expectEachOnce(6);
    const { kept } = whole;
    await engine.close({ timeout: 0 });
    expect(kept.length).toBeGreaterThan(20);
    for (let count = 1; count <= kept.length; count++) {
      store = new Tape(kept.slice(0, count));
      await open(START + 6 * MINUTE);
      await settled();
      await expectEachOnce(6);
      await pass(MINUTE);
      await expectEachOnce(7);
      await engine.close({ timeout: 0 });
    }
  });

  test('and when that append fails and the next engine goes on from there', async () => {
    await engine.close();
    const whole = new FaultStore();
    store = whole;
    await open(START);
    await live();
    await engine.close({ timeout: 0 });
    for (let nth = 3; nth < whole.appends; nth += 2) {
      const failing = new FaultStore();
      failing.failAt(nth, { kind: 'sync', kept: nth % 4 === 1 });
      store = failing;
      await open(START);
      engine.on('warning', () => {});
      await live().catch(() => {});
      await engine.close({ timeout: 0 }).catch(() => {});
      await open(START + 6 * MINUTE);
      await expectEachOnce(6);
      await engine.close({ timeout: 0 });
    }
  });
});
