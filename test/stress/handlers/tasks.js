/** Handlers of every temper. The job's name says which; its `data.number` is its place in the ledger. */
import { DelayedError, UnrecoverableError } from 'flashq';
import { Run } from './ledger.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));
const never = () => new Promise(() => {});
const aborted = (signal) =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));

const tempers = {
  async works(run, { data: { turns = 1 } }) {
    for (let i = 0; i < turns; i++) {
      await turn();
      run.step();
    }
  },

  /** Waits for others most of the time: the run that a thread's end is most likely to meet. */
  async lingers(run) {
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      run.step();
    }
  },

  computes(run) {
    for (let i = 0; i < 10_000; i++) run.step();
  },

  /** Fails as often as its data says, then completes. */
  async flaky(run, { attemptsMade, data: { failures } }) {
    await turn();
    run.step();
    if (attemptsMade < failures) throw new Error('not yet');
  },

  async fails(run) {
    await turn();
    run.step();
    throw new Error('it fails');
  },

  refuses() {
    throw new UnrecoverableError('never');
  },

  /** Asks for another moment twice. */
  later(run) {
    if (run.count <= 2) throw new DelayedError(2);
  },

  /** Overruns its timeout in the first attempt, and lets its thread do nothing else. */
  spins(run, { attemptsMade }) {
    while (attemptsMade === 0) run.step();
  },

  /** On a thread of its own it knows no signal; where it shares one, it obeys. */
  async hangs(_, { attemptsMade }, signal) {
    if (attemptsMade === 0) await (signal === undefined ? never() : aborted(signal));
  },

  exits(run) {
    if (run.count === 1) process.exit(1);
  },

  async throws(run) {
    if (run.count > 1) return;
    setImmediate(() => {
      throw new Error('nobody catches this');
    });
    await never();
  },

  async rejects(run) {
    if (run.count > 1) return;
    Promise.reject(new Error('nobody handles this'));
    await never();
  },

  eats(run) {
    const held = [];
    while (run.count === 1) held.push(new Array(100_000).fill(held.length));
  },

  poison() {
    process.exit(2);
  },
};

/** The same as a function for a Worker of this thread: it ends for the ledger at the moment its signal aborts. */
export function polite(job, context) {
  return run(job, context.signal);
}

export default (job) => run(job, undefined);

function run(job, signal) {
  const { number } = job.data;
  const one = new Run(number, job.processedOn);
  signal?.addEventListener('abort', () => one.end(), { once: true });
  const done = () => {
    one.step();
    one.end();
    return number;
  };
  const failed = (error) => {
    one.step();
    one.end();
    throw error;
  };
  try {
    const result = tempers[job.name](one, job, signal);
    return result instanceof Promise ? result.then(done, failed) : done();
  } catch (error) {
    return failed(error);
  }
}
