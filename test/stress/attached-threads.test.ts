/** Users' own threads that add jobs and run them are ended at random: what they were told is there, nothing is there twice. */
import { Worker as Thread } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { Field, isLong, SCALE } from './field.js';
import { ledger } from './ledger.js';

const OPTS = { attempts: 50, backoff: 1, maxDeliveries: 200, removeOnComplete: false };
const PLACES = 3;

test('what was acknowledged is there once and ends; what was not is there once or not at all', async () => {
  const field = await Field.open();
  const queue = field.queue();
  let isEnough = false;
  const threads = new Map<number, Thread>();
  const unexpected: Error[] = [];
  const open = (): Thread => {
    const { handle } = field.engine;
    const thread = new Thread(new URL('./handlers/attached.js', import.meta.url), {
      workerData: { handle, concurrency: field.random(6), opts: OPTS },
      transferList: [handle.port],
    });
    thread.on('error', (error) => void unexpected.push(error));
    return thread;
  };
  const places = Array.from({ length: PLACES }, async (_, place) => {
    while (!isEnough) {
      const thread = open();
      threads.set(place, thread);
      await new Promise<void>((resolve) => thread.once('exit', () => resolve()));
    }
  });
  // Somebody runs jobs whatever the threads do.
  await field.functionWorker({ concurrency: 2 });

  const never = new Promise<never>(() => {});
  await field.whileUnder(12 * SCALE, isLong ? 400 : 150, never, () => {
    void field.pick([...threads.values()]).terminate();
  });
  isEnough = true;
  ledger.enough();
  for (const thread of threads.values()) await thread.terminate();
  await Promise.all(places);
  expect(unexpected).toEqual([]);

  // What the last ones had begun to add is there by the time their threads' ends are known.
  while (field.engine.stats().threads > 0) await new Promise((resolve) => setImmediate(resolve));
  const counts = await queue.getJobCounts();
  const ids = await allIds(field);
  expect(ids.size).toBe(Object.values(counts).reduce((a, b) => a + b));
  await queue.finished([...ids.keys()]);
  await field.closeWorkers();

  const seen = new Set<number>();
  for (const [id, number] of ids) {
    expect(seen.has(number), `job ${number} is there twice`).toBe(false);
    seen.add(number);
    const job = (await queue.getJob(id))!;
    expect(await job.getState(), id).toBe('completed');
    expect(job.returnvalue).toBe(number);
    expect(job.attemptsMade, id).toBe(number % 8 === 0 ? 1 + (number % 3) : 0);
    expect(ledger.starts(number), id).toBeGreaterThan(0);
    expect(job.attemptsStarted, id).toBeGreaterThanOrEqual(ledger.starts(number));
  }
  for (let number = 1; number <= ledger.jobs; number++) {
    if (ledger.isAcknowledged(number)) expect(seen.has(number), `job ${number} is missing`).toBe(true);
  }
  expect(await queue.getJobCounts()).toMatchObject({
    completed: ids.size,
    failed: 0,
    active: 0,
    waiting: 0,
    delayed: 0,
  });
  expect(ledger.replaced).toBeGreaterThan(0);
  await field.reckonRest();
});

/** Every job of the engine by its id, with its number in the ledger: ids are j1, j2, ... in the order of admission. */
async function allIds(field: Field): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  const { jobs } = field.engine.stats();
  const next = field.state.core.nextNumber();
  for (let number = 1; number < next; number++) {
    const job = await field.queue().getJob(`j${number}`);
    if (job !== undefined) found.set(job.id, job.data.number);
  }
  expect(found.size).toBe(jobs);
  return found;
}
