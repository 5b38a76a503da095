/** `durability: 'relaxed'`: a crash loses what was told in its last moment, as if that had never been, and nothing else. */
import { expect, test } from 'vitest';
import { seedOfTest } from './killed.js';
import { crash } from './load.js';

const LONG = process.env.FLASHQ_LONG === '1';
const HISTORIES = LONG ? 20 : 2;
const KILLS = LONG ? 12 : 6;
/** 20 ms and a commit: on a busy machine that is long. */
const WINDOW_MS = 3000;

test.each(Array.from({ length: HISTORIES }, (_, i) => seedOfTest() + i))(
  'a kill loses a moment, and never a part of what belongs together (seed %i)',
  async (seed) => {
    const { told } = await crash({ durability: 'relaxed', seed, kills: KILLS, windowMs: WINDOW_MS });
    for (const what of ['added', 'completed by event', 'completed by worker', 'closed'])
      expect(told.get(what), what).toBeGreaterThan(0);
  },
  120_000,
);
