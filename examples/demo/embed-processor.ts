/** The handler of the `embed` queue. flashQ loads this file in each of its worker threads. */
import { closeSync, openSync, readSync } from 'node:fs';
import type { Job } from 'flashq';
import type { Document } from './documents.js';
import { embed } from './embedding.js';
import { Ledger } from './ledger.js';
import type { Task } from './tasks.js';

const ledger = Ledger.inherited();
const noteTask = ledger.enterThread();

export default async function embedTask(job: Job<Task, Float32Array>): Promise<Float32Array> {
  const { data } = job;
  ledger.noteStart(data.task);
  if ('failures' in data && job.attemptsMade < data.failures)
    throw new Error('The demo lets this run fail, to see it retried');
  const vector = embed('query' in data ? data.query : textOf(data.document), ledger.weights);
  ledger.noteCompletion(data.task);
  noteTask();
  return vector;
}

/** Synchronous on purpose: the thread has nothing else to do meanwhile, and a page in the cache is there in microseconds. */
export function textOf({ file, startBytes, lengthBytes }: Document): string {
  const descriptor = openSync(file, 'r');
  try {
    const bytes = Buffer.allocUnsafe(lengthBytes);
    const read = readSync(descriptor, bytes, 0, lengthBytes, startBytes);
    return bytes.toString('utf8', 0, read);
  } finally {
    closeSync(descriptor);
  }
}
