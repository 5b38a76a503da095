/**
 * Claims on a thread other than the engine's: the same `ClaimSource` as everywhere, straight on the shared memory. A run's ticket is
 * the number of its claim entry. With nothing to claim the thread parks on its own word, without blocking: its sockets and timers go
 * on. Deliveries come in turns, so that the event loop gets one too.
 */
import { getHeapStatistics } from 'node:v8';
import type {
  AbortReason,
  BatchSettings,
  ClaimedJob,
  ClaimSink,
  ClaimSource,
  ErrorRecord,
  JobSnapshot,
  Outcome,
} from '../../client/connection.js';
import { toErrorRecord } from '../../client/errors.js';
import { type Block, type Core, L, type QueueAddress, type Slot } from '../core/index.js';
import type { Payloads } from '../core/payloads.js';
import { claimedJob, jobId } from '../jobs/claimed.js';
import type { Failure } from '../jobs/settle.js';
import type { StartNotes } from '../store/starts.js';

const TURN_JOBS = 256;
/** The value of a release: nobody has begun with the job. */
const UNUSED = 1;
/** Between two tries to keep a result for which there was no memory. */
const RETRY_KEPT_MS = 10;
const HEAP_CHECK_JOBS = 64;
/**
 * Turns of the event loop, of 1 to 3 µs each, in which it looks again before it parks, if its last sleep was a short one. A producer
 * that feeds it job by job would else wake it every few jobs, with a system call each time.
 */
const EMPTY_TURNS = 40;
const SHORT_SLEEP_MS = 0.1;

/** What a thread knows of the engine whose memory it shares. */
export interface ThreadView {
  readonly core: Core;
  readonly payloads: Payloads;
  readonly memoryLimit: number;
  /** Of an engine with a data directory: where starts are noted while it is careful. */
  readonly starts: StartNotes | undefined;
  now(): number;
}

export interface ThreadClaimsOptions {
  readonly thread: number;
  readonly queue: string;
  readonly queueAddress: QueueAddress;
  readonly abortGraceMs: number;
  /** The address of the breaker that must let claims through. */
  readonly breaker?: number | undefined;
  readonly batch?: BatchSettings | undefined;
  readonly recycle?: { readonly jobs?: number; readonly heapMb?: number };
  /** The limits of `recycle` are reached. Called once. */
  readonly onWorn?: () => void;
  readonly onClose: () => Promise<void>;
}

/** An outcome that waits for memory. */
interface Kept {
  readonly run: number;
  readonly outcome: Outcome;
  readonly until: number;
}

export class ThreadClaims implements ClaimSource {
  readonly #view: ThreadView;
  readonly #options: ThreadClaimsOptions;
  readonly #sink: ClaimSink;
  readonly #area: number;
  readonly #parkIndex: number;
  /** By run: the slot it claimed, 0 when there is no run. */
  readonly #slots: Slot[] = [];
  readonly #free: number[] = [];
  #kept: Kept[] = [];
  #credit = 0;
  #isScheduled = false;
  #isParked = false;
  #isClosed = false;
  /** This thread's index is no more its own: nothing may be written under it. */
  #isGone = false;
  #turn = 0;
  #emptyTurns = 0;
  #patience = 0;
  #parkedAt = 0;
  #delivered = false;
  /** Since when there were jobs, but fewer than a batch needs. */
  #fewSince: number | undefined;
  #settled = 0;
  #isWorn = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(view: ThreadView, options: ThreadClaimsOptions, sink: ClaimSink) {
    this.#view = view;
    this.#options = options;
    this.#sink = sink;
    this.#area = view.core.area(options.thread);
    this.#parkIndex = view.core.parkIndex(options.thread);
  }

  // ---- claiming -------------------------------------------------------------------------------------------------------------

  grant(count: number): void {
    this.#credit += count;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isParked || this.#isClosed) return;
    this.#isScheduled = true;
    if (this.#turn < TURN_JOBS) queueMicrotask(this.#run);
    else {
      this.#turn = 0;
      setImmediate(this.#run);
    }
  }

  readonly #run = (): void => {
    this.#isScheduled = false;
    // A run that ended inside the loop has asked for another turn, and then the loop found nothing: parked twice, one of the two waits
    // would outlive this owner of the index, and swallow a wake-up of the next.
    if (this.#isParked) return;
    while (this.#credit > 0 && !this.#isClosed && this.#kept.length === 0) {
      if (this.#turn >= TURN_JOBS) {
        this.#schedule();
        return;
      }
      const { batch } = this.#options;
      const code = batch === undefined ? this.#deliverOne() : this.#deliverBatch(batch);
      if (code < L.CLAIM_CODES) {
        this.#nothing(code);
        return;
      }
    }
  };

  /** A slot, or why there is none. */
  #deliverOne(): number {
    const slot = this.#claim(this.#view.now());
    if (slot >= L.CLAIM_CODES) {
      this.#credit--;
      this.#sink.deliver(this.#begin(slot));
    }
    return slot;
  }

  #deliverBatch(batch: BatchSettings): number {
    if (!this.#hasEnough(batch)) return this.#fewSince === undefined ? L.CLAIM_EMPTY : L.CLAIM_PAUSED;
    const jobs: ClaimedJob[] = [];
    let code: number = L.CLAIM_EMPTY;
    let group: string | undefined;
    while (jobs.length < batch.size) {
      code = this.#claim(this.#view.now());
      if (code < L.CLAIM_CODES) break;
      const job = this.#begin(code);
      if (batch.groupAffinity && jobs.length !== 0 && job.opts.group?.id !== group) {
        if (this.#notesStarts) this.#view.starts?.ofThread(this.#options.thread, job.ticket, 0, 0); // nobody begins with it
        this.#end(job.ticket, L.OUTCOME_RELEASED, 0, UNUSED);
        break;
      }
      group = job.opts.group?.id;
      jobs.push(job);
    }
    if (jobs.length === 0) return code;
    this.#credit--;
    this.#sink.deliverBatch(jobs);
    return L.CLAIM_CODES;
  }

  /** Whether a batch may begin; else it is tried again when one more job is ready, or the longest wait is over. */
  #hasEnough({ minSize, maxWait }: BatchSettings): boolean {
    const ready = this.#view.core.ready(this.#options.queueAddress);
    const now = this.#view.now();
    if (ready <= 0) {
      this.#fewSince = undefined;
      return false;
    }
    this.#fewSince ??= now;
    if (ready < minSize && now - this.#fewSince < maxWait) {
      this.#setTimer(Math.max(1, Math.ceil(this.#fewSince + maxWait - now)));
      return false;
    }
    this.#fewSince = undefined;
    return true;
  }

  /** The next job's slot, or why there is none. Its run is the last free number. */
  #claim(now: number): Slot {
    const { thread, queueAddress, breaker } = this.#options;
    const run = this.#free[this.#free.length - 1] ?? this.#slots.length;
    if (run === L.CLAIM_ENTRIES_MAX) return L.CLAIM_NO_OUTCOME_SPACE;
    const { core } = this.#view;
    const period = breaker === undefined ? 0 : Atomics.load(core.u32, (breaker + L.BR_PERIOD) >>> 2);
    const slot = core.wasm.claim(thread, queueAddress, run, now, breaker) >>> 0;
    if (slot < L.CLAIM_CODES) return slot;
    if (run === this.#slots.length) this.#slots.push(slot);
    else {
      this.#free.pop();
      this.#slots[run] = slot;
    }
    if (breaker !== undefined) this.#periods[run] = period;
    this.#lastRun = run;
    return slot;
  }

  /** The period of the breaker in which the run was claimed. */
  readonly #periods: number[] = [];
  #lastRun = 0;

  /** The breaker hears of the end of a run before the engine does. */
  #report(run: number, outcome: Outcome): void {
    const { breaker } = this.#options;
    if (breaker === undefined || (outcome.kind !== 'completed' && outcome.kind !== 'failed')) return;
    const isFailure = outcome.kind === 'failed';
    if (isFailure && !(outcome.counts ?? !outcome.unrecoverable)) return;
    this.#view.core.wasm.breakerReport(breaker, this.#periods[run] as number, isFailure ? 1 : 0);
  }

  /** The run of a claim that has just been made. */
  #begin(slot: Slot): ClaimedJob {
    const { core, payloads } = this.#view;
    const run = this.#lastRun;
    this.#turn++;
    this.#emptyTurns = 0;
    this.#delivered = true;
    const opts = payloads.opts(core.field(slot, L.S_PAYLOAD));
    if (this.#notesStarts) this.#noteStart(slot, run);
    return claimedJob(core, payloads, this.#options.queue, slot, opts, run);
  }

  get #notesStarts(): boolean {
    const flags = Atomics.load(this.#view.core.u32, (this.#options.queueAddress + L.Q_FLAGS) >>> 2);
    return (flags & L.QUEUE_NOTE_START) !== 0;
  }

  #noteStart(slot: Slot, run: number): void {
    const { core, starts } = this.#view;
    starts?.ofThread(this.#options.thread, run, core.number(slot), core.field(slot, L.S_STARTED));
  }

  #nothing(code: number): void {
    if (code === L.CLAIM_EMPTY && this.#delivered) {
      this.#delivered = false;
      this.#sink.drained();
    }
    if (code !== L.CLAIM_EMPTY || this.#emptyTurns >= this.#patience) {
      this.#park();
      return;
    }
    this.#emptyTurns++;
    this.#isScheduled = true;
    setImmediate(this.#run);
  }

  /** Looks once more after the park word is set: who makes a job ready either sees the word, or is seen here. */
  #park(): void {
    const { core } = this.#view;
    const { thread, queueAddress } = this.#options;
    core.wasm.parkBegin(thread);
    const now = this.#view.now(); // after the word: a test clock that moves on wakes only who is parked
    const { batch } = this.#options;
    const slot = batch === undefined ? this.#claim(now) : this.#deliverBatch(batch);
    if (slot >= L.CLAIM_CODES) {
      core.wasm.parkEnd(thread);
      if (batch === undefined) {
        this.#credit--;
        this.#sink.deliver(this.#begin(slot));
      }
      this.#schedule();
      return;
    }
    if (slot === L.CLAIM_RATE_LIMITED) {
      const next = core.wasm.rateNext(queueAddress, now);
      this.#setTimer(Math.max(1, Math.ceil(next - now)));
    }
    this.#isParked = true;
    this.#parkedAt = performance.now();
    const wait = Atomics.waitAsync(core.i32, this.#parkIndex, L.PARK_PARKED);
    if (wait.async) void wait.value.then(this.#woken);
    else this.#woken();
  }

  readonly #woken = (): void => {
    const { wasm } = this.#view.core;
    this.#isParked = false;
    if (this.#isClosed) return;
    wasm.parkEnd(this.#options.thread);
    this.#turn = 0;
    this.#emptyTurns = 0;
    this.#patience = performance.now() - this.#parkedAt < SHORT_SLEEP_MS ? EMPTY_TURNS : 0;
    if (this.#credit > 0) this.#run();
    // Woken for a job that this thread may not take any more: somebody else must. All are told: one alone could be waiting for a batch.
    else if (wasm.heapMayHave(this.#options.queueAddress) !== 0) {
      wasm.wakeQueue(this.#options.queueAddress, L.THREADS_MAX);
    }
  };

  /** Ends the wait, if there is one. */
  #unpark(): void {
    if (!this.#isParked) return;
    const { core } = this.#view;
    // A wake-up that came first stays what it is: its promise is on the way, and passes it on.
    Atomics.compareExchange(core.i32, this.#parkIndex, L.PARK_PARKED, L.PARK_WOKEN);
    Atomics.notify(core.i32, this.#parkIndex);
  }

  #setTimer(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#ring, Math.min(ms, 0x7fffffff));
    this.#timer.unref();
  }

  readonly #ring = (): void => {
    this.#timer = undefined;
    if (this.#kept.length !== 0) this.#settleKept();
    if (this.#isParked) this.#unpark();
    else this.#schedule();
  };

  async revoke(): Promise<number> {
    const left = this.#credit;
    this.#credit = 0;
    this.#unpark(); // a thread that may not claim must not be chosen to be woken
    return left;
  }

  // ---- the end of runs ------------------------------------------------------------------------------------------------------

  /** Whether it is late, the engine finds when it takes the outcome out of the ring: then it tells `late`. */
  settle(run: number, outcome: Outcome): undefined {
    if (this.#isGone || this.#slots[run] === 0) return;
    this.#report(run, outcome);
    if (!this.#publish(run, outcome)) {
      this.#kept.push({ run, outcome, until: this.#view.now() + this.#options.abortGraceMs });
      this.#setTimer(RETRY_KEPT_MS);
    }
  }

  /** Tries the kept ones again; those whose grace is over end without their result. */
  #settleKept(): void {
    const kept = this.#kept;
    this.#kept = [];
    for (const one of kept) {
      if (this.#publish(one.run, one.outcome)) continue;
      if (this.#view.now() >= one.until) this.#end(one.run, L.OUTCOME_FAILED, 0, 0);
      else this.#kept.push(one);
    }
    if (this.#kept.length !== 0) this.#setTimer(RETRY_KEPT_MS);
  }

  /** False when there is no memory for what must be told. */
  #publish(run: number, outcome: Outcome): boolean {
    const { payloads } = this.#view;
    switch (outcome.kind) {
      case 'completed': {
        let block: Block | undefined;
        try {
          block = payloads.encodeResult(outcome.result);
        } catch (error) {
          return this.#fail(run, { error: toErrorRecord(error), unserialisable: true });
        }
        if (block === undefined) return false;
        this.#end(run, L.OUTCOME_COMPLETED, block, 0);
        return true;
      }
      case 'failed':
        return this.#fail(run, {
          error: outcome.error,
          unrecoverable: outcome.unrecoverable,
          retryDelay: outcome.retryDelay,
          timedOut: outcome.timedOut,
          counts: outcome.counts,
        });
      case 'cancelled':
        return this.#tell(run, L.OUTCOME_CANCELLED, { error: outcome.error });
      case 'delayed':
        this.#end(run, L.OUTCOME_DELAYED, 0, outcome.delayMs);
        return true;
      case 'waiting':
        this.#end(run, L.OUTCOME_WAITING, 0, 0);
        return true;
      case 'released':
        this.#end(run, L.OUTCOME_RELEASED, 0, 0);
        return true;
    }
  }

  #fail(run: number, failure: Failure): boolean {
    return this.#tell(run, L.OUTCOME_FAILED, failure);
  }

  #tell(run: number, kind: number, value: Failure | { error: ErrorRecord }): boolean {
    const block = this.#view.payloads.encodeValue(value);
    if (block === undefined) return false;
    this.#end(run, kind, block, 0);
    return true;
  }

  #end(run: number, kind: number, block: Block, value: number): void {
    this.#view.core.wasm.outcomePublish(this.#options.thread, kind, run, block, this.#view.now(), value);
    this.#slots[run] = 0;
    this.#free.push(run);
    this.#settled++;
    if (!this.#isWorn && this.#worn()) {
      this.#isWorn = true;
      this.#options.onWorn?.();
    }
  }

  #worn(): boolean {
    const { jobs, heapMb } = this.#options.recycle ?? {};
    if (jobs !== undefined && this.#settled >= jobs) return true;
    return (
      heapMb !== undefined &&
      this.#settled % HEAP_CHECK_JOBS === 0 &&
      getHeapStatistics().used_heap_size > heapMb * 1_048_576
    );
  }

  late(job: JobSnapshot): void {
    this.#sink.late?.(job);
  }

  /** The engine wants that run to stop; it may have ended meanwhile, and its entry may serve another run. */
  abort(low: number, high: number, reason: AbortReason, message: string): void {
    const { core } = this.#view;
    for (let run = 0; run < this.#slots.length; run++) {
      if (this.#slots[run] === 0) continue;
      if (core.ticketLow(this.#area, run) === low && core.ticketHigh(this.#area, run) === high) {
        this.#sink.abort(run, reason, message);
        return;
      }
    }
  }

  /** The run of that job here, if there is one. */
  ticketOf(queue: string, id: string): { low: number; high: number } | undefined {
    if (queue !== this.#options.queue) return undefined;
    const { core, payloads } = this.#view;
    const run = this.#slots.findIndex((slot) => slot !== 0 && jobId(core, payloads, slot) === id);
    return run === -1 ? undefined : { low: core.ticketLow(this.#area, run), high: core.ticketHigh(this.#area, run) };
  }

  /** The engine is gone: nothing can be claimed or settled any more. */
  fail(error: Error): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isGone = true;
    clearTimeout(this.#timer);
    this.#unpark(); // a wait that stays would swallow a wake-up of the index's next owner
    this.#sink.failed(error);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    // Nobody waits for memory any more.
    for (const { run, outcome } of this.#kept) if (!this.#publish(run, outcome)) this.#end(run, L.OUTCOME_FAILED, 0, 0);
    this.#kept = [];
    this.#isGone = true;
    this.#unpark();
    await this.#options.onClose();
  }
}
