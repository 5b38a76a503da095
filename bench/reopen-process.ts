/** A process of its own, as a program is that starts: it fills a data directory, opens a filled one, or looks what a full one takes. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Engine, type EngineOptions, Queue, Worker } from 'flashq';
import { inBulks } from './end-to-end.js';
import { hashOf, hashOfIds } from './harness.js';
import { noop, type SmallJob, type SmallResult, sampleOf, smallJob } from './jobs.js';

export type Order = { readonly dataDir: string } & (
  | { readonly kind: 'fill'; readonly jobs: number }
  | { readonly kind: 'open'; readonly sample: Sampled }
  | { readonly kind: 'disk'; readonly jobs: number; readonly passing: number }
);

export interface Report {
  /** Ids of some of the jobs that were added: those with the data that `sampleOf` names. */
  readonly sample: Sampled;
  /** What was found at the last opening. */
  readonly opened: Opened;
  readonly disk: DiskUse;
}

export type Sampled = readonly string[];

export interface Opened {
  readonly seconds: number;
  readonly waiting: number;
  /** Bytes of the log that were read. */
  readonly logBytes: number;
  /** Over the jobs of the sample. */
  readonly hash: number;
}

/** In bytes, of all jobs together. */
export interface DiskUse {
  /** What the waiting jobs' records take in a log that holds nothing else. */
  readonly records: number;
  /** That log's files. */
  readonly added: number;
  /** The files after others have come and gone. */
  readonly after: number;
}

const QUEUE = 'waiting';
const PASSING = 'passing';
const FILL_BULK = 10_000;
const BLOCK_BYTES = 512; // of `stat`, whatever the file system's own are
const MEMORY_MAX = 65_535 * 65_536; // bytes: the most that one memory can have

async function fill(options: EngineOptions, jobs: number): Promise<string[]> {
  const engine = await Engine.open({ ...options, durability: 'relaxed' });
  const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
  const wanted = new Set(sampleOf(jobs));
  const sample: string[] = [];
  for (let first = 0; first < jobs; first += FILL_BULK) {
    const count = Math.min(FILL_BULK, jobs - first);
    const items = Array.from({ length: count }, (_, nth) => ({ name: 'small', data: smallJob(first + nth) }));
    for (const [nth, { id }] of (await queue.addBulk(items)).entries()) if (wanted.has(first + nth)) sample.push(id);
  }
  await engine.close();
  return sample;
}

/** Each is on the disk before it runs, and when it has run. */
async function pass(engine: Engine, jobs: number): Promise<void> {
  const queue = new Queue<SmallJob, SmallResult>(PASSING, { connection: engine });
  const worker = new Worker<SmallJob, SmallResult>(PASSING, ({ data }) => noop(data), {
    connection: engine,
    concurrency: 256,
  });
  const { count, hash } = await inBulks(queue, jobs);
  if (count !== jobs || hash !== hashOfIds(jobs)) throw new Error(`${count} of ${jobs} passing jobs ended, or others`);
  await worker.close();
}

async function open(options: EngineOptions, sample: Sampled, use?: (engine: Engine) => Promise<void>): Promise<Opened> {
  let logBytes = 0;
  const onProgress = ({ bytes }: { bytes: number }) => {
    logBytes = bytes;
  };
  const started = performance.now();
  const engine = await Engine.open({ ...options, onProgress });
  const seconds = (performance.now() - started) / 1000;
  const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
  const { waiting } = await queue.getJobCounts();
  let hash = 0;
  for (const id of sample) hash = hashOf(hash, (await queue.getJob(id))?.data.id ?? -1);
  await use?.(engine);
  await engine.close();
  return { seconds, waiting, logBytes, hash };
}

/** What the file system has set aside, which may be less than a file's length, or more. */
async function diskBytes(dataDir: string): Promise<number> {
  let blocks = 0;
  for (const name of await readdir(dataDir)) blocks += (await stat(join(dataDir, name))).blocks;
  return blocks * BLOCK_BYTES;
}

async function obey(order: Order): Promise<Partial<Report>> {
  const { dataDir } = order;
  const options: EngineOptions = { dataDir, durability: 'commit', maxMemory: MEMORY_MAX };
  if (order.kind === 'fill') return { sample: await fill(options, order.jobs) };
  if (order.kind === 'open') return { opened: await open(options, order.sample) };
  const sample = await fill(options, order.jobs);
  const added = await diskBytes(dataDir);
  const { logBytes } = await open(options, [], (engine) => pass(engine, order.passing));
  const after = await diskBytes(dataDir);
  return { opened: await open(options, sample), disk: { records: logBytes, added, after } };
}

process.once('disconnect', () => process.exit()); // nobody waits for it any more
process.once('message', (order: Order) => {
  void obey(order).then((report) => process.send?.(report, () => process.disconnect()));
});
