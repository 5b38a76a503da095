/** The conformance suite over the engine's own connection: function calls in one thread. */
import { Engine, type EngineOptions, TestClock } from 'flashq';
import { describe } from 'vitest';
import type { Harness, World } from './kit.js';
import { SUITES } from './suites.js';

const inProcess: Harness = {
  async open(opts: EngineOptions = {}): Promise<World> {
    const clock = new TestClock();
    const engine = await Engine.open({ clock, ...opts });
    return {
      connection: engine,
      clock,
      engine,
      settle: () => clock.advance(0),
      close: () => engine.close({ timeout: 0 }),
    };
  },
};

for (const [name, suite] of Object.entries(SUITES)) describe(name, () => suite(inProcess));
