/**
 * How long this thread is kept from its event loop: by how much a timer comes late. Also how much the thread computed from one timer to
 * the next, where the system tells (Linux): on a busy machine most of a long pause is spent waiting for a core.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { quantileOf } from './harness.js';

const TIMER_MS = 1;
const NS_PER_MS = 1e6;
const LINE_BYTES = 100;

export interface Pauses {
  /** Milliseconds. */
  readonly longest: number;
  readonly p99: number;
  /** Most milliseconds of computing between two timers: a pause of this thread's own making can't hide below it. */
  readonly cpu: number | undefined;
}

/** For the main thread: the system knows it by the number of the process. */
export class PauseProbe {
  readonly #file = process.platform === 'linux' ? openSync(`/proc/self/task/${process.pid}/schedstat`, 'r') : undefined;
  readonly #line = Buffer.alloc(LINE_BYTES);
  readonly #pauses: number[] = [];
  #cpuMost = 0;
  #last = performance.now();
  #cpuLast = this.#cpu();
  readonly #timer = setInterval(() => this.#look(), TIMER_MS);

  #look(): void {
    const now = performance.now();
    const cpu = this.#cpu();
    this.#pauses.push(Math.max(0, now - this.#last - TIMER_MS));
    this.#cpuMost = Math.max(this.#cpuMost, cpu - this.#cpuLast);
    this.#last = now;
    this.#cpuLast = cpu;
  }

  /** Milliseconds that this thread has had a core. */
  #cpu(): number {
    if (this.#file === undefined) return 0;
    const length = readSync(this.#file, this.#line, 0, LINE_BYTES, 0);
    return Number.parseInt(this.#line.toString('latin1', 0, length), 10) / NS_PER_MS;
  }

  stop(): Pauses {
    this.#look();
    clearInterval(this.#timer);
    if (this.#file !== undefined) closeSync(this.#file);
    const sorted = this.#pauses.sort((a, b) => a - b);
    return {
      longest: quantileOf(sorted, 1),
      p99: quantileOf(sorted, 0.99),
      cpu: this.#file === undefined ? undefined : this.#cpuMost,
    };
  }
}
