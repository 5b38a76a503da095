/**
 * A process under load, to be killed: everything that an engine can be asked for, by several loops at once. Says what it asks for, and
 * what it is told. With `drain` as its last argument it lets everything end instead, and closes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Engine, Queue, QueueEvents, Worker } from 'flashq';
import { dump } from './dump.js';
import { say } from './told.js';
import work from './work.js';

/** `ballast`: bytes of jobs that are added and removed at once, so that the log must be cleaned. */
const [dataDir, durability, seedText, ballast, round, task] = process.argv.slice(2);
/** What must not happen is a fact, too. */
process.on('warning', ({ message, code }) => say({ told: 'warning', message: `${code}: ${message}` }));

// ---- chance -------------------------------------------------------------------------------------------------------------------

let seed = Number(seedText);
/** mulberry32 */
function random() {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const below = (n) => Math.floor(random() * n);
const chance = (p) => random() < p;
const pick = (list) => list[below(list.length)];

// ---- the engine ---------------------------------------------------------------------------------------------------------------

const engine = await Engine.open({ dataDir, durability });
const opened = dump(engine);
say({ told: 'opened', ...opened });
process.stdout.write('opened\n');

/** `order`: nobody runs its jobs before the end. `control`: paused and resumed, limited and freed. */
const queues = Object.fromEntries(
  ['functions', 'threads', 'control', 'order'].map((name) => [name, new Queue(name, { connection: engine })]),
);
const RUN = ['functions', 'threads', 'control'];
const events = new QueueEvents('*', { connection: engine });
events.on('completed', ({ queue, jobId, returnvalue }) =>
  say({ told: 'completed', by: 'event', queue, id: jobId, value: returnvalue }),
);
events.on('failed', ({ queue, jobId }) => say({ told: 'failed', by: 'event', queue, id: jobId }));
events.on('cancelled', ({ queue, jobId }) => say({ told: 'cancelled', by: 'event', queue, id: jobId }));
await events.waitUntilReady();

const opts = { connection: engine, abortGrace: 100 };
function startWorkers() {
  const file = new URL('./work.js', import.meta.url);
  const workers = [
    new Worker('functions', work, { ...opts, concurrency: 8, circuitBreaker: { threshold: 4, timeout: 20, timeoutMax: 40 } }),
    new Worker('control', work, { ...opts, concurrency: 2 }),
    new Worker('threads', file, { ...opts, threads: 2, concurrency: 4 }),
  ];
  for (const worker of workers) {
    worker.on('completed', (job, value) =>
      say({ told: 'completed', by: 'worker', queue: job.queueName, id: job.id, value }),
    );
    worker.on('error', (error) => say({ told: 'warning', message: `worker: ${error.stack}` }));
  }
}

// ---- asking -------------------------------------------------------------------------------------------------------------------

/** Jobs that this process knows: those it found, and those it added. */
const known = opened.jobs.filter(({ key }) => key !== undefined).map(({ key, id, queue }) => ({ key, id, queue }));
let keys = 0;
let bulks = 0;

/** Data and options of some job; `deps`: the keys of what it depends on. */
function someJob(queue) {
  const key = `${round}.${++keys}`;
  const asked = {};
  const act = queue === 'order' ? 'now' : pick(['now', 'now', 'now', 'sleeps', 'flaky', 'throws', 'tells', 'waits']);
  if (chance(0.3)) asked.priority = below(5) - 2;
  if (chance(0.1)) asked.lifo = true;
  if (chance(0.15)) asked.delay = 20 + below(400);
  if (act === 'flaky' || chance(0.1)) {
    asked.attempts = 2 + below(2);
    asked.backoff = pick([0, 5, { type: 'exponential', delay: 10, jitter: 0.5 }]);
  }
  if (queue !== 'order' && chance(0.3)) asked.group = { id: `g${below(4)}` };
  if (chance(0.2)) asked.removeOnComplete = true;
  if (chance(0.05)) asked.removeOnFail = true;
  if (queue === 'order') {
    delete asked.delay;
    delete asked.removeOnComplete;
  }
  let deps;
  if (queue !== 'order' && chance(0.25) && known.length > 3) {
    const chosen = new Map();
    for (let i = below(3); i >= 0; i--) {
      const one = known[known.length - 1 - below(Math.min(known.length, 30))];
      if (one.queue !== 'order') chosen.set(one.key, one);
    }
    deps = [...chosen.values()];
    if (chance(0.6)) asked.onDependencyFailure = pick(['fail', 'run', 'run-now', 'cancel', 'wait']);
  }
  return { key, act, n: act === 'flaky' ? 1 : below(30), asked, deps };
}

function optionsOf({ asked, deps }) {
  return deps === undefined ? asked : { ...asked, dependsOn: deps.map(({ id, queue }) => ({ id, queue })) };
}

function ask(queue, { key, act, n, asked, deps }, more) {
  say({ asks: 'add', key, queue, act, n, opts: asked, deps: deps?.map((one) => one.key) ?? [], ...more });
}

async function told(what, run) {
  try {
    return await run();
  } catch (error) {
    say({ told: 'refused', what, code: error.code, message: error.message });
    return undefined;
  }
}

async function addOne(queue, custom) {
  const one = someJob(queue);
  if (custom !== undefined) one.asked.jobId = custom;
  ask(queue, one);
  const job = await told(`add ${one.key}`, () =>
    queues[queue].add('job', { key: one.key, act: one.act, n: one.n }, optionsOf(one)),
  );
  if (job === undefined) return undefined;
  say({ told: 'added', key: one.key, id: job.id, deduplicated: job.deduplicated, of: job.data?.key });
  if (job.deduplicated) return undefined;
  known.push({ key: one.key, id: job.id, queue });
  return job;
}

async function addMany(queue) {
  const bulk = `${round}.${++bulks}`;
  const many = Array.from({ length: 2 + below(12) }, () => someJob(queue));
  // Some depend on the one before, by the id that it is given in the same call.
  for (let i = 1; i < many.length; i++) {
    if (queue === 'order' || many[i].deps !== undefined || chance(0.7)) continue;
    const before = many[i - 1];
    before.asked.jobId ??= `k${before.key}`;
    many[i].deps = [{ key: before.key, id: before.asked.jobId, queue }];
  }
  for (const one of many) ask(queue, one, { bulk, size: many.length });
  const items = many.map((one) => ({
    name: 'job',
    data: { key: one.key, act: one.act, n: one.n },
    opts: optionsOf(one),
  }));
  const jobs = await told(`bulk ${bulk}`, () => queues[queue].addBulk(items));
  jobs?.forEach((job, i) => {
    say({ told: 'added', key: many[i].key, id: job.id, deduplicated: false });
    known.push({ key: many[i].key, id: job.id, queue });
  });
}

function waitFor(one, promise) {
  promise.then(
    (value) => say({ told: 'completed', by: 'finished', key: one.key, value }),
    (error) => {
      const ends = { FLASHQ_JOB_FAILED: 'failed', FLASHQ_JOB_CANCELLED: 'cancelled', FLASHQ_JOB_REMOVED: 'gone' };
      say({ told: ends[error.code] ?? 'refused', by: 'finished', key: one.key, code: error.code, message: error.message });
    },
  );
}

async function look(one) {
  const job = await queues[one.queue].getJob(one.id);
  if (job === undefined) return;
  const state = await job.getState();
  if (state === 'completed') {
    const again = await queues[one.queue].getJob(one.id);
    if (again !== undefined) say({ told: state, by: 'getJob', key: one.key, value: again.returnvalue });
  } else if (state === 'cancelled') say({ told: state, by: 'getJob', key: one.key });
  if (typeof job.progress === 'number') say({ told: 'progress', key: one.key, progress: job.progress });
}

async function change(one) {
  const queue = queues[one.queue];
  switch (below(5)) {
    case 0: {
      say({ asks: 'cancel', key: one.key });
      const answer = await told(`cancel ${one.key}`, () => queue.cancel(one.id, 'no more'));
      if (answer !== undefined) say({ told: 'cancel', key: one.key, answer });
      return;
    }
    case 1: {
      if (chance(0.6)) return;
      say({ asks: 'remove', key: one.key });
      const answer = await told(`remove ${one.key}`, () => queue.remove(one.id));
      if (answer !== undefined) say({ told: 'removed', key: one.key, answer });
      return;
    }
    case 2: {
      const priority = below(9) - 4;
      say({ asks: 'priority', key: one.key, priority });
      const answer = await told(`priority ${one.key}`, async () => {
        await queue.changePriority(one.id, priority);
        return true;
      });
      if (answer !== undefined) say({ told: 'priority', key: one.key, priority });
      return;
    }
    case 3: {
      say({ asks: 'retry', queue: one.queue });
      const count = await told('retry', () => queue.retryDlq());
      if (count !== undefined) say({ told: 'retried', queue: one.queue, count });
      return;
    }
    default:
      await look(one);
  }
}

/** One after the other: what of two at once would come last? */
let isControlling = false;
async function control() {
  if (isControlling) return;
  isControlling = true;
  const queue = queues.control;
  if (chance(0.5)) {
    const paused = chance(0.5);
    say({ asks: 'pause', paused });
    await (paused ? queue.pause() : queue.resume());
    say({ told: 'pause', paused });
  } else {
    const concurrency = pick([null, 1, 2, 7]);
    say({ asks: 'configure', concurrency });
    await queue.configure({ concurrency });
    say({ told: 'configure', concurrency });
  }
  isControlling = false;
}

/** Bytes that nobody needs any more. */
async function fill() {
  const key = `${round}.${++keys}`;
  ask('order', { key, act: 'now', n: 0, asked: {} });
  const data = { key, act: 'now', n: 0, ballast: 'x'.repeat(Number(ballast)) };
  const job = await queues.order.add('ballast', data);
  say({ told: 'added', key, id: job.id, deduplicated: false });
  say({ asks: 'remove', key });
  say({ told: 'removed', key, answer: await job.remove() });
}

async function step() {
  if (ballast !== '0' && chance(0.15)) await fill();
  const queue = pick(RUN);
  const at = below(100);
  if (at < 30) await addOne(queue);
  else if (at < 40) await addOne(queue, `c${below(40)}`);
  else if (at < 55) await addMany(queue);
  else if (at < 62) {
    const one = { ...someJob(queue), deps: undefined };
    ask(queue, one);
    const { key, act, n, asked } = one;
    waitFor(one, queues[queue].addAndWait('job', { key, act, n }, asked));
  } else if (at < 70) {
    if (known.length > 0) {
      const one = known[known.length - 1 - below(Math.min(known.length, 100))];
      if (one.queue !== 'order') waitFor(one, queues[one.queue].finished(one.id));
    }
  } else if (at < 92) {
    if (known.length > 0) await change(known[known.length - 1 - below(Math.min(known.length, 100))]);
  } else if (at < 95) await addOne('order', chance(0.2) ? `o${below(30)}` : undefined);
  else if (at < 97) await addMany('order');
  else if (at < 99) await control();
  else await queues[queue].getJobCounts();
}

async function loop() {
  try {
    for (;;) {
      await step();
      if (chance(0.2)) await sleep(below(8));
    }
  } catch (error) {
    if (error.code !== 'FLASHQ_ENGINE_CLOSED') throw error;
  }
}

/** Some processes end in order. */
process.once('SIGTERM', async () => {
  await engine.close();
  say({ told: 'closed' });
  process.exit(0);
});

async function isIdle() {
  const open = await Promise.all(
    Object.values(queues).map(async (queue) => {
      const { waiting, active, delayed, blocked } = await queue.getJobCounts();
      return waiting + active + delayed + blocked;
    }),
  );
  return open.every((count) => count === 0);
}

/** Everything ends: a job that waits for one in the dead letter queue is told to wait no more. */
async function drain() {
  await queues.control.resume();
  new Worker('order', work, { ...opts, concurrency: 1 });
  while (!(await isIdle())) {
    await sleep(10);
    for (const { id, queue } of dump(engine).jobs.filter(({ list }) => list === 'blocked')) {
      const { waitsFor } = await queues[queue].explain(id);
      for (const one of waitsFor) {
        if (one.state !== 'failed') continue;
        say({ asks: 'remove', queue: one.queue, id: one.id });
        await queues[one.queue].remove(one.id).catch(() => {});
      }
    }
  }
  say({ told: 'drained', ...dump(engine) });
  await engine.close();
  say({ told: 'closed' });
}

for (const queue of Object.values(queues)) await queue.getJobCounts(); // from now on its adds are made when they are called
startWorkers();
process.stdout.write('started\n');
if (task === 'drain') await drain();
else await Promise.all(Array.from({ length: 10 }, loop));
