/** Jobs of about a millisecond of pure computing: two worker threads against one, beside two plain threads against one. */
import { once } from 'node:events';
import { Worker as Thread } from 'node:worker_threads';
import { Engine, Queue, Worker } from 'flashq';
import { type BusyJob, type BusyResult, compute } from './busy-thread.js';
import { type Case, hashOf, hashOfIds, type Part } from './harness.js';

const QUEUE = 'busy';

/** A fixed amount of work, and not a span of time: a thread that gets no core must be seen to be late. */
function roundsPerMillisecond(): number {
  const trial = 200_000;
  let best = Number.POSITIVE_INFINITY;
  for (let turn = 0; turn < 20; turn++) {
    const started = performance.now();
    compute(trial);
    best = Math.min(best, performance.now() - started);
  }
  return Math.round(trial / best);
}

async function queueCase(threads: number, jobs: number, rounds: number): Promise<Case> {
  const engine = await Engine.open({});
  const queue = new Queue<BusyJob, BusyResult>(QUEUE, { connection: engine });
  const file = new URL('./busy-thread.js', import.meta.url);
  const worker = new Worker<BusyJob, BusyResult>(QUEUE, file, { connection: engine, threads, concurrency: threads });
  const items = Array.from({ length: jobs }, (_, id) => ({ name: 'busy', data: { id, rounds } }));
  return {
    name: `jobs of 1 ms, ${threads} worker thread${threads === 1 ? '' : 's'}`,
    unit: 'jobs/s',
    expected: { count: jobs, hash: hashOfIds(jobs) },
    async once() {
      const started = performance.now();
      const results = await queue.finished(await queue.addBulk(items));
      const value = (jobs * 1000) / (performance.now() - started);
      let hash = 0;
      for (const { id } of results) hash = hashOf(hash, id);
      return { value, count: results.length, hash };
    },
    close: async () => {
      await worker.close();
      await engine.close();
    },
  };
}

/** Each thread is told once which of the jobs are its own, and answers once. */
async function plainCase(threads: number, jobs: number, rounds: number): Promise<Case> {
  const file = new URL('./busy-thread.js', import.meta.url);
  const pool = Array.from({ length: threads }, () => new Thread(file, { workerData: 'plain' }));
  await Promise.all(pool.map((thread) => once(thread, 'online')));
  return {
    name: `the same in ${threads} plain thread${threads === 1 ? '' : 's'}`,
    unit: 'jobs/s',
    expected: { count: jobs, hash: hashOfIds(jobs) },
    async once() {
      const started = performance.now();
      const answers = pool.map((thread) => once(thread, 'message') as Promise<[BusyResult[]]>);
      for (const [nth, thread] of pool.entries()) thread.postMessage({ nth, threads, jobs, rounds });
      const results = (await Promise.all(answers)).flatMap(([share]) => share);
      const value = (jobs * 1000) / (performance.now() - started);
      return { value, count: results.length, hash: results.reduce((hash, { id }) => hashOf(hash, id), 0) };
    },
    close: async () => {
      for (const thread of pool) await thread.terminate();
    },
  };
}

const cpuBoundPart: Part = {
  name: 'cpu-bound',
  async open({ quick }) {
    const jobs = quick ? 20 : 1_000;
    const rounds = quick ? 1_000 : roundsPerMillisecond();
    const [one, two] = [await queueCase(1, jobs, rounds), await queueCase(2, jobs, rounds)];
    const [plainOne, plainTwo] = [await plainCase(1, jobs, rounds), await plainCase(2, jobs, rounds)];
    return {
      name: 'cpu-bound',
      warmups: quick ? 1 : 5, // until each isolate has compiled what it runs, which takes a core from the handlers
      repetitions: 5,
      cases: [one, two, plainOne, plainTwo],
      ratios: [
        { of: two.name, to: one.name, label: '2 worker threads ÷ 1', atLeast: 1.9 },
        { of: plainTwo.name, to: plainOne.name, label: '2 plain threads ÷ 1' },
      ],
    };
  },
};

export const cpuBoundParts: readonly Part[] = [cpuBoundPart];
