/** Suites over the connection of an attached thread: the calls cross a port. (Both ends are in this thread, which neither of them knows.) */
import { Engine, type EngineOptions, TestClock } from 'flashq';
import { describe } from 'vitest';
import { MemoryStore } from '../../dist/engine/store/memory-store.js';
import type { Harness, World } from './kit.js';
import { SUITES } from './suites.js';

/** A call, what it leads to, and its answer cross the port in turns of their own, and a parked thread wakes some turns later. */
const TURNS = 30;

const attached = (durable: boolean): Harness => ({
  async open(opts: EngineOptions = {}): Promise<World> {
    const clock = new TestClock();
    const engine = await Engine.open({ clock, ...(durable ? { store: new MemoryStore() } : {}), ...opts });
    const connection = Engine.attach(engine.handle);
    const settle = async (): Promise<void> => {
      // Each step of the clock wakes every parked thread, needed or not.
      for (let turn = 0; turn < TURNS; turn++) {
        await clock.advance(0);
        await engine.connection.durable();
      }
    };
    const close = async (): Promise<void> => {
      connection.close();
      await engine.close({ timeout: 0 });
    };
    return { connection, clock, engine, settle, close };
  },
});

/** In turns: a thread that claims again at once is ahead of the engine, which brings the next job of a group when it has heard of the claim. */
const { groups: _turns, ...THEIRS } = SUITES;

for (const [name, suite] of Object.entries(THEIRS)) describe(name, () => suite(attached(false)));

for (const name of ['waiting runs', 'sagas']) describe(`${name}, durable`, () => SUITES[name]?.(attached(true)));
