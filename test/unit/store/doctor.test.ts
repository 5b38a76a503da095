/** What the doctor says of a data directory, and what it saves of a damaged one. */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  DataDirLockedError,
  type DoctorReport,
  doctor,
  Engine,
  Queue,
  StoreError,
  TestClock,
  ValidationError,
} from 'flashq';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import * as F from '#engine/store/format.js';
import { openDatabase } from '#engine/store/lmdb-store.js';
import { errorOf } from '../../conformance/kit.js';
import { type Dump, dumpOf } from '../../support/dump.js';
import { live, openLife, SMALL } from '../../support/lived.js';
import { lifeSteps } from '../../support/log-life.js';
import { temporaryDir } from '../../support/places.js';

/** Made once; each test has a copy. */
const original = mkdtempSync(join(tmpdir(), 'flashq-doctor-'));
let dataDir: string;
let known: Dump;
let now: number;

beforeAll(async () => {
  const life = await openLife(undefined, { dataDir: original });
  await live(life, lifeSteps(2_500_000), (moment) => {
    known = moment.dump;
    now = moment.now;
  });
  await life.close();
});

afterAll(() => rmSync(original, { recursive: true }));

beforeEach(() => {
  dataDir = join(temporaryDir(), 'data');
  cpSync(original, dataDir, { recursive: true });
});

/** Does something to the batches, as the store keeps them. */
async function change(edit: (batches: Map<number, Buffer>) => void): Promise<void> {
  const db = await openDatabase(join(dataDir, 'main.lmdb'));
  const batches = new Map<number, Buffer>();
  for (const key of db.getKeys({ start: 0 })) batches.set(key as number, Buffer.from(db.getBinary(key)!));
  const before = new Map(batches);
  edit(batches);
  for (const [position, batch] of before) {
    const after = batches.get(position);
    if (after === undefined) await db.remove(position);
    else if (!after.equals(batch)) await db.put(position, after, 1);
  }
  for (const [position, batch] of batches) if (!before.has(position)) await db.put(position, batch, 1);
  await db.close();
}

function flip(batches: Map<number, Buffer>, position: number, byte = 40): void {
  const batch = Buffer.from(batches.get(position)!);
  batch[byte % batch.length]! ^= 16;
  batches.set(position, batch);
}

function countsOf({ queues }: Dump): DoctorReport['jobs'] {
  return Object.fromEntries(
    Object.entries(queues).map(([name, { counts }]) => [name, counts as Record<string, number>]),
  );
}

async function openAgain(path: string): Promise<Dump> {
  const engine = await Engine.open({ dataDir: path, clock: new TestClock(now), ...SMALL });
  const dump = dumpOf(engine);
  await new Queue('afterwards', { connection: engine }).add('works', 1);
  await engine.close();
  return dump;
}

/** Into a directory that isn't there yet. */
async function salvaged(): Promise<{ report: DoctorReport; into: string }> {
  const into = join(temporaryDir(), 'salvaged');
  return { report: await doctor({ dataDir, salvageTo: into }), into };
}

describe('a sound directory', () => {
  test('is counted, and left as it is', async () => {
    const file = join(dataDir, 'main.lmdb');
    const before = readFileSync(file);
    const report = await doctor({ dataDir });
    expect(readFileSync(file).equals(before)).toBe(true);
    const { ok, store, damaged, unfinished, lost, batches, groups, bytes } = report;
    expect({ ok, store, damaged, unfinished, lost }).toEqual({
      ok: true,
      store: 'lmdb',
      damaged: [],
      unfinished: 0,
      lost: 0,
    });
    expect(batches).toBe(groups + 2); // one group is of three
    expect(bytes).toBeGreaterThan(2_500_000);
    // Runs that went on were given back when the engine was closed.
    const counts = structuredClone(countsOf(known)) as Record<string, Record<string, number>>;
    const { active = 0, waiting = 0, ...rest } = counts.crashing!;
    counts.crashing = { ...rest, waiting: active + waiting };
    expect(report.jobs).toEqual(counts);
  });

  test('is copied as it is', async () => {
    const { report, into } = await salvaged();
    expect(report.salvaged).toEqual({ groups: report.groups, batches: report.batches });
    expect(await openAgain(into)).toEqual(await openAgain(dataDir));
  });

  test('of which the last batch was torn by a crash is sound', async () => {
    await change((batches) => {
      const last = Math.max(...batches.keys());
      batches.set(last + 1, batches.get(last)!.subarray(0, 30));
    });
    expect(await doctor({ dataDir })).toMatchObject({ ok: true, damaged: [], unfinished: 1 });
    const { into } = await salvaged();
    expect(await openAgain(into)).toEqual(await openAgain(dataDir));
    expect(await doctor({ dataDir })).toMatchObject({ ok: true, unfinished: 1 });
  });
});

describe('a damaged directory', () => {
  test('is told where, and what is whole can be saved', async () => {
    const { batches } = await doctor({ dataDir });
    for (let position = 2; position <= batches; position += 9) {
      await change((all) => flip(all, position, position * 13));
      const { ok, damaged } = await doctor({ dataDir });
      expect(ok).toBe(false);
      expect(damaged.map((one) => one.position)).toContain(position);
    }
    expect(await errorOf(openAgain(dataDir))).toBeInstanceOf(StoreError);
    const { report, into } = await salvaged();
    expect(report.salvaged!.groups).toBe(report.groups);
    expect(report.lost).toBeGreaterThan(0);
    const found = await openAgain(into);
    const was = new Map(known.jobs.map((job) => [job.number, job]));
    expect(found.jobs.length).toBeGreaterThan(known.jobs.length / 2);
    for (const { number, queue, id } of found.jobs) {
      const job = was.get(number);
      if (job === undefined) continue;
      expect(id).toBe(job.id);
      if (!queue.startsWith('lost-queue-')) expect(queue).toBe(job.queue);
    }
    expect(await doctor({ dataDir: into })).toMatchObject({ ok: true, damaged: [], lost: 0 });
  });

  test('in the first, the last, and a middle batch of a large group', async () => {
    let large: number[] = [];
    await change((batches) => {
      const several = [...batches].filter(([, batch]) => (batch.readUInt16LE(F.B_FLAGS) & 3) !== 3);
      large = several.map(([position]) => position).sort((a, b) => a - b);
    });
    expect(large.length).toBe(3);
    for (const position of large) {
      await change((batches) => flip(batches, position));
      const { damaged, groups, batches } = await doctor({ dataDir });
      expect(damaged[0]).toEqual({ position, what: 'its checksum is wrong' });
      expect(damaged.length).toBe(2); // its queue was named in it
      expect(groups).toBe(batches - 3); // the others
      await change((batches) => flip(batches, position)); // back
    }
    expect(await doctor({ dataDir })).toMatchObject({ ok: true });
  });

  test('in the batch that names a queue: its jobs are saved under another name, or that which stands elsewhere', async () => {
    const engine = await Engine.open({ dataDir, ...SMALL });
    await new Queue('named-once', { connection: engine }).add('first', 1);
    await new Queue('named-twice', { connection: engine }).add('first', 1);
    await new Queue('named-once', { connection: engine }).add('second', 2);
    await new Queue('named-twice', { connection: engine }).add('second', 2);
    await new Queue('named-twice', { connection: engine }).pause();
    await engine.close();
    await change((batches) => {
      const last = Math.max(...batches.keys()); // that of the end; before it five
      flip(batches, last - 5);
      flip(batches, last - 4);
    });
    const { report, into } = await salvaged();
    expect(report.damaged.length).toBe(4);
    const { queues, jobs } = await openAgain(into);
    expect(queues['named-once']).toBeUndefined();
    expect(queues['named-twice']).toMatchObject({ paused: true, counts: { waiting: 1 } });
    const { queue } = jobs.filter(({ name, data }) => name === 'second' && data === 2)[0]!;
    expect(queue).toMatch(/^lost-queue-\d+$/);
    expect(await doctor({ dataDir: into })).toMatchObject({ ok: true });
  });

  test('from which batches are missing says which', async () => {
    await change((batches) => {
      for (const position of [1, 10, 11, 30]) batches.delete(position);
    });
    const { damaged } = await doctor({ dataDir });
    expect(damaged.filter(({ what }) => what.includes('missing'))).toEqual([
      { position: 1, what: 'it is missing' },
      { position: 10, what: 'all to 11 are missing' },
      { position: 30, what: 'it is missing' },
    ]);
    expect((await salvaged()).report.salvaged!.groups).toBeGreaterThan(30);
  });

  test('whose file is none of LMDB is refused as that', async () => {
    writeFileSync(join(dataDir, 'main.lmdb'), Buffer.alloc(100_000, 7));
    expect(await errorOf(doctor({ dataDir }))).toMatchObject({ name: 'StoreError', reason: 'damaged' });
  });
});

test('what a newer flashQ wrote is told, and not salvaged by half', async () => {
  await change((batches) => {
    const batch = Buffer.from(batches.get(5)!);
    batch.writeUInt8(99, F.BATCH_HEADER_BYTES + F.R_KIND);
    batches.set(5, F.seal(batch));
  });
  const { ok, damaged } = await doctor({ dataDir });
  expect({ ok, damaged }).toEqual({
    ok: false,
    damaged: [{ position: 5, what: 'it holds a record of the unknown kind 99' }],
  });
  expect(await errorOf(salvaged())).toMatchObject({ name: 'StoreError', reason: 'version' });
});

describe('the doctor refuses', () => {
  test('while an engine has the directory', async () => {
    const engine = await Engine.open({ dataDir, ...SMALL });
    expect(await errorOf(doctor({ dataDir }))).toBeInstanceOf(DataDirLockedError);
    await engine.close();
    expect(await doctor({ dataDir })).toMatchObject({ ok: true });
  });

  test('a directory without a log, and leaves nothing in it', async () => {
    const empty = temporaryDir();
    expect(await errorOf(doctor({ dataDir: empty }))).toMatchObject({ name: 'StoreError', reason: 'io' });
    expect(existsSync(join(empty, 'LOCK'))).toBe(false);
    const nowhere = join(empty, 'nowhere');
    expect(await errorOf(doctor({ dataDir: nowhere }))).toBeInstanceOf(StoreError);
    expect(existsSync(nowhere)).toBe(false);
  });

  test('to salvage into a directory that is not empty, and options that it does not know', async () => {
    expect(await errorOf(doctor({ dataDir, salvageTo: dataDir }))).toBeInstanceOf(ValidationError);
    expect(await errorOf(doctor({ dataDir, salvage: true } as never))).toBeInstanceOf(ValidationError);
    expect(await errorOf(doctor({ dataDir: '' }))).toBeInstanceOf(ValidationError);
  });
});
