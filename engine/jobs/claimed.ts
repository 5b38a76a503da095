/** What a run needs of its job, as cheaply as it can be had; on whatever thread has claimed it. */
import type { JobSnapshot } from '../../client/connection.js';
import type { JobOptions } from '../../client/options.js';
import { type Core, L, type Slot } from '../core/index.js';
import type { Payloads } from '../core/payloads.js';

/** The id that users see: custom, or `j` and the job's number. */
export function jobId(core: Core, payloads: Payloads, slot: Slot): string {
  if ((core.field(slot, L.S_FLAGS) & L.FLAG_CUSTOM_ID) !== 0) return payloads.customId(core.field(slot, L.S_PAYLOAD));
  return `j${core.number(slot)}`;
}

export function claimedSnapshot(
  core: Core,
  payloads: Payloads,
  queue: string,
  slot: Slot,
  opts: JobOptions,
): JobSnapshot {
  const payload = core.field(slot, L.S_PAYLOAD);
  return {
    id: jobId(core, payloads, slot),
    queue,
    name: payloads.name(payload),
    data: payloads.data(payload),
    opts,
    state: 'active',
    progress: undefined,
    returnvalue: undefined,
    failedReason: undefined,
    stacktrace: [],
    attemptsMade: core.field(slot, L.S_ATTEMPTS),
    attemptsStarted: core.field(slot, L.S_STARTED) + 1,
    priority: core.priority(slot),
    delay: opts.delay ?? 0,
    timestamp: core.time(slot, L.S_TIMESTAMP),
    processedOn: core.time(slot, L.S_PROCESSED_ON),
    finishedOn: undefined,
  };
}
