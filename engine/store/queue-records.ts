/** The queues in the log: each has a number there, so that a job's record need not name it. */
import { decodePayload, encodePayload } from '../../client/payload.js';
import type { QueueEntry } from '../queues.js';
import type { GroupWriter } from './group-writer.js';
import type { Ledger } from './ledger.js';

interface Written {
  /** The group of its last record. */
  readonly group: number;
  readonly bytes: number;
}

const utf8 = new TextEncoder();

export class QueueRecords {
  readonly #written = new Map<QueueEntry, Written>();
  readonly #changed = new Set<QueueEntry>();
  #next = 1;

  get hasChanges(): boolean {
    return this.#changed.size !== 0;
  }

  /** It has been given its first job, or other settings. */
  touch(queue: QueueEntry): void {
    if (queue.logId === 0) queue.logId = this.#next++;
    this.#changed.add(queue);
  }

  /** A queue that was read from the log. */
  restore(queue: QueueEntry, id: number, group: number, bytes: number, ledger: Ledger): void {
    queue.logId = id;
    this.#next = Math.max(this.#next, id + 1);
    this.#note(queue, { group, bytes }, ledger);
  }

  #note(queue: QueueEntry, written: Written, ledger: Ledger): void {
    const before = this.#written.get(queue);
    if (before !== undefined) {
      ledger.release(before.group);
      ledger.liveBytes -= before.bytes;
    }
    this.#written.set(queue, written);
    ledger.hold(written.group);
    ledger.liveBytes += written.bytes;
  }

  /** Writes those that have changed. */
  write(writer: GroupWriter, group: number, ledger: Ledger): void {
    for (const queue of this.#changed) {
      const settings = new Uint8Array(encodePayload(queue.config));
      const bytes = writer.queue(queue.logId, queue.paused, utf8.encode(queue.name), settings);
      this.#note(queue, { group, bytes }, ledger);
    }
    this.#changed.clear();
  }

  /** Marks those whose record lies before that group. */
  renew(before: number): void {
    for (const [queue, { group }] of this.#written) if (group < before) this.#changed.add(queue);
  }
}

export function settingsOf(bytes: Uint8Array): QueueEntry['config'] {
  return decodePayload(bytes, 0, bytes.length) as QueueEntry['config'];
}
