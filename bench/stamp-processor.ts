/** Says when it was started. */
import type { Job } from 'flashq';
import type { Stamp, StampedJob } from './latency.js';

export default async ({ data }: Job<StampedJob, Stamp>): Promise<Stamp> => ({
  startedNs: Number(process.hrtime.bigint()),
  id: data.id,
});
