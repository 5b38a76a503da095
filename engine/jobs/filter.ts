/** Whether a job is one of those that somebody asked for. */
import type { CheckedFilter } from '../../client/job-filter.js';
import { L, type Slot } from '../core/index.js';
import { type EngineState, flagsOf } from '../state.js';
import { reasonOf } from './flags.js';

/** What is cheap to look at comes first: most jobs are out before their options are read. */
export function matches(state: EngineState, slot: Slot, filter: CheckedFilter): boolean {
  const { core, payloads } = state;
  const isFailed = core.state(slot) === L.STATE_FAILED;
  const { name, reason, tag, since, until } = filter;
  if (reason !== undefined && (!isFailed || reasonOf(flagsOf(state, slot)) !== reason)) return false;
  const at = core.time(slot, isFailed ? L.S_FINISHED_ON : L.S_TIMESTAMP);
  if ((since !== undefined && at < since) || (until !== undefined && at >= until)) return false;
  const payload = core.field(slot, L.S_PAYLOAD);
  if (name !== undefined && payloads.name(payload) !== name) return false;
  return tag === undefined || payloads.opts(payload).tags?.includes(tag) === true;
}
