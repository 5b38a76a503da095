/**
 * The log in LMDB: one file, one database, one value a batch, its position the key. Why LMDB, and what it does badly:
 * docs/decisions/0007-stores.md.
 *
 * **Two ways to commit.** On a thread of its own (`sync: true`) an append is a synchronous transaction: the shortest way to the disk.
 * A thread that may be terminated (a user's own worker) must not be inside one when that happens, for that aborts the whole process:
 * there (`sync: false`) LMDB's own thread writes (what danger is left, the decision says). What gathers while one such transaction is
 * under way goes into the next one, all of it or nothing; two transactions never are under way at once, since the second could be
 * kept when the first was not.
 *
 * **The fence.** The version of the head record is the owner's epoch. Each transaction compares it before it writes; the asynchronous
 * one leaves the comparison to LMDB's thread (`ifVersion`), which never has to wait for this one while it holds the write lock.
 */
import { join } from 'node:path';
import type { RootDatabase } from 'lmdb';
import { StoreError } from '../../client/errors.js';
import { makeDirectory, syncDirectory } from './directory.js';
import { asStoreError } from './faults.js';
import { damaged, decodeHead, encodeHead, FIRST_POSITION, fenced, type Head } from './head.js';
import { prepareLmdbFile } from './lmdb-file.js';
import type { LogSession, LogStore } from './log-store.js';
import { type LogMedium, Session } from './session.js';

export interface LmdbStoreOptions {
  /** True on a thread that is never terminated, and has nothing else to do: appends block it until they are on the disk. */
  readonly sync: boolean;
}

/** Symbols sort before numbers: batches are always added at the end of the tree, where pages fill up completely. */
export const HEAD = Symbol.for('flashq.head');
/** Keys that one transaction of a truncation deletes: 0.3 ms beside its sync. */
const FORGET_KEYS = 256;
/** Bytes of the batches that one asynchronous transaction takes. lmdb-js begins one of 4 MB before all of it is handed over. */
const GROUP_BYTES = 1 << 20;
/** The owner, a doctor beside it, and their threads. */
const READERS_MAX = 16;
const BATCH_BYTES_MAX = 64 << 20;

/** Jobs may hold anything: a directory that others may read shows them none. The types of lmdb-js don't know this option. */
const PRIVATE = { permissionsMode: 0o600 };

export type Database = RootDatabase<Buffer, number | symbol>;

export class LmdbStore implements LogStore {
  readonly caps = { ack: 'fsync', shared: false, batchBytesMax: BATCH_BYTES_MAX } as const;
  readonly #dataDir: string;
  readonly #sync: boolean;

  /** The log `part` will be the file `part.lmdb` in that directory. */
  constructor(dataDir: string, { sync }: LmdbStoreOptions) {
    this.#dataDir = dataDir;
    this.#sync = sync;
  }

  async open(part: string, node: string): Promise<LogSession> {
    const path = join(this.#dataDir, `${part}.lmdb`);
    let db: Database | undefined;
    try {
      await makeDirectory(this.#dataDir);
      await prepareLmdbFile(path);
      db = await openDatabase(path);
      const head = await claim(db, path, node);
      await syncDirectory(this.#dataDir);
      return new Session(new LmdbLog(db, path, head, this.#sync), BATCH_BYTES_MAX);
    } catch (error) {
      await db?.close().catch(() => {});
      throw asStoreError(path, 'opening it', error);
    }
  }
}

export async function openDatabase(path: string, opts: { readonly readOnly?: true } = {}): Promise<Database> {
  const { open } = await loadLmdb();
  return open<Buffer, number | symbol>({
    ...PRIVATE,
    ...opts,
    path,
    noSubdir: true,
    encoding: 'binary',
    overlappingSync: false, // with it, a commit is told before it is on the disk
    useVersions: true,
    maxReaders: READERS_MAX,
    maxDbs: 1,
    // Without a turn's batch around them, writes go to LMDB's thread in the order and groups made here, and none fails unheard.
    eventTurnBatching: false,
  });
}

/** Loaded when the first log is opened: an engine without one needs no native code. */
async function loadLmdb(): Promise<typeof import('lmdb')> {
  try {
    return await import('lmdb');
  } catch (cause) {
    throw new StoreError(
      `The package lmdb could not be loaded on ${process.platform} ${process.arch}: ${String(cause)}. Install it with its optional packages.`,
      { reason: 'unsupported', cause },
    );
  }
}

/** A new epoch, as one conditional write: of two owners that come at once, the later one gets the greater. */
async function claim(db: Database, path: string, node: string): Promise<Head> {
  for (;;) {
    const entry = db.getEntry(HEAD);
    if (entry === undefined) {
      if (entriesOf(db) !== 0) throw damaged(path, 'its head record is missing');
      const head: Head = { epoch: 1n, first: FIRST_POSITION, node };
      if (await db.ifNoExists(HEAD, () => void db.put(HEAD, encodeHead(head), 1))) return head;
    } else {
      const last = decodeHead(entry.value, path);
      const head: Head = { ...last, epoch: last.epoch + 1n, node };
      const mine = () => void db.put(HEAD, encodeHead(head), Number(head.epoch));
      if (await db.ifVersion(HEAD, entry.version!, mine)) return head;
    }
  }
}

function entriesOf(db: Database): number {
  return (db.getStats() as { entryCount: number }).entryCount;
}

interface Waiting {
  readonly position: number;
  readonly batch: Uint8Array;
  resolve(): void;
  reject(error: unknown): void;
}

class LmdbLog implements LogMedium {
  readonly where: string;
  readonly epoch: bigint;
  readonly next: number;
  readonly #db: Database;
  readonly #sync: boolean;
  readonly #version: number;
  #head: Head;
  #waiting: Waiting[] = [];
  #writing = false;

  constructor(db: Database, path: string, head: Head, sync: boolean) {
    this.#db = db;
    this.where = path;
    this.epoch = head.epoch;
    this.#version = Number(head.epoch);
    this.#head = head;
    this.#sync = sync;
    this.next = this.#findEnd();
  }

  get first(): number {
    return this.#head.first;
  }

  read(position: number): Uint8Array | undefined {
    try {
      return this.#db.getBinary(position);
    } catch (error) {
      throw asStoreError(this.where, `reading batch ${position}`, error);
    }
  }

  async append(position: number, batch: Uint8Array): Promise<void> {
    if (this.#sync) {
      const bytes = batch.buffer instanceof ArrayBuffer ? batch : Buffer.from(batch); // lmdb-js crashes on shared memory
      return this.#commitSync('appending', () => void this.#db.put(position, bytes as Buffer, this.#version));
    }
    const bytes = Buffer.from(batch); // LMDB's thread reads it later
    return new Promise((resolve, reject) => {
      this.#waiting.push({ position, batch: bytes, resolve, reject });
      if (!this.#writing) void this.#write();
    });
  }

  async forget(before: number): Promise<number> {
    const { first } = this.#head;
    const end = Math.min(before, first + FORGET_KEYS);
    const head: Head = { ...this.#head, first: end };
    const remove = () => {
      for (let position = first; position < end; position++) void this.#db.remove(position);
      void this.#db.put(HEAD, encodeHead(head), this.#version);
    };
    await (this.#sync ? this.#commitSync('truncating', remove) : this.#commitAsync('truncating', remove));
    this.#head = head;
    return end;
  }

  async close(): Promise<void> {
    try {
      await this.#db.close();
    } catch (error) {
      throw asStoreError(this.where, 'closing it', error);
    }
  }

  /** The number of entries tells whether a position in between is missing, or whether there is a key that is no position. */
  #findEnd(): number {
    const { first } = this.#head;
    const [lowest] = this.#db.getKeys({ start: 0, limit: 1 });
    const [highest] = this.#db.getKeys({ start: Number.MAX_SAFE_INTEGER, end: 0, reverse: true, limit: 1 });
    const next = typeof highest === 'number' ? highest + 1 : first;
    if (lowest !== undefined && lowest !== first) {
      throw damaged(this.where, `its oldest batch is ${String(lowest)} and should be ${first}`);
    }
    const entries = entriesOf(this.#db);
    if (entries !== next - first + 1) {
      throw damaged(this.where, `it has ${entries - 1} batches between the positions ${first} and ${next}`);
    }
    return next;
  }

  /** Writes what waits, group after group, until nothing does. */
  async #write(): Promise<void> {
    this.#writing = true;
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup();
      try {
        await this.#commitAsync('appending', () => {
          for (const { position, batch } of group) void this.#db.put(position, batch as Buffer, this.#version);
        });
        for (const one of group) one.resolve();
      } catch (error) {
        for (const one of [...group, ...this.#waiting.splice(0)]) one.reject(error);
      }
    }
    this.#writing = false;
  }

  #takeGroup(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { batch } of this.#waiting) {
      bytes += batch.byteLength;
      if (count > 0 && bytes > GROUP_BYTES) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  #commitSync(what: string, write: () => void): void {
    try {
      this.#db.transactionSync(() => {
        const entry = this.#db.getEntry(HEAD);
        if (entry?.version !== this.#version) throw this.#taken(entry?.value);
        write();
      });
    } catch (error) {
      throw asStoreError(this.where, what, error);
    }
  }

  async #commitAsync(what: string, write: () => void): Promise<void> {
    let mine: boolean;
    try {
      mine = await this.#db.ifVersion(HEAD, this.#version, write);
    } catch (error) {
      throw asStoreError(this.where, what, await causeOf(error));
    }
    if (!mine) throw this.#taken(this.#db.getBinary(HEAD));
  }

  #taken(record: Uint8Array | undefined): StoreError {
    return fenced(this.where, record === undefined ? '' : decodeHead(record, this.where).node);
  }
}

/** lmdb-js rejects a failed write with an error that promises another one: the one that says why. */
async function causeOf(error: unknown): Promise<unknown> {
  const { commitError } = error as { commitError?: Promise<never> };
  return commitError === undefined ? error : commitError.catch((cause: unknown) => cause);
}
