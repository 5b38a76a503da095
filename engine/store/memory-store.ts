/**
 * The log in memory: for tests, which open it again and again. The object is the medium: it outlives its sessions, not its process.
 */
import { FIRST_POSITION, fenced, type Head } from './head.js';
import type { LogSession, LogStore } from './log-store.js';
import { type LogMedium, Session } from './session.js';

const BATCH_BYTES_MAX = 64 << 20;

/** A log of one name. */
interface MemoryLog {
  head: Head;
  readonly batches: Map<number, Uint8Array>;
  next: number;
}

export class MemoryStore implements LogStore {
  readonly caps = { ack: 'memory', shared: false, batchBytesMax: BATCH_BYTES_MAX } as const;
  readonly #logs = new Map<string, MemoryLog>();

  async open(part: string, node: string): Promise<LogSession> {
    const log = this.#logs.get(part) ?? {
      head: { epoch: 0n, first: FIRST_POSITION, node },
      batches: new Map<number, Uint8Array>(),
      next: FIRST_POSITION,
    };
    log.head = { ...log.head, epoch: log.head.epoch + 1n, node };
    this.#logs.set(part, log);
    return new Session(new MemoryMedium(log, `The log "${part}" in memory`), BATCH_BYTES_MAX);
  }
}

class MemoryMedium implements LogMedium {
  readonly where: string;
  readonly epoch: bigint;
  readonly first: number;
  readonly next: number;
  readonly #log: MemoryLog;

  constructor(log: MemoryLog, where: string) {
    this.where = where;
    this.epoch = log.head.epoch;
    this.first = log.head.first;
    this.next = log.next;
    this.#log = log;
  }

  read(position: number): Uint8Array | undefined {
    return this.#log.batches.get(position)?.slice();
  }

  async append(position: number, batch: Uint8Array): Promise<void> {
    this.#checkOwner();
    this.#log.batches.set(position, Uint8Array.from(batch));
    this.#log.next = position + 1;
  }

  async forget(before: number): Promise<number> {
    this.#checkOwner();
    const { head, batches } = this.#log;
    for (let position = head.first; position < before; position++) batches.delete(position);
    this.#log.head = { ...head, first: before };
    return before;
  }

  async close(): Promise<void> {}

  #checkOwner(): void {
    const { epoch, node } = this.#log.head;
    if (epoch !== this.epoch) throw fenced(this.where, node);
  }
}
