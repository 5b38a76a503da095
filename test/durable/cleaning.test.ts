/** What is cleaned out of a log is missed by nobody: an engine opened on what is left has all that there was. */
import { Engine, type Job, Queue, TestClock } from 'flashq';
import { expect, test } from 'vitest';
import { MemoryStore } from '#engine/store/memory-store.js';
import { Replay } from '#engine/store/replay.js';

/** Cleans soon, and little at a time. */
const EAGER = { slack: 1.5, slackBytes: 200, stepBytes: 200, stepSlots: 50, forgetGroups: 1, forgetBytes: 1 };
const LATER_MS = 60_000;

async function opened(store: MemoryStore): Promise<{ engine: Engine; queue: Queue }> {
  const engine = await Engine.open({ clock: new TestClock(), store });
  engine.on('warning', () => {});
  engine.state.journal!.cleaner.limits = EAGER;
  return { engine, queue: new Queue('q', { connection: engine }) };
}

function ledgerOf(engine: Engine) {
  return engine.state.journal!.ledger;
}

test('changes of jobs whose beginning was forgotten are no damage: the jobs have gone', async () => {
  const store = new MemoryStore();
  const { engine, queue } = await opened(store);
  const stay: Job[] = [];
  for (let i = 0; i < 30; i++) {
    const goes = await queue.add('goes', i, { delay: LATER_MS });
    // The change of one and all of the other are in one group, which is kept for the other.
    const [, stays] = await Promise.all([
      queue.changeDelay(goes.id, 2 * LATER_MS),
      queue.add('stays', i, { delay: LATER_MS }),
    ]);
    stay.push(stays);
    await queue.remove(goes.id);
  }
  expect(ledgerOf(engine).oldest).toBeGreaterThan(1);
  await engine.close();
  const again = await opened(store);
  expect(await again.queue.getJobCounts()).toMatchObject({ delayed: stay.length });
  for (const [i, { id }] of stay.entries()) expect((await again.queue.getJob(id))?.data).toBe(i);
  await again.engine.close();
});

test('jobs that stand before the record of their queue, since that was written anew, are in it', async () => {
  const store = new MemoryStore();
  let { engine, queue } = await opened(store);
  const ids: string[] = [];
  let isCleaned = false;
  for (let i = 0; i < 30; i++) {
    await queue.remove((await queue.add('goes', i, { delay: LATER_MS })).id);
    ids.push((await queue.add('stays', i, { delay: LATER_MS, jobId: `own ${i}` })).id);
    isCleaned ||= ledgerOf(engine).oldest > 1;
    if (i % 3 !== 0) continue;
    await engine.close();
    ({ engine, queue } = await opened(store));
    for (const id of ids) expect((await queue.getJob(id))?.id).toBe(id);
    expect(engine.queues().map(({ name }) => name)).toEqual(['q']);
  }
  expect(isCleaned).toBe(true);
  await engine.close();
});

test('a log that was not closed is known as such when the record of its opening has been forgotten', async () => {
  const store = new MemoryStore();
  const { engine, queue } = await opened(store);
  for (let i = 0; i < 5; i++) await queue.remove((await queue.add('goes', i, { delay: LATER_MS })).id);
  await engine.state.journal!.flush();
  expect(ledgerOf(engine).oldest).toBeGreaterThan(1);
  expect(await wasClosed(store)).toBe(false);
  await engine.close().catch(() => {}); // another has come
  const again = await opened(store);
  await again.engine.close();
  expect(await wasClosed(store)).toBe(true);
});

/** What the next engine would read. */
async function wasClosed(store: MemoryStore): Promise<boolean> {
  const reader = await Engine.open();
  const session = await store.open('main', 'reader');
  const replay = new Replay(reader.state);
  await session.load((position, batch) => replay.batch(Number(position), batch));
  await reader.close();
  return replay.wasClosed;
}
