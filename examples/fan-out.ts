/**
 * Which words does a folder use most? One job for each file counts its words, and a job that waits for all of them adds up.
 *
 *     node dist/examples/fan-out.js [folder]
 */
import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { Engine, FlowProducer, Worker } from 'flashq';

const TEXT = new Set(['.md', '.txt', '.ts', '.js']);
const SHOWN = 10;

type Counts = Record<string, number>;

async function countWords(file: string): Promise<Counts> {
  const counts: Counts = {};
  for (const [word] of (await readFile(file, 'utf8')).toLowerCase().matchAll(/\p{L}{4,}/gu)) {
    counts[word] = (Object.hasOwn(counts, word) ? counts[word]! : 0) + 1;
  }
  return counts;
}

function addUp(all: readonly Counts[]): [word: string, count: number][] {
  const sums = new Map<string, number>();
  for (const counts of all)
    for (const [word, count] of Object.entries(counts)) sums.set(word, (sums.get(word) ?? 0) + count);
  return [...sums].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)).slice(0, SHOWN);
}

const folder = process.argv[2] ?? 'docs';
const names = await readdir(folder, { recursive: true });
const files = names.filter((name) => TEXT.has(extname(name))).map((name) => join(folder, name));

const engine = await Engine.open({ maxMemory: 64 * 2 ** 20 });
const connection = engine;
new Worker<{ file: string }>('files', ({ data }) => countWords(data.file), { connection, concurrency: 8 });
new Worker('reports', async (job) => addUp(Object.values(await job.getDependencyResults<Counts>())), { connection });

const flows = new FlowProducer({ connection });
const report = await flows.add({
  name: 'most-used',
  queueName: 'reports',
  opts: { onDependencyFailure: 'run' }, // a file that can't be read is left out
  children: files.map((file) => ({ name: 'count', queueName: 'files', data: { file }, opts: { attempts: 2 } })),
});

const words: [string, number][] = await report.job.waitUntilFinished();
const flow = await flows.getFlow({ id: report.job.id, queueName: 'reports' });
const failed = flow!.children.filter(({ state }) => state === 'failed').length;
console.log(`${files.length} files, ${failed} of them could not be read`);
for (const [word, count] of words) console.log(`${String(count).padStart(7)}  ${word}`);
await engine.close();
