import { describe, expect, test } from 'vitest';
import {
  cancel,
  chunksUsed,
  claim,
  drain,
  L,
  openQueue,
  openThread,
  openTinyCore,
  push,
  random,
  settleLimbo,
  word,
} from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

/** A block that takes one chunk for itself. */
const CHUNK_BYTES = 60_000;

describe('the reserve', () => {
  test.each([
    ['one priority', () => 0],
    ['100 priorities', (next: () => number) => Math.floor(next() * 100)],
    ['random priorities of 32 bits', (next: () => number) => Math.floor((next() - 0.5) * 2 ** 32)],
  ])('is enough for every admitted job to be claimed, delayed, put back and ended: %s', (_name, priority) => {
    const core = openTinyCore(256);
    const queue = openQueue(core);
    const next = random(9);
    const jobs: number[] = [];
    while (true) {
      const payload = core.wasm.blockAlloc(L.ENGINE_THREAD, 200) >>> 0;
      if (payload === 0) break;
      const slot = core.wasm.jobCreate(queue, priority(next), 0, payload, 1, 0) >>> 0;
      if (slot === 0) break;
      if (core.wasm.jobReady(slot, 0) === 0) {
        core.wasm.jobRemove(slot);
        break;
      }
      jobs.push(slot);
    }
    expect(jobs.length).toBeGreaterThan(10_000);
    for (let round = 0; round < 3; round++) {
      const claimed: number[] = [];
      for (let slot = claim(core, queue); slot >= L.CLAIM_CODES; slot = claim(core, queue)) claimed.push(slot);
      expect(claimed).toHaveLength(jobs.length);
      for (const slot of claimed) if (core.wasm.jobDelay(slot, 5) === 0) throw new Error('a delay was refused');
      core.wasm.levelsSweep(queue, jobs.length, 0);
      settleLimbo(core);
      for (let slot = core.wasm.timerPop(5) >>> 0; slot !== 0; slot = core.wasm.timerPop(5) >>> 0) {
        if (core.wasm.jobReady(slot, round % 2) === 0) throw new Error('a return was refused');
      }
    }
    audit(core, queue);
    expect(drain(core, queue)).toBe(jobs.length);
  });

  test('is not used up by jobs that need no new slot or payload chunk', () => {
    const core = openTinyCore(256);
    const queue = openQueue(core);
    const next = random(10);
    const add = (priority: number): number => {
      const payload = core.wasm.blockAlloc(L.ENGINE_THREAD, 200) >>> 0;
      const slot = payload === 0 ? 0 : core.wasm.jobCreate(queue, priority, 0, payload, 1, 0) >>> 0;
      if (slot !== 0 && core.wasm.jobReady(slot, 0) !== 0) return slot;
      if (slot !== 0) core.wasm.jobRemove(slot);
      else if (payload !== 0) core.wasm.blockFree(payload);
      return 0;
    };
    const jobs: number[] = [];
    for (let slot = add(0); slot !== 0; slot = add(0)) jobs.push(slot);
    // Every second payload block and slot is free, and no chunk is.
    for (let i = jobs.length - 1; i >= 0; i -= 2) cancel(core, jobs.splice(i, 1)[0]!);
    for (let slot = add(0); slot !== 0; slot = add(Math.floor((next() - 0.5) * 2 ** 32))) jobs.push(slot);
    const claimed: number[] = [];
    for (let slot = claim(core, queue); slot >= L.CLAIM_CODES; slot = claim(core, queue)) claimed.push(slot);
    expect(claimed).toHaveLength(jobs.length);
    for (const slot of claimed) if (core.wasm.jobDelay(slot, 5) === 0) throw new Error('a delay was refused');
    for (let slot = core.wasm.timerPop(5) >>> 0; slot !== 0; slot = core.wasm.timerPop(5) >>> 0) {
      if (core.wasm.jobReady(slot, 0) === 0) throw new Error('a return was refused');
    }
    audit(core, queue);
    expect(drain(core, queue)).toBe(jobs.length);
  });

  test('is not given to payloads, new slots, queues or threads', () => {
    const core = openTinyCore(64);
    const queue = openQueue(core);
    push(core, queue);
    while (core.wasm.blockAlloc(L.ENGINE_THREAD, CHUNK_BYTES) !== 0);
    const left = 64 - L.CHUNK_FIRST - chunksUsed(core);
    expect(left).toBe(word(core, L.H_CHUNKS_RESERVED));
    expect(core.wasm.blockAlloc(L.ENGINE_THREAD, 30_000)).toBe(0);
    expect(core.wasm.threadOpen(queue)).toBe(0);
    expect(core.wasm.blockAllocReserved(30_000)).not.toBe(0);
    expect(claim(core, queue)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
  });

  test('does not stop another thread from carving what it has begun', () => {
    const core = openTinyCore(64);
    const thread = openThread(core);
    const block = core.wasm.blockAlloc(thread, 100) >>> 0;
    core.wasm.submitPublish(thread, 0, 0, 0, block);
    while (core.wasm.blockAlloc(L.ENGINE_THREAD, CHUNK_BYTES) !== 0);
    expect(core.wasm.blockAlloc(thread, 100)).not.toBe(0);
    expect(core.wasm.blockAlloc(thread, 5_000)).toBe(0);
    audit(core);
  });
});
