/**
 * Ten pages are fetched from a server that is having a bad day: it answers 503 with `Retry-After`, hangs up, and one page is not there.
 * Transient failures are tried again, ever later and with jitter; what the server says about when to come back counts more; what can't
 * get better is not tried again.
 *
 *     tsc -p examples && node dist/examples/retry.js
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Engine, Queue, UnrecoverableError, Worker } from 'flashq';

/** The first request of each page fails: one way or the other. */
const asked = new Map<string, number>();
const server = createServer((request, response) => {
  const path = request.url ?? '/';
  const page = Number(path.slice(1));
  const times = (asked.get(path) ?? 0) + 1;
  asked.set(path, times);
  if (page === 9) response.writeHead(404).end();
  else if (times > 1) response.end(`page ${page}`);
  else if (page % 2 === 0) response.writeHead(503, { 'retry-after': '0.05' }).end();
  else request.socket.destroy();
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

/** The server has said when to come back; in seconds, as HTTP does. */
class BusyError extends Error {
  readonly retryAfterSeconds: number;

  constructor(retryAfterSeconds: number) {
    super(`busy, try again in ${retryAfterSeconds} s`);
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

const engine = await Engine.open();
const queue = new Queue<string, string>('pages', {
  connection: engine,
  defaultJobOptions: {
    attempts: 5,
    backoff: { type: 'exponential', delay: 20, maxDelay: 1000, jitter: 0.5 },
    timeout: 10_000,
  },
});

const worker = new Worker<string, string>(
  'pages',
  async (job, { signal }) => {
    const response = await fetch(base + job.data, { signal });
    if (response.status === 404) throw new UnrecoverableError(`${job.data} is not there`);
    if (response.status === 503) throw new BusyError(Number(response.headers.get('retry-after')));
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    return response.text();
  },
  {
    connection: engine,
    concurrency: 4,
    settings: { retryAfter: (error) => (error instanceof BusyError ? error.retryAfterSeconds * 1000 : undefined) },
  },
);

const jobs = await queue.addBulk(Array.from({ length: 10 }, (_, page) => ({ name: 'fetch', data: `/${page}` })));
const outcomes = await queue.finished(jobs, { settled: true });

const fetched = outcomes.filter(({ status }) => status === 'fulfilled').length;
const [missing] = await queue.getDlq();
console.log(`fetched: ${fetched} of ${jobs.length}, each at its second attempt`);
console.log(`requests: ${[...asked.values()].reduce((sum, times) => sum + times, 0)}`);
console.log(`given up at once: ${missing?.failedReason} (attempts: ${missing?.attemptsMade})`);

await worker.close();
server.close();
server.closeAllConnections();
await engine.close();
