/** Groups and aging of an engine that is closed, or crashes, and is opened again. */
import { Engine, Queue, TestClock, Worker } from 'flashq';
import { afterEach, describe, expect, test } from 'vitest';
import { MemoryStore } from '#engine/store/memory-store.js';
import { SMALL } from '../support/lived.js';

/** Engines that go on though another has their log. */
const leftBehind: Engine[] = [];

afterEach(async () => {
  for (const engine of leftBehind.splice(0)) await engine.close({ timeout: 0 }).catch(() => {});
});

const START = 1_735_689_600_000;

async function open(store: MemoryStore, clock: TestClock): Promise<{ engine: Engine; queue: Queue }> {
  const engine = await Engine.open({ store, clock, ...SMALL });
  engine.on('warning', () => {});
  return { engine, queue: new Queue('q', { connection: engine }) };
}

async function order(engine: Engine, clock: TestClock): Promise<string[]> {
  const ran: string[] = [];
  const worker = new Worker('q', (job) => void ran.push(job.data), { connection: engine });
  await worker.waitUntilReady();
  for (let turn = 0; turn < 50; turn++) {
    await clock.advance(0);
    await engine.connection.durable();
  }
  await worker.close();
  return ran;
}

describe.each(['closed', 'crashed'])('an engine that was %s', (how) => {
  const end = async (engine: Engine): Promise<void> => {
    if (how === 'closed') {
      await engine.close();
      return;
    }
    await engine.state.journal?.flush();
    leftBehind.push(engine); // its log is another's from now on
  };

  test('goes on with its groups in turns, and each in its order', async () => {
    const clock = new TestClock(START);
    const store = new MemoryStore();
    const first = await open(store, clock);
    await first.queue.pause();
    for (const data of ['a1', 'a2', 'a3', 'b1', 'b2', 'c1'])
      await first.queue.add('x', data, { group: { id: data[0]! }, ...(data === 'a3' ? { priority: 1 } : {}) });
    await end(first.engine);

    const second = await open(store, clock);
    await second.queue.resume();
    expect(await order(second.engine, clock)).toEqual(['a3', 'b1', 'c1', 'a1', 'b2', 'a2']);
    await second.engine.close();
  });

  test('holds the limits of groups, and lets what waits rise from its own priority', async () => {
    const clock = new TestClock(START);
    const store = new MemoryStore();
    const first = await open(store, clock);
    await first.queue.configure({ groups: { concurrency: 1 }, aging: { every: 100, max: 5 } });
    await first.queue.pause();
    await first.queue.add('x', 'old');
    await clock.advance(300);
    await end(first.engine);

    const second = await open(store, clock);
    expect(await second.queue.getConfig()).toMatchObject({
      groups: { concurrency: 1 },
      aging: { every: 100, step: 1, max: 5 },
    });
    await second.queue.add('x', 'two', { priority: 2 });
    await clock.advance(300); // it ages anew, and so does the other
    await second.queue.add('x', 'three', { priority: 3 });
    await second.queue.resume();
    expect(await order(second.engine, clock)).toEqual(['two', 'old', 'three']);
    let running = 0;
    let most = 0;
    const gates: (() => void)[] = [];
    new Worker(
      'q',
      async () => {
        most = Math.max(most, ++running);
        await new Promise<void>((resolve) => gates.push(resolve));
        running--;
      },
      { connection: second.engine, concurrency: 10 },
    );
    await second.queue.addBulk(Array.from({ length: 5 }, () => ({ name: 'x', data: 0, opts: { group: { id: 'g' } } })));
    for (let turn = 0; turn < 100; turn++) {
      await clock.advance(0);
      gates.shift()?.();
    }
    expect(most).toBe(1);
    await second.engine.close({ timeout: 0 });
  });
});
