/** Golden logs: a log in a file, and all that an engine must know that opens it. */
import { Engine, Queue, TestClock, Worker } from 'flashq';
import { dumpOf } from '../support/dump.js';
import { SMALL } from '../support/lived.js';
import { Tape } from '../support/tape.js';

export interface Golden {
  readonly name: string;
  readonly says: string;
  /** When it is to be opened, ms since the epoch. */
  readonly now: number;
  /** Position of the first batch. */
  readonly first: number;
  readonly batches: readonly Uint8Array[];
}

const ENTRY_BYTES = 12;

/** For each batch: its position (f64), its length (u32), its bytes; little-endian. */
export function encodeGolden({ first, batches }: Golden): Buffer {
  return Buffer.concat(
    batches.flatMap((batch, nth) => {
      const entry = Buffer.alloc(ENTRY_BYTES);
      entry.writeDoubleLE(first + nth, 0);
      entry.writeUInt32LE(batch.length, 8);
      return [entry, batch];
    }),
  );
}

export function decodeGolden(bytes: Buffer): Pick<Golden, 'first' | 'batches'> {
  const batches: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8);
    at += ENTRY_BYTES;
    batches.push(Uint8Array.from(bytes.subarray(at, at + length)));
    at += length;
  }
  return { first: bytes.readDoubleLE(0), batches };
}

export interface Knowledge {
  /** As JSON has it. */
  readonly state: unknown;
  /** By queue: the jobs that wait, in the order in which they are claimed. */
  readonly order: Record<string, string[]>;
}

/** What an engine knows that opens that log. */
export async function knowledgeOf({
  first,
  batches,
  now,
}: Pick<Golden, 'first' | 'batches' | 'now'>): Promise<Knowledge> {
  const engine = await Engine.open({
    store: new Tape(batches, { first, epoch: 100n }),
    clock: new TestClock(now),
    ...SMALL,
  });
  try {
    const state = JSON.parse(
      JSON.stringify(dumpOf(engine), (_, value) => (typeof value === 'bigint' ? `${value}n` : value)),
    );
    const order: Knowledge['order'] = {};
    for (const { name, counts } of engine.queues())
      if (counts.waiting !== 0) order[name] = await orderOf(engine, name, counts.waiting);
    return { state, order };
  } finally {
    await engine.close();
  }
}

async function orderOf(engine: Engine, name: string, waiting: number): Promise<string[]> {
  const queue = new Queue(name, { connection: engine });
  const order: string[] = [];
  let worker: Worker | undefined;
  await new Promise<void>((resolve) => {
    worker = new Worker(name, (job) => void (order.push(job.id) === waiting && resolve()), {
      connection: engine,
      concurrency: 1,
    });
    worker.on('error', () => {});
    void queue.resume();
  });
  await worker!.close();
  return order.slice(0, waiting);
}
