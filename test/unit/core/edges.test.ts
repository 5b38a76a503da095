import { describe, expect, test } from 'vitest';
import { type Core, create, L, openCore, openQueue, random, word } from '../../support/core.js';
import { audit } from '../../support/core-audit.js';

/** The dependents that are still to be told, in the order in which the core would tell them. */
function dependentsOf(core: Core, dependency: number): number[] {
  const found: number[] = [];
  let previous = 0;
  for (let edge = word(core, dependency + L.S_DEPENDENTS); edge !== 0; edge = word(core, edge + L.D_OUT_NEXT)) {
    expect(word(core, edge + L.D_OUT_PREV)).toBe(previous);
    expect(word(core, edge + L.D_DEPENDENCY)).toBe(dependency);
    found.push(word(core, edge + L.D_DEPENDENT));
    previous = edge;
  }
  return found;
}

function dependenciesOf(core: Core, dependent: number): number[] {
  const found: number[] = [];
  for (let edge = word(core, dependent + L.S_DEPENDENCIES); edge !== 0; edge = word(core, edge + L.D_IN_NEXT)) {
    found.push(word(core, edge + L.D_DEPENDENCY));
  }
  return found;
}

function link(core: Core, dependent: number, dependency: number): number {
  const edge = core.wasm.edgeAdd(dependent, dependency) >>> 0;
  if (edge === 0) throw new Error('no memory for an edge');
  core.wasm.edgeLink(edge);
  return edge;
}

describe('dependency edges', () => {
  test("give a dependent's dependencies in their order when the last is added first, and are dropped in it", () => {
    const core = openCore();
    const queue = openQueue(core);
    const dependencies = Array.from({ length: 50 }, () => create(core, queue));
    const dependent = create(core, queue);
    for (const dependency of [...dependencies].reverse()) link(core, dependent, dependency);
    expect(dependenciesOf(core, dependent)).toEqual(dependencies);
    expect(dependencies.map(() => core.wasm.edgeDrop(dependent) >>> 0)).toEqual(dependencies);
    expect(core.wasm.edgeDrop(dependent)).toBe(0);
    for (const dependency of dependencies) {
      expect(core.field(dependency, L.S_PINS)).toBe(0);
      expect(core.field(dependency, L.S_DEPENDENTS)).toBe(0);
    }
    expect(audit(core, queue).blocksLive).toBe(1); // the root of the queue's trie
  });

  test('are linked and unlinked once, however often it is said', () => {
    const core = openCore();
    const queue = openQueue(core);
    const dependency = create(core, queue);
    const dependents = Array.from({ length: 4 }, () => create(core, queue));
    const edges = dependents.map((dependent) => link(core, dependent, dependency));
    core.wasm.edgeLink(edges[1]!);
    expect(dependentsOf(core, dependency)).toEqual([...dependents].reverse());
    for (const i of [3, 1, 1]) core.wasm.edgeUnlink(edges[i]!);
    expect(dependentsOf(core, dependency)).toEqual([dependents[2], dependents[0]]);
    expect(core.field(dependency, L.S_PINS), 'an unlinked dependent may still read').toBe(4);
    core.wasm.edgeLink(edges[3]!);
    expect(dependentsOf(core, dependency)).toEqual([dependents[3], dependents[2], dependents[0]]);
    for (const dependent of dependents) expect(core.wasm.edgeDrop(dependent) >>> 0).toBe(dependency);
    expect(dependentsOf(core, dependency)).toEqual([]);
    expect(core.field(dependency, L.S_PINS)).toBe(0);
  });

  test('can name the same dependency twice', () => {
    const core = openCore();
    const queue = openQueue(core);
    const [dependency, dependent] = [create(core, queue), create(core, queue)];
    link(core, dependent, dependency);
    link(core, dependent, dependency);
    expect(core.field(dependency, L.S_PINS)).toBe(2);
    expect(core.wasm.edgeDrop(dependent) >>> 0).toBe(dependency);
    expect(dependentsOf(core, dependency)).toEqual([dependent]);
    expect(core.wasm.edgeDrop(dependent) >>> 0).toBe(dependency);
    expect(dependentsOf(core, dependency)).toEqual([]);
  });

  test('agree with a graph kept in JavaScript, whatever the order of links, unlinks and drops', () => {
    const core = openCore();
    const queue = openQueue(core);
    const next = random(5);
    const jobs = Array.from({ length: 40 }, () => create(core, queue));
    const pick = (): number => jobs[Math.floor(next() * jobs.length)]!;
    const outOf = new Map(jobs.map((job) => [job, [] as number[]])); // dependency -> dependents, newest first
    const into = new Map(jobs.map((job) => [job, [] as { dependency: number; edge: number; linked: boolean }[]]));
    const forget = (dependency: number, dependent: number): void => {
      const list = outOf.get(dependency)!;
      list.splice(list.indexOf(dependent), 1);
    };
    for (let step = 0; step < 4_000; step++) {
      const dependent = pick();
      const edges = into.get(dependent)!;
      const kind = next();
      if (kind < 0.5) {
        const dependency = pick();
        // One edge a pair here: two would be told apart by nothing but their address.
        if (edges.some((one) => one.dependency === dependency)) continue;
        edges.unshift({ dependency, edge: link(core, dependent, dependency), linked: true });
        outOf.get(dependency)!.unshift(dependent);
      } else if (kind < 0.75 && edges.length > 0) {
        const one = edges[Math.floor(next() * edges.length)]!;
        core.wasm.edgeUnlink(one.edge);
        if (one.linked) forget(one.dependency, dependent);
        one.linked = false;
      } else {
        const one = edges.shift();
        expect(core.wasm.edgeDrop(dependent) >>> 0).toBe(one?.dependency ?? 0);
        if (one?.linked === true) forget(one.dependency, dependent);
      }
    }
    for (const job of jobs) {
      expect(dependentsOf(core, job)).toEqual(outOf.get(job));
      expect(dependenciesOf(core, job)).toEqual(into.get(job)!.map(({ dependency }) => dependency));
      const pins = [...into.values()].flat().filter(({ dependency }) => dependency === job).length;
      expect(core.field(job, L.S_PINS)).toBe(pins);
    }
    for (const job of jobs) while (core.wasm.edgeDrop(job) !== 0);
    expect(audit(core, queue).blocksLive).toBe(1);
  });

  test.each([
    ['into one dependent', false],
    ['out of one dependency', true],
  ])('cost the same each when there are 10,000 %s', (_what, out) => {
    const core = openCore('release');
    const queue = openQueue(core);
    const hub = create(core, queue);
    const others = Array.from({ length: 100_000 }, () => create(core, queue));
    const time = (count: number): number => {
      const from = performance.now();
      for (let i = 0; i < count; i++) link(core, out ? others[i]! : hub, out ? hub : others[i]!);
      for (let i = 0; i < count; i++) core.wasm.edgeDrop(out ? others[i]! : hub);
      return (performance.now() - from) / count;
    };
    time(10_000);
    const few = Math.min(...Array.from({ length: 9 }, () => time(2_000)));
    const many = Math.min(...[0, 1, 2].map(() => time(100_000)));
    // Fifty times as many: what walks a list takes fifty times as long for each; caches and a busy machine cost less than ten.
    expect(many / few).toBeLessThan(25);
  });
});
