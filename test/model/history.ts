/** Plays a history to the engine and to the model, and compares what can be seen of them after every step. */
import { isDeepStrictEqual } from 'node:util';
import {
  type AddOptions,
  type BulkError,
  DelayedError,
  type Job,
  type JobState,
  type Queue,
  RateLimitError,
  TestClock,
  UnrecoverableError,
} from 'flashq';
import { expect } from 'vitest';
import { MemoryStore } from '#engine/store/memory-store.js';
import { type Hand, watch } from '../conformance/kit.js';
import {
  Ambiguous,
  type ModelAnswer,
  type ModelItem,
  type ModelJob,
  type ModelOutcome,
  type ModelWait,
  Refused,
  SOME_MESSAGE,
  type Told,
} from './job-model.js';
import { QueueModel } from './queue-model.js';
import { type Durable, Session } from './session.js';
import type { DurableStep, Ref, Spec, Step } from './steps.js';

const STATES: readonly JobState[] = ['waiting', 'delayed', 'blocked', 'active', 'completed', 'failed', 'cancelled'];
/** More steps than any history needs to come to its end. */
const ENDING_STEPS_MAX = 2000;

type Watched = ReturnType<typeof watch>;

export class History {
  readonly #durable: Durable | undefined;
  readonly #model: QueueModel;
  /** What has been done, for people. */
  readonly #told: string[] = [];
  #waits: { readonly model: ModelWait; readonly real: Watched; readonly isOne: boolean }[] = [];
  #session!: Session;
  #data = 0;

  /** Without `durable`: of an engine in memory. */
  constructor(durable?: Omit<Durable, 'store'>) {
    this.#durable = durable && { ...durable, store: new MemoryStore() };
    this.#model = new QueueModel(new TestClock().now(), durable?.mode === 'commit');
  }

  get #clock(): TestClock {
    return this.#session.clock;
  }

  get #queue(): Queue {
    return this.#session.queue;
  }

  get #hand(): Hand {
    return this.#session.hand;
  }

  /** Resolves with false when nothing can be said any more about which of two things comes first. */
  async play(steps: readonly DurableStep[]): Promise<boolean> {
    this.#session = await Session.open(new TestClock(), this.#durable);
    try {
      for (const step of steps) await this.#step(step);
      await this.#finish();
      return true;
    } catch (error) {
      if (error instanceof Ambiguous) return false;
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`${message}\n\nAfter:\n${this.#told.join('\n')}\n`, { cause: error });
    } finally {
      await this.#session.close();
    }
  }

  /** Everything that can come to an end does. */
  async #finish(): Promise<void> {
    await this.#step({ do: 'resume' });
    for (let i = 0; i < ENDING_STEPS_MAX; i++) {
      const [due] = this.#model.in('delayed').sort((a, b) => a.due - b.due);
      if (this.#model.run !== undefined) await this.#step({ do: 'settle', outcome: { kind: 'complete', value: i } });
      else if (due === undefined) break;
      else await this.#step({ do: 'advance', ms: due.due - this.#model.now });
    }
    for (const state of ['waiting', 'delayed', 'active'] as const) expect(this.#model.in(state)).toEqual([]);
    // Nothing hangs, but for those that wait for what may yet be retried.
    for (const job of this.#model.in('blocked')) expect(waitsForFailed(job)).toBe(true);
  }

  // ---- one step ---------------------------------------------------------------------------------------------------------------

  async #step(step: DurableStep): Promise<void> {
    if (step.do === 'settle' && this.#model.run === undefined) return;
    this.#told.push(`  ${this.#told.length + 1}. ${describe(step, (ref) => this.#id(ref))}`);
    if (step.do === 'configure') await this.#configure(step.max);
    else if (step.do === 'reopen') await this.#reopen(step.downMs);
    else if (step.do === 'crash') await this.#crash(step);
    else await this.#do(step);
    await this.#session.settle();
    await this.#compare();
  }

  // ---- what lasts -------------------------------------------------------------------------------------------------------------

  async #configure(max: number): Promise<void> {
    this.#model.rateMax = max;
    await this.#queue.setRateLimit({ max, duration: 1000 });
  }

  async #reopen(downMs: number): Promise<void> {
    const now = this.#clock.now();
    this.#model.reopen(downMs);
    await this.#session.close();
    await this.#clock.advance(0);
    for (const { model, real, isOne } of this.#waits) {
      if (model.over === undefined) equal(real.error?.name, 'EngineClosedError');
      else compareWait(model, real, isOne);
    }
    this.#waits = [];
    const before = this.#session.engine.state.journal?.ledger.liveBytes;
    this.#session = await Session.open(new TestClock(now + downMs), this.#durable);
    if (downMs === 0) equal(this.#session.liveBytes, before); // counted from the start, it is what all changes have made it
  }

  /** What is under way has not been told to anybody, and never is. */
  async #crash({ downMs, during }: Extract<DurableStep, { do: 'crash' }>): Promise<void> {
    const old = this.#session;
    await old.flush();
    let added: Watched | undefined;
    if (during === 'add') added = watch(old.queue.add('never', 0));
    else if (during === 'settle') old.hand.started.at(-1)?.complete(9);
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    this.#model.crash(downMs);
    // The log is another's before this gives the event loop a turn.
    this.#session = await Session.open(new TestClock(old.clock.now() + downMs), this.#durable);
    await old.abandon();
    await old.clock.advance(0);
    if (added !== undefined && this.#durable?.mode === 'commit') expect(added.error?.name).toBe('StoreError');
    const isTold = this.#durable?.mode === 'relaxed'; // from memory, though it never becomes durable
    for (const { model, real, isOne } of this.#waits) {
      if (model.over !== undefined) compareWait(model, real, isOne);
      else if (!isTold) expect(['EngineClosedError', 'StoreError']).toContain(real.error?.name);
    }
    this.#waits = [];
  }

  // ---- what is done to jobs and to the queue ------------------------------------------------------------------------------------

  async #do(step: Step): Promise<void> {
    const queue = this.#queue;
    const model = this.#model;
    switch (step.do) {
      case 'add':
        return this.#add(step.job);
      case 'addBulk':
        return this.#addBulk(step.jobs, step.atomic);
      case 'addAndWait':
        return this.#addAndWait(step.job, step.timeout);
      case 'settle':
        return this.#settle(step.outcome);
      case 'pause':
        model.setPaused(true);
        return queue.pause();
      case 'resume':
        model.setPaused(false);
        return queue.resume();
      case 'finished':
        return this.#finished(step.jobs, step.timeout, step.settled);
      case 'advance':
        model.advance(step.ms);
        return this.#clock.advance(step.ms);
      case 'retryDlq': {
        const ids = step.jobs === 'all' ? step.jobs : step.jobs.map((ref) => this.#id(ref));
        const { withDependencies } = step;
        return same(() => model.retryDlq(ids, withDependencies), queue.retryDlq(ids, { withDependencies }));
      }
      case 'purgeDlq': {
        const ids = step.jobs === 'all' ? step.jobs : step.jobs.map((ref) => this.#id(ref));
        return same(() => model.purgeDlq(ids), queue.purgeDlq(ids));
      }
      case 'drain': {
        const { delayed, blocked } = step;
        const states: JobState[] = ['waiting', ...(delayed ? (['delayed'] as const) : [])];
        model.drain(blocked ? [...states, 'blocked'] : states);
        return queue.drain({ delayed, blocked });
      }
      case 'obliterate':
        return same(() => model.obliterate(step.force), queue.obliterate({ force: step.force }));
      default:
        return this.#change(step, this.#id(step.job));
    }
  }

  #change(step: Extract<Step, { job: Ref }>, id: string): Promise<void> {
    const queue = this.#queue;
    const model = this.#model;
    switch (step.do) {
      case 'cancel':
        return same(() => model.cancel(id), queue.cancel(id));
      case 'remove':
        return same(() => model.remove(id), queue.remove(id));
      case 'promote':
        return same(() => model.promote(id), queue.promote(id));
      case 'changePriority': {
        const { priority, lifo } = step;
        return same(() => model.changePriority(id, priority, lifo), queue.changePriority(id, { priority, lifo }));
      }
      case 'changeDelay':
        return same(() => model.changeDelay(id, step.delay), queue.changeDelay(id, step.delay));
      case 'updateData': {
        const data = ++this.#data;
        return same(() => model.updateData(id, data), queue.updateData(id, data));
      }
      case 'moveToDlq':
        return same(() => model.moveToDlq(id, step.message), queue.moveToDlq(id, step.message));
    }
  }

  /** An id that the reference means now; `x9` while there is no job. */
  #id(ref: Ref): string {
    if ('named' in ref) return ref.named;
    const { jobs } = this.#model;
    return jobs.length === 0 ? 'x9' : (jobs[ref.nth % jobs.length] as ModelJob).id;
  }

  #item({ opts, needs }: Spec): ModelItem {
    return { data: ++this.#data, opts, needs: needs.map((ref) => this.#id(ref)) };
  }

  async #add(spec: Spec): Promise<void> {
    const item = this.#item(spec);
    const [wanted] = this.#model.add([item], false) as [ModelAnswer];
    const got = await this.#queue.add('job', item.data, optionsOf(item)).catch((error: Error) => error.name);
    compareAdded(wanted, got);
  }

  async #addBulk(specs: readonly Spec[], atomic: boolean): Promise<void> {
    const items = specs.map((spec) => this.#item(spec));
    const wanted = this.#model.add(items, atomic);
    const bulk = items.map((item) => ({ name: 'job', data: item.data, opts: optionsOf(item) }));
    if (atomic) {
      const errors = wanted.filter((one) => 'error' in one && one.error !== 'BulkError').length;
      const got: Job[] | BulkError = await this.#queue.addBulk(bulk).catch((error: BulkError) => error);
      if (!Array.isArray(got)) {
        const refused = wanted.map((one) => ('error' in one ? one.error : 'nothing'));
        for (const { index, error } of got.errors) expect(error.name).toBe(refused[index]);
        expect(got.errors).toHaveLength(errors);
        return;
      }
      expect(errors).toBe(0);
      for (const [index, job] of got.entries()) compareAdded(wanted[index] as ModelAnswer, job);
      return;
    }
    const got = await this.#queue.addBulk(bulk, { atomic: false });
    expect(got).toHaveLength(wanted.length);
    for (const [index, one] of got.entries())
      compareAdded(wanted[index] as ModelAnswer, one.ok ? one.job : one.error.name);
  }

  /** Only with a `jobId`: otherwise nobody would know which job it is. */
  async #addAndWait(spec: Spec, timeout: number | undefined): Promise<void> {
    const jobId = spec.opts.jobId ?? 'x0';
    const item = this.#item({ ...spec, opts: { ...spec.opts, jobId } });
    const [wanted] = this.#model.add([item], false) as [ModelAnswer];
    const real = watch(
      this.#queue.addAndWait('job', item.data, optionsOf(item), timeout === undefined ? {} : { timeout }),
    );
    if (!('error' in wanted)) {
      this.#waits.push({ model: this.#model.wait([jobId], timeout, false), real, isOne: true });
      return;
    }
    await this.#clock.advance(0);
    expect(real.error?.name).toBe(wanted.error);
  }

  #finished(refs: readonly Ref[], timeout: number | undefined, settled: boolean): void {
    const ids = refs.map((ref) => this.#id(ref));
    const opts = timeout === undefined ? {} : { timeout };
    const isOne = ids.length === 1 && !settled;
    const real = watch(
      isOne
        ? this.#queue.finished(ids[0] as string, opts)
        : settled
          ? this.#queue.finished(ids, { ...opts, settled })
          : this.#queue.finished(ids, opts),
    );
    this.#waits.push({ model: this.#model.wait(ids, timeout, settled), real, isOne });
  }

  #settle(outcome: ModelOutcome): void {
    const run = this.#hand.started.at(-1);
    this.#model.settle(outcome);
    if (outcome.kind === 'complete') run?.complete(outcome.value);
    else run?.fail(errorOf(outcome));
  }

  // ---- comparing --------------------------------------------------------------------------------------------------------------

  async #compare(): Promise<void> {
    const queue = this.#queue;
    const model = this.#model;
    equal(
      this.#hand.started.map((run) => run.job.id),
      model.started.map((job) => job.id),
    );
    const counts = Object.fromEntries(
      STATES.map((state) => [state, state === 'active' ? model.active : model.in(state).length]),
    );
    equal<object>(await queue.getJobCounts(), { ...counts, paused: model.paused ? counts.waiting : 0 });
    equal(await queue.isPaused(), model.paused);
    equal((await queue.getConfig()).rateLimit?.max, model.rateMax);
    const failed = await queue.getDlq();
    equal(failed.map(whenAndWhich).sort(), model.in('failed').map(whenAndWhich).sort());
    // The newest first; which of several of one moment is the newest isn't said.
    const times = failed.map((job) => job.finishedOn as number);
    equal(
      times,
      [...times].sort((a, b) => b - a),
    );
    for (const job of model.jobs) await this.#compareJob(job);
    for (const { model: wanted, real, isOne } of this.#waits) compareWait(wanted, real, isOne);
  }

  async #compareJob(wanted: ModelJob): Promise<void> {
    if (!wanted.isVisible) {
      if (this.#model.find(wanted.id) !== wanted && wanted.opts.jobId !== undefined) return; // its id may be another's
      equal(await this.#queue.getJobState(wanted.id), 'unknown');
      expect(await this.#queue.getJob(wanted.id)).toBeUndefined();
      return;
    }
    const job = await this.#queue.getJob(wanted.id);
    const { id, data, priority, attemptsMade, attemptsStarted, returnvalue, finishedOn, failedReason } = job ?? {};
    const state = await this.#queue.getJobState(wanted.id);
    const isSome = wanted.failedReason === SOME_MESSAGE && typeof failedReason === 'string';
    equal(
      {
        id,
        state,
        data,
        priority,
        attemptsMade,
        attemptsStarted,
        finishedOn,
        returnvalue,
        failedReason,
        why: job?.dlq?.reason,
      },
      {
        id: wanted.id,
        state: wanted.state,
        data: wanted.data,
        priority: wanted.priority,
        attemptsMade: wanted.attemptsMade,
        attemptsStarted: wanted.attemptsStarted,
        finishedOn: wanted.finishedOn,
        returnvalue: wanted.state === 'completed' ? wanted.value : undefined,
        failedReason: isSome ? failedReason : wanted.failedReason,
        why: wanted.state === 'failed' ? wanted.dlqReason : undefined,
      },
    );
  }
}

/** `expect` costs much even when it has nothing to say, and nearly always it has not. */
function equal<T>(seen: T, wanted: T): void {
  if (!isDeepStrictEqual(seen, wanted)) expect(seen).toEqual(wanted);
}

function whenAndWhich({ finishedOn, id }: { finishedOn: number | undefined; id: string }): string {
  return `${finishedOn} ${id}`;
}

/** Blocked by a job in the dead letter queue, under the policy `wait`, or by one that is. */
function waitsForFailed(job: ModelJob): boolean {
  return [...job.open].some((needed) => (needed.state === 'failed' ? job.policy === 'wait' : waitsForFailed(needed)));
}

function optionsOf({ opts, needs }: ModelItem): AddOptions {
  return needs.length === 0 ? opts : { ...opts, dependsOn: needs };
}

function errorOf(outcome: Exclude<ModelOutcome, { kind: 'complete' }>): Error {
  if (outcome.kind === 'unrecoverable') return new UnrecoverableError(outcome.message);
  if (outcome.kind === 'again') {
    const Kind = outcome.by === 'DelayedError' ? DelayedError : RateLimitError;
    return new Kind(outcome.delayMs);
  }
  const error = new Error(outcome.message);
  return outcome.retryAfterMs === undefined ? error : Object.assign(error, { retryAfterMs: outcome.retryAfterMs });
}

/** Both give the same, or are refused alike. */
async function same<T>(wanted: () => T, real: Promise<T>): Promise<void> {
  const got = await real.catch((error: Error) => ({ refused: error.name }));
  let expected: T | { refused: string };
  try {
    expected = wanted();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    expected = { refused: error.message };
  }
  equal(got, expected);
}

/** `got`: the job, or the name of the error. */
function compareAdded(wanted: ModelAnswer, got: Job | string): void {
  if ('error' in wanted || typeof got === 'string') {
    equal(typeof got === 'string' ? got : 'added', 'error' in wanted ? wanted.error : 'added');
    return;
  }
  equal(got.deduplicated, wanted.deduplicated);
  if (wanted.job.id === '') wanted.job.id = got.id;
  equal(got.id, wanted.job.id);
}

function compareWait(wanted: ModelWait, real: Watched, isOne: boolean): void {
  const { over } = wanted;
  equal(real.settled, over !== undefined);
  if (over === undefined) return;
  if (over === 'timeout') equal(real.error?.name, 'WaitTimeoutError');
  else if (over !== 'all') compareTold(over, real);
  else if (!wanted.settled) {
    const values = wanted.told.map((one) => (one as { value: number }).value);
    equal(real.value, isOne ? values[0] : values);
  } else {
    const answers = real.value as { status: string; value?: unknown; reason?: Error }[];
    expect(answers).toHaveLength(wanted.told.length);
    for (const [index, one] of wanted.told.entries()) {
      const { value, reason: error } = answers[index] as { value?: unknown; reason?: Error };
      compareTold(one as Told, { value, error });
    }
  }
}

function compareTold(wanted: Told, real: { value?: unknown; error?: any }): void {
  if ('value' in wanted) {
    equal({ value: real.value, error: real.error }, { value: wanted.value, error: undefined });
    return;
  }
  equal(real.error?.name, wanted.error);
  if (typeof wanted.message === 'string') equal(real.error.failedReason, wanted.message);
}

/** One line, with the ids that references mean now. */
function describe(step: DurableStep, idOf: (ref: Ref) => string): string {
  const isRef = (value: unknown): value is Ref =>
    typeof value === 'object' && value !== null && ('nth' in value || 'named' in value);
  const { do: name, ...rest } = step;
  return `${name} ${JSON.stringify(rest, (_key, value) => (isRef(value) ? idOf(value) : value))}`;
}
