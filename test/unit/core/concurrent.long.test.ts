import { describe, test } from 'vitest';
import { checkScene, play, type SceneOptions } from '../../support/core-claimer.js';

/** Each with other threads killed at other moments: the seed that a failure names decides the steps, not the moments. */
const SCENES = Array.from(
  { length: 60 },
  (_, i): SceneOptions => ({
    jobs: 10_000,
    threads: 3,
    kills: 30,
    seed: i * 100,
    ...(i % 2 === 0 ? {} : { permits: 2 }),
  }),
);

describe('threads killed anywhere, 1,800 of them', () => {
  test.each(SCENES.map((scene) => [scene.seed, scene] as const))(
    'seed %d: every job ends once, and nothing is left behind',
    async (_seed, options) => {
      checkScene(await play(options), options);
    },
  );
});
