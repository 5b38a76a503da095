import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Core,
  claim,
  complete,
  create,
  L,
  openCore,
  openQueue,
  openThread,
  openTinyCore,
  permitsTaken,
  push,
  settleLimbo,
  setWord,
  tinyMemory,
  word,
} from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

/** Sets a limit as the engine does: lower for as long as runs of a higher one go on. */
function setLimit(core: Core, queue: number, limit: number): void {
  const inForce = limit === L.NO_LIMIT ? limit : Math.max(0, limit - core.wasm.permitsAbove(queue, limit));
  expect(core.wasm.permitsConfigure(queue, inForce)).toBe(1);
}

/** What the engine does when a run has ended while the limit in force is lower than the one that is wanted. */
function freed(core: Core, queue: number, limit: number): void {
  if (limit !== L.NO_LIMIT && word(core, queue + L.Q_PERMIT_LIMIT) < limit) setLimit(core, queue, limit);
}

describe('permits', () => {
  test('let in as many runs as the limit says, and one more for each that ends', () => {
    const core = openCore();
    const queue = openQueue(core);
    setLimit(core, queue, 3);
    for (let i = 0; i < 10; i++) push(core, queue);
    const threads = [openThread(core, queue), openThread(core, queue)];
    for (let run = 0; run < 3; run++) {
      expect(claim(core, queue, threads[run % 2]!, run)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    }
    expect(claim(core, queue, threads[0]!, 5)).toBe(L.CLAIM_NO_PERMIT);
    expect(core.wasm.heapMayHave(queue)).toBe(1);
    complete(core, threads[1], 1);
    expect(claim(core, queue, threads[0]!, 5)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    expect(claim(core, queue, threads[1]!, 6)).toBe(L.CLAIM_NO_PERMIT);
  });

  test('come back with every way in which a run can end', () => {
    const core = openCore();
    const queue = openQueue(core);
    setLimit(core, queue, 1);
    const ends: readonly ((slot: number) => void)[] = [
      (slot) => core.wasm.jobFinish(slot, L.STATE_COMPLETED, 0, 1),
      (slot) => core.wasm.jobFinish(slot, L.STATE_FAILED, 0, 1),
      (slot) => core.wasm.jobFinish(slot, L.STATE_CANCELLED, 0, 1),
      (slot) => core.wasm.jobDelay(slot, 9),
      (slot) => core.wasm.jobBlock(slot),
      (slot) => core.wasm.jobReady(slot, 1),
      (slot) => core.wasm.jobReady(slot, 0),
      (slot) => core.wasm.jobReadyQuiet(slot),
    ];
    for (const end of ends) {
      push(core, queue);
      const slot = claim(core, queue);
      expect(slot).toBeGreaterThanOrEqual(L.CLAIM_CODES);
      push(core, queue);
      expect(claim(core, queue)).toBe(L.CLAIM_NO_PERMIT);
      end(slot);
      core.wasm.queueMark(queue, 0);
    }
    expect(claim(core, queue)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    audit(core, queue);
  });

  test('are put back when no job is found', () => {
    const core = openCore();
    const queue = openQueue(core);
    setLimit(core, queue, 2);
    for (let i = 0; i < 10; i++) {
      const slot = push(core, queue);
      core.wasm.jobWithdraw(slot, L.STATE_CANCELLED);
      expect(claim(core, queue)).toBe(L.CLAIM_EMPTY);
    }
    for (let i = 0; i < 3; i++) push(core, queue);
    expect(claim(core, queue, L.ENGINE_THREAD, 0)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    expect(claim(core, queue, L.ENGINE_THREAD, 2)).toBe(L.CLAIM_NO_PERMIT);
  });

  test('never let in more than the limit, however it is raised and lowered while jobs run', () => {
    const core = openCore();
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ kind: fc.constant('claim' as const) }) },
      { weight: 5, arbitrary: fc.record({ kind: fc.constant('end' as const), nth: fc.nat() }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('limit' as const), limit: fc.nat(12) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 200, size: 'max' }), (steps) => {
        const queue = openQueue(core);
        for (let i = 0; i < steps.length; i++) push(core, queue);
        let limit = 5;
        setLimit(core, queue, limit);
        const active: number[] = [];
        for (const one of steps) {
          if (one.kind === 'limit') {
            limit = one.limit;
            setLimit(core, queue, limit);
          } else if (one.kind === 'end') {
            const [slot] = active.length === 0 ? [] : active.splice(one.nth % active.length, 1);
            if (slot === undefined) continue;
            core.wasm.jobFinish(slot, L.STATE_COMPLETED, 0, 1);
            core.wasm.jobRemove(slot);
            freed(core, queue, limit);
          } else {
            const slot = claim(core, queue);
            const expected = active.length < limit;
            expect(slot >= L.CLAIM_CODES, `${active.length} active, limit ${limit}`).toBe(expected);
            if (slot >= L.CLAIM_CODES) active.push(slot);
            else expect(slot).toBe(L.CLAIM_NO_PERMIT);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test('can be as many as 65,534, and taken ones stay taken while their cells are moved', () => {
    const core = openCore();
    const queue = openQueue(core);
    let active = 0;
    for (const limit of [1, 10, 3_999, 4_001, 12_000, L.LIMIT_CELLS_MAX]) {
      setLimit(core, queue, limit);
      while (active < limit) {
        push(core, queue);
        expect(claim(core, queue)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
        active++;
      }
      push(core, queue);
      expect(claim(core, queue)).toBe(L.CLAIM_NO_PERMIT);
    }
    expect(core.wasm.permitsConfigure(queue, L.LIMIT_CELLS_MAX + 1), 'more than a slot can name').toBe(0);
    expect(word(core, queue + L.Q_PERMIT_LIMIT)).toBe(L.LIMIT_CELLS_MAX);
    for (let slot = core.listHead(queue, L.STATE_WAITING); slot !== 0; ) {
      const next = word(core, slot + L.S_NEXT);
      if (core.state(slot) === L.STATE_ACTIVE) core.wasm.jobFinish(slot, L.STATE_COMPLETED, 0, 1);
      slot = next;
    }
    expect(permitsTaken(core, queue)).toBe(0);
    settleLimbo(core);
    audit(core, queue);
    core.wasm.limitsClear(queue);
    expect(audit(core, queue).largeChunks).toBe(0);
    expect(claim(core, queue)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
  });

  test('of a dead thread come back: those of its jobs with the jobs, the rest by the reaper', () => {
    const core = openCore();
    const queue = openQueue(core);
    setLimit(core, queue, 3);
    const thread = openThread(core, queue);
    for (let i = 0; i < 5; i++) push(core, queue);
    const slot = claim(core, queue, thread, 0);
    const kept = claim(core, queue, L.ENGINE_THREAD, 0);
    // By hand: it took the last permit and stopped before it claimed.
    const segment = word(core, word(core, queue + L.Q_PERMITS));
    setWord(core, segment + 2 * 8, thread);
    expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBe(L.CLAIM_NO_PERMIT);
    core.wasm.threadDied(thread);
    core.wasm.jobReady(slot, 1);
    core.wasm.permitsReap(queue, thread);
    expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBe(slot);
    expect(claim(core, queue, L.ENGINE_THREAD, 2)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    expect(claim(core, queue, L.ENGINE_THREAD, 3), 'that of the run that goes on was left alone').toBe(
      L.CLAIM_NO_PERMIT,
    );
    expect(core.state(kept)).toBe(L.STATE_ACTIVE);
  });

  test('of a limit that is taken away and set again are those of the runs that still go on', () => {
    const core = openCore();
    const queue = openQueue(core);
    for (let i = 0; i < 9; i++) push(core, queue);
    setLimit(core, queue, 2);
    claim(core, queue, L.ENGINE_THREAD, 0);
    claim(core, queue, L.ENGINE_THREAD, 1);
    setLimit(core, queue, L.NO_LIMIT);
    expect(claim(core, queue, L.ENGINE_THREAD, 2)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    setLimit(core, queue, 2);
    expect(claim(core, queue, L.ENGINE_THREAD, 3)).toBe(L.CLAIM_NO_PERMIT);
    complete(core, L.ENGINE_THREAD, 2); // holds no permit
    expect(claim(core, queue, L.ENGINE_THREAD, 3)).toBe(L.CLAIM_NO_PERMIT);
    complete(core, L.ENGINE_THREAD, 0);
    expect(claim(core, queue, L.ENGINE_THREAD, 3)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
  });

  test("are given back once: a later run of the same job without one frees no other run's", () => {
    const core = openCore();
    const queue = openQueue(core);
    setLimit(core, queue, 1);
    const [first, second] = [push(core, queue), push(core, queue)];
    expect(claim(core, queue)).toBe(first);
    core.wasm.jobReady(first, 0);
    expect(claim(core, queue, L.ENGINE_THREAD, 1)).toBe(second);
    setLimit(core, queue, L.NO_LIMIT);
    expect(claim(core, queue)).toBe(first);
    complete(core);
    setLimit(core, queue, 1);
    push(core, queue);
    expect(claim(core, queue)).toBe(L.CLAIM_NO_PERMIT);
    expect(permitsTaken(core, queue)).toBe(1);
  });

  test('that find no memory leave the limit as it was, and nothing lost', () => {
    const core = openTinyCore(64, tinyMemory(64));
    const queue = openQueue(core);
    const before = audit(core, queue);
    // 65,534 cells are 17 blocks of 32 KB, two a chunk: fill until there is no room for them.
    const blocks: number[] = [];
    for (let block = core.wasm.blockAllocReserved(60_000); block !== 0; block = core.wasm.blockAllocReserved(60_000)) {
      blocks.push(block >>> 0);
    }
    for (const block of blocks.splice(0, 3)) core.wasm.blockFree(block);
    for (let i = 0; i < 5; i++) {
      expect(core.wasm.permitsConfigure(queue, L.LIMIT_CELLS_MAX)).toBe(0);
      expect(core.wasm.rateConfigure(queue, L.LIMIT_CELLS_MAX, 1_000)).toBe(0);
      settleLimbo(core);
    }
    expect(word(core, queue + L.Q_PERMIT_LIMIT)).toBe(L.NO_LIMIT);
    expect(word(core, queue + L.Q_RATE_MAX)).toBe(0);
    for (const block of blocks) core.wasm.blockFree(block);
    push(core, queue);
    expect(claim(core, queue)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    complete(core);
    expect(core.wasm.permitsConfigure(queue, 10_000)).toBe(1);
    core.wasm.limitsClear(queue);
    core.wasm.heapClear(queue);
    settleLimbo(core);
    expect(audit(core, queue).blocksLive).toBe(before.blocksLive);
  });
});

describe('the rate limit', () => {
  /** The longest that a start had to wait, and whether any window of `duration` holds more than `max`. */
  function expectWindows(starts: readonly number[], max: number, duration: number): void {
    for (let i = max; i < starts.length; i++) {
      expect(starts[i]! - starts[i - max]!, `starts ${i - max} and ${i}`).toBeGreaterThanOrEqual(duration);
    }
  }

  test('holds over every sliding window, and gives way as soon as it may', () => {
    const core = openCore();
    const step = fc.record({
      wait: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 400 })),
      empty: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 300 }),
        fc.array(step, { minLength: 20, maxLength: 300, size: 'max' }),
        (max, duration, steps) => {
          const queue = openQueue(core);
          core.wasm.rateConfigure(queue, max, duration);
          const slots = steps.map(() => push(core, queue));
          let now = 1_700_000_000_000;
          const starts: number[] = [];
          for (const { wait, empty } of steps) {
            now += wait;
            const recent = starts.filter((at) => at > now - duration).length;
            if (empty) {
              // A job that goes away under the claim: its start must be put back.
              const other = withdrawAll(core, slots);
              expect(claim(core, queue, L.ENGINE_THREAD, 0, now)).toBe(
                recent < max ? L.CLAIM_EMPTY : L.CLAIM_RATE_LIMITED,
              );
              for (const slot of other) core.wasm.jobReady(slot, 0);
              continue;
            }
            const next = core.wasm.rateNext(queue, now);
            const slot = claim(core, queue, L.ENGINE_THREAD, 0, now);
            expect(slot >= L.CLAIM_CODES, `${recent} starts in the window, max ${max}`).toBe(recent < max);
            if (slot >= L.CLAIM_CODES) {
              starts.push(now);
              expect(next).toBe(0);
              complete(core);
              core.wasm.jobRemove(slot);
              slots.splice(slots.indexOf(slot), 1);
            } else {
              expect(slot).toBe(L.CLAIM_RATE_LIMITED);
              expect(next).toBe(starts[starts.length - max]! + duration);
            }
          }
          expectWindows(starts, max, duration);
          for (const slot of slots) {
            core.wasm.jobWithdraw(slot, L.STATE_CANCELLED);
            core.wasm.jobRemove(slot);
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  /** Withdraws every waiting job for a moment. */
  function withdrawAll(core: Core, slots: readonly number[]): number[] {
    const withdrawn = slots.filter((slot) => core.state(slot) === L.STATE_WAITING);
    for (const slot of withdrawn) core.wasm.jobWithdraw(slot, L.STATE_BLOCKED);
    return withdrawn;
  }

  test('holds with times between whole milliseconds', () => {
    const core = openCore();
    const queue = openQueue(core);
    core.wasm.rateConfigure(queue, 2, 100);
    for (let i = 0; i < 10; i++) push(core, queue);
    const base = 1_700_000_000_000;
    const at = (ms: number): boolean => claim(core, queue, L.ENGINE_THREAD, 0, base + ms) >= L.CLAIM_CODES;
    expect([at(0.25), at(0.5), at(100), at(100.125), at(100.25), at(100.375), at(100.5)]).toEqual([
      true,
      true,
      false,
      false,
      true,
      false,
      true,
    ]);
  });

  test('gives back the permit when a start is refused', () => {
    const core = openCore();
    const queue = openQueue(core);
    setLimit(core, queue, 1);
    core.wasm.rateConfigure(queue, 1, 100);
    for (let i = 0; i < 3; i++) push(core, queue);
    expect(claim(core, queue, L.ENGINE_THREAD, 0, 1_000)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    complete(core);
    for (const now of [1_001, 1_050, 1_099]) {
      expect(claim(core, queue, L.ENGINE_THREAD, 0, now)).toBe(L.CLAIM_RATE_LIMITED);
    }
    expect(claim(core, queue, L.ENGINE_THREAD, 0, 1_100)).toBeGreaterThanOrEqual(L.CLAIM_CODES);
    expect(claim(core, queue, L.ENGINE_THREAD, 1, 2_000)).toBe(L.CLAIM_NO_PERMIT);
  });

  test('costs one start, never an excess, when a thread stops between its start and its claim', () => {
    const core = openCore();
    const queue = openQueue(core);
    core.wasm.rateConfigure(queue, 3, 100);
    for (let i = 0; i < 9; i++) push(core, queue);
    const segment = word(core, word(core, queue + L.Q_RATE));
    core.f64[segment >>> 3] = 1_000; // by hand: taken at 1,000, no claim followed
    const at = (now: number): boolean => claim(core, queue, L.ENGINE_THREAD, 0, now) >= L.CLAIM_CODES;
    expect([at(1_000), at(1_001), at(1_002), at(1_099), at(1_100)]).toEqual([true, true, false, false, true]);
  });

  test('can be raised, lowered and taken away: each holds from then on', () => {
    const core = openCore();
    const queue = openQueue(core);
    for (let i = 0; i < 30_000; i++) push(core, queue);
    let now = 1_000;
    const burst = (): number => {
      let count = 0;
      while (count < 20_000 && claim(core, queue, L.ENGINE_THREAD, 0, now) >= L.CLAIM_CODES) count++;
      return count;
    };
    core.wasm.rateConfigure(queue, 5, 100);
    expect(burst()).toBe(5);
    core.wasm.rateConfigure(queue, 8, 100);
    expect(burst(), 'the five of this window count').toBe(3);
    core.wasm.rateConfigure(queue, 9_000, 100);
    expect(burst(), 'over a border of segments').toBe(8_992);
    core.wasm.rateConfigure(queue, 4, 100);
    expect(burst(), 'more than four are in this window').toBe(0);
    now += 100;
    expect(burst()).toBe(4);
    core.wasm.rateConfigure(queue, 0, 0);
    expect(core.wasm.rateNext(queue, now)).toBe(0);
    expect(burst()).toBe(20_000);
    expect(create(core, queue)).not.toBe(0);
  });

  test('when lowered counts the starts of this window, wherever they are noted', () => {
    const core = openCore();
    const queue = openQueue(core);
    for (let i = 0; i < 100; i++) push(core, queue);
    const burst = (now: number): number => {
      let count = 0;
      while (claim(core, queue, L.ENGINE_THREAD, 0, now) >= L.CLAIM_CODES) count++;
      return count;
    };
    core.wasm.rateConfigure(queue, 20, 100);
    for (let i = 0; i < 10; i++) claim(core, queue, L.ENGINE_THREAD, 0, 1_000);
    for (let i = 0; i < 10; i++) claim(core, queue, L.ENGINE_THREAD, 0, 1_090);
    core.wasm.rateConfigure(queue, 5, 100);
    expect(burst(1_100), 'ten starts are 10 ms old').toBe(0);
    expect(burst(1_189)).toBe(0);
    expect(burst(1_190)).toBe(5);
    core.wasm.rateConfigure(queue, 12, 100);
    expect(burst(1_200)).toBe(7);
  });
});
