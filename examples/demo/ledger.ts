/**
 * What really happened, written by the threads that did it into memory that they share, and not taken from the queue's own
 * counters: for each task how often it was started and completed, and when. The demo judges the queue by it.
 *
 * It reaches the worker threads as environment data, which every thread that is started later inherits.
 */

import { readlinkSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { getEnvironmentData, setEnvironmentData, threadId } from 'node:worker_threads';
import { WEIGHT_SLOTS } from './embedding.js';

const KEY = 'flashq-demo-ledger';
const THREADS_MAX = 256;

interface Shared {
  readonly tasks: number;
  readonly buffer: SharedArrayBuffer;
}

export interface ThreadRecord {
  readonly threadId: number;
  /** The system's number of the thread, which `/proc/self/task` knows it by; 0 where there is no /proc. */
  readonly systemId: number;
  readonly tasks: number;
  /** Milliseconds in which the thread's event loop was not idle. */
  readonly activeMs: number;
}

export class Ledger {
  readonly tasks: number;
  readonly starts: Int32Array;
  readonly completions: Int32Array;
  /** Milliseconds of the monotonic clock, the same in every thread; 0 until it happens. */
  readonly firstStartMs: Float64Array;
  readonly lastStartMs: Float64Array;
  readonly endMs: Float64Array;
  /** The word weights of the embedding, learnt before the first job is added. */
  readonly weights: Float32Array;
  readonly #totals: Int32Array;
  readonly #threads: Int32Array;
  readonly #threadActiveMs: Float64Array;

  private constructor({ tasks, buffer }: Shared) {
    let at = 0;
    const take = <T>(
      view: new (buffer: SharedArrayBuffer, at: number, length: number) => T,
      length: number,
      bytes: number,
    ): T => {
      const taken = new view(buffer, at, length);
      at += length * bytes;
      return taken;
    };
    this.tasks = tasks;
    this.firstStartMs = take(Float64Array, tasks, 8);
    this.lastStartMs = take(Float64Array, tasks, 8);
    this.endMs = take(Float64Array, tasks, 8);
    this.#threadActiveMs = take(Float64Array, THREADS_MAX, 8);
    this.weights = take(Float32Array, WEIGHT_SLOTS, 4);
    this.starts = take(Int32Array, tasks, 4);
    this.completions = take(Int32Array, tasks, 4);
    this.#threads = take(Int32Array, THREADS_MAX * 3, 4);
    this.#totals = take(Int32Array, 3, 4);
  }

  /** Call before the first worker thread starts. */
  static create(tasks: number): Ledger {
    const bytes = tasks * (3 * 8 + 2 * 4) + THREADS_MAX * (8 + 3 * 4) + WEIGHT_SLOTS * 4 + 3 * 4;
    const shared: Shared = { tasks, buffer: new SharedArrayBuffer(bytes) };
    setEnvironmentData(KEY, shared as never);
    return new Ledger(shared);
  }

  /** In a worker thread. */
  static inherited(): Ledger {
    const shared = getEnvironmentData(KEY) as unknown as Shared | undefined;
    if (shared === undefined) throw new Error('This thread was started before the ledger was made');
    return new Ledger(shared);
  }

  static nowMs(): number {
    return Number(process.hrtime.bigint()) / 1e6;
  }

  get startedTotal(): number {
    return Atomics.load(this.#totals, 0);
  }

  get completedTotal(): number {
    return Atomics.load(this.#totals, 1);
  }

  noteStart(task: number): void {
    const now = Ledger.nowMs();
    if (Atomics.add(this.starts, task, 1) === 0) this.firstStartMs[task] = now;
    this.lastStartMs[task] = now;
    Atomics.add(this.#totals, 0, 1);
  }

  noteCompletion(task: number): void {
    this.endMs[task] = Ledger.nowMs();
    Atomics.add(this.completions, task, 1);
    Atomics.add(this.#totals, 1, 1);
  }

  /** Gives the calling thread a record of its own; the function returned keeps it up to date. */
  enterThread(): () => void {
    const slot = Atomics.add(this.#totals, 2, 1);
    if (slot >= THREADS_MAX) return () => {}; // as many replacements: its tasks still count, its CPU time is not told apart
    this.#threads[slot * 3] = threadId;
    this.#threads[slot * 3 + 1] = systemIdOfThread();
    return () => {
      Atomics.add(this.#threads, slot * 3 + 2, 1);
      this.#threadActiveMs[slot] = performance.eventLoopUtilization().active;
    };
  }

  threads(): ThreadRecord[] {
    const records: ThreadRecord[] = [];
    for (let slot = 0; slot < Math.min(THREADS_MAX, Atomics.load(this.#totals, 2)); slot++) {
      records.push({
        threadId: this.#threads[slot * 3]!,
        systemId: this.#threads[slot * 3 + 1]!,
        tasks: this.#threads[slot * 3 + 2]!,
        activeMs: this.#threadActiveMs[slot]!,
      });
    }
    return records;
  }
}

/** `/proc/thread-self` is a link to `<process>/task/<thread>`; a synchronous call is made by the calling thread itself. */
function systemIdOfThread(): number {
  try {
    return Number(readlinkSync('/proc/thread-self').split('/').at(-1));
  } catch {
    return 0;
  }
}
