/**
 * The log in SQLite, as Node brings it along (22.13 and later): slower than LMDB, but another program altogether, should LMDB not fit a
 * place. Its appends block the thread until they are on the disk: for a thread of its own.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { StoreError } from '../../client/errors.js';
import { makeDirectory, syncDirectory } from './directory.js';
import { asStoreError } from './faults.js';
import { damaged, decodeHead, encodeHead, FIRST_POSITION, fenced, type Head } from './head.js';
import type { LogSession, LogStore } from './log-store.js';
import { type LogMedium, Session } from './session.js';

/** What is used of node:sqlite, of which the types of Node 20 know nothing. */
interface Statement {
  get(...values: unknown[]): Record<string, unknown> | undefined;
  run(...values: unknown[]): { readonly changes: number | bigint };
}
interface Database {
  exec(sql: string): void;
  prepare(sql: string): Statement;
  close(): void;
}
interface Sqlite {
  readonly DatabaseSync: new (path: string, opts?: { readonly readOnly?: boolean }) => Database;
}

const BATCH_BYTES_MAX = 64 << 20;
/** Rows that one transaction of a truncation deletes. */
const FORGET_ROWS = 256;

/** In WAL mode with FULL a commit is synced before it is told. Another opener's transaction is short: it is waited for. */
const SETUP = `
  PRAGMA busy_timeout = 5000;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS head (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, record BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS batches (position INTEGER PRIMARY KEY, batch BLOB);
`;

export class SqliteStore implements LogStore {
  readonly caps = { ack: 'fsync', shared: false, batchBytesMax: BATCH_BYTES_MAX } as const;
  readonly #dataDir: string;

  /** The log `part` will be the file `part.sqlite` in that directory. */
  constructor(dataDir: string) {
    this.#dataDir = dataDir;
  }

  async open(part: string, node: string): Promise<LogSession> {
    const { DatabaseSync } = loadSqlite();
    const path = join(this.#dataDir, `${part}.sqlite`);
    let db: Database | undefined;
    try {
      await makeDirectory(this.#dataDir);
      db = new DatabaseSync(path);
      db.exec(SETUP);
      const head = inTransaction(db, () => claim(db!, path, node));
      await syncDirectory(this.#dataDir);
      return new Session(new SqliteLog(db, path, head), BATCH_BYTES_MAX);
    } catch (error) {
      db?.close();
      throw asStoreError(path, 'opening it', error);
    }
  }
}

export function loadSqlite(): Sqlite {
  try {
    return createRequire(import.meta.url)('node:sqlite') as Sqlite;
  } catch (cause) {
    throw new StoreError(
      `The SQLite store needs Node.js 22.13 or later; this is ${process.version}. Use the LMDB store.`,
      {
        reason: 'unsupported',
        cause,
      },
    );
  }
}

function inTransaction<T>(db: Database, body: () => T): T {
  db.exec('BEGIN IMMEDIATE');
  try {
    const result = body();
    db.exec('COMMIT');
    return result;
  } catch (error) {
    try {
      db.exec('ROLLBACK');
    } catch {
      // SQLite has rolled back by itself, as it does when the disk is full.
    }
    throw error;
  }
}

function claim(db: Database, path: string, node: string): Head {
  const row = db.prepare('SELECT record FROM head').get();
  if (row === undefined && db.prepare('SELECT 1 FROM batches LIMIT 1').get() !== undefined) {
    throw damaged(path, 'its head record is missing');
  }
  const last = row === undefined ? { epoch: 0n, first: FIRST_POSITION } : decodeHead(row.record as Uint8Array, path);
  const head: Head = { ...last, epoch: last.epoch + 1n, node };
  db.prepare('INSERT OR REPLACE INTO head VALUES (1, ?, ?)').run(head.epoch, encodeHead(head));
  return head;
}

class SqliteLog implements LogMedium {
  readonly where: string;
  readonly epoch: bigint;
  readonly next: number;
  readonly #db: Database;
  readonly #read: Statement;
  readonly #append: Statement;
  #head: Head;

  constructor(db: Database, path: string, head: Head) {
    this.#db = db;
    this.where = path;
    this.epoch = head.epoch;
    this.#head = head;
    this.#read = db.prepare('SELECT batch FROM batches WHERE position = ?');
    // The fence is a part of the statement, and so of its transaction.
    this.#append = db.prepare('INSERT INTO batches SELECT ?, ? WHERE (SELECT epoch FROM head) = ?');
    this.next = this.#findEnd();
  }

  get first(): number {
    return this.#head.first;
  }

  read(position: number): Uint8Array | undefined {
    try {
      const row = this.#read.get(position) as { batch: Uint8Array | null } | undefined;
      return row && (row.batch ?? new Uint8Array(0)); // Node 22 binds an empty array as NULL
    } catch (error) {
      throw asStoreError(this.where, `reading batch ${position}`, error);
    }
  }

  async append(position: number, batch: Uint8Array): Promise<void> {
    const bytes = batch.buffer instanceof ArrayBuffer ? batch : Buffer.from(batch);
    let kept: number | bigint;
    try {
      kept = this.#append.run(position, bytes, this.epoch).changes;
    } catch (error) {
      throw asStoreError(this.where, 'appending', error);
    }
    if (Number(kept) === 0) throw this.#taken();
  }

  async forget(before: number): Promise<number> {
    const head: Head = { ...this.#head, first: Math.min(before, this.first + FORGET_ROWS) };
    try {
      inTransaction(this.#db, () => {
        const mine = this.#db.prepare('UPDATE head SET record = ? WHERE epoch = ?').run(encodeHead(head), this.epoch);
        if (Number(mine.changes) === 0) throw this.#taken();
        this.#db.prepare('DELETE FROM batches WHERE position < ?').run(head.first);
      });
    } catch (error) {
      throw asStoreError(this.where, 'truncating', error);
    }
    this.#head = head;
    return head.first;
  }

  async close(): Promise<void> {
    try {
      this.#db.close();
    } catch (error) {
      throw asStoreError(this.where, 'closing it', error);
    }
  }

  #findEnd(): number {
    const { first } = this.#head;
    const all = 'SELECT min(position) AS lowest, max(position) AS highest, count(*) AS count FROM batches';
    const { lowest, highest, count } = this.#db.prepare(all).get() as Record<string, number | null>;
    const next = highest === null ? first : highest! + 1;
    if ((lowest ?? first) !== first || count !== next - first) {
      throw damaged(this.where, `it has ${count} batches between the positions ${first} and ${next}`);
    }
    return next;
  }

  #taken(): StoreError {
    const row = this.#db.prepare('SELECT record FROM head').get();
    return fenced(this.where, row === undefined ? '' : decodeHead(row.record as Uint8Array, this.where).node);
  }
}
