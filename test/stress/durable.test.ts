/** A short soak of a durable engine, and what few old jobs cost the log of many short ones. The long ones: `durable.long.test.ts`. */
import { onTestFinished, test } from 'vitest';
import { temporaryDir } from '../support/places.js';
import { seeded } from './field.js';
import { cleanBehindOldJobs } from './old-jobs.js';
import { expectPlateau, Soak } from './soak.js';

const MIB = 1024 * 1024;
const ROUNDS = 6;
/** A loaded machine's disk may take its time. */
const TIMEOUT_MS = 120_000;

test(
  'jobs that come and go leave nothing behind, in memory or in the log',
  async () => {
    const cleaning = { slackBytes: 256 * 1024, stepBytes: 16 * 1024, forgetBytes: 128 * 1024 };
    const soak = await Soak.open({ dataDir: temporaryDir(), random: seeded(), jobsPerRound: 500, cleaning });
    onTestFinished(() => soak.close());
    await soak.work();
    for (let round = 0; round < ROUNDS; round++) await soak.round();
    expectPlateau(soak.samples, 'diskBytes', 1.5, 4 * MIB);
    expectPlateau(soak.samples, 'usedBytes', 1.5, 4 * MIB);
    await soak.reckon();
  },
  TIMEOUT_MS,
);

test(
  'old jobs do not keep the log of those that came and went behind them',
  async () => {
    await cleanBehindOldJobs({
      short: 12_000,
      cleaning: { slackBytes: 512 * 1024, stepBytes: 32 * 1024, forgetBytes: 128 * 1024 },
    });
  },
  TIMEOUT_MS,
);
