/** That a log which forgets its oldest batches still tells all that is needed. */
import { Engine, Queue, StoreError, TestClock } from 'flashq';
import { describe, expect, test } from 'vitest';
import type { LogStore } from '#engine/store/log-store.js';
import { errorOf } from '../../conformance/kit.js';
import { FaultStore } from '../../support/fault-store.js';
import { knownFrom, SMALL } from '../../support/lived.js';
import { Tape } from '../../support/tape.js';

interface World {
  readonly engine: Engine;
  readonly queue: Queue;
}

async function open(store: LogStore, opts: object = {}): Promise<World> {
  const engine = await Engine.open({ store, clock: new TestClock(), ...SMALL, ...opts });
  return { engine, queue: new Queue('q', { connection: engine }) };
}

/** Groups that nobody needs once the next ones are there: more than the log keeps for being told at once. */
async function churn({ queue }: World, groups = 70): Promise<void> {
  for (let n = 0; n < groups; n++) {
    const job = await queue.add('chaff', n);
    await queue.remove(job);
  }
}

/** The queue's own record lies behind all that was before. */
async function renewQueue({ queue }: World): Promise<void> {
  await queue.pause();
  await queue.resume();
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

describe('the beginning of a log is forgotten', () => {
  test('together with a job, of whose changes some stand further on', async () => {
    const store = new Tape();
    const world = await open(store);
    const job = await world.queue.add('short', 1);
    await churn(world);
    const kept = world.queue.add('kept', 2);
    await Promise.all([kept, world.queue.pause(), job.updateProgress(50)]); // one group
    await world.queue.resume();
    await job.remove();
    await churn(world, 2);
    expect(store.first).toBeGreaterThan(140);
    const after = await knownFrom(store.copy(), new TestClock());
    expect(after.jobs.map(({ name }) => name)).toEqual(['kept']);
    await world.engine.close();
  });

  test('not before what makes it superfluous is durable', async () => {
    const store = new FaultStore();
    const world = await open(store);
    const job = await world.queue.add('removed', 1);
    await churn(world);
    await renewQueue(world);
    store.hold();
    const added = world.queue.add('next', 2);
    await until(() => store.held === 1);
    const removed = errorOf(world.queue.remove(job));
    await until(() => store.held === 2);
    store.release(1);
    await added;
    store.crash();
    expect(await removed).toBeInstanceOf(StoreError);
    // Nobody was told that it is gone.
    const next = await open(store);
    expect(await next.queue.getJobState(job)).toBe('waiting');
    await next.engine.close();
    await world.engine.close();
  });
});
