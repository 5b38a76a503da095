/** What a run needs of its job, as cheaply as it can be had; on whatever thread has claimed it. */
import type { ClaimedJob, CronTick } from '../../client/connection.js';
import type { JobOptions } from '../../client/options.js';
import { type Core, L, type Slot } from '../core/index.js';
import type { Payloads } from '../core/payloads.js';

/** The id that users see: custom, or `j` and the job's number. */
export function jobId(core: Core, payloads: Payloads, slot: Slot): string {
  const id = idOrNumber(core, payloads, slot);
  return typeof id === 'number' ? `j${id}` : id;
}

function idOrNumber(core: Core, payloads: Payloads, slot: Slot): string | number {
  if ((core.field(slot, L.S_FLAGS) & L.FLAG_CUSTOM_ID) === 0) return core.number(slot);
  return payloads.customId(core.field(slot, L.S_PAYLOAD));
}

/** What users gave, and what the engine has put beside it. */
export function splitOptions(options: JobOptions): { opts: JobOptions; cron: CronTick | undefined } {
  if (options.cron === undefined) return { opts: options, cron: undefined };
  const { cron, ...opts } = options;
  return { opts, cron };
}

export function claimedJob(
  core: Core,
  payloads: Payloads,
  queue: string,
  slot: Slot,
  opts: JobOptions,
  ticket: number,
): ClaimedJob {
  const payload = core.field(slot, L.S_PAYLOAD);
  const made: ClaimedJob = {
    ticket,
    timeoutMs: opts.timeout ?? 0,
    queue,
    id: idOrNumber(core, payloads, slot),
    name: payloads.name(payload),
    data: payloads.data(payload),
    opts,
    timestamp: core.time(slot, L.S_TIMESTAMP),
    attemptsMade: core.field(slot, L.S_ATTEMPTS),
    attemptsStarted: core.field(slot, L.S_STARTED) + 1,
    priority: core.priority(slot) - core.aged(slot),
    processedOn: core.time(slot, L.S_PROCESSED_ON),
  };
  return opts.cron === undefined ? made : { ...made, ...splitOptions(opts) };
}
