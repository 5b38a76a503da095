/** `expireWhilePaused: false`: the `ttl` of such a job stands still while its queue is paused, also over a restart. */
import { L, type Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import { type EngineState, flagsOf, queueOf } from '../state.js';
import { beginAging } from './aging.js';

const ROOM = 'paused';

/** The queue is paused from now on. */
export function notePause(state: EngineState, { name }: QueueEntry): void {
  state.entries.put(ROOM, name, { since: state.clock.now() });
}

function ttlOf(state: EngineState, slot: Slot): { ttl: number; delay: number } | undefined {
  const { core, payloads } = state;
  if (core.time(slot, L.S_EXPIRY) === 0 || (flagsOf(state, slot) & L.FLAG_OPTIONS) === 0) return undefined;
  const { ttl = 0, delay = 0, expireWhilePaused } = payloads.opts(core.field(slot, L.S_PAYLOAD));
  return expireWhilePaused === false ? { ttl, delay } : undefined;
}

/** Its time is over, but does not count while the queue is paused. */
export function isExpiryHeld(state: EngineState, slot: Slot): boolean {
  return queueOf(state, slot).paused && ttlOf(state, slot) !== undefined;
}

/** The queue goes on from now on: what such jobs have waited meanwhile is added to their time. */
export function endPause(state: EngineState, queue: QueueEntry): void {
  const { core } = state;
  const { since } = state.entries.get<{ since: number }>(ROOM, queue.name) ?? { since: state.clock.now() };
  state.entries.delete(ROOM, queue.name);
  for (const raw of [L.STATE_WAITING, L.STATE_DELAYED, L.STATE_BLOCKED]) {
    for (let slot = core.listHead(queue.address, raw); slot !== 0; slot = core.field(slot, L.S_NEXT)) {
      if (core.state(slot) === raw) addPause(state, slot, since);
    }
  }
  state.alarm.arm();
}

function addPause(state: EngineState, slot: Slot, since: number): void {
  const { core } = state;
  const kept = ttlOf(state, slot);
  if (kept === undefined) return;
  const expiry = core.time(slot, L.S_EXPIRY);
  const begun = expiry - kept.ttl - kept.delay; // of one that was admitted during the pause: then
  const next = expiry + state.clock.now() - Math.max(since, begun);
  core.setTime(slot, L.S_EXPIRY, next);
  const due = core.state(slot) === L.STATE_DELAYED ? core.time(slot, L.S_DUE) : next;
  core.wasm.jobTimer(slot, Math.min(due, next));
  if (core.state(slot) === L.STATE_WAITING) beginAging(state, slot); // a job has one timer for both
  state.journal?.touch(slot, 0);
}
