/**
 * The engine's side of one other thread: answers its calls, admits what it submits, tells it to stop runs, and gives back what it had
 * when it has ended. The port's `close` is what says so: it comes after the thread's last step (0.2 to 4 ms), whatever ended it.
 */
import type { MessagePort } from 'node:worker_threads';
import type {
  AbortReason,
  AddAnswers,
  ClaimOptions,
  Connection,
  EventSubscription,
  JobRef,
} from '../../client/connection.js';
import { EngineFullError, serialiseError } from '../../client/errors.js';
import type { JobOptions } from '../../client/options.js';
import { decodePayload, encodePayload } from '../../client/payload.js';
import { type Block, L, type QueueAddress, type Slot } from '../core/index.js';
import { admitBlocks, judgeBlocks } from '../jobs/admission.js';
import { type RunTicket, updateData } from '../jobs/control.js';
import { snapshot } from '../jobs/records.js';
import { loseRun, releaseRun, settleEntry } from '../jobs/settle.js';
import { awaitAdded } from '../jobs/waiting.js';
import type { Breaker } from '../patterns/breakers.js';
import { closeBatches, openBatches, recount } from '../queue-control.js';
import { announce, type EngineState, type RunOwner } from '../state.js';
import type { OpenedClaims } from './attached-connection.js';
import type { RingOwner } from './rings.js';
import {
  type DownMessage,
  type EngineHandle,
  type PumpMessage,
  SUBMIT_ABORT,
  SUBMIT_ATOMIC,
  SUBMIT_EXTRAS,
  SUBMIT_LAST,
  SUBMIT_WAIT,
  type SubmitExtras,
  type UpMessage,
} from './wire.js';

/** Calls that are a method of the same name of the engine's own connection. */
const METHODS = new Set([
  'finished',
  'getJobs',
  'listJobs',
  'listState',
  'clean',
  'getState',
  'getCounts',
  'getDependencies',
  'explain',
  'waitFor',
  'getLogs',
  'emit',
  'readStream',
  'cancel',
  'interrupt',
  'remove',
  'promote',
  'changePriority',
  'changeDelay',
  'updateProgress',
  'log',
  'retryFailed',
  'purgeFailed',
  'getKeyHolder',
  'releaseKey',
  'moveToDlq',
  'listFailed',
  'pause',
  'resume',
  'hold',
  'isPaused',
  'drain',
  'obliterate',
  'configure',
  'getConfig',
  'breaker',
  'addGraph',
  'addCron',
  'removeCron',
  'listCrons',
  'triggerCron',
  'pauseCron',
  'resumeCron',
] satisfies (keyof Connection)[]) as ReadonlySet<string>;

/** What the Worker of a handler file hears of its runs. */
type RunEvents = Pick<RunOwner, 'onStarted' | 'onCompleted' | 'onFailed' | 'onProgress' | 'onStalled' | 'onLate'>;

/** What becomes of a run whose thread has ended. */
export type EndRun = (slot: Slot) => void;

/** A request that is still arriving. */
interface Arriving {
  readonly items: { block: Block; opts: JobOptions | undefined }[];
  extras: SubmitExtras | undefined;
  timeout: number | undefined;
}

/** One entry of the thread table in use by the other thread: its rings, and its runs if it claims. */
class Member implements RingOwner, RunOwner {
  readonly thread: number;
  readonly queue: QueueAddress;
  readonly breaker: Breaker | undefined;
  readonly #server: ThreadServer;
  readonly #graceMs: number;

  constructor(
    server: ThreadServer,
    thread: number,
    queue: QueueAddress,
    graceMs: number,
    breaker: Breaker | undefined,
  ) {
    this.breaker = breaker;
    this.#server = server;
    this.thread = thread;
    this.queue = queue;
    this.#graceMs = graceMs;
  }

  outcome(entry: number): void {
    settleEntry(this.#server.state, this.thread, entry);
  }

  submitted(entry: number): void {
    this.#server.submitted(entry);
  }

  abort(slot: Slot, reason: AbortReason, message: string): void {
    const { core } = this.#server.state;
    const area = core.area(this.thread);
    const run = runOfSlot(this.#server.state, this.thread, slot);
    if (run === undefined) return;
    const ticket = { low: core.ticketLow(area, run), high: core.ticketHigh(area, run) };
    this.#server.send({ kind: 'abort', thread: this.thread, ...ticket, reason, message });
  }

  terminate(slot: Slot): boolean {
    return this.#server.onTerminate?.(slot) ?? false;
  }

  graceMs(): number {
    return this.#graceMs;
  }

  onStarted(slot: Slot): void {
    this.#server.runEvents?.onStarted?.(slot);
  }

  onCompleted(slot: Slot): void {
    this.#server.runEvents?.onCompleted?.(slot);
  }

  onFailed(slot: Slot, error: Parameters<NonNullable<RunOwner['onFailed']>>[1]): void {
    this.#server.runEvents?.onFailed?.(slot, error);
  }

  onProgress(slot: Slot, progress: unknown): void {
    this.#server.runEvents?.onProgress?.(slot, progress);
  }

  onStalled(slot: Slot): void {
    this.#server.runEvents?.onStalled?.(slot);
  }

  /** A Worker that lives in the other thread hears of it there. */
  onLate(slot: Slot): void {
    const { runEvents, state } = this.#server;
    if (runEvents !== undefined) runEvents.onLate?.(slot);
    else
      this.#server.send({
        kind: 'late',
        thread: this.thread,
        body: new Uint8Array(encodePayload(snapshot(state, slot))),
      });
  }
}

/** The claim entry in which a thread holds that slot. */
function runOfSlot({ core }: EngineState, thread: number, slot: Slot): number | undefined {
  for (let run = core.wasm.runNext(thread, 0); run < L.CLAIM_ENTRIES_MAX; run = core.wasm.runNext(thread, run + 1)) {
    if (core.wasm.runOf(thread, run) >>> 0 === slot) return run;
  }
  return undefined;
}

export interface ThreadServerOptions {
  readonly connection: Connection;
  /** What the thread's first entry claims from; 0 for a producer. */
  readonly queue: QueueAddress;
  readonly abortGraceMs: number;
  readonly breaker?: Breaker | undefined;
}

export class ThreadServer {
  readonly state: EngineState;
  readonly thread: number;
  /** Of the first entry in the table. */
  onPump: ((message: PumpMessage) => void) | undefined;
  onTerminate: ((slot: Slot) => boolean) | undefined;
  runEvents: RunEvents | undefined;
  /** Decides what becomes of the runs that the thread leaves behind. */
  endRun: EndRun;
  readonly #port: MessagePort;
  readonly #connection: Connection;
  readonly #members = new Map<number, Member>();
  readonly #arriving = new Map<number, Arriving>();
  readonly #subscriptions = new Map<number, EventSubscription>();
  /** Readers of streams that the thread has opened, and their queues. */
  readonly #streams = new Map<number, string>();
  #isEnded = false;
  #resolveEnded!: () => void;
  /** Resolves when the thread has ended and everything it had is back. */
  readonly ended: Promise<void>;

  private constructor(state: EngineState, port: MessagePort, thread: number, options: ThreadServerOptions) {
    this.state = state;
    this.thread = thread;
    this.#port = port;
    this.#connection = options.connection;
    this.endRun = (slot) => loseRun(state, slot);
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#join(thread, options.queue, options.abortGraceMs, options.breaker);
    state.threads.add(this);
    port.on('message', (message: UpMessage) => this.#receive(message));
    port.on('close', () => this.#end());
    port.unref();
  }

  /**
   * A place for one more thread, and the handle by which it joins.
   *
   * @throws EngineFullError when the table (254 threads) or memory is full.
   */
  static open(state: EngineState, options: ThreadServerOptions): { server: ThreadServer; handle: EngineHandle } {
    const thread = openThread(state, options.queue);
    const { port1, port2 } = new MessageChannel() as unknown as { port1: MessagePort; port2: MessagePort };
    const server = new ThreadServer(state, port1, thread, options);
    const [seconds, nanoseconds] = process.hrtime();
    const handle: EngineHandle = {
      flashq: state.version,
      core: state.core.handle,
      thread,
      port: port2,
      payloadLimit: state.limits.payloadBytes,
      memoryLimit: state.limits.memoryBytes,
      startsFile: state.journal?.startsFile,
      isDurable: state.journal?.gates === true,
      timeBase: state.clock.now() - (seconds * 1000 + nanoseconds / 1e6),
    };
    return { server, handle };
  }

  /** Lets its claimers look again. */
  wake(): void {
    for (const thread of this.#members.keys()) this.state.core.wasm.wakeThread(thread);
  }

  send(message: DownMessage): void {
    if (!this.#isEnded) this.#port.postMessage(message);
  }

  /** Cuts the connection: the other side's calls reject, and this side cleans up once the port has closed. */
  close(): void {
    this.#port.close();
  }

  #join(thread: number, queue: QueueAddress, graceMs: number, breaker: Breaker | undefined): void {
    const member = new Member(this, thread, queue, graceMs, breaker);
    this.#members.set(thread, member);
    this.state.owners[thread] = member;
    this.state.rings.add(member);
  }

  // ---- calls ----------------------------------------------------------------------------------------------------------------

  #receive(message: UpMessage): void {
    if (message.kind === 'leave') {
      this.endRun = (slot) => releaseRun(this.state, slot); // it gives them back: they are not lost
      return;
    }
    if (message.kind !== 'call') {
      this.onPump?.(message);
      return;
    }
    const { id, method } = message;
    this.#answer(id, () => this.#call(method, decodePayload(message.body) as unknown[]));
  }

  /** Whatever comes of it is told under that number. */
  #answer(id: number, make: () => unknown): void {
    const reply = async (): Promise<void> => {
      let answer: DownMessage;
      try {
        answer = { kind: 'reply', id, body: new Uint8Array(encodePayload(await make())) };
      } catch (error) {
        answer = { kind: 'fail', id, error: serialiseError(error) };
      }
      this.send(answer);
    };
    void reply();
  }

  #call(method: string, args: unknown[]): unknown {
    if (METHODS.has(method)) {
      const target = this.#connection as unknown as Record<string, (...args: unknown[]) => unknown>;
      return target[method]?.(...args);
    }
    switch (method) {
      case 'updateData':
        return this.#updateData(args[0] as string, args[1] as JobRef, args[2], args[3] as RunTicket | undefined);
      case 'openQueue':
        return this.state.queues.open(args[0] as string).address;
      case 'openClaims':
        return this.#openClaims(args[0] as string, args[1] as ClaimOptions);
      case 'closeClaims':
        return this.#leave(args[0] as number);
      case 'durable':
        this.#drain();
        return this.state.journal?.barrier();
      case 'openStream':
        return this.#openStream(args[0] as string, args[1] as JobRef);
      case 'closeStream':
        this.#streams.delete(args[1] as number);
        return this.#connection.closeStream(args[0] as string, args[1] as number);
      case 'subscribe':
        return this.#subscribe(args[0] as string, args[1] as string | undefined, args[2] as number);
      case 'unsubscribe':
        this.#subscriptions.get(args[0] as number)?.close();
        this.#subscriptions.delete(args[0] as number);
        return undefined;
      default:
        throw new TypeError(`no such call: ${method}`);
    }
  }

  #updateData(queue: string, ref: JobRef, data: unknown, run: RunTicket | undefined): Promise<void> | undefined {
    updateData(this.state, queue, ref, data, run);
    announce(this.state, this.state.queues.open(queue), 1); // a waiting one was out of the queue for a moment
    return this.state.journal?.barrier();
  }

  /** Takes what the thread has published before it called. */
  #drain(): void {
    for (const member of this.#members.values()) this.state.rings.drain(member, Number.POSITIVE_INFINITY);
  }

  async #openClaims(queue: string, opts: ClaimOptions): Promise<OpenedClaims> {
    const entry = this.state.queues.open(queue);
    const { address } = entry;
    const breaker = opts.breaker === undefined ? undefined : this.state.breakers.use(this.state, entry, opts.breaker);
    const thread = openThread(this.state, address);
    this.#join(thread, address, opts.abortGraceMs, breaker);
    if (opts.batch !== undefined) await openBatches(this.state, entry, this.#members.get(thread) as object, opts.batch);
    return { thread, address, breaker: breaker?.address };
  }

  async #openStream(queue: string, ref: JobRef): Promise<number> {
    const reader = await this.#connection.openStream(queue, ref);
    if (this.#isEnded) void this.#connection.closeStream(queue, reader);
    else if (reader !== 0) this.#streams.set(reader, queue);
    return reader;
  }

  async #subscribe(queue: string, after: string | undefined, id: number): Promise<void> {
    const tell = (event: unknown) => this.send({ kind: 'event', id, body: new Uint8Array(encodePayload(event)) });
    const subscription = await this.#connection.subscribe(queue, after, tell);
    if (this.#isEnded) subscription.close();
    else this.#subscriptions.set(id, subscription);
  }

  // ---- jobs from the submit ring ----------------------------------------------------------------------------------------------

  /** One entry of a request. The block is the engine's from now on. */
  submitted(entry: number): void {
    const { core, payloads } = this.state;
    const request = core.field(entry, L.E_REQUEST);
    const flags = core.field(entry, L.E_KIND);
    const block = core.field(entry, L.E_BLOCK);
    const queue = core.field(entry, L.E_QUEUE);
    let arriving = this.#arriving.get(request);
    if (arriving === undefined) {
      arriving = { items: [], extras: undefined, timeout: undefined };
      this.#arriving.set(request, arriving);
    }
    if ((flags & SUBMIT_EXTRAS) !== 0) {
      arriving.extras = payloads.value(block) as SubmitExtras;
      arriving.timeout = arriving.extras.timeout;
      core.wasm.blockFree(block);
      return;
    }
    if (block !== 0) {
      arriving.items.push({ block, opts: this.#optionsOf(block, arriving.extras) });
      arriving.extras = undefined;
    }
    if ((flags & SUBMIT_LAST) === 0) return;
    this.#arriving.delete(request);
    if ((flags & SUBMIT_ABORT) === 0) this.#admit(request, queue, flags, arriving);
    else {
      const errors = judgeBlocks(this.state, this.state.queues.at(queue), arriving.items);
      this.#answer(request, () => errors.map(({ index, error }) => ({ index, error: serialiseError(error) })));
    }
  }

  #optionsOf(block: Block, extras: SubmitExtras | undefined): JobOptions | undefined {
    const { payloads, core } = this.state;
    const custom = payloads.idBytes(block) !== 0;
    const dependsOn = extras?.dependsOn;
    const hasOptions = core.field(block, L.P_OPTION_BYTES) !== 0;
    if (!custom && dependsOn === undefined) return hasOptions ? payloads.opts(block) : undefined;
    return {
      ...payloads.opts(block),
      ...(custom ? { jobId: payloads.customId(block) } : {}),
      ...(dependsOn === undefined ? {} : { dependsOn: dependsOn as readonly JobRef[] }),
    };
  }

  #admit(request: number, queue: QueueAddress, flags: number, { items, timeout }: Arriving): void {
    const entry = this.state.queues.at(queue);
    let answers: AddAnswers | undefined;
    let refusal: unknown;
    try {
      answers = admitBlocks(this.state, entry, items, (flags & SUBMIT_ATOMIC) !== 0);
    } catch (error) {
      refusal = error;
    }
    this.#answer(request, () => {
      if (answers === undefined) throw refusal;
      if ((flags & SUBMIT_WAIT) === 0) return told(this.state, answers);
      return awaitAdded(this.state, entry.name, answers, timeout);
    });
  }

  #drop({ items }: Arriving): void {
    for (const { block } of items) this.state.core.wasm.blockFree(block);
  }

  // ---- the end ----------------------------------------------------------------------------------------------------------------

  #end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    for (const subscription of this.#subscriptions.values()) subscription.close();
    for (const [reader, queue] of this.#streams) void this.#connection.closeStream(queue, reader);
    for (const thread of [...this.#members.keys()]) this.#leave(thread);
    for (const arriving of this.#arriving.values()) this.#drop(arriving);
    this.#arriving.clear();
    this.state.threads.delete(this);
    this.#resolveEnded();
  }

  /** Gives back what the thread had under that index: what it has published counts, what it still ran is ended, the rest is freed. */
  #leave(thread: number): void {
    const member = this.#members.get(thread);
    if (member === undefined) return;
    const { state } = this;
    const { wasm } = state.core;
    wasm.threadDied(thread);
    while (state.rings.drain(member, Number.POSITIVE_INFINITY) !== 0);
    for (let run = wasm.runNext(thread, 0); run < L.CLAIM_ENTRIES_MAX; run = wasm.runNext(thread, run + 1)) {
      this.endRun(wasm.runOf(thread, run) >>> 0);
    }
    if (member.queue !== 0) wasm.permitsReap(member.queue, thread);
    if (member.breaker !== undefined) {
      wasm.probesReap(member.breaker.address, thread);
      member.breaker.look();
    }
    wasm.chunksReap(thread);
    wasm.threadFree(thread);
    state.rings.remove(member);
    state.owners[thread] = undefined;
    this.#members.delete(thread);
    if (member.queue !== 0) {
      const queue = state.queues.at(member.queue);
      queue.permitFreed();
      closeBatches(state, queue, member);
      if (queue.batchers.size !== 0) void recount(state, queue);
      if (wasm.heapMayHave(member.queue) !== 0) announce(state, queue, 1); // what it was woken for, or held
    }
  }
}

/** Answers when what has been done is as durable as the engine promises. */
async function told<T>({ journal }: EngineState, answer: T): Promise<T> {
  await journal?.barrier();
  return answer;
}

function openThread(state: EngineState, queue: QueueAddress): number {
  const thread = state.core.wasm.threadOpen(queue);
  if (thread !== 0) return thread;
  throw new EngineFullError({
    limitBytes: state.limits.memoryBytes,
    message: `No place for another thread: an engine serves at most 254, each with 64 KiB of its maxMemory of ${state.limits.memoryBytes} bytes.`,
  });
}
