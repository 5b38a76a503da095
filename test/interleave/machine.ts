/**
 * Virtual threads over one shared memory: an instance and an Asyncify stack each, run one at a time, switched where the scheduler says.
 * A thread's program is a generator that yields calls of the wasm's exports and gets their results; what it does between two calls is
 * one step with the call before.
 */

export interface Call {
  readonly name: string;
  readonly args: readonly number[];
}

/** Suspends the thread until it is true. */
export interface Until {
  readonly until: () => boolean;
}

export type Program = Generator<Call | Until, void, number>;
export type Exports = Record<string, (...args: number[]) => number>;

const PAGE = 65536;
const STACK_BYTES = 65536;
const UNWINDING = 1;
const REWINDING = 2;

/** Whoever decides who runs next. `current` is -1 at the start and when the last one has ended. */
export type Decide = (current: number, enabled: readonly number[]) => number;

interface Thread {
  readonly exports: Exports;
  readonly stack: number;
  program: Program;
  call: Call | undefined;
  until: (() => boolean) | undefined;
  isSuspended: boolean;
  isDone: boolean;
  steps: number;
  /** It stops for good before this step. */
  diesAt: number;
}

export class Machine {
  readonly memory: WebAssembly.Memory;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  /** Steps of all threads so far: the time of the histories. */
  time = 0;
  readonly #pages: number;
  readonly #threads: Thread[] = [];
  readonly #direct: Exports;
  #snapshot: Uint8Array | undefined;
  #current = -1;
  #decide: Decide = () => -1;
  #next = -1;
  /** Threads of the scenario. */
  #count = 0;

  /** `pages` of memory for the module; the stacks lie behind them. */
  constructor(module: WebAssembly.Module, pages: number, threads: number) {
    this.#pages = pages;
    this.memory = new WebAssembly.Memory({ initial: pages + threads + 1, maximum: 65535, shared: true });
    this.u8 = new Uint8Array(this.memory.buffer);
    this.u32 = new Uint32Array(this.memory.buffer);
    const instance = (step: () => void) =>
      new WebAssembly.Instance(module, { env: { memory: this.memory, step } }).exports as unknown as Exports;
    this.#direct = instance(() => {});
    for (let index = 0; index < threads; index++) {
      const stack = (pages + index) * PAGE;
      const exports = instance(() => this.#step(index));
      this.#threads.push({ exports, stack, ...IDLE });
    }
  }

  /** Calls outside of every schedule: before it (set-up) or after it (what the engine would do). */
  get direct(): Exports {
    return this.#direct;
  }

  /** The state from which every schedule starts. `touched`: the word that counts the pages in use, which only grows. */
  save(touched?: number): void {
    this.#touched = touched;
    this.#snapshot = this.u8.slice(0, this.#pagesTouched() * PAGE);
  }

  /** Pages that were first used in the schedule before are zero again. */
  restore(): void {
    const snapshot = this.#snapshot as Uint8Array;
    this.u8.fill(0, snapshot.length, Math.max(snapshot.length, this.#pagesTouched() * PAGE));
    this.u8.set(snapshot);
    this.time = 0;
  }

  #touched: number | undefined;

  #pagesTouched(): number {
    return this.#touched === undefined ? this.#pages : (this.u32[this.#touched >>> 2] as number);
  }

  /** Runs the programs to their ends, or to where nothing can run any more. Throws when they take too long: somebody spins. */
  run(programs: readonly Program[], decide: Decide, dead?: { thread: number; step: number }): void {
    for (let i = 0; i < programs.length; i++) {
      Object.assign(this.#threads[i] as Thread, IDLE, { program: programs[i] });
      if (dead?.thread === i) (this.#threads[i] as Thread).diesAt = dead.step;
    }
    this.#decide = decide;
    this.#count = programs.length;
    this.#current = -1;
    while (true) {
      const enabled = this.#enabled(programs.length);
      if (enabled.length === 0) return;
      this.#next = this.#decide(this.#current, enabled);
      this.#current = this.#next;
      this.#advance(this.#threads[this.#current] as Thread);
      if ((this.#threads[this.#current] as Thread).isDone) this.#current = -1;
    }
  }

  #enabled(count: number): number[] {
    const enabled: number[] = [];
    for (let i = 0; i < count; i++) if (this.#isEnabled(this.#threads[i] as Thread)) enabled.push(i);
    return enabled;
  }

  #isEnabled(thread: Thread): boolean {
    return !thread.isDone && thread.steps < thread.diesAt && (thread.until === undefined || thread.until());
  }

  isDone(thread: number): boolean {
    return (this.#threads[thread] as Thread).isDone;
  }

  stepsOf(thread: number): number {
    return (this.#threads[thread] as Thread).steps;
  }

  /** The yield in front of an access. Stays in wasm while the scheduler lets the thread go on. */
  #step(index: number): void {
    const thread = this.#threads[index] as Thread;
    if ((thread.exports.asyncify_get_state as () => number)() === REWINDING) {
      (thread.exports.asyncify_stop_rewind as () => number)();
      return;
    }
    thread.steps++;
    this.time++;
    if (this.time > TIME_MAX) throw new Error('the schedule does not end: a thread spins');
    if (thread.steps < thread.diesAt) {
      this.#next = this.#decide(index, this.#enabled(this.#count));
      if (this.#next === index) return;
    }
    this.u32[thread.stack >>> 2] = thread.stack + 8;
    this.u32[(thread.stack >>> 2) + 1] = thread.stack + STACK_BYTES;
    (thread.exports.asyncify_start_unwind as (at: number) => number)(thread.stack);
  }

  /** Runs a thread until it is suspended, waits, or ends; and those that are switched to in the middle of it. */
  #advance(first: Thread): void {
    let thread = first;
    while (true) {
      this.#runOne(thread);
      if (!thread.isSuspended || thread.steps >= thread.diesAt) return;
      // Its step has chosen another one.
      thread = this.#threads[this.#next] as Thread;
      this.#current = this.#next;
    }
  }

  #runOne(thread: Thread): void {
    if (thread.call === undefined && thread.until === undefined && !this.#fetch(thread, 0)) return;
    while (true) {
      if (thread.until !== undefined) {
        if (!thread.until()) return;
        thread.until = undefined;
        if (!this.#fetch(thread, 0)) return;
        continue;
      }
      const { exports, isSuspended } = thread;
      const { name, args } = thread.call as Call;
      if (isSuspended) {
        thread.isSuspended = false;
        (exports.asyncify_start_rewind as (at: number) => number)(thread.stack);
      }
      const result = (exports[name] as (...args: number[]) => number)(...args);
      if ((exports.asyncify_get_state as () => number)() === UNWINDING) {
        (exports.asyncify_stop_unwind as () => number)();
        thread.isSuspended = true;
        return;
      }
      this.time++;
      if (!this.#fetch(thread, result)) return;
    }
  }

  /** Gets the next call from the program; false when it has ended. */
  #fetch(thread: Thread, result: number): boolean {
    const { value, done } = thread.program.next(result);
    thread.call = undefined;
    if (done === true) {
      thread.isDone = true;
      return false;
    }
    if ('until' in value) thread.until = value.until;
    else thread.call = value;
    return true;
  }
}

const TIME_MAX = 20_000;
const NOBODY: Program = (function* () {})();
const IDLE = {
  program: NOBODY,
  call: undefined,
  until: undefined,
  isSuspended: false,
  isDone: false,
  steps: 0,
  diesAt: Number.POSITIVE_INFINITY,
};

export function call(name: string, ...args: number[]): Call {
  return { name, args };
}
