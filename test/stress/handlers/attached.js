/** A user's own thread that adds jobs and runs them, until it is ended or there is enough. */
import { parentPort, workerData } from 'node:worker_threads';
import { Engine, Queue, Worker } from 'flashq';
import { acknowledged, isEnough, nextJob } from './ledger.js';
import { polite } from './tasks.js';

const { handle, concurrency, opts } = workerData;
const connection = Engine.attach(handle);
const queue = new Queue('work', { connection });
if (concurrency > 0) new Worker('work', polite, { connection, concurrency });

const NAMES = ['flaky', 'works', 'lingers', 'works', 'lingers', 'works', 'computes', 'lingers'];

function item() {
  const number = nextJob();
  return { name: NAMES[number % NAMES.length], data: { number, failures: 1 + (number % 3), turns: number % 4 }, opts };
}

/** One at a time, many at once, and one that is waited for. */
const ways = [
  async () => {
    const one = item();
    await queue.add(one.name, one.data, one.opts);
    acknowledged(one.data.number);
  },
  async () => {
    const items = Array.from({ length: 20 }, item);
    await queue.addBulk(items, { atomic: items[0].data.number % 2 === 0 });
    for (const { data } of items) acknowledged(data.number);
  },
  async () => {
    const one = item();
    if ((await queue.addAndWait(one.name, one.data, one.opts)) !== one.data.number) throw new Error('a wrong result');
    acknowledged(one.data.number);
  },
];

for (let way = 0; !isEnough(); way++) await ways[way % ways.length]();
parentPort.postMessage('enough');
