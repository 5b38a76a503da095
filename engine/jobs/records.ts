/** Reading jobs: from slots and blocks to what users see. */
import type { DependencyRecord, JobSnapshot, JobState, JobStateOrUnknown } from '../../client/connection.js';
import { L, type Slot } from '../core/index.js';
import type { EngineState } from '../state.js';
import { flagsOf, idOf, queueOf } from '../state.js';
import { PART_EXTRA } from '../store/format.js';
import { splitOptions } from './claimed.js';
import { finalOf, reasonOf } from './flags.js';
import type { Ending } from './waiters.js';

/** What users call the states that they can see. */
export const STATE_NAMES: Readonly<Record<number, JobState>> = {
  [L.STATE_WAITING]: 'waiting',
  [L.STATE_DELAYED]: 'delayed',
  [L.STATE_BLOCKED]: 'blocked',
  [L.STATE_ACTIVE]: 'active',
  [L.STATE_COMPLETED]: 'completed',
  [L.STATE_FAILED]: 'failed',
  [L.STATE_CANCELLED]: 'cancelled',
};

/** Of a job that failed when there was no memory for the reason. */
const NO_REASON = 'The reason was not kept: memory was full';

/** What is kept of a job beside its payload and result: written rarely (a failed attempt, progress, a log line). */
export interface ColdRecord {
  failedReason?: string;
  stacktrace?: string[];
  attempts?: { at: number; error: string }[];
  cancelReason?: string;
  progress?: unknown;
  /** That it is to look up, and the last run that may not have: see interrupt.ts. */
  interruption?: { reason: string; run: number };
  logs?: string[];
  logCount?: number;
  /** Of a job that has finished; the short form when all are of one queue and have generated ids. */
  dependencies?: { queue: string; numbers: Float64Array } | { queue: string; id: string }[];
}

/** A finished job that failed keeps its cold record only; its result block is 0. */
export function coldOf(state: EngineState, slot: Slot): ColdRecord {
  const block = state.core.field(slot, L.S_EXTRA);
  return block === 0 ? {} : (state.payloads.value(block) as ColdRecord);
}

/**
 * Not from the reserve, which is for what keeps jobs going: stacks of many failures would use it up. In full memory what is longest is
 * left out, and if even the rest finds no room the record keeps what it has (false).
 */
export function setCold(state: EngineState, slot: Slot, cold: ColdRecord): boolean {
  const { core, payloads } = state;
  let block = payloads.encodeValue(cold);
  if (block === undefined) {
    const { stacktrace: _stacks, logs: _logs, attempts: _attempts, ...short } = cold;
    block = payloads.encodeValue(short);
  }
  if (block === undefined) return false;
  const before = core.field(slot, L.S_EXTRA);
  if (before !== 0) core.wasm.blockFree(before);
  core.setField(slot, L.S_EXTRA, block);
  state.journal?.touch(slot, PART_EXTRA);
  return true;
}

/** The state that users see: records that only linger or are remembered count as gone. */
export function visibleState(state: EngineState, slot: Slot): JobStateOrUnknown {
  return STATE_NAMES[state.core.state(slot)] ?? 'unknown';
}

/** The state in which a record ended, also when it is only remembered or lingering. */
export function finalState(state: EngineState, slot: Slot): JobStateOrUnknown {
  const raw = state.core.state(slot);
  if (raw === L.STATE_REMEMBERED || raw === L.STATE_LINGERING || raw === L.STATE_GONE) {
    return STATE_NAMES[finalOf(flagsOf(state, slot))] ?? 'unknown';
  }
  return STATE_NAMES[raw] ?? 'unknown';
}

export function resultOf(state: EngineState, slot: Slot): unknown {
  return state.payloads.value(state.core.field(slot, L.S_RESULT));
}

/** How the job ended, if it has. */
export function endingOf(state: EngineState, slot: Slot): Ending | undefined {
  const final = finalState(state, slot);
  if (state.core.state(slot) === L.STATE_REMEMBERED) return { kind: 'removed', state: final };
  switch (final) {
    case 'completed':
      return { kind: 'completed', value: resultOf(state, slot) };
    case 'failed': {
      const { failedReason = NO_REASON, stacktrace = [] } = coldOf(state, slot);
      return { kind: 'failed', failedReason, stacktrace };
    }
    case 'cancelled':
      return { kind: 'cancelled', reason: coldOf(state, slot).cancelReason };
    default:
      return undefined;
  }
}

/** Whether a run of it is counted twice by users: the run that is going on. */
function attemptsStarted(state: EngineState, slot: Slot): number {
  return state.core.field(slot, L.S_STARTED) + (state.core.state(slot) === L.STATE_ACTIVE ? 1 : 0);
}

/** Everything known about a job at this moment. `id`: for who knows it already. */
export function snapshot(state: EngineState, slot: Slot, id = idOf(state, slot)): JobSnapshot {
  const { core, payloads } = state;
  const payload = core.field(slot, L.S_PAYLOAD);
  const { opts, cron } = splitOptions(payloads.opts(payload));
  const cold = coldOf(state, slot);
  const now = finalState(state, slot) as JobState;
  const started = attemptsStarted(state, slot);
  const finished = core.time(slot, L.S_FINISHED_ON);
  const record: JobSnapshot = {
    id,
    queue: queueOf(state, slot).name,
    name: payloads.name(payload),
    data: core.state(slot) === L.STATE_REMEMBERED ? undefined : payloads.data(payload),
    opts,
    state: now,
    progress: cold.progress,
    returnvalue: now === 'completed' ? resultOf(state, slot) : undefined,
    failedReason: cold.failedReason ?? cold.cancelReason ?? (now === 'failed' ? NO_REASON : undefined),
    stacktrace: cold.stacktrace ?? [],
    attemptsMade: core.field(slot, L.S_ATTEMPTS),
    attemptsStarted: started,
    priority: core.ownPriority(slot),
    delay: opts.delay ?? 0,
    timestamp: core.time(slot, L.S_TIMESTAMP),
    processedOn: started === 0 ? undefined : core.time(slot, L.S_PROCESSED_ON),
    finishedOn: finished === 0 ? undefined : finished,
  };
  if (cold.interruption !== undefined) record.interruption = cold.interruption.reason;
  if (now === 'failed') {
    record.dlq = { reason: reasonOf(flagsOf(state, slot)), enteredAt: finished, attempts: cold.attempts ?? [] };
  }
  if (cron !== undefined) record.cron = cron;
  return record;
}

/** A dependency as its dependents see it. */
export function dependencyRecord(state: EngineState, slot: Slot): DependencyRecord {
  const record: DependencyRecord = {
    queue: queueOf(state, slot).name,
    id: idOf(state, slot),
    state: finalState(state, slot),
  };
  const ending = endingOf(state, slot);
  if (ending?.kind === 'completed') record.result = ending.value;
  if (ending?.kind === 'failed') record.failedReason = ending.failedReason;
  if (ending?.kind === 'cancelled') record.failedReason = ending.reason ?? 'cancelled';
  if (record.state === 'unknown') record.failedReason = 'removed';
  return record;
}
