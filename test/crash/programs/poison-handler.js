import { setTimeout as sleep } from 'node:timers/promises';
import { say } from './told.js';

export default function handler(job) {
  if (job.name === 'poison') process.kill(process.pid, 'SIGKILL');
  return good(job);
}

async function good({ data: { key } }) {
  await sleep(20); // it is there when its neighbour ends everything
  say({ did: 'end', key });
  return key;
}
