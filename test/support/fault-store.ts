/**
 * One log in memory that fails when it is told to. The object is the medium: it outlives its sessions, and a crash of the machine.
 *
 *     const store = new FaultStore();
 *     store.failAt(3, { kind: 'torn', bytes: 10 });   // the third append from the store's beginning
 *     store.hold();                                    // from now on appends resolve when the test says so
 *     store.release(2);                                // two of them reach the disk
 *     store.crash({ keep: 1 });                        // power loss; one of the others happened to be written
 */
import { StoreError } from 'flashq';
import { FIRST_POSITION, fenced } from '#engine/store/head.js';
import type { LogSession, LogStore } from '#engine/store/log-store.js';
import { type LogMedium, Session } from '#engine/store/session.js';

export type Fault =
  /** Only the first bytes are kept; the append rejects with `io`. */
  | { readonly kind: 'torn'; readonly bytes: number }
  /** The append rejects with `io`; the batch may be there all the same. */
  | { readonly kind: 'sync'; readonly kept: boolean }
  /** Nothing is kept; the append rejects with `full`. */
  | { readonly kind: 'full' }
  /** This append, and all behind it, wait for `release`. */
  | { readonly kind: 'slow' }
  /** One bit of the batch is kept wrong; the append resolves. */
  | { readonly kind: 'flip'; readonly bit: number };

const BATCH_BYTES_MAX = 64 << 20;

/** A batch on its way: handed over, not yet on the disk. */
interface Held {
  readonly position: number;
  readonly batch: Uint8Array;
  readonly fault: Fault | undefined;
  readonly session: FaultMedium;
  resolve(): void;
  reject(error: StoreError): void;
}

export class FaultStore implements LogStore {
  readonly caps = { ack: 'fsync', shared: false, batchBytesMax: BATCH_BYTES_MAX } as const;
  /** Appends handed over since the store's beginning. */
  appends = 0;
  readonly #faults = new Map<number, Fault>();
  readonly #batches = new Map<number, Uint8Array>();
  #first = FIRST_POSITION;
  #next = FIRST_POSITION;
  #epoch = 0n;
  /** Undefined after a crash. */
  #node: string | undefined;
  #held: Held[] = [];
  #holding = false;

  async open(_part: string, node: string): Promise<LogSession> {
    this.#epoch += 1n;
    this.#node = node;
    // What an earlier owner still had under way comes before the fence, or not at all: here not at all.
    this.#drop('another owner came');
    return new Session(new FaultMedium(this, this.#epoch, this.#first, this.#next), BATCH_BYTES_MAX);
  }

  /** What the `nth` append will meet, counted from 1 over all sessions; undefined: nothing, after all. */
  failAt(nth: number, fault: Fault | undefined): void {
    if (fault === undefined) this.#faults.delete(nth);
    else this.#faults.set(nth, fault);
  }

  /** Appends that are under way. */
  get held(): number {
    return this.#held.length;
  }

  /** The batches on the disk, oldest first. */
  get kept(): Uint8Array[] {
    return [...this.#batches.entries()].sort(([a], [b]) => a - b).map(([, batch]) => batch.slice());
  }

  /** From now on an append is under way until `release`: handed over, in no way safe. */
  hold(): void {
    this.#holding = true;
  }

  /** The oldest of the appends under way reach the disk, or their faults; all of them, and those to come, without a number. */
  release(count?: number): void {
    if (count === undefined) this.#holding = false;
    for (const one of this.#held.splice(0, count ?? this.#held.length)) this.#finish(one);
  }

  /**
   * The power fails: what is under way is lost, but for the `keep` oldest, which happened to be written. The sessions are those of a
   * process that is gone; their appends reject.
   */
  crash({ keep = 0 }: { keep?: number } = {}): void {
    for (const { position, batch } of this.#held.slice(0, keep)) this.#write(position, batch);
    this.#holding = false;
    this.#epoch += 1n;
    this.#node = undefined;
    this.#drop('the power failed');
  }

  append(session: FaultMedium, position: number, batch: Uint8Array): Promise<void> {
    const fault = this.#faults.get(++this.appends);
    return new Promise((resolve, reject) => {
      const one: Held = { position, batch: Uint8Array.from(batch), fault, session, resolve, reject };
      if (this.#holding || fault?.kind === 'slow' || this.#held.length > 0) this.#held.push(one);
      else this.#finish(one);
    });
  }

  forget(session: FaultMedium, before: number): void {
    this.#checkOwner(session);
    for (let position = this.#first; position < before; position++) this.#batches.delete(position);
    this.#first = before;
  }

  read(position: number): Uint8Array | undefined {
    return this.#batches.get(position)?.slice();
  }

  #finish(one: Held): void {
    try {
      this.#meet(one);
      one.resolve();
    } catch (error) {
      one.session.failure = error as StoreError;
      one.reject(error as StoreError);
    }
  }

  /** Keeps the batch as its fault has it; throws what the append rejects with. */
  #meet({ position, batch, fault, session }: Held): void {
    if (session.failure !== undefined) throw session.failure;
    this.#checkOwner(session);
    switch (fault?.kind) {
      case 'torn':
        this.#write(position, batch.subarray(0, fault.bytes));
        throw new StoreError(`Batch ${position} was torn after ${fault.bytes} bytes`, { reason: 'io' });
      case 'sync':
        if (fault.kept) this.#write(position, batch);
        throw new StoreError(`The sync of batch ${position} failed`, { reason: 'io' });
      case 'full':
        throw new StoreError(`No space is left for batch ${position}`, { reason: 'full' });
      case 'flip':
        batch[fault.bit >> 3]! ^= 1 << (fault.bit & 7);
    }
    this.#write(position, batch);
  }

  #write(position: number, batch: Uint8Array): void {
    this.#batches.set(position, batch);
    this.#next = position + 1;
  }

  #drop(why: string): void {
    for (const { session, reject } of this.#held.splice(0)) {
      session.failure = new StoreError(`Not kept: ${why}`, { reason: 'io' });
      reject(session.failure);
    }
  }

  #checkOwner(session: FaultMedium): void {
    if (session.epoch === this.#epoch) return;
    throw this.#node === undefined
      ? new StoreError('The process of this session is gone', { reason: 'io' })
      : fenced(session.where, this.#node);
  }
}

class FaultMedium implements LogMedium {
  readonly where = 'The log that fails';
  failure: StoreError | undefined;

  constructor(
    readonly store: FaultStore,
    readonly epoch: bigint,
    readonly first: number,
    readonly next: number,
  ) {}

  read(position: number): Uint8Array | undefined {
    return this.store.read(position);
  }

  append(position: number, batch: Uint8Array): Promise<void> {
    return this.store.append(this, position, batch);
  }

  async forget(before: number): Promise<number> {
    this.store.forget(this, before);
    return before;
  }

  async close(): Promise<void> {}
}
