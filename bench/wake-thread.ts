/** A thread that parks in `waitAsync` and says when it woke: the fastest that any job can reach a parked thread. */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';

// Places in the shared memory: two words, and a time in nanoseconds behind them.
export const WAKE = 0;
export const ACKNOWLEDGED = 1;
export const ENDED_AT_WORD = 1; // as a 64-bit float
export const STAMP_BYTES = 16;

async function serve(shared: SharedArrayBuffer): Promise<never> {
  const words = new Int32Array(shared);
  const stamps = new Float64Array(shared);
  let seen = 0;
  parentPort!.on('message', () => {}); // `waitAsync` alone keeps no thread alive
  parentPort!.postMessage('ready');
  for (;;) {
    const { async, value } = Atomics.waitAsync(words, WAKE, seen);
    if (async) await value;
    stamps[ENDED_AT_WORD] = Number(process.hrtime.bigint());
    seen = Atomics.load(words, WAKE);
    Atomics.add(words, ACKNOWLEDGED, 1);
    Atomics.notify(words, ACKNOWLEDGED);
  }
}

if (!isMainThread && workerData instanceof SharedArrayBuffer) await serve(workerData);
