/** Opens the directory and runs what is there; the job named `poison` ends the process at once. Ends by itself when nothing is left. */
import { Engine, Queue, Worker } from 'flashq';
import { say } from './told.js';
import poison from './poison-handler.js';

const [dataDir, kind, concurrency, jobs] = process.argv.slice(2);
const engine = await Engine.open({ dataDir });
const queue = new Queue('work', { connection: engine });
if (Number(jobs) > 0) {
  await queue.addBulk(
    Array.from({ length: Number(jobs) }, (_, i) => ({
      name: i === 2 ? 'poison' : 'good',
      data: { key: i },
    })),
  );
}
say({ told: 'opened' });
const handler = kind === 'file' ? new URL('./poison-handler.js', import.meta.url) : poison;
const threads = kind === 'file' ? { threads: 2 } : {};
new Worker('work', handler, { connection: engine, concurrency: Number(concurrency), ...threads });
for (;;) {
  const { waiting, active, blocked } = await queue.getJobCounts();
  if (waiting + active + blocked === 0) break;
  await new Promise((resolve) => setTimeout(resolve, 5));
}
const failed = await queue.getDlq();
say({ told: 'failed', jobs: failed.map(({ name, dlq, attemptsMade }) => ({ name, reason: dlq.reason, attemptsMade })) });
say({ told: 'counts', ...(await queue.getJobCounts()) });
await engine.close();
