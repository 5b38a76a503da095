/** A log that a test can hold in its hands: made of batches, read as batches, cut where the test likes. */
import { FIRST_POSITION, fenced } from '#engine/store/head.js';
import type { LogSession, LogStore } from '#engine/store/log-store.js';
import { type LogMedium, Session } from '#engine/store/session.js';

export interface TapeOptions {
  /** Position of the first batch. */
  readonly first?: number;
  /** Small ones make groups of many batches. */
  readonly batchBytesMax?: number;
}

export class Tape implements LogStore {
  readonly caps: LogStore['caps'];
  /** Oldest first. */
  batches: Uint8Array[];
  first: number;
  epoch: bigint;

  /** `epoch`: of the last owner. */
  constructor(batches: readonly Uint8Array[] = [], opts: TapeOptions & { readonly epoch?: bigint } = {}) {
    const { first = FIRST_POSITION, batchBytesMax = 1 << 20, epoch = 0n } = opts;
    this.caps = { ack: 'memory', shared: false, batchBytesMax };
    this.batches = [...batches];
    this.first = first;
    this.epoch = epoch;
  }

  /** What a crash would leave of it now, or what one left that let only the first `count` batches reach the disk. */
  copy(count = this.batches.length): Tape {
    const { first, epoch } = this;
    return new Tape(this.batches.slice(0, count), { first, epoch, batchBytesMax: this.caps.batchBytesMax });
  }

  get bytes(): number {
    return this.batches.reduce((sum, { length }) => sum + length, 0);
  }

  async open(_part: string, _node: string): Promise<LogSession> {
    this.epoch += 1n;
    return new Session(new TapeMedium(this), this.caps.batchBytesMax);
  }
}

class TapeMedium implements LogMedium {
  readonly where = 'The tape';
  readonly epoch: bigint;
  readonly first: number;
  readonly next: number;
  readonly #tape: Tape;

  constructor(tape: Tape) {
    this.#tape = tape;
    this.epoch = tape.epoch;
    this.first = tape.first;
    this.next = tape.first + tape.batches.length;
  }

  read(position: number): Uint8Array | undefined {
    return this.#tape.batches[position - this.#tape.first]?.slice();
  }

  async append(_position: number, batch: Uint8Array): Promise<void> {
    this.#checkOwner();
    this.#tape.batches.push(Uint8Array.from(batch));
  }

  async forget(before: number): Promise<number> {
    this.#checkOwner();
    this.#tape.batches.splice(0, before - this.#tape.first);
    this.#tape.first = before;
    return before;
  }

  async close(): Promise<void> {}

  #checkOwner(): void {
    if (this.#tape.epoch !== this.epoch) throw fenced(this.where, 'another test');
  }
}
