/** The engine: owns the memory, the queues, the clock's alarm, the events and the threads. */
import { EventEmitter } from 'node:events';
import type { BreakerStatus, Connection, JobCounts } from '../client/connection.js';
import { EngineClosedError, type StoreError } from '../client/errors.js';
import type { AttachedEngine } from './attached-engine.js';
import { Core, L } from './core/index.js';
import { createMemory, pagesFor } from './core/memory.js';
import { Payloads } from './core/payloads.js';
import { attachHere, defaultEngine } from './default.js';
import { EventLog } from './events/log.js';
import { InProcessConnection } from './in-process.js';
import { counts } from './jobs/control.js';
import { sweepKeys } from './jobs/deduplication.js';
import { Streams } from './jobs/streams.js';
import { Waiters } from './jobs/waiters.js';
import { LocalRuns } from './local-claims.js';
import { type EngineOptions, type ResolvedOptions, resolveEngineOptions } from './options.js';
import { Breakers } from './patterns/breakers.js';
import { Crons } from './patterns/cron.js';
import { QueueTable } from './queues.js';
import type { EngineState } from './state.js';
import { Entries } from './store/entries.js';
import type { LogOptions } from './store/log-options.js';
import { openLog } from './store/open.js';
import { AttachedConnection } from './threads/attached-connection.js';
import { Rings } from './threads/rings.js';
import { ThreadServer } from './threads/thread-server.js';
import type { EngineHandle } from './threads/wire.js';
import { Alarm } from './upkeep/alarm.js';
import { atExit } from './upkeep/at-exit.js';
import { KeepAlive } from './upkeep/keep-alive.js';
import { runPostponed } from './upkeep/postponed.js';
import { Retention } from './upkeep/retention.js';
import { runTimers } from './upkeep/timers.js';
import { VERSION } from './version.js';

/** Between two rounds of upkeep (memory of retired structures, the event log). */
const UPKEEP_MS = 1000;
/** Levels of priorities that one round of upkeep looks at in a queue which has more of them than the core keeps: some 2 ms. */
const LEVELS_SWEPT = 10_000;
const LEVELS_KEPT = 64;
/** What a log may take to close; and when the process ends without that, while it is held up. */
const LOG_CLOSE_MS = 30_000;
const EXIT_MS = 5_000;
const DLQ_JOBS = 100_000;
const DLQ_AGE_MS = 30 * 86_400_000;

export interface EngineStats {
  /** Bytes of shared memory in use, of `maxMemory`. */
  readonly memory: { readonly used: number; readonly max: number };
  /** Jobs of which the engine holds a record, in whatever state. */
  readonly jobs: number;
  readonly queues: number;
  readonly threads: number;
  /** Events since the engine was opened. */
  readonly events: number;
  /** Bytes of the log, and of what is needed of it; undefined in memory. */
  readonly log: { readonly bytes: number; readonly live: number } | undefined;
}

/**
 * A job engine in this process. Most programs never open one: `new Queue('emails')` uses `Engine.default()`.
 *
 * Events: `warning(message, code)`.
 *
 * @example
 * const engine = await Engine.open({ maxMemory: 256 * 1024 * 1024 });
 * const queue = new Queue('emails', { connection: engine });
 * await engine.close();
 */
export class Engine extends EventEmitter {
  /** How Queue, Worker and the others reach it. */
  readonly connection: Connection;
  readonly #state: EngineState;
  readonly #keepAlive: KeepAlive;
  #upkeep: NodeJS.Timeout | undefined;
  #unlisten: (() => void)[] = [];
  #closing: Promise<void> | undefined;
  /** Lets go of the data directory. */
  #release: (() => Promise<void>) | undefined;

  private constructor(options: ResolvedOptions) {
    super();
    this.#keepAlive = new KeepAlive();
    const runs = new LocalRuns();
    this.#state = createState(options, this.#keepAlive, runs, (message, code) => this.#warn(message, code));
    this.connection = new InProcessConnection(this.#state, runs);
    this.#upkeep = setInterval(() => this.#tidy(), UPKEEP_MS);
    this.#upkeep.unref();
  }

  /**
   * Opens an engine: in memory, or with a `dataDir` on what an engine before it has left there.
   *
   * @throws ValidationError for options that it doesn't know or can't honour; DataDirLockedError while another engine has the
   *   `dataDir`; StoreError when that can't be used, is damaged, or was written by a newer version; EngineFullError when `maxMemory` is
   *   too small for what is in it.
   *
   * @example
   * const engine = await Engine.open({ dataDir: './queue-data' });
   */
  static async open(opts?: EngineOptions): Promise<Engine> {
    const options = resolveEngineOptions(opts);
    const engine = new Engine(options);
    try {
      if (options.log !== undefined) await engine.#openLog(options.log);
      engine.#listen(options);
      return engine;
    } catch (error) {
      engine.#stop();
      throw error;
    }
  }

  async #openLog(options: LogOptions): Promise<void> {
    const state = this.#state;
    const { release } = await openLog(state, options, (error) => this.#logFailed(error));
    this.#release = release;
    this.#unlisten.push(
      atExit(() => {
        // With a worker, something may run of which the log does not know yet: that is no orderly end.
        state.journal?.closeSync(EXIT_MS, state.workers.size === 0 && state.pools.size === 0);
      }),
    );
  }

  /** Nothing more becomes durable: nobody is told anything any more, and no further job begins. */
  #logFailed(error: StoreError): void {
    const state = this.#state;
    for (const { address } of state.queues.all()) state.core.wasm.queueFlags(address, L.QUEUE_PAUSED, 0);
    state.waiters.rejectAll(error);
    this.#warn(
      `The engine takes nothing more, since its log can't be written: ${error.message}`,
      'FLASHQ_STORE_FAILED',
    );
  }

  /**
   * For the parts of the package that register what must be closed first. Not in the declarations.
   *
   * @internal
   */
  get state(): EngineState {
    return this.#state;
  }

  /**
   * The engine that `new Queue(name)` without a connection uses in this process; opened on first use.
   *
   * @throws ConnectionError in a thread that has no engine: post `engine.handle` to it and call `Engine.attach`.
   */
  static async default(): Promise<Engine> {
    return defaultEngine(true);
  }

  /**
   * In another thread: joins the engine that made the handle. Queues and Workers of that thread then use it by default, or by
   * `{ connection }`. A Worker there takes a function.
   *
   * @throws ConnectionError when the handle is none, or the other thread has loaded another version of flashq.
   *
   * @example
   * // main.js
   * const { handle } = engine;
   * new Worker(file, { workerData: { handle }, transferList: [handle.port] });
   * // the thread
   * const engine = Engine.attach(workerData.handle);
   * await new Queue('emails', { connection: engine }).add('welcome', { to: 'user@example.com' });
   */
  static attach(handle: EngineHandle): AttachedEngine {
    return attachHere(new AttachedConnection(handle));
  }

  /**
   * What another thread needs to use this engine (`Engine.attach`). Each is made anew, for one thread: post it once, with its `port`
   * in the transfer list. When that thread ends, however it does, what it had claimed is given back.
   *
   * @throws EngineFullError when 254 threads are attached, EngineClosedError after `close`.
   */
  get handle(): EngineHandle {
    if (this.#state.closed) throw new EngineClosedError();
    return ThreadServer.open(this.#state, { connection: this.connection, queue: 0, abortGraceMs: 0 }).handle;
  }

  #warn(message: string, code: string): void {
    if (this.listenerCount('warning') > 0) this.emit('warning', message, code);
    else process.emitWarning(message, { code });
  }

  #listen({ clock, handleSignals }: ResolvedOptions): void {
    if (clock.onJump !== undefined) {
      const { core } = this.#state;
      const mirror = () => {
        core.f64[L.H_CLOCK >>> 3] = clock.now();
        for (const server of this.#state.threads) server.wake(); // a limit of theirs may be over
      };
      mirror();
      this.#state.core.u32[L.H_CLOCK_MODE >>> 2] = 1;
      this.#unlisten.push(clock.onJump(mirror));
    }
    if (handleSignals) {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) {
        const handle = () => void this.close().finally(() => process.kill(process.pid, signal));
        process.once(signal, handle);
        this.#unlisten.push(() => process.removeListener(signal, handle));
      }
    }
  }

  #tidy(): void {
    const { core } = this.#state;
    for (const { address } of this.#state.queues.all()) {
      // A queue that has gone through many priorities and then uses few would keep the empty levels of all.
      if ((core.u32[(address + L.Q_LEVELS) >>> 2] as number) > LEVELS_KEPT)
        core.wasm.levelsSweep(address, LEVELS_SWEPT, 0);
    }
    core.wasm.limboAdvance();
    core.wasm.sealedCollect();
    runPostponed(this.#state);
    sweepKeys(this.#state);
    this.#state.events.upkeep(this.#state.clock.now());
    this.#state.queues.setReportStarts(this.#state.events.recording || this.#state.journal !== undefined);
  }

  /** Figures of this moment. */
  stats(): EngineStats {
    const { core, queues, limits, events, journal } = this.#state;
    const names = [...queues.all()];
    let threads = 0;
    for (let thread = L.ENGINE_THREAD + 1; thread < L.THREADS_MAX; thread++) {
      if (core.u32[(L.THREADS_AT + thread * L.THREAD_BYTES + L.T_STATE) >>> 2] === L.THREAD_LIVE) threads++;
    }
    return {
      memory: { used: core.usedBytes(), max: limits.memoryBytes },
      jobs: core.u32[L.H_SLOTS_LIVE >>> 2] as number,
      queues: names.length,
      threads,
      events: events.last,
      log: journal === undefined ? undefined : { bytes: journal.ledger.bytes, live: journal.ledger.liveBytes },
    };
  }

  /** Whether the engine takes jobs, and if not, why. One whose log has failed must be closed and opened again. */
  health(): { ok: boolean; reason?: string } {
    if (this.#state.closed) return { ok: false, reason: 'closed' };
    const failure = this.#state.journal?.error;
    if (failure !== undefined) return { ok: false, reason: `the log can't be written: ${failure.message}` };
    const { used, max } = this.stats().memory;
    return used < max * 0.95 ? { ok: true } : { ok: false, reason: `memory is nearly full: ${used} of ${max} bytes` };
  }

  /** The queues by name, with their counts. */
  queues(): { name: string; paused: boolean; counts: JobCounts }[] {
    return [...this.#state.queues.all()].map((queue) => ({
      name: queue.name,
      paused: queue.paused,
      counts: counts(this.#state, queue),
    }));
  }

  /** The circuit breakers of Workers, by key. */
  breakers(): BreakerStatus[] {
    return [...this.#state.breakers.all()].map((breaker) => breaker.status());
  }

  /**
   * Closes its workers (their jobs finish or are given back, as `Worker.close` says), then the engine, after what has happened is
   * durable. Whoever still waits for a result gets EngineClosedError. Calling it again gives the same promise.
   *
   * @throws StoreError when something could not be made durable any more; or when the log could not be closed within 30 s: its thread
   *   then goes on until it has.
   */
  close(opts?: { timeout?: number; onTimeout?: 'requeue' | 'wait' | 'fail' }): Promise<void> {
    if (this.#closing === undefined) {
      this.#closing = this.#close(opts);
      this.#keepAlive.hold(this.#closing);
    }
    return this.#closing;
  }

  async #close(opts: { timeout?: number; onTimeout?: 'requeue' | 'wait' | 'fail' } | undefined): Promise<void> {
    const state = this.#state;
    await Promise.allSettled([...state.workers].map((worker) => worker.close(opts)));
    state.closed = true;
    const ended = [...state.threads].map((server) => {
      server.close();
      return server.ended;
    });
    await Promise.all(ended);
    state.alarm.stop();
    state.retention.stop();
    state.crons.stop();
    try {
      await state.journal?.close(LOG_CLOSE_MS);
    } finally {
      // Not while its thread is still at work on the log.
      if (state.journal?.isClosed === true) await this.#release?.();
      this.#stop();
      this.emit('closed');
    }
  }

  #stop(): void {
    const state = this.#state;
    state.closed = true;
    state.rings.stop();
    state.breakers.stop();
    state.alarm.stop();
    state.retention.stop();
    state.crons.stop();
    clearInterval(this.#upkeep);
    for (const end of this.#unlisten) end();
    state.waiters.rejectAll(new EngineClosedError());
    state.streams.closeAll();
    this.#keepAlive.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function createState(
  options: ResolvedOptions,
  keepAlive: KeepAlive,
  runs: LocalRuns,
  warn: (message: string, code: string) => void,
): EngineState {
  const { clock, random } = options;
  const core = Core.format(createMemory(), pagesFor(options.maxMemory));
  const state: EngineState = {
    core,
    clock,
    random,
    warn,
    keepAlive,
    payloads: new Payloads(core, L.ENGINE_THREAD, options.payloadLimit),
    queues: new QueueTable(core, options.maxMemory),
    events: new EventLog(Date.now().toString(36), options.eventsKept, (error) => reportListener(error)),
    waiters: new Waiters(clock, keepAlive),
    alarm: new Alarm(core, clock, () => runTimers(state)),
    rings: new Rings(core, (error) => reportListener(error)),
    entries: new Entries(),
    crons: new Crons(() => state),
    streams: new Streams(),
    keys: { any: false, due: Number.POSITIVE_INFINITY },
    threads: new Set(),
    pools: new Set(),
    workers: new Set(),
    version: VERSION,
    retention: new Retention(() => state),
    journal: undefined,
    limits: {
      memoryBytes: options.maxMemory,
      payloadBytes: options.payloadLimit,
      idempotencyIds: options.idempotencyMax,
      dlqJobs: DLQ_JOBS,
      dlqAgeMs: DLQ_AGE_MS,
      threadsMax: options.threadsMax,
    },
    owners: [undefined, runs],
    breakers: new Breakers(),
    closed: false,
    postponed: [],
    remembered: 0,
  };
  return state;
}

/** An event listener of the user's threw: told like any uncaught error would be, but it stops nothing. */
function reportListener(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : new Error(String(error)), { code: 'FLASHQ_LISTENER_ERROR' });
}
