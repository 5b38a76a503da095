import { describe, expect, test } from 'vitest';
import {
  type Core,
  cancel,
  claim,
  create,
  drain,
  L,
  openCore,
  openQueue,
  openTinyCore,
  push,
  random,
  settleLimbo,
  setWord,
  tinyMemory,
  upkeep,
  word,
} from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

/** A block that takes one chunk for itself. */
const CHUNK_BYTES = 60_000;

/** Takes all that there is, to the last block of every size; the blocks that took a chunk each. */
function exhaust(core: Core): number[] {
  const chunks: number[] = [];
  for (let block = reserved(core, CHUNK_BYTES); block !== 0; block = reserved(core, CHUNK_BYTES)) chunks.push(block);
  for (let bytes = L.BLOCK_BYTES_MAX - L.BLOCK_HEADER_BYTES; bytes > 0; bytes -= 8) while (reserved(core, bytes) !== 0);
  return chunks;
}

function reserved(core: Core, bytes: number): number {
  return core.wasm.blockAllocReserved(bytes) >>> 0;
}

const memory = tinyMemory(64);

describe('a core that is full', () => {
  interface Attempt {
    readonly core: Core;
    readonly queue: number;
    /** Jobs that are waiting, one with an expiry, at priority 0; then one that is active, and one in no state yet. */
    readonly waiting: readonly number[];
    readonly active: number;
    readonly fresh: number;
  }

  /** A step that needs memory, and how to tell that it was done. Each answers 0 or false without it. */
  const STEPS: readonly (readonly [string, (on: Attempt) => number, (on: Attempt, answer: number) => void])[] = [
    [
      'a job made ready at a new priority',
      ({ core, fresh }) => core.wasm.jobReady(fresh, 0),
      ({ core, queue, fresh }) => expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBe(fresh),
    ],
    [
      'a job made ready in the head lane of a new priority',
      ({ core, fresh }) => core.wasm.jobReady(fresh, 1),
      ({ core, queue, fresh }) => expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBe(fresh),
    ],
    [
      'a job made ready quietly',
      ({ core, fresh }) => core.wasm.jobReadyQuiet(fresh),
      ({ core, queue, fresh }) => {
        core.wasm.queueMark(queue, core.priority(fresh));
        expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBe(fresh);
      },
    ],
    [
      'a run put back at the tail',
      ({ core, active }) => core.wasm.jobReady(active, 0),
      ({ core, active }) => expect(core.state(active)).toBe(L.STATE_WAITING),
    ],
    [
      'a run put back first',
      ({ core, active }) => core.wasm.jobReady(active, 1),
      ({ core, queue, active }) => expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBe(active),
    ],
    [
      'a run delayed',
      ({ core, active }) => core.wasm.jobDelay(active, 70),
      ({ core, active }) => expect(core.wasm.timerPop(70) >>> 0).toBe(active),
    ],
    [
      'a job delayed',
      ({ core, fresh }) => core.wasm.jobDelay(fresh, 70),
      ({ core, fresh }) => expect(core.state(fresh)).toBe(L.STATE_DELAYED),
    ],
    [
      'an expiring job blocked',
      ({ core, fresh }) => {
        core.setTime(fresh, L.S_EXPIRY, 90);
        return core.wasm.jobBlock(fresh);
      },
      ({ core, fresh }) => expect(core.wasm.timerPop(90) >>> 0).toBe(fresh),
    ],
    [
      'an expiring job made ready',
      ({ core, fresh }) => {
        core.setTime(fresh, L.S_EXPIRY, 90);
        return core.wasm.jobReady(fresh, 0);
      },
      ({ core, fresh }) => expect(core.wasm.timerPop(90) >>> 0).toBe(fresh),
    ],
    [
      'a waiting job moved to a new priority',
      ({ core, waiting }) => core.wasm.jobPrioritise(waiting[2]!, 0x12345678, 0),
      ({ core, queue, waiting }) => expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBe(waiting[2]),
    ],
    [
      'a waiting job moved to the front of another priority',
      ({ core, waiting }) => core.wasm.jobPrioritise(waiting[2]!, -0x12345678, 1),
      ({ core, waiting }) => expect(core.priority(waiting[2]!)).toBe(-0x12345678),
    ],
    [
      'a finished job remembered',
      ({ core, fresh }) => {
        if (core.state(fresh) === L.STATE_FREE) core.wasm.jobFinish(fresh, L.STATE_FAILED, 0, 1);
        return core.wasm.jobRemember(fresh, 0, 80);
      },
      ({ core, fresh }) => expect(core.state(fresh)).toBe(L.STATE_REMEMBERED),
    ],
    [
      'a finished job lingering',
      ({ core, fresh }) => {
        if (core.state(fresh) === L.STATE_FREE) core.wasm.jobFinish(fresh, L.STATE_FAILED, 0, 1);
        return core.wasm.jobLinger(fresh, 80);
      },
      ({ core, fresh }) => expect(core.wasm.timerPop(80) >>> 0).toBe(fresh),
    ],
    [
      'a dependency',
      ({ core, fresh, active }) => core.wasm.edgeAdd(fresh, active),
      ({ core, fresh, active }) => expect(core.wasm.edgeDrop(fresh) >>> 0).toBe(active),
    ],
    [
      'a new job',
      ({ core, queue }) => core.wasm.jobCreate(queue, 7, 0, 0, 1, 0),
      ({ core }, slot) => expect(core.wasm.jobRemove(slot >>> 0)).toBe(1),
    ],
    [
      'a payload',
      ({ core }) => core.wasm.blockAlloc(L.ENGINE_THREAD, 100),
      ({ core }, block) => core.wasm.blockFree(block >>> 0),
    ],
    [
      'a payload of five chunks',
      ({ core }) => core.wasm.blockAlloc(L.ENGINE_THREAD, 300_000),
      ({ core }, block) => core.wasm.blockFree(block >>> 0),
    ],
    [
      'a queue, in a new chunk of queues',
      ({ core }) => {
        setWord(core, L.H_QUEUES, Math.max(word(core, L.H_QUEUES), L.QUEUES_PER_CHUNK));
        return core.wasm.queueOpen();
      },
      ({ core }, queue) => expect(claim(core, queue >>> 0)).toBe(L.CLAIM_EMPTY),
    ],
    [
      'a thread',
      ({ core, queue }) => core.wasm.threadOpen(queue),
      ({ core, queue }, thread) => expect(claim(core, queue, thread, 0)).toBeGreaterThanOrEqual(L.CLAIM_CODES),
    ],
    [
      'permits',
      ({ core, queue }) => core.wasm.permitsConfigure(queue, 9_000),
      ({ core, queue }) => expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBeGreaterThanOrEqual(L.CLAIM_CODES),
    ],
    [
      'a rate limit',
      ({ core, queue }) => core.wasm.rateConfigure(queue, 9_000, 100),
      ({ core, queue }) => expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBeGreaterThanOrEqual(L.CLAIM_CODES),
    ],
  ];

  test.each(STEPS)('refuses %s, changes nothing, and does it once there is room', (_name, step, check) => {
    const core = openTinyCore(64, memory);
    const queue = openQueue(core);
    // Whole chunks of slots, so that the next job needs a new one.
    const slots = Array.from({ length: 511 }, (_, i) => create(core, queue, { priority: i === 510 ? 99_999 : 0 }));
    const fresh = slots[510]!;
    // 6 + 64 + 128 + 256: no cell is left in the line of priority 0, so that a push needs a segment.
    const others = slots.slice(0, 454);
    for (const slot of others) core.wasm.jobReady(slot, 0);
    const active = claim(core, queue, L.ENGINE_THREAD, 0);
    const on: Attempt = { core, queue, waiting: others.slice(1), active, fresh };
    const chunks = exhaust(core);
    expect(step(on), 'with nothing left').toBe(0);
    // After the first try, in which a step may bring its job into the state that it starts from.
    const states = slots.map((slot) => core.state(slot));
    const order = others.slice(4, 30); // not those that a step moves
    let answer = 0;
    for (let tries = 0; answer === 0; tries++) {
      audit(core, queue);
      expect(slots.map((slot) => core.state(slot))).toEqual(states);
      const block = chunks.pop();
      if (block === undefined) throw new Error(`still refused after ${tries} chunks were freed`);
      core.wasm.blockFree(block);
      answer = step(on);
    }
    audit(core, queue);
    check(on, answer);
    settleLimbo(core);
    audit(core, queue);
    // What waited goes on as if nothing had been.
    for (const block of chunks) core.wasm.blockFree(block);
    const came: number[] = [];
    core.wasm.permitsConfigure(queue, L.NO_LIMIT);
    core.wasm.rateConfigure(queue, 0, 0);
    drain(core, queue, (slot) => came.push(slot));
    expect(came.filter((slot) => order.includes(slot))).toEqual(order.filter((slot) => came.includes(slot)));
    expect(came.length).toBeGreaterThan(440);
    upkeep(core, queue);
    audit(core, queue);
  });

  test('leaves no node of the trie behind for a level that could not be made', () => {
    const core = openTinyCore(64, memory);
    const queue = openQueue(core);
    const slots = Array.from({ length: 300 }, () => push(core, queue));
    const chunks = exhaust(core);
    core.wasm.blockFree(chunks.pop()!); // one chunk, for nodes: none is left for the level
    const live = audit(core, queue).blocksLive;
    for (const [i, slot] of slots.entries()) {
      expect(core.wasm.jobPrioritise(slot, (i + 1) * 7_654_321, 0)).toBe(0);
      settleLimbo(core);
      expect(audit(core, queue).blocksLive).toBe(live);
    }
    expect(claim(core, queue)).toBe(slots[0]);
  });

  test('too small to be laid out is refused', () => {
    for (let pages = L.CHUNK_FIRST + 1; pages < L.CHUNK_FIRST + 2; pages++) {
      expect(() => openTinyCore(pages)).toThrow(RangeError);
    }
    const core = openTinyCore(L.CHUNK_FIRST + 2);
    expect(core.wasm.queueOpen()).toBe(0);
    expect(core.wasm.blockAlloc(L.ENGINE_THREAD, 10)).toBe(0);
    expect(core.wasm.threadOpen(0)).toBe(0);
    audit(core);
  });
});

describe('any sequence of steps in a memory of any size', () => {
  const SIZES = Array.from({ length: 12 }, (_, i) => 24 + i * 3);

  test.each(SIZES)('%d pages: what is refused changes nothing, what was admitted is served', (pages) => {
    const core = openTinyCore(pages);
    const queue = openQueue(core);
    const next = random(pages);
    const any = <T>(list: readonly T[]): T | undefined => list[Math.floor(next() * list.length)];
    const drop = <T>(list: T[], item: T): void => void list.splice(list.indexOf(item), 1);
    const [waiting, active, delayed, finished]: number[][] = [[], [], [], []];
    let refused = 0;
    const priorities = Array.from({ length: 40 }, () => Math.floor((next() - 0.5) * 2 ** 32));
    const add = (): void => {
      const payload = core.wasm.blockAlloc(L.ENGINE_THREAD, Math.floor(10_000 * next() ** 4)) >>> 0;
      const slot = payload === 0 ? 0 : core.wasm.jobCreate(queue, any(priorities)!, 0, payload, 1, 0) >>> 0;
      if (slot === 0) {
        if (payload !== 0) core.wasm.blockFree(payload);
        refused++;
        return;
      }
      if (core.wasm.jobReady(slot, next() < 0.2 ? 1 : 0) !== 0) waiting!.push(slot);
      else {
        refused++;
        expect(core.state(slot)).toBe(L.STATE_FREE);
        core.wasm.jobRemove(slot);
      }
    };
    const steps: (() => void)[] = [
      add,
      add,
      add,
      () => {
        const slot = claim(core, queue, L.ENGINE_THREAD, active!.length);
        if (slot < L.CLAIM_CODES) return expect(waiting).toHaveLength(0);
        drop(waiting!, slot);
        active!.push(slot);
      },
      () => {
        const slot = active!.pop();
        if (slot === undefined) return;
        const result = core.wasm.blockAlloc(L.ENGINE_THREAD, Math.floor(next() * 300)) >>> 0;
        core.wasm.jobFinish(slot, L.STATE_COMPLETED, result, 2);
        finished!.push(slot);
      },
      () => {
        const slot = any(finished!);
        if (slot === undefined || next() < 0.3) return;
        drop(finished!, slot);
        core.wasm.jobRemove(slot);
      },
      () => {
        const slot = active!.pop();
        if (slot === undefined) return;
        // Admitted: the reserve must serve it.
        expect(core.wasm.jobDelay(slot, next() * 1_000), 'a delay of an admitted job').toBe(1);
        delayed!.push(slot);
      },
      () => {
        const slot = core.wasm.timerPop(next() * 1_000) >>> 0;
        if (slot === 0) return;
        drop(delayed!, slot);
        expect(core.wasm.jobReady(slot, 0), 'the return of an admitted job').toBe(1);
        waiting!.push(slot);
      },
      () => {
        const slot = active!.pop();
        if (slot === undefined) return;
        expect(core.wasm.jobReady(slot, 1), 'the release of an admitted job').toBe(1);
        waiting!.push(slot);
      },
      () => {
        const slot = any(waiting!);
        if (slot === undefined || next() < 0.5) return;
        drop(waiting!, slot);
        cancel(core, slot);
      },
      () => {
        const slot = any(waiting!);
        if (slot !== undefined && core.wasm.jobPrioritise(slot, any(priorities)!, 0) === 0) refused++;
      },
    ];
    for (let i = 0; i < 6_000; i++) {
      any(steps)!();
      if (i % 500 === 0) {
        settleLimbo(core);
        audit(core, queue);
      }
    }
    expect(refused, 'the memory was full at times').toBeGreaterThan(0);
    expect(core.listCount(queue, L.STATE_WAITING)).toBe(waiting!.length + active!.length);
    expect(core.listCount(queue, L.STATE_DELAYED)).toBe(delayed!.length);
    // Everything goes: all memory comes back but the slots, and it works again.
    for (const slot of [...active!, ...finished!]) {
      if (core.state(slot) === L.STATE_ACTIVE) core.wasm.jobFinish(slot, L.STATE_FAILED, 0, 1);
      core.wasm.jobRemove(slot);
    }
    for (const slot of delayed!) core.wasm.jobRemove(slot);
    expect(drain(core, queue)).toBe(waiting!.length);
    upkeep(core, queue);
    expect(audit(core, queue)).toEqual({ blocksLive: 1, largeChunks: 0 });
    expect(word(core, L.H_SLOTS_LIVE)).toBe(0);
    push(core, queue, { payload: core.wasm.blockAlloc(L.ENGINE_THREAD, 1_000) >>> 0 });
    expect(drain(core, queue)).toBe(1);
  });
});

test('what is beyond maxMemory is never touched', () => {
  const core = openCore('verify', 40);
  const queue = openQueue(core);
  for (let i = 0; i < 2_000; i++) {
    const payload = core.wasm.blockAlloc(L.ENGINE_THREAD, 2_000) >>> 0;
    if (payload === 0) break;
    const slot = core.wasm.jobCreate(queue, i, 0, payload, 1, 0) >>> 0;
    if (slot !== 0) core.wasm.jobReady(slot, 0);
  }
  exhaust(core);
  expect(word(core, L.H_CHUNKS_TOUCHED)).toBe(40);
  expect(core.u8.subarray(40 * L.PAGE_BYTES, 60 * L.PAGE_BYTES).every((byte) => byte === 0)).toBe(true);
});
