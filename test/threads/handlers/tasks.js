/** One handler for most tests: the job's name says what it does, its data with which cells of the board. */
import { createRequire } from 'node:module';
import { threadId } from 'node:worker_threads';
import { Queue } from 'flashq';
import { board, count, counted, opened, reached } from './board.js';

const tasks = {
  /** Fans out to `queue` and waits, without holding its slot. `swallowed`: what comes of a reference that leads nowhere. */
  async waits(job) {
    const queue = new Queue(job.data.queue);
    const swallowed = await job.waitFor('nobody').catch((error) => error.code);
    const items = [1, 2, 3].map((n) => ({ name: 'echo', data: n, opts: { jobId: `${job.id}-${n}` } }));
    await job.waitFor(await queue.addBulk(items));
    const results = await job.getDependencyResults();
    return { swallowed, results: Object.values(results), runs: job.attemptsStarted };
  },

  echo: (job) => job.data,

  async slowEcho(job) {
    await new Promise((resolve) => setImmediate(resolve));
    return job.data;
  },

  /** Calls a service that is up or down as a cell says; how often it was called. */
  async service({ data: { up, calls } }) {
    count(calls);
    await new Promise((resolve) => setImmediate(resolve));
    if (Atomics.load(board, up) === 0) throw new Error('the service is down');
    return 'served';
  },

  thread: () => threadId,

  /** What was loaded by `require` in this thread. */
  required: () => Object.keys(createRequire(import.meta.url).cache),

  /** Tells that it runs in `started`, and waits for `gate`. */
  async gate({ data: { started, gate } }) {
    if (started !== undefined) count(started);
    await opened(gate);
    return 'through';
  },

  /** As `gate`, but ends with the signal's reason. */
  async obedient({ data: { started, gate } }, { signal }) {
    if (started !== undefined) count(started);
    await opened(gate, signal);
    return 'through';
  },

  /** Ends well although it was told to stop. */
  async stubborn({ data: { started } }, { signal }) {
    count(started);
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    return 'done all the same';
  },

  /** Never ends. */
  async hangs({ data: { started } }) {
    count(started);
    await new Promise(() => {});
  },

  /** Never ends, and never lets its thread do anything else. */
  spins({ data: { started } }) {
    count(started);
    while (true);
  },

  /** Ends, and once its thread has parked lets it do nothing else until `gate` is opened. */
  blocksAfter({ data: { started, gate } }) {
    const block = (turns) => {
      if (turns > 0) setImmediate(block, turns - 1);
      else {
        count(started);
        Atomics.wait(board, gate, 0);
      }
    };
    setImmediate(block, 1000);
  },

  async exits({ data: { started, code = 3 } }) {
    if (started !== undefined) count(started);
    process.exit(code);
  },

  /** Ends its thread in its first runs; the number of the run is kept in `runs`. */
  async exitsAtFirst({ data: { runs, times } }) {
    if (count(runs) <= times) process.exit(1);
    return Atomics.load(board, runs);
  },

  /** Ends its thread so often, each time once another job has started so often. */
  async exitsWith({ data: { runs, times, with: other } }) {
    const run = count(runs);
    if (run > times) return run;
    await reached(other, run);
    process.exit(1);
  },

  async throwsOutside() {
    setImmediate(() => {
      throw new Error('nobody catches this');
    });
    await new Promise(() => {});
  },

  async rejectsOutside() {
    Promise.reject(new Error('nobody handles this'));
    await new Promise(() => {});
  },

  async eats() {
    const held = [];
    while (true) held.push(new Array(1_000_000).fill(held.length));
  },

  async fails({ data }) {
    throw new Error(data?.message ?? 'it fails');
  },

  /** Raises `peak` to how many of these run at once. */
  async crowd({ data: { inside, peak, turns = 1 } }) {
    await counted(inside, peak, async () => {
      for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
    });
  },

  /** Keeps its order: writes its number at the next place behind `next`. */
  order({ data: { next, number } }) {
    board[count(next) + next] = number;
  },

  /** Its heap grows and stays. */
  grows() {
    leaked.push(new Array(500_000).fill(leaked.length));
    return threadId;
  },

  big: ({ data: { bytes } }) => Buffer.alloc(bytes, 7),

  returnsFunction: () => ({ deep: { down: () => {} } }),

  // ---- what a handler may do with its job and the engine

  async tells(job) {
    await job.updateProgress(50);
    await job.log('half way');
    await job.updateProgress({ done: 'nearly' });
    await job.log('nearly there');
    return { state: await job.getState(), logs: await job.getLogs() };
  },

  /** Emits numbers, waiting for room or not. */
  async emits(job) {
    const { count: most, waits } = job.data;
    for (let i = 0; i < most; i++) {
      const emitted = job.emit(i);
      if (waits) await emitted;
    }
    return most;
  },

  /** Reads what another job emits. */
  async reads({ data: { queue, id } }) {
    const other = new Queue(queue);
    const job = await other.getJob(id);
    const seen = [];
    for await (const chunk of job.stream()) seen.push(chunk);
    return seen;
  },

  async updates(job) {
    if (job.attemptsMade === 1) return { ...job.data, run: 2 };
    await job.updateData({ seen: true });
    throw new Error('once more');
  },

  async adds({ data: { queue } }) {
    const other = new Queue(queue);
    const job = await other.add('echo', 'from a handler');
    const results = await other.finished([job, await other.add('echo', 'and another')]);
    await other.close();
    return results;
  },

  async nests({ data: { queue, depth } }) {
    if (depth === 0) return ['the bottom'];
    const other = new Queue(queue[depth % queue.length]);
    return [depth, ...(await other.addAndWait('nests', { queue, depth: depth - 1 }))];
  },
};

const leaked = [];

export default (job, context) => {
  const task = tasks[job.name];
  if (task === undefined) throw new Error(`no task ${job.name}`);
  return task(job, context);
};
