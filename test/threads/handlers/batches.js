/** Takes many jobs at once; the first one's name says what it does with them. */
import { board, count, opened } from './board.js';

export const settings = {};

const tasks = {
  /** How many there were, as the result of each. */
  echo: (jobs) => jobs.map(({ data }) => [data, jobs.length]),

  /** Fails those whose data is odd. */
  odd: (jobs) =>
    jobs.map((job) => {
      if (job.data % 2 === 1 && job.attemptsMade === 0) job.setAsFailed(new Error(`odd: ${job.data}`));
      return job.data;
    }),

  /** Tells how many jobs it has in `started`, and waits for `gate`. */
  async gate(jobs) {
    const { started, gate } = jobs[0].data;
    count(started, jobs.length);
    await opened(gate);
    return jobs.map(() => 'through');
  },

  /** Ignores that one of its jobs should stop. */
  async stubborn(jobs) {
    count(jobs[0].data.started, jobs.length);
    while (Atomics.load(board, jobs[0].data.gate) === 0) await new Promise((resolve) => setImmediate(resolve));
    return jobs.map(() => 'done');
  },

  exits(jobs) {
    if (jobs.some((job) => job.name === 'exits')) process.exit(1);
    return jobs.map(() => 0);
  },
};

export default (jobs) => tasks[jobs[0].name](jobs);
