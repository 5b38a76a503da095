/**
 * Who waits for a job's end. A wait is one object for any number of jobs; a job that somebody waits for carries the flag WAITED, so
 * that the others cost nothing.
 */
import { JobCancelledError, JobFailedError, JobRemovedError, WaitTimeoutError } from '../../client/errors.js';
import type { SettledResult } from '../../client/connection.js';
import type { Clock } from '../upkeep/clock.js';
import type { KeepAlive } from '../upkeep/keep-alive.js';

export type Ending =
  | { kind: 'completed'; value: unknown }
  | { kind: 'failed'; failedReason: string; stacktrace: readonly string[] }
  | { kind: 'cancelled'; reason: string | undefined }
  | { kind: 'removed'; state: string | undefined };

export function endingError(queue: string, jobId: string, ending: Exclude<Ending, { kind: 'completed' }>): Error {
  switch (ending.kind) {
    case 'failed':
      return new JobFailedError({ queue, jobId, failedReason: ending.failedReason, stacktrace: ending.stacktrace });
    case 'cancelled':
      return new JobCancelledError({ queue, jobId, reason: ending.reason });
    case 'removed':
      return new JobRemovedError({ queue, jobId, state: ending.state });
  }
}

/** One call of `finished`, for `count` jobs. */
class Wait {
  readonly promise: Promise<unknown[]>;
  readonly results: unknown[];
  readonly settled: boolean;
  pending: number;
  done = false;
  cancelTimer: (() => void) | undefined;
  #resolve!: (results: unknown[]) => void;
  #reject!: (error: unknown) => void;

  constructor(count: number, settled: boolean) {
    this.pending = count;
    this.settled = settled;
    this.results = new Array(count);
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  finish(): void {
    this.done = true;
    this.cancelTimer?.();
    this.#resolve(this.results);
  }

  fail(error: unknown): void {
    this.done = true;
    this.cancelTimer?.();
    this.#reject(error);
  }
}

interface Place {
  readonly wait: Wait;
  readonly index: number;
  readonly next: Place | undefined;
}

/** A job that is awaited: by number, with what its end already is if it has ended. */
export interface Awaited {
  readonly number: number;
  readonly queue: string;
  readonly id: string;
  /** Set when there is nothing to wait for. */
  readonly ending?: Ending | undefined;
}

export class Waiters {
  readonly #places = new Map<number, Place>();
  readonly #clock: Clock;
  readonly #keepAlive: KeepAlive;

  constructor(clock: Clock, keepAlive: KeepAlive) {
    this.#clock = clock;
    this.#keepAlive = keepAlive;
  }

  get size(): number {
    return this.#places.size;
  }

  /**
   * Waits for all of `jobs`, results in their order. Not `settled`: rejects with the failure that happened first (of those already there,
   * the first in order). The caller has set WAITED on the slots of those without an ending.
   */
  wait(jobs: readonly Awaited[], timeoutMs: number | undefined, settled: boolean): Promise<unknown[]> {
    const wait = new Wait(jobs.length, settled);
    for (let index = 0; index < jobs.length; index++) {
      const job = jobs[index] as Awaited;
      if (job.ending !== undefined) this.#settle(wait, index, job.queue, job.id, job.ending);
      else this.#places.set(job.number, { wait, index, next: this.#places.get(job.number) });
    }
    if (wait.pending === 0 && !wait.done) wait.finish();
    if (wait.done) {
      this.#forget(jobs, wait);
      return wait.promise;
    }
    if (timeoutMs !== undefined) {
      wait.cancelTimer = this.#clock.setTimer(() => {
        const left = jobs.filter((job, index) => !(index in wait.results) && job.ending === undefined);
        const first = jobs[0] as Awaited;
        wait.fail(new WaitTimeoutError({ queue: first.queue, jobIds: left.map((job) => job.id), timeoutMs }));
        this.#forget(jobs, wait);
      }, timeoutMs);
    }
    this.#keepAlive.hold(wait.promise);
    return wait.promise;
  }

  #forget(jobs: readonly Awaited[], wait: Wait): void {
    for (const { number } of jobs) {
      const first = this.#places.get(number);
      if (first === undefined) continue;
      const kept = without(first, wait);
      if (kept === undefined) this.#places.delete(number);
      else this.#places.set(number, kept);
    }
  }

  #settle(wait: Wait, index: number, queue: string, id: string, ending: Ending): void {
    if (wait.done) return;
    if (ending.kind === 'completed') {
      wait.results[index] = wait.settled ? fulfilled(ending.value) : ending.value;
    } else {
      const error = endingError(queue, id, ending);
      if (!wait.settled) {
        wait.fail(error);
        return;
      }
      wait.results[index] = { status: 'rejected', reason: error } satisfies SettledResult;
    }
    wait.pending--;
  }

  /** Tells everybody who waits for this job. Each waiter gets a value of its own. */
  resolve(number: number, queue: string, id: string, ending: Ending, another: () => unknown): void {
    let place = this.#places.get(number);
    if (place === undefined) return;
    this.#places.delete(number);
    let own = ending;
    while (place !== undefined) {
      const { wait, index } = place;
      this.#settle(wait, index, queue, id, own);
      if (!wait.done && wait.pending === 0) wait.finish();
      place = place.next;
      if (place !== undefined && ending.kind === 'completed') own = { kind: 'completed', value: another() };
    }
  }

  /** The engine closes: nobody will be told any more. */
  rejectAll(error: Error): void {
    for (const first of this.#places.values()) {
      for (let place: Place | undefined = first; place !== undefined; place = place.next) {
        if (!place.wait.done) place.wait.fail(error);
      }
    }
    this.#places.clear();
  }
}

function fulfilled(value: unknown): SettledResult {
  return { status: 'fulfilled', value };
}

function without(place: Place | undefined, wait: Wait): Place | undefined {
  if (place === undefined) return undefined;
  const next = without(place.next, wait);
  if (place.wait === wait) return next;
  return next === place.next ? place : { wait: place.wait, index: place.index, next };
}
