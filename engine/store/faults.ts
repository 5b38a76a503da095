/** What went wrong below a store, as a `StoreError` that says what can be done. */
import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { StoreError } from '../../client/errors.js';
import { damaged } from './head.js';

/** LMDB's own codes, SQLite's, and the system's: numbers from native code, names from Node. */
const FULL = new Set<unknown>(['ENOSPC', 'EDQUOT', 'EFBIG']);
const FULL_LMDB = -30792;
const DAMAGED_LMDB = new Set<unknown>([-30797, -30796, -30794, -30793]);
const FULL_NUMBERS: Partial<Record<NodeJS.Platform, readonly number[]>> = {
  linux: [27, 28, 122],
  darwin: [27, 28, 69],
  win32: [28, 39, 112],
};
/** SQLITE_FULL; SQLITE_CORRUPT and SQLITE_NOTADB: `errcode` of an error of node:sqlite, without its upper bytes. */
const FULL_SQLITE = 13;
const DAMAGED_SQLITE = new Set<unknown>([11, 26]);

/**
 * LMDB calls it an input/output error when the system has written only a part of what it was given, and that is how a disk becomes
 * full. The part took the rest of the space, so it shows.
 */
const ROOM_BYTES_MIN = 256 * 1024;

/** Throws `full` when the file system that holds `path` has no room for the beginnings of a log. */
export function checkRoom(path: string): void {
  if (!hasRoom(path)) throw full(path, `fewer than ${ROOM_BYTES_MIN} bytes are free`);
}

function hasRoom(path: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(dirname(path));
    return bavail * bsize >= ROOM_BYTES_MIN;
  } catch {
    return true; // whatever is wrong there, it isn't known to be full
  }
}

function full(where: string, what: string, cause?: unknown): StoreError {
  return new StoreError(`No space is left for ${where}: ${what}. Make room, then open the engine again.`, {
    reason: 'full',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** `where` is the file, `doing` what was tried. A `StoreError` stays what it is. */
export function asStoreError(where: string, doing: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const {
    code,
    errcode,
    message = String(error),
  } = (error ?? {}) as {
    readonly code?: unknown;
    readonly errcode?: number;
    readonly message?: string;
  };
  const what = `${doing} failed with "${message}"`;
  const sqlite = errcode === undefined ? undefined : errcode & 0xff;
  if (FULL.has(code) || code === FULL_LMDB || sqlite === FULL_SQLITE || isFullNumber(code))
    return full(where, what, error);
  if (DAMAGED_LMDB.has(code) || DAMAGED_SQLITE.has(sqlite)) return damaged(where, what, error);
  if (!hasRoom(where)) return full(where, what, error);
  return new StoreError(
    `${where}: ${what}. The medium, or the rights to it, must be put right before the engine is opened again.`,
    { reason: 'io', cause: error },
  );
}

function isFullNumber(code: unknown): boolean {
  return FULL_NUMBERS[process.platform]?.includes(code as number) ?? false;
}
