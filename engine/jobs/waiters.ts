/**
 * Who waits for a job's end. A wait is one object for any number of jobs. A job that somebody waits for carries the flag WAITED, and
 * its slot's number finds the wait: in pages of plain arrays, since a map cost a fifth of a microsecond a job.
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

/** Which jobs a wait is for, in messages. */
export type NameOf = (index: number) => { queue: string; id: string };

/** One call of `finished` or `addAndWait`. */
export abstract class Wait {
  pending: number;
  done = false;
  cancelTimer: (() => void) | undefined;
  /** Set while it keeps the process alive. */
  onEnd: (() => void) | undefined;

  constructor(count: number) {
    this.pending = count;
  }

  /** The job at `index` has completed. */
  abstract complete(index: number, value: unknown): void;

  /** The job at `index` has ended otherwise. */
  abstract fail(index: number, error: Error): void;

  /** The wait is over without its jobs. */
  abstract abandon(error: unknown): void;

  /** The number of the slot waited for at `index`; 0 when that job has ended. */
  abstract placeAt(index: number): number;
  abstract setPlace(index: number, place: number): void;
  abstract get count(): number;

  protected end(): void {
    this.done = true;
    this.cancelTimer?.();
    this.onEnd?.();
  }
}

/** For one job: its result, as it is. */
export class OneWait extends Wait {
  readonly promise: Promise<unknown>;
  #place = 0;
  #resolve!: (value: unknown) => void;
  #reject!: (error: unknown) => void;

  constructor() {
    super(1);
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  complete(_index: number, value: unknown): void {
    if (this.done) return;
    this.pending = 0;
    this.end();
    this.#resolve(value);
  }

  fail(_index: number, error: Error): void {
    this.pending = 0;
    this.abandon(error);
  }

  abandon(error: unknown): void {
    if (this.done) return;
    this.end();
    this.#reject(error);
  }

  placeAt(): number {
    return this.#place;
  }

  setPlace(_index: number, place: number): void {
    this.#place = place;
  }

  get count(): number {
    return 1;
  }
}

/** For many: the results in order. Not `settled`: rejects with the failure that happened first. */
export class ManyWait extends Wait {
  readonly promise: Promise<unknown[]>;
  readonly #results: unknown[];
  readonly #settled: boolean;
  readonly #places: number[] = [];
  #resolve!: (results: unknown[]) => void;
  #reject!: (error: unknown) => void;

  constructor(count: number, settled: boolean) {
    super(count);
    this.#settled = settled;
    this.#results = new Array(count).fill(undefined);
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  complete(index: number, value: unknown): void {
    if (this.done) return;
    this.#places[index] = 0;
    this.#results[index] = this.#settled ? fulfilled(value) : value;
    this.#oneLess();
  }

  fail(index: number, error: Error): void {
    if (this.done) return;
    this.#places[index] = 0;
    if (!this.#settled) {
      this.abandon(error);
      return;
    }
    this.#results[index] = { status: 'rejected', reason: error } satisfies SettledResult;
    this.#oneLess();
  }

  #oneLess(): void {
    if (--this.pending > 0) return;
    this.end();
    this.#resolve(this.#results);
  }

  abandon(error: unknown): void {
    if (this.done) return;
    this.end();
    this.#reject(error);
  }

  placeAt(index: number): number {
    return this.#places[index] ?? 0;
  }

  /** In the order of the indices. */
  setPlace(index: number, place: number): void {
    while (this.#places.length < index) this.#places.push(0);
    this.#places[index] = place;
  }

  get count(): number {
    return this.#results.length;
  }
}

const PAGE_SHIFT = 12;
const PAGE_SLOTS = 1 << PAGE_SHIFT;

/** The waits for 4,096 neighbouring slots. */
interface Page {
  readonly waits: (Wait | undefined)[];
  readonly indices: number[];
  count: number;
}

function newPage(): Page {
  return { waits: new Array(PAGE_SLOTS).fill(undefined), indices: new Array(PAGE_SLOTS).fill(0), count: 0 };
}

/** Further waits for a job beside the first. */
interface Other {
  readonly wait: Wait;
  readonly index: number;
}

export class Waiters {
  readonly #pages: (Page | undefined)[] = [];
  /** The page that was emptied last: to make one takes longer than the rest of a wait, and slots are used in turn. */
  #spare: Page | undefined;
  readonly #others = new Map<number, Other[]>();
  /** What `next` has found. */
  wait!: Wait;
  index = 0;
  readonly #clock: Clock;
  readonly #keepAlive: KeepAlive;

  constructor(clock: Clock, keepAlive: KeepAlive) {
    this.#clock = clock;
    this.#keepAlive = keepAlive;
  }

  /** The job in slot number `place` is the one at `index` of a wait; its slot carries WAITED. */
  add(wait: Wait, index: number, place: number): void {
    wait.setPlace(index, place);
    const at = place >>> PAGE_SHIFT;
    let page = this.#pages[at];
    if (page === undefined) {
      while (this.#pages.length < at) this.#pages.push(undefined);
      page = this.#spare ?? newPage();
      this.#spare = undefined;
      this.#pages[at] = page;
    }
    const slot = place & (PAGE_SLOTS - 1);
    if (page.waits[slot] === undefined) {
      page.waits[slot] = wait;
      page.indices[slot] = index;
      page.count++;
      return;
    }
    const others = this.#others.get(place);
    if (others === undefined) this.#others.set(place, [{ wait, index }]);
    else others.push({ wait, index });
  }

  /**
   * Takes out one who waits for that job, and puts the wait and its index into `wait` and `index`. False when there is none left. The
   * caller tells the wait, and then calls `told`.
   */
  next(place: number): boolean {
    const page = this.#pages[place >>> PAGE_SHIFT];
    const slot = place & (PAGE_SLOTS - 1);
    const wait = page?.waits[slot];
    if (page === undefined || wait === undefined) return false;
    this.wait = wait;
    this.index = page.indices[slot] as number;
    this.#drop(page, place);
    return true;
  }

  /** The first of a place goes, and another one takes its place. */
  #drop(page: Page, place: number): void {
    const slot = place & (PAGE_SLOTS - 1);
    const other = this.#others.size === 0 ? undefined : this.#others.get(place)?.shift();
    if (other !== undefined) {
      page.waits[slot] = other.wait;
      page.indices[slot] = other.index;
      if (this.#others.get(place)?.length === 0) this.#others.delete(place);
      return;
    }
    page.waits[slot] = undefined;
    if (--page.count === 0) {
      this.#pages[place >>> PAGE_SHIFT] = undefined;
      this.#spare = page;
    }
  }

  /** A wait may be over before all its jobs are: then it waits for none of them. */
  told(wait: Wait): void {
    if (wait.done && wait.pending > 0) this.forget(wait);
  }

  /** Every job of the wait has been added or settled: from now on it keeps the process alive, and may time out. */
  begin(wait: Wait, timeoutMs: number | undefined, nameOf: NameOf): void {
    if (wait.done) {
      this.told(wait);
      return;
    }
    if (timeoutMs !== undefined) {
      wait.cancelTimer = this.#clock.setTimer(() => this.#timeOut(wait, timeoutMs, nameOf), timeoutMs);
    }
    this.#keepAlive.acquire();
    wait.onEnd = this.#release;
  }

  readonly #release = (): void => this.#keepAlive.release();

  #timeOut(wait: Wait, timeoutMs: number, nameOf: NameOf): void {
    const names: { queue: string; id: string }[] = [];
    for (let index = 0; index < wait.count && names.length < 100; index++) {
      if (wait.placeAt(index) !== 0) names.push(nameOf(index));
    }
    wait.abandon(new WaitTimeoutError({ queue: names[0]?.queue ?? '', jobIds: names.map(({ id }) => id), timeoutMs }));
    this.forget(wait);
  }

  /** Takes a wait out of the places of its jobs. */
  forget(wait: Wait): void {
    for (let index = 0; index < wait.count; index++) {
      const place = wait.placeAt(index);
      if (place === 0) continue;
      wait.setPlace(index, 0);
      this.#remove(wait, index, place);
    }
  }

  #remove(wait: Wait, index: number, place: number): void {
    const page = this.#pages[place >>> PAGE_SHIFT];
    const slot = place & (PAGE_SLOTS - 1);
    if (page === undefined) return;
    if (page.waits[slot] === wait && page.indices[slot] === index) {
      this.#drop(page, place);
      return;
    }
    const others = this.#others.get(place);
    if (others === undefined) return;
    const kept = others.filter((other) => other.wait !== wait || other.index !== index);
    if (kept.length === 0) this.#others.delete(place);
    else this.#others.set(place, kept);
  }

  /** The engine closes: nobody will be told any more. */
  rejectAll(error: Error): void {
    for (const page of this.#pages) {
      for (const wait of page?.waits ?? []) wait?.abandon(error);
    }
    for (const others of this.#others.values()) for (const { wait } of others) wait.abandon(error);
    this.#pages.length = 0;
    this.#others.clear();
  }
}

function fulfilled(value: unknown): SettledResult {
  return { status: 'fulfilled', value };
}
