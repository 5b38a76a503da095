/** Opens the log of a durable engine: takes the directory, reads what is there, and goes on from it. */
import { hostname } from 'node:os';
import { isMainThread } from 'node:worker_threads';
import type { StoreError } from '../../client/errors.js';
import { restoreKeys } from '../jobs/deduplication.js';
import { restoreSettings } from '../queue-control.js';
import type { EngineState } from '../state.js';
import { runTimers } from '../upkeep/timers.js';
import { openDataDir } from './directory.js';
import { BUFFER_BYTES } from './group-writer.js';
import { Journal } from './journal.js';
import { LocalHost, type LogHost } from './log-host.js';
import type { LogOptions } from './log-options.js';
import type { NamedStore } from './named-store.js';
import { Replay } from './replay.js';
import { decideRest, restoreStates } from './restore.js';
import { clearStarts, readStarts, StartNotes, startsFile } from './starts.js';
import { ThreadHost } from './thread-host.js';
import { watchCore } from './watch.js';

/** After an engine that was not closed: as long as this every start is noted before it. */
const SUSPECT_MS = 60_000;
const STORES = new URL('./named-store.js', import.meta.url).href;

export interface OpenedLog {
  readonly journal: Journal;
  /** Lets go of the directory. */
  readonly release: () => Promise<void>;
}

/**
 * @throws DataDirLockedError when another engine has the directory; StoreError when it can't be used, is damaged or of a newer version;
 *   EngineFullError when `maxMemory` is too small for what is in it.
 */
export async function openLog(
  state: EngineState,
  options: LogOptions,
  onFailed: (error: StoreError) => void,
): Promise<OpenedLog> {
  const directory = options.dataDir === undefined ? undefined : await openDataDir(options.dataDir);
  const release = async (): Promise<void> => directory?.release();
  let host: LogHost | undefined;
  try {
    host = await openHost(options, directory?.path);
    const journal = await read(state, host, options, directory?.path, onFailed);
    return { journal, release };
  } catch (error) {
    await host?.close(10_000).catch(() => {});
    await release();
    throw error;
  }
}

async function openHost({ store }: LogOptions, path: string | undefined): Promise<LogHost> {
  const node = `${hostname()}:${process.pid}`;
  if (typeof store !== 'string') return LocalHost.open(store, node, BUFFER_BYTES);
  // A thread of a user may be terminated at any moment, and the log's thread with it.
  const options: NamedStore = { name: store, dataDir: path as string, sync: isMainThread };
  return ThreadHost.open({ url: STORES, options }, node);
}

async function read(
  state: EngineState,
  host: LogHost,
  { mode, onProgress }: LogOptions,
  path: string | undefined,
  onFailed: (error: StoreError) => void,
): Promise<Journal> {
  const replay = new Replay(state);
  let bytes = 0;
  const position = await host.load((at, batch) => {
    replay.batch(at, batch);
    bytes += batch.length;
    onProgress?.({ jobs: replay.jobs, bytes });
  });
  replay.end();
  for (const queue of state.queues.all()) restoreSettings(state, queue);
  restoreKeys(state);
  const starts = path === undefined ? undefined : startsFile(path);
  const noted = starts === undefined || replay.wasClosed ? new Map<number, number>() : readStarts(starts);
  const unfinished = restoreStates(state, replay, noted);
  const { table, ledger, queues, seq } = replay;
  const journal = new Journal({
    state,
    host,
    mode,
    position,
    table,
    ledger,
    queues,
    seq,
    startsFile: starts,
    onFailed,
  });
  state.journal = journal;
  watchCore(state.core, journal);
  state.queues.setReportStarts(true); // a start is written down, too
  // Durable before anything runs: what ends this engine at once must be seen by the next one.
  journal.note((writer) => writer.opened(host.epoch));
  decideRest(state, unfinished);
  await journal.flush();
  // What became due meanwhile comes first, too: a job whose time is over must not be run.
  while (state.core.wasm.timerNext() <= state.clock.now()) runTimers(state);
  state.crons.open();
  await journal.flush();
  if (!replay.wasClosed) beCareful(state, journal);
  state.alarm.arm();
  return journal;
}

/** The engine before was ended, perhaps by a job: until the time is over, the next one is sure to know which. */
function beCareful(state: EngineState, journal: Journal): void {
  const { startsFile: file } = journal;
  journal.isCareful = true;
  state.clock.setTimer(() => endCare(state, journal), SUSPECT_MS);
  if (file === undefined) return; // a store of somebody's own: there is no place for notes
  clearStarts(file);
  journal.starts = new StartNotes(file);
  state.queues.setNoteStarts(true);
}

function endCare(state: EngineState, journal: Journal): void {
  journal.isCareful = false;
  state.queues.setNoteStarts(false);
  journal.starts?.close();
  journal.starts = undefined;
}
