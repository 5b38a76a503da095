import { describe, expect, test } from 'vitest';
import { type Core, create, L, openCore, openQueue, random, word } from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

const utf8 = new TextEncoder();

/** A payload with an id and nothing else. */
function payloadOf(core: Core, id: Uint8Array): number {
  const bytes = new Uint8Array(L.P_CONTENT + id.length);
  new DataView(bytes.buffer).setUint16(L.P_ID_BYTES, id.length, true);
  bytes.set(id, L.P_CONTENT);
  return core.blockOf(L.ENGINE_THREAD, bytes);
}

function createNamed(core: Core, queue: number, id: string | Uint8Array): number {
  const bytes = typeof id === 'string' ? utf8.encode(id) : id;
  return create(core, queue, { payload: payloadOf(core, bytes), flags: L.FLAG_CUSTOM_ID });
}

function find(core: Core, queue: number, id: string | Uint8Array): number {
  const bytes = typeof id === 'string' ? utf8.encode(id) : id;
  const block = core.blockOf(L.ENGINE_THREAD, bytes);
  const slot = core.wasm.findId(queue, block, bytes.length) >>> 0;
  core.wasm.blockFree(block);
  return slot;
}

/** As the core's, for numbers below 2^32. */
function mix(value: number): number {
  let mixed = value >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b) >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35) >>> 0;
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

describe('the index', () => {
  test('finds 100,000 generated and 100,000 custom ids, and only those, as they come and go', () => {
    const core = openCore();
    const [one, two] = [openQueue(core), openQueue(core)];
    const next = random(31);
    const numbers = new Map<number, number>();
    const names = new Map<string, number>();
    const half = 50_000;
    const add = (i: number): void => {
      const slot = create(core, i % 2 === 0 ? one : two);
      numbers.set(core.number(slot), slot);
      // The same ids in both queues.
      const id = `job-${i >> 1}`;
      names.set(`${i % 2}:${id}`, createNamed(core, i % 2 === 0 ? one : two, id));
    };
    const checkAll = (): void => {
      for (const [number, slot] of numbers) if (core.findNumber(number) !== slot) throw new Error(`lost ${number}`);
      for (const [name, slot] of names) {
        if (find(core, name[0] === '0' ? one : two, name.slice(2)) !== slot) throw new Error(`lost ${name}`);
      }
      audit(core, one, two);
    };
    for (let i = 0; i < half; i++) add(i);
    checkAll();
    for (let i = half; i < 2 * half; i++) add(i);
    checkAll();
    expect(word(core, L.H_INDEX_BUCKETS)).toBe(200_000);
    const gone: (number | string)[] = [];
    for (const map of [numbers, names] as Map<number | string, number>[]) {
      for (const [key, slot] of map) {
        if (next() < 0.5) continue;
        core.wasm.jobRemove(slot);
        map.delete(key);
        gone.push(key);
      }
    }
    checkAll();
    for (const key of gone) {
      const slot =
        typeof key === 'number' ? core.findNumber(key) : find(core, key[0] === '0' ? one : two, key.slice(2));
      if (slot !== 0) throw new Error(`${key} was removed and is still found`);
    }
    for (const slot of [...numbers.values(), ...names.values()]) core.wasm.jobRemove(slot);
    expect(word(core, L.H_INDEX_COUNT)).toBe(0);
    audit(core, one, two);
  });

  test('grows by one bucket a job, so that no insertion pays for all', () => {
    const core = openCore('release');
    const queue = openQueue(core);
    for (let i = 0; i < L.INDEX_SEGMENT_BUCKETS; i++) create(core, queue);
    for (let i = 1; i <= 3 * L.INDEX_SEGMENT_BUCKETS; i++) {
      create(core, queue);
      if (word(core, L.H_INDEX_BUCKETS) !== L.INDEX_SEGMENT_BUCKETS + i) throw new Error(`not at ${i}`);
    }
    audit(core, queue);
  });

  test('keeps the same id in two queues apart', () => {
    const core = openCore();
    const [one, two] = [openQueue(core), openQueue(core)];
    const a = createNamed(core, one, 'x');
    expect(find(core, two, 'x')).toBe(0);
    const b = createNamed(core, two, 'x');
    expect([find(core, one, 'x'), find(core, two, 'x')]).toEqual([a, b]);
    core.wasm.jobRemove(a);
    expect([find(core, one, 'x'), find(core, two, 'x')]).toEqual([0, b]);
  });

  test('tells apart ids and numbers whose hashes are the same', () => {
    const core = openCore();
    const queue = openQueue(core);
    const names = ['a', 'b', 'ab', 'ba', ''];
    const slots = names.map((name) => createNamed(core, queue, name));
    const numbered = create(core, queue);
    const elsewhere = names.map((name) => createNamed(core, openQueue(core), name));
    const all = [...elsewhere, ...slots, numbered];
    // By hand: all in one chain, under one hash.
    for (const slot of all) core.wasm.indexRemove(slot);
    const rehash = (slot: number, hash: number): void => {
      core.setField(slot, L.S_HASH, hash);
      const bucket = (hash >>> 0) % word(core, L.H_INDEX_BUCKETS);
      const head = (word(core, L.INDEX_DIRECTORY_AT) + bucket * 4) >>> 2;
      core.setField(slot, L.S_INDEX_NEXT, core.u32[head]!);
      core.u32[head] = slot;
    };
    for (const name of names) {
      const probe = createNamed(core, queue, name);
      const hash = core.field(probe, L.S_HASH);
      core.wasm.jobRemove(probe);
      for (const slot of all.toReversed()) rehash(slot, hash); // those of other queues come first
      expect(find(core, queue, name), `the id "${name}"`).toBe(slots[names.indexOf(name)]);
      core.u32.fill(0, word(core, L.INDEX_DIRECTORY_AT) >>> 2, (word(core, L.INDEX_DIRECTORY_AT) + L.PAGE_BYTES) >>> 2);
    }
    for (const slot of all) {
      const number = core.number(slot);
      for (const one of all) rehash(one, mix(number ^ mix(0)));
      expect(core.findNumber(number), 'by number').toBe(slot === numbered ? numbered : 0);
      core.u32.fill(0, word(core, L.INDEX_DIRECTORY_AT) >>> 2, (word(core, L.INDEX_DIRECTORY_AT) + L.PAGE_BYTES) >>> 2);
    }
  });

  test('a custom id that reads like a generated one is another job', () => {
    const core = openCore();
    const queue = openQueue(core);
    const generated = create(core, queue);
    const number = core.number(generated);
    const custom = createNamed(core, queue, String(number));
    expect(core.findNumber(number)).toBe(generated);
    expect(find(core, queue, String(number))).toBe(custom);
    expect(core.findNumber(core.number(custom)), 'a job with a custom id has no other').toBe(0);
  });

  test('takes ids of any bytes and of 1 to 512 of them', () => {
    const core = openCore();
    const queue = openQueue(core);
    const ids = Array.from({ length: 512 }, (_, i) => new Uint8Array(i + 1).fill(i % 256));
    ids.push(new Uint8Array([0]), new Uint8Array([0, 0]), utf8.encode('日本語 🦄'));
    const unique = new Map(ids.map((id) => [Buffer.from(id).toString('hex'), id]));
    const slots = new Map([...unique].map(([key, id]) => [key, createNamed(core, queue, id)]));
    for (const [key, id] of unique) expect(find(core, queue, id)).toBe(slots.get(key));
  });

  test('spreads ids over its buckets', () => {
    const core = openCore('release');
    const queue = openQueue(core);
    for (let i = 0; i < 30_000; i++) {
      create(core, queue);
      createNamed(core, queue, `${i}`);
    }
    const lengths: number[] = [];
    for (let bucket = 0; bucket < word(core, L.H_INDEX_BUCKETS); bucket++) {
      const segment = word(core, L.INDEX_DIRECTORY_AT + Math.floor(bucket / L.INDEX_SEGMENT_BUCKETS) * 4);
      let length = 0;
      let slot = word(core, segment + (bucket % L.INDEX_SEGMENT_BUCKETS) * 4);
      for (; slot !== 0; slot = word(core, slot + L.S_INDEX_NEXT)) length++;
      lengths.push(length);
    }
    // One a bucket on average; a random function leaves none longer than 8 or 9 among 60,000.
    expect(Math.max(...lengths)).toBeLessThan(14);
  });

  test('is left once, whether or not it was entered', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slot = create(core, queue);
    core.wasm.indexRemove(slot);
    core.wasm.indexRemove(slot);
    expect(word(core, L.H_INDEX_COUNT)).toBe(0);
    expect(core.wasm.jobRemove(slot)).toBe(1);
    audit(core, queue);
  });

  test('keeps a remembered id, whose payload is replaced', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slot = createNamed(core, queue, 'kept');
    core.wasm.jobFinish(slot, L.STATE_COMPLETED, core.blockOf(L.ENGINE_THREAD, new Uint8Array(90)), 1);
    core.wasm.jobRemember(slot, payloadOf(core, utf8.encode('kept')), 500);
    expect(find(core, queue, 'kept')).toBe(slot);
    expect(core.state(slot)).toBe(L.STATE_REMEMBERED);
    expect(core.wasm.timerNext()).toBe(500);
    core.wasm.jobRemove(slot);
    expect(find(core, queue, 'kept')).toBe(0);
    expect(audit(core, queue).blocksLive).toBe(1);
  });
});
