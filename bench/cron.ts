/** What ten thousand crons cost while their ticks come: CPU time of one minute that a test's clock drives, in which each comes once. */
import { Engine, Queue, TestClock } from 'flashq';
import { type Case, hashOf, hashOfIds, type Part, type Sample } from './harness.js';

const QUEUE = 'crons';
const START = Date.UTC(2025, 0, 1);
const MINUTE_MS = 60_000;
const SECOND_MS = 1_000;
const ZONES = ['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'Australia/Sydney'];

const cronPart: Part = {
  name: 'cron',
  async open({ quick }) {
    const crons = quick ? 200 : 10_000;
    const one: Case = {
      name: `${crons.toLocaleString('en-US')} crons, CPU time of a minute`,
      unit: 'ms',
      expected: { count: crons, hash: hashOfIds(crons) },
      once: () => minuteOf(crons),
    };
    return { name: 'cron', warmups: 1, repetitions: 5, cases: [one], targets: [{ of: one.name, atMost: 1000 }] };
  },
};

/** Every second some of them are due, by schedules in several time zones. */
async function minuteOf(crons: number): Promise<Sample> {
  const clock = new TestClock(START);
  const engine = await Engine.open({ clock });
  const queue = new Queue<{ id: number }>(QUEUE, { connection: engine });
  try {
    const adding = Array.from({ length: crons }, (_, id) => {
      const tz = ZONES[id % ZONES.length] as string;
      return queue.addCron(`cron-${id}`, { schedule: `${secondOf(id)} * * * * *`, tz, data: { id } });
    });
    await Promise.all(adding);
    const before = process.cpuUsage();
    for (let ms = 0; ms < MINUTE_MS; ms += SECOND_MS) await clock.advance(SECOND_MS);
    const { user, system } = process.cpuUsage(before);
    const { waiting } = await queue.getJobCounts();
    let hash = 0;
    for (let id = 0; id < crons; id++) {
      const due = START + (secondOf(id) === 0 ? MINUTE_MS : secondOf(id) * SECOND_MS);
      const job = await queue.getJob(`cron:cron-${id}:${due}`);
      if (job !== undefined) hash = hashOf(hash, job.data.id);
    }
    return { value: (user + system) / 1000, count: waiting, hash };
  } finally {
    await engine.close();
  }
}

function secondOf(id: number): number {
  return id % 60;
}

export const cronParts: readonly Part[] = [cronPart];
