/** The whole way of a job, with what anybody is told on the disk, beside the same in memory and the floor. */
import { setTimeout as pause } from 'node:timers/promises';
import { makeDataDir, removeDataDir } from './data-dir.js';
import { endToEndCase, type Style } from './end-to-end.js';
import { FLOOR, floorCase } from './floor.js';
import type { Case, Part, Settings } from './harness.js';

const AFTERMATH_MS = 50; // more than twice the 20 ms that `relaxed` may be behind

async function durableCase(durability: 'commit' | 'relaxed', style: Style, settings: Settings): Promise<Case> {
  const dataDir = await makeDataDir();
  const engine = { dataDir, durability };
  const one = await endToEndCase({ name: durability, place: 'thread', style, engine }, settings);
  return {
    ...one,
    async once() {
      const sample = await one.once();
      await pause(AFTERMATH_MS); // what is still to be written must not slow down the neighbour
      return sample;
    },
    async close() {
      await one.close?.();
      await removeDataDir(dataDir);
    },
  };
}

function durablePart(name: string, style: Style): Part {
  return {
    name,
    async open(settings) {
      const cases = [
        await floorCase(settings),
        await endToEndCase({ name: 'memory', place: 'thread', style }, settings),
        await durableCase('commit', style, settings),
        await durableCase('relaxed', style, settings),
      ];
      const ratios = [
        { of: 'commit', to: FLOOR, atLeast: 0.25 },
        { of: 'relaxed', to: FLOOR, atLeast: 0.35 },
        { of: 'commit', to: 'memory', atLeast: 0.6 },
      ];
      return { name, cases, ratios };
    },
  };
}

export const durableParts: readonly Part[] = [
  durablePart('durable-bulk', 'bulks of 1,000'),
  durablePart('durable-single', '1,000 addAndWait in flight'),
];
