import { describe, expect, test } from 'vitest';
import {
  bytesOf,
  type Core,
  claim,
  create,
  drain,
  L,
  openCore,
  openQueue,
  openThread,
  push,
  setWord,
  word,
} from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

function record(thread: number): number {
  return L.THREADS_AT + thread * L.THREAD_BYTES;
}

/** Starts both rings of a thread `count` entries on, as if so many had passed through. */
function advanceRings(core: Core, thread: number, count: number): void {
  for (const at of [L.T_OUTCOME_TAIL, L.T_OUTCOME_HEAD, L.T_SUBMIT_TAIL, L.T_SUBMIT_HEAD]) {
    setWord(core, record(thread) + at, count);
  }
}

interface Outcome {
  readonly kind: number;
  readonly slot: number;
  readonly block: number;
  readonly at: number;
  readonly value: number;
}

function takeOutcome(core: Core, thread: number): Outcome | undefined {
  const entry = core.wasm.outcomePeek(thread) >>> 0;
  if (entry === 0) return undefined;
  const outcome = {
    kind: word(core, entry + L.E_KIND),
    slot: core.wasm.runSlot(word(core, entry), word(core, entry + 4)) >>> 0,
    block: word(core, entry + L.E_BLOCK),
    at: core.f64[(entry + L.E_AT) >>> 3]!,
    value: core.f64[(entry + L.E_VALUE) >>> 3]!,
  };
  core.wasm.outcomeTake(thread);
  return outcome;
}

describe('the outcome ring', () => {
  test.each([
    ['from its beginning', 0],
    ['past its end', L.OUTCOME_RING_ENTRIES - 3],
    ['past 2^32 entries', 2 ** 32 - 5],
  ])('gives outcomes in their order, with all that they carry, %s', (_what, from) => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    advanceRings(core, thread, from);
    for (let round = 0; round < 4; round++) {
      const slots = Array.from({ length: 300 }, () => push(core, queue));
      const expected = slots.map((slot, run): Outcome => {
        expect(claim(core, queue, thread, run)).toBe(slot);
        const block = run % 3 === 0 ? 0 : core.blockOf(thread, bytesOf(run, run));
        const kind = L.OUTCOME_COMPLETED + (run % 5);
        core.wasm.outcomePublish(thread, kind, run, block, 1e12 + run, -run);
        return { kind, slot, block, at: 1e12 + run, value: run === 0 ? -0 : -run };
      });
      expect(expected.map(() => takeOutcome(core, thread))).toEqual(expected);
      expect(takeOutcome(core, thread)).toBeUndefined();
      for (const { block, slot } of expected) {
        if (block !== 0) {
          expect(word(core, block + L.B_REFS)).toBe(1);
          core.wasm.blockFree(block);
        }
        core.wasm.jobReady(slot, 0);
      }
      drain(core, queue);
    }
    audit(core, queue);
  });

  test.each([
    [0, 0],
    [0, 1],
    [2 ** 32 - 700, 0],
    [2 ** 32 - 700, 1],
  ])('refuses the claim whose outcomes might not find room (from entry %d, %d there)', (from, there) => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    advanceRings(core, thread, from);
    for (let i = 0; i < 2_000; i++) push(core, queue);
    for (let i = 0; i < there; i++) {
      claim(core, queue, thread, 0);
      core.wasm.outcomePublish(thread, L.OUTCOME_COMPLETED, 0, 0, 1, 0);
    }
    core.wasm.queueFlags(queue, L.QUEUE_REPORT_START, 0);
    let runs = 0;
    while (claim(core, queue, thread, runs) >= L.CLAIM_CODES) runs++;
    expect(claim(core, queue, thread, runs)).toBe(L.CLAIM_NO_OUTCOME_SPACE);
    expect(core.wasm.outcomeSpace(thread)).toBe(0);
    expect(runs).toBeGreaterThan(300);
    // Every run that was let in can still report its end, though the engine has taken nothing.
    for (let run = 0; run < runs; run++) core.wasm.outcomePublish(thread, L.OUTCOME_COMPLETED, run, 0, 1, 0);
    const pending = 2 * runs;
    expect(there + pending).toBeLessThanOrEqual(L.OUTCOME_RING_ENTRIES);
    for (let i = 0; i < there; i++) takeOutcome(core, thread);
    for (let i = 0; i < pending; i++) expect(takeOutcome(core, thread)?.kind).toBe(i < runs ? 1 : 2);
    expect(takeOutcome(core, thread)).toBeUndefined();
    expect(claim(core, queue, thread, 0)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
  });

  test('reports starts only of jobs or queues that ask for it', () => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    push(core, queue);
    const asking = push(core, queue, { flags: L.FLAG_REPORT_START });
    claim(core, queue, thread, 0);
    expect(takeOutcome(core, thread)).toBeUndefined();
    claim(core, queue, thread, 1, 42);
    expect(takeOutcome(core, thread)).toEqual({ kind: L.OUTCOME_STARTED, slot: asking, block: 0, at: 42, value: 0 });
    core.wasm.queueFlags(queue, L.QUEUE_REPORT_START, 0);
    const third = push(core, queue);
    claim(core, queue, thread, 2);
    expect(takeOutcome(core, thread)).toMatchObject({ kind: L.OUTCOME_STARTED, slot: third });
  });

  test("of one thread is not another's", () => {
    const core = openCore();
    const queue = openQueue(core);
    const [one, two] = [openThread(core, queue), openThread(core, queue)];
    const slot = push(core, queue);
    push(core, queue);
    claim(core, queue, one);
    claim(core, queue, two);
    core.wasm.outcomePublish(one, L.OUTCOME_FAILED, 0, 0, 1, 0);
    expect(takeOutcome(core, two)).toBeUndefined();
    expect(takeOutcome(core, one)).toMatchObject({ kind: L.OUTCOME_FAILED, slot });
  });

  test('wakes the engine thread, and only when it is parked', () => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    const park = (): number => core.i32[core.parkIndex(L.ENGINE_THREAD)]!;
    core.wasm.submitPublish(thread, queue, 0, 0, 0);
    expect(park()).toBe(L.PARK_RUNNING);
    core.wasm.parkBegin(L.ENGINE_THREAD);
    core.wasm.submitPublish(thread, queue, 0, 0, 0);
    expect(park()).toBe(L.PARK_WOKEN);
    core.wasm.parkEnd(L.ENGINE_THREAD);
    expect(park()).toBe(L.PARK_RUNNING);
  });
});

describe('the submit ring', () => {
  test.each([0, 2 ** 32 - 100])('holds 512 entries, in their order (from entry %d)', (from) => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    advanceRings(core, thread, from);
    let published = 0;
    let taken = 0;
    for (const count of [512, 1, 100, 300, 111]) {
      expect(core.wasm.submitSpace(thread)).toBe(L.SUBMIT_RING_ENTRIES - (published - taken));
      for (let i = 0; i < count && core.wasm.submitSpace(thread) > 0; i++, published++) {
        const block = core.blockOf(thread, bytesOf(published % 50, published));
        core.wasm.submitPublish(thread, queue, published, published % 7, block);
      }
      for (let i = 0; i < count && taken < published; i++, taken++) {
        const entry = core.wasm.submitPeek(thread) >>> 0;
        expect(word(core, entry + L.E_QUEUE)).toBe(queue);
        expect(word(core, entry + L.E_REQUEST)).toBe(taken);
        expect(word(core, entry + L.E_KIND)).toBe(taken % 7);
        const block = word(core, entry + L.E_BLOCK);
        expect(core.blockRead(block, 0, core.blockLength(block))).toEqual(bytesOf(taken % 50, taken));
        core.wasm.submitTake(thread);
        core.wasm.blockFree(block);
      }
    }
    expect(published).toBe(1_024);
    expect(core.wasm.submitPeek(thread)).toBe(0);
    audit(core);
  });

  test('says that there is no space when it is full', () => {
    const core = openCore();
    const thread = openThread(core);
    for (let i = 0; i < L.SUBMIT_RING_ENTRIES; i++) core.wasm.submitPublish(thread, 0, i, 0, 0);
    expect(core.wasm.submitSpace(thread)).toBe(0);
    core.wasm.submitPeek(thread);
    expect(core.wasm.submitSpace(thread), 'an entry that is being read is not free').toBe(0);
    core.wasm.submitTake(thread);
    expect(core.wasm.submitSpace(thread)).toBe(1);
  });
});

describe('parking', () => {
  const park = (core: Core, thread: number): number => core.i32[core.parkIndex(thread)]!;

  test('a wake-up goes to one that is parked for that queue, once', () => {
    const core = openCore();
    const [queue, other] = [openQueue(core), openQueue(core)];
    const [running, elsewhere, parked, another] = [queue, other, queue, queue].map((one) => openThread(core, one));
    for (const thread of [elsewhere, parked, another]) core.wasm.parkBegin(thread!);
    expect(core.wasm.wakeQueue(queue, 1)).toBe(1);
    expect([running, elsewhere, parked, another].map((thread) => park(core, thread!))).toEqual([
      L.PARK_RUNNING,
      L.PARK_PARKED,
      L.PARK_WOKEN,
      L.PARK_PARKED,
    ]);
    expect(core.wasm.wakeQueue(queue, 5)).toBe(1);
    expect(core.wasm.wakeQueue(queue, 5)).toBe(0);
    expect(core.wasm.wakeThread(parked!)).toBe(0);
  });

  test('a claim that leaves jobs behind wakes one more, one that takes the last does not', () => {
    const core = openCore();
    const queue = openQueue(core);
    const [thread, second, third] = [0, 1, 2].map(() => openThread(core, queue));
    for (let i = 0; i < 2; i++) push(core, queue);
    core.wasm.parkBegin(second!);
    core.wasm.parkBegin(third!);
    claim(core, queue, thread, 0);
    expect([park(core, second!), park(core, third!)]).toEqual([L.PARK_WOKEN, L.PARK_PARKED]);
    core.wasm.threadDied(third!);
    expect(park(core, third!), 'a dead thread is not parked').toBe(L.PARK_RUNNING);
  });
});

describe('what a dead thread was running', () => {
  test('is found in its claim entries: neither settled, nor requeued, nor never claimed', () => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    const slots = Array.from({ length: 6 }, () => push(core, queue));
    for (const run of [0, 1, 2, 3]) claim(core, queue, thread, run * 300);
    core.wasm.outcomePublish(thread, L.OUTCOME_COMPLETED, 0, 0, 1, 0);
    core.wasm.jobReady(slots[1]!, 0); // taken back by the engine while it ran
    core.wasm.threadDied(thread);
    for (let entry = core.wasm.outcomePeek(thread) >>> 0; entry !== 0; entry = core.wasm.outcomePeek(thread) >>> 0) {
      core.wasm.runComplete(word(core, entry), word(core, entry + 4), 0, 1);
      core.wasm.outcomeTake(thread);
    }
    expect(core.wasm.runsActive(thread)).toBe(2);
    const found: number[] = [];
    for (let run = 0; ; run++) {
      run = core.wasm.runNext(thread, run);
      if (run === L.CLAIM_ENTRIES_MAX) break;
      found.push(core.wasm.runOf(thread, run) >>> 0);
    }
    expect(found).toEqual([slots[2], slots[3]]);
    for (const slot of found) core.wasm.jobReady(slot, 1);
    expect(core.wasm.runsActive(thread)).toBe(0);
    // Released jobs come first, then those that waited, then the one that was taken back.
    const order = Array.from({ length: 5 }, (_, run) => claim(core, queue, L.ENGINE_THREAD, run));
    expect(order).toEqual([slots[3], slots[2], slots[4], slots[5], slots[1]]);
  });

  test('an entry written before a claim that never came names nothing', () => {
    const core = openCore();
    const queue = openQueue(core);
    const thread = openThread(core, queue);
    const slot = push(core, queue);
    // By hand: `take` wrote the entry of the next generation and stopped before its CAS.
    const at = core.area(thread) + L.A_CLAIMS;
    const hint = (word(core, slot) & ~L.LOW_MASK) | (slot / L.SLOT_BYTES);
    setWord(core, at, hint + 2 ** L.GENERATION_SHIFT);
    setWord(core, at + 4, word(core, slot + 4));
    expect(core.wasm.runNext(thread, 0)).toBe(L.CLAIM_ENTRIES_MAX);
    // Another thread claims it in the same generation: it is that thread's run.
    const other = openThread(core, queue);
    expect(claim(core, queue, other)).toBe(slot);
    expect(core.wasm.runNext(thread, 0)).toBe(L.CLAIM_ENTRIES_MAX);
    expect(core.wasm.runNext(other, 0)).toBe(0);
    expect(create(core, queue)).not.toBe(slot);
  });
});
