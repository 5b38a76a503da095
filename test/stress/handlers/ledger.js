/**
 * What a handler writes down of its runs, in memory that all threads share (`../ledger.ts` lays it out and reads it): who runs a job
 * at this moment, when every run began and ended on one clock that all threads count up, and when a thread was last seen alive.
 */
import { getEnvironmentData, threadId } from 'node:worker_threads';

const { words, times, at } = getEnvironmentData('flashq-test-ledger');

/** This thread among all that ever ran jobs; from 1. */
const me = Atomics.add(words, at.threads, 1) + 1;
words[at.threadId + me] = threadId;

function tick() {
  return Atomics.add(words, at.clock, 1) + 1;
}

/** This thread is alive: whoever has taken over one of its jobs has done so too early. */
function seen() {
  Atomics.store(words, at.lastSeen + me, tick());
}

seen();
setInterval(seen, 1).unref();

function fault(kind, job, run) {
  const index = Atomics.add(words, at.faults, 1);
  if (index < at.FAULTS) words.set([kind, job, run], at.fault + index * 3);
}

export class Run {
  #isOver = false;

  /** `job` is its number in the ledger. */
  constructor(job, processedOn) {
    this.job = job;
    this.number = Atomics.add(words, at.runs, 1) + 1;
    if (this.number >= at.RUNS) throw new Error('the ledger is full');
    words[at.runThread + this.number] = me;
    words[at.runJob + this.number] = job;
    times[this.number] = processedOn;
    seen();
    Atomics.store(words, at.runFrom + this.number, tick());
    const before = Atomics.exchange(words, at.owner + job, this.number);
    if (before !== 0) this.#replaces(before);
    /** Runs of this job that have begun, this one included. */
    this.count = Atomics.add(words, at.starts + job, 1) + 1;
  }

  /** Only a thread that is no more may have left its name there. */
  #replaces(before) {
    const thread = words[at.runThread + before];
    if (thread === me) {
      fault(at.FAULT_SAME_THREAD, this.job, before);
      return;
    }
    const index = Atomics.add(words, at.replaced, 1);
    words.set([before, Atomics.load(words, at.lastSeen + thread)], at.replacement + index * 2);
  }

  /** To be called at every step: nobody else may run the job by now. */
  step() {
    if (this.#isOver) return;
    seen();
    if (Atomics.load(words, at.owner + this.job) !== this.number) fault(at.FAULT_STILL_RUNS, this.job, this.number);
  }

  end() {
    if (this.#isOver) return;
    this.#isOver = true;
    Atomics.store(words, at.runTo + this.number, tick());
    if (Atomics.compareExchange(words, at.owner + this.job, this.number, 0) !== this.number) {
      fault(at.FAULT_STILL_RUNS, this.job, this.number);
    }
    Atomics.add(words, at.progress, 1);
    Atomics.notify(words, at.progress);
  }
}

/** The number of the next job to add, and the note that its `add` has resolved. */
export function nextJob() {
  return Atomics.add(words, at.jobs, 1) + 1;
}

export function acknowledged(job) {
  Atomics.store(words, at.acknowledged + job, 1);
}

/** True once the test wants no more jobs. */
export function isEnough() {
  return Atomics.load(words, at.enough) !== 0;
}
