/** What only a log of a certain shape can show: engines on a store in memory that lose the power, again and again. */
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type Bench, bench } from '../support/engine.js';
import { FaultStore } from '../support/fault-store.js';
import { temporaryDir } from '../support/places.js';
import { until } from '../threads/support.js';

let store: FaultStore;

beforeEach(() => {
  store = new FaultStore();
});

/** An engine on what the ones before have left; they have lost the power. */
async function open(options: object = {}): Promise<Bench> {
  store.crash();
  const opened = await bench({ store, ...options });
  opened.engine.on('warning', () => {}); // that it has been fenced off, when the next one is open
  onTestFinished(() => opened.engine.close({ timeout: 0 }).catch(() => {}));
  return opened;
}

/** Commits of their own that nobody needs any more. */
async function fill({ queue }: Bench, count: number): Promise<void> {
  const other = queue('other');
  for (let i = 0; i < count; i++) await other.remove(await other.add('filler', FILLER));
}
const FILLER = 'x'.repeat(250_000);
/** Some 20 MB, and what then is missing so that the older half is cleaned: it ends before what came in between. */
const OLDER = 80;
const NEWER = 60;

describe('a log that has been shortened', () => {
  /** Closes the gap between two openings: at the end something must have been forgotten. */
  async function reopen(b: Bench): Promise<Bench> {
    await fill(b, NEWER);
    expect(firstKept()).toBeGreaterThan(OLDER);
    return open();
  }

  function firstKept(): number {
    for (let position = 1; ; position++) if (store.read(position) !== undefined) return position;
  }

  test('changes of a job that has ended may outlive its first record', async () => {
    let b = await open();
    const queue = b.queue();
    await queue.pause();
    const early = await queue.addBulk(Array.from({ length: 3 }, (_, i) => ({ name: 'early', data: i })));
    await fill(b, OLDER);
    const stays = await queue.add('stays', 'here', { delay: 1e9 });
    for (const job of early) await job.changePriority(5);
    for (const job of early) await job.remove();
    b = await reopen(b);
    expect(b.engine.stats().jobs).toBe(1);
    expect((await b.queue().getJob(stays.id))?.data).toBe('here');
  });

  test('and those of one that was written anew', async () => {
    let b = await open();
    const queue = b.queue();
    await queue.pause();
    const job = await queue.add('early', 'old');
    await fill(b, OLDER);
    await queue.add('stays', 'here', { delay: 1e9 });
    await job.changePriority(5);
    await job.updateData('new');
    b = await reopen(b);
    const found = await b.queue().getJob(job.id);
    expect([found?.data, found?.priority]).toEqual(['new', 5]);
    expect(b.engine.stats().jobs).toBe(2);
  });

  test('a job may lie before the record of its queue, if that was changed', async () => {
    let b = await open();
    await b.queue().setConcurrency(3);
    await fill(b, OLDER);
    const queue = b.queue();
    const [job] = await queue.addBulk([
      { name: 'stays', data: 'here', opts: { jobId: 'mine' } },
      { name: 'goes', data: 'not here', opts: { jobId: 'removed' } },
    ]);
    await queue.pause();
    await queue.remove('removed');
    b = await reopen(b);
    const found = await b.queue().getJob('mine');
    expect([found?.id, found?.data, found?.queueName]).toEqual([job?.id, 'here', 'q']);
    expect(await b.queue().isPaused()).toBe(true);
    expect(await b.queue().getConfig()).toEqual({ concurrency: 3 });
    expect(b.engine.stats().jobs).toBe(1);
  });

  test.each([
    ['replaces it', (b: Bench) => b.queue().updateData('mine', 'new'), 'old'],
    ['removes it', (b: Bench) => b.queue().remove('mine'), 'old'],
  ] as const)('keeps what is needed until what %s is durable', async (_how, change, data) => {
    let b = await open();
    const queue = b.queue();
    await queue.pause();
    await queue.add('early', 'old', { jobId: 'mine' });
    await fill(b, OLDER);
    store.hold();
    const underway = b.queue('other').add('filler', 0);
    await until(() => store.held === 1);
    // The records at the log's beginning: that of the job, and those of the queues.
    const changes = [change(b), queue.resume(), b.queue('other').pause(), underway];
    for (const one of changes) one.catch(() => {}); // that the power failed
    await until(() => store.held === 2 || b.engine.state.journal?.hasChanges === true);
    store.release(1);
    await underway;
    b = await open();
    expect((await b.queue().getJob('mine'))?.data).toBe(data);
    expect(await b.queue().isPaused()).toBe(true);
  });

  test('that an engine was not closed is known even when its opening has been forgotten', async () => {
    let b = await open();
    await fill(b, OLDER);
    b = await reopen(b);
    expect(b.engine.state.journal?.isCareful).toBe(true);
    await b.engine.close();
    b = await open();
    expect(b.engine.state.journal?.isCareful).toBe(false);
  });
});

describe('dependents in the dead letter queue', () => {
  test('wait for nothing', async () => {
    let b = await open();
    const queue = b.queue();
    await queue.pause();
    const [first, second] = await queue.addBulk([
      { name: 'a', data: 0 },
      { name: 'b', data: 0 },
    ]);
    const dependent = await queue.add('c', 0, { dependsOn: [first!, second!] });
    await queue.moveToDlq(first!, 'first');
    expect(await dependent.getState()).toBe('failed');
    b = await open();
    const seen = await b.events();
    await b.queue().moveToDlq(second!.id, 'second');
    expect(seen.of(dependent.id)).toEqual([]);
    expect(await b.queue().getDlqCount()).toBe(3);
    expect(await b.queue().retryDlq()).toBe(3);
    expect((await b.queue().explain(dependent.id)).waitsFor.length).toBe(2);
  });
});

test('an id that was told is given to no other job, even if a crash undid the one that had it', async () => {
  let b = await open({ durability: 'relaxed' });
  await b.queue().add('kept', 0);
  await b.engine.state.journal?.flush();
  store.hold();
  const lost = await b.queue().add('lost', 0);
  b = await open({ durability: 'relaxed' });
  expect(await b.queue().getJob(lost.id)).toBeUndefined();
  const next = await b.queue().add('next', 0);
  expect(Number(next.id.slice(1))).toBeGreaterThan(Number(lost.id.slice(1)));
});

test('an engine whose last write fails says so when it is closed, and lets go of its directory', async () => {
  const dataDir = temporaryDir();
  const failing = await open({ dataDir });
  await failing.queue().add('kept', 0);
  store.failAt(store.appends + 1, { kind: 'full' });
  await expect(failing.engine.close()).rejects.toMatchObject({ code: 'FLASHQ_STORE', reason: 'full' });
  const b = await open({ dataDir });
  expect(await b.queue().getJobCounts()).toMatchObject({ waiting: 1 });
});

test('a job that was kept among few drives out nobody once more', async () => {
  let b = await open();
  b.worker((job) => job.data);
  await b.queue().addAndWait('few', 0, { removeOnComplete: 2 });
  for (let i = 0; i < 5; i++) await b.queue().addAndWait('many', i);
  b = await open();
  expect(await b.queue().getJobCounts()).toMatchObject({ completed: 6 });
});

test('a delay that ends before its job is written down lets nobody run it', async () => {
  const b = await open();
  const ran: string[] = [];
  b.worker((job) => void ran.push(job.name));
  await b.queue().addAndWait('first', 0);
  store.hold();
  const adding = b.queue().add('delayed', 0, { delay: 10 });
  await until(() => store.held === 1);
  await b.clock.advance(20);
  expect(ran).toEqual(['first']);
  store.release();
  await b.queue().finished(await adding);
  expect(ran).toEqual(['first', 'delayed']);
});
