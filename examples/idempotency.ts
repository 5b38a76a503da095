/**
 * A shop is told of payments over HTTP, and as everywhere some notices come twice: the sender repeats what it got no answer to. The
 * notice's id is the job's id, so each payment is booked once. The statement is written anew after payments: many notices, fewer
 * statements, never two writers at once, and in the end none that has missed a payment (`keepLastIfActive`).
 *
 *     tsc -p examples && node dist/examples/idempotency.js
 */
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Engine, Queue, Worker } from 'flashq';

interface Payment {
  id: string;
  cents: number;
}

const engine = await Engine.open();
const payments = new Queue<Payment>('payments', { connection: engine });
const statements = new Queue<null, void>('statements', { connection: engine });

const folder = await mkdtemp(join(tmpdir(), 'flashq-shop-'));
const statement = join(folder, 'statement.csv');
const ledger: Payment[] = [];
let written = 0;

const workers = [
  new Worker<Payment>(
    'payments',
    async ({ data }) => {
      ledger.push(data); // twice would be wrong
      await statements.add('write', null, { deduplication: { id: 'statement', keepLastIfActive: true } });
    },
    { connection: engine, concurrency: 10 },
  ),
  new Worker<null, void>(
    'statements',
    async () => {
      await writeFile(statement, ledger.map(({ id, cents }) => `${id},${cents}\n`).join(''));
      written++;
    },
    { connection: engine },
  ),
];

let repeats = 0;

async function receive(request: IncomingMessage): Promise<void> {
  const payment = JSON.parse(await text(request)) as Payment;
  const job = await payments.add('book', payment, { jobId: payment.id });
  if (job.deduplicated) repeats++;
}

const server = createServer((request, response) => {
  receive(request).then(
    () => response.writeHead(204).end(),
    (error: Error) => response.writeHead(400).end(error.message),
  );
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;

// 200 payments; every fourth notice is sent three times.
const notices = Array.from({ length: 200 }, (_, i) => ({ id: `pay-${i}`, cents: 100 + i })).flatMap((notice, i) =>
  i % 4 === 0 ? [notice, notice, notice] : [notice],
);
await Promise.all(notices.map((notice) => fetch(url, { method: 'POST', body: JSON.stringify(notice) })));

await payments.finished(Array.from({ length: 200 }, (_, i) => `pay-${i}`));
// What was added while the last one was written comes after it.
for (let id = await statements.getDeduplicationJobId('statement'); id !== null; ) {
  await statements.finished(id);
  id = await statements.getDeduplicationJobId('statement');
}

const lines = (await readFile(statement, 'utf8')).trimEnd().split('\n');
const cents = lines.reduce((sum, line) => sum + Number(line.split(',')[1]), 0);
console.log(`notices: ${notices.length}, of which ${repeats} were repeats`);
console.log(`booked: ${ledger.length} payments`);
console.log(`the statement, written ${written} times, has ${lines.length}: ${(cents / 100).toFixed(2)}`);

await rm(folder, { recursive: true });
server.close();
server.closeAllConnections();
for (const worker of workers) await worker.close();
await engine.close();
