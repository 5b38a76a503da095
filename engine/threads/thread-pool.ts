/**
 * Workers whose handler is a file: one Piscina pool a Worker, and in each of its threads one long task (`pump.ts`) that works on shared
 * memory. Here is what the engine's side does: deals the concurrency, ends a thread whose run ignores its abort, starts another one
 * where a thread has ended, and backs off while the file can't be loaded.
 *
 * Facts of Piscina 5 that this rests on: aborting a task terminates its thread alone, and a replacement starts at once; `run()` rejects
 * before the thread has ended, so jobs are given back when the thread's port closes; `close()` waits for ever, `destroy()` doesn't.
 */
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import type {
  Connection,
  ErrorRecord,
  JobSnapshot,
  ThreadWorkerLink,
  ThreadWorkerSpec,
} from '../../client/connection.js';
import { deserialiseError, fromErrorRecord, ValidationError } from '../../client/errors.js';
import { L, type Slot } from '../core/index.js';
import { resultOf, snapshot } from '../jobs/records.js';
import { endTerminated, failRun, loseRun, releaseRun } from '../jobs/settle.js';
import type { Breaker } from '../patterns/breakers.js';
import { closeBatches, openBatches } from '../queue-control.js';
import type { QueueEntry } from '../queues.js';
import { afterDurable, type EngineState } from '../state.js';
import { ThreadServer } from './thread-server.js';
import type { CloseHow, PumpMessage, PumpTask } from './wire.js';

const PUMP_FILE = fileURLToPath(new URL('./pump-entry.cjs', import.meta.url));
/** Between two tries to load a handler file: doubled from the first to the last. */
const LOAD_RETRY_MS = 500;
const LOAD_RETRY_MS_MAX = 30_000;
/** What a closing thread that runs nothing may take to say so. */
const CLOSE_MS = 50;

/** Why a thread's last one has ended, as far as the engine wanted it. */
type Ending = 'recycle' | 'overdue' | 'close' | 'close-failing';

/** One place in the pool: the thread that fills it, and its successors. */
class Place {
  readonly #pool: ThreadPool;
  readonly #index: number;
  #server: ThreadServer | undefined;
  #abort: AbortController | undefined;
  #ending: Ending | undefined;
  /** Runs that did not stop when told to, for which the thread is ended. */
  readonly #overdue = new Set<Slot>();
  #loadFailures = 0;
  /** Why the file could not be loaded when it was last tried. */
  loadError: Error | undefined;
  #isLoaded = false;
  #cancelTimer: (() => void) | undefined;
  /** Pauses that the thread has not answered yet. */
  readonly #whenPaused = new Map<number, () => void>();
  #pauses = 0;
  #resolveTried!: () => void;
  /** Resolves when the file has been loaded, or could not be. */
  readonly tried: Promise<void>;
  /** Resolves when its last thread has ended. */
  done: Promise<void> = Promise.resolve();

  constructor(pool: ThreadPool, index: number) {
    this.#pool = pool;
    this.#index = index;
    this.tried = new Promise((resolve) => {
      this.#resolveTried = resolve;
    });
  }

  /** Starts threads in this place, one after the other, until the pool closes. */
  start(): void {
    this.done = this.#serve();
  }

  async #serve(): Promise<void> {
    while (!this.#pool.isClosing) {
      await this.#one();
      if (this.#loadFailures > 0 && !this.#pool.isClosing) await this.#backOff();
    }
    this.#resolveTried();
  }

  /** From the start of a thread to the moment when everything it had is back. */
  async #one(): Promise<void> {
    const { state, spec, queue, connection } = this.#pool;
    this.#ending = undefined;
    this.#overdue.clear();
    this.#isLoaded = false;
    let opened: ReturnType<typeof ThreadServer.open>;
    try {
      const { abortGraceMs } = spec;
      opened = ThreadServer.open(state, {
        connection,
        queue: queue.address,
        abortGraceMs,
        breaker: this.#pool.breaker,
      });
    } catch (error) {
      this.#loadFailures++;
      this.loadError = error as Error;
      this.#resolveTried();
      spec.events.error(this.loadError);
      return;
    }
    const { server, handle } = opened;
    this.#server = server;
    server.onPump = (message) => this.#hear(message);
    server.onTerminate = (slot) => this.#terminate(slot);
    server.endRun = (slot) => this.#endRun(slot);
    server.runEvents = this.#pool.runEvents;
    const task: PumpTask = {
      handle,
      queue: queue.name,
      queueAddress: queue.address,
      file: spec.file,
      abortGraceMs: spec.abortGraceMs,
      breaker: this.#pool.breaker?.address,
      batch: spec.batch,
      recycle: spec.recycle,
    };
    this.#abort = new AbortController();
    try {
      await this.#pool.piscina.run(task, { transferList: [handle.port], signal: this.#abort.signal });
    } catch (error) {
      if (this.#ending === undefined && !this.#pool.isClosing) this.#crashed(error as Error);
      handle.port.close(); // a task that never reached a thread still has it
    }
    await server.ended;
    this.#server = undefined;
    for (const id of [...this.#whenPaused.keys()]) this.#paused(id);
  }

  /** The thread ended by itself: an uncaught error, out of memory, process.exit. */
  #crashed(error: Error): void {
    const { spec } = this.#pool;
    const why = new Error(`A thread of the worker of queue "${spec.queue}" ended: ${error.message}`, { cause: error });
    if (!this.#isLoaded) {
      this.#loadFailures++;
      this.loadError = why;
      this.#resolveTried();
    }
    spec.events.error(why);
  }

  #hear(message: PumpMessage): void {
    const { events } = this.#pool.spec;
    switch (message.kind) {
      case 'loaded':
        this.#isLoaded = true;
        this.#loadFailures = 0;
        this.loadError = undefined;
        if (this.#pool.isPaused) this.send({ kind: 'pause', id: 0, doNotWaitActive: true });
        this.setConcurrency();
        this.#resolveTried();
        events.loaded();
        return;
      case 'not-loaded':
        this.#loadFailures++;
        // Only a new thread loads the file anew: a module that failed stays failed in the thread that tried.
        this.#end('recycle');
        this.loadError = deserialiseError(message.error);
        events.error(this.loadError);
        this.#resolveTried();
        return;
      case 'error':
        events.error(deserialiseError(message.error));
        return;
      case 'recycle':
        this.#end('recycle');
        return;
      case 'paused':
        this.#paused(message.id);
    }
  }

  #paused(id: number): void {
    this.#whenPaused.get(id)?.();
    this.#whenPaused.delete(id);
  }

  async #backOff(): Promise<void> {
    const ms = Math.min(LOAD_RETRY_MS_MAX, LOAD_RETRY_MS * 2 ** (this.#loadFailures - 1));
    await new Promise<void>((resolve) => {
      const cancel = this.#pool.state.clock.setTimer(resolve, ms);
      this.#cancelTimer = () => {
        cancel();
        resolve();
      };
    });
    this.#cancelTimer = undefined;
  }

  /** Ends the thread; its place is filled again unless the pool closes. */
  #end(ending: Ending): void {
    this.#ending ??= ending;
    this.#abort?.abort();
  }

  #terminate(slot: Slot): boolean {
    this.#overdue.add(slot);
    this.#end('overdue');
    return true;
  }

  /** A run that the thread left behind. Its neighbours' fault, or the engine's wish, is no loss. */
  #endRun(slot: Slot): void {
    const { state } = this.#pool;
    if (this.#overdue.has(slot)) endTerminated(state, slot);
    else if (this.#ending === 'close-failing') failRun(state, slot, { error: CLOSED }, this.#server?.thread ?? 0);
    else if (this.#ending !== undefined) releaseRun(state, slot);
    else loseRun(state, slot);
  }

  // ---- what the pool wants ----------------------------------------------------------------------------------------------------

  get isUp(): boolean {
    return this.#server !== undefined && this.#isLoaded;
  }

  send(message: Parameters<ThreadServer['send']>[0]): void {
    this.#server?.send(message);
  }

  /** Resolves when its thread claims nothing, and runs nothing if that is waited for; or has ended. */
  async pause(doNotWaitActive: boolean): Promise<void> {
    if (!this.isUp) return;
    const id = ++this.#pauses;
    const paused = new Promise<void>((resolve) => this.#whenPaused.set(id, resolve));
    this.send({ kind: 'pause', id, doNotWaitActive });
    await paused;
  }

  setConcurrency(): void {
    this.send({ kind: 'concurrency', count: this.#pool.shareOf(this.#index) });
  }

  /** Ends it by itself, or by force when it takes too long. */
  async close(how: CloseHow): Promise<void> {
    this.#cancelTimer?.();
    if (!this.isUp) this.#end('close');
    this.send({ kind: 'close', how });
    const force = () => this.#end(how.onTimeout === 'fail' ? 'close-failing' : 'close');
    const grace = how.timeoutMs === 0 ? CLOSE_MS : this.#pool.spec.abortGraceMs;
    const ms = how.timeoutMs + grace;
    const timer = how.onTimeout === 'wait' || ms > 0x7fffffff ? undefined : setTimeout(force, ms);
    await this.done;
    clearTimeout(timer);
  }
}

const CLOSED: ErrorRecord = { name: 'Error', message: 'The worker was closed while the job ran', stack: '' };

class ThreadPool implements ThreadWorkerLink {
  readonly state: EngineState;
  readonly connection: Connection;
  readonly spec: ThreadWorkerSpec;
  readonly queue: QueueEntry;
  readonly breaker: Breaker | undefined;
  readonly piscina: Piscina;
  readonly #places: Place[];
  #concurrency: number;
  #closing: Promise<void> | undefined;
  isPaused = false;
  #resolveEnded!: () => void;
  readonly ended = new Promise<void>((resolve) => {
    this.#resolveEnded = resolve;
  });

  constructor(state: EngineState, connection: Connection, spec: ThreadWorkerSpec) {
    this.state = state;
    this.connection = connection;
    this.spec = spec;
    this.queue = state.queues.open(spec.queue);
    this.#concurrency = spec.concurrency;
    this.breaker = spec.breaker === undefined ? undefined : state.breakers.use(state, this.queue, spec.breaker);
    this.piscina = new Piscina({
      filename: PUMP_FILE,
      minThreads: spec.threads,
      maxThreads: spec.threads,
      idleTimeout: Number.POSITIVE_INFINITY,
      // Its threads would wait for their tasks inside `Atomics.wait`. One that is ended while it starts (Node 22 and 24) can come to that
      // wait all the same and never leave it: neither it nor whoever closes the Worker would end. A task of ours lasts as long as
      // its thread, so there is nothing to win by that wait.
      atomics: 'disabled',
    });
    this.#places = Array.from({ length: spec.threads }, (_, index) => new Place(this, index));
    this.listenersChanged();
    // A thread that fails when nothing runs in it has no task to reject.
    this.piscina.on('error', (error: Error) => spec.events.error(error));
    for (const place of this.#places) place.start();
  }

  get isClosing(): boolean {
    return this.#closing !== undefined;
  }

  async ready(): Promise<void> {
    await Promise.all(this.#places.map((place) => place.tried));
    const errors = this.#places.map((place) => place.loadError).filter((error) => error !== undefined);
    if (errors.length === this.#places.length && !this.isClosing) throw errors[0];
  }

  /** Runs at a time of one place: the concurrency dealt evenly, the first places get what is over. */
  shareOf(index: number): number {
    const { threads } = this.spec;
    return Math.floor(this.#concurrency / threads) + (index < this.#concurrency % threads ? 1 : 0);
  }

  setConcurrency(count: number): void {
    this.#concurrency = count;
    for (const place of this.#places) place.setConcurrency();
  }

  async pause(doNotWaitActive: boolean): Promise<void> {
    this.isPaused = true;
    await Promise.all(this.#places.map((place) => place.pause(doNotWaitActive)));
  }

  resume(): void {
    this.isPaused = false;
    for (const place of this.#places) place.send({ kind: 'resume' });
  }

  close(how: CloseHow): Promise<void> {
    this.#closing ??= this.#close(how);
    return this.#closing;
  }

  async #close(how: CloseHow): Promise<void> {
    await Promise.resolve(); // `isClosing` is true from here on
    await Promise.all(this.#places.map((place) => place.close(how)));
    await this.piscina.destroy();
    this.state.pools.delete(this);
    this.state.queues.setThreadsReport(this.queue, this, false);
    this.#resolveEnded();
  }

  // ---- the Worker's events --------------------------------------------------------------------------------------------------

  /** Starts are reported by threads only while somebody wants to hear of them. */
  listenersChanged(): void {
    this.state.queues.setThreadsReport(this.queue, this, this.spec.events.isHeard('active'));
  }

  readonly runEvents = {
    onStarted: (slot: Slot): void => {
      const { events } = this.spec;
      if (!events.isHeard('active')) return;
      const job = snapshot(this.state, slot);
      afterDurable(this.state, () => events.active(job));
    },
    onCompleted: (slot: Slot): void => {
      const { events } = this.spec;
      if (events.isHeard('completed')) {
        const job = snapshot(this.state, slot);
        const result = resultOf(this.state, slot);
        afterDurable(this.state, () => events.completed(job, result));
      }
      if (events.isHeard('drained')) this.#drained();
    },
    onFailed: (slot: Slot, error: ErrorRecord): void => {
      const { events } = this.spec;
      if (events.isHeard('failed')) {
        const job = snapshot(this.state, slot);
        afterDurable(this.state, () => events.failed(job, fromErrorRecord(error)));
      }
      if (events.isHeard('drained')) this.#drained();
    },
    onProgress: (slot: Slot, progress: unknown): void => {
      const { events } = this.spec;
      if (events.isHeard('progress')) this.#tell(slot, (job) => events.progress(job, progress));
    },
    onStalled: (slot: Slot): void => {
      const { events } = this.spec;
      if (events.isHeard('stalled')) this.#tell(slot, (job) => events.stalled(job));
    },
    onLate: (slot: Slot): void => {
      const { events } = this.spec;
      if (events.isHeard('late')) this.#tell(slot, (job) => events.late(job));
    },
  };

  /** The job as it is now, once that is durable. */
  #tell(slot: Slot, told: (job: JobSnapshot) => void): void {
    const job = snapshot(this.state, slot);
    afterDurable(this.state, () => told(job));
  }

  #drained(): void {
    if (this.state.core.listCount(this.queue.address, L.STATE_WAITING) !== 0) return;
    afterDurable(this.state, () => this.spec.events.drained());
  }
}

/**
 * Starts the threads of a Worker. A handler file that can't be loaded is told as the event `error` and tried again.
 *
 * @throws ValidationError when the engine's threads (`threadsMax`) are all taken.
 */
export async function openThreadWorker(
  state: EngineState,
  connection: Connection,
  spec: ThreadWorkerSpec,
): Promise<ThreadWorkerLink> {
  let taken = 0;
  for (const pool of state.pools) taken += pool.spec.threads;
  if (taken + spec.threads > state.limits.threadsMax) {
    throw new ValidationError(
      `The worker of queue "${spec.queue}" wants ${spec.threads} threads, but ${taken} of the engine's threadsMax of ` +
        `${state.limits.threadsMax} are taken. Give it fewer threads, or the engine a larger threadsMax.`,
      { path: 'threads' },
    );
  }
  const queue = state.queues.open(spec.queue);
  const batcher = {};
  if (spec.batch !== undefined) await openBatches(state, queue, batcher, spec.batch);
  const pool = new ThreadPool(state, connection, spec);
  void pool.ended.then(() => closeBatches(state, queue, batcher));
  state.pools.add(pool);
  state.keepAlive.hold(pool.ended);
  return pool;
}

export type { ThreadPool };
