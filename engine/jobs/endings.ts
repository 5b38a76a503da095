/** What follows when a job has ended for good: waiters, dependents, dependencies, retention. */
import { createHash } from 'node:crypto';
import type { RetentionPolicy } from '../../client/options.js';
import { JOB_DEFAULTS } from '../../client/options.js';
import { L, type Slot } from '../core/index.js';
import type { EngineState } from '../state.js';
import { flagsOf, idOf, queueOf, setFlags, tellQueue } from '../state.js';
import { dropDependencies, rememberDependencies, settleDependents } from './dependencies.js';
import { HAS_DEPENDENCIES, OWN_RETENTION, withFinal } from './flags.js';
import { tellWaiters } from './waiting.js';

/** Results of jobs removed at once linger this long, and this many of them a queue, for late waiters. */
const LINGER_MS = 30_000;
const LINGER_JOBS = 10_000;

/** Jobs whose end is still to be told: a chain of dependents may be long, so it is a loop and not a recursion. */
const pending: { state: EngineState; slot: Slot }[] = [];
let draining = false;

/** The job's word says completed, failed or cancelled: everything that follows from it. */
export function ended(state: EngineState, slot: Slot): void {
  if ((flagsOf(state, slot) & HAS_DEPENDENCIES) === 0 && state.core.field(slot, L.S_DEPENDENTS) === 0) {
    tellWaiters(state, slot);
    retain(state, slot);
    return;
  }
  pending.push({ state, slot });
  if (draining) return;
  draining = true;
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

function follow(state: EngineState, slot: Slot): void {
  const { core } = state;
  const raw = core.state(slot);
  tellWaiters(state, slot);
  if (core.field(slot, L.S_DEPENDENTS) !== 0) settleDependents(state, slot, raw === L.STATE_COMPLETED);
  // In the dead letter queue it may be retried, and would read them again.
  if (raw !== L.STATE_FAILED) {
    rememberDependencies(state, slot);
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

function retain(state: EngineState, slot: Slot): void {
  const { core } = state;
  const raw = core.state(slot);
  const failed = raw === L.STATE_FAILED;
  if (!failed && (flagsOf(state, slot) & OWN_RETENTION) === 0) {
    retainStandard(state, slot, raw);
    return;
  }
  let policy = policyFor(state, slot, failed);
  if (policy === true) {
    linger(state, slot);
    return;
  }
  if (policy === false) {
    if (!failed) return;
    policy = { age: state.limits.dlqAgeMs, count: state.limits.dlqJobs };
  }
  if (policy.age !== undefined) {
    core.wasm.jobTimer(slot, core.time(slot, L.S_FINISHED_ON) + policy.age);
    state.alarm.arm();
  }
  if (policy.count !== undefined) {
    const queue = core.field(slot, L.S_QUEUE);
    while (core.listCount(queue, raw) > policy.count) evict(state, core.listHead(queue, raw));
  }
}

/** The most frequent end. */
function retainStandard(state: EngineState, slot: Slot, raw: number): void {
  const { core } = state;
  const queue = core.field(slot, L.S_QUEUE);
  state.retention.watch(queue, raw);
  const { count } = JOB_DEFAULTS.removeOnComplete;
  while (core.listCount(queue, raw) > count) evict(state, core.listHead(queue, raw));
}

function linger(state: EngineState, slot: Slot): void {
  const { core } = state;
  const queue = core.field(slot, L.S_QUEUE);
  dropDependencies(state, slot);
  setFlags(state, slot, withFinal(0, core.state(slot)));
  core.wasm.jobLinger(slot, core.time(slot, L.S_FINISHED_ON) + LINGER_MS);
  state.alarm.arm();
  while (core.listCount(queue, L.STATE_LINGERING) > LINGER_JOBS) forget(state, core.listHead(queue, L.STATE_LINGERING));
}

/** The record's time is over, or there are too many. */
export function evict(state: EngineState, slot: Slot): void {
  if (state.core.state(slot) === L.STATE_FAILED)
    tellQueue(state, queueOf(state, slot).name, 'dlq:evicted', { jobId: idOf(state, slot) });
  forget(state, slot);
}

/** Lets a finished record go: a custom id is remembered for its time, all else is freed. */
export function forget(state: EngineState, slot: Slot): void {
  const { core } = state;
  const raw = core.state(slot);
  if (core.field(slot, L.S_DEPENDENTS) !== 0) settleDependents(state, slot, false);
  dropDependencies(state, slot);
  if ((flagsOf(state, slot) & L.FLAG_CUSTOM_ID) !== 0 && raw !== L.STATE_REMEMBERED && remember(state, slot, raw))
    return;
  discard(state, slot);
}

/** Frees a record, its id forgotten (kept out of sight while a dependent reads it). */
export function discard(state: EngineState, slot: Slot): void {
  const raw = state.core.state(slot);
  if (raw === L.STATE_REMEMBERED) state.remembered--;
  else if (raw !== L.STATE_LINGERING) setFlags(state, slot, withFinal(0, raw));
  state.core.wasm.jobRemove(slot);
}

/** Keeps id, final state and the payload's hash. False when the id is not to be remembered. */
function remember(state: EngineState, slot: Slot, raw: number): boolean {
  const { core, payloads } = state;
  if (core.field(slot, L.S_PINS) !== 0) return false;
  const payload = core.field(slot, L.S_PAYLOAD);
  const ttl = payloads.opts(payload).idempotencyTtl ?? JOB_DEFAULTS.idempotencyTtl;
  const due = core.time(slot, L.S_FINISHED_ON) + ttl;
  if (ttl === 0 || due <= state.clock.now()) return false;
  const short = payloads.encodeRemembered(payload, hashOf(payloads.dataBytes(payload)));
  if (short === 0) return false;
  if (raw !== L.STATE_LINGERING) setFlags(state, slot, withFinal(0, raw));
  setFlags(state, slot, 0, L.FLAG_OPTIONS | OWN_RETENTION);
  core.wasm.jobRemember(slot, short, due);
  state.alarm.arm();
  state.remembered++;
  if (state.remembered > state.limits.idempotencyIds) forgetOldestId(state, slot);
  return true;
}

function forgetOldestId(state: EngineState, slot: Slot): void {
  const oldest = state.core.listHead(state.core.field(slot, L.S_QUEUE), L.STATE_REMEMBERED);
  if (oldest === 0) return;
  tellQueue(state, queueOf(state, oldest).name, 'idempotency:evicted', { jobId: idOf(state, oldest) });
  discard(state, oldest);
}

/** 128 bits of a payload, to tell whether another one came under the same id. */
export function hashOf(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest().subarray(0, 16);
}
