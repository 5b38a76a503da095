/**
 * Claims for function handlers, which run on the engine's own thread: the same `ClaimSource` as everywhere, straight on the core.
 * Delivery happens in a microtask after something became ready, in turns: after `TURN_JOBS` deliveries the event loop gets a turn, so
 * that handlers that never really wait cannot starve timers and sockets.
 */
import type {
  AbortReason,
  BatchSettings,
  ClaimedJob,
  ClaimOptions,
  ClaimSink,
  ClaimSource,
  Outcome,
} from '../client/connection.js';
import { L, type Slot } from './core/index.js';
import { claimedJob } from './jobs/claimed.js';
import { GROUPED } from './jobs/flags.js';
import { groupStarted } from './jobs/groups.js';
import { armTimeout, settleLocal } from './jobs/settle.js';
import type { Breaker } from './patterns/breakers.js';
import { closeBatches } from './queue-control.js';
import type { QueueEntry, ReadyListener } from './queues.js';
import { type EngineState, flagsOf, type RunOwner, tell } from './state.js';

const TURN_JOBS = 256;
/** Of a job that turned out to belong into another batch. */
const UNUSED: Outcome = { kind: 'released', unused: true };

interface Run {
  slot: Slot;
  low: number;
  high: number;
  source: LocalClaims | undefined;
}

/** All runs of function handlers; as a run's owner it is thread 1. Tickets are places in its table. */
export class LocalRuns implements RunOwner {
  readonly runs: Run[] = [];
  readonly #free: number[] = [];

  add(slot: Slot, low: number, high: number, source: LocalClaims): number {
    const ticket = this.#free.pop() ?? this.runs.length;
    const run = this.runs[ticket];
    if (run === undefined) this.runs.push({ slot, low, high, source });
    else {
      run.slot = slot;
      run.low = low;
      run.high = high;
      run.source = source;
    }
    return ticket;
  }

  free(ticket: number): void {
    const run = this.runs[ticket] as Run;
    run.source = undefined;
    run.slot = 0;
    this.#free.push(ticket);
  }

  #find(slot: Slot): number {
    return this.runs.findIndex((run) => run.slot === slot && run.source !== undefined);
  }

  abort(slot: Slot, reason: AbortReason, message: string): void {
    const ticket = this.#find(slot);
    this.runs[ticket]?.source?.sink.abort(ticket, reason, message);
  }

  /** A function can't be stopped: the job is taken from it, and what it returns later doesn't count. */
  terminate(slot: Slot): boolean {
    const run = this.runs[this.#find(slot)];
    if (run?.source === undefined) return false;
    run.slot = 0;
    run.source.running--; // the handler goes on, but no job is active by it
    return false;
  }

  graceMs(slot: Slot): number {
    return this.runs[this.#find(slot)]?.source?.abortGraceMs ?? 0;
  }
}

/** The claims of one Worker with a function handler. */
export class LocalClaims implements ClaimSource, ReadyListener {
  readonly sink: ClaimSink;
  readonly abortGraceMs: number;
  /** Runs that have a job: one that was taken from its handler doesn't count. */
  running = 0;
  readonly #state: EngineState;
  readonly #queue: QueueEntry;
  readonly #runs: LocalRuns;
  readonly #area: number;
  readonly #breaker: Breaker | undefined;
  readonly #batch: BatchSettings | undefined;
  /** Since when there were jobs, but fewer than a batch needs. */
  #fewSince: number | undefined;
  #credit = 0;
  #scheduled = false;
  #turn = 0;
  #delivered = false;
  #closed = false;
  #cancelTimer: (() => void) | undefined;

  constructor(state: EngineState, queue: QueueEntry, runs: LocalRuns, opts: ClaimOptions, sink: ClaimSink) {
    this.#state = state;
    this.#queue = queue;
    this.#runs = runs;
    this.#area = state.core.area(L.ENGINE_THREAD);
    this.sink = sink;
    this.abortGraceMs = opts.abortGraceMs;
    this.#breaker = opts.breaker === undefined ? undefined : state.breakers.use(state, queue, opts.breaker);
    this.#batch = opts.batch;
    queue.local.add(this);
    state.keepAlive.acquire();
  }

  grant(count: number): void {
    this.#credit += count;
    this.#schedule();
  }

  ready(): void {
    if (this.#credit > 0) this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    if (this.#turn < TURN_JOBS) queueMicrotask(this.#run);
    else {
      this.#turn = 0;
      setImmediate(this.#run);
    }
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    while (this.#credit > 0 && !this.#closed) {
      if (this.#turn >= TURN_JOBS) {
        this.#schedule();
        return;
      }
      if (!(this.#batch === undefined ? this.#deliverOne() : this.#deliverBatch(this.#batch))) return;
    }
  };

  #deliverOne(): boolean {
    const job = this.#claimOne();
    if (job === undefined) return false;
    this.#credit--;
    this.sink.deliver(job);
    return true;
  }

  #deliverBatch(batch: BatchSettings): boolean {
    const state = this.#state;
    if (!this.#hasEnough(batch)) return false;
    const jobs: ClaimedJob[] = [];
    let group: string | undefined;
    while (jobs.length < batch.size) {
      const job = this.#claimOne();
      if (job === undefined) break;
      if (batch.groupAffinity && jobs.length !== 0 && job.opts.group?.id !== group) {
        const { low, high } = this.#take(job.ticket);
        state.journal?.starts?.ofEngine(job.ticket, 0, 0); // nobody begins with it
        settleLocal(state, low, high, UNUSED);
        break;
      }
      group = job.opts.group?.id;
      jobs.push(job);
    }
    if (jobs.length === 0) return false;
    this.#credit--;
    this.sink.deliverBatch(jobs);
    return true;
  }

  /** Whether a batch may begin; else it is tried again when one more job is ready, or the longest wait is over. */
  #hasEnough({ minSize, maxWait }: BatchSettings): boolean {
    const { core, clock } = this.#state;
    const ready = core.ready(this.#queue.address);
    const now = clock.now();
    if (ready <= 0) {
      this.#fewSince = undefined;
      this.#nothing(L.CLAIM_EMPTY, now);
      return false;
    }
    this.#fewSince ??= now;
    if (ready < minSize && now - this.#fewSince < maxWait) {
      this.#lookIn(this.#fewSince + maxWait - now);
      return false;
    }
    this.#fewSince = undefined;
    return true;
  }

  #lookIn(ms: number): void {
    this.#cancelTimer?.();
    this.#cancelTimer = this.#state.clock.setTimer(() => this.ready(), Math.max(1, Math.ceil(ms)));
  }

  #take(ticket: number): { low: number; high: number; slot: Slot } {
    const { low, high, slot } = this.#runs.runs[ticket] as Run;
    this.#runs.free(ticket);
    if (slot !== 0) this.running--;
    return { low, high, slot };
  }

  #claimOne(): ClaimedJob | undefined {
    const state = this.#state;
    const { core } = state;
    const now = state.clock.now();
    const slot = core.wasm.claim(L.ENGINE_THREAD, this.#queue.address, 0, now, this.#breaker?.address) >>> 0;
    if (slot < L.CLAIM_CODES) {
      this.#nothing(slot, now);
      return undefined;
    }
    this.#turn++;
    this.#delivered = true;
    this.running++;
    const ticket = this.#runs.add(slot, core.ticketLow(this.#area, 0), core.ticketHigh(this.#area, 0), this);
    const flags = flagsOf(state, slot);
    const opts = state.payloads.opts(core.field(slot, L.S_PAYLOAD));
    const timeoutMs = opts.timeout ?? 0;
    if ((flags & L.FLAG_REPORT_START) !== 0) armTimeout(state, slot, timeoutMs, now);
    state.journal?.started(slot);
    if (this.#breaker !== undefined) state.breakers.began(slot, this.#breaker);
    if ((flags & GROUPED) !== 0) groupStarted(state, slot);
    tell(state, slot, 'active', () => ({ prev: 'waiting' }));
    state.journal?.starts?.ofEngine(ticket, core.number(slot), core.field(slot, L.S_STARTED));
    return claimedJob(core, state.payloads, this.#queue.name, slot, opts, ticket);
  }

  /** Whatever lets the queue go on calls `ready`; but for a rate limit it is only the time. */
  #nothing(code: number, now: number): void {
    if (code === L.CLAIM_RATE_LIMITED) {
      this.#lookIn(this.#state.core.wasm.rateNext(this.#queue.address, now) - now);
    }
    if (code === L.CLAIM_EMPTY && this.#delivered) {
      this.#delivered = false;
      this.sink.drained();
    }
  }

  async revoke(): Promise<number> {
    const left = this.#credit;
    this.#credit = 0;
    return left; // claims on this thread are over when the call that made them is
  }

  settle(ticket: number, outcome: Outcome): boolean {
    const { slot, low, high } = this.#take(ticket);
    if (slot === 0 && this.#state.closed) return false;
    return settleLocal(this.#state, low, high, outcome);
  }

  /** Runs that are still going are given back by whoever closes (`settle` with `released`). */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#state.keepAlive.release();
    this.#cancelTimer?.();
    this.#queue.local.delete(this);
    if (this.#batch !== undefined) closeBatches(this.#state, this.#queue, this);
  }
}
