/** Plays the life of `log-life.ts` on a store, and opens what is left of it. */
import { Engine, type TestClock } from 'flashq';
import type { EngineState } from '#engine/state.js';
import type { LogStore } from '#engine/store/log-store.js';
import { audit } from './core-audit.js';
import { type Dump, dumpOf } from './dump.js';
import { type Bench, bench, type Hands } from './engine.js';
import type { Life, LifeStep } from './log-life.js';

/** Enough for every test of a log, and quickly made. */
export const SMALL = { maxMemory: 32 << 20 } as const;

export interface Moment {
  readonly step: string;
  /** What the engine knew when the step was over, all of it durable. */
  readonly dump: Dump;
  readonly now: number;
}

interface LifeOptions {
  /** Of the workers. */
  readonly concurrency?: number;
  readonly [engineOption: string]: unknown;
}

export async function openLife(
  store: LogStore | undefined,
  { concurrency = 3, ...opts }: LifeOptions = {},
): Promise<Life & { close(): Promise<void> }> {
  const b = await bench({ ...(store === undefined ? {} : { store }), random: () => 0.5, ...SMALL, ...opts });
  const open = new Map<string, Hands>();
  const hands = (queue: string): Hands => {
    const known = open.get(queue) ?? b.hands({ concurrency }, queue);
    open.set(queue, known);
    return known;
  };
  return { b, hands, close: () => b.close() };
}

/** All that has been done is in the log. */
export function flush({ engine }: Bench): Promise<void> {
  return (engine.state as EngineState).journal!.flush();
}

/** Lives the steps; `after` is called when all of a step is durable. The engine is left open: whoever closes it, it crashed before. */
export async function live(life: Life, steps: readonly LifeStep[], after: (moment: Moment) => void): Promise<void> {
  for (const [step, run] of steps) {
    await run(life);
    await flush(life.b);
    after({ step, dump: dumpOf(life.b.engine), now: life.b.clock.now() });
  }
}

/** What an engine knows that opens this store; it is closed again. */
export async function knownFrom(store: LogStore, clock: TestClock): Promise<Dump> {
  const engine = await Engine.open({ store, clock, ...SMALL });
  try {
    const { core, queues } = engine.state as EngineState;
    audit(core, ...[...queues.all()].map(({ address }) => address));
    return dumpOf(engine);
  } finally {
    await engine.close();
  }
}
