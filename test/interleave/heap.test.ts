import { afterAll, describe, expect, test } from 'vitest';
import { onlyComputes } from '../support/synchronous.js';
import { call, type Program } from './machine.js';
import { explore, L, summary, World } from './world.js';

onlyComputes();

afterAll(() => console.log(summary()));

/** Claims `count` times, whatever it gets. */
function* claimer(world: World, worker: number, count: number): Program {
  for (let run = 0; run < count; run++) yield* world.claim(worker, run);
}

function* pusher(world: World, slots: readonly number[], first = false): Program {
  for (const slot of slots) yield* world.push(slot, first);
}

describe('the ready heap under every schedule', () => {
  test('pushes of several priorities against claims of two threads', () => {
    const world = new World(2);
    const slots = [5, 9, 5].map((priority) => world.job(priority));
    const programs = () => [pusher(world, slots), claimer(world, 1, 2), claimer(world, 2, 2)];
    const done = explore(world, 'push, claim', programs, (dead) => world.checkAll(dead));
    expect(done.deaths).toBeGreaterThan(0);
  });

  test('priorities that share no node of the trie', () => {
    const world = new World(2);
    world.ready(-2147483648);
    const slots = [0, 2147483647].map((priority) => world.job(priority));
    const programs = () => [pusher(world, slots), claimer(world, 1, 2), claimer(world, 2, 1)];
    explore(world, 'push, claim, far apart', programs, (dead) => world.checkAll(dead));
  });

  test('the head lane against the tail', () => {
    const world = new World(2);
    world.ready(1);
    const [a, b] = [world.job(1), world.job(1)] as const;
    const programs = () => [pusher(world, [a, b], true), claimer(world, 1, 2), claimer(world, 2, 2)];
    explore(world, 'lane', programs, (dead) => world.checkAll(dead));
  });

  test('a withdrawal against claims', () => {
    const world = new World(2);
    const [a] = [world.ready(1), world.ready(1)];
    const canceller = function* (): Program {
      if (yield* world.withdraw(a as number, L.STATE_BLOCKED))
        yield call('jobFinish', a as number, L.STATE_CANCELLED, 0, 1);
    };
    const programs = () => [canceller(), claimer(world, 1, 1), claimer(world, 2, 2)];
    explore(world, 'cancel, claim', programs, (dead) => {
      const state = world.stateOf(a as number);
      const runs = world.claims.filter((one) => one.slot === a).length;
      if (dead === -1 && (state === L.STATE_CANCELLED) === (runs === 1))
        throw new Error('cancelled and run, or neither');
      world.checkAll(dead);
    });
  });

  test('a change of priority against claims', () => {
    const world = new World(2);
    const a = world.ready(1);
    world.ready(5);
    const changer = function* (): Program {
      yield* world.prioritise(a, 9);
    };
    const programs = () => [changer(), claimer(world, 1, 1), claimer(world, 2, 2)];
    explore(world, 'priority, claim', programs, (dead) => {
      const runs = world.claims.filter((one) => one.slot === a).length;
      if (runs > 1) throw new Error('one job was claimed twice');
      if (dead !== 0) world.checkAll(dead);
    });
  });

  test('the hand-over from one segment to the next', () => {
    const world = new World(2);
    for (let i = 0; i < L.LEVEL_INLINE_CELLS; i++) world.ready(3);
    for (let i = 0; i < L.LEVEL_INLINE_CELLS - 1; i++) world.claimNow();
    const slots = [world.job(3), world.job(3)];
    const programs = () => [pusher(world, slots), claimer(world, 1, 2), claimer(world, 2, 2)];
    explore(world, 'segment hand-over', programs, (dead) => world.checkAll(dead));
  });

  test('a segment that is retired and used again', () => {
    const world = new World(2);
    const total = L.LEVEL_INLINE_CELLS + L.SEGMENT_CELLS_MIN;
    for (let i = 0; i < total; i++) world.ready(3);
    for (let i = 0; i < total - 1; i++) world.claimNow();
    const slots = [world.job(3), world.job(3), world.job(4)];
    const engine = function* (): Program {
      yield* world.push(slots[0] as number);
      yield* world.claim(0, 0);
      yield* world.push(slots[1] as number);
      yield call('limboAdvance');
      yield call('limboAdvance');
      yield* world.push(slots[2] as number);
    };
    const programs = () => [engine(), claimer(world, 1, 2), claimer(world, 2, 2)];
    explore(world, 'segment reuse', programs, (dead) => world.checkAll(dead));
  });

  test('a level that empties against a push to it', () => {
    const world = new World(2);
    world.ready(3);
    const slots = [world.job(3), world.job(2)];
    const programs = () => [pusher(world, slots), claimer(world, 1, 2), claimer(world, 2, 2)];
    explore(world, 'emptying, push', programs, (dead) => world.checkAll(dead));
  });

  test('a level that is retired and made again, with claimers on their way into it', () => {
    const world = new World(2);
    world.ready(3);
    world.claimNow(); // empty, and its bits still set
    const [a, b] = [world.job(3), world.job(35)] as const;
    const engine = function* (): Program {
      yield call('levelsSweep', world.queue, 4, 0);
      yield call('limboAdvance');
      yield call('limboAdvance');
      yield* world.push(b); // its blocks are those of the retired level and nodes, if they are free
      yield* world.push(a);
    };
    const programs = () => [engine(), claimer(world, 1, 2), claimer(world, 2, 2)];
    explore(world, 'level retired', programs, (dead) => world.checkAll(dead));
  });

  test('a level that is rewritten without its stale hints', () => {
    const world = new World(2, 60);
    const slots: number[] = [];
    for (let i = 0; i < L.STALE_SLACK + 40; i++) slots.push(world.ready(3));
    for (const slot of slots.slice(3, L.STALE_SLACK + 2)) {
      world.direct.jobWithdraw!(slot, L.STATE_BLOCKED);
      world.stays = world.stays.filter((stay) => stay.slot !== slot);
    }
    const last = slots[L.STALE_SLACK + 2] as number;
    const again = world.job(3);
    const engine = function* (): Program {
      yield* world.withdraw(last, L.STATE_BLOCKED);
      yield* world.push(again);
    };
    const programs = () => [engine(), claimer(world, 1, 2), claimer(world, 2, 2)];
    const size = { preemptions: 1, exhaustive: 60, random: 60, randomPerDeath: 0 };
    explore(world, 'level rewritten', programs, (dead) => world.checkAll(dead), size);
  });

  test('a slot that is used again against a claim by its old hint', () => {
    const world = new World(2);
    const a = world.ready(7);
    world.ready(1);
    let fresh = 0;
    const engine = function* (): Program {
      if (!(yield* world.withdraw(a, L.STATE_BLOCKED))) return;
      yield call('jobFinish', a, L.STATE_CANCELLED, 0, 1);
      yield call('jobRemove', a);
      const block = (yield call('blockAlloc', L.ENGINE_THREAD, 16)) >>> 0;
      fresh = (yield call('jobCreate', world.queue, 4, 0, block, 1, 0)) >>> 0;
      if (fresh !== a) throw new Error('the free slot was not used again');
      yield* world.push(fresh);
    };
    const programs = () => [engine(), claimer(world, 1, 2), claimer(world, 2, 1)];
    explore(world, 'slot reuse', programs, (dead) => world.checkAll(dead));
  });
});
