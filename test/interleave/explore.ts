/**
 * Which schedules are run: all with few preemptions, found by depth-first search, then random ones; and for every thread and every step
 * of it, schedules in which it stops there for good. Few preemptions find nearly all races (M. Musuvathi and S. Qadeer, "Iterative
 * context bounding", 2007); the random ones choose a few places to switch, not a coin at each step.
 */
import type { Machine, Program } from './machine.js';

export interface Scenario<World = unknown> {
  readonly name: string;
  /** Fresh programs over the restored memory; `world` is what they share beside it. */
  start(): { world: World; programs: Program[] };
  /** After every live thread has ended. `dead`: the thread that stopped, or -1. Throws when something is wrong. */
  check(world: World, dead: number): void;
  /** Threads that may wait for ever in a schedule with a dead thread. */
  readonly mayWait?: boolean;
}

export interface Bounds {
  readonly preemptions: number;
  /** At most so many of those. */
  readonly exhaustive: number;
  readonly random: number;
  /** For each thread and step at which it dies. */
  readonly randomPerDeath: number;
  readonly seed: number;
}

export interface Explored {
  readonly name: string;
  exhaustive: number;
  random: number;
  deaths: number;
  steps: number;
  /** Whether all schedules with that few preemptions were run. */
  complete: boolean;
}

/** A 32-bit generator with a full period (mulberry32, T. Ettinger). */
export function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

interface Choice {
  readonly enabled: readonly number[];
  readonly current: number;
  readonly chosen: number;
  /** Before this one. */
  readonly preemptions: number;
}

export class Explorer {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  explore<World>(scenario: Scenario<World>, bounds: Bounds): Explored {
    const done: Explored = { name: scenario.name, exhaustive: 0, random: 0, deaths: 0, steps: 0, complete: true };
    this.#exhaustive(scenario, bounds, done);
    const lengths = this.#lengths(scenario);
    const random = randomOf(bounds.seed);
    for (let i = 0; i < bounds.random; i++) {
      this.#random(scenario, random, lengths, bounds.seed, undefined, done);
      done.random++;
    }
    for (let thread = 0; thread < lengths.length; thread++) {
      // A little beyond: in other schedules it may have more steps than alone.
      for (let step = 1; step <= (lengths[thread] as number) + 6; step++) {
        for (let i = 0; i < bounds.randomPerDeath; i++) {
          this.#random(scenario, random, lengths, bounds.seed, { thread, step }, done);
          done.deaths++;
        }
      }
    }
    return done;
  }

  /** Steps of each thread when they run one after the other. */
  #lengths<World>(scenario: Scenario<World>): number[] {
    this.#machine.restore();
    const { programs } = scenario.start();
    this.#machine.run(programs, (current, enabled) =>
      current === -1 ? (enabled[0] as number) : stay(current, enabled),
    );
    return programs.map((_, thread) => this.#machine.stepsOf(thread));
  }

  #exhaustive<World>(scenario: Scenario<World>, bounds: Bounds, done: Explored): void {
    const pending: number[][] = [[]];
    while (pending.length > 0) {
      if (done.exhaustive === bounds.exhaustive) {
        done.complete = false;
        return;
      }
      const prefix = pending.pop() as number[];
      const trace: Choice[] = [];
      const decide = (current: number, enabled: readonly number[]): number => {
        const at = trace.length;
        const last = trace[at - 1];
        const preemptions = last === undefined ? 0 : last.preemptions + costOf(last.current, last.enabled, last.chosen);
        const chosen = prefix[at] ?? (current === -1 ? (enabled[0] as number) : stay(current, enabled));
        trace.push({ enabled: [...enabled], current, chosen, preemptions });
        return chosen;
      };
      this.#one(scenario, decide, undefined, () => `choices ${prefix.join(',')}`, done);
      done.exhaustive++;
      for (let at = prefix.length; at < trace.length; at++) {
        const { enabled, current, chosen, preemptions } = trace[at] as Choice;
        for (const other of enabled) {
          if (other === chosen || preemptions + costOf(current, enabled, other) > bounds.preemptions) continue;
          pending.push([...trace.slice(0, at).map((choice) => choice.chosen), other]);
        }
      }
    }
  }

  /** A random order of the threads, and one to four places at which to switch. */
  #random<World>(
    scenario: Scenario<World>,
    random: (below: number) => number,
    lengths: readonly number[],
    seed: number,
    dead: { thread: number; step: number } | undefined,
    done: Explored,
  ): void {
    const total = lengths.reduce((sum, length) => sum + length, 0) + 1;
    const switches = new Set(Array.from({ length: 1 + random(4) }, () => random(total)));
    const picks = Array.from({ length: 24 }, () => random(1 << 20));
    let at = 0;
    let picked = 0;
    const pick = (enabled: readonly number[]) =>
      enabled[(picks[picked++ % picks.length] as number) % enabled.length] as number;
    const decide = (current: number, enabled: readonly number[]): number => {
      const mustPick = current === -1 || !enabled.includes(current) || switches.has(at);
      at++;
      return mustPick ? pick(enabled) : current;
    };
    const told = () => `seed ${seed}, switches ${[...switches].join(',')}, picks ${picks.join(',')}`;
    this.#one(scenario, decide, dead, told, done);
  }

  #one<World>(
    scenario: Scenario<World>,
    decide: (current: number, enabled: readonly number[]) => number,
    dead: { thread: number; step: number } | undefined,
    told: () => string,
    done: Explored,
  ): void {
    this.#machine.restore();
    const { world, programs } = scenario.start();
    try {
      this.#machine.run(programs, decide, dead);
      done.steps += this.#machine.time;
      const isDead = dead !== undefined && !this.#machine.isDone(dead.thread) ? dead.thread : -1;
      for (let thread = 0; thread < programs.length; thread++) {
        if (thread === isDead || this.#machine.isDone(thread)) continue;
        if (isDead === -1 || scenario.mayWait !== true) throw new Error(`thread ${thread} waits for ever`);
      }
      scenario.check(world, isDead);
    } catch (error) {
      const where = dead === undefined ? '' : `, thread ${dead.thread} stops before its step ${dead.step}`;
      throw new Error(`${scenario.name}: ${(error as Error).message} [${told()}${where}]`, { cause: error });
    }
  }
}

function stay(current: number, enabled: readonly number[]): number {
  return enabled.includes(current) ? current : (enabled[0] as number);
}

/** Leaving a thread that could go on is a preemption. */
function costOf(current: number, enabled: readonly number[], chosen: number): number {
  return current !== -1 && chosen !== current && enabled.includes(current) ? 1 : 0;
}
