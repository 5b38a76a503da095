/** Reads a log that no engine may open, or should: whatever of it can be read, and why the rest can't. Nothing of it is changed. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../../client/errors.js';
import { asStoreError } from './faults.js';
import { decodeHead } from './head.js';
import { prepareLmdbFile } from './lmdb-file.js';
import { HEAD, openDatabase } from './lmdb-store.js';
import { LOG_PART } from './log-host.js';
import type { StoreName } from './log-options.js';
import { loadSqlite } from './sqlite-store.js';

export interface LogReader {
  readonly store: StoreName;
  readonly path: string;
  /** Bytes of its file. */
  readonly fileBytes: number;
  /** What is wrong beside the batches. */
  readonly faults: readonly string[];
  /** Where the oldest batch should be; undefined when nobody can say. */
  readonly first: number | undefined;
  /** Of the batches that are there, in order. */
  readonly positions: readonly number[];
  /** @throws StoreError when it can't be read. */
  read(position: number): Uint8Array | undefined;
  close(): Promise<void>;
}

/** @throws StoreError when there is none. */
export function findLog(dataDir: string): { store: StoreName; path: string } {
  for (const store of ['lmdb', 'sqlite'] as const) {
    const path = join(dataDir, `${LOG_PART}.${store}`);
    if (existsSync(path)) return { store, path };
  }
  throw new StoreError(`There is no log in ${dataDir}. Is it the dataDir that the engine was opened with?`, {
    reason: 'io',
  });
}

/** @throws StoreError when there is no log, or none that its store can open. */
export async function openReader(dataDir: string): Promise<LogReader> {
  const { store, path } = findLog(dataDir);
  try {
    return await (store === 'lmdb' ? openLmdb(path) : openSqlite(path));
  } catch (error) {
    throw asStoreError(path, 'opening it', error);
  }
}

/** Gives what `read` gives; what it throws becomes one of the faults. */
function tried<T>(faults: string[], otherwise: T, read: () => T): T {
  try {
    return read();
  } catch (error) {
    faults.push(error instanceof Error ? error.message : String(error));
    return otherwise;
  }
}

async function openLmdb(path: string): Promise<LogReader> {
  await prepareLmdbFile(path);
  const db = await openDatabase(path, { readOnly: true });
  const faults: string[] = [];
  const positions: number[] = [];
  const first = tried(faults, undefined, () => {
    const head = db.getBinary(HEAD);
    if (head === undefined) throw new Error('its head record is missing');
    return decodeHead(head, path).first;
  });
  tried(faults, undefined, () => {
    for (const key of db.getKeys({ start: 0 })) if (typeof key === 'number') positions.push(key);
  });
  return {
    store: 'lmdb',
    path,
    fileBytes: statSync(path).size,
    faults,
    first,
    positions,
    read: (position) => {
      try {
        const bytes = db.getBinary(position);
        return bytes === undefined ? undefined : Uint8Array.from(bytes);
      } catch (error) {
        throw asStoreError(path, `reading batch ${position}`, error);
      }
    },
    close: () => db.close(),
  };
}

async function openSqlite(path: string): Promise<LogReader> {
  const { DatabaseSync } = loadSqlite();
  const db = new DatabaseSync(path, { readOnly: true });
  const faults: string[] = [];
  const positions: number[] = [];
  const first = tried(faults, undefined, () => {
    const head = db.prepare('SELECT record FROM head').get();
    if (head === undefined) throw new Error('its head record is missing');
    return decodeHead(head.record as Uint8Array, path).first;
  });
  const next = db.prepare('SELECT position FROM batches WHERE position > ? ORDER BY position LIMIT 1');
  tried(faults, undefined, () => {
    for (let row = next.get(0); row !== undefined; row = next.get(positions.at(-1)))
      positions.push(Number(row.position));
  });
  const one = db.prepare('SELECT batch FROM batches WHERE position = ?');
  return {
    store: 'sqlite',
    path,
    fileBytes: statSync(path).size,
    faults,
    first,
    positions,
    read: (position) => {
      try {
        return one.get(position)?.batch as Uint8Array | undefined;
      } catch (error) {
        throw asStoreError(path, `reading batch ${position}`, error);
      }
    },
    close: async () => db.close(),
  };
}
