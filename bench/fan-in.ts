/** What it costs that one job waits for ten thousand others, beside the same jobs without it. */
import { Engine, Queue, Worker } from 'flashq';
import { type Case, hashOf, hashOfIds, type Part, type Sample } from './harness.js';
import { noop, type SmallJob, type SmallResult, smallJob } from './jobs.js';

const QUEUE = 'fan-in';
const CONCURRENCY = 256;

interface Collected {
  readonly count: number;
  readonly hash: number;
}

type Data = SmallJob | { readonly collect: true };

async function openEngine(): Promise<{ queue: Queue<Data, SmallResult | Collected>; close: () => Promise<void> }> {
  const engine = await Engine.open({});
  const queue = new Queue<Data, SmallResult | Collected>(QUEUE, { connection: engine });
  const worker = new Worker<Data, SmallResult | Collected>(
    QUEUE,
    async (job) =>
      'collect' in job.data ? collected(Object.values(await job.getDependencyResults())) : noop(job.data),
    { connection: engine, concurrency: CONCURRENCY },
  );
  const close = async (): Promise<void> => {
    await worker.close();
    await engine.close();
  };
  return { queue, close };
}

function collected(results: readonly unknown[]): Collected {
  let hash = 0;
  for (const result of results) hash = hashOf(hash, (result as SmallResult).id);
  return { count: results.length, hash };
}

const fanInPart: Part = {
  name: 'fan-in',
  async open({ quick }) {
    const jobs = quick ? 500 : 10_000;
    const { queue, close } = await openEngine();
    const items = Array.from({ length: jobs }, (_, id) => ({ name: 'small', data: smallJob(id) }));
    const timed = async (work: () => Promise<Collected>): Promise<Sample> => {
      const started = performance.now();
      const { count, hash } = await work();
      return { value: performance.now() - started, count, hash };
    };
    const expected = { count: jobs, hash: hashOfIds(jobs) };
    const each = `${jobs.toLocaleString('en-US')} jobs`;
    const without: Case = {
      name: `${each}, each result awaited`,
      unit: 'ms',
      expected,
      once: () => timed(async () => collected(await queue.finished(await queue.addBulk(items)))),
      close,
    };
    const within: Case = {
      name: `${each} and one that depends on all`,
      unit: 'ms',
      expected,
      once: () =>
        timed(async () => {
          const depends_on = await queue.addBulk(items);
          const last = await queue.add('collect', { collect: true }, { depends_on });
          return (await queue.finished(last)) as Collected;
        }),
    };
    return {
      name: 'fan-in',
      cases: [without, within],
      ratios: [{ of: within.name, to: without.name, label: 'with ÷ without' }],
    };
  },
};

export const fanInParts: readonly Part[] = [fanInPart];
