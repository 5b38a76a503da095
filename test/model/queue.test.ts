/**
 * Random histories of one queue, against a model that is simple enough to be obviously right. FLASHQ_LONG=1 plays many more, with another
 * seed each time; FLASHQ_SEED plays those of one seed.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { History } from './history.js';
import { steps } from './steps.js';

const isLong = process.env.FLASHQ_LONG === '1';
const numRuns = isLong ? 10_000 : 300;
const seed = Number(process.env.FLASHQ_SEED ?? (isLong ? Date.now() % 2 ** 31 : 20261124));

test('every history has the states, the order, the answers and the ends that the model says', async () => {
  let played = 0;
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(steps, async (history) => {
      played++;
      if (await new History().play(history)) compared++;
    }),
    { seed, numRuns },
  );
  // The others came to a point where two things are due at one moment.
  expect(compared / played).toBeGreaterThan(0.9);
}, 600_000);
