/**
 * A service that is down for a while, and twenty jobs that need it: the breaker leaves it alone after three failures, and none of the jobs
 * that meet the open breaker is lost or counted against.
 *
 *     node dist/examples/circuit-breaker.js
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { CircuitBreaker, Engine, Queue, Worker } from 'flashq';

const JOBS = 20;
const DOWN_MS = 400;
const TIMEOUT_MS = 150;

let isDown = true;
let requests = 0;
const server = createServer((_request, response) => {
  requests++;
  response.writeHead(isDown ? 503 : 200).end();
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const breaker = new CircuitBreaker({
  threshold: 3,
  timeout: TIMEOUT_MS,
  onChange: (state, before) => console.log(`${before} to ${state} after ${requests} requests`),
});

async function call(signal: AbortSignal): Promise<number> {
  const { status } = await fetch(url, { signal });
  if (status !== 200) throw new Error(`The service answered ${status}`);
  return status;
}

const engine = await Engine.open({ maxMemory: 64 * 2 ** 20 });
const queue = new Queue('calls', { connection: engine });
new Worker('calls', (_job, { signal }) => breaker.execute(() => call(signal)), { connection: engine, concurrency: 2 });

const jobs = await queue.addBulk(
  Array.from({ length: JOBS }, (_, n) => ({ name: 'call', data: n, opts: { attempts: 10, backoff: 50 } })),
);
await wait(DOWN_MS);
const whileDown = requests;
isDown = false;
const results = await queue.finished(jobs);
console.log(`${results.length} of ${JOBS} jobs completed; ${whileDown} requests while the service was down`);
await engine.close();
server.close();
