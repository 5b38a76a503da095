/** A named backoff and a reader of strangers' errors, beside the handler. */
export const settings = {
  backoffStrategies: { steps: (attemptsMade) => attemptsMade * 1000 },
  retryAfter: (error) => error.waitMs,
};

export default async (job) => {
  if (job.name === 'stranger' && job.attemptsMade === 0) throw Object.assign(new Error('busy'), { waitMs: 5000 });
  if (job.attemptsMade < 2 && job.name === 'steps') throw new Error(`failure ${job.attemptsMade + 1}`);
  return job.attemptsMade;
};
