/** What changes a whole queue and must wait until no claim that began before is still going on. */
import type { BatchSettings, QueueConfig } from '../client/connection.js';
import { EngineFullError, ValidationError } from '../client/errors.js';
import { L } from './core/index.js';
import { agingConfigured } from './jobs/aging.js';
import { setPaused } from './jobs/control.js';
import { applyDlqLimits, forgetIdsBeyond } from './jobs/endings.js';
import { groupsConfigured } from './jobs/groups.js';
import type { QueueEntry } from './queues.js';
import { announce, type EngineState, tellQueue } from './state.js';

/** Resolves when every claim that had begun is over. A claim takes microseconds, so this polls turns of the event loop. */
export async function claimersGone(state: EngineState): Promise<void> {
  const epoch = state.core.wasm.epochAdvance() >>> 0;
  while (state.core.wasm.epochPassed(epoch) === 0) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** Resolves when no job of the queue will be claimed any more. */
export async function pauseQueue(state: EngineState, queue: QueueEntry): Promise<void> {
  setPaused(state, queue, true);
  await claimersGone(state);
}

/** Keeps claims out while `change` runs, without anybody being told of a pause. */
async function withoutClaims(state: EngineState, queue: QueueEntry, change: () => void): Promise<void> {
  const { wasm } = state.core;
  queue.changes++;
  wasm.queueFlags(queue.address, L.QUEUE_PAUSED, 0);
  await claimersGone(state);
  try {
    change();
  } finally {
    queue.changes--;
    // Another change that has begun meanwhile must keep them out as well.
    if (!queue.paused && queue.changes === 0) wasm.queueFlags(queue.address, 0, L.QUEUE_PAUSED);
    announce(state, queue, L.THREADS_MAX);
  }
}

/** Sets what is given, takes away what is `null`, leaves the rest. Holds for every claim once this resolves. */
export async function configureQueue(state: EngineState, queue: QueueEntry, config: QueueConfig): Promise<void> {
  const { rateLimit, concurrency, groups, aging } = config;
  if ([rateLimit, concurrency, groups, aging].some((setting) => setting !== undefined)) {
    await withoutClaims(state, queue, () => {
      if (config.rateLimit !== undefined) setRate(state, queue, config.rateLimit);
      if (config.concurrency !== undefined) setConcurrency(state, queue, config.concurrency);
      if (config.groups !== undefined) setGroups(state, queue, config.groups);
      if (config.aging !== undefined) setAging(state, queue, config.aging);
    });
  }
  setKept(state, queue, config);
  state.journal?.queueChanged(queue);
  tellQueue(state, queue.name, 'configured', { config: { ...queue.config } });
}

/** Settings of which nothing stands in shared memory. They hold for what is there, too. */
function setKept(state: EngineState, queue: QueueEntry, config: QueueConfig): void {
  const { dlq, idempotencyTtl, idempotencyMax, maxDeliveries } = config;
  const next: Record<string, unknown> = { ...queue.config };
  for (const [name, value] of Object.entries({ dlq, idempotencyTtl, idempotencyMax, maxDeliveries })) {
    if (value === null) delete next[name];
    else if (value !== undefined) next[name] = value;
  }
  queue.config = next as QueueConfig;
  if (dlq !== undefined) applyDlqLimits(state, queue);
  if (idempotencyMax !== undefined) forgetIdsBeyond(state, queue);
}

/** Of a queue that was read from the log, before anything can be claimed. */
export function restoreSettings(state: EngineState, queue: QueueEntry): void {
  const { rateLimit, concurrency, aging } = queue.config;
  if (aging !== undefined && aging !== null) state.queues.hasAging = true;
  if (queue.paused) state.core.wasm.queueFlags(queue.address, L.QUEUE_PAUSED, 0);
  if (rateLimit !== undefined) setRate(state, queue, rateLimit);
  if (concurrency !== undefined) setConcurrency(state, queue, concurrency);
}

function setRate(state: EngineState, queue: QueueEntry, limit: { max: number; duration: number } | null): void {
  const { max, duration } = limit ?? { max: 0, duration: 0 };
  if (max > L.LIMIT_CELLS_MAX) {
    throw new ValidationError(
      `rateLimit.max must be at most ${L.LIMIT_CELLS_MAX}, but is ${max}. Use a shorter duration.`,
      {
        path: 'rateLimit.max',
      },
    );
  }
  if (state.core.wasm.rateConfigure(queue.address, max, duration) === 0)
    throw new EngineFullError({ limitBytes: state.limits.memoryBytes });
  const { rateLimit: _old, ...rest } = queue.config;
  queue.config = limit === null ? rest : { ...rest, rateLimit: limit };
}

/** Nobody claims for `ms` from now on, or as long as it is held already if that is longer. It is not kept. */
export function holdQueue(state: EngineState, queue: QueueEntry, ms: number): void {
  const { clock, core } = state;
  const until = clock.now() + ms;
  if (until <= queue.heldUntil) return;
  queue.heldUntil = until;
  queue.cancelHold?.();
  core.wasm.queueFlags(queue.address, L.QUEUE_HELD, 0);
  queue.cancelHold = clock.setTimer(() => {
    queue.heldUntil = 0;
    queue.cancelHold = undefined;
    core.wasm.queueFlags(queue.address, 0, L.QUEUE_HELD);
    announce(state, queue, L.THREADS_MAX);
  }, ms);
}

/** Somebody claims this queue's jobs in batches. */
export async function openBatches(
  state: EngineState,
  queue: QueueEntry,
  batcher: object,
  settings: BatchSettings,
): Promise<void> {
  queue.batchers.set(batcher, settings);
  setWindow(queue);
  if (queue.batchers.size === 1) await withoutClaims(state, queue, () => countReady(state, queue));
}

export function closeBatches(state: EngineState, queue: QueueEntry, batcher: object): void {
  if (!queue.batchers.delete(batcher)) return;
  setWindow(queue);
  if (queue.batchers.size === 0) state.core.wasm.queueFlags(queue.address, 0, L.QUEUE_COUNTED);
}

/** A batch of one group needs them one behind the other. Those that stand in the heap already keep their turns. */
function setWindow(queue: QueueEntry): void {
  queue.groupWindow = 1;
  for (const { size, groupAffinity } of queue.batchers.values())
    if (groupAffinity) queue.groupWindow = Math.max(queue.groupWindow, size);
}

function countReady({ core }: EngineState, queue: QueueEntry): void {
  let ready = 0;
  for (let slot = core.listHead(queue.address, L.STATE_WAITING); slot !== 0; slot = core.field(slot, L.S_NEXT)) {
    const isHeld = (core.field(slot, L.S_FLAGS) & L.FLAG_UNREACHED) !== 0;
    if (core.state(slot) === L.STATE_WAITING && !isHeld && core.field(slot, L.S_HEAP) === 0) ready++;
  }
  core.wasm.queueCount(queue.address, 1, ready);
}

/** A thread has died that may have claimed a job and not counted it. */
export async function recount(state: EngineState, queue: QueueEntry): Promise<void> {
  await withoutClaims(state, queue, () => {
    if (queue.batchers.size !== 0) countReady(state, queue);
  });
}

function setGroups(state: EngineState, queue: QueueEntry, groups: QueueConfig['groups'] | null): void {
  const { groups: _old, ...rest } = queue.config;
  queue.config = groups === null || groups === undefined ? rest : { ...rest, groups };
  groupsConfigured(state, queue);
}

function setAging(state: EngineState, queue: QueueEntry, aging: QueueConfig['aging'] | null): void {
  const { aging: _old, ...rest } = queue.config;
  queue.config = aging === null || aging === undefined ? rest : { ...rest, aging };
  if (aging !== null) state.queues.hasAging = true;
  agingConfigured(state, queue);
}

function setConcurrency(state: EngineState, queue: QueueEntry, limit: number | null): void {
  if (limit !== null && limit > L.LIMIT_CELLS_MAX) {
    throw new ValidationError(`concurrency must be at most ${L.LIMIT_CELLS_MAX}, but is ${limit}.`, {
      path: 'concurrency',
    });
  }
  const { concurrency: _old, ...rest } = queue.config;
  queue.config = limit === null ? rest : { ...rest, concurrency: limit };
  queue.permitFreed = () => permitFreed(state, queue);
  applyConcurrency(state, queue);
}

/**
 * The limit in force: while runs of an earlier, higher limit go on, so much lower that no more than the new one ever run. Runs that began
 * when there was no limit hold no cell and are not counted.
 */
function applyConcurrency(state: EngineState, queue: QueueEntry): void {
  const { wasm } = state.core;
  const limit = queue.config.concurrency ?? undefined;
  const inForce = limit === undefined ? L.NO_LIMIT : Math.max(0, limit - wasm.permitsAbove(queue.address, limit));
  if (wasm.permitsConfigure(queue.address, inForce) === 0)
    throw new EngineFullError({ limitBytes: state.limits.memoryBytes });
}

function permitFreed(state: EngineState, queue: QueueEntry): void {
  const limit = queue.config.concurrency;
  const at = (queue.address + L.Q_PERMIT_LIMIT) >>> 2;
  if (limit !== undefined && limit !== null && (state.core.u32[at] as number) < limit) applyConcurrency(state, queue);
  announce(state, queue, 1);
}
