/**
 * The test's side of the ledger that handlers keep (`handlers/ledger.js`), and what must hold of it at the end.
 *
 * A run puts its number into its job's cell when it begins, and takes it out when it ends. A thread that is ended leaves its numbers
 * there; the next run of the job replaces them, which is right only if that thread never does anything again. So it is checked from
 * both ends: the old run looks at its cell at every step, and a thread whose run was replaced must have exited, with the replacement's
 * note of when it was last seen still true.
 */
import { setEnvironmentData } from 'node:worker_threads';

const JOBS = 1 << 16;
const RUNS = 1 << 18;
const THREADS = 1 << 12;
const FAULTS = 64;
/** Longer than any test. */
const WAIT_MS = 600_000;
const FAULT_SAME_THREAD = 1;
const FAULT_STILL_RUNS = 2;

function layout() {
  let next = 0;
  const take = (cells: number): number => {
    next += cells;
    return next - cells;
  };
  const at = {
    RUNS,
    FAULTS,
    FAULT_SAME_THREAD,
    FAULT_STILL_RUNS,
    clock: take(1),
    threads: take(1),
    runs: take(1),
    jobs: take(1),
    enough: take(1),
    /** Runs that have ended by themselves. */
    progress: take(1),
    faults: take(1),
    fault: take(FAULTS * 3),
    replaced: take(1),
    /** The replaced run, and when its thread had last been seen. */
    replacement: take(RUNS * 2),
    /** By job. */
    owner: take(JOBS),
    starts: take(JOBS),
    acknowledged: take(JOBS),
    /** By thread. */
    threadId: take(THREADS),
    lastSeen: take(THREADS),
    /** By run. */
    runThread: take(RUNS),
    runJob: take(RUNS),
    runFrom: take(RUNS),
    runTo: take(RUNS),
  };
  return { at, cells: next };
}

const { at, cells } = layout();
const words = new Int32Array(new SharedArrayBuffer(cells * 4));
const times = new Float64Array(new SharedArrayBuffer(RUNS * 8));
setEnvironmentData('flashq-test-ledger', { words, times, at });

/** Thread ids of worker threads that have ended. Node uses none twice. */
const exited = new Set<number>();
process.on('worker', (worker) => {
  const { threadId } = worker;
  worker.once('exit', () => exited.add(threadId));
});

const FAULT_NAMES = ['', 'a job was started in a thread that still ran it', 'a run went on after another had begun'];

export interface NotedRun {
  readonly job: number;
  /** On the clock that all threads count up. A thread that was ended: the last moment at which it was seen. */
  readonly from: number;
  readonly to: number;
  readonly processedOn: number;
}

export const ledger = {
  /** Everything but the threads: those of this process's own handlers stay. */
  clear(): void {
    const threads = words.slice(at.threadId, at.threadId + THREADS * 2);
    const count = words[at.threads] as number;
    words.fill(0);
    words.set(threads, at.threadId);
    words[at.threads] = count;
    times.fill(0);
  },

  nextJob(): number {
    const job = Atomics.add(words, at.jobs, 1) + 1;
    if (job >= JOBS) throw new Error('the ledger has no place for more jobs');
    return job;
  },

  get jobs(): number {
    return Atomics.load(words, at.jobs);
  },

  isAcknowledged(job: number): boolean {
    return Atomics.load(words, at.acknowledged + job) !== 0;
  },

  /** How often the job's handler was begun. */
  starts(job: number): number {
    return Atomics.load(words, at.starts + job);
  },

  get progress(): number {
    return Atomics.load(words, at.progress);
  },

  /** Resolves when that many more runs have ended. */
  async progressed(count: number): Promise<void> {
    const wanted = ledger.progress + count;
    for (let now = ledger.progress; now < wanted; now = ledger.progress) {
      const wait = Atomics.waitAsync(words, at.progress, now, WAIT_MS);
      if (wait.async && (await wait.value) === 'timed-out') return; // nothing ends any more: the test will say so
    }
  },

  /** Thread ids of those that are inside a run, at about this moment. */
  busy(): Set<number> {
    const ids = new Set<number>();
    for (let job = 1; job <= ledger.jobs; job++) {
      const run = Atomics.load(words, at.owner + job);
      if (run !== 0) ids.add(words[at.threadId + (words[at.runThread + run] as number)] as number);
    }
    return ids;
  },

  /** Producers in other threads stop. */
  enough(): void {
    Atomics.store(words, at.enough, 1);
  },

  runs(): NotedRun[] {
    const count = Atomics.load(words, at.runs);
    return Array.from({ length: count }, (_, i): NotedRun => {
      const run = i + 1;
      const from = words[at.runFrom + run] as number;
      const end = words[at.runTo + run] as number;
      const lastSeen = words[at.lastSeen + (words[at.runThread + run] as number)] as number;
      const job = words[at.runJob + run] as number;
      return { job, from, to: end === 0 ? Math.max(from, lastSeen) : end, processedOn: times[run] as number };
    }).filter(({ from }) => from !== 0);
  },

  /** What must never be; empty when all is well. */
  wrongs(): string[] {
    const found: string[] = [];
    for (let i = 0; i < Math.min(FAULTS, words[at.faults] as number); i++) {
      const [kind, job, run] = words.subarray(at.fault + i * 3, at.fault + i * 3 + 3);
      found.push(`${FAULT_NAMES[kind as number]} (job ${job}, run ${run})`);
    }
    for (let i = 0; i < (words[at.replaced] as number); i++) {
      const [run, then] = words.subarray(at.replacement + i * 2, at.replacement + i * 2 + 2);
      const thread = words[at.runThread + (run as number)] as number;
      const id = words[at.threadId + thread] as number;
      if (!exited.has(id)) found.push(`run ${run} was replaced, but its thread ${id} has not ended`);
      const last = words[at.lastSeen + thread];
      if (last !== then) found.push(`run ${run} was replaced at ${then}, but its thread was seen alive at ${last}`);
    }
    return found;
  },

  /** How many runs had been replaced because their thread was gone. */
  get replaced(): number {
    return Atomics.load(words, at.replaced);
  },
};

/** How many of these runs there were at the fullest moment. */
export function fullest(runs: readonly NotedRun[]): number {
  const changes = runs.flatMap(({ from, to }) => [
    [from, 1],
    [to, -1],
  ]) as [number, number][];
  changes.sort(([a, up], [b, other]) => a - b || other - up); // a run that begins and ends at one moment was there
  let now = 0;
  let most = 0;
  for (const [, change] of changes) {
    now += change;
    most = Math.max(most, now);
  }
  return most;
}

/** The most starts that some window of that length holds. */
export function densest(runs: readonly NotedRun[], durationMs: number): number {
  const starts = runs.map(({ processedOn }) => processedOn).sort((a, b) => a - b);
  let most = 0;
  for (let first = 0, last = 0; last < starts.length; last++) {
    while ((starts[last] as number) - (starts[first] as number) >= durationMs) first++;
    most = Math.max(most, last - first + 1);
  }
  return most;
}
