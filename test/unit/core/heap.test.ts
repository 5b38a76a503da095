import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Core,
  cancel,
  claim,
  complete,
  drain,
  L,
  openCore,
  openQueue,
  openThread,
  push,
  random,
  settleLimbo,
  setWord,
  upkeep,
  word,
} from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

const INT_MIN = -2147483648;
const INT_MAX = 2147483647;

/** Borders of the range, of its sign, and of every digit of the trie (2 bits, then 6 times 5). */
const EXTREMES: readonly number[] = [
  ...[INT_MIN, INT_MIN + 1, -2, -1, 0, 1, 2, INT_MAX - 1, INT_MAX],
  ...[5, 10, 15, 20, 25, 30].flatMap((shift) => [2 ** shift - 1, 2 ** shift, -(2 ** shift), -(2 ** shift) - 1]),
];

/** What a queue is to give, by the plainest means. */
class Model {
  readonly #levels = new Map<number, number[]>();

  add(slot: number, priority: number, first: boolean): void {
    const level = this.#levels.get(priority) ?? [];
    if (first) level.unshift(slot);
    else level.push(slot);
    this.#levels.set(priority, level);
  }

  remove(slot: number, priority: number): void {
    const level = this.#levels.get(priority)!;
    level.splice(level.indexOf(slot), 1);
    if (level.length === 0) this.#levels.delete(priority);
  }

  next(): number {
    if (this.#levels.size === 0) return L.CLAIM_EMPTY;
    const priority = Math.max(...this.#levels.keys());
    const slot = this.#levels.get(priority)![0]!;
    this.remove(slot, priority);
    return slot;
  }

  get size(): number {
    return [...this.#levels.values()].reduce((sum, { length }) => sum + length, 0);
  }
}

/** Bits set in the trie of a queue below the root, and levels and nodes found there. */
function trie(core: Core, queue: number): { nodes: number; levels: number } {
  const walk = (node: number, depth: number): { nodes: number; levels: number } => {
    const sum = { nodes: 1, levels: 0 };
    for (let place = 0; place < 32; place++) {
      const child = word(core, node + L.N_CHILDREN + place * 4);
      if (child === 0) continue;
      if (depth === L.TRIE_DEPTH - 1) {
        sum.levels++;
        continue;
      }
      expect(word(core, child + L.N_PARENT)).toBe(node);
      expect(word(core, child + L.N_PLACE)).toBe(place);
      const below = walk(child, depth + 1);
      sum.nodes += below.nodes;
      sum.levels += below.levels;
    }
    return sum;
  };
  return walk(word(core, queue + L.Q_ROOT), 0);
}

describe('a claim', () => {
  test('takes the highest priority, over the whole range, first in first out within one', () => {
    const core = openCore();
    const queue = openQueue(core);
    const model = new Model();
    const next = random(11);
    const priorities = [...EXTREMES, ...EXTREMES, ...EXTREMES];
    for (let i = 0; i < 3_000; i++) priorities.push(Math.floor((next() - 0.5) * 2 ** (1 + (i % 32))));
    priorities.sort(() => next() - 0.5);
    for (const priority of priorities) model.add(push(core, queue, { priority }), priority, false);
    audit(core, queue);
    expect(drain(core, queue, (slot) => expect(slot).toBe(model.next()))).toBe(priorities.length);
    expect(model.size).toBe(0);
    audit(core, queue);
  });

  test.each(EXTREMES)('takes %d in its place between its neighbours', (priority) => {
    const core = openCore();
    const queue = openQueue(core);
    const near = [priority - 1, priority, priority + 1, INT_MIN, INT_MAX].filter(
      (one) => one >= INT_MIN && one <= INT_MAX,
    );
    const slots = near.map((one) => push(core, queue, { priority: one }));
    const order: number[] = [];
    drain(core, queue, (slot) => order.push(core.priority(slot)));
    expect(order).toEqual([...near].sort((a, b) => b - a));
    expect(new Set(slots).size).toBe(near.length);
  });

  test('takes first what was pushed last into the head lane, then what was pushed first', () => {
    const core = openCore();
    const queue = openQueue(core);
    const tail = [push(core, queue), push(core, queue)];
    const lane = [push(core, queue, { first: true }), push(core, queue, { first: true })];
    const low = push(core, queue, { priority: -1, first: true });
    const high = push(core, queue, { priority: 1 });
    tail.push(push(core, queue));
    const order: number[] = [];
    drain(core, queue, (slot) => order.push(slot));
    expect(order).toEqual([high, lane[1], lane[0], ...tail, low]);
  });

  test('looks at the queue it is for, and at no other', () => {
    const core = openCore();
    const [one, two] = [openQueue(core), openQueue(core)];
    const slot = push(core, one, { priority: 5 });
    expect(claim(core, two)).toBe(L.CLAIM_EMPTY);
    expect(core.wasm.heapMayHave(two)).toBe(0);
    const other = push(core, two, { priority: 1 });
    expect(claim(core, one)).toBe(slot);
    expect(claim(core, one)).toBe(L.CLAIM_EMPTY);
    expect(claim(core, two)).toBe(other);
  });

  test('finds nothing, and one that follows it says so at once, when every job is gone', () => {
    const core = openCore();
    const queue = openQueue(core);
    for (let i = 0; i < 500; i++) push(core, queue, { priority: i * 1_000_003 });
    drain(core, queue);
    expect(claim(core, queue)).toBe(L.CLAIM_EMPTY);
    expect(core.wasm.heapMayHave(queue), 'every bit is cleared on the way').toBe(0);
  });

  test('takes nothing from a paused queue', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slot = push(core, queue);
    core.wasm.queueFlags(queue, L.QUEUE_PAUSED, 0);
    expect(claim(core, queue)).toBe(L.CLAIM_PAUSED);
    expect(core.wasm.queuePaused(queue)).toBe(1);
    core.wasm.queueFlags(queue, 0, L.QUEUE_PAUSED);
    expect(claim(core, queue)).toBe(slot);
  });

  test('passes over the segments of a long line in order', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slots: number[] = [];
    // 6 + 64 + 128 + ... + 1,024 cells and more, with the head following at different distances.
    let taken = 0;
    for (const ahead of [1, 6, 7, 70, 71, 500, 5_000, 3]) {
      while (slots.length - taken < ahead) slots.push(push(core, queue));
      while (slots.length - taken > ahead / 2) expect(claim(core, queue, L.ENGINE_THREAD, 0)).toBe(slots[taken++]);
      complete(core);
    }
    while (taken < slots.length) expect(claim(core, queue)).toBe(slots[taken++]);
    expect(claim(core, queue)).toBe(L.CLAIM_EMPTY);
  });

  test('finds jobs pushed quietly once they are marked', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slots = Array.from({ length: 300 }, () => core.wasm.jobCreate(queue, 3, 0, 0, 1, 0) >>> 0);
    for (const slot of slots) expect(core.wasm.jobReadyQuiet(slot)).toBe(1);
    core.wasm.queueMark(queue, 3);
    const order: number[] = [];
    drain(core, queue, (slot) => order.push(slot));
    expect(order).toEqual(slots);
  });

  test('by one thread after another gives every job to one of them', () => {
    const core = openCore();
    const queue = openQueue(core);
    const threads = Array.from({ length: 8 }, () => openThread(core, queue));
    const slots = new Set(Array.from({ length: 400 }, (_, i) => push(core, queue, { priority: i % 7 })));
    for (let i = 0; slots.size > 0; i++) {
      const slot = claim(core, queue, threads[i % 8]!, Math.floor(i / 8));
      expect(slots.delete(slot)).toBe(true);
      expect(core.wasm.jobOwner(slot)).toBe(threads[i % 8]);
    }
    expect(claim(core, queue, threads[0], 1_000)).toBe(L.CLAIM_EMPTY);
  });
});

describe('a withdrawn job', () => {
  test('is not claimed, wherever its hint is', () => {
    const core = openCore();
    const queue = openQueue(core);
    const keep: number[] = [];
    for (let i = 0; i < 600; i++) {
      const slot = push(core, queue, { priority: i % 2, first: i % 5 === 0 });
      if (i % 3 === 0) cancel(core, slot);
      else keep.push(slot);
    }
    const found: number[] = [];
    drain(core, queue, (slot) => found.push(slot));
    expect(found.sort()).toEqual(keep.sort());
    expect(core.wasm.heapMayHave(queue)).toBe(0);
  });

  test('cannot be withdrawn once it is claimed, nor twice', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slot = push(core, queue);
    claim(core, queue);
    expect(core.wasm.jobWithdraw(slot, L.STATE_CANCELLED)).toBe(0);
    expect(core.wasm.jobPrioritise(slot, 4, 0), 'takes effect when it waits again').toBe(1);
    core.wasm.jobReady(slot, 0);
    expect(core.wasm.jobWithdraw(slot, L.STATE_BLOCKED)).toBe(1);
    expect(core.wasm.jobWithdraw(slot, L.STATE_CANCELLED)).toBe(0);
    expect(claim(core, queue)).toBe(L.CLAIM_EMPTY);
  });

  test('that waits again is claimed once, at its new place', () => {
    const core = openCore();
    const queue = openQueue(core);
    const [first, second, third] = [push(core, queue), push(core, queue), push(core, queue)];
    core.wasm.jobPrioritise(first, 0, 0); // to the tail of the same priority
    core.wasm.jobPrioritise(third, 9, 0);
    core.wasm.jobPrioritise(third, -9, 0);
    const order: number[] = [];
    drain(core, queue, (slot) => order.push(slot));
    expect(order).toEqual([second, first, third]);
  });

  test('leaves no more than a bounded number of stale hints in a line that nobody claims from', () => {
    const core = openCore();
    const queue = openQueue(core);
    core.wasm.queueFlags(queue, L.QUEUE_PAUSED, 0);
    const kept = Array.from({ length: 100 }, () => push(core, queue));
    kept.push(...Array.from({ length: 100 }, () => push(core, queue, { first: true })));
    for (let i = 0; i < 20_000; i++) cancel(core, push(core, queue, { first: i % 2 === 0 }));
    const levels = word(core, queue + L.Q_LEVELS_HEAD);
    expect(word(core, levels + L.L_PUSHED)).toBeLessThan(2 * (kept.length + L.STALE_SLACK));
    core.wasm.queueFlags(queue, 0, L.QUEUE_PAUSED);
    const found: number[] = [];
    drain(core, queue, (slot) => found.push(slot));
    expect(found).toEqual([...kept.slice(100).reverse(), ...kept.slice(0, 100)]);
    upkeep(core, queue);
    audit(core, queue);
  });
});

describe('any sequence of steps', () => {
  const priority = fc.oneof(fc.constantFrom(...EXTREMES), fc.integer({ min: -3, max: 3 }), fc.integer());
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('push' as const), priority, first: fc.boolean() }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('claim' as const) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('withdraw' as const), nth: fc.nat() }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('prioritise' as const), nth: fc.nat(), priority, first: fc.boolean() }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('requeue' as const), first: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('sweep' as const), count: fc.nat(5) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('retire' as const) }) },
  );

  test('claims what a sorted list would give', () => {
    const core = openCore();
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 150, size: 'max' }), (steps) => {
        const queue = openQueue(core);
        const model = new Model();
        const waiting: number[] = [];
        const active: number[] = [];
        for (const one of steps) {
          if (one.kind === 'push') {
            const slot = push(core, queue, one);
            model.add(slot, one.priority, one.first);
            waiting.push(slot);
          } else if (one.kind === 'claim') {
            const slot = claim(core, queue);
            expect(slot).toBe(model.next());
            if (slot === L.CLAIM_EMPTY) continue;
            waiting.splice(waiting.indexOf(slot), 1);
            active.push(slot);
          } else if (one.kind === 'withdraw' && waiting.length > 0) {
            const [slot] = waiting.splice(one.nth % waiting.length, 1) as [number];
            model.remove(slot, core.priority(slot));
            cancel(core, slot);
          } else if (one.kind === 'prioritise' && waiting.length > 0) {
            const slot = waiting[one.nth % waiting.length]!;
            model.remove(slot, core.priority(slot));
            expect(core.wasm.jobPrioritise(slot, one.priority, one.first ? 1 : 0)).toBe(1);
            model.add(slot, one.priority, one.first);
          } else if (one.kind === 'requeue' && active.length > 0) {
            const slot = active.pop()!;
            expect(core.wasm.jobReady(slot, one.first ? 1 : 0)).toBe(1);
            model.add(slot, core.priority(slot), one.first);
            waiting.push(slot);
          } else if (one.kind === 'sweep') core.wasm.levelsSweep(queue, one.count, 0);
          else if (one.kind === 'retire') settleLimbo(core);
        }
        for (let slot = claim(core, queue); slot !== L.CLAIM_EMPTY; slot = claim(core, queue)) {
          expect(slot).toBe(model.next());
          active.push(slot);
        }
        expect(model.size).toBe(0);
        for (const slot of active) {
          core.wasm.jobFinish(slot, L.STATE_COMPLETED, 0, 1);
          core.wasm.jobRemove(slot);
        }
        upkeep(core, queue);
        expect(trie(core, queue)).toEqual({ nodes: 1, levels: 0 });
      }),
      { numRuns: 400 },
    );
    const queues = word(core, L.H_QUEUES);
    expect(audit(core).blocksLive, 'one root a queue, and nothing else').toBe(queues);
  });
});

describe('levels and nodes of the trie', () => {
  test('go when they are empty, and only then', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slots = EXTREMES.map((priority) => push(core, queue, { priority }));
    core.wasm.levelsSweep(queue, 1_000, 0);
    expect(trie(core, queue).levels).toBe(new Set(EXTREMES).size);
    for (const [i, slot] of slots.entries()) if (i % 2 === 0) cancel(core, slot);
    upkeep(core, queue);
    expect(trie(core, queue).levels).toBe(new Set(EXTREMES.filter((_, i) => i % 2 === 1)).size);
    drain(core, queue);
    upkeep(core, queue);
    expect(trie(core, queue)).toEqual({ nodes: 1, levels: 0 });
    audit(core, queue);
  });

  test('are looked at once a sweep, however many it may look at', () => {
    const core = openCore();
    const queue = openQueue(core);
    for (let priority = 0; priority < 3; priority++) push(core, queue, { priority });
    const version = (): number => word(core, word(core, queue + L.Q_ROOT) + 4);
    const before = version();
    core.wasm.levelsSweep(queue, 1_000_000_000, 0);
    expect(version() - before, 'marks').toBe(3);
  });

  test('are marked again by the sweep, should a bit be lost', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slot = push(core, queue, { priority: 77 });
    const root = word(core, queue + L.Q_ROOT);
    setWord(core, root, 0);
    expect(claim(core, queue)).toBe(L.CLAIM_EMPTY);
    core.wasm.levelsSweep(queue, 1, 0);
    expect(claim(core, queue)).toBe(slot);
  });

  test('count no hints but those they hold, so that a rewrite comes when it should', () => {
    const core = openCore();
    const queue = openQueue(core);
    for (let i = 0; i < 5_000; i++) {
      push(core, queue, { first: i % 2 === 0 });
      drain(core, queue);
    }
    push(core, queue, { first: true });
    const level = word(core, queue + L.Q_LEVELS_HEAD);
    // The lane's one, the tail's segment, and one that the head had not left when that was made.
    expect(word(core, level + L.L_PUSHED)).toBeLessThanOrEqual(1 + 2 * L.SEGMENT_CELLS_MAX);
  });

  test('of a cleared queue are all given back, stale hints or not', () => {
    const core = openCore();
    const queue = openQueue(core);
    const before = audit(core).blocksLive;
    for (let i = 0; i < 5_000; i++) {
      const slot = push(core, queue, { priority: i % 50, first: i % 3 === 0 });
      core.wasm.jobWithdraw(slot, L.STATE_CANCELLED);
      core.wasm.jobRemove(slot);
    }
    core.wasm.heapClear(queue);
    settleLimbo(core);
    expect(trie(core, queue)).toEqual({ nodes: 1, levels: 0 });
    expect(core.wasm.heapMayHave(queue)).toBe(0);
    expect(audit(core, queue).blocksLive).toBe(before);
    const slot = push(core, queue, { priority: 3 });
    expect(claim(core, queue)).toBe(slot);
  });
});
