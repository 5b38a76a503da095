/**
 * How the engine's thread hears of the others: it drains their outcome and submit rings, and sleeps on its own park word when there
 * is nothing. While entries keep coming it looks again each turn of the event loop, since a wake-up costs the other thread a system
 * call and this one some 45 µs; after some turns without any it parks. How many: as long as sleeps are short, waiting awake is cheaper;
 * where entries come one by one and far between, it would take the core from the handlers that make them.
 */
import { type Core, L, type QueueAddress } from '../core/index.js';

/** Entries taken from one thread before the others, and the rest of the event loop, get their turn. */
const TURN_ENTRIES = 512;
/** Empty turns before it parks, of 1 to 3 µs each: after a sleep shorter than `SHORT_SLEEP_MS`, and after a longer one. */
const EMPTY_TURNS = 40;
const EMPTY_TURNS_AFTER_LONG_SLEEP = 2;
const SHORT_SLEEP_MS = 0.1;
/** A woken thread that has not begun to run by then is busy or gone: another is woken in its place. */
const WOKEN_MS = 1;

/** Whoever publishes in the rings of a thread. */
export interface RingOwner {
  readonly thread: number;
  /** What the thread claims from; 0 for producers. */
  readonly queue: QueueAddress;
  outcome(entry: number): void;
  submitted(entry: number): void;
}

export class Rings {
  readonly #core: Core;
  readonly #report: (error: unknown) => void;
  #owners: readonly RingOwner[] = [];
  #emptyTurns = 0;
  #patience = EMPTY_TURNS;
  #parkedAt = 0;
  #isScheduled = false;
  #isStopped = false;
  #watched: Set<QueueAddress> | undefined;

  constructor(core: Core, report: (error: unknown) => void) {
    this.#core = core;
    this.#report = report;
  }

  add(owner: RingOwner): void {
    this.#owners = [...this.#owners, owner];
    this.#schedule();
  }

  remove(owner: RingOwner): void {
    this.#owners = this.#owners.filter((other) => other !== owner);
  }

  stop(): void {
    this.#isStopped = true;
    this.#core.wasm.parkEnd(L.ENGINE_THREAD);
    Atomics.notify(this.#core.i32, this.#core.parkIndex(L.ENGINE_THREAD));
  }

  /** Takes what is there, at most `TURN_ENTRIES` a ring; how many entries that were. */
  poll(): number {
    let taken = 0;
    for (const owner of this.#owners) taken += this.drain(owner, TURN_ENTRIES);
    return taken;
  }

  /** Takes up to `most` entries of each of a thread's two rings. A peek makes the entry's block the engine's, so each is taken. */
  drain(owner: RingOwner, most: number): number {
    const { wasm } = this.#core;
    const { thread } = owner;
    let outcomes = 0;
    for (; outcomes < most; outcomes++) {
      const entry = wasm.outcomePeek(thread) >>> 0;
      if (entry === 0) break;
      this.#handle(owner, entry, true);
      wasm.outcomeTake(thread);
    }
    // It may have stopped claiming because its ring was full.
    if (outcomes !== 0 && owner.queue !== 0 && wasm.heapMayHave(owner.queue) !== 0) wasm.wakeThread(thread);
    let submits = 0;
    for (; submits < most; submits++) {
      const entry = wasm.submitPeek(thread) >>> 0;
      if (entry === 0) break;
      this.#handle(owner, entry, false);
      wasm.submitTake(thread);
    }
    return outcomes + submits;
  }

  /** An entry that can't be handled must not hold up those behind it. */
  #handle(owner: RingOwner, entry: number, isOutcome: boolean): void {
    try {
      if (isOutcome) owner.outcome(entry);
      else owner.submitted(entry);
    } catch (error) {
      this.#report(error);
    }
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isStopped) return;
    this.#isScheduled = true;
    setImmediate(this.#turn);
  }

  readonly #turn = (): void => {
    this.#isScheduled = false;
    if (this.#isStopped || this.#owners.length === 0) return;
    this.#emptyTurns = this.poll() === 0 ? this.#emptyTurns + 1 : 0;
    if (this.#emptyTurns < this.#patience) this.#schedule();
    else this.#park();
  };

  /** Pairs with `wakeThread` behind a publish: either this sees the entry, or the publisher sees the park word. */
  #park(): void {
    const { wasm, i32 } = this.#core;
    wasm.parkBegin(L.ENGINE_THREAD);
    if (this.poll() !== 0) {
      wasm.parkEnd(L.ENGINE_THREAD);
      this.#woken();
      return;
    }
    this.#parkedAt = performance.now();
    this.#isScheduled = true; // until the wait is over, whoever calls `add` must wake it
    const wait = Atomics.waitAsync(i32, this.#core.parkIndex(L.ENGINE_THREAD), L.PARK_PARKED);
    if (wait.async) void wait.value.then(this.#unpark);
    else this.#unpark();
  }

  readonly #unpark = (): void => {
    this.#core.wasm.parkEnd(L.ENGINE_THREAD);
    this.#isScheduled = false;
    const slept = performance.now() - this.#parkedAt;
    this.#patience = slept < SHORT_SLEEP_MS ? EMPTY_TURNS : EMPTY_TURNS_AFTER_LONG_SLEEP;
    this.#woken();
  };

  /** Somebody has published: at once, and then turn by turn. */
  #woken(): void {
    if (this.#isStopped) return;
    this.#emptyTurns = 0;
    this.poll();
    this.#schedule();
  }

  /** Threads of this queue have been woken: makes sure that one of them really runs, if there is another to wake in its place. */
  watchWoken(queue: QueueAddress): void {
    if (this.#watched !== undefined) {
      this.#watched.add(queue);
      return;
    }
    if (this.#countOf(queue, L.PARK_PARKED) === 0) return; // who parks from now on looks for jobs first
    this.#watched = new Set([queue]);
    setTimeout(this.#checkWoken, WOKEN_MS).unref();
  }

  readonly #checkWoken = (): void => {
    const queues = this.#watched ?? [];
    this.#watched = undefined;
    const { wasm } = this.#core;
    for (const queue of queues) {
      if (wasm.heapMayHave(queue) === 0) continue;
      const stuck = this.#countOf(queue, L.PARK_WOKEN);
      if (stuck !== 0 && wasm.wakeQueue(queue, stuck) !== 0) this.watchWoken(queue);
    }
  };

  /** How many threads that claim from this queue have that park word. */
  #countOf(queue: QueueAddress, word: number): number {
    const core = this.#core;
    let count = 0;
    for (const { thread, queue: claimed } of this.#owners) {
      if (claimed === queue && Atomics.load(core.i32, core.parkIndex(thread)) === word) count++;
    }
    return count;
  }
}
