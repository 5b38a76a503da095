/** The handler of all jobs under load, as a function and as a file: `data.act` says what it does. */
import { setTimeout as sleep } from 'node:timers/promises';
import { say } from './told.js';

export default function work(job, context) {
  const { key, act, n } = job.data;
  say({ did: 'start', key, queue: job.queueName, id: job.id });
  switch (act) {
    case 'now':
      return end(job);
    case 'throws':
      throw fail(job);
    case 'flaky':
      if (job.attemptsMade < n) throw fail(job);
      return end(job);
    default:
      return later(job, context);
  }
}

function end({ data: { key, n } }) {
  say({ did: 'end', key });
  return { key, n };
}

function fail({ data: { key } }) {
  say({ did: 'throw', key });
  return new Error(`no ${key}`);
}

async function later(job, { signal }) {
  const { key, act, n } = job.data;
  if (act === 'tells') {
    for (let i = 1; i <= 3; i++) {
      const progress = job.attemptsStarted * 10 + i;
      await job.updateProgress(progress);
      say({ told: 'progress', key, progress });
      const logs = await job.log(`${progress}`);
      say({ told: 'logs', key, logs });
    }
  } else if (act === 'waits') await sleep(60, undefined, { signal }).catch(() => {});
  else await sleep(n);
  if (signal.aborted) throw fail(job);
  return end(job);
}
