/** A graph over the ends of engines, and in full memory: the whole of it, or nothing. */
import { BulkError, Engine, EngineFullError, FlowProducer, Queue, TestClock } from 'flashq';
import { expect, test } from 'vitest';
import { FaultStore } from '../support/fault-store.js';
import { SMALL } from '../support/lived.js';
import { Tape } from '../support/tape.js';

const QUEUES = ['a', 'b', 'c'];
const NODES = 60;

/** Three queues, every node after the one before, and jobs large enough for several batches. */
function graph(): Parameters<FlowProducer['addGraph']>[0] {
  const keys = Array.from({ length: NODES }, (_, n) => `n${n}`);
  return {
    nodes: Object.fromEntries(
      keys.map((key, n) => [key, { name: key, queueName: QUEUES[n % 3]!, data: 'x'.repeat(300) }]),
    ),
    edges: keys.slice(1).map((key, n) => [`n${n}`, key] as const),
  };
}

async function countsOf(engine: Engine): Promise<{ jobs: number; blocked: number }> {
  const counts = await Promise.all(QUEUES.map((name) => new Queue(name, { connection: engine }).getJobCounts()));
  const sum = (state: 'waiting' | 'blocked') => counts.reduce((all, one) => all + one[state], 0);
  return { jobs: sum('waiting') + sum('blocked'), blocked: sum('blocked') };
}

test('wherever the log ends, it is there with all its edges or not at all', async () => {
  const store = new FaultStore();
  const engine = await Engine.open({ store, clock: new TestClock(), ...SMALL });
  await new Queue('a', { connection: engine }).add('before', null);
  await new FlowProducer({ connection: engine }).addGraph(graph());
  const whole = store.kept;
  await engine.close();
  const seen = new Set<number>();
  for (let count = 1; count <= whole.length; count++) {
    const again = await Engine.open({ store: new Tape(whole.slice(0, count)), clock: new TestClock(), ...SMALL });
    const { jobs, blocked } = await countsOf(again);
    if (jobs > 1) expect({ jobs, blocked }).toEqual({ jobs: NODES + 1, blocked: NODES - 1 });
    seen.add(jobs);
    await again.close();
  }
  expect([...seen].sort((a, b) => a - b)).toEqual([0, 1, NODES + 1]);
});

test('when its commit fails the caller hears so', async () => {
  const store = new FaultStore();
  const engine = await Engine.open({ store, clock: new TestClock(), ...SMALL });
  engine.on('warning', () => {});
  store.failAt(store.appends + 1, { kind: 'full' });
  await expect(new FlowProducer({ connection: engine }).addGraph(graph())).rejects.toMatchObject({
    code: 'FLASHQ_STORE',
  });
  await engine.close({ timeout: 0 }).catch(() => {});
});

test('when memory doesn’t suffice for all, none is there, and nothing is kept of it', async () => {
  const engine = await Engine.open({ maxMemory: 16 << 20, clock: new TestClock() });
  const flows = new FlowProducer({ connection: engine });
  const fill = new Queue('fill', { connection: engine });
  for (const bytes of [1_000_000, 100_000])
    for (let isFull = false; !isFull; )
      isFull = await fill.add('f', 'y'.repeat(bytes)).then(
        () => false,
        () => true,
      );
  const used = engine.stats().jobs;
  const tooMany = {
    nodes: Object.fromEntries(
      Array.from({ length: 500 }, (_, n) => [
        `n${n}`,
        { name: 'n', queueName: QUEUES[n % 3]!, data: 'x'.repeat(3000) },
      ]),
    ),
    edges: Array.from({ length: 499 }, (_, n) => [`n${n}`, `n${n + 1}`] as const),
  };
  const error = await flows.addGraph(tooMany).catch((thrown: unknown) => thrown as BulkError);
  expect(error).toBeInstanceOf(BulkError);
  expect((error as BulkError).errors.some((one) => one.error instanceof EngineFullError)).toBe(true);
  expect(engine.stats().jobs).toBe(used);
  await fill.drain();
  expect(Object.keys(await flows.addGraph(tooMany))).toHaveLength(500);
  await engine.close();
});
