/** How long the engine's thread is kept from its event loop under full load: durable, beside the same load in memory. */
import { Engine, type EngineOptions, Queue, Worker } from 'flashq';
import { makeDataDir, removeDataDir } from './data-dir.js';
import { inBulks } from './end-to-end.js';
import { type Case, hashOfIds, type Part, type Settings } from './harness.js';
import { type SmallJob, type SmallResult, smallJob } from './jobs.js';
import { PauseProbe } from './pause-probe.js';

const QUEUE = 'small';
const BULK = 1_000;

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
      const probe = new PauseProbe();
      const { count, hash } = await inBulks(queue, jobs);
      const { longest, p99, cpu } = probe.stop();
      return { value: longest, count, hash, more: { p99, ...(cpu === undefined ? {} : { 'most CPU': cpu }) } };
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
