/**
 * Circuit breakers of Workers: one for each key, for all threads and connections of this engine. Failures in a row are counted in shared
 * memory by whoever ends a run, and open the breaker there (core-wasm/assembly/breaker.ts); everything else is decided here.
 *
 * closed: failures are counted. open: nobody of that key claims, until the timeout is over. half-open: a few probes; enough successes
 * close it, one failure opens it for longer. What began before the last opening says nothing about the service as it is now.
 */
import type { BreakerSettings, BreakerStatus } from '../../client/connection.js';
import { EngineFullError } from '../../client/errors.js';
import { L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import { announce, type EngineState, tellQueue } from '../state.js';

/** Of the time of `errorRate`: outcomes are counted by parts of it. */
const WINDOW_PARTS = 10;
/** A breaker that opens again waits twice as long, less up to this share of it, so that many don't come back at once. */
const JITTER = 0.2;

/** How a run ended, for the breaker. */
export type RunEnd = 'success' | 'failure' | 'neutral' | 'lost';

interface Part {
  readonly since: number;
  failures: number;
  successes: number;
}

export class Breaker {
  readonly key: string;
  /** Its record in shared memory. */
  readonly address: number;
  settings: BreakerSettings;
  readonly queues = new Set<QueueEntry>();
  /** Grows with each opening. */
  period = 0;
  readonly #state: EngineState;
  #raw: number = L.BREAKER_CLOSED;
  #successes = 0;
  #parts: Part[] = [];
  #timeoutMs: number;
  #until = 0;
  #cancelTimer: (() => void) | undefined;

  constructor(state: EngineState, key: string, settings: BreakerSettings) {
    this.#state = state;
    this.key = key;
    this.address = state.core.wasm.breakerCreate(L.BREAKER_CELLS_MAX) >>> 0;
    if (this.address === 0) throw new EngineFullError({ limitBytes: state.limits.memoryBytes });
    this.settings = settings;
    this.#timeoutMs = settings.timeout;
    this.configure(settings);
  }

  configure(settings: BreakerSettings): void {
    if (settings.timeout !== this.settings.timeout) this.#timeoutMs = settings.timeout;
    this.settings = settings;
    this.#state.core.setField(this.address, L.BR_CELLS, settings.halfOpenMax);
    this.#state.core.wasm.breakerLimit(this.address, settings.threshold);
  }

  status(): BreakerStatus {
    this.look();
    const isOpen = this.#raw === L.BREAKER_OPEN;
    return {
      key: this.key,
      state: STATE_NAMES[this.#raw] as BreakerStatus['state'],
      failures: this.#failures,
      retryAfterMs: isOpen ? Math.max(0, this.#until - this.#state.clock.now()) : 0,
    };
  }

  get #failures(): number {
    return this.#state.core.field(this.address, L.BR_WORD) >>> L.BR_FAILURES_SHIFT;
  }

  get isClosed(): boolean {
    return this.#raw === L.BREAKER_CLOSED;
  }

  // ---- outcomes ---------------------------------------------------------------------------------------------------------------

  /** A run that began in `period` has ended. `wasProbe`: it was let through while half-open; `isCounted`: its thread has counted it. */
  over(end: RunEnd, period: number, wasProbe: boolean, isCounted: boolean): void {
    if (period === this.period) {
      if (this.#raw === L.BREAKER_HALF_OPEN && wasProbe) this.#probed(end);
      else if (this.#raw === L.BREAKER_CLOSED) this.#judge(end, isCounted);
    }
    this.look();
    // Whoever found no free probe may find this one.
    if (wasProbe && this.#raw === L.BREAKER_HALF_OPEN) this.#wake(1);
  }

  #probed(end: RunEnd): void {
    if (end === 'neutral') return;
    if (end !== 'success') {
      const grown = Math.min(this.#timeoutMs * 2, this.settings.timeoutMax);
      this.#timeoutMs = grown;
      this.#trip(grown * (1 - JITTER * this.#state.random()));
      return;
    }
    this.#successes++;
    if (this.#successes >= this.settings.successThreshold) this.reset();
  }

  /** A lost run says something about its worker, not about what the worker calls. */
  #judge(end: RunEnd, isCounted: boolean): void {
    if (end !== 'success' && end !== 'failure') return;
    if (!isCounted) this.#state.core.wasm.breakerReport(this.address, this.period, end === 'failure' ? 1 : 0);
    const { errorRate } = this.settings;
    if (errorRate === undefined) return;
    const rate = this.#rateWith(end);
    if (end === 'failure' && rate !== undefined && rate >= errorRate) this.#trip(this.#timeoutMs);
  }

  /** A thread may have opened it. */
  look(): void {
    const { core } = this.#state;
    const now = core.field(this.address, L.BR_WORD) & L.BR_STATE_MASK;
    if (this.#raw !== L.BREAKER_CLOSED || now !== L.BREAKER_OPEN) return;
    this.#trip(this.#timeoutMs);
    // Who was woken since that thread opened it has found it open: workers without it must hear of those jobs.
    this.#wake(L.THREADS_MAX);
  }

  /** The share of failures among the outcomes of the window, with this one; undefined while they are too few to say. */
  #rateWith(end: 'success' | 'failure'): number | undefined {
    const { window, minimum } = this.settings;
    const now = this.#state.clock.now();
    let part = this.#parts[this.#parts.length - 1];
    if (part === undefined || now - part.since >= window / WINDOW_PARTS) {
      part = { since: now, failures: 0, successes: 0 };
      this.#parts.push(part);
      this.#parts = this.#parts.filter(({ since }) => now - since < window);
    }
    if (end === 'failure') part.failures++;
    else part.successes++;
    let failures = 0;
    let all = 0;
    for (const one of this.#parts) {
      failures += one.failures;
      all += one.failures + one.successes;
    }
    return all < minimum ? undefined : failures / all;
  }

  // ---- states -----------------------------------------------------------------------------------------------------------------

  /** Opens it as if it had failed too often. */
  open(): void {
    this.#trip(this.#timeoutMs);
  }

  #trip(ms: number): void {
    const failures = this.#failures;
    this.period++;
    this.#forget();
    this.#until = this.#state.clock.now() + ms;
    this.#enter(L.BREAKER_OPEN, 'breaker:open', { retryAfterMs: ms, failures });
    this.#cancelTimer = this.#state.clock.setTimer(() => this.#try(), Math.ceil(ms));
  }

  #try(): void {
    this.#cancelTimer = undefined;
    this.#successes = 0;
    this.#enter(L.BREAKER_HALF_OPEN, 'breaker:half-open', {});
    this.#wake(L.THREADS_MAX);
  }

  /** Closes it; what was counted in a row begins anew. The next opening lasts as long as one would have that came now. */
  close(): void {
    this.look();
    const wasClosed = this.#raw === L.BREAKER_CLOSED;
    if (wasClosed) {
      this.#state.core.wasm.breakerSet(this.address, this.period, L.BREAKER_CLOSED);
      return;
    }
    this.#enter(L.BREAKER_CLOSED, 'breaker:closed', {});
    this.#wake(L.THREADS_MAX);
  }

  /** Closes it, and forgets all that it has counted and how long it was open. */
  reset(): void {
    this.#forget();
    this.#timeoutMs = this.settings.timeout;
    this.close();
  }

  #forget(): void {
    this.#successes = 0;
    this.#parts = [];
  }

  #enter(raw: number, event: string, args: Record<string, unknown>): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#raw = raw;
    this.#state.core.wasm.breakerSet(this.address, this.period, raw);
    for (const { name } of this.queues) tellQueue(this.#state, name, event, { key: this.key, ...args });
  }

  #wake(count: number): void {
    for (const queue of this.queues) announce(this.#state, queue, count);
  }

  stop(): void {
    this.#cancelTimer?.();
  }
}

const STATE_NAMES: Readonly<Record<number, string>> = {
  [L.BREAKER_CLOSED]: 'closed',
  [L.BREAKER_OPEN]: 'open',
  [L.BREAKER_HALF_OPEN]: 'half-open',
};

/** All breakers of an engine, and the runs that they have let through. */
export class Breakers {
  readonly #byKey = new Map<string, Breaker>();
  /** What is settled comes from another thread, which has counted it. */
  isCounted = false;
  readonly #runs = new Map<Slot, { readonly breaker: Breaker; readonly period: number }>();

  /** Whether there is any: without one, runs cost nothing. */
  get isUsed(): boolean {
    return this.#byKey.size !== 0;
  }

  all(): IterableIterator<Breaker> {
    return this.#byKey.values();
  }

  find(key: string): Breaker | undefined {
    return this.#byKey.get(key);
  }

  /** The breaker of that key, made on first use; the last settings hold. */
  use(state: EngineState, queue: QueueEntry, settings: BreakerSettings): Breaker {
    const { key = queue.name } = settings;
    let breaker = this.#byKey.get(key);
    if (breaker === undefined) {
      breaker = new Breaker(state, key, settings);
      this.#byKey.set(key, breaker);
    } else breaker.configure(settings);
    breaker.queues.add(queue);
    state.queues.setThreadsReport(queue, breaker, true); // what began before it opened is told by that
    return breaker;
  }

  /** Whether some workers of that queue are kept from claiming. */
  holdsBack(queue: QueueEntry): boolean {
    for (const breaker of this.#byKey.values()) if (!breaker.isClosed && breaker.queues.has(queue)) return true;
    return false;
  }

  /** It has let a run begin. */
  began(slot: Slot, breaker: Breaker): void {
    this.#runs.set(slot, { breaker, period: breaker.period });
  }

  /** A run has ended. `owner`: the breaker of whoever claimed it, should its start not have been told. */
  over(state: EngineState, slot: Slot, end: RunEnd, owner: Breaker | undefined): void {
    const run = this.#runs.get(slot);
    const breaker = run?.breaker ?? owner;
    if (breaker === undefined) return;
    this.#runs.delete(slot);
    const wasProbe = state.core.wasm.probeReturn(breaker.address, slot) !== 0;
    breaker.over(end, run?.period ?? breaker.period, wasProbe, this.isCounted);
  }

  stop(): void {
    for (const breaker of this.#byKey.values()) breaker.stop();
  }
}
