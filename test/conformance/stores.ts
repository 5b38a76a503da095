/** What every store keeps to. A place is one medium; each call of what it returns opens the store on it anew. */
import type { StoreError } from 'flashq';
import { describe, expect, test } from 'vitest';
import type { LogSession, LogStore } from '#engine/store/log-store.js';

export interface StoreHarness {
  readonly ack: LogStore['caps']['ack'];
  /** Whatever it is asked for, it is the same log. */
  readonly oneLog?: boolean;
  place(): Place;
}

export interface Place {
  store(): LogStore;
  /** Makes the log `part` one of a newer flashQ. Absent where a newer one can't be. */
  makeNewer?(part: string): Promise<void>;
}

const PART = 'log';

/** A batch that says which one it is: no two bytes of it agree with those of its neighbours. */
export function batchOf(n: number, bytes = 40): Uint8Array {
  const batch = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at++) batch[at] = n * 31 + at * 7 + (at >> 8);
  return batch;
}

export async function loaded(
  session: LogSession,
): Promise<{ positions: bigint[]; batches: Uint8Array[]; next: bigint }> {
  const positions: bigint[] = [];
  const batches: Uint8Array[] = [];
  const next = await session.load((position, batch) => {
    positions.push(position);
    batches.push(Uint8Array.from(batch));
  });
  return { positions, batches, next };
}

/** Why it rejects. */
export async function reasonOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'resolved',
    (error: StoreError) => error.reason ?? error.name,
  );
}

function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, n) => from + n);
}

export function stores({ ack, oneLog = false, place }: StoreHarness): void {
  describe('appending', () => {
    test('an empty log loads nothing, and says where it begins', async () => {
      const session = await place().store().open(PART, 'a');
      const { batches, next } = await loaded(session);
      expect(batches).toEqual([]);
      expect(await session.append(batchOf(1))).toBe(next);
      await session.close();
    });

    test('it says what a resolved append has survived', () => {
      expect(place().store().caps.ack).toBe(ack);
    });

    test('positions follow one another, and pipelined appends resolve in their order', async () => {
      const session = await place().store().open(PART, 'a');
      const resolved: bigint[] = [];
      const appends = range(0, 200).map(async (n) => {
        resolved.push(await session.append(batchOf(n)));
      });
      await Promise.all(appends);
      expect(resolved).toEqual(range(0, 200).map((n) => resolved[0]! + BigInt(n)));
      await session.close();
    });

    test('the caller may reuse the bytes of a batch as soon as append has returned', async () => {
      const at = place();
      const session = await at.store().open(PART, 'a');
      const bytes = batchOf(1);
      const appends = [session.append(bytes)];
      bytes.set(batchOf(2));
      appends.push(session.append(bytes));
      bytes.fill(0);
      await Promise.all(appends);
      await session.close();
      const again = await at.store().open(PART, 'a');
      expect((await loaded(again)).batches).toEqual([batchOf(1), batchOf(2)]);
      await again.close();
    });

    test('a batch may lie in shared memory, in the middle of a buffer, or be empty', async () => {
      const at = place();
      const session = await at.store().open(PART, 'a');
      const shared = new Uint8Array(new SharedArrayBuffer(40));
      shared.set(batchOf(1));
      const inside = new Uint8Array(100).subarray(30, 70);
      inside.set(batchOf(2));
      await Promise.all([session.append(shared), session.append(inside), session.append(new Uint8Array(0))]);
      await session.close();
      const again = await at.store().open(PART, 'a');
      expect((await loaded(again)).batches).toEqual([batchOf(1), batchOf(2), new Uint8Array(0)]);
      await again.close();
    });

    test.each([
      ['300 KB', 300 * 1024, 5],
      ['1 MB', 1 << 20, 5],
      ['1 byte', 1, 600],
    ])('batches of %s come back as they were', async (_, bytes, count) => {
      const at = place();
      const session = await at.store().open(PART, 'a');
      await Promise.all(range(0, count).map((n) => session.append(batchOf(n, bytes))));
      await session.close();
      const again = await at.store().open(PART, 'a');
      const { batches, positions } = await loaded(again);
      expect(positions.length).toBe(count);
      expect(batches.every((batch, n) => Buffer.compare(batch, batchOf(n, bytes)) === 0)).toBe(true);
      await again.close();
    });
  });

  describe('reopening', () => {
    test('gives the same batches at the same positions, and goes on behind them', async () => {
      const at = place();
      const first = await at.store().open(PART, 'a');
      const positions: bigint[] = [];
      for (const n of range(0, 20)) positions.push(await first.append(batchOf(n)));
      await first.close();
      const second = await at.store().open(PART, 'a');
      const log = await loaded(second);
      expect(log.positions).toEqual(positions);
      expect(log.batches).toEqual(range(0, 20).map((n) => batchOf(n)));
      expect(log.next).toBe(positions.at(-1)! + 1n);
      expect(await second.append(batchOf(20))).toBe(log.next);
      await second.close();
    });

    test('the epoch grows with every opening', async () => {
      const at = place();
      const epochs: bigint[] = [];
      for (let n = 0; n < 4; n++) {
        const session = await at.store().open(PART, 'a');
        epochs.push(session.epoch);
        await session.close();
      }
      expect(epochs).toEqual([...epochs].sort((a, b) => Number(a - b)));
      expect(new Set(epochs).size).toBe(4);
    });

    test('load waits for each batch to be taken', async () => {
      const at = place();
      const session = await at.store().open(PART, 'a');
      for (const n of range(0, 5)) await session.append(batchOf(n));
      await session.close();
      const again = await at.store().open(PART, 'a');
      let taking = 0;
      const taken: bigint[] = [];
      await again.load(async (position) => {
        expect(++taking).toBe(1);
        await new Promise((resolve) => setImmediate(resolve));
        taken.push(position);
        taking--;
      });
      expect(taken.length).toBe(5);
      await again.close();
    });

    test('what the taker of a batch throws ends the loading', async () => {
      const at = place();
      const session = await at.store().open(PART, 'a');
      await session.append(batchOf(1));
      const refused = new Error('not mine');
      await session.close();
      const again = await at.store().open(PART, 'a');
      await expect(again.load(() => Promise.reject(refused))).rejects.toBe(refused);
      await again.close();
    });
  });

  describe('owners', () => {
    test('a second opening fences the first off, and tells it by whom', async () => {
      const at = place();
      const first = await at.store().open(PART, 'first');
      await first.append(batchOf(1));
      const second = await at.store().open(PART, 'second');
      expect(second.epoch).toBeGreaterThan(first.epoch);
      const error = await first.append(batchOf(2)).catch((thrown: StoreError) => thrown);
      expect(error).toMatchObject({ reason: 'fenced', code: 'FLASHQ_STORE' });
      expect((error as StoreError).message).toContain('second');
      expect((await first.lost).reason).toBe('fenced');
      await second.append(batchOf(3));
      await first.close();
      await second.append(batchOf(4)); // the first one's closing takes nothing from it
      await second.close();
      const third = await at.store().open(PART, 'third');
      expect((await loaded(third)).batches).toEqual([1, 3, 4].map((n) => batchOf(n)));
      await third.close();
    });

    test('a deposed owner can not truncate', async () => {
      const at = place();
      const first = await at.store().open(PART, 'a');
      await first.append(batchOf(1));
      const next = (await first.append(batchOf(2))) + 1n;
      const second = await at.store().open(PART, 'b');
      expect(await reasonOf(first.truncate(next))).toBe('fenced');
      expect((await loaded(second)).batches.length).toBe(2);
      await first.close();
      await second.close();
    });

    test('after a failure every later append fails too', async () => {
      const at = place();
      const first = await at.store().open(PART, 'a');
      const second = await at.store().open(PART, 'b');
      const appends = range(0, 5).map((n) => first.append(batchOf(n)));
      for (const append of appends) expect(await reasonOf(append)).toBe('fenced');
      expect(await reasonOf(first.append(batchOf(9)))).toBe('fenced');
      await first.close();
      expect((await loaded(second)).batches).toEqual([]);
      await second.close();
    });
  });

  describe('truncating', () => {
    test('forgets all before the position, for good, and positions go on', async () => {
      const at = place();
      const first = await at.store().open(PART, 'a');
      const positions: bigint[] = [];
      for (const n of range(0, 400)) positions.push(await first.append(batchOf(n)));
      await first.truncate(positions[300]!);
      const after = await first.append(batchOf(400));
      await first.close();
      const second = await at.store().open(PART, 'a');
      const log = await loaded(second);
      expect(log.positions).toEqual([...positions.slice(300), after]);
      expect(log.batches).toEqual(range(300, 101).map((n) => batchOf(n)));
      await second.close();
    });

    test('a log of which all was forgotten still knows its next position', async () => {
      const at = place();
      const first = await at.store().open(PART, 'a');
      await first.append(batchOf(1));
      const last = await first.append(batchOf(2));
      await first.truncate(last + 1n);
      await first.close();
      const second = await at.store().open(PART, 'a');
      expect(await loaded(second)).toEqual({ positions: [], batches: [], next: last + 1n });
      expect(await second.append(batchOf(3))).toBe(last + 1n);
      await second.close();
    });

    test('positions before the oldest, and behind the last, are fine', async () => {
      const session = await place().store().open(PART, 'a');
      const first = await session.append(batchOf(1));
      await session.truncate(0n);
      await session.truncate(first + 1000n);
      await session.truncate(first);
      expect(await session.append(batchOf(2))).toBe(first + 1n);
      await session.close();
    });

    test('appends and truncations may be under way at once', async () => {
      const at = place();
      const session = await at.store().open(PART, 'a');
      const under: Promise<unknown>[] = [];
      for (const n of range(0, 300)) {
        const append = session.append(batchOf(n));
        under.push(append);
        if (n % 50 === 49) under.push(append.then((position) => session.truncate(position - 10n)));
      }
      await Promise.all(under);
      await session.close();
      const again = await at.store().open(PART, 'a');
      expect((await loaded(again)).batches).toEqual(range(289, 11).map((n) => batchOf(n)));
      await again.close();
    });
  });

  describe('closing', () => {
    test('waits for what is under way, and may be called again', async () => {
      const at = place();
      const session = await at.store().open(PART, 'a');
      const appends = range(0, 20).map((n) => session.append(batchOf(n)));
      await Promise.all([session.close(), session.close()]);
      expect((await Promise.all(appends)).length).toBe(20);
      const again = await at.store().open(PART, 'a');
      expect((await loaded(again)).batches.length).toBe(20);
      await again.close();
    });

    test('calls after it reject', async () => {
      const session = await place().store().open(PART, 'a');
      await session.close();
      expect(await reasonOf(session.append(batchOf(1)))).toBe('EngineClosedError');
      expect(await reasonOf(session.truncate(1n))).toBe('EngineClosedError');
      expect(await reasonOf(session.load(() => {}))).toBe('EngineClosedError');
    });
  });

  test.skipIf(oneLog)('two logs of a store know nothing of each other', async () => {
    const store = place().store();
    const one = await store.open('one', 'a');
    const other = await store.open('other', 'b');
    await one.append(batchOf(1));
    await other.append(batchOf(2));
    await one.close();
    await other.close();
    const again = await store.open('one', 'a');
    expect((await loaded(again)).batches).toEqual([batchOf(1)]);
    await again.close();
  });

  const newer = place().makeNewer === undefined ? test.skip : test;
  newer('a log of a newer flashQ is refused, and left as it is', async () => {
    const at = place();
    const session = await at.store().open(PART, 'a');
    await session.append(batchOf(1));
    await session.close();
    await at.makeNewer!(PART);
    expect(await reasonOf(at.store().open(PART, 'a'))).toBe('version');
    expect(await reasonOf(at.store().open(PART, 'a'))).toBe('version');
  });
}
