/** What an engine finds again that an engine before it has left: order, turns, and times that ran on. */
import { type AddOptions, Engine, Queue, StoreError, TestClock } from 'flashq';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryStore } from '#engine/store/memory-store.js';
import { errorOf, Hand } from '../conformance/kit.js';
import { temporaryDir } from '../support/places.js';

const EAGER = { slack: 1.2, slackBytes: 200, stepBytes: 200, stepSlots: 50, forgetGroups: 1, forgetBytes: 1 };
const MINUTE_MS = 60_000;

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

async function reopen(downMs = 0): Promise<void> {
  await engine.close({ timeout: 0 });
  clock = new TestClock(clock.now() + downMs);
  await open();
}

/** The engine goes on, but its clock stands still and its log is another's. */
async function crash(downMs = 0): Promise<void> {
  const old = engine;
  await old.state.journal!.flush();
  clock = new TestClock(clock.now() + downMs);
  await open();
  await old.close({ timeout: 0 }).catch(() => {}); // what it still wants to write is refused
}

async function add(data: unknown, opts: AddOptions = {}): Promise<string> {
  return (await queue.add('job', data, opts)).id;
}

/** Runs what is there and gives its data, in order. */
async function order(): Promise<unknown[]> {
  const hand = new Hand('q', { connection: engine });
  await hand.worker.waitUntilReady();
  await settled();
  const ran: unknown[] = [];
  for (let run = hand.started[ran.length]; run !== undefined; run = hand.started[ran.length]) {
    ran.push(run.job.data);
    run.complete();
    await settled();
  }
  await hand.worker.close();
  return ran;
}

async function settled(): Promise<void> {
  for (let quiet = 0; quiet < 3; quiet++) {
    await clock.advance(0);
    await engine.connection.durable();
  }
}

/** Starts the first job, and leaves its run open. */
async function start(): Promise<void> {
  await new Hand('q', { connection: engine }).next();
}

test('dependents are released in the order in which they began to wait, wherever the log has them by now', async () => {
  engine.state.journal!.cleaner.limits = EAGER;
  const needed = await add('needed');
  await add(1, { dependsOn: [needed], jobId: 'one' });
  const two = await add(2, { dependsOn: [needed] });
  await add(3, { dependsOn: [needed] });
  // Anew, so behind the others, though its record is older.
  await add(4, { dependsOn: [needed], jobId: 'one', onDuplicate: 'replace' });
  // Among those that wait for the same, a priority changes nothing.
  await queue.changePriority(two, { priority: 0 });
  for (let i = 0; i < 20; i++) await queue.remove(await add('goes', { delay: MINUTE_MS }));
  expect(engine.state.journal!.ledger.oldest).toBeGreaterThan(1);
  await reopen();
  await reopen();
  expect(await order()).toEqual(['needed', 2, 3, 4]);
});

test('a job retried out of the dead letter queue waits behind those that wait for the same', async () => {
  await queue.pause();
  const needed = await add('needed');
  const first = await add(1, { dependsOn: [needed] });
  await add(2, { dependsOn: [needed] });
  await queue.moveToDlq(first, 'to be retried');
  await queue.retryDlq([first]);
  await reopen();
  await queue.resume();
  expect(await order()).toEqual(['needed', 2, 1]);
});

test('what a job waited for when it failed is nothing to it any more', async () => {
  await queue.pause();
  const needed = await add('needed');
  const moved = await add('moved', { dependsOn: [needed] });
  await queue.moveToDlq(moved, 'by hand');
  await reopen();
  await queue.cancel(needed);
  expect((await queue.getJob(moved))?.dlq?.reason).toBe('moved');
  expect((await queue.getJobCounts()).failed).toBe(1);
});

test('a record that was kept stays, though another of its state says that only one may be', async () => {
  await add('kept', { removeOnComplete: { count: 1 } });
  await add('more', { removeOnComplete: { count: 5 } });
  await order();
  expect((await queue.getJobCounts()).completed).toBe(2);
  await reopen();
  await settled();
  expect((await queue.getJobCounts()).completed).toBe(2);
});

test('a job whose ttl ended while no engine ran does not start', async () => {
  const late = await add('late', { ttl: MINUTE_MS });
  await add('in time');
  await reopen(2 * MINUTE_MS);
  expect(await order()).toEqual(['in time']);
  expect((await queue.getJob(late))?.dlq?.reason).toBe('expired');
});

test('retryDlq counts lost runs anew', async () => {
  const lost = await add('lost', { maxDeliveries: 2 });
  for (const state of ['waiting', 'failed']) {
    await start();
    await crash();
    expect(await queue.getJobState(lost)).toBe(state);
  }
  expect((await queue.getJob(lost))?.dlq?.reason).toBe('worker_lost');
  expect(await queue.retryDlq(lost)).toBe(1);
  await start();
  await crash();
  expect(await queue.getJobState(lost)).toBe('waiting');
});

test('what was lost comes to the head of its priority', async () => {
  await add('lost');
  await add('behind');
  await start();
  await add('before', { priority: 1 });
  await crash();
  expect(await order()).toEqual(['before', 'lost', 'behind']);
});

test('what the end of a lost run releases is ready before what became due meanwhile', async () => {
  await add('lost', { maxDeliveries: 1 });
  await start();
  await add('released', { dependsOn: ['j1'], onDependencyFailure: 'run' });
  await add('due', { delay: MINUTE_MS });
  await crash(MINUTE_MS);
  expect(await order()).toEqual(['released', 'due']);
});

test('a job lost twice keeps its place while it waits, and others that were lost as often keep theirs behind it', async () => {
  for (const data of [1, 2, 3]) {
    await add(data, { priority: data });
    for (let lost = 0; lost < 2; lost++) {
      await queue.resume();
      await start();
      await queue.pause();
      await crash();
    }
    // Out of the way of the next one, unless it has to wait for its turn anyway.
    for (const { id } of await all()) await queue.changePriority(id, { priority: -1 });
  }
  expect(await states()).toEqual(['waiting', 'blocked', 'blocked']);
  await add('other', { priority: 5 });
  await reopen();
  expect(await states()).toEqual(['waiting', 'blocked', 'blocked']);
  await queue.resume();
  // The last one that was lost came to the head of those that have to wait.
  expect((await order()).slice(0, 4)).toEqual(['other', 1, 3, 2]);
});

test.each(['closed', 'crashed'])(
  'a run that waited still waits after the engine was %s, and runs again when that has settled',
  async (how) => {
    const [fails, completes] = [await add('fails'), await add('completes', { delay: MINUTE_MS })];
    const waits = await add('waits', { priority: 1, onDependencyFailure: 'fail', maxDeliveries: 1 });
    await queue.changePriority(waits, { priority: 9 });
    const hand = new Hand('q', { connection: engine });
    const run = await hand.next();
    run.fail(await errorOf(run.job.waitFor([fails, completes])));
    (await hand.next()).fail(new Error('no'));
    await settled();
    await (how === 'closed' ? reopen() : crash());
    expect(await queue.getJobState(waits)).toBe('blocked');
    expect((await queue.explain(waits)).waitsFor.map((one) => one.id)).toContain(completes);
    await clock.advance(MINUTE_MS);
    expect(await order()).toEqual(['completes', 'waits']);
    expect((await queue.getJob(waits))?.toJSON()).toMatchObject({ attemptsMade: 0, attemptsStarted: 2 });
  },
);

test('what an awaited job came to while the log did not know is heard of after a crash', async () => {
  const gate = await add('gate');
  const waits = await add('waits', { priority: 1 });
  const hand = new Hand('q', { connection: engine });
  const run = await hand.next();
  run.fail(await errorOf(run.job.waitFor(gate)));
  await hand.next(); // the gate's run is lost with the engine
  await settled();
  await crash();
  expect(await order()).toEqual(['gate', 'waits']);
  expect((await queue.getJob(waits))?.attemptsStarted).toBe(2);
});

test('a run that was about to wait when the engine crashed is a lost one, and waits for nothing', async () => {
  const gate = await add('gate', { delay: MINUTE_MS });
  const waits = await add('waits');
  const hand = new Hand('q', { connection: engine });
  await errorOf((await hand.next()).job.waitFor(gate));
  await settled();
  await crash();
  expect(await queue.getJobState(waits)).toBe('waiting');
  expect((await queue.explain(waits)).waitsFor).toEqual([]);
  expect(await order()).toEqual(['waits']);
});

test('an engine that can write nothing more when it is closed lets go of its directory', async () => {
  const dataDir = temporaryDir();
  const first = await Engine.open({ dataDir, store, durability: 'relaxed' });
  first.on('warning', () => {});
  await new Queue('q', { connection: first }).add('lost', 0);
  await store.open('main', 'somebody else');
  await expect(first.close()).rejects.toThrow(StoreError);
  const second = await Engine.open({ dataDir, store });
  await second.close();
});

const LOST = ['j1', 'j2', 'j3'];

async function all(): Promise<{ id: string }[]> {
  const jobs = await Promise.all(LOST.map((id) => queue.getJob(id)));
  return jobs.filter((job) => job !== undefined);
}

function states(): Promise<string[]> {
  return Promise.all(LOST.map((id) => queue.getJobState(id)));
}
