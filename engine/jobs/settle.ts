/**
 * What becomes of a run: completed, failed, delayed, released, cancelled, lost. Everything here happens on the engine's thread; a run
 * on another thread is heard of through its outcome ring.
 */
import { backoffDelay } from '../../client/backoff.js';
import type { DlqReason, ErrorRecord, Outcome } from '../../client/connection.js';
import { JOB_DEFAULTS, type JobOptions } from '../../client/options.js';
import { type Block, L, type Slot } from '../core/index.js';
import type { RunEnd } from '../patterns/breakers.js';
import type { EngineState } from '../state.js';
import { announce, flagsOf, idOf, queueOf, setFlags, tell, tellQueue } from '../state.js';
import { toBlocked, toDelayed, toReady, toReadyOnceDurable } from '../upkeep/postponed.js';
import { beginAging, endAging } from './aging.js';
import { release, settleDependents, unlinkAll } from './dependencies.js';
import { ended, isKeptFailed } from './endings.js';
import { CANCELLING, DISCARDED, GROUPED, SUSPECT, SUSPECT_OUT, TIMED_OUT, withReason } from './flags.js';
import { groupLeft, groupRunOver, groupStarted, groupUnused, isGrouped } from './groups.js';
import { isInterrupted } from './interrupt.js';
import { coldOf, resultOf, setCold } from './records.js';

/** How a failed attempt is told, in the block of an outcome or directly. */
export interface Failure {
  readonly error: ErrorRecord;
  readonly unrecoverable?: boolean;
  /** ms; -1 fails now; undefined: the job's own backoff. */
  readonly retryDelay?: number | undefined;
  readonly timedOut?: boolean | undefined;
  /** The handler succeeded, but its result can't be kept. */
  readonly unserialisable?: boolean;
  /** Whether a circuit breaker counts it; undefined: unless it is unrecoverable. */
  readonly counts?: boolean | undefined;
}

/** Lost runs from which on a job runs with no other such job beside it. */
export const SUSPECT_LOSSES = 2;
/** Failed attempts of which time and message are kept in the dead letter queue. */
const ATTEMPTS_KEPT = 50;

// ---- outcomes of other threads ----------------------------------------------------------------------------------------------

/** Takes one entry of a thread's outcome ring. Frees or keeps its block. A late one is counted and dropped. */
export function settleEntry(state: EngineState, thread: number, entry: number): void {
  state.breakers.isCounted = true;
  try {
    settle(state, thread, entry);
  } finally {
    state.breakers.isCounted = false;
  }
}

function settle(state: EngineState, thread: number, entry: number): void {
  const { core } = state;
  const kind = core.field(entry, L.E_KIND);
  const low = core.field(entry, L.E_TICKET);
  const high = core.field(entry, L.E_TICKET + 4);
  const block = core.field(entry, L.E_BLOCK);
  if (kind === L.OUTCOME_COMPLETED) {
    const slot = core.wasm.runComplete(low, high, block, core.time(entry, L.E_AT)) >>> 0;
    if (slot !== 0) completed(state, slot, thread);
    else late(state, low, block, thread);
    return;
  }
  const slot = core.wasm.runSlot(low, high) >>> 0;
  if (slot === 0) {
    late(state, low, block, thread);
    return;
  }
  if (kind === L.OUTCOME_STARTED) {
    const owner = state.owners[thread];
    if (owner?.breaker !== undefined) state.breakers.began(slot, owner.breaker);
    runStarted(state, slot);
    owner?.onStarted?.(slot);
    return;
  }
  const value = block === 0 ? undefined : state.payloads.value(block);
  if (block !== 0) core.wasm.blockFree(block);
  settleOther(state, slot, kind, value, core.time(entry, L.E_VALUE), thread);
}

function settleOther(
  state: EngineState,
  slot: Slot,
  kind: number,
  value: unknown,
  delayMs: number,
  thread: number,
): void {
  if (kind === L.OUTCOME_FAILED) failRun(state, slot, (value ?? noRoom(state)) as Failure, thread);
  else if (kind === L.OUTCOME_DELAYED) delayRun(state, slot, delayMs);
  else if (kind === L.OUTCOME_CANCELLED) cancelRun(state, slot);
  else if (kind === L.OUTCOME_WAITING) blockRun(state, slot);
  else releaseRun(state, slot, delayMs !== 0);
}

function late(state: EngineState, low: number, block: Block, thread: number): void {
  const { core } = state;
  if (block !== 0) core.wasm.blockFree(block);
  const slot = (low & L.LOW_MASK) * L.SLOT_BYTES;
  // The record may be another job's by now: then there is nothing to say about it.
  const raw = core.state(slot);
  if (raw === L.STATE_FREE || raw === L.STATE_GONE) return;
  tell(state, slot, 'late');
  state.owners[thread]?.onLate?.(slot);
}

// ---- the runs of the engine's own thread ------------------------------------------------------------------------------------

/** Settles a run of a function handler. False when it was late. */
export function settleLocal(state: EngineState, low: number, high: number, outcome: Outcome): boolean {
  const { core } = state;
  const slot = core.wasm.runSlot(low, high) >>> 0;
  if (slot === 0) {
    late(state, low, 0, L.ENGINE_THREAD);
    return false;
  }
  switch (outcome.kind) {
    case 'completed':
      completeLocal(state, slot, low, high, outcome.result);
      break;
    case 'failed':
      failRun(state, slot, outcome, L.ENGINE_THREAD);
      break;
    case 'delayed':
      delayRun(state, slot, outcome.delayMs);
      break;
    case 'cancelled':
      cancelRun(state, slot);
      break;
    case 'waiting':
      blockRun(state, slot);
      break;
    case 'released':
      releaseRun(state, slot, outcome.unused);
  }
  return true;
}

function completeLocal(state: EngineState, slot: Slot, low: number, high: number, result: unknown): void {
  let block: Block | undefined;
  try {
    block = state.payloads.encodeResult(result);
  } catch (error) {
    failRun(state, slot, { error: errorRecordOf(error), unserialisable: true }, L.ENGINE_THREAD);
    return;
  }
  if (block === undefined) {
    // Full: the engine itself can't wait for memory, since nobody else would free it.
    failRun(state, slot, noRoom(state), L.ENGINE_THREAD);
    return;
  }
  state.core.wasm.runComplete(low, high, block, state.clock.now());
  completed(state, slot, L.ENGINE_THREAD);
}

/** A run whose end could not be kept. */
function noRoom(state: EngineState): Failure {
  const message = `The engine's memory is full (maxMemory ${state.limits.memoryBytes} bytes): the result could not be kept`;
  return { error: { name: 'EngineFullError', message, stack: '' } };
}

function errorRecordOf(error: unknown): ErrorRecord {
  const { name, message, stack } = error as Error;
  return { name, message, stack: stack ?? '' };
}

// ---- transitions ------------------------------------------------------------------------------------------------------------

/** A run began on another thread, and its start was reported: its timeout begins. */
export function runStarted(state: EngineState, slot: Slot): void {
  const { core } = state;
  const started = core.time(slot, L.S_PROCESSED_ON);
  state.journal?.started(slot);
  if (isGrouped(state, slot)) groupStarted(state, slot);
  const flags = flagsOf(state, slot);
  // One that was told to stop before its start was heard of has the timer of its grace, and one that was removed is told of no more.
  const isTimed = (flags & L.FLAG_REPORT_START) !== 0 && (flags & CANCELLING) === 0;
  if (isTimed) armTimeout(state, slot, timeoutOf(state, slot), started);
  if ((flags & DISCARDED) !== 0) return;
  tell(state, slot, 'active', () => ({ prev: 'waiting' }));
}

export function timeoutOf(state: EngineState, slot: Slot): number {
  return state.payloads.opts(state.core.field(slot, L.S_PAYLOAD)).timeout ?? 0;
}

export function armTimeout(state: EngineState, slot: Slot, timeoutMs: number, started: number): void {
  if (timeoutMs === 0) return;
  state.core.wasm.jobTimer(slot, started + timeoutMs);
  state.alarm.arm();
}

/**
 * Common to every end of a run: counts it, ends its `ttl`, frees its place among the suspects; unless it `waits` for what it was told to
 * wait for, it waits for that no more. Gives the flags it had.
 */
function runOver(state: EngineState, slot: Slot, end: RunEnd, waits = false): number {
  const { core } = state;
  if (state.breakers.isUsed) state.breakers.over(state, slot, end, state.owners[core.wasm.jobOwner(slot)]?.breaker);
  const flags = flagsOf(state, slot);
  core.setField(slot, L.S_STARTED, core.field(slot, L.S_STARTED) + 1);
  core.setTime(slot, L.S_EXPIRY, 0);
  endAging(state, slot);
  if ((flags & GROUPED) !== 0) groupRunOver(state, slot);
  if (!waits && core.field(slot, L.S_UNSETTLED) !== 0) unlinkAll(state, slot);
  if ((flags & (TIMED_OUT | CANCELLING | SUSPECT_OUT)) !== 0) {
    setFlags(state, slot, 0, TIMED_OUT | CANCELLING);
    leaveSuspects(state, slot);
  }
  return flags;
}

/** The queue may hold more than its limits let through before: a run has ended. */
function afterRun(state: EngineState, slot: Slot): void {
  const queue = queueOf(state, slot);
  if (queue.config.concurrency === undefined || queue.config.concurrency === null) return;
  state.core.wasm.permitReturn(queue.address, slot); // first, or what is told here would find it taken
  queue.permitFreed();
}

function completed(state: EngineState, slot: Slot, thread: number): void {
  const flags = runOver(state, slot, 'success');
  afterRun(state, slot);
  if ((flags & DISCARDED) !== 0) {
    endDiscarded(state, slot);
    return;
  }
  tell(state, slot, 'completed', () => ({ returnvalue: resultOf(state, slot), prev: 'active' }));
  state.owners[thread]?.onCompleted?.(slot);
  drainedCheck(state, slot);
  ended(state, slot);
}

/** An obliterated job whose run has ended at last: waiters and dependents were told then. */
function endDiscarded(state: EngineState, slot: Slot): void {
  const { core } = state;
  if (core.state(slot) === L.STATE_ACTIVE) core.wasm.jobFinish(slot, L.STATE_CANCELLED, 0, state.clock.now());
  core.wasm.jobRemove(slot);
}

/** Tells that a queue has nothing left to start. */
function drainedCheck(state: EngineState, slot: Slot): void {
  if (!state.events.recording) return;
  const queue = queueOf(state, slot);
  if (state.core.listCount(queue.address, L.STATE_WAITING) === 0) tellQueue(state, queue.name, 'drained');
}

/** What a circuit breaker makes of it. */
function endOfFailure(state: EngineState, slot: Slot, failure: Failure): RunEnd {
  if (failure.unserialisable === true) return 'success';
  if ((flagsOf(state, slot) & (CANCELLING | TIMED_OUT)) === CANCELLING) return 'neutral';
  return (failure.counts ?? failure.unrecoverable !== true) ? 'failure' : 'neutral';
}

export function failRun(state: EngineState, slot: Slot, failure: Failure, thread: number): void {
  const { core } = state;
  const flags = runOver(state, slot, endOfFailure(state, slot, failure));
  afterRun(state, slot);
  if ((flags & DISCARDED) !== 0) {
    endDiscarded(state, slot);
    return;
  }
  if ((flags & CANCELLING) !== 0 && (flags & TIMED_OUT) === 0) {
    finishCancelled(state, slot);
    return;
  }
  const now = state.clock.now();
  const opts = state.payloads.opts(core.field(slot, L.S_PAYLOAD));
  const failures = core.field(slot, L.S_ATTEMPTS) + 1;
  core.setField(slot, L.S_ATTEMPTS, failures);
  noteFailure(state, slot, failure.error, opts, now);
  state.owners[thread]?.onFailed?.(slot, failure.error);
  const timedOut = failure.timedOut === true || (flags & TIMED_OUT) !== 0;
  const reason = finalReason(failure, failures, opts, timedOut);
  if (reason !== undefined) {
    enterDlq(state, slot, reason, failure.error.message, 'active');
    return;
  }
  retryLater(state, slot, failure, failures, opts, now);
}

/** Why this failure is the last one, if it is. */
function finalReason(failure: Failure, failures: number, opts: JobOptions, timedOut: boolean): DlqReason | undefined {
  if (failure.unserialisable === true) return 'result_unserialisable';
  if (failure.unrecoverable === true) return 'unrecoverable';
  if (failures < (opts.attempts ?? JOB_DEFAULTS.attempts) && failure.retryDelay !== -1) return undefined;
  return timedOut ? 'timeout' : 'attempts_exhausted';
}

function noteFailure(state: EngineState, slot: Slot, error: ErrorRecord, opts: JobOptions, now: number): void {
  const cold = coldOf(state, slot);
  cold.failedReason = error.message;
  cold.attempts = [...(cold.attempts ?? []), { at: now, error: error.message }].slice(-ATTEMPTS_KEPT);
  const limit = opts.stackTraceLimit ?? JOB_DEFAULTS.stackTraceLimit;
  cold.stacktrace = limit === 0 ? [] : [...(cold.stacktrace ?? []), error.stack || error.message].slice(-limit);
  setCold(state, slot, cold);
}

function retryLater(
  state: EngineState,
  slot: Slot,
  failure: Failure,
  failures: number,
  opts: JobOptions,
  now: number,
): void {
  let delay = failure.retryDelay;
  if (delay === undefined) {
    delay = backoffDelay(opts.backoff, failures, state.random);
    const type = opts.backoff?.type;
    if (type !== undefined && type !== 'fixed' && type !== 'exponential') {
      tell(state, slot, 'backoff:unknown', () => ({ type, delay }));
    }
  }
  tell(state, slot, 'retrying', () => ({ attemptsMade: failures, delay, failedReason: failure.error.message }));
  requeue(state, slot, delay, now, false);
}

/** Not an attempt: the handler asked for it, or its service is out of reach. */
function delayRun(state: EngineState, slot: Slot, delayMs: number): void {
  const flags = runOver(state, slot, 'neutral');
  afterRun(state, slot);
  if ((flags & DISCARDED) !== 0) endDiscarded(state, slot);
  else if ((flags & CANCELLING) !== 0) finishCancelled(state, slot);
  else requeue(state, slot, isInterrupted(state, slot) ? 0 : delayMs, state.clock.now(), false);
}

/** Not an attempt and not lost: back to the head of its priority. `unused`: nobody has begun with it. */
export function releaseRun(state: EngineState, slot: Slot, unused = false): void {
  if (unused && (flagsOf(state, slot) & (DISCARDED | CANCELLING | TIMED_OUT)) === 0) {
    giveBack(state, slot);
    return;
  }
  const flags = runOver(state, slot, 'neutral');
  afterRun(state, slot);
  if ((flags & DISCARDED) !== 0) endDiscarded(state, slot);
  else if ((flags & CANCELLING) !== 0) finishCancelled(state, slot);
  else requeue(state, slot, 0, state.clock.now(), true);
}

/** It was claimed, and nobody has begun with it: as if it had not been. */
function giveBack(state: EngineState, slot: Slot): void {
  const { core } = state;
  if (state.breakers.isUsed)
    state.breakers.over(state, slot, 'neutral', state.owners[core.wasm.jobOwner(slot)]?.breaker);
  endAging(state, slot);
  afterRun(state, slot);
  if (isGrouped(state, slot)) groupUnused(state, slot);
  if (core.wasm.jobReady(slot, 1) !== 0) beginAging(state, slot);
  else {
    if (isGrouped(state, slot)) groupLeft(state, slot); // memory is full: it comes later, and stands nowhere until then
    toReady(state, slot, true);
  }
  tell(state, slot, 'waiting', () => ({ prev: 'active' }));
  announce(state, queueOf(state, slot), 1);
}

/** Not an attempt: it runs again when what `waitFor` was told of has settled, at once if that has happened meanwhile. */
function blockRun(state: EngineState, slot: Slot): void {
  const flags = runOver(state, slot, 'neutral', true);
  afterRun(state, slot);
  if ((flags & (DISCARDED | CANCELLING)) !== 0) {
    unlinkAll(state, slot);
    if ((flags & DISCARDED) !== 0) endDiscarded(state, slot);
    else finishCancelled(state, slot);
    return;
  }
  if (isInterrupted(state, slot)) unlinkAll(state, slot);
  toBlocked(state, slot);
  tell(state, slot, 'blocked', () => ({ prev: 'active' }));
  if (state.core.field(slot, L.S_UNSETTLED) === 0) release(state, slot);
}

/** The handler rejected after it had been told to stop for a cancellation. */
function cancelRun(state: EngineState, slot: Slot): void {
  const flags = runOver(state, slot, 'neutral');
  afterRun(state, slot);
  if ((flags & DISCARDED) !== 0) endDiscarded(state, slot);
  else finishCancelled(state, slot);
}

function finishCancelled(state: EngineState, slot: Slot): void {
  const reason = coldOf(state, slot).cancelReason;
  state.core.wasm.jobFinish(slot, L.STATE_CANCELLED, 0, state.clock.now());
  tell(state, slot, 'cancelled', () => ({ reason, prev: 'active' }));
  ended(state, slot);
}

/** The run's thread or process died. Consumes no attempt; the job runs again, from the head, or is given up. */
export function loseRun(state: EngineState, slot: Slot): void {
  const { core } = state;
  const flags = runOver(state, slot, 'lost');
  afterRun(state, slot);
  if ((flags & DISCARDED) !== 0) {
    endDiscarded(state, slot);
    return;
  }
  if ((flags & CANCELLING) !== 0) {
    finishCancelled(state, slot);
    return;
  }
  const lost = Math.min(255, core.lost(slot) + 1);
  core.setLost(slot, lost);
  tell(state, slot, 'stalled', () => ({ lost }));
  state.owners[core.wasm.jobOwner(slot)]?.onStalled?.(slot);
  const opts = state.payloads.opts(core.field(slot, L.S_PAYLOAD));
  const most = opts.maxDeliveries ?? queueOf(state, slot).config.maxDeliveries ?? JOB_DEFAULTS.maxDeliveries;
  if (lost >= most) {
    const why = `Its worker died while running it, ${lost} times`;
    const error = { name: 'Error', message: why, stack: '' };
    noteFailure(state, slot, error, opts, state.clock.now());
    state.owners[core.wasm.jobOwner(slot)]?.onFailed?.(slot, error);
    enterDlq(state, slot, 'worker_lost', why, 'active');
    return;
  }
  requeue(state, slot, 0, state.clock.now(), true);
}

/** The grace of an aborted run is over and its thread has been ended: the abort is what counts. */
export function endTerminated(state: EngineState, slot: Slot): void {
  const flags = flagsOf(state, slot);
  if ((flags & TIMED_OUT) === 0) {
    releaseRun(state, slot); // cancelled, discarded, or (should it be neither) released
    return;
  }
  const message = `The run took longer than its timeout of ${timeoutOf(state, slot)} ms and did not stop in time`;
  const owner = state.core.wasm.jobOwner(slot);
  failRun(state, slot, { error: { name: 'TimeoutError', message, stack: '' }, timedOut: true }, owner);
}

// ---- back to waiting --------------------------------------------------------------------------------------------------------

function requeue(state: EngineState, slot: Slot, delay: number, now: number, first: boolean): void {
  if (delay > 0) {
    toDelayed(state, slot, now + delay);
    tell(state, slot, 'delayed', () => ({ delay, prev: 'active' }));
    return;
  }
  makeReady(state, slot, first, 'active');
}

/**
 * Ready to be claimed, unless it is a suspect that has to wait until another one is through. At the tail of its priority; a `lifo`
 * job always at the head, as one that comes `first`.
 */
export function makeReady(state: EngineState, slot: Slot, first: boolean, prev: string): void {
  const { core } = state;
  const queue = queueOf(state, slot);
  if (core.lost(slot) >= SUSPECT_LOSSES) {
    setFlags(state, slot, SUSPECT);
    if (queue.suspectOut) {
      toBlocked(state, slot);
      state.journal?.line(slot);
      queue.suspects.push({ slot, number: core.number(slot) });
      tell(state, slot, 'blocked', () => ({ prev }));
      return;
    }
    queue.suspectOut = true;
    setFlags(state, slot, SUSPECT_OUT);
  }
  const isFirst = first || (flagsOf(state, slot) & L.FLAG_LIFO) !== 0;
  // Due before it was admitted for everybody: a short delay, or a slow disk.
  const isEarly = core.state(slot) === L.STATE_DELAYED && state.journal?.isAdmitted(slot) === false;
  if (isEarly) toReadyOnceDurable(state, slot, isFirst);
  else toReady(state, slot, isFirst);
  tell(state, slot, 'waiting', () => ({ prev }));
  announce(state, queue, 1);
}

/** This job is a suspect that is out: it is through, and the next one may come. */
export function leaveSuspects(state: EngineState, slot: Slot): void {
  if ((flagsOf(state, slot) & SUSPECT_OUT) === 0) return;
  setFlags(state, slot, 0, SUSPECT_OUT);
  const queue = queueOf(state, slot);
  queue.suspectOut = false;
  const { core } = state;
  while (!queue.suspectOut) {
    const next = queue.suspects.shift();
    if (next === undefined) return;
    // Cancelled or removed meanwhile: its slot is in another state, or another job's; or it waits for other jobs.
    const isThere = core.number(next.slot) === next.number && core.state(next.slot) === L.STATE_BLOCKED;
    if (isThere && core.field(next.slot, L.S_UNSETTLED) === 0) makeReady(state, next.slot, true, 'blocked');
  }
}

// ---- the dead letter queue --------------------------------------------------------------------------------------------------

function enterDlq(state: EngineState, slot: Slot, reason: DlqReason, message: string, prev: string): void {
  const { core } = state;
  core.setField(slot, L.S_FLAGS, withReason(flagsOf(state, slot), reason));
  core.wasm.jobFinish(slot, L.STATE_FAILED, 0, state.clock.now());
  tell(state, slot, 'failed', () => ({
    failedReason: message,
    reason,
    prev,
    attemptsMade: core.field(slot, L.S_ATTEMPTS),
  }));
  drainedCheck(state, slot);
  thresholdCheck(state, slot);
  ended(state, slot);
}

/** Tells when the dead letter queue has just grown to the number that its queue was configured with. */
function thresholdCheck(state: EngineState, slot: Slot): void {
  const { name, address, config } = queueOf(state, slot);
  const threshold = config.dlq?.threshold;
  if (threshold === undefined || !isKeptFailed(state, slot)) return;
  const count = state.core.listCount(address, L.STATE_FAILED);
  if (count === threshold) tellQueue(state, name, 'dlq:threshold', { count, threshold });
}

/** Fails a job that is not running: expired, a dependency failed, moved by hand. Not for `waiting` ones: withdraw first. */
export function sendToDlq(state: EngineState, slot: Slot, reason: DlqReason, message: string, prev: string): void {
  const cold = coldOf(state, slot);
  setCold(state, slot, { ...cold, failedReason: message });
  unlinkAll(state, slot); // or the end of a dependency would be applied to it, too
  enterDlq(state, slot, reason, message, prev);
}

/** The job is about to be removed by somebody: dependents go by their policy. */
export function tellRemoval(state: EngineState, slot: Slot): void {
  if (state.core.field(slot, L.S_DEPENDENTS) !== 0) settleDependents(state, slot, 'gone');
}

/** For messages. */
export function describe(state: EngineState, slot: Slot): string {
  return `Job ${JSON.stringify(idOf(state, slot))} of queue "${queueOf(state, slot).name}"`;
}
