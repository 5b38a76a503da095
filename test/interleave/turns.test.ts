/** What the engine lets claimers have one after the other: probes of a breaker, the first jobs of groups. */
import { afterAll, describe, test } from 'vitest';
import { onlyComputes } from '../support/synchronous.js';
import { type Call, call, type Program, type Until } from './machine.js';
import { explore, L, summary, World } from './world.js';

onlyComputes();

afterAll(() => console.log(summary()));

/** As the world's own claims, without its book of who waits where. */
function* claim(world: World, index: number, breaker = 0): Generator<Call | Until, number, number> {
  return (yield call('claim', world.threads[index] as number, world.queue, 0, 1000, breaker)) >>> 0;
}

function publish(world: World, index: number): Call {
  return call('outcomePublish', world.threads[index] as number, L.OUTCOME_COMPLETED, 0, 0, 1, 0);
}

describe('a breaker under every schedule', () => {
  test('half-open lets one probe run at a time, and loses none with a thread', () => {
    const world = new World(2);
    const breaker = world.direct.breakerCreate!(1) >>> 0;
    world.direct.breakerSet!(breaker, 0, L.BREAKER_HALF_OPEN);
    const jobs = [world.ready(1), world.ready(2), world.ready(3)];
    let running = 0;
    const prober = function* (index: number): Program {
      for (let i = 0; i < 2; i++) {
        const slot = yield* claim(world, index, breaker);
        if (slot < L.CLAIM_CODES) continue;
        if (++running > 1) throw new Error(`${running} probes are running at once`);
        yield call('stateOf', slot); // the run takes a while
        running--;
        yield publish(world, index);
      }
    };
    const engine = function* (): Program {
      for (let i = 0; i < 3; i++) {
        for (const index of [1, 2]) {
          yield* world.settle(index);
          while (world.settled.length > 0) yield call('probeReturn', breaker, world.settled.pop()!.slot);
        }
      }
    };
    const programs = () => {
      running = 0;
      return [engine(), prober(1), prober(2)];
    };
    const ended = (index: number) => {
      world.settleAll(world.threads[index] as number);
      for (const { slot } of world.settled.splice(0)) if (slot !== 0) world.direct.probeReturn!(breaker, slot);
    };
    explore(world, 'probes', programs, (dead) => {
      if (dead === 0) return;
      for (const index of [1, 2]) if (index !== dead) ended(index);
      if (dead > 0) {
        for (const slot of world.reap(dead)) world.direct.probeReturn!(breaker, slot);
        for (const { slot } of world.settled.splice(0)) if (slot !== 0) world.direct.probeReturn!(breaker, slot);
        world.direct.probesReap!(breaker, world.threads[dead] as number);
      }
      const left = jobs.filter((slot) => world.stateOf(slot) === L.STATE_WAITING).length;
      const survivor = dead === 1 ? 2 : 1;
      const thread = world.threads[survivor] as number;
      for (let i = 0; i < left; i++) {
        const slot = world.direct.claim!(thread, world.queue, 0, 2000, breaker) >>> 0;
        if (slot < L.CLAIM_CODES) throw new Error(`a probe was lost: code ${slot} with ${left - i} jobs left`);
        const second = world.direct.claim!(thread, world.queue, 1, 2000, breaker) >>> 0;
        if (left - i > 1 && second !== L.CLAIM_BREAKER) throw new Error(`a second probe: ${second}`);
        world.direct.outcomePublish!(thread, L.OUTCOME_COMPLETED, 0, 0, 1, 0);
        ended(survivor);
      }
    });
  });

  test('whoever begins to claim when it has been opened claims nothing', () => {
    const world = new World(2);
    const breaker = world.direct.breakerCreate!(1) >>> 0;
    for (let i = 0; i < 4; i++) world.ready(i);
    let openedAt = Number.POSITIVE_INFINITY;
    const engine = function* (): Program {
      yield call('breakerSet', breaker, 1, L.BREAKER_OPEN);
      openedAt = world.machine.time;
    };
    const claimer = function* (index: number): Program {
      for (let i = 0; i < 2; i++) {
        const start = world.machine.time;
        const slot = yield* claim(world, index, breaker);
        if (slot < L.CLAIM_CODES) continue;
        if (start >= openedAt) throw new Error('claimed through an open breaker');
        yield publish(world, index);
      }
    };
    const programs = () => {
      openedAt = Number.POSITIVE_INFINITY;
      return [engine(), claimer(1), claimer(2)];
    };
    explore(world, 'open', programs, () => {});
  });
});

describe('failures in a row', () => {
  test('open it at once: no claim that begins after the last of them was counted succeeds', () => {
    const world = new World(2);
    const { direct, machine } = world;
    const breaker = direct.breakerCreate!(1) >>> 0;
    direct.breakerLimit!(breaker, 2);
    for (let i = 0; i < 6; i++) world.ready(i);
    let failures = 0;
    let openedAt = Number.POSITIVE_INFINITY;
    const failing = function* (index: number): Program {
      for (let i = 0; i < 3; i++) {
        const start = machine.time;
        const slot = yield* claim(world, index, breaker);
        if (slot < L.CLAIM_CODES) continue;
        if (start >= openedAt) throw new Error('claimed after two failures');
        yield call('breakerReport', breaker, 0, 1);
        if (++failures === 2) openedAt = machine.time;
        yield publish(world, index);
      }
    };
    const programs = () => {
      failures = 0;
      openedAt = Number.POSITIVE_INFINITY;
      return [failing(1), failing(2)];
    };
    explore(world, 'failures', programs, () => {
      if (failures > 3) throw new Error(`${failures} calls: more than two and one in flight`);
    });
  });

  test('of an earlier period count no more', () => {
    const world = new World(2);
    const { direct, machine } = world;
    const breaker = direct.breakerCreate!(1) >>> 0;
    direct.breakerLimit!(breaker, 1);
    const engine = function* (): Program {
      yield call('breakerSet', breaker, 1, L.BREAKER_OPEN);
      yield call('breakerSet', breaker, 1, L.BREAKER_CLOSED);
    };
    const late = function* (): Program {
      yield call('breakerReport', breaker, 0, 1);
    };
    explore(
      world,
      'periods',
      () => [engine(), late(), late()],
      (dead) => {
        if (dead !== -1) return;
        // What was counted before the opening has opened it; what comes after says nothing about the time after it.
        const state = machine.u32[(breaker + L.BR_WORD) >>> 2]! & L.BR_STATE_MASK;
        if (state !== L.BREAKER_CLOSED) throw new Error(`it is in state ${state}`);
      },
    );
  });
});

describe('groups under every schedule', () => {
  /** Jobs that run once, one of a group at a time in the queue's heap, however claims and the engine's moves fall. */
  test('no job is lost or run twice while it comes up, goes back, ages or is withdrawn', () => {
    const world = new World(2);
    const { direct } = world;
    const group = direct.groupOpen!() >>> 0;
    const jobs = [world.job(1), world.job(1), world.job(1)];
    const [low, middle] = jobs as [number, number, number];
    for (const slot of jobs) direct.groupPut!(slot, group, 0);
    let claimed: number[] = [];
    let withdrawn = false;
    const engine = function* (): Program {
      yield call('groupSurface', group, 0);
      yield call('jobAge', low, 3);
      // One that goes before it: it makes way, unless a claim came first.
      yield call('groupSink', low, group);
      yield call('groupSurface', group, 1);
      withdrawn = (yield call('jobWithdraw', middle, L.STATE_BLOCKED)) !== 0;
      yield call('groupSurface', group, 0);
    };
    const claimer = function* (index: number): Program {
      for (let i = 0; i < 2; i++) {
        const slot = yield* claim(world, index);
        if (slot < L.CLAIM_CODES) continue;
        claimed.push(slot);
        yield publish(world, index);
      }
    };
    const programs = () => {
      claimed = [];
      withdrawn = false;
      return [engine(), claimer(1), claimer(2)];
    };
    explore(world, 'groups', programs, (dead) => {
      if (new Set(claimed).size !== claimed.length) throw new Error(`claimed twice: ${claimed.join()}`);
      if (withdrawn && claimed.includes(middle)) throw new Error('claimed after it was withdrawn');
      if (dead === 0) return;
      if (dead > 0) world.reap(dead);
      for (const index of [1, 2]) if (index !== dead) world.settleAll(world.threads[index] as number);
      // Whatever still waits is found: in the queue's heap, or in the group's.
      const found: number[] = [];
      const take = () => {
        for (;;) {
          const slot = direct.claim!(L.ENGINE_THREAD, world.queue, found.length, 5000) >>> 0;
          if (slot < L.CLAIM_CODES) return;
          found.push(slot);
        }
      };
      take();
      while (direct.groupSurface!(group, 0) >>> 0 !== 0) take();
      const ended = world.settled.map(({ slot }) => slot).filter((slot) => slot !== 0);
      const all = [...found, ...ended, ...(withdrawn ? [middle] : [])].sort();
      if (all.join() !== [...jobs].sort().join()) throw new Error(`${jobs.join()} were there, found ${all.join()}`);
    });
  });

  test('the count of what can be claimed is right when nobody moves', () => {
    const world = new World(2);
    const { direct } = world;
    const waiting = [world.ready(1), world.ready(2)];
    direct.queueCount!(world.queue, 1, waiting.length);
    const late = world.job(3);
    const engine = function* (): Program {
      yield call('jobReady', late, 0);
      yield call('jobWithdraw', waiting[0] as number, L.STATE_BLOCKED);
    };
    const claimer = function* (index: number): Program {
      const slot = yield* claim(world, index);
      if (slot >= L.CLAIM_CODES) yield publish(world, index);
    };
    const programs = () => [engine(), claimer(1), claimer(2)];
    explore(world, 'count', programs, (dead) => {
      if (dead !== -1) return;
      const left = [...waiting, late].filter((slot) => world.stateOf(slot) === L.STATE_WAITING).length;
      const count = world.machine.u32[(world.queue + L.Q_READY) >>> 2];
      if (count !== left) throw new Error(`${count} are counted, ${left} wait`);
    });
  });
});
