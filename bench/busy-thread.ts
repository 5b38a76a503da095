/** Pure computing, as a processor file and as a plain thread. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Job } from 'flashq';

export interface BusyJob {
  readonly id: number;
  readonly rounds: number;
}

export interface BusyResult {
  readonly id: number;
  /** Returned so that the computing can't be left out. */
  readonly value: number;
}

interface Share {
  readonly nth: number;
  readonly threads: number;
  readonly jobs: number;
  readonly rounds: number;
}

/** A chain of dependent multiplications: no memory traffic, nothing to run ahead of. */
export function compute(rounds: number): number {
  let value = 1;
  for (let round = 0; round < rounds; round++) value = (Math.imul(value, 0x5bd1e995) ^ (value >>> 13)) + round;
  return value;
}

export default async ({ data }: Job<BusyJob, BusyResult>): Promise<BusyResult> => ({
  id: data.id,
  value: compute(data.rounds),
});

if (workerData === 'plain') {
  parentPort!.on('message', ({ nth, threads, jobs, rounds }: Share) => {
    const results: BusyResult[] = [];
    for (let id = nth; id < jobs; id += threads) results.push({ id, value: compute(rounds) });
    parentPort!.postMessage(results);
  });
}
