/** What groups, batches and limits cost or bring, each beside the same jobs without. */
import { Engine, Queue, Worker, type WorkerOptions } from 'flashq';
import { inBulks } from './end-to-end.js';
import { type Case, hashOf, hashOfIds, type Part, type Sample, type Settings } from './harness.js';
import { type SmallJob, type SmallResult, smallJob } from './jobs.js';

const QUEUE = 'small';
const BULK = 1_000;
const CONCURRENCY = 256;
const RATE_MAX = 1_000;
const RATE_MS = 1_000;

const single = new URL('./noop-processor.js', import.meta.url);
const batch = new URL('./batch-processor.js', import.meta.url);
const calling = new URL('./call-processor.js', import.meta.url);
const callingBatch = new URL('./call-batch-processor.js', import.meta.url);

// ---- groups ---------------------------------------------------------------------------------------------------------------------

/** A backlog that one thread works off, its jobs dealt over so many groups. */
function backlogCase(name: string, groups: number, { quick }: Settings): Case {
  const jobs = quick ? 2_000 : 200_000;
  return {
    name,
    unit: 'µs',
    expected: { count: jobs, hash: hashOfIds(jobs) },
    async once() {
      const engine = await Engine.open({});
      const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
      await queue.pause();
      const waiting: Promise<SmallResult[]>[] = [];
      for (let first = 0; first < jobs; first += BULK) {
        const items = Array.from({ length: BULK }, (_, nth) => {
          const id = first + nth;
          const data = smallJob(id);
          return groups === 0 ? { name: 'a', data } : { name: 'a', data, opts: { group: { id: `${id % groups}` } } };
        });
        waiting.push(queue.finished(await queue.addBulk(items)));
      }
      const worker = new Worker(QUEUE, single, { connection: engine, threads: 1, concurrency: CONCURRENCY });
      await worker.waitUntilReady();
      const started = performance.now();
      await queue.resume();
      const results = (await Promise.all(waiting)).flat();
      const value = ((performance.now() - started) * 1000) / jobs;
      let hash = 0;
      for (const { id } of results) hash = hashOf(hash, id);
      await engine.close({ timeout: 0 });
      return { value, count: results.length, hash };
    },
  };
}

const groupsPart: Part = {
  name: 'groups',
  async open(settings) {
    const groups = settings.quick ? 100 : 10_000;
    const none = backlogCase('backlog without groups, a job', 0, settings);
    const many = backlogCase(`backlog of ${groups.toLocaleString('en-US')} groups, a job`, groups, settings);
    return { name: 'groups', cases: [none, many], ratios: [{ of: many.name, to: none.name, atMost: 2 }] };
  },
};

// ---- batches --------------------------------------------------------------------------------------------------------------------

async function throughCase(name: string, file: URL, opts: WorkerOptions, { quick }: Settings): Promise<Case> {
  const jobs = quick ? 2_000 : 200_000;
  const engine = await Engine.open({});
  const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
  const worker = new Worker<SmallJob, SmallResult>(QUEUE, file, { connection: engine, threads: 1, ...opts });
  await worker.waitUntilReady();
  return {
    name,
    unit: 'jobs/s',
    expected: { count: jobs, hash: hashOfIds(jobs) },
    once: () => inBulks(queue, jobs),
    close: async () => {
      await worker.close();
      await engine.close();
    },
  };
}

const batchPart: Part = {
  name: 'batch',
  async open(settings) {
    const one = await throughCase('thread, one job a handler', single, { concurrency: CONCURRENCY }, settings);
    const hundred = { concurrency: 4, batch: { size: 100 } };
    const many = await throughCase('thread, batches of 100', batch, hundred, settings);
    const call = await throughCase(
      'thread, one job and call a handler',
      calling,
      { concurrency: CONCURRENCY },
      settings,
    );
    const calls = await throughCase('thread, batches of 100, one call each', callingBatch, hundred, settings);
    return {
      name: 'batch',
      cases: [one, many, call, calls],
      // Handlers that do nothing cost little enough one by one: the engine's thread is what is busy. What batches save is calls.
      ratios: [
        { of: many.name, to: one.name },
        { of: calls.name, to: call.name, atLeast: 1.5 },
      ],
    };
  },
};

// ---- the rate limit -------------------------------------------------------------------------------------------------------------

/** Starts a second, of more jobs than may start, on four threads; throws when any window holds more than it may. */
async function rateOnce(seconds: number): Promise<Sample> {
  const engine = await Engine.open({});
  const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
  await queue.setRateLimit({ max: RATE_MAX, duration: RATE_MS });
  const worker = new Worker<SmallJob, SmallResult>(QUEUE, single, { connection: engine, threads: 4, concurrency: 64 });
  await worker.waitUntilReady();
  const jobs = (seconds + 1) * RATE_MAX; // the first window is full at once
  const opts = { removeOnComplete: false }; // their starts are read when all have ended
  const added = await queue.addBulk(Array.from({ length: jobs }, (_, id) => ({ name: 'a', data: smallJob(id), opts })));
  const results = await queue.finished(added);
  const starts: number[] = [];
  for (const job of added) starts.push((await queue.getJob(job))?.processedOn ?? Number.NaN);
  starts.sort((a, b) => a - b);
  for (let i = RATE_MAX; i < jobs; i++) {
    const apart = starts[i]! - starts[i - RATE_MAX]!;
    if (apart < RATE_MS) throw new Error(`${RATE_MAX + 1} jobs started within ${apart} ms`);
  }
  // From the first start of the second window to the last start: what the limit lets through.
  const span = starts[jobs - 1]! - starts[0]!;
  let hash = 0;
  for (const { id } of results) hash = hashOf(hash, id);
  await engine.close({ timeout: 0 });
  return { value: ((jobs - RATE_MAX) * 1000) / span, count: results.length, hash };
}

const ratePart: Part = {
  name: 'rate',
  async open({ quick }) {
    const seconds = quick ? 1 : 10;
    const jobs = (seconds + 1) * RATE_MAX;
    const one: Case = {
      name: `limit of 1,000 a second, 4 threads, ${seconds} s`,
      unit: 'jobs/s',
      expected: { count: jobs, hash: hashOfIds(jobs) },
      once: () => rateOnce(seconds),
    };
    const target = { of: one.name, atLeast: 990, atMost: 1010 };
    return { name: 'rate', warmups: 0, repetitions: 3, quickRepetitions: 1, cases: [one], targets: [target] };
  },
};

export const turnsParts: readonly Part[] = [groupsPart, batchPart, ratePart];
