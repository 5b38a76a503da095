/** A few jobs that stay, in front of many that come and go: without cleaning, the log would keep all of these for the sake of those. */
import { Engine, Queue, Worker } from 'flashq';
import { expect } from 'vitest';
import type { CleaningLimits } from '#engine/store/cleaner.js';
import type { Journal } from '#engine/store/journal.js';
import { temporaryDir } from '../support/places.js';
import { checkBatches, fileBytes } from './soak.js';

const DAY_MS = 86_400_000;
const OLD = 50;
const BULK = 1000;
const KEPT = BULK; // so that those of one call are there until it has been told of all
/** What a log may take, at most: so many times what is needed of it, and twice the slack. */
const FACTOR = 2.5;
/** In each step of cleaning, on the engine's thread. */
const PAUSE_MS_MAX = 10;

export interface Pauses {
  count: number;
  most_ms: number;
}

export async function cleanBehindOldJobs(options: {
  short: number;
  cleaning: Partial<CleaningLimits>;
}): Promise<{ pauses: Pauses }> {
  const dataDir = temporaryDir();
  const engine = await Engine.open({ dataDir });
  const journal = engine.state.journal!;
  journal.cleaner.limits = { ...journal.cleaner.limits, ...options.cleaning };
  const most = { bytes: 0, diskBytes: 0 };
  const steps = timeSteps(journal);
  const queue = new Queue('q', { connection: engine });
  const old = await queue.addBulk(
    Array.from({ length: OLD }, (_, n) => ({
      name: 'old',
      data: { n, text: 'x'.repeat(500) },
      opts: { delay: DAY_MS },
    })),
  );
  await journal.flush();
  const { ledger } = journal;
  const behindOld = ledger.newest;
  const worker = new Worker('q', () => 1, { connection: engine, concurrency: 500 });
  const payload = { text: 'x'.repeat(200) };
  const item = { name: 'short', data: payload, opts: { removeOnComplete: { count: KEPT } } };
  const slackBytes = 2 * journal.cleaner.limits.slackBytes;
  for (let added = 0; added < options.short; added += BULK) {
    const jobs = await queue.addBulk(Array.from({ length: BULK }, () => item));
    await queue.finished(jobs);
    most.bytes = Math.max(most.bytes, ledger.bytes - FACTOR * ledger.liveBytes);
    most.diskBytes = Math.max(most.diskBytes, fileBytes(dataDir) - FACTOR * ledger.liveBytes);
  }
  await worker.close();
  expect(most.bytes).toBeLessThan(slackBytes);
  // The file keeps the pages of what was forgotten for what comes, and those of the last truncation.
  expect(most.diskBytes).toBeLessThan(slackBytes + 16 * 1024 * 1024);
  await engine.close();
  const { first, bytes } = await checkBatches(dataDir);
  expect(first).toBeGreaterThan(behindOld);
  expect(bytes).toBeLessThan(FACTOR * ledger.liveBytes + slackBytes);
  expectShort(steps);
  const again = await Engine.open({ dataDir });
  const same = new Queue('q', { connection: again });
  expect((await same.getJobCounts()).delayed).toBe(OLD);
  for (const [n, { id }] of old.entries()) expect((await same.getJob(id))?.data).toMatchObject({ n });
  await again.close();
  return { pauses: { count: steps.length, most_ms: Math.max(...steps) } };
}

/** How long each step takes that the cleaner does after a commit. */
function timeSteps(journal: Journal): number[] {
  const { cleaner } = journal;
  const steps: number[] = [];
  const step = cleaner.step.bind(cleaner);
  cleaner.step = (durable) => {
    const begun = performance.now();
    step(durable);
    steps.push(performance.now() - begun);
  };
  return steps;
}

/** Nearly all of them: a thread that the machine takes the processor from stands still for longer, whatever it does. */
function expectShort(steps: readonly number[]): void {
  const long = steps.filter((ms) => ms > PAUSE_MS_MAX).length;
  expect(long).toBeLessThanOrEqual(Math.ceil(steps.length / 100));
}
