/**
 * What one durable change costs without a queue: a thread that is woken, writes a page and syncs it, twice, and wakes its caller. It ends when it is
 * terminated.
 * The pages lie in a file that has its size already, which is the cheapest kind of sync: no length has to be written.
 */
import { fdatasyncSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';

export interface SyncMessage {
  readonly dataDir: string;
  readonly shared: SharedArrayBuffer;
}

// Words in the shared memory: how often the thread was asked, how often it has answered.
export const ASKED = 0;
export const ANSWERED = 1;
export const SYNC_BYTES = 8;

const SYNCS = 2; // LMDB's: its pages, then the page that says which pages count
const PAGE_BYTES = 4096;
const PAGES = 256;

function serve({ dataDir, shared }: SyncMessage): void {
  const words = new Int32Array(shared);
  const page = Buffer.alloc(PAGE_BYTES);
  const file = openSync(join(dataDir, 'pages'), 'w');
  for (let nth = 0; nth < PAGES; nth++) writeSync(file, page, 0, PAGE_BYTES, nth * PAGE_BYTES);
  fsyncSync(file);
  parentPort!.postMessage('ready');
  let nth = 0;
  for (let seen = 0; ; seen++) {
    Atomics.wait(words, ASKED, seen);
    for (let sync = 0; sync < SYNCS; sync++) {
      page.writeInt32LE(nth, 0);
      writeSync(file, page, 0, PAGE_BYTES, (nth++ % PAGES) * PAGE_BYTES);
      fdatasyncSync(file);
    }
    Atomics.add(words, ANSWERED, 1);
    Atomics.notify(words, ANSWERED);
  }
}

if (!isMainThread && workerData?.shared instanceof SharedArrayBuffer) serve(workerData as SyncMessage);
