/**
 * Aging: what waits long rises. Every `every` ms of waiting add `step` to the priority by which a job is claimed, `max` at most; the
 * priority that it was given stays what it is, and counts again when it becomes ready anew. A job that waits in a queue with aging has
 * its timer set for the next step (or its expiry, if that comes first): so nothing is looked at that has not become due.
 */
import { PRIORITY_MAX } from '../../client/options.js';
import { L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import { announce, type EngineState, queueOf } from '../state.js';
import { groupMoved, isGrouped } from './groups.js';
import { isExpiryHeld } from './paused.js';

/** A job has begun to wait. */
export function beginAging(state: EngineState, slot: Slot): void {
  if (!state.queues.hasAging) return;
  const { aging } = queueOf(state, slot).config;
  if (aging !== undefined && aging !== null) setNext(state, slot, aging);
}

type Aging = NonNullable<QueueEntry['config']['aging']>;

function setNext(state: EngineState, slot: Slot, { every, max }: Aging): void {
  const { core } = state;
  const now = state.clock.now();
  setTimer(state, slot, core.aged(slot) < max ? now + every : Number.POSITIVE_INFINITY);
}

/** Without memory for a timer it does not age. */
function setTimer(state: EngineState, slot: Slot, step: number): void {
  const { core } = state;
  // One that stands still may have passed: it counts again, and its timer is set, when the pause ends.
  const expiry = isExpiryHeld(state, slot) ? 0 : core.time(slot, L.S_EXPIRY);
  const due = Math.min(expiry || Number.POSITIVE_INFINITY, step);
  core.wasm.jobTimer(slot, due === Number.POSITIVE_INFINITY ? 0 : due);
  state.alarm.arm();
}

/** The timer of a waiting job is due, and it is not its expiry. */
export function age(state: EngineState, slot: Slot): void {
  const { core } = state;
  const queue = queueOf(state, slot);
  const { aging } = queue.config;
  if (aging === undefined || aging === null) return;
  const own = core.priority(slot) - core.aged(slot);
  const aged = Math.min(core.aged(slot) + (aging.step ?? 1), aging.max, PRIORITY_MAX - own);
  if (aged > core.aged(slot)) raise(state, queue, slot, own + aged);
  if (core.state(slot) === L.STATE_WAITING) setNext(state, slot, aging);
}

function raise(state: EngineState, queue: QueueEntry, slot: Slot, priority: number): void {
  if (state.core.wasm.jobAge(slot, priority) === 0) return;
  if (isGrouped(state, slot)) groupMoved(state, slot);
  announce(state, queue, 1); // a claimer may have passed by while it was out of the heap
}

/** It waits no more, or its run is over: its priority is its own again. */
export function endAging({ core }: EngineState, slot: Slot): void {
  const aged = core.aged(slot);
  if (aged === 0) return;
  core.setField(slot, L.S_PRIORITY, (core.priority(slot) - aged) >>> 0);
  core.setField(slot, L.S_AGED, 0);
}

/** The queue's setting has changed: begins, or takes away, for all that wait. Takes a moment for each. */
export function agingConfigured(state: EngineState, queue: QueueEntry): void {
  const { core } = state;
  const { aging } = queue.config;
  const isOn = aging !== undefined && aging !== null;
  for (let slot = core.listHead(queue.address, L.STATE_WAITING); slot !== 0; slot = core.field(slot, L.S_NEXT)) {
    if (core.state(slot) !== L.STATE_WAITING) continue;
    if (isOn) setNext(state, slot, aging);
    else {
      setTimer(state, slot, Number.POSITIVE_INFINITY); // of its ttl alone
      if (core.aged(slot) !== 0) raise(state, queue, slot, core.priority(slot) - core.aged(slot));
    }
  }
}
