/**
 * Makes what the engine does survive it. Every change of a job marks it (`touch`); now and then everything that is marked is written
 * as it is at that moment, as one group (`#seal`), and handed to the log. So a group is always a consistent cut through the state, a
 * job that changed three times meanwhile is written once, and one that came and went leaves no trace.
 *
 * Group commit: with `durability: 'commit'` a group is sealed as soon as the log can take one; what comes while a commit is under way
 * gathers for the next. What was done in a group is told (answers, results, events), and jobs admitted in it can be claimed, when it is
 * durable. With `'relaxed'` everything is told at once, and a group is sealed every 20 ms.
 */
import type { StoreError } from '../../client/errors.js';
import { L, type Slot } from '../core/index.js';
import { DISCARDED } from '../jobs/flags.js';
import { groupReach, isGrouped } from '../jobs/groups.js';
import type { QueueEntry } from '../queues.js';
import { announce, type EngineState } from '../state.js';
import { postponeReach } from '../upkeep/postponed.js';
import { Cleaner } from './cleaner.js';
import * as F from './format.js';
import { Gathering, type ResultWait } from './gathering.js';
import { GroupWriter } from './group-writer.js';
import type { Ledger } from './ledger.js';
import { type LogHost, type LogListener, within } from './log-host.js';
import type { QueueRecords } from './queue-records.js';
import { forgetRecords, noteRecord, type SlotTable } from './slot-table.js';
import type { StartNotes } from './starts.js';

/** What nobody waits for is put off at most this long, and in `relaxed` mode until this many jobs have changed. */
const RELAXED_MS = 20;
const RELAXED_JOBS = 5_000;
/** `relaxed`: changed jobs beyond which adds wait for the log. */
const BACKLOG_JOBS = 50_000;
const CHANGED = 16;
/** `relaxed`: ids that may have been told when a crash undoes their jobs; they are given to no other. More than the backlog, twice. */
const SPARE_NUMBERS = 2 ** 20;

export interface JournalOptions {
  readonly state: EngineState;
  readonly host: LogHost;
  readonly mode: 'commit' | 'relaxed';
  /** Position of the next batch. */
  readonly position: number;
  readonly table: SlotTable;
  readonly ledger: Ledger;
  readonly queues: QueueRecords;
  /** The last value given out. */
  readonly seq: number;
  readonly startsFile: string | undefined;
  /** Called once, when the log takes nothing more. */
  readonly onFailed: (error: StoreError) => void;
}

export class Journal implements LogListener {
  /** What is admitted or released can be claimed only once it is durable. */
  readonly gates: boolean;
  readonly table: SlotTable;
  readonly ledger: Ledger;
  readonly queues: QueueRecords;
  readonly cleaner: Cleaner;
  /** Set when the log takes nothing more. */
  error: StoreError | undefined;
  /** Nothing is under way any more, nor will be. */
  isClosed = false;
  /** The engine before was not closed: for a while, starts are noted before they happen. */
  isCareful = false;
  /** Where threads note starts while the engine is careful. */
  readonly startsFile: string | undefined;
  /** Where this thread does; only while it is. */
  starts: StartNotes | undefined;
  readonly #state: EngineState;
  readonly #host: LogHost;
  readonly #onFailed: (error: StoreError) => void;
  readonly #writer: GroupWriter;
  #seq: number;
  #spareNumbers: number;
  #position: number;
  #dirty: Slot[] = [];
  #gone: number[] = [];
  /** Records without an object of their own, for the next group. */
  #notes: ((writer: GroupWriter) => void)[] = [];
  #gathering = new Gathering();
  #underway: Gathering[] = [];
  /** Number of the newest group handed over, and of the newest that is durable. */
  #sealed: number;
  #durable: number;
  /** Groups of this session that became durable. */
  #count = 0;
  #isScheduled = false;
  /** A group should be sealed as soon as the log can take one. */
  #isWanted = false;
  #isHeld = false;
  #cancelTimer: (() => void) | undefined;

  constructor(options: JournalOptions) {
    this.#state = options.state;
    this.#host = options.host;
    this.#onFailed = options.onFailed;
    this.gates = options.mode === 'commit';
    this.table = options.table;
    this.ledger = options.ledger;
    this.queues = options.queues;
    this.startsFile = options.startsFile;
    this.#seq = options.seq;
    this.#spareNumbers = this.gates ? 0 : SPARE_NUMBERS;
    this.#position = options.position;
    this.#sealed = this.ledger.newest;
    this.#durable = this.#sealed;
    this.#writer = new GroupWriter(options.state.core);
    this.cleaner = new Cleaner(this);
    this.#state.entries.onChange = () => this.#schedule();
    options.host.begin(this);
  }

  // ---- what has changed -------------------------------------------------------------------------------------------------------

  /** The job has changed; `parts`: which of its parts, too. Written as it is when the group is sealed. */
  touch(slot: Slot, parts: number): void {
    const page = this.table.page(slot);
    const index = this.table.index(slot);
    const before = page.dirty[index] as number;
    page.dirty[index] = before | parts | CHANGED;
    if (before !== 0) return;
    this.#dirty.push(slot);
    this.#schedule();
  }

  /** A run has begun: written with whatever else is, or soon. Nobody waits for it. */
  started(slot: Slot): void {
    const page = this.table.page(slot);
    const index = this.table.index(slot);
    if (page.dirty[index] !== 0) return;
    page.dirty[index] = CHANGED;
    this.#dirty.push(slot);
    this.#scheduleLater();
  }

  /** The job has a new place in its level. */
  place(slot: Slot, first: boolean): void {
    const seq = ++this.#seq;
    this.table.page(slot).seq[this.table.index(slot)] = first ? -seq : seq;
    this.touch(slot, 0);
  }

  /** The job waits for others, or for its turn, behind all that do so already. */
  line(slot: Slot): void {
    this.table.page(slot).seq[this.table.index(slot)] = ++this.#seq;
    this.touch(slot, F.PART_DEPENDENCIES);
  }

  /** The record of job `number`, which had this slot, is gone. */
  remove(slot: Slot, number: number): void {
    const page = this.table.page(slot);
    const index = this.table.index(slot);
    page.dirty[index] = 0;
    page.since[index] = 0;
    if (page.base[index] === 0) return; // the log has never heard of it
    forgetRecords(this.table, this.ledger, slot);
    this.#gone.push(number);
    this.#schedule();
  }

  queueChanged(queue: QueueEntry): void {
    this.queues.touch(queue);
    this.#schedule();
  }

  /** Queues and entries whose record lies before that group are written anew. */
  renewOthers(before: number): void {
    this.queues.renew(before);
    this.#state.entries.renew(before);
    if (this.queues.hasChanges || this.#state.entries.hasChanges) this.#schedule();
  }

  /** A record without an object, in the next group. */
  note(write: (writer: GroupWriter) => void): void {
    this.#notes.push(write);
    this.#schedule();
  }

  get hasChanges(): boolean {
    if (this.#dirty.length !== 0 || this.#gone.length !== 0 || this.#notes.length !== 0) return true;
    return this.queues.hasChanges || this.#state.entries.hasChanges;
  }

  /** The newest group in which something that has been done so far is written, or will be. */
  get changesGroup(): number {
    return this.#sealed + (this.hasChanges ? 1 : 0);
  }

  // ---- what waits for it ------------------------------------------------------------------------------------------------------

  /** A promise that all that has been done so far is durable; undefined when it is, or when nobody was promised that. */
  barrier(): Promise<void> | undefined {
    if (this.error !== undefined) return Promise.reject(this.error);
    if (this.gates || this.#dirty.length >= BACKLOG_JOBS) return this.#awaited(this.#newest())?.wait();
    return undefined;
  }

  /** Somebody waits for that group: it is not put off. */
  #awaited(group: Gathering | undefined): Gathering | undefined {
    if (group !== undefined && group === this.#gathering) this.#sealSoon();
    return group;
  }

  /** Whether it is durable that the job is there, whatever has been done to it since. */
  isAdmitted(slot: Slot): boolean {
    const base = this.table.page(slot).base[this.table.index(slot)] as number;
    return base !== 0 && base <= this.#durable;
  }

  /** Whether all that has been done to that job is durable. */
  isDurable(slot: Slot): boolean {
    const page = this.table.page(slot);
    const index = this.table.index(slot);
    return page.dirty[index] === 0 && (page.last[index] as number) <= this.#durable;
  }

  /** Runs `told` when all that has been done so far is durable; at once when nobody was promised that. `never`: it can't be any more. */
  after(told: () => void, never?: (error: Error) => void): void {
    if (this.error !== undefined) {
      never?.(this.error);
      return;
    }
    const newest = this.gates ? this.#awaited(this.#newest()) : undefined;
    if (newest === undefined) {
      told();
      return;
    }
    newest.after(told, never);
  }

  /** Tells a result when all that has been done so far is durable; at once when nobody was promised that. */
  result(wait: ResultWait, index: number, value: unknown): void {
    if (this.error !== undefined) {
      wait.abandon(this.error);
      return;
    }
    const newest = this.gates ? this.#awaited(this.#newest()) : undefined;
    if (newest === undefined) wait.complete(index, value);
    else newest.result(wait, index, value);
  }

  /** The newest group that is not durable. */
  #newest(): Gathering | undefined {
    return this.hasChanges ? this.#gathering : this.#underway[this.#underway.length - 1];
  }

  /** A waiting job that is not in the heap: it goes there when the group is durable. */
  hold(slot: Slot): void {
    this.#gathering.held.push(slot, this.#state.core.number(slot));
  }

  /** Resolves when all that has been done so far is durable, whatever was promised. */
  async flush(): Promise<void> {
    if (this.error !== undefined) throw this.error;
    await this.#awaited(this.#newest())?.wait();
  }

  // ---- groups -----------------------------------------------------------------------------------------------------------------

  #schedule(): void {
    if (this.#isScheduled) return;
    if (this.gates || this.#dirty.length >= RELAXED_JOBS) {
      this.#keepAlive();
      this.#sealSoon();
    } else this.#scheduleLater();
  }

  #scheduleLater(): void {
    this.#keepAlive();
    if (this.#isScheduled) return;
    this.#cancelTimer ??= this.#state.clock.setTimer(() => this.#sealSoon(), RELAXED_MS);
  }

  /** The process stays until it is durable. */
  #keepAlive(): void {
    if (this.#isHeld || this.error !== undefined) return;
    this.#isHeld = true;
    this.#state.keepAlive.acquire();
  }

  /** At the end of this turn of the event loop, so that all that happens in it is one group. */
  #sealSoon(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#isWanted = true;
    if (this.#isScheduled || this.error !== undefined) return;
    this.#isScheduled = true;
    setImmediate(this.#seal);
  }

  readonly #seal = (): void => {
    this.#isScheduled = false;
    if (!this.hasChanges || this.error !== undefined) return;
    const buffer = this.#host.buffer();
    if (buffer === undefined) return; // enough is under way: `durable` comes back to it
    this.#isWanted = false;
    const number = ++this.#sealed;
    const writer = this.#writer;
    const { core, clock } = this.#state;
    writer.begin(buffer, core.nextNumber() + this.#spareNumbers, this.#seq, clock.now());
    this.ledger.add(number, this.#position, 0); // its bytes are known when it is written
    this.#writeAll(number);
    this.ledger.grow(number, writer.length);
    this.#position += F.batchesOf(writer.length, this.#host.batchBytesMax);
    const gathering = this.#gathering;
    gathering.number = number;
    this.#underway.push(gathering);
    this.#gathering = new Gathering();
    this.#keepAlive(); // whoever set it off
    this.#host.append(writer.buffer, writer.length);
  };

  /** Everything that has changed. */
  #writeAll(number: number): void {
    const writer = this.#writer;
    const dirty = this.#dirty;
    this.#dirty = [];
    for (let i = 0; i < dirty.length; i++) this.#enlist(dirty[i] as Slot);
    this.queues.write(writer, number, this.ledger);
    this.#state.entries.write(writer, number, this.ledger);
    for (const write of this.#notes) write(writer);
    this.#notes = [];
    for (let i = 0; i < this.#gone.length; i++) writer.gone(this.#gone[i] as number);
    this.#gone = [];
    for (let i = 0; i < dirty.length; i++) this.#writeJob(dirty[i] as Slot, number);
  }

  /** A queue that the log has not heard of is written with its first job. */
  #enlist(slot: Slot): void {
    const queue = this.#state.queues.at(this.#state.core.field(slot, L.S_QUEUE));
    if (queue.logId === 0) this.queues.touch(queue);
  }

  #writeJob(slot: Slot, number: number): void {
    const { core, queues } = this.#state;
    const page = this.table.page(slot);
    const index = this.table.index(slot);
    const dirty = page.dirty[index] as number;
    if (dirty === 0) return; // removed, or written already
    page.dirty[index] = 0;
    if ((core.field(slot, L.S_FLAGS) & DISCARDED) !== 0) return; // gone for everybody but its run
    const isBase = page.base[index] === 0 || (dirty & F.PART_PAYLOAD) !== 0;
    const parts = isBase ? this.#partsOf(slot) : (page.since[index] as number) | (dirty & F.PARTS_ALL);
    const queue = queues.at(core.field(slot, L.S_QUEUE)).logId;
    const kind = isBase ? F.KIND_JOB_BASE : F.KIND_JOB_DELTA;
    const bytes = this.#writer.job(kind, slot, core.state(slot), parts, queue, page.seq[index] as number);
    noteRecord(this.table, this.ledger, slot, { group: number, bytes, isBase, parts });
  }

  #partsOf(slot: Slot): number {
    const { core } = this.#state;
    let parts = F.PART_PAYLOAD;
    if (core.field(slot, L.S_RESULT) !== 0) parts |= F.PART_RESULT;
    if (core.field(slot, L.S_EXTRA) !== 0) parts |= F.PART_EXTRA;
    if (core.field(slot, L.S_DEPENDENCIES) !== 0) parts |= F.PART_DEPENDENCIES;
    return parts;
  }

  // ---- what the log says ------------------------------------------------------------------------------------------------------

  durable(groups: number): void {
    while (this.#count < groups) {
      this.#count++; // first: what is told may end the process, which writes the rest from in here
      const gathering = this.#underway.shift() as Gathering;
      this.#durable = gathering.number;
      this.#reach(gathering.held);
      gathering.done((error) =>
        this.#state.warn(`What was to be told failed: ${String(error)}`, 'FLASHQ_LISTENER_ERROR'),
      );
    }
    if (this.hasChanges) {
      if (this.#isWanted) this.#sealSoon();
    } else if (this.#underway.length === 0 && this.#isHeld) {
      this.#isHeld = false;
      this.#state.keepAlive.release();
    }
    this.cleaner.step(this.#durable);
  }

  forget(position: number): void {
    this.#host.truncate(position);
  }

  /** Puts held jobs into the heap, those of one priority in a row with one walk up. */
  #reach(held: readonly number[]): void {
    const state = this.#state;
    const { core } = state;
    let queue = 0;
    let priority = 0;
    let count = 0;
    const mark = (): void => {
      if (count === 0) return;
      core.wasm.queueMark(queue, priority);
      announce(state, state.queues.at(queue), count);
      count = 0;
    };
    for (let i = 0; i < held.length; i += 2) {
      const slot = held[i] as number;
      const flags = core.field(slot, L.S_FLAGS);
      if ((flags & L.FLAG_UNREACHED) === 0 || core.number(slot) !== held[i + 1]) continue; // gone, or held by a later group
      if (isGrouped(state, slot)) {
        if (!groupReach(state, slot)) postponeReach(state, slot);
        continue;
      }
      if (core.field(slot, L.S_QUEUE) !== queue || core.priority(slot) !== priority) {
        mark();
        queue = core.field(slot, L.S_QUEUE);
        priority = core.priority(slot);
      }
      if (core.wasm.jobReach(slot, flags & L.FLAG_LIFO) === 0) postponeReach(state, slot);
      else count++;
    }
    mark();
  }

  failed(error: StoreError): void {
    if (this.error !== undefined) return;
    this.error = error;
    this.#cancelTimer?.();
    const waiting = [...this.#underway, this.#gathering];
    this.#underway = [];
    this.#gathering = new Gathering();
    for (const gathering of waiting) gathering.fail(error);
    if (this.#isHeld) this.#state.keepAlive.release();
    this.#isHeld = false;
    this.#onFailed(error);
  }

  // ---- the end ----------------------------------------------------------------------------------------------------------------

  /**
   * After everything that has been done is durable, or can't be any more. Rejects when it can't, or when all that takes longer than
   * `deadlineMs`; then it goes on by itself.
   */
  async close(deadlineMs: number): Promise<void> {
    this.cleaner.stop();
    await within(this.#end(deadlineMs), deadlineMs);
  }

  async #end(deadlineMs: number): Promise<void> {
    try {
      if (this.error === undefined) {
        this.#spareNumbers = 0;
        this.note((writer) => writer.closed());
        await this.flush();
      }
    } finally {
      await this.#host.close(deadlineMs);
      this.isClosed = true;
    }
  }

  /** For the end of a process, when the event loop has ended already. `inOrder`: nothing was running. */
  closeSync(deadlineMs: number, inOrder: boolean): boolean {
    const end = performance.now() + deadlineMs;
    this.#spareNumbers = 0; // nothing more will be given out
    if (inOrder) this.#notes.push((writer) => writer.closed());
    while (this.error === undefined && this.hasChanges) {
      this.#seal();
      if (!this.#host.goesOnAlone || performance.now() > end) break;
    }
    return this.#host.closeSync(Math.max(0, end - performance.now()));
  }
}
