/** The start of a run on another thread that is heard of after somebody has told the run to stop. */
import { Engine, type Job, Queue, QueueEvents, TestClock } from 'flashq';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runStarted } from '#engine/jobs/settle.js';
import { Hand } from '../../conformance/kit.js';

let clock: TestClock;
let engine: Engine;
let queue: Queue;

beforeEach(async () => {
  clock = new TestClock();
  engine = await Engine.open({ clock });
  queue = new Queue('q', { connection: engine });
});
afterEach(() => engine.close({ timeout: 0 }));

async function runs(): Promise<number> {
  const hand = new Hand('q', { connection: engine, abortGrace: 1000 });
  const { id } = await queue.add('a', 1, { timeout: 3_600_000 });
  await hand.next();
  return engine.state.core.findNumber(Number(id.slice(1)));
}

test('leaves a cancelled run the time of its grace', async () => {
  const slot = await runs();
  const [job] = (await queue.getJobs({ states: ['active'] })).jobs;
  expect(await queue.cancel(job as Job)).toBe('aborting');
  runStarted(engine.state, slot);
  await clock.advance(1000);
  expect(await job?.getState()).toBe('cancelled');
});

test('is not told of a job that has been removed', async () => {
  const slot = await runs();
  const events = new QueueEvents('q', { connection: engine });
  await events.waitUntilReady();
  const told: string[] = [];
  for (const event of ['removed', 'active'] as const) events.on(event, () => told.push(event));
  await queue.obliterate({ force: true });
  runStarted(engine.state, slot);
  await clock.advance(0);
  expect(told).toEqual(['removed']);
  await events.close();
});
