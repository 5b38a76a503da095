/** The `Connection` of an engine in its own process and on its own thread: every method is a call of a part of the engine. */
import type * as C from '../client/connection.js';
import { EngineClosedError } from '../client/errors.js';
import type { Slot } from './core/index.js';
import { admit } from './jobs/admission.js';
import * as control from './jobs/control.js';
import { keyHolder, releaseKey } from './jobs/deduplication.js';
import { awaitInRun, dependenciesOf, dependencyRecords } from './jobs/dependencies.js';
import * as dlq from './jobs/dlq.js';
import { explain } from './jobs/explain.js';
import { admitGraph } from './jobs/graphs.js';
import { interrupt } from './jobs/interrupt.js';
import * as listing from './jobs/listing.js';
import { visibleState } from './jobs/records.js';
import { mustResolve, visibleSlot } from './jobs/references.js';
import * as streams from './jobs/streams.js';
import { awaitAdded, awaitJobs } from './jobs/waiting.js';
import { LocalClaims, type LocalRuns } from './local-claims.js';
import { configureQueue, holdQueue, openBatches, pauseQueue } from './queue-control.js';
import type { QueueEntry } from './queues.js';
import { announce, type EngineState } from './state.js';
import { openThreadWorker } from './threads/thread-pool.js';

/** A loop that awaits one add after the other would never let the event loop turn: outcomes, timers and sockets would wait for its end. */
const TURN_JOBS = 2048;

export class InProcessConnection implements C.Connection {
  readonly attached = false;
  readonly description = 'the engine in this process';
  readonly state: EngineState;
  readonly #runs: LocalRuns;
  #added = 0;

  constructor(state: EngineState, runs: LocalRuns) {
    this.state = state;
    this.#runs = runs;
  }

  /** The queue, made on first use. */
  #queue(name: string): QueueEntry {
    if (this.state.closed) throw new EngineClosedError();
    return this.state.queues.open(name);
  }

  /** The same, to change something. */
  #writable(name: string): QueueEntry {
    const error = this.state.journal?.error;
    if (error !== undefined) throw error;
    return this.#queue(name);
  }

  /** Answers when what has been done so far is as durable as the engine promises. */
  #told<T>(answer: T): T | Promise<T> {
    const durable = this.state.journal?.barrier();
    return durable === undefined ? answer : durable.then(() => answer);
  }

  /** Answers when what has been done to these jobs is. */
  #toldOf<T>(slots: readonly Slot[], answer: T): T | Promise<T> {
    const { journal } = this.state;
    const isDurable = journal === undefined || slots.every((slot) => slot === 0 || journal.isDurable(slot));
    return isDurable ? answer : this.#told(answer);
  }

  durable(): Promise<void> | undefined {
    return this.state.journal?.barrier();
  }

  async add(queue: string, items: readonly C.AddItem[], opts: { atomic: boolean }): Promise<C.AddAnswers> {
    const answers = admit(this.state, this.#writable(queue), items, opts.atomic);
    const durable = this.state.journal?.barrier();
    if (durable !== undefined) {
      await durable;
      return answers;
    }
    this.#added += items.length;
    if (this.#added >= TURN_JOBS) {
      this.#added = 0;
      await new Promise((resolve) => setImmediate(resolve));
    }
    return answers;
  }

  async addGraph(items: readonly C.GraphItem[]): Promise<readonly C.AddAnswer[]> {
    for (const { queue } of items) this.#writable(queue);
    return this.#told(admitGraph(this.state, items));
  }

  /** Not `async`: that would be another promise, and three turns of the microtask queue, for every job. */
  addAndWait(queue: string, item: C.AddItem, opts: { timeout?: number | undefined }): Promise<unknown> {
    try {
      const answers = admit(this.state, this.#writable(queue), [item], false);
      return awaitAdded(this.state, queue, answers, opts.timeout);
    } catch (error) {
      return Promise.reject(error);
    }
  }

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
  async finished(
    queue: string,
    refs: readonly C.JobRef[],
    opts: { timeout?: number | undefined; settled?: boolean },
  ): Promise<unknown[]> {
    this.#queue(queue);
    return awaitJobs(this.state, queue, refs, opts.timeout, opts.settled === true);
  }

  async getJobs(queue: string, refs: readonly C.JobRef[]): Promise<(C.JobSnapshot | undefined)[]> {
    this.#queue(queue);
    const slots = refs.map((ref) => visibleSlot(this.state, queue, ref));
    return this.#toldOf(slots, control.getJobs(this.state, slots));
  }

  async listJobs(queue: string, query: C.JobQuery): Promise<C.JobPage> {
    return this.#told(listing.listJobs(this.state, this.#queue(queue), query));
  }

  async listState(queue: string, state: C.JobState, range: C.JobRange): Promise<C.JobSnapshot[]> {
    return this.#told(listing.listState(this.state, this.#queue(queue), state, range));
  }

  async clean(queue: string, graceMs: number, limit: number, state: C.JobState): Promise<string[]> {
    return this.#told(listing.clean(this.state, this.#writable(queue), graceMs, limit, state));
  }

  async getState(queue: string, ref: C.JobRef): Promise<C.JobStateOrUnknown> {
    this.#queue(queue);
    const slot = visibleSlot(this.state, queue, ref);
    return slot === 0 ? this.#told('unknown') : this.#toldOf([slot], visibleState(this.state, slot));
  }

  async getCounts(queue: string): Promise<C.JobCounts> {
    return this.#told(control.counts(this.state, this.#queue(queue)));
  }

  async getDependencies(queue: string, ref: C.JobRef): Promise<C.DependencyRecord[]> {
    this.#queue(queue);
    const slot = mustResolve(this.state, queue, ref);
    const slots = dependenciesOf(this.state, slot);
    const records = dependencyRecords(this.state, slot);
    return slots.length === 0 ? this.#told(records) : this.#toldOf(slots, records); // a finished job has only their names
  }

  async explain(queue: string, ref: C.JobRef): Promise<C.Explanation> {
    this.#queue(queue);
    return this.#told(explain(this.state, queue, ref));
  }

  async waitFor(queue: string, ref: C.JobRef, refs: readonly C.JobRef[]): Promise<boolean> {
    this.#writable(queue);
    return awaitInRun(this.state, queue, ref, refs) ? this.#told(true) : false; // what it waits for is told when it runs again
  }

  async getLogs(queue: string, ref: C.JobRef): Promise<string[]> {
    this.#queue(queue);
    return this.#told(control.getLogs(this.state, queue, ref));
  }

  async emit(queue: string, ref: C.JobRef, attempt: number, chunk: unknown): Promise<void> {
    this.#writable(queue);
    return streams.emit(this.state, queue, ref, attempt, chunk);
  }

  async openStream(queue: string, ref: C.JobRef): Promise<number> {
    this.#queue(queue);
    return streams.openStream(this.state, queue, ref);
  }

  readStream(_queue: string, reader: number): Promise<C.StreamBatch> {
    const batch = this.state.streams.read(reader);
    this.state.keepAlive.hold(batch);
    return batch;
  }

  async closeStream(_queue: string, reader: number): Promise<void> {
    this.state.streams.close(reader);
  }

  async cancel(
    queue: string,
    ref: C.JobRef,
    reason: string | undefined,
  ): Promise<'cancelled' | 'aborting' | 'finished'> {
    this.#writable(queue);
    return this.#told(control.cancel(this.state, queue, ref, reason));
  }

  async interrupt(queue: string, ref: C.JobRef, reason: string): Promise<boolean> {
    this.#writable(queue);
    return this.#told(interrupt(this.state, queue, ref, reason));
  }

  async remove(queue: string, ref: C.JobRef): Promise<boolean> {
    this.#writable(queue);
    return this.#told(control.remove(this.state, queue, ref));
  }

  async promote(queue: string, ref: C.JobRef): Promise<void> {
    this.#writable(queue);
    return this.#told(control.promote(this.state, queue, ref));
  }

  async changePriority(queue: string, ref: C.JobRef, opts: { priority: number; lifo?: boolean }): Promise<void> {
    const entry = this.#writable(queue);
    control.changePriority(this.state, queue, ref, opts.priority, opts.lifo === true);
    announce(this.state, entry, 1);
    return this.#told(undefined);
  }

  async changeDelay(queue: string, ref: C.JobRef, delayMs: number): Promise<void> {
    this.#writable(queue);
    return this.#told(control.changeDelay(this.state, queue, ref, delayMs));
  }

  async updateData(queue: string, ref: C.JobRef, data: unknown): Promise<void> {
    const entry = this.#writable(queue);
    control.updateData(this.state, queue, ref, data);
    announce(this.state, entry, 1);
    return this.#told(undefined);
  }

  async updateProgress(queue: string, ref: C.JobRef, progress: unknown): Promise<void> {
    this.#writable(queue);
    return this.#told(control.updateProgress(this.state, queue, ref, progress));
  }

  async log(queue: string, ref: C.JobRef, line: string): Promise<number> {
    this.#writable(queue);
    return this.#told(control.addLog(this.state, queue, ref, line));
  }

  async retryFailed(queue: string, which: C.FailedSelection, opts: { withDependencies: boolean }): Promise<number> {
    return this.#told(dlq.retryFailed(this.state, this.#writable(queue), which, opts.withDependencies));
  }

  async purgeFailed(queue: string, which: C.FailedSelection): Promise<number> {
    return this.#told(dlq.purgeFailed(this.state, this.#writable(queue), which));
  }

  async listFailed(queue: string, offset: number, count: number, filter?: C.CheckedFilter): Promise<C.JobSnapshot[]> {
    return this.#told(dlq.listFailed(this.state, this.#queue(queue), offset, count, filter));
  }

  async getKeyHolder(queue: string, id: string): Promise<string | undefined> {
    return this.#told(keyHolder(this.state, this.#queue(queue), id));
  }

  async releaseKey(queue: string, id: string): Promise<boolean> {
    return this.#told(releaseKey(this.state, this.#writable(queue), id));
  }

  async moveToDlq(queue: string, ref: C.JobRef, reason: string): Promise<void> {
    this.#writable(queue);
    return this.#told(dlq.moveToDlq(this.state, queue, ref, reason));
  }

  async pause(queue: string): Promise<void> {
    await pauseQueue(this.state, this.#writable(queue));
    return this.#told(undefined);
  }

  async resume(queue: string): Promise<void> {
    return this.#told(control.setPaused(this.state, this.#writable(queue), false));
  }

  async hold(queue: string, ms: number): Promise<void> {
    holdQueue(this.state, this.#queue(queue), ms);
  }

  async isPaused(queue: string): Promise<boolean> {
    return this.#told(this.#queue(queue).paused);
  }

  async drain(queue: string, opts: { delayed: boolean; blocked: boolean }): Promise<void> {
    return this.#told(control.drain(this.state, this.#writable(queue), opts));
  }

  async obliterate(queue: string, opts: C.RemovalOptions): Promise<void> {
    const entry = this.#writable(queue);
    let paused = entry.paused;
    await pauseQueue(this.state, entry);
    try {
      control.obliterate(this.state, entry, opts.force === true);
      this.state.crons.removeOf(queue);
      paused = false; // with its other settings
    } finally {
      control.setPaused(this.state, entry, paused);
    }
    return this.#told(undefined);
  }

  async configure(queue: string, config: C.QueueConfig): Promise<void> {
    await configureQueue(this.state, this.#writable(queue), config);
    return this.#told(undefined);
  }

  async getConfig(queue: string): Promise<C.QueueConfig> {
    return this.#told({ ...this.#queue(queue).config });
  }

  async breaker(key: string, action: C.BreakerAction | undefined): Promise<C.BreakerStatus | undefined> {
    if (this.state.closed) throw new EngineClosedError();
    const breaker = this.state.breakers.find(key);
    if (action === 'open') breaker?.open();
    else if (action === 'close') breaker?.close();
    else if (action === 'reset') breaker?.reset();
    return breaker?.status();
  }

  async addCron(_queue: string, spec: C.CronSpec): Promise<C.CronInfo> {
    this.#writable(spec.queue);
    return this.#told(this.state.crons.add(spec));
  }

  async removeCron(queue: string, name: string): Promise<boolean> {
    this.#writable(queue);
    return this.#told(this.state.crons.remove(name));
  }

  async listCrons(queue: string, { all }: { all: boolean }): Promise<C.CronInfo[]> {
    return this.#told(this.state.crons.list(all ? undefined : this.#queue(queue).name));
  }

  async triggerCron(queue: string, name: string): Promise<C.JobSnapshot> {
    this.#writable(queue);
    return this.#told(this.state.crons.trigger(name));
  }

  async pauseCron(queue: string, name: string): Promise<void> {
    this.#writable(queue);
    return this.#told(this.state.crons.setPaused(name, true));
  }

  async resumeCron(queue: string, name: string): Promise<void> {
    this.#writable(queue);
    return this.#told(this.state.crons.setPaused(name, false));
  }

  async subscribe(
    queue: string,
    after: string | undefined,
    listener: (event: C.QueueEvent) => void,
  ): Promise<C.EventSubscription> {
    if (this.state.closed) throw new EngineClosedError();
    const subscription = this.state.events.subscribe(queue, after, listener);
    this.state.queues.setReportStarts(true);
    return subscription;
  }

  async openClaims(queue: string, opts: C.ClaimOptions, sink: C.ClaimSink): Promise<C.ClaimSource> {
    const entry = this.#queue(queue);
    const claims = new LocalClaims(this.state, entry, this.#runs, opts, sink);
    if (opts.batch !== undefined) await openBatches(this.state, entry, claims, opts.batch);
    return claims;
  }

  async openThreads(spec: C.ThreadWorkerSpec): Promise<C.ThreadWorkerLink> {
    this.#queue(spec.queue);
    return openThreadWorker(this.state, this, spec);
  }

  adopt(worker: C.ClosableWorker): () => void {
    this.state.workers.add(worker);
    return () => this.state.workers.delete(worker);
  }

  now(): number {
    return this.state.clock.now();
  }

  random(): number {
    return this.state.random();
  }
}
