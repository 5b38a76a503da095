/**
 * A catalogue of checksums is built from all files of a folder, in the background. Somebody asks for a few of them now: these overtake the
 * backlog, without a queue of their own and without a worker kept free for them.
 *
 *     tsc -p examples && node dist/examples/priority.js [folder]
 */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Engine, Queue, Worker } from 'flashq';

const BACKGROUND = 0;
const ASKED_FOR = 10;

const folder = process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url));
const paths = (await readdir(folder, { recursive: true })).map((name) => join(folder, name));
const stats = await Promise.all(paths.map((path) => stat(path)));
const files = paths.filter((_, i) => stats[i]?.isFile());

const engine = await Engine.open();
const queue = new Queue<string, string>('checksums', { connection: engine });

const order: string[] = [];
const worker = new Worker<string, string>(
  'checksums',
  async (job) => {
    order.push(job.name);
    return createHash('sha256')
      .update(await readFile(job.data))
      .digest('hex');
  },
  { connection: engine, concurrency: 4 },
);

const backlog = await queue.addBulk(
  files.map((file) => ({ name: 'background', data: file, opts: { priority: BACKGROUND } })),
);
await Promise.race(backlog.map((job) => job.waitUntilFinished())); // the backlog is on its way

const wanted = files.slice(-3);
const before = order.length;
const sums = await Promise.all(
  wanted.map((file) => queue.addAndWait('asked for', file, { priority: ASKED_FOR }, { timeout: 30_000 })),
);
const started = order.slice(before, before + wanted.length);
await queue.finished(backlog);

console.log(`files: ${files.length}, in line when they were asked for: ${files.length - before}`);
for (const [i, sum] of sums.entries()) console.log(`${sum.slice(0, 16)}  ${wanted[i]}`);
console.log(`next to start: ${started.join(', ')}`);

await worker.close();
await engine.close();
