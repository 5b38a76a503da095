/** Batches of one group in an engine that notes each start before it happens. */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { Engine, Queue, TestClock, Worker } from 'flashq';
import { expect, test } from 'vitest';
import { readStarts, startsFile } from '#engine/store/starts.js';
import { temporaryDir } from '../support/places.js';

test('a job that was given back unused has not started: a crash does not count it as lost', async () => {
  const dir = temporaryDir();
  const [before, after] = [join(dir, 'before'), join(dir, 'after')];
  const clock = new TestClock();
  const first = await Engine.open({ clock, dataDir: before });
  cpSync(before, after, { recursive: true, filter: (path) => !path.endsWith('lock') }); // as a crash would leave it
  await first.close();
  const engine = await Engine.open({ clock, dataDir: after });
  expect(engine.state.journal?.isCareful).toBe(true);
  const queue = new Queue('q', { connection: engine });
  await queue.add('x', 0);
  const other = await queue.add('a', 0, { group: { id: 'a' } });
  const batches: string[][] = [];
  const handler = (jobs: readonly { name: string }[]) => {
    batches.push(jobs.map(({ name }) => name));
    return new Promise<never>(() => {});
  };
  const batch = { size: 2, groupAffinity: true };
  const worker = new Worker('q', handler as never, { connection: engine, batch });
  await worker.waitUntilReady();
  for (let i = 0; i < 100 && batches.length === 0; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(batches).toEqual([['x']]);
  expect(await other.getState()).toBe('waiting');
  const noted = readStarts(startsFile(after));
  expect(noted.size).toBe(1);
  expect(noted.has(Number(other.id.slice(1)))).toBe(false);
  await engine.close({ timeout: 0 });
});
