/**
 * Invoices in many currencies are converted to euros. Some can't be: one is no JSON, and of one currency the rate is missing. What has
 * failed waits in the dead letter queue, with its reason; when the rate is there, those invoices run again, and the broken one is purged.
 *
 *     tsc -p examples && node dist/examples/dead-letter.js
 */
import { Engine, Queue, UnrecoverableError, Worker } from 'flashq';

const INVOICES = [
  '{"number": "A-1", "amount": 100, "currency": "EUR"}',
  '{"number": "A-2", "amount": 250, "currency": "USD"}',
  '{"number": "A-3", "amount": 80, "currency": "CHF"}',
  '{"number": "A-4", "amount": 40, "curr',
  '{"number": "A-5", "amount": 500, "currency": "CHF"}',
];

const rates = new Map([
  ['EUR', 1],
  ['USD', 0.92],
]);

interface Invoice {
  number: string;
  amount: number;
  currency: string;
}

function parsed(text: string): Invoice {
  try {
    return JSON.parse(text) as Invoice;
  } catch (error) {
    throw new UnrecoverableError(`not JSON: ${(error as Error).message}`); // trying again won't help
  }
}

function inEuros(text: string): number {
  const { amount, currency } = parsed(text);
  const rate = rates.get(currency);
  if (rate === undefined) throw new Error(`no rate for ${currency}`);
  return Math.round(amount * rate * 100) / 100;
}

const engine = await Engine.open();
const queue = new Queue<string, number>('invoices', { connection: engine });
const worker = new Worker<string, number>('invoices', (job) => inEuros(job.data), { connection: engine });

const jobs = await queue.addBulk(
  INVOICES.map((text) => {
    const currency = /"currency": "([A-Z]{3})"/.exec(text)?.[1];
    return { name: 'convert', data: text, opts: currency === undefined ? {} : { tags: [currency] } };
  }),
);
const outcomes = await queue.finished(jobs, { settled: true });
console.log(`converted at first: ${outcomes.filter(({ status }) => status === 'fulfilled').length} of ${jobs.length}`);

for (const job of (await queue.getDlq()).reverse()) console.log(`${job.id}: ${job.dlq?.reason}, ${job.failedReason}`);

rates.set('CHF', 1.04);
console.log(`retried: ${await queue.retryDlq({ tag: 'CHF' })}`);
const swiss = jobs.filter((job) => job.opts.tags?.includes('CHF'));
console.log(`in euros: ${(await queue.finished(swiss)).join(' and ')}`);

console.log(`purged: ${await queue.purgeDlq({ reason: 'unrecoverable' })}`);
console.log(`left in the dead letter queue: ${await queue.getDlqCount()}`);

await worker.close();
await engine.close();
