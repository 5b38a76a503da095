/**
 * Real threads over the core, without an engine: each claims, writes a result that names its job, and publishes it, until it is
 * stopped, which may be anywhere inside a call.
 */
import { Worker } from 'node:worker_threads';
import { type Core, chunksUsed, L, openCore, openQueue, permitsTaken, push, random, upkeep, word } from './core.js';
import { audit } from './core-audit.js';

/** Words that the threads count in: how many are inside a run with a permit, and the most there ever were. */
export const INSIDE = 0;
export const INSIDE_MAX = 1;

// Plain JavaScript: a worker can't load the tests' TypeScript. `core` and `L` come from the built files.
const SCRIPT = `
const { workerData } = require('node:worker_threads');
const { handle, thread, queue, counters, seed, core: url } = workerData;
import(url).then(({ Core, L }) => {
  const core = Core.join(handle);
  const { wasm } = core;
  let state = seed;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 4294967296;
  const area = core.area(thread);
  while (true) {
    const slot = wasm.claim(thread, queue, 0, 1) >>> 0;
    if (slot < L.CLAIM_CODES) {
      wasm.parkBegin(thread);
      // Once more after saying so: a push since then would have found nobody parked.
      if (slot !== L.CLAIM_EMPTY || !wasm.heapMayHave(queue)) Atomics.wait(core.i32, core.parkIndex(thread), L.PARK_PARKED, 20);
      wasm.parkEnd(thread);
      continue;
    }
    const inside = Atomics.add(counters, 0, 1) + 1;
    for (let most = Atomics.load(counters, 1); inside > most; ) most = Atomics.compareExchange(counters, 1, most, inside);
    // Work of up to some 20 microseconds: a thread that only claimed would have filled its ring before it is stopped.
    for (let spin = next() * 10_000; spin > 0; spin--) Atomics.load(counters, 0);
    const released = next() < 0.1;
    let block = 0;
    if (!released) {
      block = wasm.blockAlloc(thread, 16 + Math.floor(next() ** 4 * 100_000)) >>> 0;
      core.u32[block >>> 2] = core.u32[(slot + L.S_NUMBER) >>> 2];
      core.u32[(block >>> 2) + 1] = core.u32[(slot + L.S_ATTEMPTS) >>> 2];
    }
    Atomics.sub(counters, 0, 1);
    wasm.outcomePublish(thread, released ? L.OUTCOME_RELEASED : L.OUTCOME_COMPLETED, 0, block, 1, 0);
  }
});
`;

export interface Claimer {
  readonly thread: number;
  readonly worker: Worker;
}

export function startClaimer(core: Core, queue: number, counters: Int32Array, seed: number): Claimer {
  const thread = core.wasm.threadOpen(queue) >>> 0;
  if (thread === 0) throw new Error('no thread');
  const url = new URL('../../dist/engine/core/index.js', import.meta.url).href;
  const workerData = { handle: core.handle, thread, queue, counters, seed, core: url };
  const worker = new Worker(SCRIPT, { eval: true, workerData });
  worker.on('error', (error) => {
    throw error;
  });
  return { thread, worker };
}

/** Stops a thread wherever it is. It has ended when this resolves. */
export async function kill({ worker }: Claimer): Promise<void> {
  await worker.terminate();
}

/** What the engine does for a dead thread, its rings drained; `back` gets each job that it was running. */
export function reap(core: Core, queue: number, thread: number, back: (slot: number) => void): void {
  for (let run = core.wasm.runNext(thread, 0); run < L.CLAIM_ENTRIES_MAX; run = core.wasm.runNext(thread, run + 1)) {
    back(core.wasm.runOf(thread, run) >>> 0);
  }
  core.wasm.permitsReap(queue, thread);
  core.wasm.chunksReap(thread);
  core.wasm.threadFree(thread);
}

// ---- the engine's part --------------------------------------------------------------------------------------------------

export interface SceneOptions {
  readonly jobs: number;
  readonly threads: number;
  readonly kills: number;
  readonly permits?: number;
  readonly seed: number;
}

/** The engine's part, in turns between which the event loop may see threads end. */
class Scene {
  readonly counters = new Int32Array(new SharedArrayBuffer(8));
  readonly core: Core;
  readonly queue: number;
  readonly waiting: number[] = [];
  readonly completed = new Map<number, number>();
  claimers: Claimer[] = [];
  cancelled = 0;
  returned = 0;
  readonly #options: SceneOptions;
  readonly #next: () => number;
  #started = 0;

  constructor(options: SceneOptions) {
    this.#options = options;
    this.#next = random(options.seed);
    this.core = openCore();
    this.queue = openQueue(this.core);
    if (options.permits !== undefined) this.core.wasm.permitsConfigure(this.queue, options.permits);
    for (let i = 0; i < options.threads; i++) this.#start();
  }

  #start(): void {
    this.claimers.push(startClaimer(this.core, this.queue, this.counters, this.#options.seed + this.#started++));
  }

  get done(): number {
    return this.completed.size + this.cancelled;
  }

  /** Adds a job with a payload, at one of a few priorities or at one of its own. */
  add(): void {
    const next = this.#next;
    const payload = this.core.wasm.blockAlloc(L.ENGINE_THREAD, Math.floor(next() ** 4 * 20_000)) >>> 0;
    const priority = next() < 0.7 ? Math.floor(next() * 5) : Math.floor((next() - 0.5) * 2 ** 32);
    const slot = push(this.core, this.queue, { priority, payload, first: next() < 0.1 });
    this.waiting.push(slot);
    this.core.wasm.wakeQueue(this.queue, 1);
  }

  /** Cancels or moves a job that may be claimed at the same moment. */
  disturb(): void {
    const { core } = this;
    const slot = this.waiting[Math.floor(this.#next() * this.waiting.length)]!;
    if (core.state(slot) !== L.STATE_WAITING) return;
    if (this.#next() < 0.98) core.wasm.jobPrioritise(slot, Math.floor(this.#next() * 100), 0);
    else if (core.wasm.jobWithdraw(slot, L.STATE_CANCELLED) !== 0) {
      core.wasm.jobRemove(slot);
      this.cancelled++;
    }
  }

  collect(thread: number): void {
    const { core } = this;
    for (let entry = core.wasm.outcomePeek(thread) >>> 0; entry !== 0; entry = core.wasm.outcomePeek(thread) >>> 0) {
      const block = word(core, entry + L.E_BLOCK);
      const slot = core.wasm.runSlot(word(core, entry), word(core, entry + 4)) >>> 0;
      if (slot === 0) throw new Error('an outcome of a live run came too late');
      if (word(core, entry + L.E_KIND) === L.OUTCOME_RELEASED) core.wasm.jobReady(slot, 1);
      else {
        const number = core.number(slot);
        if (core.u32[block >>> 2] !== number) throw new Error('a result is not that of its job');
        this.completed.set(number, (this.completed.get(number) ?? 0) + 1);
        core.wasm.jobFinish(slot, L.STATE_COMPLETED, block, 1);
        core.wasm.jobRemove(slot);
      }
      core.wasm.outcomeTake(thread);
    }
  }

  /** Kills one thread wherever it is, takes back what it had, and starts another. */
  async replaceOne(): Promise<void> {
    const [victim] = this.claimers.splice(Math.floor(this.#next() * this.claimers.length), 1);
    await this.end(victim!);
    this.#start();
  }

  async end(claimer: Claimer): Promise<void> {
    await kill(claimer);
    this.core.wasm.threadDied(claimer.thread);
    this.collect(claimer.thread);
    reap(this.core, this.queue, claimer.thread, (slot) => {
      this.core.wasm.jobReady(slot, 1);
      this.returned++;
    });
  }

  async run(): Promise<void> {
    const { jobs, kills } = this.#options;
    let added = 0;
    let killed = 0;
    while (this.done < jobs) {
      // Always a backlog, so that threads are at work when they are stopped.
      for (; added < jobs && added - this.done < 2_000; added++) this.add();
      for (let i = 0; i < 2; i++) this.disturb();
      for (const { thread } of this.claimers) this.collect(thread);
      this.core.wasm.sealedCollect();
      this.core.wasm.wakeQueue(this.queue, this.claimers.length);
      // After the first result, so that threads are at work and not still loading.
      if (killed < kills && this.done > ((killed + 1) * jobs) / (kills + 2)) {
        killed++;
        await this.replaceOne();
      } else await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** Runs a scene to its end, in which every thread has been stopped. */
export async function play(options: SceneOptions): Promise<Scene> {
  const scene = new Scene(options);
  try {
    await scene.run();
  } finally {
    for (const claimer of scene.claimers) await scene.end(claimer);
  }
  return scene;
}

/** Throws unless every job ended once and nothing of the threads is left. */
export function checkScene({ core, queue, completed, done }: Scene, { jobs, permits }: SceneOptions): void {
  const must = (condition: boolean, what: string): void => {
    if (!condition) throw new Error(what);
  };
  must(done === jobs, `${done} of ${jobs} jobs ended`);
  must(
    [...completed.values()].every((times) => times === 1),
    'a job ended twice',
  );
  must(word(core, L.H_SLOTS_LIVE) === 0, 'a slot is still in use');
  must(core.wasm.claim(L.ENGINE_THREAD, queue, 0, 1) === L.CLAIM_EMPTY, 'a job is still waiting');
  must(permitsTaken(core, queue) === 0, 'a permit is still held');
  upkeep(core, queue);
  const { blocksLive, largeChunks } = audit(core, queue);
  // The root of the trie; with a limit a directory and a segment of cells.
  must(blocksLive === (permits === undefined ? 1 : 3), `${blocksLive} blocks are left`);
  must(largeChunks === 0, 'a large payload is left');
  must(chunksUsed(core) < 120 + L.SIZE_CLASSES, 'chunks are left');
}
