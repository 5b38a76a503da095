/** What an add costs whose id is there already, beside one whose id is new. */
import { Engine, Queue } from 'flashq';
import { type Case, hashOf, hashOfIds, type Part, type Sample } from './harness.js';
import { type SmallJob, type SmallResult, smallJob } from './jobs.js';

const QUEUE = 'idempotent';

interface Kind {
  readonly name: string;
  readonly bulk: number;
}

/** All ids are new in a new engine; in one that has them all, all are there. */
async function timed(
  queue: Queue<SmallJob, SmallResult>,
  jobs: number,
  bulk: number,
  isKnown: boolean,
): Promise<Sample> {
  let count = 0;
  let hash = 0;
  const note = (id: string, deduplicated: boolean, place: number): void => {
    if (deduplicated !== isKnown || id !== `id-${place}`) return;
    count++;
    hash = hashOf(hash, place);
  };
  const started = performance.now();
  for (let at = 0; at < jobs; at += bulk) {
    if (bulk === 1) {
      const { id, deduplicated } = await queue.add('small', smallJob(at), { jobId: `id-${at}` });
      note(id, deduplicated, at);
      continue;
    }
    const items = Array.from({ length: bulk }, (_, nth) => ({
      name: 'small',
      data: smallJob(at + nth),
      opts: { jobId: `id-${at + nth}` },
    }));
    const added = await queue.addBulk(items);
    for (let nth = 0; nth < bulk; nth++) note(added[nth]?.id ?? '', added[nth]?.deduplicated === true, at + nth);
  }
  return { value: jobs / ((performance.now() - started) / 1000), count, hash };
}

function cases({ name, bulk }: Kind, jobs: number): { fresh: Case; known: Case } {
  const expected = { count: jobs, hash: hashOfIds(jobs) };
  const once = async (isKnown: boolean): Promise<Sample> => {
    const engine = await Engine.open({});
    const queue = new Queue<SmallJob, SmallResult>(QUEUE, { connection: engine });
    if (isKnown) await timed(queue, jobs, bulk, false);
    const sample = await timed(queue, jobs, bulk, isKnown);
    await engine.close();
    return sample;
  };
  return {
    fresh: { name: `${name}, new ids`, unit: 'adds/s', expected, once: () => once(false) },
    known: { name: `${name}, ids that are there`, unit: 'adds/s', expected, once: () => once(true) },
  };
}

const idempotentPart: Part = {
  name: 'idempotent',
  async open({ quick }) {
    const jobs = quick ? 1_000 : 200_000;
    const one = cases({ name: 'one by one', bulk: 1 }, jobs);
    const many = cases({ name: 'bulks of 500', bulk: 500 }, jobs);
    return {
      name: 'idempotent',
      cases: [one.fresh, one.known, many.fresh, many.known],
      ratios: [one, many].map(({ fresh, known }) => ({ of: known.name, to: fresh.name, atLeast: 0.5 })),
    };
  },
};

export const idempotentParts: readonly Part[] = [idempotentPart];
