/**
 * Crons. The clock fires them, and not the job before: one timer for the next tick of all. A tick makes one job, under the id
 * `cron:<name>:<time>`, and moves its cron on to the next tick in the same turn of the event loop, which is the same group of the log: so a
 * tick is one job, and none is lost, wherever the process ends (`test/durable/crons.test.ts` ends it at every append).
 *
 * A cron is two entries: what it does, written when that changes, and how far it is, written at every tick.
 */
import { isDeepStrictEqual } from 'node:util';
import type { AddAnswer, CronInfo, CronSpec, JobRef, JobSnapshot } from '../../client/connection.js';
import { EngineFullError, JobRemovedError, ValidationError } from '../../client/errors.js';
import type { JobOptions } from '../../client/options.js';
import { decodePayload, encodePayload } from '../../client/payload.js';
import { L, type Slot } from '../core/index.js';
import { admit } from '../jobs/admission.js';
import { cancel } from '../jobs/control.js';
import { snapshot } from '../jobs/records.js';
import { resolve } from '../jobs/references.js';
import { type EngineState, tellQueue } from '../state.js';
import { DueHeap } from './due-heap.js';
import { type Ticks, ticksOf } from './ticks.js';

const SPECS = 'cron';
const RUNS = 'cron:run';
/** Ticks handled in one go before the event loop gets a turn: some 5 ms. */
const BATCH = 256;
/** A tick that is later than this has been missed, and so has one that is followed by another that is due. */
const LATE_MS = 60_000;
/** In full memory a tick is tried again after this time. */
const FULL_MS = 1000;

/** How far a cron is. */
interface CronRun {
  /** Jobs that its ticks have made. */
  runs: number;
  /** The tick to come, or that is due; undefined when it is over. */
  next?: number;
  last?: number;
  isPaused?: boolean;
  /** Jobs that had not finished when its last tick came. */
  open?: JobRef[];
}

/** Ticks that are due at a time. */
interface Due {
  readonly ticks: readonly number[];
  /** The last of them is on time. */
  readonly isOnTime: boolean;
  /** Each of many, as `missed: 'all'` has it: then they don't overlap each other, or what is left of those before. */
  readonly isEach: boolean;
}

export class Crons {
  readonly #stateOf: () => EngineState;
  readonly #due = new DueHeap();
  readonly #ticks = new Map<string, Ticks>();
  #at = Number.POSITIVE_INFINITY;
  #cancel: (() => void) | undefined;
  #isFull = false;

  constructor(stateOf: () => EngineState) {
    this.#stateOf = stateOf;
  }

  get #state(): EngineState {
    return this.#stateOf();
  }

  /** Whole milliseconds: times of ticks are. */
  #now(): number {
    return Math.floor(this.#state.clock.now());
  }

  // ---- what users do ------------------------------------------------------------------------------------------------------------

  /** @throws ValidationError for a schedule or zone that can't be read, and for data that can't be kept. */
  add(given: CronSpec): CronInfo {
    const { entries } = this.#state;
    const ticks = ticksOf(given);
    this.#checkJob(given);
    const spec = decodePayload(new Uint8Array(encodePayload(given))) as CronSpec; // what the caller does to its data later is its own affair
    const { name } = spec;
    const before = entries.get<CronSpec>(SPECS, name);
    if (before !== undefined && isDeepStrictEqual(before, spec)) return this.#info(before);
    const now = this.#now();
    const run: CronRun = before === undefined ? { runs: 0 } : this.#run(name);
    this.#ticks.set(name, ticks);
    entries.put(SPECS, name, spec);
    this.#schedule(spec, run, now);
    if (spec.immediately && run.isPaused !== true && this.#isGoingOn(spec, run))
      this.#make(spec, run, now, false, true);
    if (!this.#isGoingOn(spec, run)) this.#end(name, run);
    entries.put(RUNS, name, run);
    this.#arm();
    tellQueue(this.#state, spec.queue, before === undefined ? 'cron:added' : 'cron:changed', { name, next: run.next });
    return this.#info(spec);
  }

  remove(name: string): boolean {
    const { entries } = this.#state;
    const spec = entries.get<CronSpec>(SPECS, name);
    if (spec === undefined) return false;
    entries.delete(SPECS, name);
    entries.delete(RUNS, name);
    this.#ticks.delete(name);
    this.#due.set(name, undefined);
    tellQueue(this.#state, spec.queue, 'cron:removed', { name });
    return true;
  }

  /** Those whose jobs go to that queue. */
  removeOf(queue: string): void {
    const names = [...this.#state.entries.all<CronSpec>(SPECS)].filter(([, spec]) => spec.queue === queue);
    for (const [name] of names) this.remove(name);
  }

  /** Those whose jobs go to that queue, or all; in the order in which they were added first. */
  list(queue: string | undefined): CronInfo[] {
    const found: CronInfo[] = [];
    for (const [, spec] of this.#state.entries.all<CronSpec>(SPECS))
      if (queue === undefined || spec.queue === queue) found.push(this.#info(spec));
    return found;
  }

  /** One job now, which is no tick: it has an id of its own, and counts for no limit; but the next tick may overlap it. */
  trigger(name: string): JobSnapshot {
    const spec = this.#mustBe(name);
    const run = this.#run(name);
    const answer = this.#admit(spec, { ...spec.opts, cron: { scheduledFor: this.#now(), backfilled: false } });
    if (answer.error !== undefined) throw answer.error;
    const slot = this.#slotOf({ id: answer.id, queue: spec.queue });
    if (slot === 0) throw new JobRemovedError({ queue: spec.queue, jobId: answer.id }); // its deduplication key outlives it
    this.#keepOpen(spec, run, answer.id);
    this.#state.entries.put(RUNS, name, run);
    return { ...snapshot(this.#state, slot), deduplicated: answer.deduplicated };
  }

  /** What passes meanwhile is not missed. */
  setPaused(name: string, isPaused: boolean): void {
    const spec = this.#mustBe(name);
    const run = this.#run(name);
    if ((run.isPaused === true) === isPaused) return;
    if (isPaused) run.isPaused = true;
    else delete run.isPaused;
    this.#schedule(spec, run, this.#now());
    if (!this.#isGoingOn(spec, run)) this.#end(name, run);
    this.#state.entries.put(RUNS, name, run);
    this.#arm();
    tellQueue(this.#state, spec.queue, isPaused ? 'cron:paused' : 'cron:resumed', { name });
  }

  #mustBe(name: string): CronSpec {
    const spec = this.#state.entries.get<CronSpec>(SPECS, name);
    if (spec !== undefined) return spec;
    throw new ValidationError(
      `There is no cron named ${JSON.stringify(name)}. listCrons({all: true}) tells those there are.`,
      {
        path: 'name',
      },
    );
  }

  /** A copy: it counts when it is put. */
  #run(name: string): CronRun {
    return { ...(this.#state.entries.get<CronRun>(RUNS, name) ?? { runs: 0 }) };
  }

  #info(spec: CronSpec): CronInfo {
    const run = this.#run(spec.name);
    const { last, runs, isPaused = false } = run;
    return { ...spec, paused: isPaused, next: isPaused ? undefined : run.next, last, runs };
  }

  /** That its jobs can be kept. */
  #checkJob({ jobName, data, opts }: CronSpec): void {
    const { core, payloads, limits } = this.#state;
    const block = payloads.encodeJob({ name: jobName, customId: '', opts, data });
    if (block === 0) throw new EngineFullError({ limitBytes: limits.memoryBytes });
    core.wasm.blockFree(block);
  }

  // ---- the clock ----------------------------------------------------------------------------------------------------------------

  /** After replay, before anything runs: what was due while the engine was down has been missed. */
  open(): void {
    const now = this.#now();
    for (const [name, spec] of this.#state.entries.all<CronSpec>(SPECS)) {
      const run = this.#run(name);
      if (run.isPaused === true || run.next === undefined) continue;
      if (run.next <= now) this.#fire(spec, run, now, true);
      else this.#due.set(name, run.next);
    }
    this.#arm();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#at = Number.NEGATIVE_INFINITY;
  }

  #arm(): void {
    const next = this.#due.next;
    if (next === undefined || next >= this.#at) return;
    this.#cancel?.();
    this.#at = next;
    const { clock } = this.#state;
    this.#cancel = clock.setTimer(() => this.#ring(), Math.max(0, Math.ceil(next - clock.now())));
  }

  #ring(): void {
    this.#at = Number.POSITIVE_INFINITY;
    this.#cancel = undefined;
    if (this.#state.closed || this.#state.journal?.error !== undefined) return;
    const now = this.#now();
    for (let count = 0; count < BATCH; count++) {
      const name = this.#due.pop(now);
      if (name === undefined) break;
      this.#fire(this.#mustBe(name), this.#run(name), now, false);
    }
    this.#arm();
  }

  /** The first tick from now on. */
  #schedule(spec: CronSpec, run: CronRun, now: number): void {
    this.#advance(spec, run, run.isPaused === true ? undefined : this.#ticksOf(spec).after(now));
  }

  #advance({ name }: CronSpec, run: CronRun, next: number | undefined): void {
    if (next === undefined) delete run.next;
    else run.next = next;
    this.#due.set(name, next);
  }

  #isGoingOn({ limit }: CronSpec, { runs }: CronRun): boolean {
    return limit === undefined || runs < limit;
  }

  #end(name: string, run: CronRun): void {
    delete run.next;
    this.#due.set(name, undefined);
  }

  #ticksOf(spec: CronSpec): Ticks {
    const known = this.#ticks.get(spec.name);
    if (known !== undefined) return known;
    const ticks = ticksOf(spec);
    this.#ticks.set(spec.name, ticks);
    return ticks;
  }

  // ---- ticks --------------------------------------------------------------------------------------------------------------------

  /** Makes the jobs of what is due, and moves the cron on. */
  #fire(spec: CronSpec, run: CronRun, now: number, wasDown: boolean): void {
    const { ticks, isOnTime, isEach } = this.#dueOf(spec, run.next as number, now, wasDown);
    let retryAt: number | undefined;
    for (const [index, tick] of ticks.entries()) {
      if (!this.#isGoingOn(spec, run)) break;
      const isBackfilled = !(isOnTime && index === ticks.length - 1);
      if (this.#make(spec, run, tick, isBackfilled, !isEach)) continue;
      run.next = tick;
      retryAt = now + FULL_MS;
      break;
    }
    if (retryAt !== undefined) this.#due.set(spec.name, retryAt);
    else if (this.#isGoingOn(spec, run)) this.#advance(spec, run, this.#ticksOf(spec).after(now));
    else this.#end(spec.name, run);
    this.#state.entries.put(RUNS, spec.name, run);
  }

  /** Which ticks, of those from `first` to now, get a job. */
  #dueOf(spec: CronSpec, first: number, now: number, wasDown: boolean): Due {
    const ticks = this.#ticksOf(spec);
    const second = ticks.after(first);
    const isOne = second === undefined || second > now;
    if (isOne && !wasDown && now - first <= LATE_MS) return { ticks: [first], isOnTime: true, isEach: false };
    const { missed, missedMax } = spec;
    const kept = isOne ? { ticks: [first], isAll: true } : ticks.last(first, now, missed === 'all' ? missedMax + 1 : 2);
    const isOnTime = !wasDown && now - (kept.ticks.at(-1) as number) <= LATE_MS;
    const made = missed === 'all' ? missedMax + (isOnTime ? 1 : 0) : missed === 'once' || isOnTime ? 1 : 0;
    const due = made === 0 ? [] : kept.ticks.slice(-made);
    // `once` makes one job for all of them.
    if (missed !== 'once' && (!kept.isAll || due.length < kept.ticks.length)) this.#tellSkipped(spec, first, 'missed');
    return { ticks: due, isOnTime, isEach: missed === 'all' };
  }

  #tellSkipped({ name, queue }: CronSpec, scheduledFor: number, reason: 'missed' | 'overlap'): void {
    tellQueue(this.#state, queue, 'cron:skipped', { name, scheduledFor, reason });
  }

  /** The job of one tick, unless it overlaps. False when memory is full. */
  #make(spec: CronSpec, run: CronRun, tick: number, backfilled: boolean, minds: boolean): boolean {
    const open = this.#stillOpen(run);
    if (minds && open.length > 0 && this.#skips(spec, open)) {
      this.#tellSkipped(spec, tick, 'overlap');
      return true;
    }
    const opts: JobOptions = {
      idempotencyTtl: 0, // the cron itself remembers which tick was the last
      ...spec.opts,
      ...(minds && spec.overlap === 'buffer' && open.length > 0 ? behind(open) : {}),
      jobId: `cron:${spec.name}:${tick}`,
      cron: { scheduledFor: tick, backfilled },
    };
    const { error, id, deduplicated } = this.#admit(spec, opts);
    if (error !== undefined) return this.#refused(spec, error);
    this.#isFull = false;
    if (minds && spec.overlap === 'cancel') this.#cancelOpen(spec, open, id);
    if (!deduplicated) run.runs++;
    run.last = tick;
    this.#keepOpen(spec, run, id);
    return true;
  }

  /** But for the job that a deduplication key gave this tick; and one may have made way for it, or ended with another. */
  #cancelOpen({ name, queue }: CronSpec, open: readonly JobRef[], given: string): void {
    for (const ref of open)
      if (ref.id !== given && this.#isOpen(ref))
        cancel(this.#state, queue, ref, `The cron ${JSON.stringify(name)} was due again`);
  }

  #skips({ overlap }: CronSpec, open: readonly JobRef[]): boolean {
    if (overlap === 'skip') return true;
    return overlap === 'buffer' && open.some((ref) => this.#state.core.state(this.#slotOf(ref)) === L.STATE_BLOCKED);
  }

  /** Memory may be free later; a job that is refused for itself would always be. */
  #refused({ name, queue }: CronSpec, error: Error): boolean {
    const isFull = error instanceof EngineFullError;
    const then = isFull ? 'It is tried again until there is memory.' : 'The tick is skipped.';
    if (!isFull || !this.#isFull)
      this.#state.warn(
        `The cron ${JSON.stringify(name)} could not add its job to ${JSON.stringify(queue)}: ${error.message} ${then}`,
        'FLASHQ_CRON_REFUSED',
      );
    this.#isFull = isFull;
    return !isFull;
  }

  #admit({ queue, jobName, data }: CronSpec, opts: JobOptions): AddAnswer {
    const entry = this.#state.queues.open(queue);
    const answers = admit(this.#state, entry, [{ name: jobName, data, opts }], false);
    if (!('first' in answers)) return answers[0] as AddAnswer;
    return { id: `j${answers.first}`, deduplicated: false, timestamp: answers.timestamp };
  }

  #keepOpen({ queue, overlap }: CronSpec, run: CronRun, id: string): void {
    if (overlap === 'allow') delete run.open;
    else run.open = [...this.#stillOpen(run).filter((ref) => ref.id !== id), { id, queue }];
  }

  #stillOpen({ open = [] }: CronRun): JobRef[] {
    return open.filter((ref) => this.#isOpen(ref));
  }

  #isOpen(ref: JobRef): boolean {
    const slot = this.#slotOf(ref);
    return slot !== 0 && this.#state.core.state(slot) < L.STATE_COMPLETED;
  }

  #slotOf(ref: JobRef): Slot {
    return resolve(this.#state, ref.queue as string, ref).slot;
  }
}

/** Runs when those before have ended, however they do. */
function behind(open: readonly JobRef[]): JobOptions {
  return { dependsOn: open, onDependencyFailure: 'run' };
}
