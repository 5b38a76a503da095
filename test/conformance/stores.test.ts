/** The suite of `stores.ts` over each store. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { open } from 'lmdb';
import { describe, expect, test } from 'vitest';
import { encodeHead } from '#engine/store/head.js';
import { LmdbStore } from '#engine/store/lmdb-store.js';
import { MemoryStore } from '#engine/store/memory-store.js';
import { SqliteStore } from '#engine/store/sqlite-store.js';
import { FaultStore } from '../support/fault-store.js';
import { temporaryDir } from '../support/places.js';
import { reasonOf, type StoreHarness, stores } from './stores.js';

const require = createRequire(import.meta.url);
const hasSqlite = ((): boolean => {
  try {
    require('node:sqlite');
    return true;
  } catch {
    return false;
  }
})();

function newerHead(): Buffer {
  const record = encodeHead({ epoch: 1n, first: 1, node: 'of the future' });
  record.writeUInt32LE(99, 4);
  return record;
}

function lazyDir(): () => string {
  let path: string | undefined;
  return () => {
    path ??= temporaryDir();
    return path;
  };
}

function lmdb(sync: boolean): StoreHarness {
  return {
    ack: 'fsync',
    place: () => {
      const dir = lazyDir();
      return {
        store: () => new LmdbStore(dir(), { sync }),
        makeNewer: async (part) => {
          const db = open<Buffer, symbol>({
            path: join(dir(), `${part}.lmdb`),
            encoding: 'binary',
            overlappingSync: false,
            useVersions: true,
          });
          await db.put(Symbol.for('flashq.head'), newerHead(), 1);
          await db.close();
        },
      };
    },
  };
}

const sqlite: StoreHarness = {
  ack: 'fsync',
  place: () => {
    const dir = lazyDir();
    return {
      store: () => new SqliteStore(dir()),
      makeNewer: async (part) => {
        const db = new (require('node:sqlite').DatabaseSync)(join(dir(), `${part}.sqlite`));
        db.prepare('UPDATE head SET record = ?').run(newerHead());
        db.close();
      },
    };
  },
};

function inMemory(ack: 'memory' | 'fsync', Store: typeof MemoryStore | typeof FaultStore): StoreHarness {
  return {
    ack,
    oneLog: Store === FaultStore,
    place: () => {
      const store = new Store();
      return { store: () => store };
    },
  };
}

describe('memory', () => stores(inMemory('memory', MemoryStore)));
describe('lmdb, on a thread of its own', () => stores(lmdb(true)));
describe('lmdb, on a thread that may be terminated', () => stores(lmdb(false)));
describe.skipIf(!hasSqlite)('sqlite', () => stores(sqlite));
describe('the store that fails, not failing', () => stores(inMemory('fsync', FaultStore)));

test.skipIf(hasSqlite)('the sqlite store says so where Node.js brings none', async () => {
  expect(await reasonOf(new SqliteStore(temporaryDir()).open('log', 'a'))).toBe('unsupported');
});
