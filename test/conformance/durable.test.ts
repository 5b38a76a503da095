/** The conformance suite over an engine whose every change goes through a log: what is told waits for its commit. */
import { Engine, type EngineOptions, TestClock } from 'flashq';
import { describe } from 'vitest';
import { MemoryStore } from '../../dist/engine/store/memory-store.js';
import type { Harness, World } from './kit.js';
import { SUITES } from './suites.js';

/** A commit leads to claims, those to outcomes, and those to the next commit. */
const QUIET_TURNS = 4;

const durable: Harness = {
  async open(opts: EngineOptions = {}): Promise<World> {
    const clock = new TestClock();
    const engine = await Engine.open({ clock, store: new MemoryStore(), ...opts });
    const settle = async (): Promise<void> => {
      for (let quiet = 0; quiet < QUIET_TURNS; quiet++) {
        await clock.advance(0);
        const pending = engine.connection.durable();
        if (pending === undefined) continue;
        await pending;
        quiet = -1;
      }
    };
    return { connection: engine, clock, engine, settle, close: () => engine.close({ timeout: 0 }) };
  },
};

for (const [name, suite] of Object.entries(SUITES)) describe(name, () => suite(durable));
