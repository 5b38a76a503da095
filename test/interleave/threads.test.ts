import { afterAll, describe, expect, test } from 'vitest';
import { onlyComputes } from '../support/synchronous.js';
import { type Call, call, type Program, type Until } from './machine.js';
import { explore, L, summary, World } from './world.js';

onlyComputes();

afterAll(() => console.log(summary()));

const ENGINE = L.ENGINE_THREAD;

/** Claims, and completes what it gets. */
function* worker(world: World, index: number, count: number, now = 1000): Program {
  const thread = world.threads[index] as number;
  for (let i = 0; i < count; i++) {
    const slot = yield* world.claim(index, 0, now);
    if (slot < L.CLAIM_CODES) continue;
    yield call('outcomePublish', thread, L.OUTCOME_COMPLETED, 0, 0, 1, 0);
  }
}

describe('settling under every schedule', () => {
  test('an outcome counts once, also when its thread stops at any step of publishing it', () => {
    const world = new World(2);
    const jobs = [world.ready(1), world.ready(1), world.ready(1)];
    const engine = function* (): Program {
      for (let i = 0; i < 3; i++) for (const index of [1, 2]) yield* world.settle(index);
    };
    const programs = () => [engine(), worker(world, 1, 2), worker(world, 2, 2)];
    explore(world, 'settle, reap', programs, (dead) => {
      for (const index of [1, 2]) if (index !== dead && dead !== 0) world.settleAll(world.threads[index] as number);
      if (dead !== 0) world.checkAll(dead);
      for (const slot of jobs) {
        const ends = world.settled.filter((one) => one.slot === slot).length;
        if (ends > 1) throw new Error(`job ${slot} was completed ${ends} times`);
        if (dead === -1 && ends === 0) throw new Error(`job ${slot} was never completed`);
      }
    });
  });

  test('an outcome of an earlier run is late, whoever has the job now', () => {
    const world = new World(2);
    const job = world.ready(1);
    const first = world.threads[1] as number;
    let back = false;
    const engine = function* (): Program {
      yield { until: () => world.claims.length > 0 };
      const slot = (yield call('runOf', first, 0)) >>> 0;
      if (slot !== 0) {
        // As after a run that could not be stopped: the job is taken from it.
        yield* world.push(slot, true);
        back = true;
      }
      for (let i = 0; i < 2; i++) for (const index of [1, 2]) yield* world.settle(index);
    };
    const programs = () => {
      back = false;
      return [engine(), worker(world, 1, 1), worker(world, 2, 1)];
    };
    const check = (dead: number) => {
      if (dead === 0) return;
      for (const index of [1, 2]) if (index !== dead) world.settleAll(world.threads[index] as number);
      world.checkAll(dead);
      if (world.settled.filter((one) => one.slot === job).length > 1) throw new Error('both runs counted');
      const late = world.settled.filter((one) => one.slot === 0).length;
      if (!back && late > 0) throw new Error('the only run was late');
    };
    explore(world, 'late settle', programs, check, { mayWait: true });
  });

  test('the rings keep their order where their counters wrap', () => {
    const world = new World(1);
    const thread = world.threads[1] as number;
    for (const offset of [L.T_OUTCOME_HEAD, L.T_OUTCOME_TAIL, L.T_SUBMIT_HEAD, L.T_SUBMIT_TAIL]) {
      world.machine.u32[world.threadWord(1, offset)] = 0xfffffffe;
    }
    for (let i = 0; i < 3; i++) world.ready(1);
    let requests: number[] = [];
    const producer = function* (): Program {
      for (let request = 1; request <= 4; request++) {
        const block = (yield call('blockAlloc', thread, 24)) >>> 0;
        yield call('submitPublish', thread, world.queue, request, 0, block);
        if (request < 4) yield* worker(world, 1, 1);
      }
    };
    const engine = function* (): Program {
      for (let turn = 0; turn < 4; turn++) {
        yield* world.settle(1);
        yield* submits(world, 1, requests);
      }
    };
    const programs = () => {
      requests = [];
      return [engine(), producer()];
    };
    const check = (dead: number) => {
      if (dead === 0) return;
      if (dead === -1) {
        world.settleAll(thread);
        runDirect(world, submits(world, 1, requests));
        if (requests.join() !== '1,2,3,4') throw new Error(`submitted 1 to 4, arrived: ${requests.join()}`);
        if (world.settled.length !== 3) throw new Error(`${world.settled.length} of 3 outcomes arrived`);
      } else if (requests.some((request, at) => request !== at + 1)) throw new Error(`arrived: ${requests.join()}`);
      world.checkAll(dead);
    };
    explore(world, 'rings wrap', programs, check);
  });
});

/** Takes what a thread has submitted, and frees it. */
function* submits(world: World, index: number, requests: number[]): Generator<Call | Until, void, number> {
  const thread = world.threads[index] as number;
  while (true) {
    const entry = (yield call('submitPeek', thread)) >>> 0;
    if (entry === 0) return;
    const { u32 } = world.machine;
    requests.push(u32[(entry + L.E_REQUEST) >>> 2] as number);
    yield call('blockFree', u32[(entry + L.E_BLOCK) >>> 2] as number);
    yield call('submitTake', thread);
  }
}

function runDirect(world: World, program: Generator<Call | Until, unknown, number>): void {
  for (let next = program.next(0); next.done !== true; ) {
    const { name, args } = next.value as Call;
    next = program.next((world.direct[name] as (...args: number[]) => number)(...args));
  }
}

describe('limits at the claim under every schedule', () => {
  test('a concurrency of 1 is never exceeded, and no permit is lost with a thread', () => {
    const world = new World(2);
    world.direct.permitsConfigure!(world.queue, 1);
    const jobs = [world.ready(1), world.ready(2), world.ready(3)];
    // From the return of a claim to the call that publishes its end.
    let running = 0;
    const watched = function* (index: number): Program {
      for (let i = 0; i < 2; i++) {
        const slot = yield* world.claim(index);
        if (slot < L.CLAIM_CODES) continue;
        if (++running > 1) throw new Error(`${running} jobs are running at once`);
        yield call('stateOf', slot); // the run takes a while
        running--;
        yield call('outcomePublish', world.threads[index] as number, L.OUTCOME_COMPLETED, 0, 0, 1, 0);
      }
    };
    const engine = function* (): Program {
      for (let i = 0; i < 3; i++) for (const index of [1, 2]) yield* world.settle(index);
    };
    const programs = () => {
      running = 0;
      return [engine(), watched(1), watched(2)];
    };
    explore(world, 'permits', programs, (dead) => {
      if (dead === 0) return;
      for (const index of [1, 2]) if (index !== dead) world.settleAll(world.threads[index] as number);
      if (dead > 0) world.reap(dead);
      // Whatever happened: one run at a time, as often as there are jobs left.
      const left = jobs.filter((slot) => world.stateOf(slot) === L.STATE_WAITING).length;
      const survivor = dead === 1 ? 2 : 1;
      for (let i = 0; i < left; i++) {
        const slot = world.direct.claim!(world.threads[survivor] as number, world.queue, 0, 2000) >>> 0;
        if (slot < L.CLAIM_CODES) throw new Error(`a permit was lost: code ${slot} with ${left - i} jobs left`);
        const second = world.direct.claim!(world.threads[survivor] as number, world.queue, 1, 2000) >>> 0;
        if (left - i > 1 && second !== L.CLAIM_NO_PERMIT) throw new Error(`a second permit: ${second}`);
        world.direct.outcomePublish!(world.threads[survivor] as number, L.OUTCOME_COMPLETED, 0, 0, 1, 0);
        world.settleAll(world.threads[survivor] as number);
      }
    });
  });

  test('a rate limit lets one start in its time, and takes none for a claim that finds nothing', () => {
    const world = new World(2);
    world.direct.rateConfigure!(world.queue, 1, 100);
    // A stale hint: the heap may have something, but has not.
    world.direct.jobWithdraw!(world.ready(1), L.STATE_BLOCKED);
    world.stays = [];
    const late = world.job(1);
    const programs = () => [
      (function* (): Program {
        yield* world.push(late);
      })(),
      worker(world, 1, 2),
      worker(world, 2, 2),
    ];
    explore(world, 'rate limit', programs, (dead) => {
      const starts = world.claims.filter((one) => one.slot !== 0).length;
      if (starts > 1) throw new Error(`${starts} starts at once`);
      if (dead === 0) return;
      if (dead === -1 && starts === 0) {
        // Nobody found it: then the start is still there to be taken, at the same moment.
        const slot = world.direct.claim!(world.threads[1] as number, world.queue, 3, 1000) >>> 0;
        if (slot !== late) throw new Error(`the start of a claim that found nothing is gone: ${slot}`);
        return;
      }
      if (dead > 0) world.reap(dead);
      if (starts === 0) return;
      const again = world.job(1);
      world.direct.jobReady!(again, 0);
      const free = world.threads[dead === 1 ? 2 : 1] as number;
      const early = world.direct.claim!(free, world.queue, 3, 1099) >>> 0;
      if (early >= L.CLAIM_CODES) throw new Error('a second start within the window');
    });
  });

  test('after a pause has resolved no claim succeeds', () => {
    const world = new World(2);
    for (let i = 0; i < 4; i++) world.ready(i);
    let pausedAt = Number.POSITIVE_INFINITY;
    const engine = function* (): Program {
      yield call('queueFlags', world.queue, L.QUEUE_PAUSED, 0);
      const epoch = (yield call('epochAdvance')) >>> 0;
      while ((yield call('epochPassed', epoch)) === 0) {
        const before = world.machine.time;
        yield { until: () => world.machine.time > before || world.claims.length === 4 };
      }
      pausedAt = world.machine.time;
    };
    const claims = function* (index: number): Program {
      for (let run = 0; run < 2; run++) {
        const slot = yield* world.claim(index, run);
        if (slot >= L.CLAIM_CODES && world.machine.time > pausedAt + 1) {
          const { start } = world.claims[world.claims.length - 1] as { start: number };
          if (start >= pausedAt) throw new Error('claimed in a paused queue');
        }
      }
    };
    const programs = () => {
      pausedAt = Number.POSITIVE_INFINITY;
      return [engine(), claims(1), claims(2)];
    };
    const check = (dead: number) => {
      if (pausedAt !== Number.POSITIVE_INFINITY) {
        for (const { slot, start, end } of world.claims) {
          if (slot !== 0 && start < pausedAt && end > pausedAt + 40) throw new Error('a claim outlived the pause');
        }
      }
      if (dead !== 0) world.checkAll(dead);
    };
    explore(world, 'pause, claim', programs, check, { mayWait: true });
  });
});

describe('parking under every schedule', () => {
  /** As a thread does it: parks, looks once more, sleeps until its word changes; ends with one job. */
  function* parker(world: World, index: number): Program {
    const thread = world.threads[index] as number;
    const word = world.threadWord(index, L.T_PARK);
    while (true) {
      if ((yield* world.claim(index)) >= L.CLAIM_CODES) return;
      yield call('parkBegin', thread);
      if ((yield* world.claim(index)) >= L.CLAIM_CODES) {
        yield call('parkEnd', thread);
        return;
      }
      yield { until: () => world.machine.u32[word] !== L.PARK_PARKED };
      yield call('parkEnd', thread);
    }
  }

  test('no wake-up is lost between looking and sleeping', () => {
    const world = new World(2);
    const slots = [world.job(1), world.job(2)];
    const engine = function* (): Program {
      for (const slot of slots) {
        yield* world.push(slot);
        yield call('wakeQueue', world.queue, 1);
      }
    };
    const programs = () => [engine(), parker(world, 1), parker(world, 2)];
    const check = (dead: number) => {
      if (dead !== 0) world.checkAll(dead);
    };
    explore(world, 'park, wake', programs, check, { mayWait: true });
  });

  test('two jobs pushed before one wake-up reach two parked threads: a claimer wakes the next', () => {
    const world = new World(2);
    const slots = [world.job(1), world.job(1)];
    const engine = function* (): Program {
      for (const slot of slots) yield* world.push(slot);
      yield call('wakeQueue', world.queue, 1);
    };
    const programs = () => [engine(), parker(world, 1), parker(world, 2)];
    const check = (dead: number) => {
      if (dead !== 0) world.checkAll(dead);
    };
    explore(world, 'claimers wake', programs, check, { mayWait: true });
  });

  test('the engine sleeps only when both rings are empty', () => {
    const world = new World(1);
    world.ready(1);
    const thread = world.threads[1] as number;
    const word = (L.THREADS_AT + ENGINE * L.THREAD_BYTES + L.T_PARK) >>> 2;
    const engine = function* (): Program {
      while (world.settled.length === 0) {
        if ((yield* world.settle(1)) > 0) continue;
        yield call('parkBegin', ENGINE);
        if ((yield* world.settle(1)) === 0) yield { until: () => world.machine.u32[word] !== L.PARK_PARKED };
        yield call('parkEnd', ENGINE);
      }
    };
    const programs = () => [engine(), worker(world, 1, 1)];
    const check = (dead: number) => {
      if (dead === -1 && world.settled.length !== 1) throw new Error('the outcome was not seen');
      if (dead === 1) world.reap(1);
    };
    explore(world, 'engine parks', programs, check, { mayWait: true });
    expect(thread).toBeGreaterThan(ENGINE);
  });
});

describe('memory under every schedule', () => {
  test('blocks of several threads never overlap, and all of their chunks come back', () => {
    const world = new World(2);
    const sizes = [32_000, 16_000, 100_000]; // two and four a chunk, and a chain of two
    const used = () => world.machine.u32[L.H_CHUNKS_USED >>> 2] as number;
    const before = used();
    let live = new Map<number, number>();
    const taken = (block: number, bytes: number) => {
      if (block === 0) throw new Error('memory is full');
      const ends = block + Math.min(bytes, L.LARGE_FIRST_BYTES);
      for (const [other, otherEnds] of live) if (block < otherEnds && other < ends) throw new Error('blocks overlap');
      live.set(block, ends);
    };
    const producer = function* (index: number): Program {
      const thread = world.threads[index] as number;
      for (const bytes of [...sizes, 32_000, 32_000]) {
        const block = (yield call('blockAlloc', thread, bytes)) >>> 0;
        taken(block, bytes);
        yield call('submitPublish', thread, world.queue, 1, 0, block);
      }
    };
    const consume = function* (index: number): Generator<Call | Until, void, number> {
      const thread = world.threads[index] as number;
      while (true) {
        const entry = (yield call('submitPeek', thread)) >>> 0;
        if (entry === 0) return;
        const block = world.machine.u32[(entry + L.E_BLOCK) >>> 2] as number;
        live.delete(block);
        yield call('blockFree', block);
        yield call('submitTake', thread);
      }
    };
    const engine = function* (): Program {
      for (let turn = 0; turn < 3; turn++) {
        for (const index of [1, 2]) yield* consume(index);
        yield call('sealedCollect');
        const block = (yield call('blockAlloc', ENGINE, 32_000)) >>> 0;
        taken(block, 32_000);
        live.delete(block);
        yield call('blockFree', block);
      }
    };
    const programs = () => {
      live = new Map();
      return [engine(), producer(1), producer(2)];
    };
    const check = (dead: number) => {
      if (dead === 0) return;
      for (const index of [1, 2]) if (index !== dead) runDirect(world, consume(index));
      world.direct.sealedCollect!();
      // Each thread carves a chunk of two classes, and the engine one: nobody has lost one that was full.
      if (dead === -1 && used() > before + 5) throw new Error(`${used()} chunks are in use, ${before} were before`);
      for (const index of [1, 2]) world.reap(index);
      world.direct.sealedCollect!();
      // The engine keeps one chunk a size class that it carves, and the two areas are free.
      if (used() > before - 2 + 1) throw new Error(`${used()} chunks are in use, ${before} were before`);
    };
    explore(world, 'allocator', programs, check);
  });
});
