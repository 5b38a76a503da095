/** How an engine's log is kept, as its options say. */
import type { LogStore } from './log-store.js';

/** The stores that come with the package. */
export type StoreName = 'lmdb' | 'sqlite';

export interface LogOptions {
  readonly dataDir: string | undefined;
  readonly store: StoreName | LogStore;
  readonly mode: 'commit' | 'relaxed';
  readonly onProgress: ((progress: { jobs: number; bytes: number }) => void) | undefined;
}
