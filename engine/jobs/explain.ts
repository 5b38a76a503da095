/** Why a job is not running: one sentence that a person understands. */
import type { DependencyRecord, Explanation, JobRef } from '../../client/connection.js';
import { JOB_DEFAULTS } from '../../client/options.js';
import { L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import { type EngineState, flagsOf, queueOf } from '../state.js';
import { activeIn } from './control.js';
import { dependencyRecords } from './dependencies.js';
import { heldInGroup } from './groups.js';
import { visibleState } from './records.js';
import { visibleSlot } from './references.js';

export function explain(state: EngineState, queue: string, ref: JobRef): Explanation {
  const slot = visibleSlot(state, queue, ref);
  if (slot === 0) return { state: 'unknown', reason: 'There is no record of such a job.', waitsFor: [] };
  const now = visibleState(state, slot);
  const waitsFor: DependencyRecord[] =
    now === 'blocked' ? dependencyRecords(state, slot).filter((one) => !isEnd(one.state)) : [];
  return { state: now, reason: reasonFor(state, slot, waitsFor), waitsFor };
}

function isEnd(name: string): boolean {
  return name === 'completed' || name === 'cancelled' || name === 'unknown';
}

function reasonFor(state: EngineState, slot: Slot, waitsFor: readonly DependencyRecord[]): string {
  const { core } = state;
  switch (core.state(slot)) {
    case L.STATE_WAITING:
      return whyWaiting(state, slot, queueOf(state, slot));
    case L.STATE_DELAYED:
      return whyDelayed(state, slot);
    case L.STATE_BLOCKED:
      return whyBlocked(state, slot, waitsFor);
    case L.STATE_ACTIVE:
      return 'It is running.';
    case L.STATE_FREE:
      return NO_MEMORY;
    default:
      return `It is finished: ${visibleState(state, slot)}.`;
  }
}

const NO_MEMORY = "The engine's memory is full: it goes on as soon as some is free.";

/** What holds the whole queue comes first. */
function whyWaiting(state: EngineState, slot: Slot, queue: QueueEntry): string {
  const { core, journal, postponed } = state;
  const { rateLimit, concurrency } = queue.config;
  if (journal?.error !== undefined)
    return "The engine's log can't be written, so nothing starts. Close it and open it again.";
  if (postponed.some((one) => one.slot === slot)) return NO_MEMORY;
  if ((flagsOf(state, slot) & L.FLAG_UNREACHED) !== 0) return 'It can start as soon as it is on the disk.';
  if (queue.paused) return 'The queue is paused.';
  if (queue.heldUntil > state.clock.now())
    return `No job of the queue starts before ${timeText(queue.heldUntil)}, as \`rateLimit\` was told.`;
  if (queue.local.size === 0 && !hasThreads(state, queue)) return 'No worker of this queue runs in this engine.';
  const held = whyHeld(state, slot, queue);
  if (held !== undefined) return held;
  const now = state.clock.now();
  const next = core.wasm.rateNext(queue.address, now);
  if (rateLimit !== undefined && rateLimit !== null && next > now)
    return `The queue's rate limit of ${rateLimit.max} in ${rateLimit.duration} ms lets the next job start at ${timeText(next)}.`;
  if (concurrency !== undefined && concurrency !== null && activeIn(state, queue) >= concurrency)
    return `The queue's concurrency limit of ${concurrency} is reached: it waits for the end of a running job.`;
  const few = tooFew(state, queue);
  if (few !== undefined) return few;
  return 'It waits for a free worker, after the jobs before it and those of higher priority.';
}

/** All workers take batches, and there are fewer jobs than any of them begins one with. */
function tooFew({ core }: EngineState, queue: QueueEntry): string | undefined {
  const least = Math.min(...[...queue.batchers.values()].map(({ minSize }) => minSize));
  const ready = core.ready(queue.address);
  if (queue.batchers.size === 0 || queue.batchers.size < queue.local.size || ready >= least) return undefined;
  return `There are ${ready} jobs, and a batch begins with ${least}: it waits for more of them, or for the longest wait of a worker.`;
}

/** By a circuit breaker of the queue's workers, or by its group. */
function whyHeld(state: EngineState, slot: Slot, queue: QueueEntry): string | undefined {
  for (const breaker of state.breakers.all()) {
    if (breaker.isClosed || !breaker.queues.has(queue)) continue;
    return `The circuit breaker "${breaker.key}" is ${breaker.status().state}: its workers claim nothing, or only probes.`;
  }
  const group = heldInGroup(state, queue, slot);
  if (group === undefined) return undefined;
  const name = `Its group ${JSON.stringify(group.id)}`;
  if (group.at === Number.POSITIVE_INFINITY)
    return `${name} has as many jobs under way as it may: it waits for the end of one.`;
  if (group.at > state.clock.now())
    return `${name} has a rate limit, which lets the next job start at ${timeText(group.at)}.`;
  return `${name} takes turns with the others: jobs before it in the group come first.`;
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}

function whyDelayed(state: EngineState, slot: Slot): string {
  const { core, payloads } = state;
  const due = `It is due at ${timeText(core.time(slot, L.S_DUE))}.`;
  const failures = core.field(slot, L.S_ATTEMPTS);
  if (failures === 0) return due;
  const { attempts = JOB_DEFAULTS.attempts } = payloads.opts(core.field(slot, L.S_PAYLOAD));
  return `It has failed ${failures} of ${attempts} times and is tried again. ${due}`;
}

function whyBlocked(state: EngineState, slot: Slot, waitsFor: readonly DependencyRecord[]): string {
  const open = waitsFor.length;
  if (open === 0) return `It was lost ${state.core.lost(slot)} times and waits until no other such job runs.`;
  const failed = waitsFor.filter((one) => one.state === 'failed').length;
  const those = `It waits for ${open} ${open === 1 ? 'job' : 'jobs'}`;
  return failed === 0 ? `${those}.` : `${those}, of which ${failed} failed and must be retried (retryDlq) or removed.`;
}

export function hasThreads({ core }: EngineState, queue: QueueEntry): boolean {
  const high = core.u32[L.H_THREADS_HIGH >>> 2] as number;
  for (let thread = L.ENGINE_THREAD + 1; thread < high; thread++) {
    const record = (L.THREADS_AT + thread * L.THREAD_BYTES) >>> 2;
    if (core.u32[record] === L.THREAD_LIVE && core.u32[record + (L.T_QUEUE >>> 2)] === queue.address) return true;
  }
  return false;
}
