/**
 * The random histories of `queue.test.ts` on an engine whose every change goes through a log, which is closed and opened again, or
 * taken from it in the middle of something, while the log is cleaned all the time. FLASHQ_LONG=1 plays many more, with another seed each
 * time; FLASHQ_SEED plays those of one seed.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { History } from './history.js';
import { durableSteps } from './steps.js';

const isLong = process.env.FLASHQ_LONG === '1';
const numRuns = isLong ? 5_000 : 70;
const seed = Number(process.env.FLASHQ_SEED ?? (isLong ? Date.now() % 2 ** 31 : 20261125));

/** So small that every history is cleaned, some hardly and others after nearly every commit. */
const cleaning = fc.record({
  slack: fc.constantFrom(1.2, 1.5, 3),
  slackBytes: fc.constantFrom(600, 2000, 8000),
  stepBytes: fc.constantFrom(100, 1000),
  stepSlots: fc.constantFrom(3, 1000),
  forgetGroups: fc.constantFrom(1, 8),
  forgetBytes: fc.constant(4000),
});

test.each(['commit', 'relaxed'] as const)(
  'with durability %s every history goes on after a reopening and after a crash as the model says',
  async (mode) => {
    let played = 0;
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(durableSteps, cleaning, async (history, limits) => {
        played++;
        if (await new History({ mode, cleaning: limits }).play(history)) compared++;
      }),
      { seed, numRuns },
    );
    if (isLong)
      console.log(`durability ${mode}: seed ${seed}, ${compared} of ${played} histories compared to their end`);
    // The others came to a point where two things are due at one moment.
    expect(compared / played).toBeGreaterThan(0.7);
  },
  3_600_000,
);
