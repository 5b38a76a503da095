/** Work repeated so often that anything that is not given back shows: shared by the short and the long soak. */

import {
  type Core,
  cancel,
  chunksUsed,
  claim,
  complete,
  drain,
  L,
  openCore,
  openQueue,
  push,
  random,
  upkeep,
} from './core.js';
import { audit } from './core-audit.js';

export interface Soak {
  readonly name: string;
  readonly paused?: boolean;
  /** One step; `nth` counts from 0. */
  readonly step: (core: Core, queue: number, nth: number) => void;
  readonly before?: (core: Core, queue: number) => void;
}

/** Each priority comes once in 2^32 steps, in no order. */
function distinct(nth: number): number {
  return Math.imul(nth, 0x9e3779b1) | 0;
}

function turn(core: Core, queue: number): void {
  const slot = claim(core, queue);
  if (slot < L.CLAIM_CODES || complete(core) !== slot) throw new Error(`no job came (${slot})`);
  core.wasm.jobRemove(slot);
}

function fill(count: number, priority: (nth: number) => number) {
  return (core: Core, queue: number): void => {
    for (let nth = 0; nth < count; nth++) push(core, queue, { priority: priority(nth) });
  };
}

export const HEAP_SOAKS: readonly Soak[] = [
  {
    name: 'jobs at ever new priorities, 1,000 waiting',
    before: fill(1_000, (nth) => distinct(-1 - nth)),
    step: (core, queue, nth) => {
      push(core, queue, { priority: distinct(nth) });
      turn(core, queue);
    },
  },
  {
    name: 'jobs at ever lower priorities, claimed behind 64 waiting',
    before: fill(64, (nth) => -nth),
    step: (core, queue, nth) => {
      push(core, queue, { priority: -64 - nth });
      turn(core, queue);
    },
  },
  {
    name: 'jobs added and withdrawn in a paused queue',
    paused: true,
    before: fill(100, () => 0),
    step: (core, queue) => cancel(core, push(core, queue)),
  },
  {
    name: 'jobs added first and withdrawn in a paused queue',
    paused: true,
    before: fill(100, () => 0),
    step: (core, queue) => cancel(core, push(core, queue, { first: true })),
  },
  {
    name: 'jobs added and withdrawn at ever new priorities in a paused queue',
    paused: true,
    before: fill(100, (nth) => nth),
    step: (core, queue, nth) => cancel(core, push(core, queue, { priority: distinct(nth), first: nth % 2 === 0 })),
  },
  {
    name: 'one job moved to ever new priorities in a paused queue',
    paused: true,
    before: fill(1, () => 0),
    step: (core, queue, nth) => {
      const slot = core.listHead(queue, L.STATE_WAITING);
      if (core.wasm.jobPrioritise(slot, distinct(nth), nth & 1) === 0) throw new Error('memory is full');
    },
  },
  {
    name: 'one job claimed and released',
    before: fill(1, () => 0),
    step: (core, queue, nth) => {
      if (core.wasm.jobReady(claim(core, queue), nth & 1) === 0) throw new Error('memory is full');
    },
  },
  {
    name: 'jobs claimed while others are withdrawn',
    before: fill(500, (nth) => nth % 3),
    step: (core, queue, nth) => {
      const slot = push(core, queue, { priority: nth % 3 });
      push(core, queue, { priority: nth % 3, first: nth % 7 === 0 });
      if (core.state(slot) === L.STATE_WAITING) cancel(core, slot);
      turn(core, queue);
    },
  },
];

export interface Footprint {
  /** Chunks after a tenth of the steps, after all of them, and after upkeep. */
  readonly tenth: number;
  readonly end: number;
  readonly settled: number;
}

/** Runs a soak; `steps` in all. The core is left consistent, or this throws. */
export function soak({ paused = false, before, step }: Soak, steps: number): Footprint {
  const core = openCore('release');
  const queue = openQueue(core);
  if (paused) core.wasm.queueFlags(queue, L.QUEUE_PAUSED, 0);
  before?.(core, queue);
  let tenth = 0;
  for (let nth = 0; nth < steps; nth++) {
    step(core, queue, nth);
    if (nth === steps / 10 - 1) tenth = chunksUsed(core);
  }
  const end = chunksUsed(core);
  upkeep(core, queue);
  audit(core, queue);
  return { tenth, end, settled: chunksUsed(core) };
}

/** Rounds of `count` jobs, each at a priority that never came before, all there at once and then claimed: chunks after each round. */
export function waves(count: number, rounds: number): number[] {
  const core = openCore('release');
  const queue = openQueue(core);
  return Array.from({ length: rounds }, (_, round) => {
    for (let nth = 0; nth < count; nth++) push(core, queue, { priority: distinct(round * count + nth) });
    let last = 2 ** 31;
    const claimed = drain(core, queue, (slot) => {
      const priority = core.priority(slot);
      if (priority > last) throw new Error(`${priority} came after ${last}`);
      last = priority;
    });
    if (claimed !== count) throw new Error(`${claimed} of ${count} came`);
    upkeep(core, queue);
    audit(core, queue);
    return chunksUsed(core);
  });
}

// ---- payloads -----------------------------------------------------------------------------------------------------------

export interface Churned extends Footprint {
  /** Bytes of the payloads that were there at those two times. */
  readonly tenthBytes: number;
  readonly endBytes: number;
}

/** Mostly small, some large, as log-uniform sizes to 100 KB. */
function payloadBytes(next: () => number): number {
  return Math.floor(16 * (100_000 / 16) ** (next() ** 2));
}

/**
 * `steps` jobs of mixed sizes, about `live` of them there at any time, oldest and random ones going. Every payload carries its own
 * number and length, looked at when it goes.
 */
export function churn(steps: number, live: number, seed: number): Churned {
  const core = openCore('release');
  const queue = openQueue(core);
  const next = random(seed);
  const stamps = new Map<number, number>();
  const waiting: number[] = [];
  let bytes = 0;
  const check = (slot: number): void => {
    const payload = core.field(slot, L.S_PAYLOAD);
    const stamp = stamps.get(slot);
    const last = core.wasm.blockPart(payload, partOf(core.blockLength(payload) - 4)) >>> 0;
    if (core.u32[payload >>> 2] !== stamp) throw new Error(`a payload was overwritten (seed ${seed})`);
    if (last === 0) throw new Error('a payload lost a part');
    stamps.delete(slot);
    bytes -= core.blockLength(payload);
  };
  const add = (nth: number): void => {
    const payload = core.wasm.blockAlloc(L.ENGINE_THREAD, payloadBytes(next)) >>> 0;
    core.u32[payload >>> 2] = nth;
    const slot = push(core, queue, { payload, priority: Math.floor(next() * 10) });
    stamps.set(slot, nth);
    bytes += core.blockLength(payload);
    waiting.push(slot);
  };
  const cancelOne = (): void => {
    const at = Math.floor(next() * waiting.length);
    const slot = waiting[at]!;
    waiting[at] = waiting[waiting.length - 1]!;
    waiting.pop();
    if (core.state(slot) !== L.STATE_WAITING || !stamps.has(slot)) return;
    check(slot);
    cancel(core, slot);
  };
  const runOne = (nth: number): void => {
    const slot = claim(core, queue);
    if (slot < L.CLAIM_CODES) return;
    check(slot);
    const result = nth % 2 === 0 ? 0 : core.wasm.blockAlloc(L.ENGINE_THREAD, payloadBytes(next)) >>> 0;
    complete(core, L.ENGINE_THREAD, 0, result);
    core.wasm.jobRemove(slot);
  };
  let tenth = 0;
  let tenthBytes = 0;
  for (let nth = 0; nth < steps; nth++) {
    add(nth);
    while (stamps.size > live) {
      if (next() < 0.3) cancelOne();
      else runOne(nth);
    }
    if (waiting.length > 4 * live) compact(waiting, stamps);
    if (nth === steps / 10 - 1) [tenth, tenthBytes] = [chunksUsed(core), bytes];
  }
  const [end, endBytes] = [chunksUsed(core), bytes];
  audit(core, queue);
  while (stamps.size > 0) runOne(0);
  upkeep(core, queue);
  audit(core, queue);
  return { tenth, end, settled: chunksUsed(core), tenthBytes, endBytes };
}

function partOf(offset: number): number {
  return offset < L.LARGE_FIRST_BYTES ? 0 : Math.ceil((offset - L.LARGE_FIRST_BYTES + 1) / L.LARGE_PART_BYTES);
}

/** Forgets the slots that have been claimed meanwhile. */
function compact(waiting: number[], stamps: ReadonlyMap<number, number>): void {
  const there = waiting.filter((slot) => stamps.has(slot));
  waiting.splice(0, waiting.length, ...new Set(there));
}
