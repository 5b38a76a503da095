/** What a job costs while many others wait: in time, and in memory. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Engine, Queue, Worker } from 'flashq';
import { type Case, hashOf, hashOfIds, type Part, type Sample, type Settings } from './harness.js';
import { noop, type SmallJob, type SmallResult, smallJob } from './jobs.js';

const QUEUE = 'backlog';
const FILL_BULK = 10_000;
const FEED_BULK = 500;
const CONCURRENCY = 64;
const MEMORY_MAX = 65_535 * 65_536; // bytes: the most that one memory can have

/** `waiting` jobs stay in line all the time: for every 500 that are run, 500 are added behind. */
async function steadyCase(name: string, waiting: number, { quick }: Settings): Promise<Case> {
  const cycles = quick ? 1_000 : 100_000;
  const engine = await Engine.open({ maxMemory: MEMORY_MAX });
  const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
  let nextId = 0;
  const add = async (count: number): Promise<void> => {
    const first = nextId;
    nextId += count;
    await queue.addBulk(Array.from({ length: count }, (_, nth) => ({ name: 'small', data: smallJob(first + nth) })));
  };
  for (let left = waiting; left > 0; left -= FILL_BULK) await add(Math.min(left, FILL_BULK));
  return {
    name,
    unit: 'µs',
    expected: { count: cycles, hash: hashOfIds(cycles) },
    once: () => steady(engine, cycles, add),
    close: () => engine.close(),
  };
}

/** Microseconds for one job to be added, claimed, run and settled. */
async function steady(engine: Engine, cycles: number, add: (count: number) => Promise<void>): Promise<Sample> {
  let runs = 0;
  let hash = 0;
  let firstId = 0;
  let started = 0;
  let ended = 0;
  let end = (): void => {};
  const whenEnded = new Promise<void>((resolve) => {
    end = resolve;
  });
  const handler = async ({ data }: { data: SmallJob }): Promise<SmallResult> => {
    const run = runs++;
    if (run === 0) {
      firstId = data.id;
      started = performance.now();
    }
    if (run < cycles) hash = hashOf(hash, data.id - firstId); // first in, first out: the ids of a run follow each other
    if (run === cycles - 1) {
      ended = performance.now();
      end();
    }
    if (run % FEED_BULK === FEED_BULK - 1) await add(FEED_BULK);
    return noop(data);
  };
  const worker = new Worker<SmallJob, SmallResult>(QUEUE, handler, { connection: engine, concurrency: CONCURRENCY });
  await whenEnded;
  await worker.close();
  await add(runs % FEED_BULK); // what ran since the last feeding, so that the next turn finds as many in line
  return { value: ((ended - started) * 1000) / cycles, count: Math.min(runs, cycles), hash };
}

const backlogPart: Part = {
  name: 'backlog',
  async open(settings) {
    const few = await steadyCase('a job at 1,000 waiting', 1_000, settings);
    const many = await steadyCase(
      settings.quick ? 'a job at 5,000 waiting' : 'a job at 10,000,000 waiting',
      settings.quick ? 5_000 : 10_000_000,
      settings,
    );
    const ratios = [{ of: many.name, to: few.name, atMost: 2 }];
    return { name: 'backlog', warmups: 1, repetitions: 5, cases: [few, many], ratios };
  },
};

/** The engine's own count of its pages: slots, payloads, index, heap. Resident memory would show pages that an earlier turn has left. */
async function memoryCase({ quick }: Settings): Promise<Case> {
  const jobs = quick ? 5_000 : 1_000_000;
  const collectGarbage = garbageCollector();
  return {
    name: 'a waiting small job',
    unit: 'bytes',
    expected: { count: jobs, hash: 0 },
    async once() {
      const engine = await Engine.open({});
      const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
      await queue.add('small', smallJob(0)); // what the first job of an engine costs is not what a job costs
      collectGarbage();
      const before = process.memoryUsage();
      const usedBefore = engine.stats().memory.used;
      for (let id = 0; id < jobs; id += 1_000) {
        await queue.addBulk(Array.from({ length: 1_000 }, (_, nth) => ({ name: 'small', data: smallJob(id + nth) })));
      }
      collectGarbage();
      const after = process.memoryUsage();
      const usedAfter = engine.stats().memory.used;
      const { waiting } = await queue.getJobCounts();
      await engine.close();
      const value = (usedAfter - usedBefore) / jobs;
      return { value, count: waiting - 1, hash: 0, more: { 'JS heap': (after.heapUsed - before.heapUsed) / jobs } };
    },
  };
}

function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

const memoryPart: Part = {
  name: 'memory',
  async open(settings) {
    const one = await memoryCase(settings);
    const targets = [
      { of: one.name, atMost: 256 },
      { of: `${one.name}/JS heap`, atMost: 20 },
    ];
    return { name: 'memory', warmups: 1, repetitions: 5, cases: [one], targets };
  },
};

export const backlogParts: readonly Part[] = [backlogPart, memoryPart];
