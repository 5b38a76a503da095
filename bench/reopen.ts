/** How long an engine takes to open what another has left, and how much of a disk its waiting jobs take. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { makeDataDir, removeDataDir } from './data-dir.js';
import { type Case, hashOf, type Part, type Settings } from './harness.js';
import { sampleOf } from './jobs.js';
import type { DiskUse, Opened, Order, Report } from './reopen-process.js';

const PROCESS = fileURLToPath(new URL('./reopen-process.js', import.meta.url));
const MOST_TIMES = 2.5;
const MOST_BYTES = 64 * 1024 * 1024;

async function inProcess(order: Order): Promise<Report> {
  const child = fork(PROCESS);
  let report: Report | undefined;
  child.once('message', (message) => {
    report = message as Report;
  });
  child.send(order);
  const [code, signal] = await once(child, 'exit'); // it has let go of the directory, too
  if (report === undefined) throw new Error(`The process that should ${order.kind} ended with ${signal ?? code}`);
  return report;
}

function expectedOf(jobs: number): Case['expected'] {
  return { count: jobs, hash: sampleOf(jobs).reduce((hash, id) => hashOf(hash, id), 0) };
}

async function openingCase(jobs: number): Promise<Case> {
  const dataDir = await makeDataDir();
  const { sample } = await inProcess({ kind: 'fill', dataDir, jobs });
  return {
    name: `opening with ${jobs.toLocaleString('en-US')} waiting`,
    unit: 's',
    expected: expectedOf(jobs),
    async once() {
      const { seconds, waiting, hash }: Opened = (await inProcess({ kind: 'open', dataDir, sample })).opened;
      return { value: seconds, count: waiting, hash };
    },
    close: () => removeDataDir(dataDir),
  };
}

const reopenPart: Part = {
  name: 'reopen',
  async open({ quick }) {
    const sizes = quick
      ? [{ jobs: 2_000, atMost: 2 }]
      : [
          { jobs: 1_000_000, atMost: 2 },
          { jobs: 10_000_000, atMost: 20 },
        ];
    const cases: Case[] = [];
    for (const { jobs } of sizes) cases.push(await openingCase(jobs));
    const targets = sizes.map(({ atMost }, nth) => ({ of: cases[nth]!.name, atMost }));
    // No warm-up: a program that starts isn't warm, either.
    return { name: 'reopen', warmups: 0, repetitions: 3, quickRepetitions: 1, cases, targets };
  },
};

/** Bytes of the disk for a waiting job. */
function diskCase({ quick }: Settings): Case {
  const jobs = quick ? 2_000 : 200_000;
  const passing = quick ? 2_000 : 1_000_000;
  return {
    name: 'a waiting small job',
    unit: 'bytes',
    expected: expectedOf(jobs),
    async once() {
      const dataDir = await makeDataDir();
      try {
        const { disk, opened } = await inProcess({ kind: 'disk', dataDir, jobs, passing });
        const { records, added, after }: DiskUse = disk;
        const most = records * MOST_TIMES + MOST_BYTES;
        const more = { 'its record': records / jobs, 'after others': after / jobs, 'at most': most / jobs };
        return { value: added / jobs, count: opened.waiting, hash: opened.hash, more };
      } finally {
        await removeDataDir(dataDir);
      }
    },
  };
}

const diskPart: Part = {
  name: 'disk',
  async open(settings) {
    const one = diskCase(settings);
    const ratios = [
      { of: one.name, to: `${one.name}/its record`, label: 'disk ÷ record' },
      {
        of: `${one.name}/after others`,
        to: `${one.name}/at most`,
        label: 'disk after others ÷ 2.5 × record + 64 MB',
        atMost: 1,
      },
    ];
    return { name: 'disk', warmups: 0, repetitions: 3, quickRepetitions: 1, cases: [one], ratios };
  },
};

export const reopenParts: readonly Part[] = [reopenPart, diskPart];
