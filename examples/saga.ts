/**
 * A shop that takes orders: reserve stock, charge the card, hand the parcel to the carrier. Each step has a way back, so that an order
 * that can't be shipped leaves neither goods nor money behind. The shop is a folder of small files; every step writes one of its own,
 * named by the key of the step, so that a step that runs twice (after a crash) does its work once.
 *
 *     npm run build && npm run build:extras && node dist/examples/saga.js
 */
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type CompensationData,
  defineSaga,
  Engine,
  type Job,
  SagaFailedError,
  UnrecoverableError,
  Worker,
} from 'flashq';

interface Order {
  readonly customer: string;
  readonly item: string;
  readonly count: number;
  readonly address: string;
}
type Reserved = Order & { readonly price: number };
type Paid = Reserved & { readonly receipt: string };

const PRICES: Readonly<Record<string, number>> = { lamp: 40, rope: 12 };
const SHELF: Readonly<Record<string, number>> = { lamp: 5, rope: 20 };
/** What each card is good for. */
const CARDS: Readonly<Record<string, number>> = { ann: 500, bob: 30, eve: 500 };
const ORDERS: Readonly<Record<string, Order>> = {
  'order-1': { customer: 'ann', item: 'lamp', count: 2, address: '1 Harbour Street' },
  'order-2': { customer: 'bob', item: 'lamp', count: 1, address: '2 Harbour Street' }, // his card is too small
  'order-3': { customer: 'eve', item: 'rope', count: 5, address: 'The lighthouse' }, // where no carrier goes
  'order-4': { customer: 'ann', item: 'lamp', count: 9, address: '1 Harbour Street' }, // more than there are
};

const home = await mkdtemp(join(tmpdir(), 'flashq-saga-'));
const room = (name: string) => join(home, name);
for (const name of ['reserved', 'charged', 'shipped']) await mkdir(room(name));

// ---- the shop's files -------------------------------------------------------------------------------------------------------

/** Written beside its place and moved there, so that a file is there as a whole or not at all. */
async function put(kind: string, key: string, value: unknown): Promise<void> {
  const file = join(room(kind), encodeURIComponent(key));
  await writeFile(`${file}.new`, JSON.stringify(value));
  await rename(`${file}.new`, file);
}

async function take(kind: string, key: string): Promise<void> {
  await rm(join(room(kind), encodeURIComponent(key)), { force: true });
}

async function all<T>(kind: string): Promise<Map<string, T>> {
  const found = new Map<string, T>();
  for (const name of await readdir(room(kind))) {
    if (name.endsWith('.new')) continue;
    found.set(decodeURIComponent(name), JSON.parse(await readFile(join(room(kind), name), 'utf8')) as T);
  }
  return found;
}

// ---- the steps --------------------------------------------------------------------------------------------------------------

async function reserve(order: Order, key: string): Promise<Reserved> {
  const others = [...(await all<Order>('reserved'))].filter(
    ([other, { item }]) => other !== key && item === order.item,
  );
  const left = (SHELF[order.item] ?? 0) - others.reduce((sum, [, { count }]) => sum + count, 0);
  if (left < order.count) throw new UnrecoverableError(`only ${left} of ${order.item} left`);
  await put('reserved', key, order);
  return { ...order, price: order.count * (PRICES[order.item] ?? 0) };
}

/** The handler of the queue `payments`, which knows nothing of sagas. The job's id is the key: a card is charged once for it. */
async function payments(job: Job): Promise<unknown> {
  if (job.name === 'refund') {
    const { forwardKey, input } = job.data as CompensationData<Reserved, Paid>;
    await take('charged', forwardKey);
    console.log(`  ${input.customer} gets ${input.price} back`);
    return undefined;
  }
  const order = job.data as Reserved;
  const spent = [...(await all<Reserved>('charged'))].filter(
    ([key, { customer }]) => key !== job.id && customer === order.customer,
  );
  const left = (CARDS[order.customer] ?? 0) - spent.reduce((sum, [, { price }]) => sum + price, 0);
  if (left < order.price)
    throw new UnrecoverableError(`the card of ${order.customer} is good for ${left}, not for ${order.price}`);
  await put('charged', job.id, order);
  console.log(`  ${order.customer} pays ${order.price}`);
  return { ...order, receipt: `receipt for ${order.price}` };
}

async function ship(order: Paid, key: string): Promise<string> {
  if (!order.address.endsWith('Street')) throw new Error(`no carrier goes to "${order.address}"`);
  await put('shipped', key, order);
  return `${order.count} x ${order.item} to ${order.address}, ${order.receipt}`;
}

// ---- the saga ---------------------------------------------------------------------------------------------------------------

const engine = await Engine.open({ dataDir: room('data') });
const worker = new Worker('payments', payments, { connection: engine });
const shop = defineSaga<Order, string>({
  name: 'order',
  connection: engine,
  steps: [
    {
      name: 'reserve',
      execute: (order: Order, { idempotencyKey }) => reserve(order, idempotencyKey),
      compensate: async (reserved: Reserved, { forwardKey }) => {
        await take('reserved', forwardKey);
        console.log(`  ${reserved.count} x ${reserved.item} back on the shelf`);
      },
    },
    { name: 'charge', queue: 'payments', job: 'charge', compensateJob: 'refund', attempts: 3, backoff: 200 },
    {
      name: 'ship',
      attempts: 2,
      backoff: 50,
      timeout: 10_000,
      execute: (paid: Paid, { idempotencyKey }) => ship(paid, idempotencyKey),
    },
  ],
});

try {
  for (const [id, order] of Object.entries(ORDERS)) {
    console.log(`${id}: ${order.count} x ${order.item} for ${order.customer}`);
    const handle = await shop.run(order, { id });
    try {
      console.log(`  shipped: ${await handle.result()}`);
    } catch (error) {
      if (!(error instanceof SagaFailedError)) throw error;
      console.log(`  not shipped, ${error.step} failed: ${(error.cause as Error).message}`);
    }
    const { state, steps } = await handle.status();
    console.log(`  ${state} (${steps.map((step) => `${step.name} ${step.state}`).join(', ')})`);
  }
  const kept = {
    reserved: await all<Order>('reserved'),
    charged: await all<Reserved>('charged'),
    shipped: await all('shipped'),
  };
  const counts = Object.entries(kept).map(([kind, files]) => `${files.size} ${kind}`);
  console.log(`in the shop's files: ${counts.join(', ')}`);
  // Whoever has paid has a parcel, and what is reserved was shipped: nothing of the other orders is left.
  if (counts.some((count) => !count.startsWith('1 '))) process.exitCode = 1;
} finally {
  await shop.close();
  await worker.close();
  await engine.close();
  await rm(home, { recursive: true });
}
