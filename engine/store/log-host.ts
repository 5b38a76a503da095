/**
 * Where the log is kept from the engine's point of view: it hands over groups and hears when they are durable, in order. Two kinds:
 * `ThreadHost`, whose store lives on a thread of its own, so that no sync ever holds up the engine; `LocalHost`, for a store that is
 * an object of this thread.
 */
import { StoreError } from '../../client/errors.js';
import { BATCH_BYTES_MAX, batchesOf, cutGroup } from './format.js';
import type { LogSession, LogStore } from './log-store.js';

export interface LogListener {
  /** The groups up to that one, counted from 1 in this session, are durable. */
  durable(groups: number): void;
  /** An append failed, or the log has another owner: no further group becomes durable. */
  failed(error: StoreError): void;
}

export interface LogHost {
  readonly epoch: number;
  readonly batchBytesMax: number;
  /** Gives every batch, oldest first; resolves with the position of the next one. To be called once, first. */
  load(onBatch: (position: number, batch: Uint8Array) => void): Promise<number>;
  /** From now on groups are taken. */
  begin(listener: LogListener): void;
  /** Memory for the next group, or undefined while all is under way. */
  buffer(): SharedArrayBuffer | undefined;
  /** Takes over the first `length` bytes, of memory that `buffer` gave or larger. */
  append(buffer: SharedArrayBuffer, length: number): void;
  truncate(before: number): void;
  /** Looks for news at once, without waiting to be told. */
  poll(): void;
  /** Goes on while this thread does not: at the end of a process it can be waited for. */
  readonly goesOnAlone: boolean;
  /** Blocks this thread until everything handed over is durable and the log closed, or the time is over. For the end of a process. */
  closeSync(ms: number): boolean;
  /** After everything handed over. Rejects when that takes longer than `deadlineMs`, and leaves it to end by itself. */
  close(deadlineMs: number): Promise<void>;
}

/** The part of a log that an engine has; other parts are for engines that share one. */
export const LOG_PART = 'main';

/** Groups under way at a time, as many as on a thread. */
const GROUPS = 2;

/** A store in this thread: for tests, and for stores that don't block. */
export class LocalHost implements LogHost {
  readonly batchBytesMax: number;
  readonly goesOnAlone = false;
  readonly #session: LogSession;
  readonly #memory: SharedArrayBuffer;
  #listener: LogListener | undefined;
  #next = 0;
  #taken = 0;
  #durable = 0;
  #chain: Promise<void> = Promise.resolve();
  #failed = false;

  private constructor(store: LogStore, session: LogSession, bufferBytes: number) {
    this.batchBytesMax = Math.min(store.caps.batchBytesMax, BATCH_BYTES_MAX);
    this.#session = session;
    this.#memory = new SharedArrayBuffer(bufferBytes);
    void session.lost.then((error) => this.#fail(error));
  }

  static async open(store: LogStore, node: string, bufferBytes: number): Promise<LocalHost> {
    return new LocalHost(store, await store.open(LOG_PART, node), bufferBytes);
  }

  get epoch(): number {
    return Number(this.#session.epoch);
  }

  async load(onBatch: (position: number, batch: Uint8Array) => void): Promise<number> {
    this.#next = Number(await this.#session.load((position, batch) => onBatch(Number(position), batch)));
    return this.#next;
  }

  begin(listener: LogListener): void {
    this.#listener = listener;
  }

  buffer(): SharedArrayBuffer | undefined {
    return this.#taken - this.#durable < GROUPS ? this.#memory : undefined;
  }

  append(buffer: SharedArrayBuffer, length: number): void {
    const appends: Promise<bigint>[] = [];
    const first = this.#next;
    this.#next += batchesOf(length, this.batchBytesMax);
    // The batches are copies: the memory is free again at once.
    cutGroup(new Uint8Array(buffer, 0, length), this.batchBytesMax, this.epoch, first, (batch) => {
      const append = this.#session.append(batch);
      append.catch(() => {}); // seen below
      appends.push(append);
    });
    const group = ++this.#taken;
    this.#chain = this.#chain
      .then(() => Promise.all(appends))
      .then(
        () => {
          if (this.#failed) return;
          this.#durable = group;
          this.#listener?.durable(group);
        },
        (error: unknown) => this.#fail(error),
      );
  }

  #fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#listener?.failed(toStoreError(error));
  }

  truncate(before: number): void {
    void this.#session.truncate(BigInt(before)).catch((error: unknown) => this.#fail(error));
  }

  poll(): void {}

  closeSync(): boolean {
    return false; // its work needs the event loop, which has ended
  }

  async close(deadlineMs: number): Promise<void> {
    await within(
      this.#chain.then(() => this.#session.close()),
      deadlineMs,
    );
  }
}

/** The promise, or a StoreError when it takes longer. */
export async function within<T>(promise: Promise<T>, deadlineMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const message = `The log did not close within ${Math.round(deadlineMs)} ms; what is under way goes on until it has ended`;
    timer = setTimeout(() => reject(new StoreError(message, { reason: 'io' })), Math.min(deadlineMs, 0x7fffffff));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export function toStoreError(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new StoreError(`The log could not be written: ${message}`, { reason: 'io', cause: error });
}
