/** What users do to jobs and queues that are there. */
import type { JobCounts, JobRef, JobSnapshot, JobStateOrUnknown } from '../../client/connection.js';
import { EngineFullError, JobActiveError, ValidationError } from '../../client/errors.js';
import { JOB_DEFAULTS } from '../../client/options.js';
import { L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import type { EngineState } from '../state.js';
import { announce, flagsOf, idOf, queueOf, setFlags, tell, tellQueue } from '../state.js';
import { toDelayed } from '../upkeep/postponed.js';
import { beginAging } from './aging.js';
import { dropKeys, keyGone } from './deduplication.js';
import { dropDependencies } from './dependencies.js';
import { deferEnds, discard, ended } from './endings.js';
import { CANCELLING, DISCARDED } from './flags.js';
import { groupMoved, isGrouped } from './groups.js';
import { endPause, notePause } from './paused.js';
import { coldOf, setCold, snapshot, visibleState } from './records.js';
import { mustResolve, resolve, visibleSlot } from './references.js';
import { describe, leaveSuspects, makeReady, tellRemoval } from './settle.js';
import { streamEnded } from './streams.js';
import { tellWaiters } from './waiting.js';
import { withdraw } from './withdraw.js';

// ---- one job ---------------------------------------------------------------------------------------------------------------

/** Takes a waiting job back from claimers, into the engine's hands (as blocked); true for every state but active and finished. */
export function hold(state: EngineState, slot: Slot): boolean {
  const { core } = state;
  const raw = core.state(slot);
  if (raw === L.STATE_WAITING) {
    if (!withdraw(state, slot)) return false;
    leaveSuspects(state, slot);
    return true;
  }
  return raw === L.STATE_DELAYED || raw === L.STATE_BLOCKED;
}

export function cancel(
  state: EngineState,
  queue: string,
  ref: JobRef,
  reason: string | undefined,
): 'cancelled' | 'aborting' | 'finished' {
  const { core } = state;
  const slot = mustResolve(state, queue, ref);
  const prev = visibleState(state, slot);
  if (core.state(slot) >= L.STATE_COMPLETED) return 'finished';
  if (hold(state, slot)) {
    noteCancel(state, slot, reason);
    core.wasm.jobFinish(slot, L.STATE_CANCELLED, 0, state.clock.now());
    tell(state, slot, 'cancelled', () => ({ reason, prev }));
    ended(state, slot);
    return 'cancelled';
  }
  noteCancel(state, slot, reason);
  abortRun(state, slot, 'cancelled', reason ?? 'The job was cancelled');
  return 'aborting';
}

function noteCancel(state: EngineState, slot: Slot, reason: string | undefined): void {
  if (reason !== undefined) setCold(state, slot, { ...coldOf(state, slot), cancelReason: reason });
}

/** Tells an active run to stop, and sets the end of its grace. */
function abortRun(state: EngineState, slot: Slot, why: 'cancelled' | 'removed', message: string): void {
  const owner = state.owners[state.core.wasm.jobOwner(slot)];
  setFlags(state, slot, CANCELLING);
  state.journal?.touch(slot, 0); // should the engine end first, it does not run again
  state.core.wasm.jobTimer(slot, state.clock.now() + (owner?.graceMs(slot) ?? 0));
  state.alarm.arm();
  owner?.abort(slot, why, message);
}

export function remove(state: EngineState, queue: string, ref: JobRef): boolean {
  const slot = visibleSlot(state, queue, ref);
  if (slot === 0) return forgetId(state, queue, ref);
  const prev = visibleState(state, slot);
  if (state.core.state(slot) < L.STATE_COMPLETED && !hold(state, slot)) {
    throw new JobActiveError({
      queue: queueOf(state, slot).name,
      jobId: idOf(state, slot),
      hint: 'Cancel it first, then remove it.',
    });
  }
  removeHeld(state, slot, prev);
  return true;
}

/** `remove` of an id that is only remembered forgets it. */
function forgetId(state: EngineState, queue: string, ref: JobRef): boolean {
  const { slot } = resolve(state, queue, ref);
  if (slot === 0) return false;
  dropDependencies(state, slot);
  discard(state, slot);
  return true;
}

/**
 * Removes a job that nobody can claim: waiters and dependents are told. `prev`: its state before it was held. What dependents that end by
 * it lead to comes when it is gone: it could be its eviction.
 */
export function removeHeld(state: EngineState, slot: Slot, prev: JobStateOrUnknown): void {
  deferEnds(() => {
    tellWaiters(state, slot, prev); // before those of dependents: this happened first
    tellRemoval(state, slot);
    tell(state, slot, 'removed', () => ({ prev }));
    keyGone(state, slot);
    streamEnded(state, slot);
    dropDependencies(state, slot);
    discard(state, slot);
  });
}

export function promote(state: EngineState, queue: string, ref: JobRef): void {
  const slot = mustResolve(state, queue, ref);
  if (state.core.state(slot) !== L.STATE_DELAYED) refuseState(state, slot, 'promoted', 'delayed');
  makeReady(state, slot, false, 'delayed');
}

export function refuseState(state: EngineState, slot: Slot, what: string, needed: string): never {
  throw new ValidationError(
    `${describe(state, slot)} can't be ${what}: it is ${visibleState(state, slot)}, not ${needed}.`,
  );
}

export function changePriority(state: EngineState, queue: string, ref: JobRef, priority: number, lifo: boolean): void {
  const slot = mustResolve(state, queue, ref);
  const raw = state.core.state(slot);
  const first = lifo || (flagsOf(state, slot) & L.FLAG_LIFO) !== 0;
  const isOver = raw >= L.STATE_COMPLETED || raw === L.STATE_ACTIVE;
  if (isOver || state.core.wasm.jobPrioritise(slot, priority, first ? 1 : 0) === 0) {
    if (state.core.state(slot) === L.STATE_WAITING) throw new EngineFullError({ limitBytes: state.limits.memoryBytes });
    refuseState(state, slot, 'given another priority', 'waiting, delayed or blocked');
  }
  if (raw === L.STATE_WAITING) {
    state.core.setField(slot, L.S_AGED, 0); // what it is given now counts from now on
    beginAging(state, slot);
  }
  regroup(state, slot);
  tell(state, slot, 'priority', () => ({ priority }));
}

/** It has taken another place among those that wait. */
function regroup(state: EngineState, slot: Slot): void {
  if (state.core.state(slot) === L.STATE_WAITING && isGrouped(state, slot)) groupMoved(state, slot);
}

export function changeDelay(state: EngineState, queue: string, ref: JobRef, delayMs: number): void {
  const slot = mustResolve(state, queue, ref);
  if (state.core.state(slot) !== L.STATE_DELAYED) refuseState(state, slot, 'given another delay', 'delayed');
  if (delayMs <= 0) {
    makeReady(state, slot, false, 'delayed');
    return;
  }
  toDelayed(state, slot, state.clock.now() + delayMs);
  tell(state, slot, 'delayed', () => ({ delay: delayMs, prev: 'delayed' }));
}

/** `run`: of whoever asks, its own run of the job. Its thread has decoded the old payload when the run began. */
export function updateData(state: EngineState, queue: string, ref: JobRef, data: unknown, run?: RunTicket): void {
  const { core, payloads } = state;
  const slot = mustResolve(state, queue, ref);
  const isOwn = run !== undefined && core.wasm.runSlot(run.low, run.high) >>> 0 === slot;
  if (core.state(slot) === L.STATE_ACTIVE && core.wasm.jobOwner(slot) !== L.ENGINE_THREAD && !isOwn) {
    // Its thread may be decoding the old payload at this moment.
    throw new JobActiveError({
      queue: queueOf(state, slot).name,
      jobId: idOf(state, slot),
      hint: 'Its data can be changed when its run is over.',
    });
  }
  const held = core.state(slot) === L.STATE_WAITING;
  const before = core.field(slot, L.S_PAYLOAD);
  const block = payloads.encodeData(before, data);
  if (block === 0) throw new EngineFullError({ limitBytes: state.limits.memoryBytes });
  // Out of every claimer's reach first, since one could be reading the old payload; so it takes its place in its priority anew.
  const first = (flagsOf(state, slot) & L.FLAG_LIFO) !== 0 ? 1 : 0;
  if (held && core.wasm.jobPrioritise(slot, core.priority(slot), first) === 0) {
    core.wasm.blockFree(block);
    if (core.state(slot) === L.STATE_WAITING) throw new EngineFullError({ limitBytes: state.limits.memoryBytes });
    updateData(state, queue, ref, data, run); // a claim came first
    return;
  }
  core.wasm.jobReplacePayload(slot, block);
  regroup(state, slot);
}

/** One run of a job: its slot and the generation of its claim. */
export interface RunTicket {
  readonly low: number;
  readonly high: number;
}

export function updateProgress(state: EngineState, queue: string, ref: JobRef, progress: unknown): void {
  const slot = mustResolve(state, queue, ref);
  if (!setCold(state, slot, { ...coldOf(state, slot), progress }))
    throw new EngineFullError({ limitBytes: state.limits.memoryBytes });
  tell(state, slot, 'progress', () => ({ data: progress }));
  const { core } = state;
  if (core.state(slot) === L.STATE_ACTIVE) state.owners[core.wasm.jobOwner(slot)]?.onProgress?.(slot, progress);
}

export function addLog(state: EngineState, queue: string, ref: JobRef, line: string): number {
  const slot = mustResolve(state, queue, ref);
  const keep = state.payloads.opts(state.core.field(slot, L.S_PAYLOAD)).keepLogs ?? JOB_DEFAULTS.keepLogs;
  const cold = coldOf(state, slot);
  const logCount = (cold.logCount ?? 0) + 1;
  const logs = keep === 0 ? [] : [...(cold.logs ?? []), line].slice(-keep);
  setCold(state, slot, { ...cold, logs, logCount });
  return logCount;
}

export function getLogs(state: EngineState, queue: string, ref: JobRef): string[] {
  return coldOf(state, mustResolve(state, queue, ref)).logs ?? [];
}

// ---- what one wants to know -------------------------------------------------------------------------------------------------

export function getJobs(state: EngineState, slots: readonly Slot[]): (JobSnapshot | undefined)[] {
  return slots.map((slot) => (slot === 0 ? undefined : snapshot(state, slot)));
}

export function counts(state: EngineState, queue: QueueEntry): JobCounts {
  const { core } = state;
  const open = core.listCount(queue.address, L.STATE_WAITING);
  const active = activeIn(state, queue);
  return {
    waiting: open - active,
    active,
    delayed: core.listCount(queue.address, L.STATE_DELAYED),
    blocked: core.listCount(queue.address, L.STATE_BLOCKED),
    completed: core.listCount(queue.address, L.STATE_COMPLETED),
    failed: core.listCount(queue.address, L.STATE_FAILED),
    cancelled: core.listCount(queue.address, L.STATE_CANCELLED),
    paused: queue.paused ? open - active : 0,
  };
}

/** Waiting and active jobs share a list, so the running ones are counted where they run. */
export function activeIn(state: EngineState, queue: QueueEntry): number {
  const { core } = state;
  let active = 0;
  for (const listener of queue.local) active += listener.running;
  const high = core.u32[L.H_THREADS_HIGH >>> 2] as number;
  for (let thread = L.ENGINE_THREAD + 1; thread < high; thread++) {
    const record = (L.THREADS_AT + thread * L.THREAD_BYTES) >>> 2;
    if (core.u32[record + (L.T_STATE >>> 2)] === L.THREAD_FREE) continue;
    if (core.u32[record + (L.T_QUEUE >>> 2)] === queue.address) active += core.wasm.runsActive(thread);
  }
  return active;
}

// ---- whole queues ------------------------------------------------------------------------------------------------------------

/** Removes what is waiting, and if asked what is delayed or blocked. Active jobs go on. */
export function drain(state: EngineState, queue: QueueEntry, opts: { delayed: boolean; blocked: boolean }): void {
  const wanted: number[] = [L.STATE_WAITING];
  if (opts.delayed) wanted.push(L.STATE_DELAYED);
  if (opts.blocked) wanted.push(L.STATE_BLOCKED);
  removeAll(state, queue, wanted);
}

/**
 * Removes what is in these states now. Removing one may end or release others by their dependents' policies: those that it ends stay,
 * those that it releases go if they are among these.
 */
function removeAll(state: EngineState, queue: QueueEntry, wanted: readonly number[]): void {
  const { core } = state;
  const slots: Slot[] = [];
  const numbers: number[] = [];
  for (const raw of wanted) {
    for (let slot = core.listHead(queue.address, raw); slot !== 0; slot = core.field(slot, L.S_NEXT)) {
      slots.push(slot);
      numbers.push(core.number(slot));
    }
  }
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i] as Slot;
    if (core.number(slot) !== numbers[i]) continue; // its record is another job's by now
    const prev = visibleState(state, slot);
    const isEnded = core.state(slot) >= L.STATE_COMPLETED;
    if (isEnded ? wanted.includes(core.state(slot)) : hold(state, slot)) removeHeld(state, slot, prev);
  }
}

/** Removes everything of a queue. With active jobs: JobActiveError, or with `force` their runs are told to stop and don't count. */
export function obliterate(state: EngineState, queue: QueueEntry, force: boolean): void {
  const { core } = state;
  const active = activeIn(state, queue);
  if (active > 0 && !force) {
    throw new JobActiveError({
      queue: queue.name,
      count: active,
      hint: 'Wait for them, or obliterate with {force: true}, which aborts them.',
    });
  }
  drain(state, queue, { delayed: true, blocked: true });
  const { STATE_COMPLETED, STATE_FAILED, STATE_CANCELLED, STATE_REMEMBERED, STATE_LINGERING } = L;
  removeAll(state, queue, [STATE_COMPLETED, STATE_FAILED, STATE_CANCELLED, STATE_REMEMBERED, STATE_LINGERING]);
  for (let slot = core.listHead(queue.address, L.STATE_WAITING); slot !== 0; slot = core.field(slot, L.S_NEXT))
    if ((flagsOf(state, slot) & DISCARDED) === 0) discardRun(state, slot);
  core.wasm.heapClear(queue.address);
  dropKeys(state, queue);
  if (active === 0) core.wasm.limitsClear(queue.address);
  else {
    // Runs that go on hold places of theirs: these stay, but hold nobody back.
    core.wasm.permitsConfigure(queue.address, L.NO_LIMIT);
    core.wasm.rateConfigure(queue.address, 0, 0);
  }
  queue.config = {};
  state.journal?.queueChanged(queue);
  tellQueue(state, queue.name, 'obliterated');
}

/** A run goes on, but the job is gone for everybody. */
function discardRun(state: EngineState, slot: Slot): void {
  tellWaiters(state, slot, 'active');
  tell(state, slot, 'removed', () => ({ prev: 'active' }));
  tellRemoval(state, slot);
  streamEnded(state, slot);
  dropDependencies(state, slot);
  state.core.wasm.indexRemove(slot); // its id is free at once
  setFlags(state, slot, DISCARDED);
  abortRun(state, slot, 'removed', 'The job was removed with its queue');
}

/** Claims that begin from now on find it paused. */
export function setPaused(state: EngineState, queue: QueueEntry, paused: boolean): void {
  if (queue.paused === paused) return;
  queue.paused = paused;
  if (paused) notePause(state, queue);
  else endPause(state, queue);
  if (paused) state.core.wasm.queueFlags(queue.address, L.QUEUE_PAUSED, 0);
  else if (queue.changes === 0) state.core.wasm.queueFlags(queue.address, 0, L.QUEUE_PAUSED); // or when those are done
  state.journal?.queueChanged(queue);
  tellQueue(state, queue.name, paused ? 'paused' : 'resumed');
  if (!paused) announce(state, queue, L.THREADS_MAX);
}
