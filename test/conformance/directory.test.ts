/** The data directory: who may have it, and where it may be. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { DataDirLockedError } from 'flashq';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openDataDir } from '#engine/store/directory.js';
import { canMount, mounted, temporaryDir } from '../support/places.js';
import { reasonOf } from './stores.js';

const MODULE = fileURLToPath(new URL('../../dist/engine/store/directory.js', import.meta.url));

/** A process that has the directory, until it is killed. */
async function holder(dataDir: string): Promise<ChildProcess> {
  const script = `
    const { openDataDir } = await import(${JSON.stringify(MODULE)});
    globalThis.held = await openDataDir(${JSON.stringify(dataDir)});
    console.log('held');
    setInterval(() => {}, 1 << 30);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout! });
  const [line] = (await once(lines, 'line')) as [string];
  expect(line).toBe('held');
  return child;
}

async function refusal(dataDir: string): Promise<DataDirLockedError> {
  const error = await openDataDir(dataDir).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DataDirLockedError);
  return error as DataDirLockedError;
}

describe('one owner', () => {
  test('a second engine of this process is refused, by whatever path it comes', async () => {
    const dir = temporaryDir();
    const link = join(temporaryDir(), 'link');
    symlinkSync(dir, link);
    const held = await openDataDir(dir);
    expect(held.path).toBe(dir);
    for (const path of [dir, link, `${dir}/.`]) {
      expect(await refusal(path)).toMatchObject({ dataDir: dir, pid: process.pid, host: hostname() });
    }
    held.release();
    held.release();
    const again = await openDataDir(link);
    expect(again.path).toBe(dir);
    again.release();
  });

  test('of many that come at once, one gets it', async () => {
    const dir = temporaryDir();
    const tries = await Promise.allSettled(Array.from({ length: 20 }, () => openDataDir(dir)));
    expect(tries.filter(({ status }) => status === 'fulfilled').length).toBe(1);
    for (const one of tries) if (one.status === 'fulfilled') one.value.release();
  });

  test('another process is refused and told who has it; once that one is killed, nothing is in the way', async () => {
    const dir = temporaryDir();
    const child = await holder(dir);
    const error = await refusal(dir);
    expect(error).toMatchObject({ pid: child.pid, host: hostname(), retryable: true });
    expect(error.message).toContain(`process ${child.pid} on ${hostname()}`);
    child.kill('SIGKILL');
    await once(child, 'exit');
    const held = await openDataDir(dir);
    expect(JSON.parse(readFileSync(join(dir, 'LOCK'), 'utf8'))).toMatchObject({ pid: process.pid, host: hostname() });
    held.release();
  });

  test('a lock file that says nothing is no reason to wait or to fail', async () => {
    const dir = temporaryDir();
    writeFileSync(join(dir, 'LOCK'), '{"pid":');
    (await openDataDir(dir)).release();
    const held = await openDataDir(dir);
    writeFileSync(join(dir, 'LOCK'), '');
    expect(await refusal(dir)).toMatchObject({ dataDir: dir, pid: undefined, host: undefined });
    held.release();
  });
});

describe('where it may be', () => {
  test('it is made when it is not there, for its owner alone', async () => {
    const dir = join(temporaryDir(), 'a', 'b');
    (await openDataDir(dir)).release();
    if (process.platform !== 'win32') expect(statSync(dir).mode & 0o777).toBe(0o700);
  });

  test.each(['d', 'e/f', './g', 'h/../i'])('a path may be relative, and as short as it gets: %s', async (path) => {
    const before = process.cwd();
    const base = temporaryDir();
    process.chdir(base);
    try {
      const held = await openDataDir(path);
      held.release();
      expect(held.path).toBe(join(base, path));
    } finally {
      process.chdir(before);
    }
  });

  test.runIf(process.platform === 'linux').each([
    ['NFS', 0x6969],
    ['CIFS', 0xff534d42],
    ['SMB2', 0xfe534d42],
    ['SMB2', 0xfe534d42 - 2 ** 32], // as a system with 32-bit numbers has it
    ['9P', 0x01021997],
  ])('a network file system is refused by its name: %s', async (name, type) => {
    const open = openDataDir(temporaryDir(), { fileSystemType: async () => type });
    await expect(open).rejects.toMatchObject({ reason: 'unsupported', message: expect.stringContaining(name) });
  });

  test('a path that is a file, or leads through one, is refused with a way out', async () => {
    const file = join(temporaryDir(), 'file');
    writeFileSync(file, 'mine');
    for (const path of [file, join(file, 'below')]) {
      const open = openDataDir(path);
      await expect(open).rejects.toMatchObject({
        reason: 'unsupported',
        message: expect.stringContaining('another path'),
      });
    }
    expect(readFileSync(file, 'utf8')).toBe('mine');
  });

  test.runIf(process.getuid !== undefined)('a directory without permission is refused with a way out', async () => {
    const dir = temporaryDir();
    const closed = join(dir, 'closed');
    mkdirSync(closed, { mode: 0o500 });
    const root = process.geteuid!() === 0;
    if (root) process.seteuid!(65534);
    try {
      for (const path of [closed, join(closed, 'below')]) {
        await expect(openDataDir(path)).rejects.toMatchObject({
          reason: 'unsupported',
          message: expect.stringContaining('may not write'),
        });
      }
    } finally {
      if (root) process.seteuid!(0);
    }
  });

  test.runIf(canMount)('a read-only file system is refused with a way out', async () => {
    const open = openDataDir(mounted('size=64k,ro'));
    await expect(open).rejects.toMatchObject({ reason: 'unsupported', message: expect.stringContaining('read-only') });
  });

  test.runIf(canMount)('a full disk does not keep the lock from being held', async () => {
    const dir = mounted('size=16k');
    try {
      writeFileSync(join(dir, 'filler'), new Uint8Array(1 << 20));
    } catch {
      // That is how it becomes full.
    }
    const held = await openDataDir(dir);
    await refusal(dir);
    held.release();
    expect(await reasonOf(openDataDir(join(dir, 'x'.repeat(300))))).not.toBe('resolved');
  });
});
