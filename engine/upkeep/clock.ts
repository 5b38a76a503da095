/**
 * Where the engine's time comes from. Everything the engine times (delays, backoff, timeouts, retention, rate limits) asks this, so
 * that a test can drive it.
 */
export interface Clock {
  /** Milliseconds since the epoch, never going back. */
  now(): number;
  /** Calls `run` once, `ms` from now. Gives a function that prevents it. Never keeps the process alive by itself. */
  setTimer(run: () => void, ms: number): () => void;
  /** Called with a function to run whenever `now()` has jumped (test clocks); gives one that ends it. */
  onJump?(run: () => void): () => void;
}

/** Longest delay that Node's timers keep exactly; a longer one is waited for in pieces. */
const TIMER_MS_MAX = 0x7fffffff;

/** The process's monotonic clock, set to the wall clock when the process began. */
export class SystemClock implements Clock {
  readonly #origin = performance.timeOrigin;

  now(): number {
    return this.#origin + performance.now();
  }

  setTimer(run: () => void, ms: number): () => void {
    let timer: NodeJS.Timeout;
    const wait = (left: number): void => {
      timer = setTimeout(
        left > TIMER_MS_MAX ? () => wait(left - TIMER_MS_MAX) : run,
        Math.max(0, Math.min(left, TIMER_MS_MAX)),
      );
      timer.unref();
    };
    wait(ms);
    return () => clearTimeout(timer);
  }
}

interface TestTimer {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/**
 * A clock that stands still until told to move. `advance` runs the timers that become due in their order, each at its own time, and
 * lets promises settle in between.
 *
 * @example
 * const clock = new TestClock();
 * const engine = await Engine.open({ clock });
 * await queue.add('later', {}, { delay: 60_000 });
 * await clock.advance(60_000); // the job is waiting now
 */
export class TestClock implements Clock {
  #now: number;
  #timers: TestTimer[] = [];
  #order = 0;
  readonly #listeners = new Set<() => void>();

  /** `start`: milliseconds since the epoch; default 2025-01-01T00:00:00Z. */
  constructor(start = 1_735_689_600_000) {
    this.#now = start;
  }

  now(): number {
    return this.#now;
  }

  setTimer(run: () => void, ms: number): () => void {
    const timer = { at: this.#now + Math.max(0, ms), order: this.#order++, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  onJump(run: () => void): () => void {
    this.#listeners.add(run);
    return () => void this.#listeners.delete(run);
  }

  /** When the next timer is due, in milliseconds since the epoch; undefined when there is none. */
  get next(): number | undefined {
    let next: number | undefined;
    for (const { at } of this.#timers) if (next === undefined || at < next) next = at;
    return next;
  }

  /** Moves the time on by `ms`, running what becomes due on the way. Resolves when all of it, and what it led to, has run. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    while (true) {
      await settled();
      const next = this.#timers.sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (next === undefined || next.at > end) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#jump(Math.max(this.#now, next.at));
      next.run();
    }
    this.#jump(end);
    await settled();
  }

  #jump(to: number): void {
    this.#now = to;
    for (const listener of this.#listeners) listener();
  }
}

/** Two turns of the event loop: promises, and what they schedule, have run. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}
