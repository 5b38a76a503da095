/**
 * The core without an engine: memories of any size, the build with assertions, and the few steps that most tests need. All threads of
 * a test are indices handed to the same instance: the tests say themselves in which order their steps happen.
 */
import { readFileSync } from 'node:fs';
import { Core, L } from '#engine/core/index.js';
import { createMemory } from '#engine/core/memory.js';

export { Core, L };

/** `verify` checks every assertion of the core, `release` is what is shipped. */
export type Build = 'verify' | 'release';

const modules = new Map<Build, WebAssembly.Module>();

function moduleOf(build: Build): WebAssembly.Module {
  let module = modules.get(build);
  if (module === undefined) {
    const name = build === 'verify' ? 'flashq.verify.wasm' : 'flashq.wasm';
    module = new WebAssembly.Module(readFileSync(new URL(`../../dist/core-wasm/${name}`, import.meta.url)));
    modules.set(build, module);
  }
  return module;
}

/** A core with the largest memory: address space only, so nothing is occupied before it is used. */
export function openCore(build: Build = 'verify', pages: number = L.PAGES_MAX): Core {
  return Core.format({ module: moduleOf(build), memory: createMemory().memory }, pages);
}

/**
 * A core whose memory ends after exactly `pages` pages: what it touches beyond them traps. `memory`: one that an earlier call made, to
 * be used again (a memory reserves gigabytes of address space, and hundreds of them are more than a process gets).
 */
export function openTinyCore(pages: number, memory?: WebAssembly.Memory): Core {
  if (memory !== undefined) new Uint8Array(memory.buffer).fill(0);
  return Core.format({ module: moduleOf('verify'), memory: memory ?? tinyMemory(pages) }, pages);
}

export function tinyMemory(pages: number): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

// ---- words --------------------------------------------------------------------------------------------------------------

export function word(core: Core, at: number): number {
  return core.u32[at >>> 2] as number;
}

export function setWord(core: Core, at: number, value: number): void {
  core.u32[at >>> 2] = value;
}

export function chunksUsed(core: Core): number {
  return word(core, L.H_CHUNKS_USED);
}

export function ownerOf(core: Core, address: number): number {
  return core.u16[(L.OWNERS_AT >>> 1) + Math.floor(address / L.PAGE_BYTES)] as number;
}

export function generation(core: Core, slot: number): number {
  const at = (slot + L.S_WORD) >>> 2;
  return (
    (core.u32[at] as number) / 2 ** L.GENERATION_SHIFT + (core.u32[at + 1] as number) * 2 ** 7 - fraction(core, slot)
  );
}

function fraction(core: Core, slot: number): number {
  return ((core.u32[slot >>> 2] as number) & L.LOW_MASK) / 2 ** L.GENERATION_SHIFT;
}

// ---- steps --------------------------------------------------------------------------------------------------------------

export function openQueue(core: Core): number {
  const queue = core.wasm.queueOpen() >>> 0;
  if (queue === 0) throw new Error('no memory for a queue');
  return queue;
}

export function openThread(core: Core, queue = 0): number {
  const thread = core.wasm.threadOpen(queue) >>> 0;
  if (thread === 0) throw new Error('no memory for a thread');
  return thread;
}

export interface Shape {
  readonly priority?: number;
  readonly flags?: number;
  readonly payload?: number;
  readonly first?: boolean;
  readonly expiry?: number;
  readonly now?: number;
}

/** A job in no state yet; throws when memory is full. */
export function create(core: Core, queue: number, shape: Shape = {}): number {
  const { priority = 0, flags = 0, payload = 0, expiry = 0, now = 1 } = shape;
  const slot = core.wasm.jobCreate(queue, priority, flags, payload, now, expiry) >>> 0;
  if (slot === 0) throw new Error('no memory for a job');
  return slot;
}

/** A waiting job. */
export function push(core: Core, queue: number, shape: Shape = {}): number {
  const slot = create(core, queue, shape);
  if (core.wasm.jobReady(slot, shape.first === true ? 1 : 0) === 0) throw new Error('no memory for a hint');
  return slot;
}

/** The slot claimed by `thread`, or a CLAIM_ code. */
export function claim(core: Core, queue: number, thread: number = L.ENGINE_THREAD, run = 0, now = 1): number {
  return core.wasm.claim(thread, queue, run, now) >>> 0;
}

/** Ends the run in a thread's entry; its slot, or 0 when the ticket is late. */
export function complete(core: Core, thread: number = L.ENGINE_THREAD, run = 0, result = 0, now = 1): number {
  const area = core.area(thread);
  return core.wasm.runComplete(core.ticketLow(area, run), core.ticketHigh(area, run), result, now) >>> 0;
}

/** Claims until nothing comes, ends and removes each; the slots in the order in which they came. */
export function drain(core: Core, queue: number, visit?: (slot: number) => void): number {
  for (let count = 0; ; count++) {
    const slot = claim(core, queue);
    if (slot < L.CLAIM_CODES) return count;
    visit?.(slot);
    if (complete(core) !== slot) throw new Error('a run was not its own');
    core.wasm.jobRemove(slot);
  }
}

/** Withdraws a waiting job and removes it. */
export function cancel(core: Core, slot: number): void {
  if (core.wasm.jobWithdraw(slot, L.STATE_CANCELLED) === 0) throw new Error('a claim came first');
  core.wasm.jobRemove(slot);
}

/** Permit cells of a queue that are taken. */
export function permitsTaken(core: Core, queue: number): number {
  const directory = word(core, queue + L.Q_PERMITS);
  let taken = 0;
  for (let cell = 0; cell < word(core, queue + L.Q_PERMIT_CELLS); cell++) {
    const segment = word(core, directory + Math.floor(cell / L.LIMIT_SEGMENT_CELLS) * 4);
    if (word(core, segment + (cell % L.LIMIT_SEGMENT_CELLS) * 8) !== 0) taken++;
  }
  return taken;
}

/** Lets what was retired become free: two batches, one tagged and one gathered. */
export function settleLimbo(core: Core): void {
  for (let i = 0; i < 3; i++) core.wasm.limboAdvance();
}

/** Everything an idle engine's upkeep does, until it changes nothing more. */
export function upkeep(core: Core, ...queues: readonly number[]): void {
  core.wasm.sealedCollect();
  for (const queue of queues) {
    for (let before = -1; before !== word(core, queue + L.Q_LEVELS); ) {
      before = word(core, queue + L.Q_LEVELS);
      core.wasm.levelsSweep(queue, before, 0);
    }
  }
  settleLimbo(core);
}

// ---- data ---------------------------------------------------------------------------------------------------------------

/** Mulberry32 (T. Ettinger): numbers in [0, 1), the same for the same seed. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Bytes that differ from place to place and from seed to seed. */
export function bytesOf(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed + 1) >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}
