/** The options of `Engine.open`. */
import {
  checkBoolean,
  checkInteger,
  checkObject,
  checkOneOf,
  checkOptionNames,
  type KnownNames,
  refuse,
} from '../client/checks.js';
import { ValidationError } from '../client/errors.js';
import { MEMORY_BYTES_MAX, MEMORY_BYTES_MIN } from './core/memory.js';
import type { LogOptions, StoreName } from './store/log-options.js';
import type { LogStore } from './store/log-store.js';
import { type Clock, SystemClock } from './upkeep/clock.js';

export interface EngineOptions {
  /** The folder in which the engine keeps its log; made when it isn't there. One engine at a time. Without it, everything lives in memory. */
  readonly dataDir?: string;
  /**
   * What survives a crash. `'commit'`, the default with a `dataDir`: everything that anybody was told. `'relaxed'`: everything but the
   * last 20 ms. `'memory'`, the default without: nothing.
   */
  readonly durability?: Durability;
  /** What keeps the log in the `dataDir`: LMDB, the default, or Node's own SQLite (Node 22.13 and later). Or a store of your own. */
  readonly store?: StoreName | LogStore;
  /** Told now and then while a log is read: jobs so far, and bytes. */
  readonly onProgress?: (progress: { readonly jobs: number; readonly bytes: number }) => void;
  /** How many worker threads all file Workers of this engine may have together. Default: no bound but the table's 254. */
  readonly threadsMax?: number;
  /** Bytes of shared memory for jobs, payloads and results, from 8 MiB to 4 GiB. Default 1 GiB. */
  readonly maxMemory?: number;
  /** Bytes that one job's data, or one result, may take encoded. Default 10 MB. */
  readonly payloadLimit?: number;
  /** Events kept in memory for readers that come back. Default 100,000. */
  readonly eventsKept?: number;
  /** Custom ids remembered after their jobs are gone. Default 1,000,000. */
  readonly idempotencyMax?: number;
  /** Closes the engine on SIGTERM and SIGINT, then lets the process end by that signal. Default false. */
  readonly handleSignals?: boolean;
  /** Where time comes from; `TestClock` for tests. */
  readonly clock?: Clock;
  /** Numbers from 0 to below 1, for jitter. Default Math.random. */
  readonly random?: () => number;
}

export type Durability = 'memory' | 'relaxed' | 'commit';

export interface ResolvedOptions {
  /** Undefined: in memory. */
  readonly log: LogOptions | undefined;
  readonly threadsMax: number;
  readonly maxMemory: number;
  readonly payloadLimit: number;
  readonly eventsKept: number;
  readonly idempotencyMax: number;
  readonly handleSignals: boolean;
  readonly clock: Clock;
  readonly random: () => number;
}

const NAMES: KnownNames = {
  known: [
    'dataDir',
    'durability',
    'store',
    'onProgress',
    'threadsMax',
    'maxMemory',
    'payloadLimit',
    'eventsKept',
    'idempotencyMax',
    'handleSignals',
    'clock',
    'random',
  ],
};

/** 254: the table of 256 threads less nobody and the engine's own. */
const THREADS_MOST = 254;

/** @throws ValidationError naming the option, its value and what is permitted. */
export function resolveEngineOptions(opts: EngineOptions = {}): ResolvedOptions {
  const given = checkObject(opts, 'Engine options');
  checkOptionNames(given, 'Engine options', NAMES);
  if (opts.clock !== undefined && typeof opts.clock?.now !== 'function')
    refuse('clock', 'have now() and setTimer(run, ms)', opts.clock);
  if (opts.random !== undefined && typeof opts.random !== 'function') refuse('random', 'be a function', opts.random);
  return {
    log: logOptions(opts),
    threadsMax: integer(opts.threadsMax, 'threadsMax', 1, THREADS_MOST, THREADS_MOST),
    maxMemory: integer(opts.maxMemory, 'maxMemory', MEMORY_BYTES_MIN, 2 ** 32, 2 ** 30),
    payloadLimit: integer(opts.payloadLimit, 'payloadLimit', 1024, MEMORY_BYTES_MAX, 10_000_000),
    eventsKept: integer(opts.eventsKept, 'eventsKept', 1, 10_000_000, 100_000),
    idempotencyMax: integer(opts.idempotencyMax, 'idempotencyMax', 0, 2 ** 31, 1_000_000),
    handleSignals: opts.handleSignals === undefined ? false : checkBoolean(opts.handleSignals, 'handleSignals'),
    clock: opts.clock ?? new SystemClock(),
    random: opts.random ?? Math.random,
  };
}

function logOptions(opts: EngineOptions): LogOptions | undefined {
  const { dataDir, store, onProgress } = opts;
  if (dataDir !== undefined && (typeof dataDir !== 'string' || dataDir === '')) refuse('dataDir', 'be a path', dataDir);
  if (onProgress !== undefined && typeof onProgress !== 'function') refuse('onProgress', 'be a function', onProgress);
  const own = typeof store === 'object' && store !== null && typeof store.open === 'function' ? store : undefined;
  if (store !== undefined && own === undefined) checkOneOf(store, 'store', ['lmdb', 'sqlite']);
  const isKept = dataDir !== undefined || own !== undefined;
  const durability = opts.durability ?? (isKept ? 'commit' : 'memory');
  checkOneOf(durability, 'durability', ['memory', 'relaxed', 'commit']);
  if (durability === 'memory') {
    if (!isKept) return undefined;
    throw new ValidationError(
      `durability 'memory' keeps nothing: leave the dataDir out, or take 'relaxed' or 'commit'.`,
      {
        path: 'durability',
      },
    );
  }
  if (!isKept) {
    throw new ValidationError(
      `durability '${durability}' needs a dataDir: the folder in which the engine keeps its log.`,
      {
        path: 'durability',
      },
    );
  }
  return { dataDir, store: own ?? (store as StoreName | undefined) ?? 'lmdb', mode: durability, onProgress };
}

function integer(value: unknown, path: string, least: number, most: number, standard: number): number {
  return value === undefined ? standard : checkInteger(value, path, least, most);
}
