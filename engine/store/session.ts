/**
 * What every session does alike, whatever keeps the batches: counting positions, checking that none is missing, refusing after a
 * failure and after `close`, telling that another owner came. The medium below is a `LogMedium`.
 */
import { EngineClosedError, StoreError } from '../../client/errors.js';
import { damaged } from './head.js';
import type { LogSession } from './log-store.js';

/** One opened log. All failures are `StoreError`s. */
export interface LogMedium {
  /** Names the log in messages. */
  readonly where: string;
  readonly epoch: bigint;
  /** The positions that are kept: from `first` to before `next`. */
  readonly first: number;
  readonly next: number;
  read(position: number): Uint8Array | undefined;
  /**
   * Keeps a batch that stands behind all others. Called again before it has resolved; then the later one must fail if the earlier one
   * does, so that no gap arises. It must have taken what it needs of the bytes when it returns.
   */
  append(position: number, batch: Uint8Array): Promise<void>;
  /** Forgets the batches from the oldest to before that position, or the first of them; resolves with the oldest that is left. */
  forget(before: number): Promise<number>;
  close(): Promise<void>;
}

/** Between two steps of a truncation, what waits for the thread has its turn. */
const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

export class Session implements LogSession {
  readonly epoch: bigint;
  readonly lost: Promise<StoreError>;
  readonly #medium: LogMedium;
  readonly #batchBytesMax: number;
  readonly #tellLost: (error: StoreError) => void;
  #first: number;
  #next: number;
  #before = 0;
  #failure: StoreError | undefined;
  #closing: Promise<void> | undefined;
  #truncating: Promise<void> = Promise.resolve();
  /** The last append; they settle in order. */
  #appending: Promise<unknown> = Promise.resolve();

  constructor(medium: LogMedium, batchBytesMax: number) {
    this.#medium = medium;
    this.#batchBytesMax = batchBytesMax;
    this.epoch = medium.epoch;
    this.#first = medium.first;
    this.#next = medium.next;
    let tell!: (error: StoreError) => void;
    this.lost = new Promise((resolve) => {
      tell = resolve;
    });
    this.#tellLost = tell;
  }

  async load(onBatch: (pos: bigint, batch: Uint8Array) => void | Promise<void>): Promise<bigint> {
    this.#checkOpen();
    const end = this.#next;
    for (let position = this.#first; position < end; position++) {
      const batch = this.#medium.read(position);
      if (batch === undefined) throw damaged(this.#medium.where, `batch ${position} is missing`);
      await onBatch(BigInt(position), batch);
      this.#checkOpen();
    }
    return BigInt(end);
  }

  async append(batch: Uint8Array): Promise<bigint> {
    this.#checkOpen();
    if (this.#failure !== undefined) throw this.#failure;
    if (batch.byteLength > this.#batchBytesMax) {
      throw new RangeError(`A batch of ${batch.byteLength} bytes; the store takes ${this.#batchBytesMax} at most.`);
    }
    const position = this.#next++;
    const kept = this.#medium.append(position, batch);
    this.#appending = kept.catch(() => {});
    try {
      await kept;
    } catch (error) {
      throw this.#fail(error);
    }
    return BigInt(position);
  }

  async truncate(before: bigint): Promise<void> {
    this.#checkOpen();
    if (this.#failure !== undefined) throw this.#failure;
    this.#before = Math.max(this.#before, Number(before));
    this.#truncating = this.#truncating.then(() => this.#forget());
    return this.#truncating;
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  /** In steps. What `close` leaves undone the next owner sees again, and truncates. */
  async #forget(): Promise<void> {
    const before = Math.min(this.#before, this.#next);
    try {
      while (this.#first < before && this.#closing === undefined && this.#failure === undefined) {
        this.#first = await this.#medium.forget(before);
        await nextTurn();
      }
    } catch (error) {
      throw this.#fail(error);
    }
  }

  async #end(): Promise<void> {
    await this.#appending;
    await this.#truncating.catch(() => {});
    await this.#medium.close();
  }

  /** The first failure is that of all that follows. */
  #fail(error: unknown): StoreError {
    this.#failure ??=
      error instanceof StoreError
        ? error
        : new StoreError(`${this.#medium.where}: ${String(error)}`, { reason: 'io', cause: error });
    if (this.#failure.reason === 'fenced') this.#tellLost(this.#failure);
    return this.#failure;
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new EngineClosedError(`${this.#medium.where} has been closed.`);
  }
}
