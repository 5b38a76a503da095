/**
 * What must be so before LMDB may open a file, because otherwise the process would crash instead of getting an error:
 * - lmdb-js doesn't survive an open that fails after the file has been opened: because it isn't an LMDB file, or because the disk is full
 *   when the first pages are written;
 * - reading a page behind the end of a file that was cut off is a bus error, and so is the first write to a mapped lock file for which
 *   the disk has no room.
 * Only the meta pages are looked at (their layout: `MDB_meta` in LMDB's mdb.c).
 */
import { type FileHandle, open, readFile, stat, truncate } from 'node:fs/promises';
import { checkRoom } from './faults.js';
import { damaged } from './head.js';

const MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const META_BYTES = 160;
const EMPTY_ROOT = 0xffff_ffff_ffff_ffffn;
const PAGE_BYTES_MAX = 65_536;
/**
 * LMDB doesn't write pages that become free in the transaction that made them, so when they are the last ones, a sound file is a little
 * shorter than its last page says. More than this was cut off. (Fewer may have been cut off too: then a batch is found to be nonsense.)
 */
const UNWRITTEN_PAGES_MAX = 8n;
/** More than LMDB needs for its readers: it takes a longer lock file as it is. */
const LOCK_BYTES = 16_384;

interface Meta {
  readonly magic: number;
  readonly version: number;
  readonly pageBytes: number;
  readonly root: bigint;
  readonly lastPage: bigint;
  readonly txn: bigint;
}

/** Throws `damaged` when the file is there and LMDB must not open it. An absent or an empty one is fine: LMDB will begin it. */
export async function prepareLmdbFile(path: string): Promise<void> {
  const size = await sizeOf(path);
  if (size === 0 || (await neverWritten(path, size))) checkRoom(path);
  else if (process.arch === 'x64' || process.arch === 'arm64') await checkLength(path); // elsewhere the layout is another one
  const missing = LOCK_BYTES - (await sizeOf(`${path}-lock`));
  if (missing > 0) await lengthen(`${path}-lock`, missing);
}

/** A power loss soon after the file was made can leave nothing but zeros of its first two pages: LMDB would take offence. */
async function neverWritten(path: string, size: number): Promise<boolean> {
  if (size > 2 * PAGE_BYTES_MAX || (await readFile(path)).some((byte) => byte !== 0)) return false;
  await truncate(path, 0);
  return true;
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw error;
  }
}

async function checkLength(path: string): Promise<void> {
  const file = await open(path, 'r');
  let missing: number;
  try {
    missing = await missingBytes(file, path);
  } finally {
    await file.close();
  }
  if (missing > 0) await lengthen(path, missing);
}

async function missingBytes(file: FileHandle, path: string): Promise<number> {
  const first = await readMeta(file, 0);
  if (first === undefined) throw damaged(path, 'it is too short for an LMDB file');
  if (first.magic !== MAGIC) throw damaged(path, 'it is no LMDB file');
  if (first.version !== DATA_VERSION) throw damaged(path, `its LMDB version is ${first.version}`);
  const { pageBytes } = first;
  if (pageBytes < 256 || pageBytes > PAGE_BYTES_MAX) throw damaged(path, `its pages have ${pageBytes} bytes`);
  const second = await readMeta(file, pageBytes);
  if (second?.magic !== MAGIC || second.version !== DATA_VERSION) throw damaged(path, 'its second meta page is none');
  const newest = second.txn > first.txn ? second : first;
  // The size is read after the metas: a writer that is still at work only makes the file longer.
  const size = BigInt((await file.stat()).size);
  const needed = (newest.lastPage + 1n) * BigInt(pageBytes);
  const rootEnd = newest.root === EMPTY_ROOT ? 0n : (newest.root + 1n) * BigInt(pageBytes);
  if (size < rootEnd || size + UNWRITTEN_PAGES_MAX * BigInt(pageBytes) < needed) {
    throw damaged(path, `it has ${size} bytes and should have ${needed}`);
  }
  return size < needed ? Number(needed - size) : 0;
}

async function readMeta(file: FileHandle, offset: number): Promise<Meta | undefined> {
  const bytes = Buffer.alloc(META_BYTES);
  const { bytesRead } = await file.read(bytes, 0, META_BYTES, offset);
  if (bytesRead < META_BYTES) return undefined;
  return {
    magic: bytes.readUInt32LE(24),
    version: bytes.readUInt16LE(28),
    pageBytes: bytes.readUInt32LE(48),
    root: bytes.readBigUInt64LE(136),
    lastPage: bytes.readBigUInt64LE(144),
    txn: bytes.readBigUInt64LE(152),
  };
}

/**
 * Adds zeros. Should one of the pages that were never written be in use after all, then reading it finds nonsense instead of killing
 * the process; and a lock file gets its place on the disk, or an error. Appended, never written at an offset: a writer still at work may have made the file longer meanwhile.
 */
async function lengthen(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'a', 0o600);
  try {
    await file.write(Buffer.alloc(bytes));
  } finally {
    await file.close();
  }
}
