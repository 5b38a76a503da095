/**
 * The plainest ring two threads can share: one writer, one reader, fixed cells of text in a SharedArrayBuffer. The floor is
 * measured with it. It knows nothing of jobs: no ids, no priorities, no owner, nothing survives a reader's death.
 *
 * Words: [head: cells read] [tail: cells written] [reader parked] [writer parked], each on a cache line of its own (64 bytes), so
 * that the writer's stores don't take the reader's line away. Counters wrap at 2^32; their difference is what counts.
 */
const HEAD = 0;
const TAIL = 16;
const READER_PARKED = 32;
const WRITER_PARKED = 48;
const WORDS_BYTES = 256;
const CELL_BYTES = 128; // 2 bytes of length and the text; the benchmark's job takes about 45
export const CELLS = 1024; // a power of two

export const RING_BYTES = WORDS_BYTES + CELLS * CELL_BYTES;

export class Ring {
  readonly #words: Int32Array;
  readonly #bytes: Buffer;
  /** This end's own counter, and the other end's as last seen: reading it only when the ring seems full or empty. */
  #own: number;
  #other: number;

  constructor(shared: SharedArrayBuffer, end: 'writer' | 'reader') {
    this.#words = new Int32Array(shared, 0, WORDS_BYTES / 4);
    this.#bytes = Buffer.from(shared, WORDS_BYTES);
    this.#own = Atomics.load(this.#words, end === 'writer' ? TAIL : HEAD);
    this.#other = Atomics.load(this.#words, end === 'writer' ? HEAD : TAIL);
  }

  /** False when the ring is full. */
  write(text: string): boolean {
    if (((this.#own - this.#other) | 0) >= CELLS) {
      this.#other = Atomics.load(this.#words, HEAD);
      if (((this.#own - this.#other) | 0) >= CELLS) return false;
    }
    const at = (this.#own & (CELLS - 1)) * CELL_BYTES;
    const length = this.#bytes.write(text, at + 2, CELL_BYTES - 2, 'utf8');
    this.#bytes[at] = length & 0xff;
    this.#bytes[at + 1] = length >>> 8;
    this.#own = (this.#own + 1) | 0;
    Atomics.store(this.#words, TAIL, this.#own); // publishes the cell; pairs with the load of TAIL in `read`
    return true;
  }

  /** Undefined when the ring is empty. */
  read(): string | undefined {
    if (this.#own === this.#other) {
      this.#other = Atomics.load(this.#words, TAIL);
      if (this.#own === this.#other) return undefined;
    }
    const at = (this.#own & (CELLS - 1)) * CELL_BYTES;
    const length = this.#bytes[at]! | (this.#bytes[at + 1]! << 8);
    const text = this.#bytes.toString('utf8', at + 2, at + 2 + length);
    this.#own = (this.#own + 1) | 0;
    Atomics.store(this.#words, HEAD, this.#own); // frees the cell; pairs with the load of HEAD in `write`
    return text;
  }

  /** Called by the writer after some writes: wakes a parked reader. */
  wakeReader(): void {
    if (Atomics.exchange(this.#words, READER_PARKED, 0) === 1) Atomics.notify(this.#words, READER_PARKED, 1);
  }

  /** Called by the reader after some reads: wakes a parked writer. */
  wakeWriter(): void {
    if (Atomics.exchange(this.#words, WRITER_PARKED, 0) === 1) Atomics.notify(this.#words, WRITER_PARKED, 1);
  }

  /** Blocks the reader's thread until there is something to read. */
  waitReadable(): void {
    Atomics.store(this.#words, READER_PARKED, 1);
    if (Atomics.load(this.#words, TAIL) === this.#own) Atomics.wait(this.#words, READER_PARKED, 1);
    Atomics.store(this.#words, READER_PARKED, 0);
  }

  /** Blocks the writer's thread until there is room. */
  waitWritable(): void {
    Atomics.store(this.#words, WRITER_PARKED, 1);
    if (((this.#own - Atomics.load(this.#words, HEAD)) | 0) >= CELLS) Atomics.wait(this.#words, WRITER_PARKED, 1);
    Atomics.store(this.#words, WRITER_PARKED, 0);
  }
}
