/**
 * What the parts of an engine share, on the engine's own thread: the core, the queues, the clock, the events, who waits for what.
 * The parts (admission, settling, dependencies, upkeep, threads) are modules of functions over this.
 */
import type { ClosableWorker, ErrorRecord } from '../client/connection.js';
import { type Core, L, type Slot } from './core/index.js';
import type { Payloads } from './core/payloads.js';
import type { EventLog } from './events/log.js';
import { jobId } from './jobs/claimed.js';
import type { KeyNotes } from './jobs/deduplication.js';
import type { Streams } from './jobs/streams.js';
import type { Waiters } from './jobs/waiters.js';
import type { Breaker, Breakers } from './patterns/breakers.js';
import type { Crons } from './patterns/cron.js';
import type { QueueEntry, QueueTable } from './queues.js';
import type { Entries } from './store/entries.js';
import type { Journal } from './store/journal.js';
import type { Rings } from './threads/rings.js';
import type { ThreadPool } from './threads/thread-pool.js';
import type { ThreadServer } from './threads/thread-server.js';
import type { Alarm } from './upkeep/alarm.js';
import type { Clock } from './upkeep/clock.js';
import type { KeepAlive } from './upkeep/keep-alive.js';
import type { Postponed } from './upkeep/postponed.js';
import type { Retention } from './upkeep/retention.js';

/** Who runs jobs: the engine's own thread (function handlers) or a thread of a pool. Found by the owner in a slot's word. */
export interface RunOwner {
  /** Tells the run that it should stop. */
  abort(slot: Slot, reason: 'cancelled' | 'timeout' | 'removed' | 'interrupted', message: string): void;
  /**
   * The grace after `abort` is over: the run must end now. True when its thread is being ended (its death will settle the run); false
   * when it can't be stopped, so that the engine takes the job away from it.
   */
  terminate(slot: Slot): boolean;
  graceMs(slot: Slot): number;
  /** Of a thread whose claims must be let through. */
  readonly breaker?: Breaker | undefined;
  /** Told of reported starts, of completions and of failed attempts, for the events of a Worker whose handler is a file. */
  onStarted?(slot: Slot): void;
  onCompleted?(slot: Slot): void;
  onFailed?(slot: Slot, error: ErrorRecord): void;
  onProgress?(slot: Slot, progress: unknown): void;
  /** The run is lost; the job is still active. */
  onStalled?(slot: Slot): void;
  /** An outcome came of a run that is no more the job's. */
  onLate?(slot: Slot): void;
}

export interface EngineLimits {
  readonly memoryBytes: number;
  readonly payloadBytes: number;
  readonly idempotencyIds: number;
  readonly dlqJobs: number;
  readonly dlqAgeMs: number;
  readonly threadsMax: number;
}

export interface EngineState {
  readonly core: Core;
  readonly payloads: Payloads;
  readonly queues: QueueTable;
  readonly clock: Clock;
  readonly random: () => number;
  readonly events: EventLog;
  readonly waiters: Waiters;
  readonly alarm: Alarm;
  readonly retention: Retention;
  readonly keepAlive: KeepAlive;
  readonly rings: Rings;
  /** What must survive and is no job. */
  readonly entries: Entries;
  readonly crons: Crons;
  readonly keys: KeyNotes;
  readonly streams: Streams;
  /** Of an engine with a data directory: makes what happens survive it. */
  journal: Journal | undefined;
  /** The other threads that share the memory. */
  readonly threads: Set<ThreadServer>;
  /** The threads of Workers whose handler is a file. */
  readonly pools: Set<ThreadPool>;
  /** Workers that are closed before the engine. */
  readonly workers: Set<ClosableWorker>;
  readonly version: string;
  readonly limits: EngineLimits;
  /** By thread index; [1] is the engine's own thread. */
  readonly owners: (RunOwner | undefined)[];
  readonly breakers: Breakers;
  closed: boolean;
  /** Transitions that wait for memory. */
  readonly postponed: Postponed[];
  /** Ids remembered in all queues. */
  remembered: number;
  /** A warning that must not stop anything: told to `engine.on('warning')`, else to the process. */
  warn(message: string, code: string): void;
}

export function idOf(state: EngineState, slot: Slot): string {
  return jobId(state.core, state.payloads, slot);
}

export function queueOf(state: EngineState, slot: Slot): QueueEntry {
  return state.queues.at(state.core.field(slot, L.S_QUEUE));
}

export function flagsOf(state: EngineState, slot: Slot): number {
  return state.core.field(slot, L.S_FLAGS);
}

export function setFlags(state: EngineState, slot: Slot, set: number, clear = 0): void {
  state.core.setField(slot, L.S_FLAGS, (state.core.field(slot, L.S_FLAGS) & ~clear) | set);
}

/** Records an event about a job. The arguments are built only while somebody reads. */
export function tell(state: EngineState, slot: Slot, event: string, args?: () => Record<string, unknown>): void {
  const { events } = state;
  if (!events.recording) {
    events.skip();
    return;
  }
  append(state, queueOf(state, slot).name, event, idOf(state, slot), args === undefined ? {} : args());
}

/** An event is told when what it tells is durable. */
function append(
  { events, journal }: EngineState,
  queue: string,
  event: string,
  jobId: string | undefined,
  args: Record<string, unknown>,
): void {
  if (journal === undefined) events.append(queue, event, jobId, args);
  else journal.after(() => events.append(queue, event, jobId, args));
}

/** Runs `told` when all that has been done so far is as durable as the engine promises; `never` when it can't be any more. */
export function afterDurable({ journal }: EngineState, told: () => void, never?: (error: Error) => void): void {
  if (journal === undefined) told();
  else journal.after(told, never);
}

/** Records an event about a queue, or about a job of which there is no record. */
export function tellQueue(
  state: EngineState,
  queue: string,
  event: string,
  args: Record<string, unknown> = {},
  jobId?: string,
): void {
  if (state.events.recording) append(state, queue, event, jobId, args);
  else state.events.skip();
}

/** Jobs of this queue may be claimable: wakes up to `count` parked threads and tells the workers on this thread. */
export function announce(state: EngineState, queue: QueueEntry, count: number): void {
  for (const listener of queue.local) listener.ready();
  // A thread that is woken and may not claim passes the call on to nobody.
  const mayDecline = queue.batchers.size !== 0 || (state.breakers.isUsed && state.breakers.holdsBack(queue));
  if (mayDecline) count = L.THREADS_MAX;
  if (state.core.wasm.wakeQueue(queue.address, count) !== 0) state.rings.watchWoken(queue.address);
}
