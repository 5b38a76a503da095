/** What follows when a job has ended for good: waiters, dependents, dependencies, retention. */
import { createHash } from 'node:crypto';
import type { RetentionPolicy } from '../../client/options.js';
import { JOB_DEFAULTS } from '../../client/options.js';
import { type Block, L, type QueueAddress, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import type { EngineState } from '../state.js';
import { flagsOf, queueOf, setFlags, tell } from '../state.js';
import { keyEnded } from './deduplication.js';
import { dropDependencies, rememberDependencies, settleDependents } from './dependencies.js';
import { ENDING, finalOf, HAS_DEPENDENCIES, OWN_RETENTION, withFinal } from './flags.js';
import { streamEnded } from './streams.js';
import { tellWaiters } from './waiting.js';

/** Results of jobs removed at once linger this long, and this many of them a queue, for late waiters. */
const LINGER_MS = 30_000;
const LINGER_JOBS = 10_000;

/** Jobs whose end is still to be told: a chain of dependents may be long, so it is a loop and not a recursion. */
const pending: { state: EngineState; slot: Slot }[] = [];
let draining = false;

/** The job's word says completed, failed or cancelled: everything that follows from it. */
export function ended(state: EngineState, slot: Slot): void {
  if (state.keys.any) keyEnded(state, slot);
  streamEnded(state, slot);
  if ((flagsOf(state, slot) & HAS_DEPENDENCIES) === 0 && state.core.field(slot, L.S_DEPENDENTS) === 0) {
    tellWaiters(state, slot);
    retain(state, slot);
    return;
  }
  setFlags(state, slot, ENDING);
  pending.push({ state, slot });
  if (!draining) deferEnds(() => {});
}

/** What follows from the ends that `run` leads to comes after it, even if it throws: until then no record is freed by them. */
export function deferEnds<T>(run: () => T): T {
  if (draining) return run();
  draining = true;
  try {
    return run();
  } finally {
    try {
      for (let i = 0; i < pending.length; i++) {
        const next = pending[i] as { state: EngineState; slot: Slot };
        follow(next.state, next.slot);
      }
    } finally {
      pending.length = 0;
      draining = false;
    }
  }
}

function follow(state: EngineState, slot: Slot): void {
  const { core } = state;
  const raw = core.state(slot);
  setFlags(state, slot, 0, ENDING);
  tellWaiters(state, slot);
  if (core.field(slot, L.S_DEPENDENTS) !== 0)
    settleDependents(state, slot, raw === L.STATE_COMPLETED ? 'completed' : 'failed');
  // In the dead letter queue it may be retried, and would read them again.
  if (raw !== L.STATE_FAILED && (flagsOf(state, slot) & HAS_DEPENDENCIES) !== 0) {
    if (policyFor(state, slot, false) !== true) rememberDependencies(state, slot);
    dropDependencies(state, slot);
  }
  retain(state, slot);
}

/** How long and among how many this record is kept. */
function policyFor(state: EngineState, slot: Slot, failed: boolean): RetentionPolicy {
  const standard = failed ? JOB_DEFAULTS.removeOnFail : JOB_DEFAULTS.removeOnComplete;
  if ((flagsOf(state, slot) & OWN_RETENTION) === 0) return standard;
  const opts = state.payloads.opts(state.core.field(slot, L.S_PAYLOAD));
  return (failed ? opts.removeOnFail : opts.removeOnComplete) ?? standard;
}

export function retain(state: EngineState, slot: Slot): void {
  const { core } = state;
  const raw = core.state(slot);
  const failed = raw === L.STATE_FAILED;
  if (!failed && (flagsOf(state, slot) & OWN_RETENTION) === 0) {
    retainStandard(state, slot, raw);
    return;
  }
  const policy = policyFor(state, slot, failed);
  if (policy === true) {
    linger(state, slot);
    return;
  }
  const { age, count } = boundsOf(state, slot, policy, failed);
  keepFor(state, slot, age);
  if (count !== undefined) evictBeyond(state, core.field(slot, L.S_QUEUE), raw, count);
}

/** Of a record that an engine before this one has kept: its time runs on. The number was seen to when it ended. */
export function retainAgain(state: EngineState, slot: Slot): void {
  const { core } = state;
  const raw = core.state(slot);
  const failed = raw === L.STATE_FAILED;
  if (!failed && (flagsOf(state, slot) & OWN_RETENTION) === 0) {
    state.retention.watch(core.field(slot, L.S_QUEUE), raw);
    return;
  }
  const policy = policyFor(state, slot, failed);
  if (policy !== true) keepFor(state, slot, boundsOf(state, slot, policy, failed).age);
}

type Bounds = Exclude<RetentionPolicy, boolean>;

function boundsOf(state: EngineState, slot: Slot, policy: false | Bounds, failed: boolean): Bounds {
  if (policy !== false) return policy;
  return failed ? dlqBounds(state, queueOf(state, slot)) : {};
}

function dlqBounds({ limits }: EngineState, { config }: QueueEntry): { age: number; count: number } {
  return { age: config.dlq?.age ?? limits.dlqAgeMs, count: config.dlq?.count ?? limits.dlqJobs };
}

/** The limits have changed: they hold for the jobs that are in the dead letter queue, but for those with a limit of their own. */
export function applyDlqLimits(state: EngineState, queue: QueueEntry): void {
  const { core } = state;
  const { age, count } = dlqBounds(state, queue);
  for (let slot = core.listHead(queue.address, L.STATE_FAILED); slot !== 0; slot = core.field(slot, L.S_NEXT))
    if (policyFor(state, slot, true) === false) keepFor(state, slot, age);
  evictBeyond(state, queue.address, L.STATE_FAILED, count);
}

/** Whether a failed job is kept: those with `removeOnFail: true` are in the dead letter queue for nobody. */
export function isKeptFailed(state: EngineState, slot: Slot): boolean {
  return policyFor(state, slot, true) !== true;
}

function keepFor(state: EngineState, slot: Slot, age: number | undefined): void {
  if (age === undefined) return;
  state.core.wasm.jobTimer(slot, state.core.time(slot, L.S_FINISHED_ON) + age);
  state.alarm.arm();
}

/**
 * The oldest go, as many as are too many now: dependents that fail by it come later and have a policy of their own. Those whose end is
 * still to be told see to it themselves when their turn comes.
 */
function evictBeyond(state: EngineState, queue: QueueAddress, raw: number, count: number): void {
  const { core } = state;
  const over = core.listCount(queue, raw) - count;
  if (over <= 0) return;
  deferEnds(() => {
    for (let i = 0; i < over; i++) {
      const oldest = core.listHead(queue, raw);
      if ((flagsOf(state, oldest) & ENDING) !== 0) return;
      evict(state, oldest);
    }
  });
}

/** The most frequent end. */
function retainStandard(state: EngineState, slot: Slot, raw: number): void {
  const { core } = state;
  const queue = core.field(slot, L.S_QUEUE);
  state.retention.watch(queue, raw);
  evictBeyond(state, queue, raw, JOB_DEFAULTS.removeOnComplete.count);
}

function linger(state: EngineState, slot: Slot): void {
  const { core } = state;
  const queue = core.field(slot, L.S_QUEUE);
  dropDependencies(state, slot);
  setFlags(state, slot, withFinal(0, core.state(slot)));
  const due = core.time(slot, L.S_FINISHED_ON) + LINGER_MS;
  core.setTime(slot, L.S_DUE, due);
  if (core.wasm.jobLinger(slot, due) === 0) {
    forget(state, slot); // no memory for its timer
    return;
  }
  state.alarm.arm();
  if (core.field(slot, L.S_DEPENDENTS) !== 0) settleDependents(state, slot, 'gone'); // those that wait while it may be retried
  while (core.listCount(queue, L.STATE_LINGERING) > LINGER_JOBS) forget(state, core.listHead(queue, L.STATE_LINGERING));
}

/** The record's time is over, or there are too many. */
export function evict(state: EngineState, slot: Slot): void {
  if (state.core.state(slot) === L.STATE_FAILED) tell(state, slot, 'dlq:evicted');
  forget(state, slot);
}

/**
 * Lets a finished record go: a custom id is remembered for its time, all else is freed. What dependents that end by it lead to comes
 * then: it could be the eviction of the same record.
 */
export function forget(state: EngineState, slot: Slot): void {
  if (state.core.field(slot, L.S_DEPENDENTS) === 0) letGo(state, slot);
  else {
    deferEnds(() => {
      settleDependents(state, slot, 'gone');
      letGo(state, slot);
    });
  }
}

function letGo(state: EngineState, slot: Slot): void {
  const raw = state.core.state(slot);
  dropDependencies(state, slot);
  const hasId = (flagsOf(state, slot) & L.FLAG_CUSTOM_ID) !== 0;
  if (hasId && raw !== L.STATE_REMEMBERED && remember(state, slot, raw)) return;
  discard(state, slot);
}

/** Frees a record, its id forgotten (kept out of sight while a dependent reads it). */
export function discard(state: EngineState, slot: Slot): void {
  const raw = state.core.state(slot);
  if (raw === L.STATE_REMEMBERED) state.remembered--;
  else if (raw !== L.STATE_LINGERING) setFlags(state, slot, withFinal(0, raw < L.STATE_COMPLETED ? 0 : raw));
  state.core.wasm.jobRemove(slot);
}

/** Keeps id, final state and the payload's hash. False when the id is not to be remembered. */
function remember(state: EngineState, slot: Slot, raw: number): boolean {
  const { core, payloads } = state;
  const payload = core.field(slot, L.S_PAYLOAD);
  const { config } = queueOf(state, slot);
  const ttl = payloads.opts(payload).idempotencyTtl ?? config.idempotencyTtl ?? JOB_DEFAULTS.idempotencyTtl;
  const due = core.time(slot, L.S_FINISHED_ON) + ttl;
  if (ttl === 0 || due <= state.clock.now()) return false;
  const short = payloads.encodeRemembered(payload, hashOf(payloads.dataBytes(payload)));
  if (short === 0) return false;
  if (raw !== L.STATE_LINGERING) setFlags(state, slot, withFinal(0, raw));
  const pinned = core.field(slot, L.S_PINS) !== 0;
  const kept = pinned ? twinOf(state, slot, short) : slot;
  if (kept !== 0) core.setTime(kept, L.S_DUE, due);
  if (kept === 0 || core.wasm.jobRemember(kept, short, due) === 0) {
    if (pinned && kept !== 0) core.wasm.jobRemove(kept);
    core.wasm.blockFree(short);
    return false;
  }
  setFlags(state, kept, 0, L.FLAG_OPTIONS | OWN_RETENTION);
  state.alarm.arm();
  state.remembered++;
  if (state.remembered > state.limits.idempotencyIds) forgetOldestId(state, core.field(kept, L.S_QUEUE));
  forgetIdsBeyond(state, queueOf(state, kept));
  return !pinned;
}

/** A dependent still reads the record: the id is remembered by another slot. */
function twinOf(state: EngineState, slot: Slot, short: Block): Slot {
  const { core } = state;
  const queue = core.field(slot, L.S_QUEUE);
  const flags = withFinal(L.FLAG_CUSTOM_ID, finalOf(flagsOf(state, slot)));
  const timestamp = core.time(slot, L.S_TIMESTAMP);
  const twin = core.wasm.jobCreate(queue, core.ownPriority(slot), flags, short, timestamp, 0) >>> 0;
  if (twin === 0) return 0;
  core.setField(twin, L.S_PAYLOAD, 0); // or it would be freed when it is given to the twin for good
  core.setField(twin, L.S_ATTEMPTS, core.field(slot, L.S_ATTEMPTS));
  core.setField(twin, L.S_STARTED, core.field(slot, L.S_STARTED));
  core.setTime(twin, L.S_PROCESSED_ON, core.time(slot, L.S_PROCESSED_ON));
  core.setTime(twin, L.S_FINISHED_ON, core.time(slot, L.S_FINISHED_ON));
  return twin;
}

function forgetOldestId(state: EngineState, queue: QueueAddress): boolean {
  const oldest = state.core.listHead(queue, L.STATE_REMEMBERED);
  if (oldest === 0) return false;
  tell(state, oldest, 'idempotency:evicted');
  discard(state, oldest);
  return true;
}

/** As many as the queue's own limit permits. */
export function forgetIdsBeyond(state: EngineState, { address, config }: QueueEntry): void {
  const most = config.idempotencyMax ?? Number.POSITIVE_INFINITY;
  while (state.core.listCount(address, L.STATE_REMEMBERED) > most && forgetOldestId(state, address));
}

/** 128 bits of a payload, to tell whether another one came under the same id. */
export function hashOf(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest().subarray(0, 16);
}
