import { describe, expect, test } from 'vitest';
import {
  bytesOf,
  type Core,
  chunksUsed,
  L,
  openCore,
  openQueue,
  openThread,
  ownerOf,
  push,
  random,
  setWord,
  word,
} from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

/** As the core's: steps of 16 to 256, four a doubling to 16,384, then three and two blocks a chunk; the header included. */
const CLASS_BYTES: readonly number[] = [
  ...Array.from({ length: 16 }, (_, i) => (i + 1) * 16),
  ...[256, 512, 1024, 2048, 4096, 8192].flatMap((low) => [1, 2, 3, 4].map((quarter) => low + (quarter * low) / 4)),
  21792,
  L.BLOCK_BYTES_MAX,
];

const LARGE_SIZES = [
  L.BLOCK_BYTES_MAX - L.BLOCK_HEADER_BYTES + 1,
  L.LARGE_FIRST_BYTES - 1,
  L.LARGE_FIRST_BYTES,
  L.LARGE_FIRST_BYTES + 1,
  L.LARGE_FIRST_BYTES + L.LARGE_PART_BYTES,
  L.LARGE_FIRST_BYTES + L.LARGE_PART_BYTES + 1,
  1_000_000,
  10_000_000,
];

function alloc(core: Core, thread: number, bytes: number): number {
  const block = core.wasm.blockAlloc(thread, bytes) >>> 0;
  if (block === 0) throw new Error('memory is full');
  return block;
}

/** Takes over what a thread has published; the block, or 0 when nothing is there. */
function receive(core: Core, thread: number): number {
  const entry = core.wasm.submitPeek(thread) >>> 0;
  if (entry === 0) return 0;
  const block = word(core, entry + L.E_BLOCK);
  core.wasm.submitTake(thread);
  return block;
}

/** Hands a thread's block to the engine, as a submit does. */
function handOver(core: Core, thread: number, block: number): void {
  core.wasm.submitPublish(thread, 0, 0, 0, block);
  expect(receive(core, thread)).toBe(block);
}

function expectSame(actual: Uint8Array, expected: Uint8Array, what: string): void {
  // Buffer.compare: vitest's own equality takes seconds for megabytes.
  if (Buffer.compare(actual, expected) !== 0) throw new Error(`${what}: the bytes read are not those written`);
}

describe('a block', () => {
  test('of every size gives back what was written', () => {
    const core = openCore();
    const sizes = new Set<number>([0]);
    for (let size = 1; size <= 2_100; size++) sizes.add(size);
    for (const total of CLASS_BYTES) for (const near of [-1, 0, 1]) sizes.add(total - L.BLOCK_HEADER_BYTES + near);
    const blocks: { block: number; bytes: Uint8Array }[] = [];
    for (const size of [...sizes, ...LARGE_SIZES]) {
      const bytes = bytesOf(size, size);
      const block = core.blockOf(L.ENGINE_THREAD, bytes) >>> 0;
      expect(block % 8, `alignment of a block of ${size}`).toBe(0);
      blocks.push({ block, bytes });
    }
    // All are written before any is read: an overlap shows.
    for (const { block, bytes } of blocks) {
      expect(core.blockLength(block)).toBe(bytes.length);
      expectSame(core.blockRead(block, 0, bytes.length), bytes, `a block of ${bytes.length}`);
    }
    audit(core);
    for (const { block } of blocks) core.wasm.blockFree(block);
    audit(core);
  });

  test('takes the smallest class that holds it', () => {
    const core = openCore();
    for (const [index, total] of CLASS_BYTES.entries()) {
      for (const size of [total - L.BLOCK_HEADER_BYTES, (CLASS_BYTES[index - 1] ?? L.BLOCK_HEADER_BYTES - 1) - 7]) {
        const block = alloc(core, L.ENGINE_THREAD, size);
        const chunk = block - (block % L.PAGE_BYTES);
        expect(word(core, chunk + L.C_CLASS), `class of ${size} bytes`).toBe(index);
        expect(word(core, chunk + L.C_CAPACITY)).toBe(Math.floor((L.PAGE_BYTES - L.CHUNK_HEADER_BYTES) / total));
      }
    }
    expect(CLASS_BYTES).toHaveLength(L.SIZE_CLASSES);
  });

  test('is read and written in pieces across the borders of its parts', () => {
    const core = openCore();
    const next = random(7);
    const length = L.LARGE_FIRST_BYTES + 3 * L.LARGE_PART_BYTES + 77;
    const expected = bytesOf(length, 1);
    const block = alloc(core, L.ENGINE_THREAD, length);
    core.blockWrite(block, 0, expected);
    const borders = [0, 1, 2, 3].map((part) => L.LARGE_FIRST_BYTES + part * L.LARGE_PART_BYTES);
    for (let i = 0; i < 400; i++) {
      const near = i % 2 === 0 ? borders[i % 4]! - 20 + Math.floor(next() * 40) : Math.floor(next() * length);
      const offset = Math.min(near, length - 1);
      const count = Math.floor(next() ** 3 * (length - offset));
      const piece = bytesOf(count, i);
      core.blockWrite(block, offset, piece);
      expected.set(piece, offset);
      expectSame(core.blockRead(block, offset, count), piece, `${count} bytes at ${offset}`);
    }
    expectSame(core.blockRead(block, 0, length), expected, 'the whole block');
  });

  test('lives until its last reader is done', () => {
    const core = openCore();
    const block = core.blockOf(L.ENGINE_THREAD, bytesOf(100, 1));
    core.wasm.blockRetain(block);
    core.wasm.blockRetain(block);
    core.wasm.blockFree(block);
    core.wasm.blockFree(block);
    expect(alloc(core, L.ENGINE_THREAD, 100)).not.toBe(block);
    expectSame(core.blockRead(block, 0, 100), bytesOf(100, 1), 'a block with a reader');
    core.wasm.blockFree(block);
    expect(alloc(core, L.ENGINE_THREAD, 100)).toBe(block);
  });

  test('of more bytes than there can be is refused, and takes nothing', () => {
    const core = openCore('verify', 64);
    const used = chunksUsed(core);
    for (const bytes of [0xffffffff, 0xfffffff8, 0xfffffff7, 0x80000000]) {
      expect(core.wasm.blockAlloc(L.ENGINE_THREAD, bytes), `${bytes} bytes`).toBe(0);
    }
    expect(chunksUsed(core)).toBe(used);
    audit(core);
  });
});

describe('freed blocks', () => {
  test('are used again before memory that was never touched', () => {
    const core = openCore();
    for (const size of [1, 300, 5_000, 32_000, 200_000]) {
      const blocks = Array.from({ length: 300 }, () => alloc(core, L.ENGINE_THREAD, size));
      const touched = word(core, L.H_CHUNKS_TOUCHED);
      for (let round = 0; round < 5; round++) {
        for (const block of blocks) core.wasm.blockFree(block);
        for (const i of blocks.keys()) blocks[i] = alloc(core, L.ENGINE_THREAD, size);
      }
      expect(new Set(blocks).size).toBe(300);
      expect(word(core, L.H_CHUNKS_TOUCHED), `chunks touched by blocks of ${size}`).toBe(touched);
      for (const block of blocks) core.wasm.blockFree(block);
    }
    audit(core);
  });

  test('give their chunks to other sizes when nothing else lives in them', () => {
    const core = openCore();
    const before = chunksUsed(core);
    const next = random(3);
    for (const size of [16, 200, 4_000, 30_000]) {
      const blocks = Array.from({ length: 20_000_000 / (size + 40) / 4 }, () => alloc(core, L.ENGINE_THREAD, size));
      for (let i = blocks.length - 1; i > 0; i--) {
        const other = Math.floor(next() * (i + 1));
        [blocks[i], blocks[other]] = [blocks[other]!, blocks[i]!];
      }
      for (const block of blocks) core.wasm.blockFree(block);
      audit(core);
    }
    // What stays: the chunk that is being carved, one a class.
    expect(chunksUsed(core) - before).toBeLessThanOrEqual(4);
  });

  test('of a large payload give back every part', () => {
    const core = openCore();
    const before = chunksUsed(core);
    const block = alloc(core, L.ENGINE_THREAD, 10_000_000);
    expect(chunksUsed(core) - before).toBe(Math.ceil((10_000_000 + L.BLOCK_HEADER_BYTES) / L.LARGE_PART_BYTES));
    core.wasm.blockFree(block);
    expect(chunksUsed(core)).toBe(before);
  });
});

describe('blocks of other threads', () => {
  test('never share a chunk that another thread carves', () => {
    const core = openCore();
    const threads = [openThread(core), openThread(core), L.ENGINE_THREAD];
    for (let i = 0; i < 3_000; i++) {
      const thread = threads[i % 3]!;
      const block = alloc(core, thread, 300);
      expect(ownerOf(core, block)).toBe(thread);
      if (thread !== L.ENGINE_THREAD) handOver(core, thread, block);
    }
    audit(core);
  });

  test("become the engine's with their entry, and are used again by it", () => {
    const core = openCore();
    const thread = openThread(core);
    const block = alloc(core, thread, 40);
    core.blockWrite(block, 0, bytesOf(40, 9));
    expect(word(core, block + L.B_REFS)).toBe(L.BLOCK_HELD);
    handOver(core, thread, block);
    expect(word(core, block + L.B_REFS)).toBe(1);
    expectSame(core.blockRead(block, 0, 40), bytesOf(40, 9), 'a block handed over');
    core.wasm.blockFree(block);
    // The thread goes on carving; the engine takes what it freed in the same chunk.
    expect(alloc(core, L.ENGINE_THREAD, 40)).toBe(block);
    expect(alloc(core, thread, 40)).not.toBe(block);
    audit(core);
  });

  test('give back a chunk once it is carved to its end and all of it is free', () => {
    const core = openCore();
    const thread = openThread(core);
    const before = chunksUsed(core);
    for (let i = 0; i < 50_000; i++) {
      const block = alloc(core, thread, 1_000);
      handOver(core, thread, block);
      core.wasm.blockFree(block);
      if (i % 1_000 === 0) core.wasm.sealedCollect();
    }
    core.wasm.sealedCollect();
    expect(chunksUsed(core) - before).toBeLessThanOrEqual(2);
    audit(core);
  });

  test('large ones change owner in all their parts', () => {
    const core = openCore();
    const thread = openThread(core);
    const bytes = bytesOf(300_000, 4);
    const block = core.blockOf(thread, bytes);
    handOver(core, thread, block);
    for (let part = 0; part < 5; part++) {
      expect(ownerOf(core, core.wasm.blockPart(block, part) >>> 0)).toBe(L.ENGINE_THREAD);
    }
    expectSame(core.blockRead(block, 0, bytes.length), bytes, 'a large block handed over');
  });
});

describe('a dead thread', () => {
  function reap(core: Core, thread: number): number[] {
    core.wasm.threadDied(thread);
    const received: number[] = [];
    for (let block = receive(core, thread); block !== 0; block = receive(core, thread)) received.push(block);
    core.wasm.chunksReap(thread);
    core.wasm.threadFree(thread);
    return received;
  }

  test('gives back all but what it had handed over', () => {
    const core = openCore();
    const before = chunksUsed(core);
    const thread = openThread(core);
    const published: { block: number; bytes: Uint8Array }[] = [];
    for (const size of [10, 500, 20_000, 500_000]) {
      const bytes = bytesOf(size, size);
      const block = core.blockOf(thread, bytes);
      core.wasm.submitPublish(thread, 0, 0, 0, block);
      published.push({ block, bytes });
    }
    alloc(core, thread, 700); // in its hands when it ends
    expect(reap(core, thread)).toEqual(published.map(({ block }) => block));
    for (const { block, bytes } of published) {
      expectSame(core.blockRead(block, 0, bytes.length), bytes, 'a block handed over before the end');
      expect(ownerOf(core, block)).toBe(L.ENGINE_THREAD);
    }
    audit(core);
    for (const { block } of published) core.wasm.blockFree(block);
    expect(chunksUsed(core)).toBe(before);
    audit(core);
  });

  test('gives back a large block that it never handed over', () => {
    const core = openCore();
    const before = chunksUsed(core);
    const thread = openThread(core);
    alloc(core, thread, 900_000);
    reap(core, thread);
    expect(chunksUsed(core)).toBe(before);
  });

  test.each([
    ['took a chunk and wrote nothing in it', true, true],
    ['took a chunk and did not count it', false, true],
    ['passed the last page ever used and took none', true, false],
  ])('that %s leaves no chunk behind', (_what, counted, taken) => {
    const core = openCore();
    const thread = openThread(core);
    const page = word(core, L.H_CHUNKS_TOUCHED);
    setWord(core, L.H_CHUNKS_TOUCHED, page + 1);
    if (taken) core.u16[(L.OWNERS_AT >>> 1) + page] = thread;
    if (taken && counted) setWord(core, L.H_CHUNKS_USED, chunksUsed(core) + 1);
    reap(core, thread);
    expect(ownerOf(core, page * L.PAGE_BYTES)).toBe(0);
    // The page is found again, whatever the counters say.
    const block = alloc(core, L.ENGINE_THREAD, 20_000_000);
    const pages = new Set<number>();
    for (let part = 0; part < 20_000_000 / L.LARGE_PART_BYTES; part++) {
      pages.add(Math.floor((core.wasm.blockPart(block, part) >>> 0) / L.PAGE_BYTES));
    }
    expect(pages.has(page)).toBe(true);
  });

  test('that stopped between pushing a carved chunk and forgetting it frees it once', () => {
    const core = openCore();
    const thread = openThread(core);
    const capacity = Math.floor((L.PAGE_BYTES - L.CHUNK_HEADER_BYTES) / 21792);
    const blocks = Array.from({ length: capacity }, () => {
      const block = alloc(core, thread, 21_000);
      handOver(core, thread, block);
      return block;
    });
    const chunk = blocks[0]! - (blocks[0]! % L.PAGE_BYTES);
    // By hand: sealedPush has been done, `current` still names the chunk.
    setWord(core, chunk + L.C_NEXT_PART, word(core, L.H_SEALED));
    setWord(core, L.H_SEALED, chunk);
    reap(core, thread);
    expect(ownerOf(core, chunk)).toBe(L.ENGINE_THREAD);
    expect(word(core, chunk + L.C_LIVE)).toBe(capacity);
    audit(core);
    for (const block of blocks) core.wasm.blockFree(block);
    expect(ownerOf(core, chunk)).toBe(0);
  });

  test('leaves its index to a thread that starts with nothing of it', () => {
    const core = openCore();
    const first = openThread(core);
    for (let i = 0; i < 100; i++) {
      const block = alloc(core, first, 100);
      handOver(core, first, block);
    }
    reap(core, first);
    const second = openThread(core);
    expect(second).toBe(first);
    expect(core.wasm.submitPeek(second)).toBe(0);
    expect(core.wasm.submitSpace(second)).toBe(L.SUBMIT_RING_ENTRIES);
    expect(core.wasm.runsActive(second)).toBe(0);
    const block = alloc(core, second, 100);
    expect(ownerOf(core, block)).toBe(second);
    audit(core);
  });
});

describe('addresses above 2 GiB', () => {
  const HIGH = 0x8000_0000;

  test('work for slots, blocks, large payloads, levels, timers and the index', () => {
    const core = openCore();
    // The pages below count as touched and taken: the next chunks lie above 2 GiB.
    const page = HIGH / L.PAGE_BYTES + 3;
    core.u16.fill(L.ENGINE_THREAD, (L.OWNERS_AT >>> 1) + word(core, L.H_CHUNKS_TOUCHED), (L.OWNERS_AT >>> 1) + page);
    setWord(core, L.H_CHUNKS_USED, page - L.CHUNK_FIRST);
    setWord(core, L.H_CHUNKS_TOUCHED, page);
    setWord(core, L.H_CHUNK_HINT, page);

    const queue = openQueue(core);
    const thread = openThread(core, queue);
    expect(queue).toBeGreaterThan(HIGH);
    const slots: number[] = [];
    for (let i = 0; i < 3_000; i++) {
      const id = new TextEncoder().encode(`id-${i}`);
      const bytes = new Uint8Array(L.P_CONTENT + id.length + (i % 500 === 0 ? 200_000 : i));
      new DataView(bytes.buffer).setUint16(L.P_ID_BYTES, id.length, true);
      bytes.set(id, L.P_CONTENT);
      const payload = core.blockOf(L.ENGINE_THREAD, bytes);
      expect(payload).toBeGreaterThan(HIGH);
      slots.push(
        push(core, queue, { priority: (i * 7919) % 100, payload, flags: L.FLAG_CUSTOM_ID, expiry: 10_000 - i }),
      );
      expectSame(core.blockRead(payload, 0, bytes.length), bytes, 'a payload above 2 GiB');
      expect(core.wasm.findId(queue, payload + L.P_CONTENT, id.length) >>> 0).toBe(slots[i]);
    }
    expect(Math.min(...slots)).toBeGreaterThan(HIGH);
    let before = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 3_000; i++) {
      const slot = core.wasm.claim(thread, queue, 0, 5) >>> 0;
      expect(slot).toBeGreaterThan(HIGH);
      expect(core.priority(slot)).toBeLessThanOrEqual(before);
      before = core.priority(slot);
      const result = core.blockOf(thread, bytesOf(i % 700 === 0 ? 100_000 : 100, i));
      core.wasm.outcomePublish(thread, L.OUTCOME_COMPLETED, 0, result, 6, 0);
      const entry = core.wasm.outcomePeek(thread) >>> 0;
      expect(core.wasm.runComplete(word(core, entry), word(core, entry + 4), result, 6) >>> 0).toBe(slot);
      core.wasm.outcomeTake(thread);
      core.wasm.jobRemove(slot);
    }
    expect(core.wasm.claim(thread, queue, 0, 5)).toBe(L.CLAIM_EMPTY);
    expect(word(core, L.H_SLOTS_LIVE)).toBe(0);
  });
});
