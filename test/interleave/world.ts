/** A queue in a small memory, with the engine's thread and some workers, and what must hold of every history of it. */
import { readFileSync } from 'node:fs';
import * as L from '../../core-wasm/assembly/layout.js';
import { type Explored, Explorer, type Scenario } from './explore.js';
import { instrument } from './instrument.js';
import { type Call, call, type Exports, Machine, type Program, type Until } from './machine.js';

export { L };

/** FLASHQ_CORE: another build of the core, to see that the tests catch its faults. */
const WASM = process.env.FLASHQ_CORE ?? new URL('../../dist/core-wasm/flashq.wasm', import.meta.url);
const isLong = process.env.FLASHQ_LONG === '1';
const SEED = Number(process.env.FLASHQ_SEED ?? 20261124);

let built: ReturnType<typeof instrument> | undefined;

/** Of the one core that all scenarios of a file share. */
export function instrumented(): ReturnType<typeof instrument> {
  built ??= instrument(readFileSync(WASM));
  return built;
}

/** A stay that has not ended. */
const NEVER = Number.POSITIVE_INFINITY;

/** One job's time in the heap: from a push to a claim or a withdrawal. */
interface Stay {
  readonly slot: number;
  readonly priority: number;
  readonly pushStart: number;
  /** Infinity while the push goes on. */
  pushEnd: number;
  /** Whether it was put into the head lane: then it is out of the order of the others. */
  readonly first: boolean;
  /** Of the slot while it waits. */
  readonly generation: number;
  takenStart: number;
}

interface Claimed {
  readonly thread: number;
  readonly slot: number;
  readonly start: number;
  readonly end: number;
  readonly stay: Stay | undefined;
}

export class World {
  readonly machine: Machine;
  readonly direct: Exports;
  readonly queue: number;
  /** Indices in the thread table: [0] is the engine's. */
  readonly threads: number[] = [L.ENGINE_THREAD];
  stays: Stay[] = [];
  claims: Claimed[] = [];
  /** By thread: when the claim in progress began. */
  #claiming = new Map<number, number>();
  /** When the withdrawal in progress began. */
  #withdrawing: number | undefined;
  #saved: Stay[] = [];

  constructor(workers: number, chunks = 48) {
    this.machine = new Machine(instrumented().module, L.CHUNK_FIRST + chunks, workers + 1);
    this.direct = this.machine.direct;
    // 16 chunks are the engine's reserve.
    if (this.direct.format!(L.CHUNK_FIRST + chunks) === 0) throw new Error('too small');
    this.queue = this.direct.queueOpen!() >>> 0;
    for (let i = 0; i < workers; i++) this.threads.push(this.direct.threadOpen!(this.queue));
  }

  /** What has been set up is where every schedule starts. */
  save(): void {
    this.machine.save(L.H_CHUNKS_TOUCHED);
    this.#saved = this.stays.map((stay) => ({ ...stay }));
  }

  reset(): this {
    this.stays = this.#saved.map((stay) => ({ ...stay }));
    this.claims = [];
    this.#claiming.clear();
    this.#withdrawing = undefined;
    return this;
  }

  // ---- set-up -----------------------------------------------------------------------------------------------------------------

  /** A job in no state yet. */
  job(priority = 0): number {
    const block = this.direct.blockAlloc!(L.ENGINE_THREAD, 16) >>> 0;
    this.machine.u8.fill(0, block, block + 16);
    return this.direct.jobCreate!(this.queue, priority, 0, block, 1, 0) >>> 0;
  }

  ready(priority = 0): number {
    const slot = this.job(priority);
    this.direct.jobReady!(slot, 0);
    const generation = this.#generation(slot);
    this.stays.push({ slot, priority, pushStart: -2, pushEnd: -1, first: false, generation, takenStart: NEVER });
    return slot;
  }

  /** Takes the next job out, as if it had been run long ago. */
  claimNow(worker = 1): number {
    const slot = this.direct.claim!(this.threads[worker] as number, this.queue, 0, 1) >>> 0;
    this.stays = this.stays.filter((stay) => stay.slot !== slot);
    this.#publishDirect(worker, 0);
    return slot;
  }

  #publishDirect(worker: number, run: number): void {
    const thread = this.threads[worker] as number;
    this.direct.outcomePublish!(thread, L.OUTCOME_COMPLETED, run, 0, 1, 0);
    this.settleAll(thread);
  }

  stateOf(slot: number): number {
    return (this.machine.u32[slot >>> 2] as number) & L.STATE_MASK;
  }

  ownerOf(slot: number): number {
    return ((this.machine.u32[slot >>> 2] as number) >>> L.OWNER_SHIFT) & 0xffff;
  }

  threadWord(worker: number, offset: number): number {
    return (L.THREADS_AT + (this.threads[worker] as number) * L.THREAD_BYTES + offset) >>> 2;
  }

  // ---- what programs do -------------------------------------------------------------------------------------------------------

  *push(slot: number, first = false): Generator<Call | Until, void, number> {
    const priority = (this.machine.u32[(slot + L.S_PRIORITY) >>> 2] as number) | 0;
    const generation = this.#generation(slot) + 1;
    const stay: Stay = {
      slot,
      priority,
      pushStart: this.machine.time,
      pushEnd: NEVER,
      first,
      generation,
      takenStart: NEVER,
    };
    this.stays.push(stay);
    yield call('jobReady', slot, first ? 1 : 0);
    stay.pushEnd = this.machine.time;
  }

  /** A claim by a worker into its entry `run`; the slot, or a code. */
  *claim(worker: number, run = 0, now = 1000): Generator<Call | Until, number, number> {
    const thread = this.threads[worker] as number;
    const start = this.machine.time;
    this.#claiming.set(thread, start);
    const slot = (yield call('claim', thread, this.queue, run, now)) >>> 0;
    this.#claiming.delete(thread);
    if (slot > L.CLAIM_EMPTY && slot < L.CLAIM_CODES) return slot;
    const stay = slot === L.CLAIM_EMPTY ? undefined : this.#take(slot, this.#ticketGeneration(thread, run) - 1, start);
    if (slot !== L.CLAIM_EMPTY && stay === undefined) throw new Error(`claimed ${slot}, which nobody had pushed`);
    this.claims.push({ thread, slot, start, end: this.machine.time, stay });
    return slot;
  }

  /** The stay of the slot in that generation ends. */
  #take(slot: number, generation: number, start: number): Stay | undefined {
    const stay = this.stays.find((one) => one.slot === slot && one.generation === generation);
    if (stay !== undefined) stay.takenStart = Math.min(stay.takenStart, start);
    return stay;
  }

  #ticketGeneration(thread: number, run: number): number {
    const area = this.machine.u32[(L.THREADS_AT + thread * L.THREAD_BYTES + L.T_AREA) >>> 2] as number;
    return this.#generation(area + L.A_CLAIMS + run * 8);
  }

  *withdraw(slot: number, state: number): Generator<Call | Until, boolean, number> {
    const start = this.machine.time;
    // The stay that it would end: a claim may end it first, and then the slot may come back.
    const stay = this.stays.find((one) => one.slot === slot && one.takenStart === NEVER);
    this.#withdrawing = start;
    const won = (yield call('jobWithdraw', slot, state)) !== 0;
    this.#withdrawing = undefined;
    if (won && stay !== undefined) stay.takenStart = start;
    return won;
  }

  *prioritise(slot: number, priority: number): Generator<Call | Until, void, number> {
    const start = this.machine.time;
    const before = this.#generation(slot);
    const stay = this.stays.find((one) => one.slot === slot && one.takenStart === NEVER);
    const generation = before + 1;
    const moved: Stay = {
      slot,
      priority,
      pushStart: start,
      pushEnd: NEVER,
      first: false,
      generation,
      takenStart: NEVER,
    };
    this.stays.push(moved); // it may be claimed before this call returns
    yield call('jobPrioritise', slot, priority, 0);
    // The move and a claim each count the generation on: a claim alone means that it came first, and nothing was moved.
    const grown = this.#generation(slot) - before;
    const isMoved = grown === 2 || (grown === 1 && this.stateOf(slot) === L.STATE_WAITING);
    if (isMoved) {
      if (stay !== undefined) stay.takenStart = start;
      moved.pushEnd = this.machine.time;
    } else this.stays = this.stays.filter((one) => one !== moved);
  }

  #generation(slot: number): number {
    const at = slot >>> 2;
    const { u32 } = this.machine;
    return ((u32[at] as number) >>> L.GENERATION_SHIFT) + (u32[at + 1] as number) * 128;
  }

  /** What the engine does with the outcomes of a thread that are there: completes their jobs. */
  *settle(worker: number): Generator<Call | Until, number, number> {
    const thread = this.threads[worker] as number;
    let count = 0;
    while (true) {
      const entry = (yield call('outcomePeek', thread)) >>> 0;
      if (entry === 0) return count;
      const { u32 } = this.machine;
      const kind = u32[(entry + L.E_KIND) >>> 2];
      const block = u32[(entry + L.E_BLOCK) >>> 2] as number;
      const [low, high] = [u32[entry >>> 2] as number, u32[(entry >>> 2) + 1] as number];
      if (kind === L.OUTCOME_COMPLETED) {
        const slot = (yield call('runComplete', low, high, block, 1)) >>> 0;
        this.settled.push({ slot, thread });
        if (slot === 0 && block !== 0) yield call('blockFree', block);
      }
      yield call('outcomeTake', thread);
      count++;
    }
  }

  /** Runs that were settled; slot 0: late. */
  settled: { slot: number; thread: number }[] = [];

  settleAll(thread: number): void {
    const worker = this.threads.indexOf(thread);
    const program = this.settle(worker);
    let next = program.next(0);
    while (next.done !== true) {
      const { name, args } = next.value as Call;
      next = program.next((this.direct[name] as (...args: number[]) => number)(...args));
    }
  }

  // ---- what must hold ---------------------------------------------------------------------------------------------------------

  /** The engine's answer to a thread's death: what it published counts, what it ran comes back, what it held is free. */
  reap(worker: number): number[] {
    const thread = this.threads[worker] as number;
    const { direct } = this;
    direct.threadDied!(thread);
    this.settleAll(thread);
    while (direct.submitPeek!(thread) >>> 0 !== 0) {
      const entry = direct.submitPeek!(thread) >>> 0;
      const block = this.machine.u32[(entry + L.E_BLOCK) >>> 2] as number;
      if (block !== 0) direct.blockFree!(block);
      direct.submitTake!(thread);
    }
    const back: number[] = [];
    for (let run = direct.runNext!(thread, 0); run < L.CLAIM_ENTRIES_MAX; run = direct.runNext!(thread, run + 1)) {
      const slot = direct.runOf!(thread, run) >>> 0;
      back.push(slot);
      direct.jobReady!(slot, 1);
      const priority = (this.machine.u32[(slot + L.S_PRIORITY) >>> 2] as number) | 0;
      const now = this.machine.time + 1;
      const generation = this.#generation(slot);
      this.stays.push({ slot, priority, pushStart: now, pushEnd: now, first: true, generation, takenStart: NEVER });
    }
    for (const { slot } of this.stays) {
      if (this.stateOf(slot) === L.STATE_ACTIVE && this.ownerOf(slot) === thread) {
        throw new Error(`the dead thread's run of slot ${slot} was not found`);
      }
    }
    direct.permitsReap!(this.queue, thread);
    direct.chunksReap!(thread);
    direct.threadFree!(thread);
    return back;
  }

  /** Strict priority, order and emptiness of every claim; then nothing lost: what is left is found, once, in order. */
  checkAll(dead: number): void {
    this.#bookOpenClaims();
    const { claims } = this;
    if (dead > 0) this.reap(dead);
    for (const claim of claims) this.#checkClaim(claim);
    if (dead !== 0) this.checkRest();
  }

  /** A thread that stopped inside a claim may have taken its job before; or the engine has taken it back already. */
  #bookOpenClaims(): void {
    for (const stay of this.#withdrawing === undefined ? [] : this.stays) {
      // The engine stopped inside a withdrawal: it may have taken the job before.
      const isWithdrawn = this.stateOf(stay.slot) !== L.STATE_WAITING && this.stateOf(stay.slot) !== L.STATE_ACTIVE;
      if (stay.takenStart === NEVER && isWithdrawn) stay.takenStart = this.#withdrawing as number;
    }
    for (const [thread, start] of this.#claiming) {
      for (const stay of this.stays) {
        if (stay.takenStart !== NEVER) continue;
        const grown = this.#generation(stay.slot) - stay.generation;
        const isOwner = this.stateOf(stay.slot) === L.STATE_ACTIVE && this.ownerOf(stay.slot) === thread;
        if ((grown === 1 && isOwner) || grown > 1) stay.takenStart = start;
      }
    }
  }

  #checkClaim({ slot, start, end, stay: mine }: Claimed): void {
    for (const other of this.stays) {
      const wasThere = other.pushEnd <= start && other.takenStart >= end;
      if (!wasThere || other === mine) continue;
      if (mine === undefined) throw new Error(`a claim said empty while ${told(other)} was there`);
      if (other.priority > mine.priority) throw new Error(`claimed ${told(mine)} while ${told(other)} was there`);
      const sameOrder = other.priority === mine.priority && !other.first && !mine.first;
      if (sameOrder && other.pushEnd <= mine.pushStart && other.pushStart !== mine.pushStart) {
        throw new Error(`claimed ${told(mine)} (slot ${slot}) before ${told(other)}, which came first`);
      }
    }
  }

  /** Claims what is left, alone, and compares it with what must be there. */
  checkRest(): void {
    const { direct } = this;
    const expected = this.stays.filter((one) => one.takenStart === NEVER && one.pushEnd !== NEVER);
    const found: Stay[] = [];
    direct.permitsConfigure!(this.queue, L.NO_LIMIT);
    direct.rateConfigure!(this.queue, 0, 0);
    direct.queueFlags!(this.queue, 0, L.QUEUE_PAUSED);
    for (let count = 0; count < 5000; count++) {
      const slot = direct.claim!(L.ENGINE_THREAD, this.queue, count % 512, 5000) >>> 0;
      if (slot < L.CLAIM_CODES) break;
      const stay = expected.find((one) => one.slot === slot && !found.includes(one));
      if (stay === undefined) throw new Error(`slot ${slot} is there, but should not be`);
      const before = found[found.length - 1];
      if (before !== undefined && before.priority < stay.priority) throw new Error(`${told(stay)} came late`);
      found.push(stay);
    }
    const lost = expected.filter((one) => !found.includes(one));
    if (lost.length > 0) throw new Error(`lost: ${lost.map(told).join(', ')}`);
  }
}

function told({ slot, priority, pushEnd }: Stay): string {
  return `slot ${slot} of priority ${priority} (pushed by ${pushEnd})`;
}

const explored: Explored[] = [];

export interface Size {
  readonly preemptions?: number;
  readonly exhaustive?: number;
  readonly random?: number;
  readonly randomPerDeath?: number;
}

/** Explores a scenario of that world within the bounds of this run of the tests. */
export function explore(
  world: World,
  name: string,
  programs: () => Program[],
  check: (dead: number) => void,
  size: Size & { mayWait?: boolean } = {},
): Explored {
  world.save();
  const scenario: Scenario<World> = {
    name,
    start: () => {
      world.reset();
      world.settled = [];
      return { world, programs: programs() };
    },
    check: (_world, dead) => check(dead),
    mayWait: size.mayWait ?? false,
  };
  const factor = isLong ? 20 : 1;
  const done = new Explorer(world.machine).explore(scenario, {
    preemptions: (size.preemptions ?? 2) + (isLong ? 1 : 0),
    exhaustive: (size.exhaustive ?? 10_000) * factor,
    random: (size.random ?? 6000) * factor,
    randomPerDeath: (size.randomPerDeath ?? 30) * factor,
    seed: SEED,
  });
  explored.push(done);
  return done;
}

/** A line a scenario, for the decision's table. */
export function summary(): string {
  return explored
    .map(({ name, exhaustive, complete, random, deaths, steps }) => {
      const all = complete ? 'all' : 'first';
      return `${name}: ${all} ${exhaustive} of few preemptions, ${random} random, ${deaths} with a death, ${steps} steps`;
    })
    .join('\n');
}
