/** Sagas, as applications define, start and look after them. */
import {
  checkInteger,
  checkObject,
  checkOneOf,
  checkOptionNames,
  DURATION_MAX_MS,
  INT32_MAX,
  refuse,
} from './checks.js';
import { type AddAnswer, areNew, type Connection, type JobRef, type JobSnapshot, type JobState } from './connection.js';
import { ConnectionLink } from './default-connection.js';
import {
  DuplicateJobError,
  deserialiseError,
  JobCancelledError,
  JobFailedError,
  JobNotFoundError,
  ValidationError,
} from './errors.js';
import { encodePayload } from './payload.js';
import { type WaitOptions, waitTimeout } from './queue-options.js';
import type { InterruptibleContext } from './runner.js';
import {
  checkSaga,
  checkSagaId,
  queueOfSaga,
  retentionOptions,
  type SagaDefinition,
  type SagaOptions,
} from './saga-definition.js';
import {
  type Compensation,
  compensationsOf,
  failureOf,
  recordOf,
  SAGA_STATES,
  type SagaEnd,
  type SagaRecord,
  type SagaState,
  stateOf,
} from './saga-record.js';
import { SagaRun } from './saga-run.js';
import { Worker } from './worker.js';
import type { CloseOptions } from './worker-options.js';

/** A step, as far as it has come. */
export interface StepStatus {
  readonly name: string;
  /** `waiting`: its turn has not come. `failed`: it is the one that made the saga fail. */
  readonly state: 'waiting' | 'running' | 'completed' | 'failed';
  /** What it returned. */
  readonly output?: unknown;
}

/** A saga at one moment. */
export interface SagaStatus<Data = any, Result = any> {
  readonly id: string;
  readonly saga: string;
  readonly state: SagaState;
  readonly data: Data;
  readonly steps: readonly StepStatus[];
  /** What became of the steps to be undone, in that order. */
  readonly compensations: readonly Compensation[];
  /** What the last step returned, once completed. */
  readonly result: Result | undefined;
  /** The step that failed, and what it failed with; in doubt when it isn't known whether it has done anything. */
  readonly failure: { readonly step: string; readonly cause: Error; readonly inDoubt: boolean } | undefined;
  /** Why it is parked. */
  readonly error: Error | undefined;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly finishedAt: number | undefined;
}

/** Sagas in these states have jobs in those. */
const JOB_STATES: Readonly<Record<SagaState, readonly JobState[]>> = {
  running: ['active', 'waiting', 'delayed', 'blocked'],
  compensating: ['active', 'waiting', 'delayed', 'blocked'],
  completed: ['completed'],
  compensated: ['completed'],
  compensation_failed: ['failed', 'active', 'waiting'],
  parked: ['failed', 'active', 'waiting'],
  abandoned: ['completed', 'cancelled', 'failed', 'active', 'waiting', 'delayed'],
};
const PAGE_JOBS = 100;

/** The runs of one saga, by their jobs. */
class SagaRuns {
  readonly saga: string;
  readonly queue: string;
  readonly link: ConnectionLink;

  constructor(saga: string, link: ConnectionLink) {
    this.saga = saga;
    this.queue = queueOfSaga(saga);
    this.link = link;
  }

  async resultOf(id: string, opts: WaitOptions | undefined): Promise<unknown> {
    const timeout = waitTimeout(opts);
    const connection = await this.link.ready();
    let end: SagaEnd;
    try {
      [end] = (await connection.finished(this.queue, [{ id, queue: this.queue }], { timeout })) as [SagaEnd];
    } catch (error) {
      // It is parked, or its job was cancelled by hand.
      const isOver = error instanceof JobFailedError || error instanceof JobCancelledError;
      const snapshot = isOver ? await this.find(id) : undefined;
      if (snapshot === undefined) throw error;
      throw failureOf(this.saga, snapshot.id, recordOf(snapshot), snapshot.failedReason);
    }
    if (end.state === 'completed') return end.result;
    throw failureOf(this.saga, id, end.record, undefined);
  }

  async snapshotOf(id: string): Promise<JobSnapshot> {
    const snapshot = await this.find(id);
    if (snapshot === undefined) throw new JobNotFoundError({ queue: this.queue, jobId: id });
    return snapshot;
  }

  async find(id: string): Promise<JobSnapshot | undefined> {
    const ref = { id: checkSagaId(id), queue: this.queue };
    const [snapshot] = await (await this.link.ready()).getJobs(this.queue, [ref]);
    return snapshot;
  }
}

/**
 * One run of a saga. Its fields and methods work wherever the saga runs, and after a restart on `saga.get(id)`.
 */
export class SagaHandle<Data = any, Result = any> {
  readonly id: string;
  readonly #runs: SagaRuns;

  /** Made by the library. */
  constructor(runs: SagaRuns, id: string) {
    this.id = id;
    this.#runs = runs;
  }

  /**
   * What the last step returned, once it has. Works for a saga that has ended already, as long as it is kept (`retention`).
   *
   * @param opts `timeout`: milliseconds after which to give up waiting; none by default.
   * @throws SagaFailedError when it was compensated (`cause`: what made `step` fail, or JobCancelledError), is parked, or was abandoned;
   *   JobRemovedError when it is kept no more; WaitTimeoutError.
   */
  result(opts?: WaitOptions): Promise<Result> {
    return this.#runs.resultOf(this.id, opts) as Promise<Result>;
  }

  /** How far it has come. @throws JobNotFoundError when it is kept no more. */
  async status(): Promise<SagaStatus<Data, Result>> {
    return statusOf(this.#runs.saga, await this.#runs.snapshotOf(this.id));
  }
}

/**
 * A saga that has been defined: starts runs of it, and looks after them. See `defineSaga`.
 */
export class Saga<Data = any, Result = any> {
  readonly name: string;
  readonly #queue: string;
  readonly #definition: SagaDefinition;
  readonly #link: ConnectionLink;
  readonly #runs: SagaRuns;
  readonly #worker: Worker | undefined;
  readonly #working = new Set<SagaRun>();
  #isClosing = false;

  /** Use `defineSaga`. */
  constructor(options: SagaOptions) {
    this.#definition = checkSaga(options);
    this.name = this.#definition.name;
    this.#queue = queueOfSaga(this.name);
    this.#link = new ConnectionLink(options.connection, `Saga "${this.name}"`);
    this.#runs = new SagaRuns(this.name, this.#link);
    if (!this.#definition.work) return;
    this.#worker = new Worker(
      this.#queue,
      async (job, context) => {
        const connection = await this.#link.ready();
        const run = new SagaRun(
          connection,
          this.#definition,
          job,
          context as InterruptibleContext,
          () => this.#isClosing,
        );
        this.#working.add(run);
        try {
          return await run.run();
        } finally {
          this.#working.delete(run);
        }
      },
      { connection: options.connection, concurrency: this.#definition.concurrency },
    );
    this.#worker.on('closing', () => {
      this.#isClosing = true;
      for (const run of this.#working) run.closing();
    });
  }

  /**
   * Starts a run, or finds the one of that id. Resolves when it is as durable as the engine's `durability` promises.
   *
   * @param opts `id`: your own, 1 to 256 bytes, so that a request that comes twice starts one run. Default: a new one.
   * @throws DuplicateJobError when there is a run of that id with other data; ValidationError; EngineFullError
   *
   * @example
   * const handle = await order.run({ items }, { id: request.id });
   * const receipt = await handle.result();
   */
  async run(data: Data, opts: { readonly id?: string | undefined } = {}): Promise<SagaHandle<Data, Result>> {
    checkOptionNames(checkObject(opts, 'opts'), 'opts', {
      known: ['id'],
      elsewhere: { jobId: 'it is called id here.' },
    });
    const kept = { ...retentionOptions(this.#definition.retentionMs), removeOnFail: { age: DURATION_MAX_MS } };
    const jobOptions = { ...kept, maxDeliveries: 255 };
    const id = opts.id === undefined ? undefined : checkSagaId(opts.id);
    const item = { name: this.name, data, opts: id === undefined ? jobOptions : { ...jobOptions, jobId: id } };
    const connection = await this.#link.ready();
    const answers = await connection.add(this.#queue, [item], { atomic: false });
    if (areNew(answers)) return new SagaHandle(this.#runs, `j${answers.first}`);
    const answer = answers[0] as AddAnswer;
    if (answer.error !== undefined) throw answer.error;
    if (answer.existing !== undefined && !isSame(answer.existing, data))
      throw new DuplicateJobError({ queue: this.#queue, jobId: answer.id, state: answer.existing.state });
    return new SagaHandle(this.#runs, answer.id);
  }

  /** The run of that id, or undefined when there is none (any more). */
  async get(id: string): Promise<SagaHandle<Data, Result> | undefined> {
    const snapshot = await this.#runs.find(id);
    return snapshot === undefined ? undefined : new SagaHandle(this.#runs, snapshot.id);
  }

  /**
   * How runs stand; of one state, or of all.
   *
   * @param opts `limit` (100): at most so many, after the first `offset` (0).
   *
   * @example
   * for (const { id, error } of await order.list({ state: 'compensation_failed' })) console.log(id, error?.message);
   */
  async list(
    opts: {
      readonly state?: SagaState | undefined;
      readonly limit?: number | undefined;
      readonly offset?: number | undefined;
    } = {},
  ): Promise<SagaStatus<Data, Result>[]> {
    checkOptionNames(checkObject(opts, 'opts'), 'opts', { known: ['state', 'limit', 'offset'] });
    const state = opts.state === undefined ? undefined : checkOneOf(opts.state, 'opts.state', SAGA_STATES);
    const limit = checkInteger(opts.limit ?? 100, 'opts.limit', 0, INT32_MAX);
    let skip = checkInteger(opts.offset ?? 0, 'opts.offset', 0, INT32_MAX);
    const wanted = state === undefined ? [...new Set(Object.values(JOB_STATES).flat())] : JOB_STATES[state];
    const connection = await this.#link.ready();
    const found: SagaStatus<Data, Result>[] = [];
    let cursor: string | undefined;
    do {
      const query = { states: wanted, limit: PAGE_JOBS, cursor, filter: undefined };
      const page = await connection.listJobs(this.#queue, query);
      for (const snapshot of page.jobs) {
        if (state !== undefined && stateOf(snapshot) !== state) continue;
        if (skip-- > 0 || found.length === limit) continue;
        found.push(statusOf(this.name, snapshot));
      }
      cursor = page.cursor;
    } while (cursor !== undefined && found.length < limit);
    return found;
  }

  /**
   * Lets a parked run go on: the compensation that failed gets its attempts anew, or the step that was missing is looked for again.
   *
   * @throws JobNotFoundError; ValidationError when it isn't parked.
   */
  async resume(id: string): Promise<void> {
    const { snapshot, ref, connection } = await this.#parked(id, 'resumed');
    const record = recordOf(snapshot);
    if (record !== undefined) {
      record.state = record.failure === undefined ? 'running' : 'compensating';
      record.error = undefined;
      if (record.current !== undefined)
        Object.assign(record.current, { failures: 0, losses: 0, isStarted: false, due: 0, isResumed: true });
      await connection.updateProgress(this.#queue, ref, record);
    }
    await connection.retryFailed(this.#queue, [ref], { withDependencies: false });
  }

  /**
   * Gives a parked run up: nothing more is run for it, and it is kept for the `retention` as `abandoned`.
   *
   * @throws JobNotFoundError; ValidationError when it isn't parked.
   */
  async abandon(id: string): Promise<void> {
    const { snapshot, ref, connection } = await this.#parked(id, 'abandoned');
    const record = recordOf(snapshot) ?? { plan: [], done: [], compensations: [], version: 1 };
    await connection.updateProgress(this.#queue, ref, { ...record, state: 'abandoned' });
    await connection.retryFailed(this.#queue, [ref], { withDependencies: false });
  }

  /**
   * Cancels a run, wherever it runs: the `signal` of the step that runs aborts, its job is cancelled if it is one, and what has been done
   * is compensated. A run that is compensated already goes on. `finished`: it had ended.
   *
   * @throws JobNotFoundError; ValidationError for a run whose compensation has failed.
   */
  async cancel(id: string, reason?: string): Promise<'cancelling' | 'finished'> {
    if (reason !== undefined && typeof reason !== 'string') refuse('reason', 'be a string', reason);
    const snapshot = await this.#runs.snapshotOf(id);
    const connection = await this.#link.ready();
    const state = stateOf(snapshot);
    if (state === 'compensation_failed') {
      throw new ValidationError(
        `Saga "${this.name}" (${id}) has failed, and so has a compensation: resume or abandon it.`,
        { path: 'id' },
      );
    }
    const ref = { id: snapshot.id, queue: this.#queue };
    if (!(await connection.interrupt(this.#queue, ref, reason ?? 'The saga was cancelled'))) return 'finished';
    if (state === 'parked') await this.resume(id);
    return 'cancelling';
  }

  /** Stops working on runs, as `worker.close`; they go on elsewhere, or when the saga is defined again. Later calls reject. */
  async close(opts?: boolean | CloseOptions): Promise<void> {
    this.#isClosing = true;
    await this.#worker?.close(opts);
    this.#link.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #parked(
    id: string,
    what: string,
  ): Promise<{ snapshot: JobSnapshot; ref: Required<Pick<JobRef, 'id' | 'queue'>>; connection: Connection }> {
    const snapshot = await this.#runs.snapshotOf(id);
    if (snapshot.state !== 'failed') {
      throw new ValidationError(
        `Saga "${this.name}" (${id}) can't be ${what}: it is ${stateOf(snapshot)}, and not parked.`,
        { path: 'id' },
      );
    }
    return { snapshot, ref: { id: snapshot.id, queue: this.#queue }, connection: await this.#link.ready() };
  }
}

/** Whether a run was started with these data. What is only remembered is not known any more. */
function isSame(existing: JobSnapshot, data: unknown): boolean {
  if (existing.data === undefined && existing.finishedOn !== undefined) return true;
  const before = new Uint8Array(encodePayload(existing.data));
  const now = encodePayload(data);
  return before.length === now.length && before.every((byte, at) => byte === now[at]);
}

function statusOf<Data, Result>(saga: string, snapshot: JobSnapshot): SagaStatus<Data, Result> {
  const record = recordOf(snapshot);
  const state = stateOf(snapshot);
  const { failure, error } = record ?? {};
  return {
    id: snapshot.id,
    saga,
    state,
    data: snapshot.data as Data,
    steps: record === undefined ? [] : stepsOf(record),
    compensations: compensationsOf(record),
    result: state === 'completed' ? ((snapshot.returnvalue as SagaEnd).result as Result) : undefined,
    failure:
      failure === undefined
        ? undefined
        : { step: failure.step, cause: deserialiseError(failure.cause), inDoubt: failure.inDoubt },
    error: error === undefined ? undefined : deserialiseError(error),
    startedAt: snapshot.timestamp,
    finishedAt: snapshot.finishedOn,
  };
}

function stepsOf({ plan, done, current, failure }: SagaRecord): StepStatus[] {
  return plan.map((name, index): StepStatus => {
    const one = done[index];
    if (one !== undefined) return { name, state: 'completed', output: one.output };
    if (failure?.step === name) return { name, state: 'failed' };
    return { name, state: current?.name === name ? 'running' : 'waiting' };
  });
}

/**
 * Defines a saga: steps that run one after the other, each with a way back. When a step fails after its own attempts, the steps before it
 * are compensated, the last one first. Every step that has settled is recorded before the next one starts, so that a saga goes on where
 * it was after a crash, as soon as it is defined again: at the first step, or compensation, that has not settled.
 *
 * A step that was running when the process ended runs again, with the same `idempotencyKey`; one that has settled never does.
 *
 * Steps are functions, which run in this process, or jobs of any queue. A process that only starts sagas gives `work: false`; one that
 * works on them stays alive until `close`, as with a Worker.
 *
 * @throws ValidationError
 *
 * @example
 * const order = defineSaga<Order, Receipt>({
 *   name: 'order',
 *   steps: [
 *     { name: 'reserve', execute: (order) => stock.reserve(order), compensate: (reserved) => stock.release(reserved) },
 *     { name: 'charge', queue: 'payments', job: 'charge', compensateJob: 'refund', attempts: 3, backoff: 1000 },
 *     { name: 'ship', execute: (paid, { idempotencyKey }) => carrier.ship(paid, idempotencyKey), timeout: 30_000 },
 *   ],
 * });
 * const handle = await order.run({ item: 'book' }, { id: 'order-17' });
 * const receipt = await handle.result();
 */
export function defineSaga<Data = any, Result = any>(options: SagaOptions): Saga<Data, Result> {
  return new Saga(options);
}
