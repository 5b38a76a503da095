/**
 * Topics of the conformance suite over a connection that shares the engine's memory and calls it over a port, as other threads have it.
 * Here both ends are in one thread, so that a test clock drives them.
 */
import { Engine, type EngineOptions, TestClock } from 'flashq';
import { describe } from 'vitest';
import { MemoryStore } from '../../dist/engine/store/memory-store.js';
import type { Harness, World } from './kit.js';
import { SUITES } from './suites.js';

const TOPICS = ['waiting runs', 'sagas'];
/** Calls there and back, after which whatever led to them has led to no more. */
const QUIET_TURNS = 40;

const attached = (durable: boolean): Harness => ({
  async open(opts: EngineOptions = {}): Promise<World> {
    const clock = new TestClock();
    const engine = await Engine.open({ clock, ...(durable ? { store: new MemoryStore() } : {}), ...opts });
    const connection = Engine.attach(engine.handle);
    const settle = async (): Promise<void> => {
      for (let turn = 0; turn < QUIET_TURNS; turn++) {
        await clock.advance(0);
        await engine.connection.durable();
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const close = async (): Promise<void> => {
      await connection.close();
      await engine.close({ timeout: 0 });
    };
    return { connection, clock, engine, settle, close };
  },
});

for (const topic of TOPICS) {
  describe(topic, () => SUITES[topic]?.(attached(false)));
  describe(`${topic}, durable`, () => SUITES[topic]?.(attached(true)));
}
