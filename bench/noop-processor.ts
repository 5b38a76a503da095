/** The handler of the small job, for worker threads. */
import type { Job } from 'flashq';
import { noop, type SmallJob, type SmallResult } from './jobs.js';

export default (job: Job<SmallJob, SmallResult>): Promise<SmallResult> => noop(job.data);
