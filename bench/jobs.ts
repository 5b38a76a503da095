/** The small job every case passes, so that their figures can be compared. */
export interface SmallJob {
  id: number;
  to: string;
}

export interface SmallResult {
  id: number;
}

export function smallJob(id: number): SmallJob {
  return { id, to: `user${id}@example.com` };
}

/** The handler of every case: it gives way once, as a handler that awaits something does, and answers the job's id. */
export async function noop(job: SmallJob): Promise<SmallResult> {
  return { id: job.id };
}

const SAMPLES = 1_000;

/** Which of so many jobs are read back where all would be too many: evenly spread, the first among them. */
export function sampleOf(jobs: number): number[] {
  const step = Math.max(1, Math.floor(jobs / SAMPLES));
  return Array.from({ length: Math.ceil(jobs / step) }, (_, nth) => nth * step);
}
