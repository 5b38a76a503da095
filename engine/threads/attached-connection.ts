/**
 * The `Connection` of a thread that shares an engine's memory: adds go through its submit ring and claims straight to the core;
 * everything else is a call over its port, answered by the engine's own connection.
 */
import * as C from '../../client/connection.js';
import {
  BulkError,
  ConnectionError,
  deserialiseError,
  EngineClosedError,
  EngineFullError,
  type SerialisedError,
} from '../../client/errors.js';
import type { JobOptions } from '../../client/options.js';
import { decodePayload, encodePayload } from '../../client/payload.js';
import { JobIdentity } from '../../client/references.js';
import { type Block, Core, L } from '../core/index.js';
import { Payloads } from '../core/payloads.js';
import { StartNotes } from '../store/starts.js';
import { VERSION } from '../version.js';
import { ThreadClaims, type ThreadView } from './thread-claims.js';
import {
  type DownMessage,
  type EngineHandle,
  SUBMIT_ABORT,
  SUBMIT_ATOMIC,
  SUBMIT_EXTRAS,
  SUBMIT_LAST,
  SUBMIT_WAIT,
  type SubmitExtras,
  type UpMessage,
} from './wire.js';

interface Call {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** What the engine answers to `openClaims`. */
export interface OpenedClaims {
  readonly thread: number;
  readonly address: number;
  readonly breaker: number | undefined;
}

/** Two connections on one index would write over each other. */
const joined = new WeakSet<object>();

export class AttachedConnection implements C.Connection, ThreadView {
  readonly attached = true;
  readonly description = 'the engine of another thread';
  readonly core: Core;
  readonly payloads: Payloads;
  readonly memoryLimit: number;
  readonly starts: StartNotes | undefined;
  /** Told of what is neither an answer nor an event: control of handler threads. */
  onControl: (message: DownMessage) => void = () => {};
  /** Resolves when the port is closed, from whichever side. */
  readonly portClosed: Promise<void>;
  readonly #handle: EngineHandle;
  readonly #isTestClock: boolean;
  readonly #offset: number;
  readonly #calls = new Map<number, Call>();
  readonly #listeners = new Map<number, (event: C.QueueEvent) => void>();
  readonly #claims = new Map<number, ThreadClaims>();
  readonly #queues = new Map<string, number | Promise<number>>();
  #next = 1;
  #closed: Error | undefined;

  /** @throws ConnectionError when the handle was made by another version, or is none. */
  constructor(handle: EngineHandle) {
    if (handle?.flashq === undefined || handle.core === undefined) {
      throw new ConnectionError(
        'Engine.attach needs an engine.handle of the thread that has the engine, posted with its port in the transfer list.',
      );
    }
    if (handle.flashq !== VERSION) {
      throw new ConnectionError(
        `The engine belongs to flashq ${handle.flashq}, and this thread has loaded flashq ${VERSION}. Make both load the same version.`,
      );
    }
    if (joined.has(handle.port)) {
      throw new ConnectionError(
        'This engine.handle has been attached already: each serves once. Ask the engine for another.',
      );
    }
    joined.add(handle.port);
    this.#handle = handle;
    this.core = Core.join(handle.core);
    this.memoryLimit = handle.memoryLimit;
    this.starts = handle.startsFile === undefined ? undefined : new StartNotes(handle.startsFile);
    this.payloads = new Payloads(this.core, handle.thread, handle.payloadLimit);
    this.#isTestClock = this.core.u32[L.H_CLOCK_MODE >>> 2] !== 0;
    const [seconds, nanoseconds] = process.hrtime();
    this.#offset = handle.timeBase + (seconds * 1000 + nanoseconds / 1e6) - performance.now();
    handle.port.on('message', (message: DownMessage) => this.#receive(message));
    this.portClosed = new Promise((resolve) => handle.port.once('close', resolve));
    void this.portClosed.then(() => this.#end(new EngineClosedError('The engine of this connection has been closed')));
    handle.port.unref();
  }

  // ---- time -----------------------------------------------------------------------------------------------------------------

  now(): number {
    return this.#isTestClock ? (this.core.f64[L.H_CLOCK >>> 3] as number) : this.#offset + performance.now();
  }

  random(): number {
    return Math.random();
  }

  durable(): Promise<void> | undefined {
    return this.#handle.isDurable ? this.#call('durable') : undefined;
  }

  // ---- calls over the port --------------------------------------------------------------------------------------------------

  /** Calls the engine's connection. */
  async #call<T>(method: string, ...args: unknown[]): Promise<T> {
    if (this.#closed !== undefined) throw this.#closed;
    const body = new Uint8Array(encodePayload(args.map(withoutJobs))); // a copy: what encodePayload returns is reused
    const id = this.#next++;
    const answer = this.#answerTo(id);
    this.send({ kind: 'call', id, method, body });
    return (await answer) as T;
  }

  #answerTo(id: number): Promise<unknown> {
    if (this.#calls.size === 0) this.#handle.port.ref(); // a pending answer keeps the thread alive
    return new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
  }

  send(message: UpMessage): void {
    this.#handle.port.postMessage(message);
  }

  #receive(message: DownMessage): void {
    switch (message.kind) {
      case 'reply':
        this.#take(message.id)?.resolve(decodePayload(message.body));
        return;
      case 'fail':
        this.#take(message.id)?.reject(deserialiseError(message.error));
        return;
      case 'event':
        this.#listeners.get(message.id)?.(decodePayload(message.body) as C.QueueEvent);
        return;
      case 'abort':
        this.#claims.get(message.thread)?.abort(message.low, message.high, message.reason, message.message);
        return;
      case 'late':
        this.#claims.get(message.thread)?.late(decodePayload(message.body) as C.JobSnapshot);
        return;
      default:
        this.onControl(message);
    }
  }

  #take(id: number): Call | undefined {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (this.#calls.size === 0) this.#handle.port.unref();
    return call;
  }

  #end(error: Error): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
    for (const claims of this.#claims.values()) claims.fail(error);
    this.#claims.clear();
    this.starts?.close();
  }

  /** Nothing closes the workers of this thread for it: they end with the engine, by its error. */
  adopt(): () => void {
    return () => {};
  }

  /** Lets go of the engine: what is under way is rejected, and what this thread had claimed is given back by the engine. */
  close(): void {
    if (this.#closed === undefined) this.send({ kind: 'leave' });
    this.#end(new EngineClosedError('This connection to the engine has been closed'));
    this.#handle.port.close();
  }

  /** Keeps this thread alive while it serves the engine. */
  ref(): void {
    this.#handle.port.ref();
  }

  // ---- adding ---------------------------------------------------------------------------------------------------------------

  async add(queue: string, items: readonly C.AddItem[], { atomic }: { atomic: boolean }): Promise<C.AddAnswers> {
    if (items.length === 0) return [];
    return (await this.#submit(queue, items, atomic, 0, undefined)) as C.AddAnswers;
  }

  addAndWait(queue: string, item: C.AddItem, { timeout }: { timeout?: number | undefined }): Promise<unknown> {
    return this.#submit(queue, [item], false, SUBMIT_WAIT, timeout);
  }

  /** Over the port: a graph is one message, whatever its queues. */
  addGraph(items: readonly C.GraphItem[]): Promise<readonly C.AddAnswer[]> {
    return this.#call('addGraph', items.map(plainNode));
  }

  /** Puts the jobs into the submit ring, and waits for the answer. Refused items are left out, or refuse the whole when `atomic`. */
  async #submit(
    queue: string,
    items: readonly C.AddItem[],
    atomic: boolean,
    flags: number,
    timeout: number | undefined,
  ): Promise<unknown> {
    const address = this.#queues.get(queue) ?? this.#openQueue(queue);
    const known = typeof address === 'number' ? address : await address;
    if (this.#closed !== undefined) throw this.#closed;
    const request = this.#next++;
    const refused: { index: number; error: Error }[] = [];
    const common = flags | (atomic ? SUBMIT_ATOMIC : 0);
    const answer = this.#answerTo(request);
    answer.catch(() => {}); // it is awaited below
    let isLast = false;
    for (let index = 0; index < items.length; index++) {
      const item = items[index] as C.AddItem;
      try {
        const extras = extrasOf(item.opts, timeout);
        if (extras !== undefined)
          await this.#publish(known, request, common | SUBMIT_EXTRAS, () => this.#encoded(extras));
        isLast = index === items.length - 1 && (refused.length === 0 || !atomic);
        await this.#publish(known, request, common | (isLast ? SUBMIT_LAST : 0), () => this.#encodedJob(item));
      } catch (error) {
        if (this.#closed !== undefined) throw this.#closed;
        isLast = false;
        refused.push({ index, error: error as Error });
      }
    }
    if (!isLast) {
      const isVain = refused.length !== 0 && (atomic || (flags & SUBMIT_WAIT) !== 0);
      const end = SUBMIT_LAST | (isVain ? SUBMIT_ABORT : 0);
      await this.#publish(known, request, common | end, () => 0);
    }
    const answers = await answer;
    if (refused.length === 0) return answers;
    if (atomic) throw new BulkError(withJudged(refused, answers as readonly Judged[], items.length));
    if ((flags & SUBMIT_WAIT) !== 0) throw (refused[0] as { error: Error }).error;
    return withRefused(answers as C.AddAnswers, refused, items.length, this.now());
  }

  #encodedJob({ name, data, opts }: C.AddItem): Block {
    const block = this.payloads.encodeJob({ name, customId: opts?.jobId ?? '', opts, data });
    if (block === 0) throw new EngineFullError({ limitBytes: this.memoryLimit });
    return block;
  }

  #encoded(value: unknown): Block {
    const block = this.payloads.encodeValue(value);
    if (block === undefined) throw new EngineFullError({ limitBytes: this.memoryLimit });
    return block;
  }

  /** Waits for a free entry first: between `encode` and the publish nothing else may take a block on this thread. */
  async #publish(queue: number, request: number, flags: number, encode: () => Block): Promise<void> {
    const { wasm } = this.core;
    const { thread } = this.#handle;
    for (let tries = 0; ; tries++) {
      if (this.#closed !== undefined) throw this.#closed; // the index is another thread's by now
      if (wasm.submitSpace(thread) !== 0) break;
      await new Promise<void>((resolve) => (tries < 50 ? setImmediate(resolve) : setTimeout(resolve, 1)));
    }
    wasm.submitPublish(thread, queue, request, flags, encode());
  }

  #openQueue(queue: string): Promise<number> {
    const opening = this.#call<number>('openQueue', queue).then(
      (address) => {
        this.#queues.set(queue, address);
        return address;
      },
      (error) => {
        this.#queues.delete(queue);
        throw error;
      },
    );
    this.#queues.set(queue, opening);
    return opening;
  }

  // ---- claims ---------------------------------------------------------------------------------------------------------------

  /** Claims with this thread's own index. */
  claimsOn(options: ConstructorParameters<typeof ThreadClaims>[1], sink: C.ClaimSink): ThreadClaims {
    const claims = new ThreadClaims(this, options, sink);
    this.#claims.set(options.thread, claims);
    return claims;
  }

  async openClaims(queue: string, opts: C.ClaimOptions, sink: C.ClaimSink): Promise<C.ClaimSource> {
    const { thread, address, breaker } = await this.#call<OpenedClaims>('openClaims', queue, opts);
    this.ref();
    const onClose = async (): Promise<void> => {
      this.#claims.delete(thread);
      if (this.#claims.size === 0 && this.#calls.size === 0) this.#handle.port.unref();
      if (this.#closed === undefined) await this.#call('closeClaims', thread);
    };
    const { abortGraceMs, batch } = opts;
    return this.claimsOn({ thread, queue, queueAddress: address, abortGraceMs, breaker, batch, onClose }, sink);
  }

  async openThreads(spec: C.ThreadWorkerSpec): Promise<C.ThreadWorkerLink> {
    throw new ConnectionError(
      `A Worker whose handler is a file (${spec.file}) has threads of its own: make it on the thread that has the engine. ` +
        'Here a Worker takes a function.',
    );
  }

  // ---- events ---------------------------------------------------------------------------------------------------------------

  async subscribe(
    queue: string,
    after: string | undefined,
    listener: (event: C.QueueEvent) => void,
  ): Promise<C.EventSubscription> {
    const id = this.#next++;
    this.#listeners.set(id, listener);
    await this.#call('subscribe', queue, after, id);
    return {
      close: () => {
        this.#listeners.delete(id);
        if (this.#closed === undefined) void this.#call('unsubscribe', id).catch(() => {});
      },
    };
  }

  // ---- the rest, as it is ----------------------------------------------------------------------------------------------------

  finished(
    queue: string,
    refs: readonly C.JobRef[],
    opts: { timeout?: number | undefined; settled: true },
  ): Promise<C.SettledResult[]>;
  finished(
    queue: string,
    refs: readonly C.JobRef[],
    opts: { timeout?: number | undefined; settled?: false },
  ): Promise<unknown[]>;
  finished(
    queue: string,
    refs: readonly C.JobRef[],
    opts: { timeout?: number | undefined; settled?: boolean },
  ): Promise<unknown[]> {
    return this.#call('finished', queue, refs, opts);
  }

  getJobs(queue: string, refs: readonly C.JobRef[]): Promise<(C.JobSnapshot | undefined)[]> {
    return this.#call('getJobs', queue, refs);
  }

  listJobs(queue: string, query: C.JobQuery): Promise<C.JobPage> {
    return this.#call('listJobs', queue, query);
  }

  listState(queue: string, state: C.JobState, range: C.JobRange): Promise<C.JobSnapshot[]> {
    return this.#call('listState', queue, state, range);
  }

  clean(queue: string, graceMs: number, limit: number, state: C.JobState): Promise<string[]> {
    return this.#call('clean', queue, graceMs, limit, state);
  }

  getState(queue: string, ref: C.JobRef): Promise<C.JobStateOrUnknown> {
    return this.#call('getState', queue, ref);
  }

  getCounts(queue: string): Promise<C.JobCounts> {
    return this.#call('getCounts', queue);
  }

  getDependencies(queue: string, ref: C.JobRef): Promise<C.DependencyRecord[]> {
    return this.#call('getDependencies', queue, ref);
  }

  explain(queue: string, ref: C.JobRef): Promise<C.Explanation> {
    return this.#call('explain', queue, ref);
  }

  waitFor(queue: string, ref: C.JobRef, refs: readonly C.JobRef[]): Promise<boolean> {
    return this.#call('waitFor', queue, ref, refs);
  }

  getLogs(queue: string, ref: C.JobRef): Promise<string[]> {
    return this.#call('getLogs', queue, ref);
  }

  emit(queue: string, ref: C.JobRef, attempt: number, chunk: unknown): Promise<void> {
    return this.#call('emit', queue, ref, attempt, chunk);
  }

  openStream(queue: string, ref: C.JobRef): Promise<number> {
    return this.#call('openStream', queue, ref);
  }

  readStream(queue: string, reader: number): Promise<C.StreamBatch> {
    return this.#call('readStream', queue, reader);
  }

  closeStream(queue: string, reader: number): Promise<void> {
    return this.#call('closeStream', queue, reader);
  }

  cancel(queue: string, ref: C.JobRef, reason: string | undefined): Promise<'cancelled' | 'aborting' | 'finished'> {
    return this.#call('cancel', queue, ref, reason);
  }

  interrupt(queue: string, ref: C.JobRef, reason: string): Promise<boolean> {
    return this.#call('interrupt', queue, ref, reason);
  }

  remove(queue: string, ref: C.JobRef): Promise<boolean> {
    return this.#call('remove', queue, ref);
  }

  promote(queue: string, ref: C.JobRef): Promise<void> {
    return this.#call('promote', queue, ref);
  }

  changePriority(queue: string, ref: C.JobRef, opts: { priority: number; lifo?: boolean }): Promise<void> {
    return this.#call('changePriority', queue, ref, opts);
  }

  changeDelay(queue: string, ref: C.JobRef, delayMs: number): Promise<void> {
    return this.#call('changeDelay', queue, ref, delayMs);
  }

  updateData(queue: string, ref: C.JobRef, data: unknown): Promise<void> {
    let run: { low: number; high: number } | undefined;
    for (const claims of this.#claims.values()) run ??= claims.ticketOf(ref.queue ?? queue, ref.id);
    return this.#call('updateData', queue, ref, data, run);
  }

  updateProgress(queue: string, ref: C.JobRef, progress: unknown): Promise<void> {
    return this.#call('updateProgress', queue, ref, progress);
  }

  log(queue: string, ref: C.JobRef, line: string): Promise<number> {
    return this.#call('log', queue, ref, line);
  }

  retryFailed(queue: string, which: C.FailedSelection, opts: { withDependencies: boolean }): Promise<number> {
    return this.#call('retryFailed', queue, which, opts);
  }

  purgeFailed(queue: string, which: C.FailedSelection): Promise<number> {
    return this.#call('purgeFailed', queue, which);
  }

  getKeyHolder(queue: string, id: string): Promise<string | undefined> {
    return this.#call('getKeyHolder', queue, id);
  }

  releaseKey(queue: string, id: string): Promise<boolean> {
    return this.#call('releaseKey', queue, id);
  }

  moveToDlq(queue: string, ref: C.JobRef, reason: string): Promise<void> {
    return this.#call('moveToDlq', queue, ref, reason);
  }

  listFailed(queue: string, offset: number, count: number, filter?: C.CheckedFilter): Promise<C.JobSnapshot[]> {
    return this.#call('listFailed', queue, offset, count, filter);
  }

  pause(queue: string): Promise<void> {
    return this.#call('pause', queue);
  }

  resume(queue: string): Promise<void> {
    return this.#call('resume', queue);
  }

  hold(queue: string, ms: number): Promise<void> {
    return this.#call('hold', queue, ms);
  }

  isPaused(queue: string): Promise<boolean> {
    return this.#call('isPaused', queue);
  }

  drain(queue: string, opts: { delayed: boolean; blocked: boolean }): Promise<void> {
    return this.#call('drain', queue, opts);
  }

  obliterate(queue: string, opts: C.RemovalOptions): Promise<void> {
    return this.#call('obliterate', queue, opts);
  }

  configure(queue: string, config: C.QueueConfig): Promise<void> {
    return this.#call('configure', queue, config);
  }

  getConfig(queue: string): Promise<C.QueueConfig> {
    return this.#call('getConfig', queue);
  }

  breaker(key: string, action: C.BreakerAction | undefined): Promise<C.BreakerStatus | undefined> {
    return this.#call('breaker', key, action);
  }

  addCron(queue: string, spec: C.CronSpec): Promise<C.CronInfo> {
    return this.#call('addCron', queue, spec);
  }

  removeCron(queue: string, name: string): Promise<boolean> {
    return this.#call('removeCron', queue, name);
  }

  async listCrons(queue: string, opts: { all: boolean }): Promise<C.CronInfo[]> {
    const crons = await this.#call<C.CronInfo[]>('listCrons', queue, opts);
    return crons.map((cron) => ({ ...cron, next: cron.next, last: cron.last })); // undefined members don't cross
  }

  triggerCron(queue: string, name: string): Promise<C.JobSnapshot> {
    return this.#call('triggerCron', queue, name);
  }

  pauseCron(queue: string, name: string): Promise<void> {
    return this.#call('pauseCron', queue, name);
  }

  resumeCron(queue: string, name: string): Promise<void> {
    return this.#call('resumeCron', queue, name);
  }
}

/** Jobs are named, not sent. */
function withoutJobs(value: unknown): unknown {
  if (value instanceof JobIdentity) return { id: value.id, queue: value.queue };
  return Array.isArray(value) ? value.map(withoutJobs) : value;
}

function plainNode({ opts, ...node }: C.GraphItem): object {
  if (opts?.dependsOn === undefined) return { ...node, opts };
  return { ...node, opts: { ...opts, dependsOn: withoutJobs(opts.dependsOn) } };
}

function extrasOf(opts: JobOptions | undefined, timeout: number | undefined): SubmitExtras | undefined {
  const dependsOn = opts?.dependsOn;
  if (dependsOn === undefined && timeout === undefined) return undefined;
  return { ...(dependsOn === undefined ? {} : { dependsOn }), ...(timeout === undefined ? {} : { timeout }) };
}

/** What the engine found wrong with one of the items that reached it. */
interface Judged {
  readonly index: number;
  readonly error: SerialisedError;
}

/** The items that were refused here, and those that the engine would have refused, in their order. */
function withJudged(
  refused: readonly { index: number; error: Error }[],
  judged: readonly Judged[],
  count: number,
): { index: number; error: Error }[] {
  const here = new Set(refused.map(({ index }) => index));
  const sent = Array.from({ length: count }, (_, index) => index).filter((index) => !here.has(index));
  const there = judged.map(({ index, error }) => ({ index: sent[index] as number, error: deserialiseError(error) }));
  return [...refused, ...there].sort((a, b) => a.index - b.index);
}

/** The engine's answers, with those of the items that never reached it at their places. */
function withRefused(
  answers: C.AddAnswers,
  refused: readonly { index: number; error: Error }[],
  count: number,
  now: number,
): C.AddAnswer[] {
  const errors = new Map(refused.map(({ index, error }) => [index, error]));
  let next = 0;
  return Array.from({ length: count }, (_, index) => {
    const error = errors.get(index);
    if (error !== undefined) return { id: '', deduplicated: false, timestamp: now, error };
    const at = next++;
    if (!C.areNew(answers)) return answers[at] as C.AddAnswer;
    return { id: `j${answers.first + at}`, deduplicated: false, timestamp: answers.timestamp };
  });
}
