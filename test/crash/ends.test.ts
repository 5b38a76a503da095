/** How processes end when nobody kills them, and what the next one finds. */
import { DataDirLockedError, Engine, Queue, Worker } from 'flashq';
import { expect, onTestFinished, test } from 'vitest';
import { until } from '../threads/support.js';
import type { Dump, FoundJob } from './history.js';
import { Place } from './killed.js';
import { dump } from './programs/dump.js';

function newPlace(): Place {
  const place = new Place();
  onTestFinished(() => place.remove());
  return place;
}

async function open(place: Place): Promise<{ engine: Engine; queue: Queue; jobs: readonly FoundJob[] }> {
  const engine = await Engine.open({ dataDir: place.dataDir });
  onTestFinished(() => engine.close({ timeout: 0 }));
  const { jobs } = dump(engine) as Dump;
  return { engine, queue: new Queue('work', { connection: engine }), jobs };
}

test.each([
  ['exit', 0],
  ['throw', 1],
  ['run out', 0],
  ['close', 0],
] as const)('a relaxed engine keeps all that was told when its process ends by itself: %s', async (way, code) => {
  const place = newPlace();
  const { how, errors } = await place.start('ends.js', ['relaxed', way]).ended;
  expect(how, errors).toBe(code);
  const facts = place.facts();
  const { queue, jobs } = await open(place);
  const added = facts.filter(({ told }) => told === 'added').flatMap(({ ids }) => ids as string[]);
  expect(jobs.map(({ id }) => id).sort()).toEqual(added.sort());
  expect(jobs.map(({ lost }) => lost)).toEqual(jobs.map(() => 0));
  const results = facts.find(({ told }) => told === 'results')?.results as unknown[] | undefined;
  expect(results === undefined).toBe(way === 'run out');
  for (const [i, result] of (results ?? []).entries())
    expect(await queue.getJob(added.find((id) => id === `j${i + 1}`) as string)).toMatchObject({ returnvalue: result });
});

test.each(['commit', 'relaxed'])('a process stays until what it has done is written down: %s', async (durability) => {
  const place = newPlace();
  const { how, errors } = await place.start('ends.js', [durability, 'unawaited']).ended;
  expect(how, errors).toBe(0);
  expect((await open(place)).jobs).toMatchObject([{ list: 'delayed' }]);
});

test('nor does it end before it was answered, whatever the log is busy with', async () => {
  const place = newPlace();
  const { how, errors } = await place.start('ends.js', ['commit', 'clean']).ended;
  expect(how, errors).toBe(0);
  expect(place.facts()).toMatchObject([{ told: 'cleaned' }]);
});

test.each(['commit', 'relaxed'])(
  'a process may end inside of an event: dependents that had not heard of it end as their policies say (%s)',
  async (durability) => {
    const place = newPlace();
    const { how, errors } = await place.start('ends.js', [durability, 'exit in an event']).ended;
    expect(how, errors).toBe(0);
    const { engine, queue } = await open(place);
    const ran: string[] = [];
    new Worker('work', ({ name }) => void ran.push(name), { connection: engine });
    await until(async () => ran.length >= 2 && (await queue.getJobCounts()).active === 0);
    expect(ran).toEqual(['run', 'run-now']);
    expect(await queue.getJobCounts()).toMatchObject({ failed: 2, cancelled: 1, completed: 2, blocked: 1, waiting: 0 });
  },
);

test.each(['commit', 'relaxed'])('and those of what has completed are released (%s)', async (durability) => {
  const place = newPlace();
  const { how, errors } = await place.start('ends.js', [durability, 'exit in an event of success']).ended;
  expect(how, errors).toBe(0);
  const { jobs } = await open(place);
  expect(jobs.map(({ list }) => list).sort()).toEqual(['completed', ...Array.from({ length: 5 }, () => 'waiting')]);
});

test('a directory is its process’s own, and free at once when that is killed', async () => {
  const place = newPlace();
  const program = place.start('ends.js', ['commit', 'hold']);
  await program.printed('opened');
  const refusal = await Engine.open({ dataDir: place.dataDir }).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(DataDirLockedError);
  expect(refusal).toMatchObject({ pid: program.child.pid });
  program.kill();
  await program.ended;
  const { engine } = await open(place);
  await expect(Engine.open({ dataDir: place.dataDir })).rejects.toThrow(DataDirLockedError);
  await engine.close();
  await (await Engine.open({ dataDir: place.dataDir })).close();
});
