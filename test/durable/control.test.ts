/** What was done to queues, and keys of deduplication, over the end of an engine: in order, and by a crash. */
import { Engine, Queue, TestClock } from 'flashq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemoryStore } from '#engine/store/memory-store.js';
import { Hand } from '../conformance/kit.js';

let store: MemoryStore;
let clock: TestClock;
let engine: Engine;
let queue: Queue;

beforeEach(async () => {
  store = new MemoryStore();
  clock = new TestClock();
  await open();
});

afterEach(() => engine.close({ timeout: 0 }).catch(() => {}));

async function open(): Promise<void> {
  engine = await Engine.open({ clock, store });
  engine.on('warning', () => {}); // when its log is another's
  queue = new Queue('q', { connection: engine });
}

type Ending = (downMs?: number) => Promise<void>;

const reopen: Ending = async (downMs = 0) => {
  await engine.close({ timeout: 0 });
  clock = new TestClock(clock.now() + downMs);
  await open();
};

/** The engine goes on, but its clock stands still and its log is another's. */
const crash: Ending = async (downMs = 0) => {
  const old = engine;
  await old.state.journal?.flush();
  clock = new TestClock(clock.now() + downMs);
  await open();
  await old.close({ timeout: 0 }).catch(() => {}); // what it still wants to write is refused
};

const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await clock.advance(0);
};

async function hand(): Promise<Hand> {
  const one = new Hand('q', { connection: engine });
  await one.worker.waitUntilReady();
  return one;
}

async function failAll(): Promise<void> {
  const one = await hand();
  await settled();
  for (let run = one.started.shift(); run !== undefined; run = one.started.shift()) {
    run.fail(new Error('boom'));
    await settled();
  }
  await one.worker.close();
}

describe.each([
  ['an orderly end', reopen],
  ['a crash', crash],
])('%s', (_name, again) => {
  test('settings are as the last call left them', async () => {
    const config = {
      rateLimit: { max: 5, duration: 1000 },
      concurrency: 2,
      dlq: { age: 5000, count: 3, threshold: 2, redriveRate: 1 },
      idempotencyTtl: 5,
      idempotencyMax: 7,
      maxDeliveries: 2,
    };
    await queue.configure(config);
    await queue.configure({ concurrency: 3 });
    await again();
    expect(await queue.getConfig()).toEqual({ ...config, concurrency: 3 });
    await queue.configure({ dlq: null, concurrency: null });
    await again();
    const { dlq: _dlq, concurrency: _concurrency, ...rest } = config;
    expect(await queue.getConfig()).toEqual(rest);
  });

  test('what was retried, purged or cleaned stays so', async () => {
    const jobs = await queue.addBulk([1, 2, 3].map((data) => ({ name: `n${data}`, data })));
    await failAll();
    await queue.pause();
    expect(await queue.retryDlq(jobs[0] as never)).toBe(1);
    expect(await queue.purgeDlq({ name: 'n2' })).toBe(1);
    expect(await queue.clean(0, 0, 'failed')).toHaveLength(1);
    await again();
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 1, failed: 0 });
  });

  test('jobs that wait for their turn by the redriveRate wait on', async () => {
    await queue.configure({ dlq: { redriveRate: 1 } });
    await queue.addBulk([1, 2, 3].map((data) => ({ name: 'n', data })));
    await failAll();
    expect(await queue.retryDlq()).toBe(3);
    await again(500);
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 1, delayed: 2 });
    await clock.advance(501);
    expect(await queue.getJobCounts()).toMatchObject({ waiting: 2, delayed: 1 });
  });

  test('the age of what is in the dead letter queue runs on', async () => {
    await queue.configure({ dlq: { age: 1000 } });
    await queue.add('a', 1);
    await failAll();
    await again(600);
    expect(await queue.getDlqCount()).toBe(1);
    await clock.advance(401);
    expect(await queue.getDlqCount()).toBe(0);
  });

  test('a key is held by its job, and freed with its end', async () => {
    const deduplication = { id: 'k' };
    const job = await queue.add('a', 1, { deduplication });
    await again();
    expect((await queue.add('a', 2, { deduplication })).id).toBe(job.id);
    await failAll();
    await again();
    expect((await queue.add('a', 3, { deduplication })).deduplicated).toBe(false);
  });

  test('a key with a ttl is held for its time, which runs on', async () => {
    const deduplication = { id: 'k', ttl: 1000 };
    const job = await queue.add('a', 1, { deduplication, removeOnFail: true });
    await failAll();
    await again(600);
    expect((await queue.add('a', 2, { deduplication })).id).toBe(job.id);
    await again(500);
    expect(await queue.getDeduplicationJobId('k')).toBeNull();
    expect((await queue.add('a', 3, { deduplication })).deduplicated).toBe(false);
  });

  test('the last add while a job ran is added when the run that it interrupted has ended', async () => {
    const deduplication = { id: 'k', keepLastIfActive: true };
    await queue.add('a', 'first', { deduplication });
    const before = await hand();
    await before.next();
    await queue.add('a', new Date(5), { deduplication, priority: 2 });
    await again();
    expect(await queue.count()).toBe(1);
    const after = await hand();
    const run = await after.next();
    expect(run.job.data).toBe('first');
    run.complete();
    const next = await after.next();
    expect([next.job.data, next.job.priority]).toEqual([new Date(5), 2]);
    next.complete();
    await settled();
    expect(await queue.getDeduplicationJobId('k')).toBeNull();
  });

  test('a key that was released, or went with its queue, stays free', async () => {
    await queue.add('a', 1, { deduplication: { id: 'x' } });
    await queue.add('a', 1, { deduplication: { id: 'y', ttl: 1e6 } });
    await queue.removeDeduplicationKey('x');
    await again();
    expect(await queue.getDeduplicationJobId('x')).toBeNull();
    expect(await queue.getDeduplicationJobId('y')).not.toBeNull();
    await queue.obliterate();
    await again();
    expect(await queue.getDeduplicationJobId('y')).toBeNull();
  });

  test('the time of a pause does not count for a ttl, whatever of it the engine was down', async () => {
    const job = await queue.add('a', 1, { ttl: 1000, expireWhilePaused: false });
    await clock.advance(400);
    await queue.pause();
    await clock.advance(300);
    await again(10_000);
    expect(await queue.getJobState(job)).toBe('waiting');
    await queue.resume();
    await again(599);
    expect(await queue.getJobState(job)).toBe('waiting');
    await clock.advance(2);
    expect(await queue.getJobState(job)).toBe('failed');
  });

  test('tags are found', async () => {
    await queue.add('a', 1, { tags: ['x'] });
    await again();
    expect((await queue.getJobs({ filter: { tag: 'x' } })).jobs).toHaveLength(1);
  });

  test('a cursor from before is refused', async () => {
    await queue.addBulk([1, 2].map((data) => ({ name: 'n', data })));
    const { cursor } = await queue.getJobs({ limit: 1 });
    const opened = Date.now();
    while (Date.now() === opened); // engines are told apart by the millisecond in which they were opened
    await again();
    await expect(queue.getJobs({ cursor })).rejects.toThrow(/opened anew/);
  });
});

test('explain: a job that is not on the disk yet waits for that', async () => {
  const adding = queue.add('a', 1, { jobId: 'x' });
  expect((await queue.explain('x')).reason).toMatch(/on the disk/);
  await adding;
  expect((await queue.explain('x')).reason).toMatch(/No worker/);
});
