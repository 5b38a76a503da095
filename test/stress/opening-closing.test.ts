/** Workers come and go while jobs flow, over several queues and priorities. */
import type { Worker } from 'flashq';
import { expect, test } from 'vitest';
import { type Added, Field, SCALE, type Temper } from './field.js';

const MIXED: readonly Temper[] = ['works', 'works', 'works', 'works', 'computes', 'flaky', 'flaky', 'fails', 'later'];

async function openOne(field: Field, queue: string): Promise<void> {
  if (field.random(2) === 0) field.fileWorker({ threads: 1, concurrency: 1 + field.random(8) }, queue);
  else await field.functionWorker({ concurrency: 1 + field.random(8) }, queue);
}

function closeOne(field: Field): Promise<void> | undefined {
  if (field.workers.size === 0) return undefined;
  const worker: Worker = field.pick([...field.workers]);
  field.workers.delete(worker);
  switch (field.random(3)) {
    case 0:
      return worker.close();
    case 1:
      return worker.close(true);
    default:
      return worker.close({ timeout: field.random(5) });
  }
}

test('every job is run by whoever is there', async () => {
  const names = ['a', 'b', 'c'];
  const field = await Field.open({ queues: names, events: true });
  await field.add(600 * SCALE, MIXED);
  await field.add(15 * SCALE, ['hangs']);
  for (const name of names) await openOne(field, name);
  const ended = field.ended();
  const closing: (Promise<void> | undefined)[] = [];
  await field.whileUnder(25 * SCALE, 25, ended, async () => {
    closing.push(closeOne(field));
    await openOne(field, field.pick(names));
    // Somebody must be there for each queue, or nothing would end any more.
    for (const name of names) {
      if (![...field.workers].some((worker) => worker.queueName === name)) await openOne(field, name);
    }
  });
  await ended;
  await Promise.all(closing);
  expect(field.errors).toEqual([]);
  await field.reckon();
});

test('cancelled, promoted and paused in between', async () => {
  const names = ['a', 'b'];
  const field = await Field.open({ queues: names, events: true });
  await field.add(500 * SCALE, MIXED);
  await field.add(10 * SCALE, ['hangs']);
  for (const name of names) {
    field.fileWorker({ threads: 1, concurrency: 6 }, name);
    await field.functionWorker({ concurrency: 3 }, name);
  }
  const ended = field.ended();
  const calls: Promise<unknown>[] = [];
  const finishedAlready: Added[] = [];
  await field.whileUnder(60 * SCALE, 8, ended, async () => {
    const job = field.pick(field.added);
    const queue = field.queue(job.queue);
    switch (field.random(5)) {
      case 0:
        // A second thought of a job that has ended changes nothing.
        if ((await queue.cancel(job.id)) === 'finished') finishedAlready.push(job);
        else job.isCancelled = true;
        return;
      case 1:
        await queue.changePriority(job.id, field.random(9) - 4).catch(() => {}); // it has started
        return;
      case 2:
        await queue.promote(job.id).catch(() => {}); // it isn't delayed
        return;
      case 3:
        await queue.pause();
        calls.push(new Promise((resolve) => setImmediate(resolve)).then(() => queue.resume()));
        return;
      default:
        field.endThread();
    }
  });
  await Promise.all(calls);
  await ended;
  for (const { isCancelled, queue, id } of finishedAlready) {
    if (!isCancelled) expect(await field.queue(queue).getJobState(id)).not.toBe('cancelled');
  }
  await field.reckon();
});
