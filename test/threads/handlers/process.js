/** A program of its own: what it does is its argument. Prints a line for everything that happens. */
import { setEnvironmentData } from 'node:worker_threads';
import { Engine, Queue, TestClock, Worker } from 'flashq';

const board = new Int32Array(new SharedArrayBuffer(4096));
setEnvironmentData('flashq-test-board', board);
const tasks = new URL('./tasks.js', import.meta.url);
const say = (line) => console.log(line);
process.on('exit', () => say('exit'));
/** Said only if something else keeps the process alive until then. */
const sayLater = () => setTimeout(() => say('still alive'), 300).unref();

const programs = {
  async closed() {
    const engine = await Engine.open();
    const queue = new Queue('work', { connection: engine });
    new Worker('work', tasks, { connection: engine, threads: 2 });
    new Worker('work', (job) => job.data, { connection: engine });
    const late = queue.finished(await queue.add('echo', 0, { delay: 3_600_000 }));
    late.catch((error) => say(error.code));
    say(await queue.addAndWait('echo', 'done'));
    await engine.close();
    say('closed');
  },

  async idle() {
    const engine = await Engine.open();
    const queue = new Queue('work', { connection: engine });
    await queue.add('echo', 1);
    await queue.add('echo', 1, { delay: 3_600_000 });
    sayLater();
  },

  async closedWorker() {
    const engine = await Engine.open();
    const queue = new Queue('work', { connection: engine });
    const worker = new Worker('work', tasks, { connection: engine, threads: 2 });
    say(await queue.addAndWait('echo', 'done'));
    await worker.close();
    sayLater();
  },

  async fileWorker() {
    const engine = await Engine.open();
    const worker = new Worker('work', tasks, { connection: engine, threads: 1 });
    await worker.waitUntilReady();
    say('ready');
    sayLater();
  },

  async functionWorker() {
    const engine = await Engine.open();
    const worker = new Worker('work', () => {}, { connection: engine });
    await worker.waitUntilReady();
    say('ready');
    sayLater();
  },

  async waiting() {
    const engine = await Engine.open();
    const queue = new Queue('work', { connection: engine });
    void queue.finished(await queue.add('echo', 0));
    say('ready');
    sayLater();
  },

  async defaultEngine() {
    new Worker('work', tasks, { connection: 'memory', threads: 1 });
    new Worker('other', tasks, { connection: 'memory', threads: 1 });
    say((await new Queue('work', { connection: 'memory' }).addAndWait('adds', { queue: 'other' })).join(', '));
    await (await Engine.default()).close();
  },

  async signals() {
    const engine = await Engine.open({ handleSignals: true });
    const queue = new Queue('work', { connection: engine });
    const worker = new Worker('work', tasks, { connection: engine, threads: 1 });
    const job = await queue.add('gate', { started: 1, gate: 2 });
    void queue.finished(job).then((result) => say(result));
    worker.on('closing', () => {
      say('closing');
      if (process.argv[3] === 'finish') {
        Atomics.store(board, 2, 1);
        Atomics.notify(board, 2);
      }
    });
    worker.on('closed', () => say('closed'));
    while (Atomics.load(board, 1) === 0) await Atomics.waitAsync(board, 1, 0).value;
    say('running');
  },

  async outOfMemory() {
    const engine = await Engine.open();
    const queue = new Queue('work', { connection: engine });
    const worker = new Worker('work', tasks, { connection: engine, threads: 1 });
    const told = new Promise((resolve) => worker.once('error', resolve));
    const job = await queue.add('eats', 0, { maxDeliveries: 1 });
    await queue.finished(job).catch(() => {});
    say((await queue.getJob(job.id)).dlq.reason);
    say((await told).cause.code);
    say(await queue.addAndWait('echo', 'goes on'));
    await engine.close();
  },

  async abandoned() {
    // Threads, an attached clock and jobs under way, and the program just ends.
    const engine = await Engine.open({ clock: new TestClock() });
    const queue = new Queue('work', { connection: engine });
    const worker = new Worker('work', tasks, { connection: engine, threads: 2, concurrency: 4 });
    await worker.waitUntilReady();
    await queue.addBulk(Array.from({ length: 4 }, () => ({ name: 'gate', data: { started: 1, gate: 2 } })));
    while (Atomics.load(board, 1) < 4) await new Promise((resolve) => setImmediate(resolve));
    say('running');
    process.exit(0);
  },
};

await programs[process.argv[2]]();
