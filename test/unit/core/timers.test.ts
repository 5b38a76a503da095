import { describe, expect, test } from 'vitest';
import { type Core, chunksUsed, claim, create, L, openCore, openQueue, random, word } from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

function popAll(core: Core, now = Number.POSITIVE_INFINITY): number[] {
  const slots: number[] = [];
  for (let slot = core.wasm.timerPop(now) >>> 0; slot !== 0; slot = core.wasm.timerPop(now) >>> 0) slots.push(slot);
  return slots;
}

describe('timers', () => {
  test('come when they are due, earliest first, and not before', () => {
    const core = openCore();
    const queue = openQueue(core);
    const [a, b, c] = [create(core, queue), create(core, queue), create(core, queue)];
    expect(core.wasm.timerNext()).toBe(Number.POSITIVE_INFINITY);
    expect(core.wasm.timerPop(1e15)).toBe(0);
    expect(core.wasm.timerPop(Number.POSITIVE_INFINITY)).toBe(0);
    core.wasm.jobTimer(b, 1_700_000_000_000.25);
    core.wasm.jobTimer(c, 1_700_000_000_001);
    core.wasm.jobTimer(a, 1_700_000_000_000);
    expect(core.wasm.timerNext()).toBe(1_700_000_000_000);
    expect(core.wasm.timerPop(1_699_999_999_999.9)).toBe(0);
    expect(popAll(core, 1_700_000_000_000.25)).toEqual([a, b]);
    expect(core.wasm.timerNext()).toBe(1_700_000_000_001);
    expect(popAll(core)).toEqual([c]);
  });

  test('can be moved both ways and cleared, at most one a job', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slots = Array.from({ length: 9 }, (_, i) => {
      const slot = create(core, queue);
      core.wasm.jobTimer(slot, 100 + i);
      return slot;
    });
    core.wasm.jobTimer(slots[8]!, 1);
    core.wasm.jobTimer(slots[0]!, 500);
    core.wasm.jobTimer(slots[4]!, 104); // to where it is
    core.wasm.jobTimer(slots[3]!, 0); // cleared
    core.wasm.jobTimer(slots[3]!, 0);
    audit(core, queue);
    expect(word(core, L.H_TIMERS)).toBe(8);
    expect(popAll(core)).toEqual([8, 1, 2, 4, 5, 6, 7, 0].map((i) => slots[i]));
    for (const slot of slots) expect(core.field(slot, L.S_TIMER)).toBe(0);
  });

  test('of the same time all come, each once', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slots = Array.from({ length: 1_000 }, (_, i) => {
      const slot = create(core, queue);
      core.wasm.jobTimer(slot, 1 + (i % 3)); // 0 would clear it
      return slot;
    });
    expect(new Set(popAll(core, 1))).toEqual(new Set(slots.filter((_, i) => i % 3 === 0)));
    expect(new Set(popAll(core))).toEqual(new Set(slots.filter((_, i) => i % 3 !== 0)));
  });

  test('before the epoch, at the ends of the range of numbers and at infinity keep their order', () => {
    const core = openCore();
    const queue = openQueue(core);
    const times = [-1e300, -5, 1e-300, 1, 2 ** 53, 1e300, Number.POSITIVE_INFINITY];
    const slots = times.map((due) => {
      const slot = create(core, queue);
      core.wasm.jobTimer(slot, due);
      return slot;
    });
    expect(popAll(core)).toEqual(slots);
  });

  test('agree with a sorted array over 100,000 random steps', () => {
    const core = openCore();
    const queue = openQueue(core);
    const next = random(21);
    const slots = Array.from({ length: 20_000 }, () => create(core, queue));
    const due = new Map<number, number>();
    const popDue = (now: number): void => {
      const expected = [...due].filter(([, at]) => at <= now).map(([, at]) => at);
      expected.sort((a, b) => a - b);
      const times = popAll(core, now).map((slot) => {
        const at = due.get(slot)!;
        due.delete(slot);
        return at;
      });
      expect(times).toEqual(expected);
    };
    let now = 0;
    for (let step = 0; step < 100_000; step++) {
      const slot = slots[Math.floor(next() * slots.length)]!;
      const kind = next();
      if (kind < 0.75) {
        // Whole numbers of a small range: many are equal.
        const at = now + 1 + Math.floor(next() * 1_000);
        core.wasm.jobTimer(slot, at);
        due.set(slot, at);
      } else {
        core.wasm.jobTimer(slot, 0);
        due.delete(slot);
      }
      if (step % 1_000 === 0) {
        now += 20;
        popDue(now);
        expect(word(core, L.H_TIMERS)).toBe(due.size);
        audit(core);
      }
    }
    popDue(Number.POSITIVE_INFINITY);
    expect(due.size).toBe(0);
  });

  test('give their chunks back as they go, but not to and fro at a border', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slots = Array.from({ length: 5 * L.TIMER_SEGMENT_ENTRIES }, () => create(core, queue));
    const before = chunksUsed(core);
    for (const slot of slots) core.wasm.jobTimer(slot, 5);
    expect(chunksUsed(core) - before).toBe(5);
    for (const slot of slots) core.wasm.jobTimer(slot, 0);
    expect(chunksUsed(core) - before).toBe(1);
    core.wasm.jobTimer(slots[0]!, 5);
    expect(chunksUsed(core) - before).toBe(1);
    for (const slot of slots.slice(0, L.TIMER_SEGMENT_ENTRIES + 2)) core.wasm.jobTimer(slot, 6);
    const atBorder = chunksUsed(core);
    for (let i = 0; i < 10; i++) {
      for (const due of [0, 6]) {
        for (const slot of slots.slice(0, 4)) core.wasm.jobTimer(slot, due);
        expect(chunksUsed(core)).toBe(atBorder);
      }
    }
    audit(core, queue);
  });

  test('are the earlier of a delay and an expiry, then the expiry, then none', () => {
    const core = openCore();
    const queue = openQueue(core);
    const expiring = create(core, queue, { expiry: 50 });
    core.wasm.jobDelay(expiring, 80);
    expect(core.wasm.timerNext()).toBe(50);
    core.wasm.jobDelay(expiring, 30);
    expect(core.wasm.timerNext()).toBe(30);
    expect(core.time(expiring, L.S_DUE)).toBe(30);
    core.wasm.jobReady(expiring, 0);
    expect(core.wasm.timerNext()).toBe(50);
    claim(core, queue);
    core.wasm.jobBlock(expiring);
    expect(core.wasm.timerNext()).toBe(50);
    core.wasm.jobFinish(expiring, L.STATE_FAILED, 0, 1);
    expect(core.wasm.timerNext()).toBe(Number.POSITIVE_INFINITY);
  });
});
