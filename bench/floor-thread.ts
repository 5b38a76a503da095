/** The worker thread of the floor. It ends when it is terminated. */
import { workerData } from 'node:worker_threads';
import { noop, type SmallJob } from './jobs.js';
import { Ring } from './ring.js';

export interface FloorMessage {
  readonly there: SharedArrayBuffer;
  readonly back: SharedArrayBuffer;
}

/** Results are announced after so many: a wake-up costs a system call when the producer is parked. */
const RESULTS_AT_ONCE = 64;

const { there, back } = workerData as FloorMessage;
const jobs = new Ring(there, 'reader');
const results = new Ring(back, 'writer');

for (;;) {
  let announced = 0;
  for (let text = jobs.read(); text !== undefined; text = jobs.read()) {
    const result = await noop(JSON.parse(text) as SmallJob);
    const answer = JSON.stringify(result);
    while (!results.write(answer)) {
      results.wakeReader();
      results.waitWritable();
    }
    if (++announced % RESULTS_AT_ONCE === 0) results.wakeReader();
  }
  results.wakeReader();
  jobs.wakeWriter();
  jobs.waitReadable();
}
