import { describe, expect, test } from 'vitest';
import {
  type Core,
  cancel,
  chunksUsed,
  claim,
  complete,
  create,
  drain,
  generation,
  L,
  openCore,
  openQueue,
  openThread,
  push,
  word,
} from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

/** Every 32-bit word of a slot but its word, number, queue, hash and place in the index. */
function fields(core: Core, slot: number): number[] {
  const named = new Set([L.S_WORD, L.S_WORD + 4, L.S_NUMBER, L.S_NUMBER + 4, L.S_QUEUE, L.S_HASH, L.S_INDEX_NEXT]);
  const words: number[] = [];
  for (let at = 0; at < L.SLOT_BYTES; at += 4) if (!named.has(at)) words.push(word(core, slot + at));
  return words;
}

describe('the pool of slots', () => {
  test('hands free slots out in the order in which they came back', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slots = Array.from({ length: 1_500 }, () => create(core, queue));
    expect(new Set(slots).size).toBe(1_500);
    const freed = slots.filter((_, i) => i % 3 === 0).reverse();
    for (const slot of freed) core.wasm.jobRemove(slot);
    audit(core, queue);
    expect(freed.map(() => create(core, queue))).toEqual(freed);
    // None is left: the next is new.
    expect(slots).not.toContain(create(core, queue));
    audit(core, queue);
  });

  test('gives a slot in which nothing of the job before is left', () => {
    const core = openCore();
    const queue = openQueue(core);
    const other = openQueue(core);
    const fresh = fields(core, create(core, other, { now: 7 }));
    core.wasm.permitsConfigure(queue, 3);
    const payload = core.blockOf(L.ENGINE_THREAD, new Uint8Array(20));
    const slot = push(core, queue, { priority: -5, payload, expiry: 99, flags: L.FLAG_LIFO, first: true, now: 3 });
    const dependent = create(core, queue);
    core.wasm.edgeLink(core.wasm.edgeAdd(dependent, slot));
    claim(core, queue);
    core.setLost(slot, 3);
    core.setField(slot, L.S_ATTEMPTS, 4);
    core.setField(slot, L.S_STARTED, 5);
    core.setField(slot, L.S_UNSETTLED, 6);
    core.setField(slot, L.S_EXTRA, core.blockOf(L.ENGINE_THREAD, new Uint8Array(20)));
    complete(core, L.ENGINE_THREAD, 0, core.blockOf(L.ENGINE_THREAD, new Uint8Array(20)), 8);
    core.wasm.jobTimer(slot, 50);
    expect(core.wasm.edgeDrop(dependent) >>> 0).toBe(slot);
    core.wasm.jobRemove(slot);
    expect(create(core, other, { now: 7 })).toBe(slot);
    expect(fields(core, slot)).toEqual(fresh);
    expect(core.state(slot)).toBe(L.STATE_FREE);
  });

  test('takes one chunk for 511 slots, and keeps it', () => {
    const core = openCore();
    const queue = openQueue(core);
    const before = chunksUsed(core);
    const slots = Array.from({ length: 511 * 4 }, () => create(core, queue));
    expect(chunksUsed(core) - before).toBe(4);
    for (const slot of slots) core.wasm.jobRemove(slot);
    expect(chunksUsed(core) - before).toBe(4);
    expect(word(core, L.H_SLOTS_LIVE)).toBe(0);
    expect(new Set(slots.map(() => create(core, queue)))).toEqual(new Set(slots));
  });

  test('keeps a reserve that follows the number of jobs, down as well as up', () => {
    const core = openCore();
    const queue = openQueue(core);
    const reserved = (): number => word(core, L.H_CHUNKS_RESERVED);
    const slots = Array.from({ length: 10_240 }, () => create(core, queue));
    expect(reserved()).toBe(16 + 10);
    for (const slot of slots) core.wasm.jobRemove(slot);
    expect(reserved()).toBe(16);
  });
});

describe("a slot's word", () => {
  test('is generation(39) | owner(16) | state(9), and a hint is generation(39) | slot(25)', () => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    const slot = push(core, queue);
    expect(claim(core, queue, thread, 5)).toBe(slot);
    const low = word(core, slot);
    expect(low & L.STATE_MASK).toBe(L.STATE_ACTIVE);
    expect((low >>> L.OWNER_SHIFT) & 0xffff).toBe(thread);
    expect(core.wasm.jobOwner(slot)).toBe(thread);
    const area = core.area(thread);
    expect((core.ticketLow(area, 5) & L.LOW_MASK) * L.SLOT_BYTES).toBe(slot);
    expect(core.ticketLow(area, 5) >>> L.GENERATION_SHIFT).toBe(low >>> L.GENERATION_SHIFT);
    expect(core.ticketHigh(area, 5)).toBe(word(core, slot + 4));
  });

  test('gets a new generation with every claim, requeue, withdrawal and reuse, and with nothing else', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slot = create(core, queue);
    const grows = (what: string, by: number, step: () => unknown): void => {
      const before = generation(core, slot);
      step();
      expect(generation(core, slot) - before, what).toBe(by);
    };
    grows('ready', 1, () => core.wasm.jobReady(slot, 0));
    grows('claim', 1, () => claim(core, queue));
    grows('requeue', 1, () => core.wasm.jobReady(slot, 1));
    grows('claim', 1, () => claim(core, queue));
    grows('delay', 0, () => core.wasm.jobDelay(slot, 10));
    grows('ready', 1, () => core.wasm.jobReady(slot, 0));
    grows('other priority', 1, () => core.wasm.jobPrioritise(slot, 4, 0));
    grows('withdrawal', 1, () => core.wasm.jobWithdraw(slot, L.STATE_BLOCKED));
    grows('other priority while it is not waiting', 0, () => core.wasm.jobPrioritise(slot, 5, 0));
    grows('ready', 1, () => core.wasm.jobReadyQuiet(slot));
    core.wasm.queueMark(queue, 5);
    grows('claim', 1, () => claim(core, queue));
    grows('end', 0, () => complete(core));
    grows('remembered', 0, () => core.wasm.jobRemember(slot, 0, 20));
    grows('removal', 1, () => core.wasm.jobRemove(slot));
    audit(core, queue);
  });

  test('keeps its generation when the low 32 bits overflow', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slot = push(core, queue);
    // 2^7 generations fit the low half: the carry must reach the high one.
    for (let round = 0; round < 1_000; round++) {
      expect(claim(core, queue)).toBe(slot);
      core.wasm.jobReady(slot, 0);
    }
    expect(generation(core, slot)).toBe(1 + 2 * 1_000);
    expect(core.state(slot)).toBe(L.STATE_WAITING);
  });

  test('answers only to the ticket of the run that it is in', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slot = push(core, queue);
    claim(core, queue, L.ENGINE_THREAD, 0);
    core.wasm.jobReady(slot, 0);
    expect(complete(core, L.ENGINE_THREAD, 0), 'the job was requeued').toBe(0);
    claim(core, queue, L.ENGINE_THREAD, 1);
    expect(complete(core, L.ENGINE_THREAD, 0), 'the job is in another run').toBe(0);
    expect(core.state(slot)).toBe(L.STATE_ACTIVE);
    expect(complete(core, L.ENGINE_THREAD, 1)).toBe(slot);
    expect(complete(core, L.ENGINE_THREAD, 1), 'the run has ended').toBe(0);
    core.wasm.jobRemove(slot);
    expect(push(core, queue)).toBe(slot);
    claim(core, queue, L.ENGINE_THREAD, 2);
    expect(complete(core, L.ENGINE_THREAD, 1), "the slot is another job's").toBe(0);
  });
});

describe("a queue's lists", () => {
  const LISTED = [
    L.STATE_WAITING,
    L.STATE_DELAYED,
    L.STATE_BLOCKED,
    L.STATE_COMPLETED,
    L.STATE_FAILED,
    L.STATE_CANCELLED,
    L.STATE_REMEMBERED,
    L.STATE_LINGERING,
  ];

  function counts(core: Core, queue: number): number[] {
    return LISTED.map((state) => core.listCount(queue, state));
  }

  test("hold each job once, in its state's, oldest first", () => {
    const core = openCore();
    const queue = openQueue(core);
    const other = openQueue(core);
    const [delayed, blocked, first, second, third, fourth] = Array.from({ length: 6 }, () => create(core, queue));
    expect(counts(core, queue)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    push(core, other);
    core.wasm.jobDelay(delayed!, 10);
    core.wasm.jobBlock(blocked!);
    for (const slot of [first, second, third, fourth]) core.wasm.jobReady(slot!, 0);
    expect(counts(core, queue)).toEqual([4, 1, 1, 0, 0, 0, 0, 0]);
    expect(core.listHead(queue, L.STATE_WAITING)).toBe(first);
    expect(core.listTail(queue, L.STATE_WAITING)).toBe(fourth);
    claim(core, queue);
    claim(core, queue, L.ENGINE_THREAD, 1);
    expect(counts(core, queue), 'a claim moves nothing').toEqual([4, 1, 1, 0, 0, 0, 0, 0]);
    complete(core, L.ENGINE_THREAD, 1);
    complete(core, L.ENGINE_THREAD, 0);
    expect(counts(core, queue)).toEqual([2, 1, 1, 2, 0, 0, 0, 0]);
    expect(core.listHead(queue, L.STATE_COMPLETED), 'the one that ended first').toBe(second);
    core.wasm.jobWithdraw(third!, L.STATE_CANCELLED);
    core.wasm.jobRemember(first!, 0, 10);
    core.wasm.jobLinger(second!, 10);
    core.wasm.jobReady(blocked!, 0);
    core.wasm.jobFinish(delayed!, L.STATE_FAILED, 0, 1);
    audit(core, queue, other);
    expect(counts(core, queue)).toEqual([2, 0, 0, 0, 1, 1, 1, 1]);
    for (const slot of [delayed!, first!, second!, third!]) core.wasm.jobRemove(slot);
    drain(core, queue);
    expect(counts(core, queue)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(counts(core, other)).toEqual([1, 0, 0, 0, 0, 0, 0, 0]);
    audit(core, queue, other);
  });

  test('let go of jobs from the front, the middle and the end', () => {
    const core = openCore();
    const queue = openQueue(core);
    const slots = Array.from({ length: 5 }, () => push(core, queue));
    for (const i of [2, 0, 4, 3, 1]) {
      cancel(core, slots[i]!);
      audit(core, queue);
    }
    expect(core.listHead(queue, L.STATE_WAITING)).toBe(0);
    expect(core.listTail(queue, L.STATE_WAITING)).toBe(0);
  });

  test('do not show a removed job that a dependent may still read, whose record stays', () => {
    const core = openCore();
    const queue = openQueue(core);
    const dependency = push(core, queue);
    const dependent = create(core, queue);
    core.wasm.jobBlock(dependent);
    core.wasm.edgeAdd(dependent, dependency);
    claim(core, queue);
    complete(core, L.ENGINE_THREAD, 0, core.blockOf(L.ENGINE_THREAD, new Uint8Array([1, 2, 3])));
    expect(core.wasm.jobRemove(dependency)).toBe(0);
    expect(core.wasm.jobRemove(dependency)).toBe(0);
    expect(core.listCount(queue, L.STATE_COMPLETED)).toBe(0);
    expect(core.findNumber(core.number(dependency))).toBe(0);
    expect(core.state(dependency)).toBe(L.STATE_GONE);
    expect([...core.blockRead(core.field(dependency, L.S_RESULT), 0, 3)]).toEqual([1, 2, 3]);
    expect(core.wasm.edgeDrop(dependent) >>> 0).toBe(dependency);
    expect(core.wasm.jobRemove(dependency)).toBe(1);
    expect(core.state(dependency)).toBe(L.STATE_FREE);
    audit(core, queue);
  });
});
