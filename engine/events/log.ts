/**
 * The event log. Every event has a number `<epoch>-<n>`; the last ones stay in memory, so that a reader that comes back resumes after
 * the last it saw, or is told that there is a gap. While nobody reads, an event costs one addition.
 */
import type { EventSubscription, QueueEvent } from '../../client/connection.js';

/** After the last reader has left, events are still kept this long for its return. */
const LINGER_MS = 60_000;

interface Reader {
  readonly queue: string;
  readonly listener: (event: QueueEvent) => void;
  open: boolean;
}

export class EventLog {
  readonly epoch: string;
  /** True while events must be built: somebody reads, or may come back. */
  recording = false;
  readonly #capacity: number;
  readonly #onThrow: (error: unknown) => void;
  readonly #readers = new Set<Reader>();
  readonly #kept: QueueEvent[] = [];
  #first = 0; // index in #kept of the oldest event: the array is a ring once it is full
  #number = 0;
  #lingerUntil = 0;

  constructor(epoch: string, capacity: number, onThrow: (error: unknown) => void) {
    this.epoch = epoch;
    this.#capacity = capacity;
    this.#onThrow = onThrow;
  }

  get readers(): number {
    return this.#readers.size;
  }

  /** Number of the last event. */
  get last(): number {
    return this.#number;
  }

  /** Counts an event that nobody will read. */
  skip(): void {
    this.#number++;
  }

  /** Appends an event and gives it to its readers. Only while `recording`; else `skip`. */
  append(queue: string, event: string, jobId: string | undefined, args: Record<string, unknown>): void {
    const number = ++this.#number;
    const id = `${this.epoch}-${number}`;
    const entry: QueueEvent = jobId === undefined ? { id, queue, event, args } : { id, queue, event, jobId, args };
    if (this.#kept.length < this.#capacity) this.#kept.push(entry);
    else {
      this.#kept[this.#first] = entry;
      this.#first = (this.#first + 1) % this.#capacity;
    }
    for (const reader of this.#readers) this.#give(reader, entry);
  }

  #give(reader: Reader, event: QueueEvent): void {
    if (!reader.open || (reader.queue !== '*' && reader.queue !== event.queue)) return;
    try {
      reader.listener(event);
    } catch (error) {
      this.#onThrow(error);
    }
  }

  /** Reads from now on, or first everything after `after` that is kept; a hole between is told as an event named `gap`. */
  subscribe(queue: string, after: string | undefined, listener: (event: QueueEvent) => void): EventSubscription {
    const reader: Reader = { queue, listener, open: true };
    if (after !== undefined) this.#replay(reader, after);
    this.#readers.add(reader);
    this.recording = true;
    return {
      close: () => {
        reader.open = false;
        this.#readers.delete(reader);
      },
    };
  }

  #replay(reader: Reader, after: string): void {
    const [epoch, text] = after.split('-');
    const seen = epoch === this.epoch ? Number(text) : Number.NaN;
    const oldest = this.#number - this.#kept.length + 1;
    if (!(seen >= oldest - 1)) {
      const args = { after, oldest: `${this.epoch}-${oldest}` };
      this.#give(reader, { id: `${this.epoch}-${oldest - 1}`, queue: reader.queue, event: 'gap', args });
    }
    for (let i = 0; i < this.#kept.length; i++) {
      const event = this.#kept[(this.#first + i) % this.#kept.length] as QueueEvent;
      const number = oldest + i;
      if (!(number <= seen)) this.#give(reader, event);
    }
  }

  /** Called now and then: stops recording when the last reader has been gone for a while. What was kept is dropped with it. */
  upkeep(now: number): void {
    if (!this.recording) return;
    if (this.#readers.size !== 0) this.#lingerUntil = now + LINGER_MS;
    else if (now >= this.#lingerUntil) {
      this.recording = false;
      this.#kept.length = 0;
      this.#first = 0;
    }
  }
}
