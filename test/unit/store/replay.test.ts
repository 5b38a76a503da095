/** That an engine finds in its log what the one before it knew: at every end that the log could have. */
import { Engine, Queue, StoreError, TestClock } from 'flashq';
import { beforeAll, describe, expect, test } from 'vitest';
import * as F from '#engine/store/format.js';
import { errorOf } from '../../conformance/kit.js';
import { afterCrash, type Dump } from '../../support/dump.js';
import { knownFrom, live, type Moment, openLife, SMALL } from '../../support/lived.js';
import { lifeSteps } from '../../support/log-life.js';
import { Tape } from '../../support/tape.js';

/** So that groups of some jobs already are of several batches. */
const BATCH_BYTES = 2048;
/** In a long run every place is tried, else some. */
const STEP = process.env.FLASHQ_LONG === '1' ? 1 : 3;

const tape = new Tape([], { batchBytesMax: BATCH_BYTES });
/** By the number of batches that the log then had. */
const moments = new Map<number, Moment>();
let now = 0;

beforeAll(async () => {
  const life = await openLife(tape);
  await live(life, lifeSteps(5000), (moment) => moments.set(tape.batches.length, moment));
  const { batches } = tape.copy();
  now = life.b.clock.now();
  await life.close();
  tape.batches = batches;
});

function known(of: Tape, at = now): Promise<Dump> {
  return knownFrom(of, new TestClock(at));
}

function headerOf(nth: number): F.BatchHeader {
  const header = F.readBatch(tape.batches[nth]!, tape.first + nth);
  if ('what' in header) throw new Error(header.what);
  return header;
}

/** How many of the first `count` batches are of whole groups. */
function whole(count: number): number {
  while (count > 0 && !headerOf(count - 1).isLast) count--;
  return count;
}

/** The tape without its last batches, and the first bytes of one more. */
function cut(count: number, bytes: number): Tape {
  const torn = tape.copy(count);
  torn.batches.push(tape.batches[count]!.slice(0, bytes));
  return torn;
}

async function refusal(of: Tape): Promise<StoreError> {
  const before = Buffer.concat(of.batches);
  const error = await errorOf(Engine.open({ store: of, clock: new TestClock(now), ...SMALL }));
  expect(error).toBeInstanceOf(StoreError);
  expect(Buffer.concat(of.batches).equals(before)).toBe(true);
  return error;
}

test('the life leaves every state of a job, and every kind of record but that of an orderly end', () => {
  const last = [...moments.values()].at(-1)!.dump;
  expect([...new Set(last.jobs.map(({ raw }) => raw))].sort()).toEqual([
    'active',
    'blocked',
    'cancelled',
    'completed',
    'delayed',
    'failed',
    'gone',
    'lingering',
    'remembered',
    'waiting',
  ]);
  const reasons = last.jobs.flatMap(({ dlq }) => (dlq === undefined ? [] : (dlq as { reason: string }).reason));
  expect([...new Set(reasons)].sort()).toEqual([
    'attempts_exhausted',
    'dependency_failed',
    'expired',
    'moved',
    'result_unserialisable',
    'timeout',
    'unrecoverable',
  ]);
  const kinds = new Set(groupsOf().flatMap((group) => recordsOf(group).map(({ kind }) => kind)));
  const { KIND_GROUP, KIND_JOB_BASE, KIND_JOB_DELTA, KIND_JOB_GONE, KIND_QUEUE, KIND_OPENED, KIND_ENTRY } = F;
  const expected = [KIND_GROUP, KIND_JOB_BASE, KIND_JOB_DELTA, KIND_JOB_GONE, KIND_QUEUE, KIND_OPENED, KIND_ENTRY];
  expect([...kinds].sort((a, b) => a - b)).toEqual(expected.sort((a, b) => a - b));
});

function groupsOf(): Uint8Array[] {
  const groups: Uint8Array[][] = [];
  for (const [nth, batch] of tape.batches.entries()) {
    if (headerOf(nth).isFirst) groups.push([]);
    groups.at(-1)!.push(batch.subarray(F.BATCH_HEADER_BYTES));
  }
  return groups.map((parts) => new Uint8Array(Buffer.concat(parts)));
}

function recordsOf(group: Uint8Array): { kind: number; at: number }[] {
  const view = new DataView(group.buffer, group.byteOffset, group.length);
  const records: { kind: number; at: number }[] = [];
  for (let at = 0; at < group.length; at += view.getUint32(at, true)) records.push({ kind: group[at + F.R_KIND]!, at });
  return records;
}

describe('a crash', () => {
  test('after any step: the next engine knows what the one before it knew', async () => {
    for (const [count, { step, dump, now: at }] of moments) {
      expect(await known(tape.copy(count), at), step).toEqual(afterCrash(dump));
    }
  });

  test('between any two batches: a group is there as a whole, or not at all', async () => {
    let groups = 0;
    let expected: Dump | undefined;
    for (let count = 0; count <= tape.batches.length; count++) {
      const found = await known(tape.copy(count));
      if (whole(count) !== count) expect(found, `${count} batches`).toEqual(expected);
      else groups++;
      expected = found;
    }
    expect(groups).toBeGreaterThan(60);
    expect(tape.batches.length).toBeGreaterThan(groups + 1);
  });

  test('in the middle of a batch, at whatever byte: it is seen to be torn', () => {
    for (const [nth, batch] of tape.batches.entries()) {
      for (let bytes = 0; bytes < batch.length; bytes++) {
        const found = F.readBatch(batch.subarray(0, bytes), tape.first + nth);
        if (!('what' in found) || found.kind !== 'torn') expect.unreachable(`batch ${nth}, cut at ${bytes}`);
      }
    }
  });

  test('in the middle of a batch: the group is not there, and the log goes on behind it', async () => {
    for (let count = 0; count < tape.batches.length; count += STEP) {
      const { length } = tape.batches[count]!;
      const torn = cut(count, [0, 1, 5, 31, 32, 40, length - 1][count % 7]!);
      const expected = await known(tape.copy(count));
      expect(await known(torn), `batch ${count}`).toEqual(expected);
      expect(torn.batches.length).toBeGreaterThan(count + 1);
      expect(await known(torn), `batch ${count}, again`).toEqual(expected);
    }
  });

  test('that tears one batch after the other: each engine finds what was whole', async () => {
    const torn = cut(20, 50);
    const expected = await known(tape.copy(20));
    for (let times = 0; times < 3; times++) {
      const next = torn.copy();
      await known(next);
      torn.epoch = next.epoch;
      torn.batches.push(next.batches[torn.batches.length]!.slice(0, 45)); // the next one's first
    }
    expect(await known(torn)).toEqual(expected);
  });
});

describe('what no crash leaves', () => {
  test('a torn batch with others of the same engine behind it: refused', async () => {
    for (let nth = 0; nth < tape.batches.length - 1; nth += STEP) {
      const torn = tape.copy();
      torn.batches[nth] = torn.batches[nth]!.slice(0, (nth * 37) % torn.batches[nth]!.length);
      const { reason, message } = await refusal(torn);
      expect({ nth, reason }).toEqual({ nth, reason: 'damaged' });
      expect(message).toContain(`Batch ${tape.first + nth} `);
      expect(message).toContain('doctor({ dataDir })');
    }
  });

  test('a group without its end, or without its beginning, in the middle: refused', async () => {
    const nth = tape.batches.findIndex((_, at) => headerOf(at).isFirst && !headerOf(at).isLast);
    for (const missing of [nth, nth + 1]) {
      const damaged = tape.copy();
      damaged.batches.splice(missing, 1);
      // Renumbered, as by somebody who knows how.
      damaged.batches = damaged.batches.map((batch, at) => renumbered(batch, tape.first + at));
      expect((await refusal(damaged)).reason).toBe('damaged');
    }
  });

  test('any flipped bit, in the last batch too: refused', async () => {
    for (const [nth, batch] of tape.batches.entries()) {
      for (let bit = 0; bit < batch.length * 8; bit += bit < F.BATCH_HEADER_BYTES * 8 ? 1 : 7) {
        batch[bit >> 3]! ^= 1 << (bit & 7);
        const found = F.readBatch(batch, tape.first + nth);
        batch[bit >> 3]! ^= 1 << (bit & 7);
        if (!('what' in found) || found.kind !== 'damaged') expect.unreachable(`batch ${nth}, bit ${bit}`);
      }
      const flipped = tape.copy(nth + 1);
      flipped.batches[nth] = batch.slice();
      flipped.batches[nth]![(nth * 11) % batch.length]! ^= 4;
      expect((await refusal(flipped)).reason).toBe('damaged');
    }
  });

  test('a batch of another place: refused', async () => {
    const swapped = tape.copy();
    [swapped.batches[3], swapped.batches[4]] = [swapped.batches[4]!, swapped.batches[3]!];
    expect((await refusal(swapped)).message).toContain('it is number 5');
  });
});

function renumbered(batch: Uint8Array, number: number): Uint8Array {
  const header = F.readBatch(batch, new DataView(batch.buffer, batch.byteOffset).getFloat64(F.B_NUMBER, true));
  if ('what' in header) throw new Error(header.what);
  const again: Uint8Array[] = [];
  F.cutGroup(batch.subarray(F.BATCH_HEADER_BYTES), BATCH_BYTES, header.epoch, number, (made) => again.push(made));
  const [made] = again as [Buffer];
  made.writeUInt16LE((header.isFirst ? F.BATCH_FIRST : 0) | (header.isLast ? F.BATCH_LAST : 0), F.B_FLAGS);
  return F.seal(made);
}

describe('what a newer flashQ wrote', () => {
  test.each([
    ['a batch of a newer version', (batch: Buffer) => batch.writeUInt16LE(F.FORMAT_VERSION + 1, F.B_VERSION)],
    ['a record of an unknown kind', (batch: Buffer) => batch.writeUInt8(99, F.BATCH_HEADER_BYTES + F.R_KIND)],
  ])('%s: refused, with the way out', async (_, change) => {
    const newer = tape.copy();
    const nth = tape.batches.findIndex((_, at) => at > 10 && headerOf(at).isFirst);
    const batch = Buffer.from(newer.batches[nth]!);
    change(batch);
    newer.batches[nth] = F.seal(batch);
    const { reason, message } = await refusal(newer);
    expect(reason).toBe('version');
    expect(message).toContain('Open it with the flashQ that wrote it, or a newer one');
  });
});

describe('opening again', () => {
  test('without anything in between, as often as one likes, changes nothing', async () => {
    const again = tape.copy();
    const first = await known(again);
    for (let times = 0; times < 3; times++) expect(await known(again)).toEqual(first);
  });

  test('after an orderly end nothing was lost, and starts are not held', async () => {
    const store = new Tape();
    const queue = (engine: Engine) => new Queue('q', { connection: engine });
    const first = await Engine.open({ store, ...SMALL });
    expect((first.state as any).journal.isCareful).toBe(false);
    await queue(first).add('job', 1);
    const crashed = store.copy();
    await first.close();
    for (const [medium, isCareful] of [
      [store, false],
      [crashed, true],
    ] as const) {
      const next = await Engine.open({ store: medium, ...SMALL });
      expect((next.state as any).journal.isCareful).toBe(isCareful);
      expect(await queue(next).getJobCounts()).toMatchObject({ waiting: 1 });
      await next.close();
    }
  });
});

test.each(['fail', 'run-now'] as const)(
  'the end of another dependency is nothing to a dependent that waits no more, after reopening as before: %s',
  async (policy) => {
    const store = new Tape();
    const first = await Engine.open({ store, ...SMALL });
    const queue = new Queue('q', { connection: first });
    const parents = await queue.addBulk([1, 2].map((n) => ({ name: 'parent', data: n, opts: { delay: 1000 } })));
    const child = await queue.add('child', 3, { dependsOn: parents, onDependencyFailure: policy });
    await queue.cancel(parents[0]!);
    const before = await queue.getJob(child);
    expect(before!.failedReason === undefined).toBe(policy === 'run-now');
    const crashed = store.copy();
    await first.close();
    const next = await Engine.open({ store: crashed, ...SMALL });
    const again = new Queue('q', { connection: next });
    await again.cancel(parents[1]!);
    const after = await again.getJob(child);
    expect(await after!.getState()).toBe(policy === 'fail' ? 'failed' : 'waiting');
    expect(after!.failedReason).toBe(before!.failedReason);
    await next.close();
  },
);

test('a bulk of more jobs than fit a batch is there as a whole, or not at all', async () => {
  const store = new Tape([], { batchBytesMax: 1024 });
  const engine = await Engine.open({ store, ...SMALL });
  const before = store.batches.length;
  const items = Array.from({ length: 100 }, (_, n) => ({ name: 'n', data: { n }, opts: { jobId: `id-${n}` } }));
  await new Queue('q', { connection: engine }).addBulk(items);
  const after = store.batches.length;
  const lived = store.copy();
  await engine.close();
  expect(after - before).toBeGreaterThan(10);
  for (let count = before; count <= after; count++) {
    const { jobs } = await known(lived.copy(count));
    expect(jobs.length).toBe(count === after ? 100 : 0);
  }
});
