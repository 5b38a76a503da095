/** A user's own thread that joins the engine of another, and does what it is told. */
import { parentPort, workerData } from 'node:worker_threads';
import { defineSaga, Engine, FlowProducer, Job, Queue, QueueEvents, Worker } from 'flashq';
import { count, opened } from './board.js';

let engine;
const queues = new Map();
const workers = [];

function queue(name = 'work') {
  if (!queues.has(name)) queues.set(name, new Queue(name));
  return queues.get(name);
}

/** Its second step waits for `gate`, unless it is told to stop; its third one fails. */
function newSaga({ started, gate, work = true }) {
  return defineSaga({
    name: 'order',
    work,
    steps: [
      { name: 'first', execute: (data) => [data], compensate: ([data]) => count(data.undone) },
      {
        name: 'gated',
        timeout: 60_000,
        async execute(list, { signal }) {
          count(started);
          await opened(gate, signal);
          return [...list, 'through'];
        },
      },
      { name: 'job', queue: 'work', job: 'job' },
    ],
  });
}

let saga;

const commands = {
  defineSaga(args) {
    saga = newSaga(args);
  },
  runSaga: async ({ data, id }) => (await saga.run(data, { id })).id,
  sagaResult: async ({ id }) => (await saga.get(id)).result(),
  cancelSaga: ({ id, reason }) => saga.cancel(id, reason),
  sagaState: async ({ id }) => (await (await saga.get(id)).status()).state,
  listSagas: async (args) => (await saga.list(args)).map(({ id }) => id),
  closeSaga: (how) => saga.close(how),
  attach({ handle, twice }) {
    engine = Engine.attach(handle);
    if (twice) Engine.attach(handle);
  },
  add: async ({ name = 'job', data, opts }) => plain(await queue().add(name, data, opts)),
  async addBulk({ items, atomic = true }) {
    const answers = await queue().addBulk(items, { atomic });
    if (atomic) return answers.map(plain);
    return answers.map((one) => (one.ok ? { ok: true, job: plain(one.job) } : { ok: false, error: one.error }));
  },
  async addMany({ count: number, atomic = true, bytes = 0, cell }) {
    const items = Array.from({ length: number }, (_, i) => ({ name: 'job', data: bytes === 0 ? i : 'x'.repeat(bytes) }));
    if (cell !== undefined) count(cell);
    const answers = await queue().addBulk(items, { atomic });
    return answers.length;
  },
  async addsForEver({ cell, bulk = 500, atomic = true, data = 'y'.repeat(300) }) {
    for (;;) {
      await queue().addBulk(
        Array.from({ length: bulk }, () => ({ name: 'job', data })),
        { atomic },
      );
      count(cell);
    }
  },
  addAndWait: ({ data, opts, wait }) => queue().addAndWait('job', data, opts, wait),
  finished: ({ refs, opts }) => queue().finished(refs, opts),
  counts: () => queue().getJobCounts(),
  async addGraph({ graph, after }) {
    const nodes = { ...graph.nodes };
    if (after !== undefined) nodes.late = { name: 'late', queueName: 'work', opts: { dependsOn: [await queue().add('early', null)] } };
    const jobs = await new FlowProducer().addGraph({ nodes, edges: graph.edges });
    return Object.fromEntries(Object.entries(jobs).map(([key, job]) => [key, plain(job)]));
  },
  async method({ name, args = [] }) {
    const answer = await queue()[name](...args);
    return answer instanceof Job ? answer.toJSON() : answer;
  },
  async events() {
    const events = new QueueEvents('work');
    events.on('completed', ({ jobId, returnvalue }) => parentPort.postMessage({ event: { jobId, returnvalue } }));
    await events.waitUntilReady();
  },
  async work({ gate, started, opts, spin = false, tellLate = false }) {
    const worker = new Worker(
      'work',
      async (job) => {
        if (started !== undefined) count(started);
        if (spin) while (true);
        if (gate !== undefined) await opened(gate);
        return { here: job.data };
      },
      opts,
    );
    worker.on('error', (error) => parentPort.postMessage({ workerError: error }));
    if (tellLate) worker.on('late', (job) => parentPort.postMessage({ event: { late: job.id } }));
    workers.push(worker);
    await worker.waitUntilReady();
  },
  async closeWorkers(how) {
    await Promise.all(workers.splice(0).map((worker) => worker.close(how)));
  },
  fileWorker: ({ file }) => new Worker('work', file, { threads: 1, autorun: false }).run(),
  close: () => engine.close(),
  exit: () => process.exit(0),
};

function plain(job) {
  return { id: job.id, data: job.data, deduplicated: job.deduplicated };
}

parentPort.on('message', async ({ id, command, args }) => {
  try {
    parentPort.postMessage({ id, value: await commands[command](args ?? {}) });
  } catch (error) {
    const { name, code, message, errors } = error;
    const inner = errors?.map((one) => ({ index: one.index, name: one.error.name }));
    parentPort.postMessage({ id, error: { name, code, message, errors: inner } });
  }
});
if (workerData?.handle !== undefined) commands.attach(workerData);
parentPort.postMessage({ id: 0 });
