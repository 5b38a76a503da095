/** `durability: 'commit'`: what anybody was told has happened survives any crash. */
import { expect, test } from 'vitest';
import { seedOfTest } from './killed.js';
import { crash } from './load.js';

const LONG = process.env.FLASHQ_LONG === '1';
const HISTORIES = LONG ? 40 : 3;
const KILLS = LONG ? 12 : 7;

test.each(Array.from({ length: HISTORIES }, (_, i) => seedOfTest() + i))(
  'what was told survives kill after kill, and everything ends once (seed %i)',
  async (seed) => {
    const { told, ordered } = await crash({ durability: 'commit', seed, kills: KILLS, windowMs: 0 });
    for (const what of ['added', 'completed by event', 'completed by worker', 'closed'])
      expect(told.get(what), what).toBeGreaterThan(0);
    expect(ordered).toBeGreaterThan(10);
  },
  120_000,
);
