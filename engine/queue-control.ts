/** What changes a whole queue and must wait until no claim that began before is still going on. */
import type { QueueConfig } from '../client/connection.js';
import { EngineFullError, ValidationError } from '../client/errors.js';
import { L } from './core/index.js';
import { setPaused } from './jobs/control.js';
import { applyDlqLimits, forgetIdsBeyond } from './jobs/endings.js';
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
  wasm.queueFlags(queue.address, L.QUEUE_PAUSED, 0);
  await claimersGone(state);
  try {
    change();
  } finally {
    if (!queue.paused) wasm.queueFlags(queue.address, 0, L.QUEUE_PAUSED);
    announce(state, queue, L.THREADS_MAX);
  }
}

/** Sets what is given, takes away what is `null`, leaves the rest. Holds for every claim once this resolves. */
export async function configureQueue(state: EngineState, queue: QueueEntry, config: QueueConfig): Promise<void> {
  if (config.rateLimit !== undefined || config.concurrency !== undefined) {
    await withoutClaims(state, queue, () => {
      if (config.rateLimit !== undefined) setRate(state, queue, config.rateLimit);
      if (config.concurrency !== undefined) setConcurrency(state, queue, config.concurrency);
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
  const { rateLimit, concurrency } = queue.config;
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
