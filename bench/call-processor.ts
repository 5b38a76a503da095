/** A handler that makes one asynchronous call (a write through Node's thread pool) a job. */
import { open } from 'node:fs/promises';
import { devNull } from 'node:os';
import type { Job } from 'flashq';
import type { SmallJob, SmallResult } from './jobs.js';

const sink = await open(devNull, 'a');

export default async ({ data }: Job<SmallJob, SmallResult>): Promise<SmallResult> => {
  await sink.write(`${data.to}\n`);
  return { id: data.id };
};
