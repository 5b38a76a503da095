/**
 * Keeps copies of a folder's files: every 100 ms a cron copies what has changed since the copy before. With a data directory the cron
 * survives, so that a second run goes on with it, and makes up for what was missed.
 *
 *     node dist/examples/cron.js FOLDER COPIES [ticks] [data directory]
 */
import { copyFile, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Engine, Queue, QueueEvents, Worker } from 'flashq';

const EVERY_MS = 100;

async function copyChanged(from: string, to: string): Promise<number> {
  await mkdir(to, { recursive: true });
  let copied = 0;
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const [source, copy] = [join(from, entry.name), join(to, entry.name)];
    const [now, before] = await Promise.all([stat(source), stat(copy).catch(() => undefined)]);
    if (before !== undefined && before.mtimeMs >= now.mtimeMs) continue;
    await copyFile(source, copy);
    copied++;
  }
  return copied;
}

const [folder, copies, ticks = '5', dataDir] = process.argv.slice(2);
if (folder === undefined || copies === undefined) {
  console.error('Usage: cron FOLDER COPIES [ticks] [data directory]');
  process.exit(2);
}

const engine = await Engine.open(dataDir === undefined ? {} : { dataDir });
const queue = new Queue<{ from: string; to: string }, number>('copies', { connection: engine });
const events = new QueueEvents('copies', { connection: engine });
events.on('cron:skipped', ({ name, reason }) => console.log(`${name}: a tick was skipped (${reason})`));

const enough = new Promise<void>((resolve) => {
  let left = Number(ticks);
  const worker = new Worker<{ from: string; to: string }, number>(
    'copies',
    ({ data }) => copyChanged(data.from, data.to),
    {
      connection: engine,
    },
  );
  worker.on('completed', (job, copied) => {
    const { scheduledFor, backfilled } = job.cron!;
    console.log(
      `${new Date(scheduledFor).toISOString()} ${copied} copied${backfilled ? ', late: nobody was there' : ''}`,
    );
    if (--left === 0) resolve();
  });
});

// The same at every start: it changes nothing when it is there already.
await queue.addCron('copy-changed', { every: EVERY_MS, data: { from: folder, to: copies } });
// At half past two, on the clocks of Berlin; where there is no half past two, at half past three.
await queue.addCron('copy-all', {
  schedule: '30 2 * * *',
  tz: 'Europe/Berlin',
  data: { from: folder, to: `${copies}-nightly` },
});

await enough;
for (const { name, runs, next } of await queue.listCrons())
  console.log(`${name}: ${runs} runs, the next at ${new Date(next!).toISOString()}`);
await events.close();
await engine.close();
