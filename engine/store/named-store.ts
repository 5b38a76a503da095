/** The stores that an engine can name: the module that the log's thread loads. */
import type { StoreName } from './log-options.js';
import type { LogStore } from './log-store.js';

export interface NamedStore {
  readonly name: StoreName;
  readonly dataDir: string;
  /** The thread is never terminated: it may block in the middle of a commit. */
  readonly sync: boolean;
}

export async function openStore({ name, dataDir, sync }: NamedStore): Promise<LogStore> {
  // Each is loaded only where it is used: the one has a native part, the other needs a newer Node.
  if (name === 'lmdb') {
    const { LmdbStore } = await import('./lmdb-store.js');
    return new LmdbStore(dataDir, { sync });
  }
  const { SqliteStore } = await import('./sqlite-store.js');
  return new SqliteStore(dataDir);
}
