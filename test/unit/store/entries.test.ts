/** What is no job survives like one. */
import { Engine, Queue, TestClock } from 'flashq';
import { expect, test } from 'vitest';
import { FaultStore } from '../../support/fault-store.js';
import { SMALL } from '../../support/lived.js';

async function open(store: FaultStore): Promise<Engine> {
  return Engine.open({ store, clock: new TestClock(), ...SMALL });
}

async function flushed(engine: Engine): Promise<void> {
  await engine.state.journal?.flush();
}

test('an entry that was put, changed or taken away is so after reopening', async () => {
  const store = new FaultStore();
  const first = await open(store);
  const { entries } = first.state;
  entries.put('pets', 'cat', { legs: 4, seen: new Date(7) });
  entries.put('pets', 'fish', { legs: 0 });
  entries.put('pets', 'snail', { legs: 1 });
  entries.put('tools', 'cat', { lines: 12 });
  await flushed(first);
  entries.put('pets', 'snail', { legs: 0 });
  expect(entries.delete('pets', 'fish')).toBe(true);
  expect(entries.delete('pets', 'dog')).toBe(false);
  await first.close();

  const second = await open(store);
  expect([...second.state.entries.all('pets')]).toEqual([
    ['cat', { legs: 4, seen: new Date(7) }],
    ['snail', { legs: 0 }],
  ]);
  expect(second.state.entries.get('tools', 'cat')).toEqual({ lines: 12 });
  expect(second.state.entries.get('tools', 'fish')).toBeUndefined();
  await second.close();
});

test('an entry outlives the beginning of the log', async () => {
  const store = new FaultStore();
  const engine = await open(store);
  engine.state.entries.put('pets', 'cat', { legs: 4 });
  const { cleaner } = engine.state.journal!;
  cleaner.limits = { ...cleaner.limits, slack: 1.1, slackBytes: 4096, forgetGroups: 1 };
  const queue = new Queue('q', { connection: engine });
  for (let n = 0; n < 200; n++) await queue.remove(await queue.add('chaff', 'x'.repeat(200)));
  expect(engine.state.journal!.ledger.oldest).toBeGreaterThan(10);
  await engine.close();

  const again = await open(store);
  expect(again.state.entries.get('pets', 'cat')).toEqual({ legs: 4 });
  await again.close();
});
