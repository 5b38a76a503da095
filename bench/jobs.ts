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
