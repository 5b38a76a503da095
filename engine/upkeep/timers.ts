/** What becomes of a job whose timer is due: by the state it is in, since a slot has one timer at a time. */
import { L, type Slot } from '../core/index.js';
import { age } from '../jobs/aging.js';
import { evict, forget } from '../jobs/endings.js';
import { CANCELLING, TIMED_OUT } from '../jobs/flags.js';
import { isExpiryHeld } from '../jobs/paused.js';
import { endTerminated, leaveSuspects, makeReady, sendToDlq, timeoutOf } from '../jobs/settle.js';
import { withdraw } from '../jobs/withdraw.js';
import type { EngineState } from '../state.js';
import { flagsOf, setFlags, tell } from '../state.js';

/** Timers handled in one go before the event loop gets a turn. */
const BATCH = 5000;

/** Handles what is due by now; what is left over after a batch is due at the alarm's next ring, at once. */
export function runTimers(state: EngineState): void {
  const now = state.clock.now();
  for (let count = 0; count < BATCH; count++) {
    const slot = state.core.wasm.timerPop(now) >>> 0;
    if (slot === 0) return;
    due(state, slot, now);
  }
}

function due(state: EngineState, slot: Slot, now: number): void {
  const { core } = state;
  switch (core.state(slot)) {
    case L.STATE_DELAYED:
      if (isExpired(state, slot, now)) expire(state, slot, 'delayed');
      else if (core.time(slot, L.S_DUE) <= now) makeReady(state, slot, false, 'delayed');
      else core.wasm.jobTimer(slot, core.time(slot, L.S_DUE));
      return;
    case L.STATE_BLOCKED:
      if (isExpired(state, slot, now)) expire(state, slot, 'blocked');
      return;
    case L.STATE_WAITING:
      // Taken out of the heap first; a claim that came earlier has begun a run, and so the ttl has ended.
      if (!isExpired(state, slot, now)) age(state, slot);
      else if (withdraw(state, slot)) expire(state, slot, 'waiting');
      return;
    case L.STATE_ACTIVE:
      overdue(state, slot, now);
      return;
    case L.STATE_REMEMBERED:
    case L.STATE_LINGERING:
      forget(state, slot);
      return;
    case L.STATE_COMPLETED:
    case L.STATE_FAILED:
    case L.STATE_CANCELLED:
      evict(state, slot);
  }
}

function isExpired(state: EngineState, slot: Slot, now: number): boolean {
  const expiry = state.core.time(slot, L.S_EXPIRY);
  return expiry !== 0 && expiry <= now && !isExpiryHeld(state, slot);
}

function expire(state: EngineState, slot: Slot, prev: string): void {
  leaveSuspects(state, slot);
  const ttl = state.payloads.opts(state.core.field(slot, L.S_PAYLOAD)).ttl;
  sendToDlq(state, slot, 'expired', `Not started within its ttl of ${ttl} ms`, prev);
}

/** A run's timeout, or the end of the grace that it was given. */
function overdue(state: EngineState, slot: Slot, now: number): void {
  const { core } = state;
  const owner = state.owners[core.wasm.jobOwner(slot)];
  if ((flagsOf(state, slot) & (TIMED_OUT | CANCELLING)) !== 0) {
    if (owner === undefined || !owner.terminate(slot)) endTerminated(state, slot);
    return;
  }
  const timeout = timeoutOf(state, slot);
  if (timeout === 0) return; // the ttl it had while it waited
  const end = core.time(slot, L.S_PROCESSED_ON) + timeout;
  if (end > now) {
    core.wasm.jobTimer(slot, end);
    return;
  }
  setFlags(state, slot, TIMED_OUT);
  core.wasm.jobTimer(slot, now + (owner?.graceMs(slot) ?? 0));
  owner?.abort(slot, 'timeout', `The run took longer than its timeout of ${timeout} ms`);
  tell(state, slot, 'timeout', () => ({ timeout }));
}
