/**
 * The directory that an engine keeps its data in: made when it isn't there, refused where it wouldn't be safe, and one engine's at a
 * time. The lock is the system's own on an open file, so it goes with the process, however that ends, and holds across containers
 * that share the directory; a second engine of the same process is another open file, and is refused too. What the file says is for
 * people only. It is never removed: somebody might just have opened it to lock it.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { mkdir, open, readFile, realpath, statfs } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DataDirLockedError, StoreError } from '../../client/errors.js';
import { asStoreError } from './faults.js';

export interface DataDir {
  /** Without symbolic links. */
  readonly path: string;
  /** Gives the directory free. May be called again. */
  release(): void;
}

export interface DataDirOptions {
  /** What kind of file system holds a path, as `statfs` numbers them. */
  readonly fileSystemType?: (path: string) => Promise<number>;
}

/** Who holds it. */
interface Owner {
  readonly pid: number;
  readonly host: string;
  readonly since: string;
}

interface NativeLocks {
  tryLock(fd: number, offset?: number, length?: number): boolean;
}

const LOCK_NAME = 'LOCK';
/**
 * Which bytes are locked. On Windows nobody else could read them, so it is one far behind the text; elsewhere all of them, which is the
 * only thing macOS has.
 */
const LOCK_RANGE: readonly [number, number] = process.platform === 'win32' ? [1 << 30, 1] : [0, 0];
/** The owner writes its name right after it has the lock; until then the file may be empty. */
const NAME_TRIES = 10;
const NAME_TRY_MS = 5;

/** Linux's numbers for file systems on which a mapped file or a lock of another machine's process can't be relied on. */
const NETWORK_TYPES: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x5346414f, 'AFS'],
  [0x6b414653, 'AFS'],
  [0x73757245, 'Coda'],
  [0x564c, 'NCP'],
  [0x01021997, '9P'],
  [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'],
  [0x47504653, 'GPFS'],
  [0x19830326, 'BeeGFS'],
  [0x786f4256, 'a shared folder of VirtualBox'],
]);

/**
 * Takes the directory for this engine, until `release` or the end of the process.
 *
 * @throws DataDirLockedError when another engine has it, of this process or of another.
 * @throws StoreError when it can't hold data: reason `unsupported`, `full` or `io`.
 */
export async function openDataDir(dataDir: string, options: DataDirOptions = {}): Promise<DataDir> {
  const { fileSystemType = typeOf } = options;
  let path: string;
  let fd: number;
  try {
    await makeDirectory(dataDir);
    path = await realpath(dataDir);
    await refuseNetwork(path, fileSystemType);
    fd = openSync(join(path, LOCK_NAME), 'a', 0o600); // only makes it: 'a' never empties what an owner wrote
    closeSync(fd);
    fd = openSync(join(path, LOCK_NAME), 'r+');
  } catch (error) {
    throw asDirectoryError(dataDir, error);
  }
  try {
    if (!tryLock(fd)) throw await lockedError(path);
    writeOwner(fd);
  } catch (error) {
    closeSync(fd);
    throw error instanceof DataDirLockedError ? error : asDirectoryError(dataDir, error);
  }
  let held = true;
  return {
    path,
    release: () => {
      if (held) closeSync(fd);
      held = false;
    },
  };
}

/** Makes the directory with those above it; what is new is safe from a power loss when this resolves. */
export async function makeDirectory(path: string): Promise<void> {
  const topmost = await mkdir(path, { recursive: true, mode: 0o700 });
  if (topmost === undefined) return;
  const above = dirname(resolve(topmost)); // of a relative path, `mkdir` gives a relative one
  for (let made = resolve(path); made !== above && made !== dirname(made); made = dirname(made))
    await syncDirectory(dirname(made));
}

/** A file's own sync makes its bytes safe; whether it is found again is up to its directory. Windows has no such thing. */
export async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function typeOf(path: string): Promise<number> {
  return (await statfs(path)).type;
}

async function refuseNetwork(path: string, fileSystemType: (path: string) => Promise<number>): Promise<void> {
  const share = process.platform === 'win32' && /^\\\\(?![?.]\\)/.test(path);
  const kind =
    process.platform === 'linux' ? NETWORK_TYPES.get((await fileSystemType(path)) >>> 0) : share ? 'SMB' : undefined;
  if (kind === undefined) return;
  throw new StoreError(
    `The data directory ${path} is on a network file system (${kind}), on which locks and mapped files can't be relied on. ` +
      'Use a directory on a disk of this machine.',
    { reason: 'unsupported' },
  );
}

/** Loaded when it is needed: an engine that keeps nothing on the disk needs no native code. */
function tryLock(fd: number): boolean {
  let native: NativeLocks;
  try {
    native = createRequire(import.meta.url)('fs-native-extensions') as NativeLocks;
  } catch (cause) {
    throw new StoreError(
      `The package fs-native-extensions could not be loaded on ${process.platform} ${process.arch}: ${String(cause)}. ` +
        'Without it a data directory can not be locked.',
      { reason: 'unsupported', cause },
    );
  }
  try {
    return native.tryLock(fd, ...LOCK_RANGE);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return false;
    throw error;
  }
}

function writeOwner(fd: number): void {
  const owner: Owner = { pid: process.pid, host: hostname(), since: new Date().toISOString() };
  const text = Buffer.from(`${JSON.stringify(owner)}\n`);
  try {
    writeSync(fd, text, 0, text.length, 0);
    ftruncateSync(fd, text.length);
  } catch {
    // The lock is held all the same; on a full disk the others won't learn by whom.
  }
}

async function lockedError(path: string): Promise<DataDirLockedError> {
  for (let tries = 0; tries < NAME_TRIES; tries++) {
    const owner = await readOwner(path);
    if (owner !== undefined) return new DataDirLockedError({ dataDir: path, pid: owner.pid, host: owner.host });
    await delay(NAME_TRY_MS);
  }
  return new DataDirLockedError({ dataDir: path });
}

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    const owner = JSON.parse(await readFile(join(path, LOCK_NAME), 'utf8')) as Partial<Owner>;
    return typeof owner.pid === 'number' && typeof owner.host === 'string' ? (owner as Owner) : undefined;
  } catch {
    return undefined;
  }
}

/** What the system says of a directory that can't be made or written, and the way out. */
const REFUSALS: Readonly<Record<string, string>> = {
  EEXIST: 'there is a file of that name. Use another path, or move the file away.',
  ENOTDIR: 'a part of that path is a file. Use another path, or move the file away.',
  EACCES: 'this user may not write there. Give it the right to, or use another directory.',
  EPERM: 'this user may not write there. Give it the right to, or use another directory.',
  EROFS: 'the file system is read-only. Mount it for writing, or use another directory.',
};

function asDirectoryError(dataDir: string, error: unknown): StoreError {
  const refusal = REFUSALS[(error as NodeJS.ErrnoException).code ?? ''];
  if (refusal === undefined || error instanceof StoreError)
    return asStoreError(dataDir, 'opening the directory', error);
  return new StoreError(`${dataDir} can't be a data directory: ${refusal}`, { reason: 'unsupported', cause: error });
}
