/**
 * The floor: what two threads and JavaScript cost when there is no queue. One producer (this thread) writes each small job as JSON
 * into a plain ring in shared memory; one worker thread parses it, awaits an async no-op, writes the result as JSON into a ring
 * back; the producer reads and parses it. No ids, priorities, retries, limits or events: nothing that is a queue can beat it by
 * much, so every end-to-end figure is given as a ratio to it.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { FloorMessage } from './floor-thread.js';
import { type Case, hashOf, hashOfIds, type Part, type Sample, type Settings } from './harness.js';
import { type SmallResult, smallJob } from './jobs.js';
import { RING_BYTES, Ring } from './ring.js';

export const FLOOR = 'floor';
/** Reads of the other ring come after so many writes: one at a time, the two threads would wait for each other's cache lines. */
const WRITES_AT_ONCE = 64;

export async function floorCase({ quick }: Settings): Promise<Case> {
  const jobs = quick ? 2_000 : 300_000;
  const there = new SharedArrayBuffer(RING_BYTES);
  const back = new SharedArrayBuffer(RING_BYTES);
  const message: FloorMessage = { there, back };
  const thread = new Worker(new URL('./floor-thread.js', import.meta.url), { workerData: message });
  await once(thread, 'online');
  const toWorker = new Ring(there, 'writer');
  const toProducer = new Ring(back, 'reader');
  return {
    name: FLOOR,
    unit: 'jobs/s',
    expected: { count: jobs, hash: hashOfIds(jobs) },
    once: async () => passJobs(toWorker, toProducer, jobs),
    close: async () => {
      await thread.terminate();
    },
  };
}

function passJobs(toWorker: Ring, toProducer: Ring, jobs: number): Sample {
  let written = 0;
  let count = 0;
  let hash = 0;
  const started = performance.now();
  while (count < jobs) {
    const before = written + count;
    const limit = Math.min(jobs, written + WRITES_AT_ONCE);
    while (written < limit && toWorker.write(JSON.stringify(smallJob(written)))) written++;
    toWorker.wakeReader();
    for (let text = toProducer.read(); text !== undefined; text = toProducer.read()) {
      const result = JSON.parse(text) as SmallResult;
      hash = hashOf(hash, result.id);
      count++;
    }
    toProducer.wakeWriter();
    if (written + count === before && count < jobs) toProducer.waitReadable();
  }
  const seconds = (performance.now() - started) / 1000;
  return { value: jobs / seconds, count, hash };
}

export const floorPart: Part = {
  name: 'floor',
  open: async (settings) => ({ name: 'floor', cases: [await floorCase(settings)] }),
};
