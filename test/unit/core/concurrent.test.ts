import { describe, expect, test } from 'vitest';
import { checkScene, INSIDE, INSIDE_MAX, play, type SceneOptions } from '../../support/core-claimer.js';

describe('threads that claim at the same time', () => {
  const CASES: readonly (readonly [string, SceneOptions])[] = [
    ['and live', { jobs: 20_000, threads: 3, kills: 0, seed: 1 }],
    ['and are killed anywhere', { jobs: 10_000, threads: 3, kills: 15, seed: 2 }],
    ['within a limit, and are killed anywhere', { jobs: 5_000, threads: 4, kills: 8, permits: 2, seed: 3 }],
  ];

  test.each(CASES)(
    '%s: every job ends once, and nothing is left behind',
    { timeout: 60_000 },
    async (_what, options) => {
      checkScene(await play(options), options);
    },
  );

  test('never run more jobs than there are permits', { timeout: 60_000 }, async () => {
    const scene = await play({ jobs: 5_000, threads: 4, kills: 0, permits: 2, seed: 4 });
    expect(scene.counters[INSIDE]).toBe(0);
    expect(scene.counters[INSIDE_MAX]).toBeGreaterThan(0);
    expect(scene.counters[INSIDE_MAX]).toBeLessThanOrEqual(2);
  });
});
