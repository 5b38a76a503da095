/** A durable engine for minutes: FLASHQ_SOAK_MINUTES says how many. */
import { expect, onTestFinished, test } from 'vitest';
import { temporaryDir } from '../support/places.js';
import { seeded } from './field.js';
import { cleanBehindOldJobs } from './old-jobs.js';
import { expectPlateau, Soak } from './soak.js';

const MIB = 1024 * 1024;
const minutes = Number(process.env.FLASHQ_SOAK_MINUTES ?? 2);

test(
  `what the engine and its log take stops growing: ${minutes} minutes`,
  async () => {
    const cleaning = { slackBytes: 8 * MIB };
    const soak = await Soak.open({ dataDir: temporaryDir(), random: seeded(), jobsPerRound: 2000, cleaning });
    onTestFinished(() => soak.close());
    await soak.work();
    const end = performance.now() + minutes * 60_000;
    while (performance.now() < end) await soak.round();
    const { diskBytes, usedBytes, rssBytes } = soak.samples.at(-1)!;
    const mib = (bytes: number) => `${Math.round(bytes / MIB)} MiB`;
    console.log(`${soak.jobs} jobs: disk ${mib(diskBytes)}, memory ${mib(usedBytes)}, rss ${mib(rssBytes)}`);
    expect(soak.cleaned).toBeGreaterThan(1);
    expectPlateau(soak.samples, 'diskBytes', 1.25, 16 * MIB);
    expectPlateau(soak.samples, 'usedBytes', 1.25, 4 * MIB);
    expectPlateau(soak.samples, 'rssBytes', 1.25, 64 * MIB);
    await soak.reckon();
  },
  minutes * 120_000 + 120_000,
);

test('a few jobs delayed for a day in front of 500,000 short ones', async () => {
  const { pauses } = await cleanBehindOldJobs({ short: 500_000, cleaning: {} });
  console.log(`cleaning steps: ${pauses.count}, the longest ${pauses.most_ms.toFixed(1)} ms`);
}, 900_000);
