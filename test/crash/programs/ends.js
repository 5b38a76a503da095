/** A process that ends in one of the ways in which processes end, right after it was told something. */
import { Engine, Queue, QueueEvents, Worker } from 'flashq';
import { say } from './told.js';

const [dataDir, durability, how] = process.argv.slice(2);
const engine = await Engine.open({ dataDir, durability });
const queue = new Queue('work', { connection: engine });

function work({ data }) {
  if (data === 'fails') throw new Error('no');
  return data;
}

async function add(count) {
  const jobs = await queue.addBulk(Array.from({ length: count }, (_, i) => ({ name: 'job', data: i })));
  say({ told: 'added', ids: jobs.map(({ id }) => id) });
  return jobs;
}

async function addAndRun() {
  const jobs = await add(100);
  const worker = new Worker('work', work, { connection: engine });
  say({ told: 'results', results: await queue.finished(jobs.slice(0, 50)) });
  await worker.pause();
  await add(10);
}

/** A dependency ends, and the process with it, before its dependent has heard of that. */
async function addGraph(data) {
  const queueEvents = new QueueEvents('work', { connection: engine });
  await queueEvents.waitUntilReady();
  const [one] = await queue.addBulk([{ name: 'one', data }]);
  const many = await queue.addBulk(
    ['fail', 'cancel', 'run', 'run-now', 'wait'].map((onDependencyFailure) => ({
      name: onDependencyFailure,
      data: 0,
      opts: { dependsOn: [one], onDependencyFailure },
    })),
  );
  say({ told: 'added', ids: [one, ...many].map(({ id }) => id) });
  queueEvents.on(data === 'fails' ? 'failed' : 'completed', () => process.exit(0));
  new Worker('work', work, { connection: engine });
}

const ways = {
  async exit() {
    await addAndRun();
    process.exit(0);
  },
  async throw() {
    await addAndRun();
    process.once('uncaughtExceptionMonitor', () => say({ told: 'thrown' }));
    setImmediate(() => {
      throw new Error('thrown on purpose');
    });
  },
  async 'run out'() {
    await add(100);
  },
  /** Nobody waits for it, and nothing else is left to do. */
  unawaited() {
    void queue.add('job', 'unawaited', { delay: 3_600_000 });
  },
  /** Nothing but its answers keeps the process alive, while the log is cleaned. */
  async clean() {
    const data = 'x'.repeat(800_000);
    for (let i = 0; i < 60; i++) {
      await (await queue.add('filler', data)).remove();
      await queue.getJobCounts();
    }
    say({ told: 'cleaned' });
  },
  async 'exit in an event'() {
    await addGraph('fails');
  },
  async 'exit in an event of success'() {
    await addGraph('works');
  },
  async close() {
    await addAndRun();
    const held = new Worker('work', () => new Promise(() => {}), { connection: engine, concurrency: 3 });
    while ((await queue.getJobCounts()).active < 3) await new Promise((resolve) => setImmediate(resolve));
    await held.close(true);
    await engine.close();
    say({ told: 'closed' });
  },
  hold() {
    process.stdout.write('opened\n');
    setInterval(() => {}, 1000);
  },
};

await ways[how]();
