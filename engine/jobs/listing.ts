/** The jobs of a queue, by state. */
import type { JobSnapshot, JobState } from '../../client/connection.js';
import { L } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import type { EngineState } from '../state.js';
import { snapshot, visibleState } from './records.js';

/** Waiting and active jobs share a list. */
const LISTS: readonly { readonly list: number; readonly states: readonly JobState[] }[] = [
  { list: L.STATE_WAITING, states: ['active', 'waiting'] },
  { list: L.STATE_DELAYED, states: ['delayed'] },
  { list: L.STATE_BLOCKED, states: ['blocked'] },
  { list: L.STATE_COMPLETED, states: ['completed'] },
  { list: L.STATE_FAILED, states: ['failed'] },
  { list: L.STATE_CANCELLED, states: ['cancelled'] },
];

/** List by list; within one in the order in which they came to that state. */
export function listJobs(
  state: EngineState,
  queue: QueueEntry,
  states: readonly JobState[],
  offset: number,
  count: number,
): JobSnapshot[] {
  const { core } = state;
  const found: JobSnapshot[] = [];
  let at = 0;
  for (const { list, states: listed } of LISTS) {
    if (!listed.some((one) => states.includes(one))) continue;
    for (let slot = core.listHead(queue.address, list); slot !== 0; slot = core.field(slot, L.S_NEXT)) {
      if (!states.includes(visibleState(state, slot) as JobState)) continue;
      if (at++ < offset) continue;
      if (found.length === count) return found;
      found.push(snapshot(state, slot));
    }
  }
  return found;
}
