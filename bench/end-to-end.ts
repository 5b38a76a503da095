/** From `add` to the result in the producer's hands, with one thread on each side as in the floor, and adds alone. */
import { Engine, type EngineOptions, Queue, Worker } from 'flashq';
import { FLOOR, floorCase } from './floor.js';
import { type Case, hashOf, hashOfIds, type Part, type Sample, type Settings } from './harness.js';
import { noop, type SmallJob, type SmallResult, smallJob } from './jobs.js';

type Place = 'thread' | 'in process';
export type Style = 'bulks of 1,000' | '1,000 addAndWait in flight';

const BULK = 1_000;
const BULKS_IN_FLIGHT = 4; // one being added, one being run, one being read, and one to spare
const SINGLES_IN_FLIGHT = 1_000;
const CONCURRENCY = 256;
const QUEUE = 'small';

export interface EndToEnd {
  readonly name?: string;
  readonly place: Place;
  readonly style: Style;
  readonly engine?: EngineOptions;
}

export async function endToEndCase(
  { place, style, name = `${place}, ${style}`, engine: options = {} }: EndToEnd,
  { quick }: Settings,
): Promise<Case> {
  const jobs = quick ? 2_000 : 200_000;
  const engine = await Engine.open(options);
  const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
  const worker =
    place === 'thread'
      ? new Worker<SmallJob, SmallResult>(QUEUE, new URL('./noop-processor.js', import.meta.url), {
          connection: engine,
          threads: 1,
          concurrency: CONCURRENCY,
        })
      : new Worker<SmallJob, SmallResult>(QUEUE, ({ data }) => noop(data), {
          connection: engine,
          concurrency: CONCURRENCY,
        });
  const once = style === 'bulks of 1,000' ? () => inBulks(queue, jobs) : () => singly(queue, jobs);
  return {
    name,
    unit: 'jobs/s',
    expected: { count: jobs, hash: hashOfIds(jobs) },
    once,
    close: async () => {
      await worker.close();
      await engine.close();
    },
  };
}

export async function inBulks(queue: Queue<SmallJob, SmallResult>, jobs: number): Promise<Sample> {
  let next = 0;
  let count = 0;
  let hash = 0;
  const caller = async (): Promise<void> => {
    while (next < jobs) {
      const first = next;
      next = Math.min(jobs, next + BULK);
      const items = Array.from({ length: next - first }, (_, nth) => ({ name: 'small', data: smallJob(first + nth) }));
      const results = await queue.finished(await queue.addBulk(items));
      for (const { id } of results) hash = hashOf(hash, id);
      count += results.length;
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: BULKS_IN_FLIGHT }, caller));
  return { value: (jobs * 1000) / (performance.now() - started), count, hash };
}

async function singly(queue: Queue<SmallJob, SmallResult>, jobs: number): Promise<Sample> {
  let next = 0;
  let count = 0;
  let hash = 0;
  const caller = async (): Promise<void> => {
    while (next < jobs) {
      const { id } = await queue.addAndWait('small', smallJob(next++));
      hash = hashOf(hash, id);
      count++;
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: SINGLES_IN_FLIGHT }, caller));
  return { value: (jobs * 1000) / (performance.now() - started), count, hash };
}

/** One caller that awaits each add before the next; nothing works the queue off. */
async function addsCase({ quick }: Settings): Promise<Case> {
  const jobs = quick ? 500 : 200_000;
  const engine = await Engine.open({});
  const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
  return {
    name: 'single awaited adds',
    unit: 'jobs/s',
    expected: { count: jobs, hash: hashOfIds(jobs) },
    once: async () => {
      let hash = 0;
      const started = performance.now();
      for (let id = 0; id < jobs; id++) hash = hashOf(hash, (await queue.add('small', smallJob(id))).data.id);
      const value = (jobs * 1000) / (performance.now() - started);
      const { waiting } = await queue.getJobCounts();
      await queue.drain();
      return { value, count: waiting, hash };
    },
    close: () => engine.close(),
  };
}

function besideFloor(name: string, atLeast: number, open: (settings: Settings) => Promise<Case>): Part {
  return {
    name,
    async open(settings) {
      const one = await open(settings);
      const floor = await floorCase(settings);
      return { name, cases: [floor, one], ratios: [{ of: one.name, to: FLOOR, atLeast }] };
    },
  };
}

export const endToEndParts: readonly Part[] = [
  besideFloor('thread-bulk', 0.6, (settings) => endToEndCase({ place: 'thread', style: 'bulks of 1,000' }, settings)),
  besideFloor('thread-single', 0.6, (settings) =>
    endToEndCase({ place: 'thread', style: '1,000 addAndWait in flight' }, settings),
  ),
  besideFloor('process-bulk', 0.6, (settings) =>
    endToEndCase({ place: 'in process', style: 'bulks of 1,000' }, settings),
  ),
  besideFloor('process-single', 0.6, (settings) =>
    endToEndCase({ place: 'in process', style: '1,000 addAndWait in flight' }, settings),
  ),
  besideFloor('adds', 0.6, addsCase),
];
