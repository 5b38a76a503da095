/**
 * Who waits for a job's end. A wait is one object for any number of jobs; a job that somebody waits for carries the flag WAITED, so
 * that the others cost nothing.
 */

import type { SettledResult } from '../../client/connection.js';
import { JobCancelledError, JobFailedError, JobRemovedError, WaitTimeoutError } from '../../client/errors.js';
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

/** One call of `finished`, for any number of jobs. */
export class Wait {
  readonly promise: Promise<unknown[]>;
  readonly results: unknown[];
  readonly settled: boolean;
  /** Numbers of the jobs waited for, 0 for those that had ended. */
  readonly numbers: number[];
  pending: number;
  done = false;
  cancelTimer: (() => void) | undefined;
  #resolve!: (results: unknown[]) => void;
  #reject!: (error: unknown) => void;

  constructor(count: number, settled: boolean) {
    this.pending = count;
    this.settled = settled;
    this.results = new Array(count).fill(undefined);
    this.numbers = new Array(count).fill(0);
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** One of the jobs has ended. */
  settle(index: number, queue: string, id: string, ending: Ending): void {
    if (this.done) return;
    this.numbers[index] = 0;
    if (ending.kind === 'completed') {
      this.results[index] = this.settled ? fulfilled(ending.value) : ending.value;
    } else {
      const error = endingError(queue, id, ending);
      if (!this.settled) {
        this.fail(error);
        return;
      }
      this.results[index] = { status: 'rejected', reason: error } satisfies SettledResult;
    }
    if (--this.pending === 0) this.#end(() => this.#resolve(this.results));
  }

  fail(error: unknown): void {
    this.#end(() => this.#reject(error));
  }

  #end(tell: () => void): void {
    this.done = true;
    this.cancelTimer?.();
    tell();
  }
}

/** A place in a wait; further waits for the same job behind it. */
interface Place {
  readonly wait: Wait;
  readonly index: number;
  readonly next: Place | undefined;
}

export class Waiters {
  readonly #places = new Map<number, Place>();
  readonly #clock: Clock;
  readonly #keepAlive: KeepAlive;

  constructor(clock: Clock, keepAlive: KeepAlive) {
    this.#clock = clock;
    this.#keepAlive = keepAlive;
  }

  /** Jobs that somebody waits for. */
  get size(): number {
    return this.#places.size;
  }

  /** Job `number` is the one at `index` of a wait; its slot carries WAITED. */
  add(wait: Wait, index: number, number: number): void {
    wait.numbers[index] = number;
    this.#places.set(number, { wait, index, next: this.#places.get(number) });
  }

  /** Every job of the wait has been added or settled: from now on it may time out. */
  begin(
    wait: Wait,
    timeoutMs: number | undefined,
    nameOf: (index: number) => { queue: string; id: string },
  ): Promise<unknown[]> {
    if (wait.done) {
      this.#forget(wait);
      return wait.promise;
    }
    if (timeoutMs !== undefined) {
      wait.cancelTimer = this.#clock.setTimer(() => this.#timeOut(wait, timeoutMs, nameOf), timeoutMs);
    }
    this.#keepAlive.hold(wait.promise);
    return wait.promise;
  }

  #timeOut(wait: Wait, timeoutMs: number, nameOf: (index: number) => { queue: string; id: string }): void {
    const open = [...wait.numbers.keys()].filter((index) => wait.numbers[index] !== 0);
    const names = open.slice(0, 100).map(nameOf);
    wait.fail(new WaitTimeoutError({ queue: names[0]?.queue ?? '', jobIds: names.map(({ id }) => id), timeoutMs }));
    this.#forget(wait);
  }

  /** A wait is over before all its jobs are. */
  #forget(wait: Wait): void {
    for (const number of wait.numbers) {
      if (number === 0) continue;
      const kept = without(this.#places.get(number), wait);
      if (kept === undefined) this.#places.delete(number);
      else this.#places.set(number, kept);
    }
  }

  /** Tells everybody who waits for this job. Each waiter gets a value of its own. */
  resolve(number: number, queue: string, id: string, ending: Ending, another: () => unknown): void {
    let place = this.#places.get(number);
    if (place === undefined) return;
    this.#places.delete(number);
    let own = ending;
    while (place !== undefined) {
      const { wait, index }: Place = place;
      const wasDone = wait.done;
      wait.settle(index, queue, id, own);
      if (wait.done && !wasDone && wait.pending > 0) this.#forget(wait);
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
