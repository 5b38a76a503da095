/** Which engine a Queue has that was given none. */
import { existsSync } from 'node:fs';
import { ConnectionError, Engine, EngineClosedError, Queue, ValidationError, Worker } from 'flashq';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { errorOf, warnings } from '../../conformance/kit.js';
import { temporaryDir } from '../../support/places.js';

const KEY = Symbol.for('flashq.engine');
const holder = globalThis as { [KEY]?: { version: string; engine: Promise<Engine> | undefined } };

beforeEach(() => {
  vi.stubEnv('FLASHQ_URL', undefined);
  vi.stubEnv('FLASHQ_DATA_DIR', undefined);
});

afterEach(async () => {
  await (await holder[KEY]?.engine)?.close({ timeout: 0 });
  vi.unstubAllEnvs();
  delete holder[KEY];
});

/** Warnings are told in a turn of their own. */
const told = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('without a connection', () => {
  test('it is in memory, which is told once; all Queues and Workers share it', async () => {
    const heard = warnings();
    const [one, other] = [new Queue('q'), new Queue('q')];
    const job = await one.add('a', 1);
    expect(await other.getJobState(job)).toBe('waiting');
    const worker = new Worker('q', (run) => run.data + 1);
    expect(await other.finished(job)).toBe(2);
    await worker.close();
    await told();
    expect(heard.filter(({ code }) => code === 'FLASHQ_MEMORY_ENGINE')).toHaveLength(1);
    expect(heard[0]?.message).toContain('another process opening this queue does not see them');
  });

  test("connection: 'memory' is the same engine, without the warning", async () => {
    const heard = warnings();
    const job = await new Queue('q', { connection: 'memory' }).add('a', 1);
    expect(await new Queue('q').getJobState(job)).toBe('waiting');
    await told();
    expect(heard).toEqual([]);
  });

  test('Engine.default() is that engine; after its close the next use opens another', async () => {
    const queue = new Queue('q', { connection: 'memory' });
    await queue.add('a', 1);
    const engine = await Engine.default();
    expect(engine.queues()).toMatchObject([{ name: 'q' }]);
    await engine.close();
    expect(await errorOf(queue.add('a', 2))).toBeInstanceOf(EngineClosedError);
    expect(await new Queue('q', { connection: 'memory' }).count()).toBe(0);
  });

  test('FLASHQ_DATA_DIR: its jobs lie there', async () => {
    const dataDir = temporaryDir();
    vi.stubEnv('FLASHQ_DATA_DIR', dataDir);
    const heard = warnings();
    await new Queue('q').add('a', 1);
    await (await Engine.default()).close();
    await told();
    expect(heard).toEqual([]);
    expect(existsSync(dataDir)).toBe(true);
    const engine = await Engine.open({ dataDir });
    expect(await new Queue('q', { connection: engine }).count()).toBe(1);
    await engine.close();
  });

  test('FLASHQ_URL and FLASHQ_DATA_DIR together are refused', async () => {
    vi.stubEnv('FLASHQ_URL', 'ws://127.0.0.1:6790');
    vi.stubEnv('FLASHQ_DATA_DIR', temporaryDir());
    const error = await errorOf(new Queue('q').add('a', 1));
    expect(error).toBeInstanceOf(ValidationError);
    expect(error.message).toContain('Unset one');
  });

  test('two copies of the package share it; another version is refused', async () => {
    await new Queue('q', { connection: 'memory' }).add('a', 1);
    const made = holder[KEY]!;
    holder[KEY] = { ...made, version: '0.0.1' };
    const error = await errorOf(new Queue('q').add('a', 1));
    expect(error).toBeInstanceOf(ConnectionError);
    expect(error.message).toContain('0.0.1');
    holder[KEY] = made;
    expect(await new Queue('q').count()).toBe(1);
  });

  test('what opening it fails with rejects the first call, and reaches the event error of a Worker; the next call tries again', async () => {
    vi.stubEnv('FLASHQ_URL', 'ws://127.0.0.1:6790');
    vi.stubEnv('FLASHQ_DATA_DIR', temporaryDir());
    const queue = new Queue('q');
    expect(await errorOf(queue.add('a', 1))).toBeInstanceOf(ValidationError);
    const worker = new Worker('q', () => {});
    const error = await new Promise((resolve) => worker.on('error', resolve));
    expect(error).toBeInstanceOf(ValidationError);
    await worker.close();
    vi.stubEnv('FLASHQ_URL', undefined);
    await told();
    expect((await queue.add('a', 1)).id).toBeDefined();
  });
});

test.each(['commit', 'relaxed'] as const)('durability %s without a dataDir is refused', async (durability) => {
  const error = await errorOf(Engine.open({ durability }));
  expect(error).toBeInstanceOf(ValidationError);
  expect(error.message).toContain('needs a dataDir');
});
