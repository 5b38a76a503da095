/** The handler of batches of the small job, for worker threads. */
import type { Job } from 'flashq';
import { noop, type SmallJob, type SmallResult } from './jobs.js';

export default async (jobs: readonly Job<SmallJob, SmallResult>[]): Promise<SmallResult[]> => {
  const results: SmallResult[] = [];
  for (const job of jobs) results.push(await noop(job.data));
  return results;
};
