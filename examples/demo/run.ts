/** The demo itself: fan out over a folder's documents, answer urgent queries meanwhile, fan in to a search index. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { Engine, type Job, Queue, Worker } from 'flashq';
import { buildIndex, collector, type SearchIndex } from './collect.js';
import { cpuMsOfThreads } from './cpu.js';
import { type Document, type Walk, walk } from './documents.js';
import { learnWeights } from './embedding.js';
import { Ledger } from './ledger.js';
import type { Progress } from './progress.js';
import {
  COLLECT_QUEUE,
  type CollectResult,
  type CollectTask,
  EMBED_QUEUE,
  type EmbedTask,
  type Task,
} from './tasks.js';

export interface Options {
  readonly folder: string;
  readonly query: string;
  readonly threads: number;
  readonly documentsMax: number;
  readonly passageBytesMax: number;
  /** Where the jobs are kept; undefined: in memory, for this run only. */
  readonly dataDir: string | undefined;
}

/** What an earlier run over the same data has left of a task. */
export interface Earlier {
  readonly isDone: boolean;
  /** Its runs that failed then. */
  readonly failures: number;
}

/** A query embedded while the backlog was being worked off. */
export interface UrgentRun {
  readonly query: string;
  readonly waitedMs: number;
  readonly answeredMs: number;
  /** Documents that had not been started when it was added, all of them before it in line. */
  readonly overtaken: number;
}

export interface Findings {
  readonly walk: Walk;
  readonly threads: number;
  readonly ledger: Ledger;
  readonly tasks: readonly EmbedTask[];
  /** In the order of the tasks. */
  readonly earlier: readonly Earlier[];
  readonly addedMs: number;
  readonly endedMs: number;
  readonly urgent: readonly UrgentRun[];
  readonly queryVector: Float32Array;
  readonly index: SearchIndex;
  readonly cpuMs: { readonly before: Map<number, number>; readonly after: Map<number, number> } | undefined;
  readonly residentBytesMax: number;
}

const SAMPLE = 400; // texts from which the weights of words are learnt
const URGENT_PRIORITY = 10;
const URGENT_QUERIES = [
  'retry with exponential backoff',
  'source map of a bundle',
  'licence conditions',
  'shared array buffer',
];
const RETRIES = { attempts: 4, backoff: { type: 'exponential', delay: 20, factor: 2, jitter: 0.5 } } as const;
/** With a folder for the jobs, their results are kept until they are collected, however many there are. */
const KEPT = { ...RETRIES, removeOnComplete: false } as const;
const TICK_MS = 50;

/** Undefined when `stop` was raised before the end; everything is closed by then. */
export async function runDemo(options: Options, stop: AbortSignal, progress: Progress): Promise<Findings | undefined> {
  const found = await walk(options.folder, options);
  const tasks = found.documents.map((document, task) => ({
    task,
    document,
    failures: failuresOf(task, found.documents.length),
  }));
  if (tasks.length === 0) throw new Error(`No text files in ${options.folder}`);
  const ledger = Ledger.create(tasks.length + URGENT_QUERIES.length + 1);
  learnWeights(await textsOf(sampleOf(found.documents, SAMPLE)), ledger.weights);

  const engine = await Engine.open(options.dataDir === undefined ? {} : { dataDir: options.dataDir });
  const ticking = tick(ledger, tasks.length, progress);
  try {
    return await Promise.race([whenStopped(stop), work(engine, options, found, tasks, ledger, ticking, stop)]);
  } finally {
    ticking.end();
    await engine.close({ timeout: 1_000 });
  }
}

async function work(
  engine: Engine,
  options: Options,
  found: Walk,
  tasks: readonly EmbedTask[],
  ledger: Ledger,
  ticking: Ticking,
  stop: AbortSignal,
): Promise<Findings> {
  const { threads } = options;
  const queue = new Queue<Task, Float32Array>(EMBED_QUEUE, { connection: engine });
  const collectQueue = new Queue<CollectTask, CollectResult>(COLLECT_QUEUE, { connection: engine });
  const file = new URL('./embed-processor.js', import.meta.url);
  const embedder = new Worker<Task, Float32Array>(EMBED_QUEUE, file, {
    connection: engine,
    threads,
    concurrency: threads,
  });
  let index: SearchIndex | undefined;
  let jobs: Job<Task, Float32Array>[] = [];
  const names = found.documents.map(({ name }) => name);
  const collect = collector(
    names,
    () => jobs.map(({ id }) => id),
    (built) => {
      index = built;
    },
  );
  const indexer = new Worker<CollectTask, CollectResult>(COLLECT_QUEUE, collect, { connection: engine });
  const broken = new Promise<never>((_, reject) => {
    for (const worker of [embedder, indexer]) worker.on('error', reject);
  });
  broken.catch(() => {}); // it may break while nothing waits for it yet
  const over = new AbortController();

  const before = cpuMsOfThreads();
  const addedMs = Ledger.nowMs();
  // Under ids of their own, so that a job that an earlier run has left is found again, and not added twice.
  const isKept = options.dataDir !== undefined;
  const optionsOf = (document: Document) => (isKept ? { ...KEPT, jobId: idOf(document) } : RETRIES);
  jobs = await queue.addBulk(tasks.map((data) => ({ name: 'embed', data, opts: optionsOf(data.document) })));
  const earlier = jobs.map(earlierOf);
  const left = earlier.filter(({ isDone }) => !isDone).length;
  ticking.begin(jobs.length - left);
  const collecting = await collectQueue.add(
    'collect',
    { documents: jobs.length },
    { depends_on: jobs, ...(isKept ? { jobId: `collect:${hashOf(jobs)}` } : {}) },
  );
  const answering = answerMeanwhile(
    queue,
    options.query,
    left,
    tasks.length,
    ledger,
    AbortSignal.any([stop, over.signal]),
  );
  const [, urgent] = await Promise.race([broken, Promise.all([collectQueue.finished(collecting), answering])]).finally(
    () => over.abort(),
  );
  const endedMs = Ledger.nowMs();
  const after = cpuMsOfThreads();

  await embedder.close();
  await indexer.close();
  const cpuMs = before === undefined || after === undefined ? undefined : { before, after };
  const { runs, queryVector } = urgent;
  const residentBytesMax = ticking.residentBytesMax();
  // An earlier run has collected already.
  if (index === undefined) {
    const vectors = await queue.finished(jobs);
    index = buildIndex(names, (row) => vectors[row], vectors.length);
  }
  return {
    walk: found,
    threads,
    ledger,
    tasks,
    earlier,
    addedMs,
    endedMs,
    urgent: runs,
    queryVector,
    index,
    cpuMs,
    residentBytesMax,
  };
}

/** Some people search while the documents are still being read: their queries go before the backlog. */
async function answerMeanwhile(
  queue: Queue<Task, Float32Array>,
  ownQuery: string,
  left: number,
  documents: number,
  ledger: Ledger,
  stop: AbortSignal,
): Promise<{ runs: UrgentRun[]; queryVector: Float32Array }> {
  const runs: UrgentRun[] = [];
  const queries = [...URGENT_QUERIES, ownQuery];
  let queryVector: Float32Array = new Float32Array();
  for (const [nth, query] of queries.entries()) {
    const turn = Math.floor((left * (nth + 1)) / (queries.length + 2));
    while (ledger.completedTotal < turn && !stop.aborted) await pause(2);
    if (stop.aborted) break;
    const task = documents + nth;
    const overtaken = Math.max(0, left - ledger.completedTotal);
    const addedMs = Ledger.nowMs();
    queryVector = await queue.addAndWait(
      'query',
      { task, query },
      { priority: URGENT_PRIORITY, removeOnComplete: true },
    );
    const answeredMs = Ledger.nowMs() - addedMs;
    runs.push({ query, waitedMs: ledger.firstStartMs[task]! - addedMs, answeredMs, overtaken });
  }
  return { runs, queryVector };
}

/** Every fortieth document fails once and every four hundredth twice; of a small folder, every fifth once. */
export function failuresOf(task: number, documents: number): number {
  const every = documents >= 400 ? 40 : 5;
  if (task % every !== 3) return 0;
  return task % (every * 10) === 3 ? 2 : 1;
}

/** Evenly spread, so that every part of the folder is heard. */
function sampleOf(documents: readonly Document[], count: number): Document[] {
  const step = Math.max(1, documents.length / count);
  const sample: Document[] = [];
  for (let at = 0; at < documents.length; at += step) sample.push(documents[Math.floor(at)]!);
  return sample;
}

async function textsOf(documents: readonly Document[]): Promise<string[]> {
  const texts: string[] = [];
  for (const { file, startBytes, lengthBytes } of documents) {
    const content = await readFile(file);
    texts.push(content.toString('utf8', startBytes, startBytes + lengthBytes));
  }
  return texts;
}

/** Of a job that is there already: whether it has completed, and what it has been through. */
function earlierOf(job: Job<Task, Float32Array>): Earlier {
  return { isDone: job.finishedOn !== undefined, failures: job.attemptsMade };
}

/** A document as it is now: a changed one is another. */
function idOf({ name, startBytes, lengthBytes }: Document): string {
  return createHash('sha256').update(`${name}\0${startBytes}\0${lengthBytes}`).digest('hex');
}

function hashOf(jobs: readonly Job[]): string {
  const hash = createHash('sha256');
  for (const { id } of jobs) hash.update(id);
  return hash.digest('hex');
}

interface Ticking {
  /** So many documents are done already. */
  begin(done: number): void;
  residentBytesMax(): number;
  end(): void;
}

function tick(ledger: Ledger, documents: number, progress: Progress): Ticking {
  let resident = process.memoryUsage.rss();
  let before = 0;
  progress.start(documents);
  const once = (): void => {
    resident = Math.max(resident, process.memoryUsage.rss());
    progress.update(Math.min(documents, before + ledger.completedTotal));
  };
  const timer = setInterval(once, TICK_MS);
  return {
    begin(done) {
      before = done;
    },
    residentBytesMax: () => resident,
    end() {
      clearInterval(timer);
      once();
      progress.stop();
    },
  };
}

function whenStopped(stop: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (stop.aborted) resolve(undefined);
    stop.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}
