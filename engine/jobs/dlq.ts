/** The dead letter queue: what is in it, what comes back, what goes for good. */
import type { FailedSelection, JobRef, JobSnapshot } from '../../client/connection.js';
import { JobNotFoundError } from '../../client/errors.js';
import type { CheckedFilter } from '../../client/job-filter.js';
import { L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import { type EngineState, queueOf, tell } from '../state.js';
import { toBlocked, toDelayed } from '../upkeep/postponed.js';
import { hold, refuseState, removeHeld } from './control.js';
import { dependenciesOf, hopeless, reconnect } from './dependencies.js';
import { deferEnds } from './endings.js';
import { matches } from './filter.js';
import { snapshot, visibleState } from './records.js';
import { mustResolve, visibleSlot } from './references.js';
import { makeReady, sendToDlq } from './settle.js';

/** Newest first. */
export function listFailed(
  state: EngineState,
  queue: QueueEntry,
  offset: number,
  count: number,
  filter: CheckedFilter | undefined,
): JobSnapshot[] {
  const { core } = state;
  const found: JobSnapshot[] = [];
  let slot = core.listTail(queue.address, L.STATE_FAILED);
  for (let skip = offset; slot !== 0 && found.length < count; slot = core.field(slot, L.S_PREV)) {
    if (filter !== undefined && !matches(state, slot, filter)) continue;
    if (skip > 0) skip--;
    else found.push(snapshot(state, slot));
  }
  return found;
}

/** Jobs of the dead letter queue, the oldest first, or in the order in which they are named. Those named that are not in it are left out. */
function choose(state: EngineState, queue: QueueEntry, which: FailedSelection): Set<Slot> {
  const { core } = state;
  const chosen = new Set<Slot>();
  if (Array.isArray(which)) {
    for (const ref of which as readonly JobRef[]) {
      const slot = visibleSlot(state, queue.name, ref);
      if (slot === 0) throw new JobNotFoundError({ queue: ref.queue ?? queue.name, jobId: ref.id });
      if (core.state(slot) === L.STATE_FAILED) chosen.add(slot);
    }
    return chosen;
  }
  const filter = which === 'all' ? undefined : (which as CheckedFilter);
  for (let slot = core.listHead(queue.address, L.STATE_FAILED); slot !== 0; slot = core.field(slot, L.S_NEXT))
    if (filter === undefined || matches(state, slot, filter)) chosen.add(slot);
  return chosen;
}

/** Puts failed jobs back. How many. */
export function retryFailed(
  state: EngineState,
  queue: QueueEntry,
  which: FailedSelection,
  withDependencies: boolean,
): number {
  const chosen = choose(state, queue, which);
  if (withDependencies) addDependencies(state, chosen);
  leaveOut(state, chosen);
  for (const slot of dependenciesFirst(state, chosen)) retryOne(state, slot, chosen);
  return chosen.size;
}

/** The failed jobs without which one of these can't run, in any depth. */
function addDependencies(state: EngineState, chosen: Set<Slot>): void {
  const open = [...chosen];
  for (let slot = open.pop(); slot !== undefined; slot = open.pop()) {
    for (const dependency of hopeless(state, slot)) {
      if (chosen.has(dependency) || state.core.state(dependency) !== L.STATE_FAILED) continue;
      chosen.add(dependency);
      open.push(dependency);
    }
  }
}

/** Takes out of `chosen` what could not run: a dependency has ended and is not among them, or could not run itself. Linear. */
function leaveOut(state: EngineState, chosen: Set<Slot>): void {
  const neededBy = new Map<Slot, Slot[]>();
  const out: Slot[] = [];
  for (const slot of chosen) {
    for (const dependency of hopeless(state, slot)) {
      if (!chosen.has(dependency)) out.push(slot);
      const known = neededBy.get(dependency);
      if (known === undefined) neededBy.set(dependency, [slot]);
      else known.push(slot);
    }
  }
  for (let slot = out.pop(); slot !== undefined; slot = out.pop()) {
    if (chosen.delete(slot)) out.push(...(neededBy.get(slot) ?? []));
  }
}

/** The same jobs, each behind those of them that it depends on. A chain may be long, so it is a loop and not a recursion. */
function dependenciesFirst(state: EngineState, chosen: ReadonlySet<Slot>): Slot[] {
  const ordered: Slot[] = [];
  const seen = new Set<Slot>();
  const placed = new Set<Slot>();
  for (const first of chosen) {
    const open = [first];
    for (let slot = open.at(-1); slot !== undefined; slot = open.at(-1)) {
      if (seen.has(slot)) {
        open.pop();
        if (!placed.has(slot)) ordered.push(slot);
        placed.add(slot);
        continue;
      }
      seen.add(slot);
      for (const dependency of dependenciesOf(state, slot).reverse())
        if (chosen.has(dependency) && !seen.has(dependency)) open.push(dependency);
    }
  }
  return ordered;
}

function retryOne(state: EngineState, slot: Slot, chosen: ReadonlySet<Slot>): void {
  const { core } = state;
  const now = state.clock.now();
  const open = reconnect(state, slot, (dependency) => chosen.has(dependency));
  const wait = open > 0 ? 0 : turnOf(queueOf(state, slot), now);
  core.setField(slot, L.S_ATTEMPTS, 0);
  core.setLost(slot, 0);
  core.setTime(slot, L.S_FINISHED_ON, 0);
  const { ttl = 0 } = state.payloads.opts(core.field(slot, L.S_PAYLOAD));
  core.setTime(slot, L.S_EXPIRY, ttl === 0 ? 0 : now + wait + ttl); // counted anew, or an expired one would expire at once
  tell(state, slot, 'retrying', () => ({ prev: 'failed' }));
  if (open > 0) {
    toBlocked(state, slot);
    tell(state, slot, 'blocked', () => ({ prev: 'failed' }));
  } else if (wait > 0) {
    toDelayed(state, slot, now + wait);
    tell(state, slot, 'delayed', () => ({ delay: wait, prev: 'failed' }));
  } else makeReady(state, slot, false, 'failed');
  if (ttl !== 0) state.alarm.arm();
}

/** How long a job that is put back waits for its turn: `redriveRate` of them go in a second. */
function turnOf(queue: QueueEntry, now: number): number {
  const rate = queue.config.dlq?.redriveRate;
  if (rate === undefined) return 0;
  const at = Math.max(now, queue.redriveAt);
  queue.redriveAt = at + 1000 / rate;
  return Math.ceil(at - now);
}

/** Removes failed jobs for good; their ids are forgotten. How many. */
export function purgeFailed(state: EngineState, queue: QueueEntry, which: FailedSelection): number {
  const chosen = choose(state, queue, which);
  deferEnds(() => {
    for (const slot of chosen) removeHeld(state, slot, 'failed');
  });
  return chosen.size;
}

export function moveToDlq(state: EngineState, queue: string, ref: JobRef, reason: string): void {
  const slot = mustResolve(state, queue, ref);
  const prev = visibleState(state, slot);
  if (!hold(state, slot)) refuseState(state, slot, 'moved to the dead letter queue', 'waiting, delayed or blocked');
  sendToDlq(state, slot, 'moved', reason, prev);
}
