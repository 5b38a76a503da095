/** That the store which fails on demand fails as it says: the crash tests rely on it. */
import { describe, expect, test } from 'vitest';
import type { LogSession } from '#engine/store/log-store.js';
import { FaultStore } from '../support/fault-store.js';
import { batchOf, loaded, reasonOf } from './stores.js';

async function opened(): Promise<{ store: FaultStore; session: LogSession }> {
  const store = new FaultStore();
  return { store, session: await store.open('log', 'a') };
}

/** What the next owner finds. */
async function found(store: FaultStore): Promise<Uint8Array[]> {
  return (await loaded(await store.open('log', 'next'))).batches;
}

const [one, two, three] = [batchOf(1), batchOf(2), batchOf(3)];

describe('a failing append', () => {
  test.each([
    ['torn', { kind: 'torn', bytes: 7 }, 'io', [one, two.subarray(0, 7)]],
    ['a failed sync, the batch lost', { kind: 'sync', kept: false }, 'io', [one]],
    ['a failed sync, the batch kept', { kind: 'sync', kept: true }, 'io', [one, two]],
    ['a full disk', { kind: 'full' }, 'full', [one]],
  ] as const)('%s', async (_, fault, reason, left) => {
    const { store, session } = await opened();
    store.failAt(2, fault);
    const appends = [one, two, three].map((batch) => session.append(batch));
    await appends[0];
    expect(await reasonOf(appends[1]!)).toBe(reason);
    expect(await reasonOf(appends[2]!)).toBe(reason);
    expect(await reasonOf(session.append(three))).toBe(reason);
    expect(await found(store)).toEqual(left);
  });

  test('the appends are counted over all sessions', async () => {
    const { store, session } = await opened();
    await session.append(one);
    store.failAt(2, { kind: 'full' });
    const next = await store.open('log', 'b');
    expect(await reasonOf(next.append(two))).toBe('full');
    expect(store.appends).toBe(2);
  });
});

test('a flipped bit goes unnoticed until the log is read', async () => {
  const { store, session } = await opened();
  store.failAt(1, { kind: 'flip', bit: 17 });
  await session.append(one);
  const expected = one.slice();
  expected[2]! ^= 2;
  expect(await found(store)).toEqual([expected]);
});

describe('a slow disk', () => {
  test('holds an append and all behind it until it is released, in order', async () => {
    const { store, session } = await opened();
    store.failAt(2, { kind: 'slow' });
    const done: bigint[] = [];
    const appends = [one, two, three].map(async (batch) => done.push(await session.append(batch)));
    await appends[0];
    expect(store.held).toBe(2);
    expect(store.kept).toEqual([one]);
    store.release(1);
    await appends[1];
    expect(store.held).toBe(1);
    store.release();
    await Promise.all(appends);
    expect(done).toEqual([1n, 2n, 3n]);
    expect(await found(store)).toEqual([one, two, three]);
  });

  test('whose release meets a fault fails what was behind it', async () => {
    const { store, session } = await opened();
    store.hold();
    store.failAt(1, { kind: 'full' });
    const appends = [one, two].map((batch) => reasonOf(session.append(batch)));
    store.release();
    expect(await Promise.all(appends)).toEqual(['full', 'full']);
    expect(await found(store)).toEqual([]);
  });
});

describe('a power loss', () => {
  test.each([0, 1, 2])('keeps what was synced, and the %i oldest of what was not', async (keep) => {
    const { store, session } = await opened();
    await session.append(one);
    store.hold();
    const lost = [two, three].map((batch) => reasonOf(session.append(batch)));
    store.crash({ keep });
    expect(await Promise.all(lost)).toEqual(['io', 'io']);
    expect(await reasonOf(session.append(one))).toBe('io');
    expect(await found(store)).toEqual([one, two, three].slice(0, 1 + keep));
  });

  test('ends the holding: the next owner appends at once, behind what is left', async () => {
    const { store, session } = await opened();
    store.hold();
    const lost = reasonOf(session.append(one));
    store.crash();
    await lost;
    const next = await store.open('log', 'b');
    expect(await next.append(two)).toBe(1n);
    expect(store.kept).toEqual([two]);
  });
});
