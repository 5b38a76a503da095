/** How long the engine's thread is kept from its event loop under full load: durable, beside the same load in memory. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Engine, type EngineOptions, Queue, Worker } from 'flashq';
import { makeDataDir, removeDataDir } from './data-dir.js';
import { inBulks } from './end-to-end.js';
import { type Case, hashOfIds, type Part, type Settings } from './harness.js';
import type { SmallJob, SmallResult } from './jobs.js';
import { smallJob } from './jobs.js';

const QUEUE = 'small';
const BULK = 1_000;
const TIMER_MS = 1;
const NS_PER_MS = 1e6;

/** Jobs that wait all the time: their records lie in front of the log, which the journal then has to write anew. */
async function addWaiting(engine: Engine, jobs: number): Promise<void> {
  const queue = new Queue<SmallJob>('waiting', { connection: engine });
  for (let first = 0; first < jobs; first += BULK)
    await queue.addBulk(Array.from({ length: BULK }, (_, nth) => ({ name: 'small', data: smallJob(first + nth) })));
}

async function stallCase(durability: 'memory' | 'commit', { quick }: Settings): Promise<Case> {
  const jobs = quick ? 2_000 : 300_000;
  const dataDir = durability === 'memory' ? undefined : await makeDataDir();
  const options: EngineOptions = dataDir === undefined ? {} : { dataDir, durability };
  const engine = await Engine.open(options);
  const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
  const worker = new Worker<SmallJob, SmallResult>(QUEUE, new URL('./noop-processor.js', import.meta.url), {
    connection: engine,
    threads: 1,
    concurrency: 256,
  });
  await addWaiting(engine, quick ? BULK : 100_000);
  return {
    name: `longest pause, ${durability}`,
    unit: 'ms',
    expected: { count: jobs, hash: hashOfIds(jobs) },
    async once() {
      const delay = monitorEventLoopDelay({ resolution: TIMER_MS });
      delay.enable();
      const { count, hash } = await inBulks(queue, jobs);
      delay.disable();
      const pause = (ns: number) => Math.max(0, ns / NS_PER_MS - TIMER_MS);
      return { value: pause(delay.max), count, hash, more: { p99: pause(delay.percentile(99)) } };
    },
    async close() {
      await worker.close();
      await engine.close();
      if (dataDir !== undefined) await removeDataDir(dataDir);
    },
  };
}

const stallPart: Part = {
  name: 'stall',
  async open(settings) {
    const memory = await stallCase('memory', settings);
    const commit = await stallCase('commit', settings);
    return {
      name: 'stall',
      cases: [memory, commit],
      targets: [{ of: commit.name, atMost: 20 }],
      ratios: [
        { of: commit.name, to: memory.name },
        { of: `${commit.name}/p99`, to: `${memory.name}/p99`, label: 'p99, commit ÷ memory' },
      ],
    };
  },
};

export const stallParts: readonly Part[] = [stallPart];
