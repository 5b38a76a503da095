/** The queues of an engine: names, records in shared memory, and what this thread keeps beside them. */
import type { BatchSettings, QueueConfig } from '../client/connection.js';
import { EngineFullError } from '../client/errors.js';
import { type Core, L, type QueueAddress, type Slot } from './core/index.js';
import type { Group } from './jobs/groups.js';

/** Something on the engine's thread that wants to know when the queue may have a job to claim. */
export interface ReadyListener {
  ready(): void;
  /** Jobs it runs at this moment. */
  readonly running: number;
}

export interface QueueEntry {
  readonly name: string;
  readonly address: QueueAddress;
  readonly local: Set<ReadyListener>;
  /** Those of which a job waits or runs, by their id. */
  readonly groups: Map<string, Group>;
  /** The groups of the jobs that stand in the heap, or run. */
  readonly groupOf: Map<Slot, Group>;
  /** How many jobs of one group stand in the heap one behind the other. */
  groupWindow: number;
  /** Who claims in batches, and how. */
  readonly batchers: Map<object, BatchSettings>;
  config: QueueConfig;
  paused: boolean;
  /** Changes under way that keep claims out. */
  changes: number;
  /** Nobody claims before that time; 0 = anybody may. */
  heldUntil: number;
  cancelHold: (() => void) | undefined;
  /** A job with a custom id has been admitted: references may be one. */
  customIds: boolean;
  /** Its number in the log of a durable engine; 0 = the log has not heard of it. */
  logId: number;
  /** Lost twice or more, held back while another such job is out. */
  readonly suspects: { slot: Slot; number: number }[];
  suspectOut: boolean;
  /** When the next job that `retryDlq` puts back may run, in a queue with a `redriveRate`. */
  redriveAt: number;
  /** Who wants to hear of the starts on threads. */
  readonly startListeners: Set<object>;
  /** A run has ended in a queue with a concurrency limit. Set with the limit. */
  permitFreed: () => void;
}

export class QueueTable {
  readonly #core: Core;
  readonly #limitBytes: number;
  readonly #byName = new Map<string, QueueEntry>();
  /** The one asked for last: jobs of one queue come in a row. */
  #last: QueueEntry | undefined;
  /** Threads tell of every start, since somebody reads events, or since it must survive. */
  reportStarts = false;
  #noteStarts = false;
  /** Some queue lets what waits rise. */
  hasAging = false;
  readonly #byAddress = new Map<QueueAddress, QueueEntry>();

  constructor(core: Core, limitBytes: number) {
    this.#core = core;
    this.#limitBytes = limitBytes;
  }

  /** The queue of that name, made on first use. Throws EngineFullError at 65,536 queues or when memory is full. */
  open(name: string): QueueEntry {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const address = this.#core.wasm.queueOpen() >>> 0;
    if (address === 0) {
      throw new EngineFullError({
        limitBytes: this.#limitBytes,
        message: `No room for the queue "${name}": an engine holds at most 65,536 queues within its maxMemory of ${this.#limitBytes} bytes.`,
      });
    }
    const entry: QueueEntry = {
      name,
      address,
      local: new Set(),
      groups: new Map(),
      groupOf: new Map(),
      groupWindow: 1,
      batchers: new Map(),
      config: {},
      paused: false,
      changes: 0,
      heldUntil: 0,
      cancelHold: undefined,
      customIds: false,
      logId: 0,
      suspects: [],
      suspectOut: false,
      redriveAt: 0,
      startListeners: new Set(),
      permitFreed: () => {},
    };
    if (this.reportStarts) this.#core.wasm.queueFlags(address, L.QUEUE_REPORT_START, 0);
    if (this.#noteStarts) this.#core.wasm.queueFlags(address, L.QUEUE_NOTE_START, 0);
    this.#byName.set(name, entry);
    this.#byAddress.set(address, entry);
    return entry;
  }

  /** Sets whether threads report starts, for all queues there are and will be. */
  setReportStarts(report: boolean): void {
    if (this.reportStarts === report) return;
    this.reportStarts = report;
    for (const entry of this.#byName.values()) this.#applyReport(entry);
  }

  /** Sets whether starts on threads are noted in a file, for all queues there are and will be. */
  setNoteStarts(note: boolean): void {
    this.#noteStarts = note;
    const flag = L.QUEUE_NOTE_START;
    for (const { address } of this.#byName.values())
      this.#core.wasm.queueFlags(address, note ? flag : 0, note ? 0 : flag);
  }

  /** Sets whether threads report the starts of this queue's jobs for `listener`. */
  setThreadsReport(entry: QueueEntry, listener: object, report: boolean): void {
    if (report) entry.startListeners.add(listener);
    else entry.startListeners.delete(listener);
    this.#applyReport(entry);
  }

  #applyReport({ address, startListeners }: QueueEntry): void {
    const report = this.reportStarts || startListeners.size !== 0;
    const flag = L.QUEUE_REPORT_START;
    this.#core.wasm.queueFlags(address, report ? flag : 0, report ? 0 : flag);
  }

  find(name: string): QueueEntry | undefined {
    return this.#byName.get(name);
  }

  at(address: QueueAddress): QueueEntry {
    if (this.#last?.address !== address) this.#last = this.#byAddress.get(address);
    return this.#last as QueueEntry;
  }

  all(): IterableIterator<QueueEntry> {
    return this.#byName.values();
  }
}
