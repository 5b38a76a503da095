import { describe, expect, test } from 'vitest';
import {
  type Core,
  chunksUsed,
  drain,
  L,
  openCore,
  openQueue,
  openThread,
  push,
  settleLimbo,
  setWord,
  upkeep,
  word,
} from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

function epochAt(thread: number): number {
  return L.THREADS_AT + thread * L.THREAD_BYTES + L.T_EPOCH;
}

/** As `claimEnter`: the thread is inside a claim from now on. */
function enter(core: Core, thread: number): void {
  setWord(core, epochAt(thread), word(core, L.H_EPOCH));
}

describe('claim epochs', () => {
  test('keep what was unlinked until every claim that began before is over', () => {
    const core = openCore();
    const queue = openQueue(core);
    const [one, two] = [openThread(core, queue), openThread(core, queue)];
    enter(core, one);
    for (let i = 0; i < 40; i++) push(core, queue, { priority: i * 1_000_000 });
    drain(core, queue);
    const live = audit(core, queue).blocksLive;
    upkeep(core, queue);
    expect(audit(core, queue).blocksLive, 'retired, not freed').toBe(live);
    enter(core, two); // later than the unlinking: does not hold up the batch that was tagged by then
    const waiting = word(core, L.H_LIMBO_COUNT);
    setWord(core, epochAt(one), 0);
    core.wasm.limboAdvance();
    expect(word(core, L.H_LIMBO_COUNT)).toBeLessThan(waiting);
    setWord(core, epochAt(two), 0);
    settleLimbo(core);
    expect(audit(core, queue).blocksLive).toBe(1);
    expect(word(core, L.H_LIMBO_COUNT)).toBe(0);
  });

  test('a thread that stopped inside a claim delays memory, not progress, until it is known to be dead', () => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    enter(core, thread);
    for (let i = 0; i < 3_000; i++) {
      push(core, queue, { priority: i * 1_000 });
      expect(drain(core, queue)).toBe(1);
    }
    upkeep(core, queue);
    expect(word(core, L.H_LIMBO_COUNT)).toBeGreaterThan(3_000);
    core.wasm.threadDied(thread);
    core.wasm.chunksReap(thread);
    core.wasm.threadFree(thread);
    settleLimbo(core);
    expect(word(core, L.H_LIMBO_COUNT)).toBe(0);
    expect(audit(core, queue).blocksLive).toBe(1);
  });

  test('go on past 2^32: none is 0, which means outside, and an older claim stays older', () => {
    const core = openCore();
    const thread = openThread(core);
    setWord(core, L.H_EPOCH, 0xffffffff);
    enter(core, thread);
    const ended = core.wasm.epochAdvance() >>> 0;
    expect(ended).toBe(0xffffffff);
    expect(word(core, L.H_EPOCH)).not.toBe(0);
    expect(core.wasm.epochPassed(ended), 'the claim that began in it goes on').toBe(0);
    const next = core.wasm.epochAdvance() >>> 0;
    expect(core.wasm.epochPassed(next), 'and it is older than the epochs after the wrap').toBe(0);
    enter(core, thread);
    expect(core.wasm.epochPassed(ended), 'a claim of a later epoch').toBe(1);
    expect(core.wasm.epochPassed(next)).toBe(1);
    setWord(core, epochAt(thread), 0);
    expect(core.wasm.epochPassed(core.wasm.epochAdvance())).toBe(1);
  });
});

describe('the thread table', () => {
  test("holds 254 threads beside the engine's, then says that it is full", () => {
    const core = openCore();
    const before = chunksUsed(core);
    const threads: number[] = [];
    for (let thread = core.wasm.threadOpen(0); thread !== 0; thread = core.wasm.threadOpen(0)) threads.push(thread);
    expect(threads).toEqual(Array.from({ length: L.THREADS_MAX - 2 }, (_, i) => i + 2));
    for (const thread of threads) {
      core.wasm.threadDied(thread);
      core.wasm.chunksReap(thread);
      core.wasm.threadFree(thread);
    }
    expect(chunksUsed(core)).toBe(before);
    expect(core.wasm.threadOpen(0)).toBe(2);
    audit(core);
  });

  test('gives a new thread nothing of the one before at its index', () => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    for (let run = 0; run < 10; run++) {
      push(core, queue);
      core.wasm.claim(thread, queue, run, 1);
    }
    core.wasm.parkBegin(thread);
    core.wasm.threadDied(thread);
    for (let run = core.wasm.runNext(thread, 0); run < L.CLAIM_ENTRIES_MAX; run = core.wasm.runNext(thread, run + 1)) {
      core.wasm.jobReady(core.wasm.runOf(thread, run), 1);
    }
    core.wasm.chunksReap(thread);
    core.wasm.threadFree(thread);
    expect(openThread(core, queue)).toBe(thread);
    const record = L.THREADS_AT + thread * L.THREAD_BYTES;
    expect(word(core, record + L.T_INFLIGHT)).toBe(0);
    expect(word(core, record + L.T_PARK)).toBe(L.PARK_RUNNING);
    expect(core.wasm.runsActive(thread)).toBe(0);
    expect(core.wasm.outcomePeek(thread)).toBe(0);
  });
});

describe('queue records', () => {
  test('are 256 a chunk, apart from each other, and never moved', () => {
    const core = openCore();
    const queues = Array.from({ length: 600 }, () => openQueue(core));
    expect(new Set(queues).size).toBe(600);
    for (const queue of queues) expect(queue % L.QUEUE_BYTES).toBe(0);
    for (const [i, queue] of queues.entries()) push(core, queue, { priority: i });
    for (const [i, queue] of queues.entries()) {
      drain(core, queue, (slot) => expect(core.priority(slot)).toBe(i));
    }
    expect(word(core, L.H_QUEUES)).toBe(600);
    audit(core, ...queues);
  });
});
