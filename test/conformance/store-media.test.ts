/** What only real files can show: damage, a full disk, a writer that is killed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { LmdbStore } from '#engine/store/lmdb-store.js';
import type { LogSession, LogStore } from '#engine/store/log-store.js';
import { SqliteStore } from '#engine/store/sqlite-store.js';
import { canMount, mounted, temporaryDir } from '../support/places.js';
import { batchOf, loaded, reasonOf } from './stores.js';

const LMDB_MODULE = new URL('../../dist/engine/store/lmdb-store.js', import.meta.url).href;
const hasSqlite = ((): boolean => {
  try {
    createRequire(import.meta.url)('node:sqlite');
    return true;
  } catch {
    return false;
  }
})();

const STORES: [name: string, runs: boolean, file: string, make: (dir: string) => LogStore][] = [
  ['lmdb, synchronous', true, 'log.lmdb', (dir) => new LmdbStore(dir, { sync: true })],
  ['lmdb, asynchronous', true, 'log.lmdb', (dir) => new LmdbStore(dir, { sync: false })],
  ['sqlite', hasSqlite, 'log.sqlite', (dir) => new SqliteStore(dir)],
];

async function filled(dir: string, make: (dir: string) => LogStore, count = 50): Promise<void> {
  const session = await make(dir).open('log', 'a');
  for (let n = 0; n < count; n++) await session.append(batchOf(n, 5000));
  await session.close();
}

/** Appends until the store refuses; how many it took. */
async function fill(session: LogSession, bytes: number): Promise<{ count: number; reason: string }> {
  for (let count = 0; ; count++) {
    const reason = await reasonOf(session.append(batchOf(count, bytes)));
    if (reason !== 'resolved') return { count, reason };
  }
}

describe.each(STORES)('%s', (_, runs, file, make) => {
  describe.runIf(runs)('a damaged file', () => {
    test.each<[what: string, damage: (good: Buffer) => Buffer]>([
      ['garbage, short', () => Buffer.from('no log')],
      ['garbage, long', () => Buffer.alloc(100_000, 'no log ')],
      ['half of it', (good) => good.subarray(0, good.length >> 1)],
      ['another beginning', (good) => Buffer.concat([Buffer.alloc(100, 0x55), good.subarray(100)])],
      ['nothing but its first page', (good) => good.subarray(0, 4096)],
    ])('is refused and left as it is: %s', async (_, damage) => {
      const dir = temporaryDir();
      await filled(dir, make);
      const bytes = Buffer.from(damage(readFileSync(join(dir, file))));
      writeFileSync(join(dir, file), bytes);
      expect(await reasonOf(openAndLoad(make(dir)))).toBe('damaged');
      expect(await reasonOf(openAndLoad(make(dir)))).toBe('damaged');
      expect(readFileSync(join(dir, file)).equals(bytes)).toBe(true);
    });
  });

  describe.runIf(runs && canMount)('a full disk', () => {
    test('loses nothing acknowledged; with room again the log goes on', async () => {
      const dir = mounted('size=1m');
      const session = await make(dir).open('log', 'a');
      const { count, reason } = await fill(session, 10_000);
      expect({ reason, some: count > 10 }).toEqual({ reason: 'full', some: true });
      expect(await reasonOf(session.append(batchOf(0, 1)))).toBe('full');
      expect(await reasonOf(session.truncate(5n))).toBe('full');
      await session.close();

      const copy = temporaryDir(); // where there is room
      for (const name of readdirSync(dir)) writeFileSync(join(copy, name), readFileSync(join(dir, name)));
      const again = await make(copy).open('log', 'b');
      const { batches } = await loaded(again);
      expect(batches.length).toBeGreaterThanOrEqual(count);
      expect(batches.every((batch, n) => Buffer.compare(batch, batchOf(n, 10_000)) === 0)).toBe(true);
      await again.append(batchOf(0));
      await again.close();
    });

    test('no log is begun on it', async () => {
      const dir = mounted('size=64k');
      writeFileSync(join(dir, 'filler'), new Uint8Array(60_000));
      expect(await reasonOf(make(dir).open('log', 'a'))).toBe('full');
      rmSync(join(dir, 'filler'));
    });
  });
});

async function openAndLoad(store: LogStore): Promise<void> {
  const session = await store.open('log', 'b');
  try {
    await session.load(() => {});
  } finally {
    await session.close();
  }
}

describe('lmdb', () => {
  test.skipIf(process.platform === 'win32')('its files are for their owner alone', async () => {
    const dir = temporaryDir();
    await filled(dir, (path) => new LmdbStore(path, { sync: true }), 1);
    for (const name of readdirSync(dir)) expect(statSync(join(dir, name)).mode & 0o077).toBe(0);
  });

  test('a file whose last free pages were never written is made whole, and opened', async () => {
    const dir = temporaryDir();
    const file = join(dir, 'log.lmdb');
    await filled(dir, (path) => new LmdbStore(path, { sync: true }));
    const good = readFileSync(file);
    writeFileSync(file, good.subarray(0, good.length - 4096));
    const session = await new LmdbStore(dir, { sync: true }).open('log', 'a');
    expect(statSync(file).size).toBeGreaterThanOrEqual(good.length);
    await session.close();
  });

  test('a file of which only zeros reached the disk is a new one', async () => {
    const dir = temporaryDir();
    writeFileSync(join(dir, 'log.lmdb'), new Uint8Array(8192));
    const session = await new LmdbStore(dir, { sync: true }).open('log', 'a');
    expect((await loaded(session)).batches).toEqual([]);
    await session.close();
  });

  test('the space of truncated batches is used again', async () => {
    const dir = temporaryDir();
    const session = await new LmdbStore(dir, { sync: true }).open('log', 'a');
    const batch = batchOf(1, 100_000);
    for (let n = 0; n < 200; n++) {
      const position = await session.append(batch);
      if (n % 10 === 9) await session.truncate(position - 5n);
    }
    expect(statSync(join(dir, 'log.lmdb')).size).toBeLessThan(6_000_000); // 20 MB went through it
    await session.close();
  });

  test('what was acknowledged outlives a SIGKILL of its writer', async () => {
    const dir = temporaryDir();
    const script = `
      const { LmdbStore } = await import(${JSON.stringify(LMDB_MODULE)});
      const session = await new LmdbStore(${JSON.stringify(dir)}, { sync: true }).open('log', 'a');
      for (;;) {
        const position = Number(await session.append(new Uint8Array(3000)));
        process.stdout.write(position + '\\n');
        if (position % 50 === 0) await session.truncate(BigInt(position - 20));
      }
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let acknowledged = 0;
    const lines = createInterface({ input: child.stdout }).on('line', (line) => {
      acknowledged = Number(line);
      if (acknowledged >= 300) child.kill('SIGKILL');
    });
    await once(lines, 'close');
    const session = await new LmdbStore(dir, { sync: true }).open('log', 'b');
    const { positions, next } = await loaded(session);
    expect(Number(next)).toBeGreaterThan(acknowledged);
    expect(Number(positions[0])).toBeLessThanOrEqual(acknowledged - 20);
    await session.close();
  });

  test('an asynchronous writer may be terminated with its thread: nothing acknowledged is lost, and mostly the process goes on', async () => {
    const dir = temporaryDir();
    const writer = `
      import { writeSync } from 'node:fs';
      import { parentPort } from 'node:worker_threads';
      const { LmdbStore } = await import(${JSON.stringify(LMDB_MODULE)});
      const session = await new LmdbStore(${JSON.stringify(dir)}, { sync: false }).open('log', 'a');
      const write = async () => {
        for (let count = 1; ; count++) {
          writeSync(1, (await session.append(new Uint8Array(20_000))) + '\\n');
          if (count === 12) parentPort.postMessage('enough');
        }
      };
      await Promise.all([write(), write(), write(), write()]);
    `;
    const script = `
      const { once } = await import('node:events');
      const { Worker } = await import('node:worker_threads');
      for (let round = 0; round < 8; round++) {
        const worker = new Worker(${JSON.stringify(writer)}, { eval: true });
        await once(worker, 'message');
        await worker.terminate();
      }
    `;
    let survived = false;
    // lmdb-js aborts the process when a thread is told to stop in the microsecond before it calls native code: 0007-stores.md.
    for (let trial = 0; trial < 8 && !survived; trial++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let acknowledged = 0;
      let errors = '';
      createInterface({ input: child.stdout }).on('line', (line) => {
        acknowledged = Math.max(acknowledged, Number(line));
      });
      child.stderr.on('data', (data: Buffer) => {
        errors += data.toString();
      });
      const [code] = (await once(child, 'close')) as [number | null];
      survived = code === 0;
      if (!survived) expect(errors).toContain('ThrowAsJavaScriptException napi_throw');
      const session = await new LmdbStore(dir, { sync: false }).open('log', 'b');
      expect(Number((await loaded(session)).next)).toBeGreaterThan(acknowledged);
      await session.close();
    }
    expect(survived).toBe(true);
  });
});

test('the built module that the children load is there', () => {
  expect(statSync(fileURLToPath(LMDB_MODULE)).isFile()).toBe(true);
});
