/**
 * The only file that calls wasm: one `Core` a thread, over the shared memory. Addresses come back as unsigned numbers. Fields that
 * only the engine thread writes are read and written here through views, by the offsets of `layout.ts`.
 */
import * as L from '../../core-wasm/assembly/layout.js';
import { type CoreHandle, checkMemory } from './memory.js';

/** A job's slot: its address in shared memory. 0 = none. */
export type Slot = number;
/** A block of bytes: the address of its first. 0 = none. */
export type Block = number;
/** A queue's record: its address. */
export type QueueAddress = number;

/** The exports of core-wasm/assembly/index.ts. wasm's i32 arrive signed: addresses need `>>> 0`. */
interface CoreExports {
  format(chunks: number): number;
  blockAlloc(thread: number, bytes: number): number;
  blockAllocReserved(bytes: number): number;
  blockFree(block: number): void;
  blockRetain(block: number): void;
  blockPart(block: number, index: number): number;
  chunksReap(thread: number): void;
  sealedCollect(): void;
  breakerCreate(cells: number): number;
  breakerLimit(breaker: number, threshold: number): void;
  breakerReport(breaker: number, period: number, failed: number): number;
  breakerSet(breaker: number, period: number, state: number): void;
  probeReturn(breaker: number, slot: number): number;
  probesReap(breaker: number, thread: number): void;
  edgeAdd(dependent: number, dependency: number): number;
  edgeDrop(dependent: number): number;
  edgeLink(edge: number): void;
  edgeUnlink(edge: number): void;
  groupClose(group: number): void;
  groupOpen(): number;
  groupPut(slot: number, group: number, first: number): number;
  groupReach(slot: number, group: number, first: number): number;
  groupSink(slot: number, group: number): number;
  groupSurface(group: number, first: number): number;
  groupTop(group: number): number;
  heapClear(queue: number): void;
  indexRemove(slot: number): void;
  heapMayHave(queue: number): number;
  levelsSweep(queue: number, count: number, spare: number): void;
  jobAge(slot: number, priority: number): number;
  jobBlock(slot: number): number;
  jobCreate(queue: number, priority: number, flags: number, payload: number, timestamp: number, expiry: number): number;
  jobDelay(slot: number, due: number): number;
  jobFinish(slot: number, state: number, result: number, now: number): void;
  jobHold(slot: number, first: number): number;
  jobLinger(slot: number, due: number): number;
  jobName(slot: number): void;
  jobOwner(slot: number): number;
  jobPrioritise(slot: number, priority: number, first: number): number;
  jobReach(slot: number, first: number): number;
  jobReady(slot: number, first: number): number;
  jobReadyQuiet(slot: number): number;
  jobRemember(slot: number, payload: number, due: number): number;
  jobRemove(slot: number): number;
  jobReplacePayload(slot: number, payload: number): void;
  jobTimer(slot: number, due: number): number;
  jobWithdraw(slot: number, state: number): number;
  queueMark(queue: number, priority: number): void;
  limitsClear(queue: number): void;
  permitsAbove(queue: number, limit: number): number;
  permitsConfigure(queue: number, limit: number): number;
  permitsReap(queue: number, thread: number): void;
  permitReturn(queue: number, slot: number): number;
  rateConfigure(queue: number, max: number, duration: number): number;
  rateNext(queue: number, now: number): number;
  queueCount(queue: number, counts: number, ready: number): void;
  queueFlags(queue: number, set: number, clear: number): void;
  queueOpen(): number;
  queuePaused(queue: number): number;
  runNext(thread: number, from: number): number;
  runOf(thread: number, run: number): number;
  runsActive(thread: number): number;
  runSlot(low: number, high: number): number;
  runComplete(low: number, high: number, result: number, now: number): number;
  outcomePeek(thread: number): number;
  outcomePublish(thread: number, kind: number, run: number, block: number, at: number, value: number): void;
  outcomeSpace(thread: number): number;
  outcomeTake(thread: number): void;
  submitPeek(thread: number): number;
  submitPublish(thread: number, queue: number, request: number, flags: number, block: number): void;
  submitSpace(thread: number): number;
  submitTake(thread: number): void;
  stateOf(slot: number): number;
  epochAdvance(): number;
  epochPassed(epoch: number): number;
  limboAdvance(): void;
  parkBegin(thread: number): void;
  parkEnd(thread: number): void;
  threadDied(thread: number): void;
  threadFree(thread: number): void;
  threadOpen(queue: number): number;
  wakeQueue(queue: number, count: number): number;
  wakeThread(thread: number): number;
  timerNext(): number;
  timerPop(now: number): number;
  claim(thread: number, queue: number, run: number, now: number, breaker?: number): number;
  findNumber(low: number, high: number): number;
  findId(queue: number, id: number, bytes: number): number;
}

export class Core {
  readonly handle: CoreHandle;
  /**
   * The raw exports. Results that are addresses must go through `>>> 0`; the methods below do. A durable engine puts its own calls in
   * front of those that change what must survive.
   */
  wasm: CoreExports;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;

  private constructor(handle: CoreHandle) {
    this.handle = handle;
    const instance = new WebAssembly.Instance(handle.module, { env: { memory: handle.memory } });
    this.wasm = instance.exports as unknown as CoreExports;
    const buffer = handle.memory.buffer;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.f64 = new Float64Array(buffer);
  }

  /** Lays out a fresh memory of `pages` usable pages and joins it as the engine's thread. */
  static format(handle: CoreHandle, pages: number): Core {
    const core = new Core(handle);
    if (!core.wasm.format(pages)) throw new RangeError(`flashQ cannot lay out its memory in ${pages} pages of 64 KiB`);
    return core;
  }

  /** Joins a memory that an engine has laid out. */
  static join(handle: CoreHandle): Core {
    checkMemory(handle.memory);
    return new Core(handle);
  }

  // ---- blocks -----------------------------------------------------------------------------------------------------------

  /** Copies bytes into a new block of `thread`'s; 0 when memory is full. */
  blockOf(thread: number, bytes: Uint8Array): Block {
    const block = this.wasm.blockAlloc(thread, bytes.length) >>> 0;
    if (block !== 0) this.blockWrite(block, 0, bytes);
    return block;
  }

  blockLength(block: Block): number {
    return this.u32[(block + L.B_LENGTH) >>> 2] as number;
  }

  /** Whether the block's bytes lie in one piece. */
  isContiguous(block: Block): boolean {
    return this.blockLength(block) + L.BLOCK_HEADER_BYTES <= L.BLOCK_BYTES_MAX;
  }

  /** Writes into a block from `offset` on, over the border of its parts if need be. */
  blockWrite(block: Block, offset: number, bytes: Uint8Array): void {
    if (this.isContiguous(block)) {
      this.u8.set(bytes, block + offset);
      return;
    }
    this.#eachPart(block, offset, bytes.length, (at, from, count) =>
      this.u8.set(bytes.subarray(from, from + count), at),
    );
  }

  /** Copies a whole block to `target[at...]`. */
  blockCopy(block: Block, target: Uint8Array, at: number): void {
    const length = this.blockLength(block);
    if (this.isContiguous(block)) target.set(this.u8.subarray(block, block + length), at);
    else
      this.#eachPart(block, 0, length, (from, done, count) =>
        target.set(this.u8.subarray(from, from + count), at + done),
      );
  }

  /** A private copy of `length` bytes of a block from `offset` on. */
  blockRead(block: Block, offset: number, length: number): Uint8Array {
    const copy = new Uint8Array(length);
    if (this.isContiguous(block)) copy.set(this.u8.subarray(block + offset, block + offset + length));
    else this.#eachPart(block, offset, length, (at, from, count) => copy.set(this.u8.subarray(at, at + count), from));
    return copy;
  }

  #eachPart(
    block: Block,
    offset: number,
    length: number,
    visit: (at: number, from: number, count: number) => void,
  ): void {
    let start = 0;
    let done = 0;
    for (let index = 0; done < length; index++) {
      const bytes = index === 0 ? L.LARGE_FIRST_BYTES : L.LARGE_PART_BYTES;
      const from = offset + done - start;
      if (from < bytes) {
        const count = Math.min(bytes - from, length - done);
        visit((this.wasm.blockPart(block, index) >>> 0) + from, done, count);
        done += count;
      }
      start += bytes;
    }
  }

  // ---- slots ------------------------------------------------------------------------------------------------------------

  state(slot: Slot): number {
    return (this.u32[slot >>> 2] as number) & L.STATE_MASK;
  }

  /** A field of 32 bits, by its S_ offset. */
  field(slot: Slot, offset: number): number {
    return this.u32[(slot + offset) >>> 2] as number;
  }

  setField(slot: Slot, offset: number, value: number): void {
    this.u32[(slot + offset) >>> 2] = value;
  }

  /** What its place in the heap goes by: of a job that waits or runs, age included. */
  priority(slot: Slot): number {
    return this.i32[(slot + L.S_PRIORITY) >>> 2] as number;
  }

  /** How much of its priority a job that waits or runs owes to its age. */
  aged(slot: Slot): number {
    return this.i32[(slot + L.S_AGED) >>> 2] as number;
  }

  /** The priority that it was given. */
  ownPriority(slot: Slot): number {
    const raw = this.state(slot);
    const priority = this.priority(slot);
    return raw === L.STATE_WAITING || raw === L.STATE_ACTIVE ? priority - this.aged(slot) : priority;
  }

  /** A field of 64 bits that holds a number (a time in ms). */
  time(slot: Slot, offset: number): number {
    return this.f64[(slot + offset) >>> 3] as number;
  }

  setTime(slot: Slot, offset: number, value: number): void {
    this.f64[(slot + offset) >>> 3] = value;
  }

  /** The job's number: below 2^53 for the next 28,000 years at 10 million jobs a second. */
  number(slot: Slot): number {
    const at = (slot + L.S_NUMBER) >>> 2;
    return (this.u32[at] as number) + (this.u32[at + 1] as number) * 4294967296;
  }

  /** The number that the next job will get: smaller ones have existed. */
  nextNumber(): number {
    const at = L.H_JOB_NEXT >>> 2;
    return (this.u32[at] as number) + (this.u32[at + 1] as number) * 4294967296;
  }

  setNextNumber(number: number): void {
    const at = L.H_JOB_NEXT >>> 2;
    this.u32[at] = number >>> 0;
    this.u32[at + 1] = Math.floor(number / 4294967296);
  }

  lost(slot: Slot): number {
    return this.u8[slot + L.S_LOST] as number;
  }

  setLost(slot: Slot, count: number): void {
    this.u8[slot + L.S_LOST] = count;
  }

  findNumber(number: number): Slot {
    return this.wasm.findNumber(number >>> 0, Math.floor(number / 4294967296)) >>> 0;
  }

  // ---- a queue's lists --------------------------------------------------------------------------------------------------

  #list(queue: QueueAddress, state: number): number {
    return (queue + L.Q_LISTS + (state === L.STATE_ACTIVE ? L.STATE_WAITING : state) * L.LIST_BYTES) >>> 2;
  }

  /** Oldest job of that state's list (waiting and active share one). */
  listHead(queue: QueueAddress, state: number): Slot {
    return this.u32[this.#list(queue, state)] as number;
  }

  listTail(queue: QueueAddress, state: number): Slot {
    return this.u32[this.#list(queue, state) + 1] as number;
  }

  listCount(queue: QueueAddress, state: number): number {
    return this.u32[this.#list(queue, state) + 2] as number;
  }

  /** How many jobs can be claimed, of a queue that counts them. */
  ready(queue: QueueAddress): number {
    const counted = Atomics.load(this.i32, (queue + L.Q_READY) >>> 2);
    return counted > 0 || this.wasm.heapMayHave(queue) === 0 ? counted : 1; // a claim will tell
  }

  // ---- claims -----------------------------------------------------------------------------------------------------------

  /** The claim entry `run` of a thread: the low and high half of a run's ticket. */
  ticketLow(area: number, run: number): number {
    return this.u32[(area + L.A_CLAIMS + run * 8) >>> 2] as number;
  }

  ticketHigh(area: number, run: number): number {
    return this.u32[(area + L.A_CLAIMS + run * 8 + 4) >>> 2] as number;
  }

  area(thread: number): number {
    return this.u32[(L.THREADS_AT + thread * L.THREAD_BYTES + L.T_AREA) >>> 2] as number;
  }

  /** Index of a thread's park word in `i32`, for Atomics.waitAsync. */
  parkIndex(thread: number): number {
    return (L.THREADS_AT + thread * L.THREAD_BYTES + L.T_PARK) >>> 2;
  }

  // ---- memory -----------------------------------------------------------------------------------------------------------

  /** Bytes of chunks in use. */
  usedBytes(): number {
    return Atomics.load(this.u32, L.H_CHUNKS_USED >>> 2) * L.PAGE_BYTES;
  }
}
