/**
 * One run of the job that is a saga: goes on where the record says, forward or backward, until the saga has ended, is parked, or has to
 * wait. Before anything starts, the record says that it does, and what has settled before; that is durable when `#save` resolves. So a
 * step that has settled is never started again, and one of which the record says that it was started, but not how it ended, was lost.
 */
import { backoffDelay } from './backoff.js';
import type { AddAnswer, Connection, DependencyRecord, JobRef, JobSnapshot } from './connection.js';
import { areNew } from './connection.js';
import {
  DelayedError,
  EngineFullError,
  JobCancelledError,
  JobFailedError,
  JobRemovedError,
  serialiseError,
  TimeoutError,
  UnrecoverableError,
  WaitTimeoutError,
} from './errors.js';
import type { Job } from './job.js';
import { decodePayload, encodePayload } from './payload.js';
import type { InterruptibleContext } from './runner.js';
import { type CheckedStep, missingStep, type SagaDefinition } from './saga-definition.js';
import {
  type CurrentStep,
  endOf,
  hasEnded,
  inputOf,
  newRecord,
  recordOf,
  type SagaEnd,
  type SagaFailure,
  type SagaRecord,
  toCompensate,
} from './saga-record.js';

/** How often the process may end while one step runs, before that counts as its failure. */
const LOSSES_MAX = 5;
/** How long a function has to end after its signal aborted. */
const GRACE_MS = 5000;
/** Between two tries to write down what there was no memory for. */
const FULL_MS = 100;

/** How one attempt ended. */
type Ended =
  | { readonly how: 'done'; readonly output: unknown }
  /** Not an attempt: again after that time. */
  | { readonly how: 'again'; readonly delayMs: number }
  | { readonly how: 'failed'; readonly error: unknown; readonly inDoubt: boolean };

export class SagaRun {
  readonly #connection: Connection;
  readonly #saga: SagaDefinition;
  readonly #job: Job;
  readonly #context: InterruptibleContext;
  readonly #isClosing: () => boolean;
  #record!: SagaRecord;
  /** Why it is to be cancelled, as far as was known when the run began. */
  #interruption: string | undefined;

  constructor(
    connection: Connection,
    saga: SagaDefinition,
    job: Job,
    context: InterruptibleContext,
    isClosing: () => boolean,
  ) {
    this.#connection = connection;
    this.#saga = saga;
    this.#job = job;
    this.#context = context;
    this.#isClosing = isClosing;
  }

  async run(): Promise<SagaEnd> {
    try {
      return await this.#goOn();
    } catch (error) {
      throw error instanceof EngineFullError ? new DelayedError(FULL_MS) : error;
    }
  }

  async #goOn(): Promise<SagaEnd> {
    await this.#load();
    const record = this.#record;
    if (hasEnded(record)) return endOf(record);
    // Retried by hand, or lost on the way to where it is kept: only `resume` and `abandon` decide.
    if (record.state === 'parked' || record.state === 'compensation_failed')
      throw new UnrecoverableError(record.error?.message);
    const failure = record.failure ?? (await this.#forward());
    if (failure !== undefined) await this.#backward(failure);
    const ended = Object.assign(record, {
      state: failure === undefined ? ('completed' as const) : ('compensated' as const),
    });
    await this.#save(); // also the last step has settled, whatever becomes of the result
    return endOf(ended);
  }

  async #load(): Promise<void> {
    const [snapshot] = await this.#connection.getJobs(this.#job.queueName, [this.#job]);
    if (snapshot === undefined) throw new JobRemovedError({ queue: this.#job.queueName, jobId: this.#job.id });
    this.#interruption = snapshot.interruption;
    this.#record = recordOf(snapshot) ?? newRecord([...this.#saga.steps.keys()], this.#connection.now());
    const { current } = this.#record;
    if (current?.isStarted !== true) return;
    current.isStarted = false;
    current.inDoubt = true;
    if (current.isGivenBack !== true) current.losses++;
    delete current.isGivenBack;
  }

  /** The worker begins to close: a step that runs may be taken from it. */
  closing(): void {
    const { current } = (this.#record as SagaRecord | undefined) ?? {};
    if (current?.isStarted !== true) return;
    current.isGivenBack = true;
    this.#save().catch(() => {}); // then it counts as lost
  }

  /** Why the saga is to be cancelled, if it is. */
  get #cancelled(): JobCancelledError | undefined {
    const isNow = this.#context.interruption.aborted;
    if (!isNow && this.#interruption === undefined) return undefined;
    const reason = this.#interruption ?? (this.#context.interruption.reason as JobCancelledError).reason;
    return new JobCancelledError({ queue: this.#job.queueName, jobId: this.#job.id, reason });
  }

  // ---- forward --------------------------------------------------------------------------------------------------------------

  /** Undefined when every step has completed. */
  async #forward(): Promise<SagaFailure | undefined> {
    const record = this.#record;
    while (record.done.length < record.plan.length) {
      const name = record.plan[record.done.length] as string;
      const step = await this.#step(name);
      const current = await this.#begin(name, 'execute');
      const cancelled = this.#cancelled;
      let ended: Ended;
      if (cancelled !== undefined && current.isAdded !== true)
        ended = { how: 'failed', error: cancelled, inDoubt: current.inDoubt === true };
      else if (step.job !== undefined) ended = await this.#forwardJob(step, current);
      else ended = await this.#attempt(step, current, (context) => this.#execute(step, context));
      if (ended.how === 'done') {
        record.done.push({ name, output: ended.output });
        record.current = undefined;
      } else if (ended.how === 'failed' && this.#isFinal(step, current, ended)) {
        return this.#fail(name, this.#cancelled ?? ended.error, ended.inDoubt);
      } else await this.#waitAgain(step, current, ended);
    }
    return undefined;
  }

  #fail(step: string, cause: unknown, inDoubt: boolean): SagaFailure {
    const record = this.#record;
    const failure = { step, cause: serialiseError(cause), inDoubt, input: inputOf(record, step, this.#job.data) };
    record.failure = failure;
    record.state = 'compensating';
    record.current = undefined;
    return failure;
  }

  #execute(step: CheckedStep, { attempt, signal }: Attempt): unknown {
    const context = { sagaId: this.#job.id, step: step.name, attempt, idempotencyKey: this.#key(step.name), signal };
    return step.execute?.(this.#inputOf(step.name), context);
  }

  // ---- backward -------------------------------------------------------------------------------------------------------------

  async #backward(failure: SagaFailure): Promise<void> {
    const record = this.#record;
    const names = toCompensate(record);
    while (record.compensations.length < names.length) {
      const name = names[record.compensations.length] as string;
      const step = await this.#step(name);
      const inDoubt = failure.inDoubt && record.compensations.length === 0;
      const hasOne = step.job === undefined ? step.compensate !== undefined : step.job.compensateName !== undefined;
      if (!hasOne || (inDoubt && !step.compensateInDoubt)) {
        record.compensations.push({ step: name, state: inDoubt ? 'in_doubt' : 'skipped' });
        continue;
      }
      const current = await this.#begin(name, 'compensate');
      const ended =
        step.job !== undefined
          ? await this.#backwardJob(step, current, inDoubt)
          : await this.#attempt(step, current, (context) => this.#compensate(step, context, inDoubt));
      if (ended.how === 'done') {
        record.compensations.push({ step: name, state: 'compensated' });
        record.current = undefined;
      } else if (ended.how === 'failed' && this.#isFinal(step, current, ended)) {
        await this.#park('compensation_failed', ended.error);
      } else await this.#waitAgain(step, current, ended);
    }
  }

  #compensate(step: CheckedStep, { attempt, signal }: Attempt, inDoubt: boolean): unknown {
    const forwardKey = this.#key(step.name);
    return step.compensate?.(inDoubt ? undefined : this.#outputOf(step.name), {
      sagaId: this.#job.id,
      step: step.name,
      attempt,
      idempotencyKey: compensationKey(forwardKey),
      forwardKey,
      input: this.#inputOf(step.name),
      inDoubt,
      signal,
    });
  }

  /** Functions get copies: what they do to them must not be what is kept. */
  #inputOf(name: string): unknown {
    return copyOf(inputOf(this.#record, name, this.#job.data));
  }

  #outputOf(name: string): unknown {
    return copyOf(this.#record.done.find((one) => one.name === name)?.output);
  }

  /** Leaves the saga for somebody to decide about: its job fails, and stays. */
  async #park(state: 'parked' | 'compensation_failed', error: unknown): Promise<never> {
    this.#record.state = state;
    this.#record.error = serialiseError(error);
    await this.#save();
    throw new UnrecoverableError(this.#record.error.message);
  }

  // ---- both ways ------------------------------------------------------------------------------------------------------------

  async #step(name: string): Promise<CheckedStep> {
    return this.#saga.steps.get(name) ?? (await this.#park('parked', missingStep(this.#saga.name, name)));
  }

  #key(step: string): string {
    return `saga:${this.#saga.name}:${this.#job.id}:${step}`;
  }

  /** The step that is under way, or comes next. Nothing starts any more when the worker closes; what has settled is kept. */
  async #begin(name: string, kind: CurrentStep['kind']): Promise<CurrentStep> {
    this.#checkRun();
    if (this.#isClosing()) {
      await this.#save();
      throw new DelayedError(0, 'The worker closes: the saga goes on elsewhere');
    }
    const { current } = this.#record;
    if (current?.name === name && current.kind === kind) return current;
    const begun: CurrentStep = { name, kind, failures: 0, losses: 0, isStarted: false };
    this.#record.current = begun;
    return begun;
  }

  /** The job was given back or removed: another run of it may have begun, and this one may write nothing any more. */
  #checkRun(): void {
    if (this.#context.signal.aborted) throw this.#context.signal.reason;
  }

  async #save(): Promise<void> {
    for (;;) {
      this.#checkRun();
      this.#record.updatedAt = this.#connection.now();
      try {
        await this.#connection.updateProgress(this.#job.queueName, this.#job, this.#record);
        return;
      } catch (error) {
        if (!(error instanceof EngineFullError)) throw error;
        await this.#passed(FULL_MS);
      }
    }
  }

  #isFinal(step: CheckedStep, current: CurrentStep, ended: Extract<Ended, { how: 'failed' }>): boolean {
    current.error = serialiseError(ended.error);
    current.inDoubt = ended.inDoubt;
    if (step.job !== undefined || current.losses >= LOSSES_MAX) return true;
    if (current.kind === 'execute' && this.#cancelled !== undefined) return true;
    current.failures++;
    return nameOf(ended.error) === 'UnrecoverableError' || current.failures >= step.attempts;
  }

  /** The slot is free until the next attempt. */
  async #waitAgain(step: CheckedStep, current: CurrentStep, ended: Exclude<Ended, { how: 'done' }>): Promise<void> {
    const delayMs =
      ended.how === 'again'
        ? ended.delayMs
        : (millisecondsIn(ended.error, 'retryAfterMs') ??
          backoffDelay(step.backoff, current.failures, () => this.#connection.random()));
    if (delayMs <= 0) return;
    current.due = this.#connection.now() + delayMs;
    await this.#save();
    throw new DelayedError(delayMs);
  }

  // ---- steps of functions ---------------------------------------------------------------------------------------------------

  async #attempt(step: CheckedStep, current: CurrentStep, run: (attempt: Attempt) => unknown): Promise<Ended> {
    if (step.execute === undefined) await this.#park('parked', missingStep(this.#saga.name, step.name));
    if (current.losses >= LOSSES_MAX) {
      const error = new Error(`The process ended while step "${step.name}" ran, ${current.losses} times`);
      return { how: 'failed', error, inDoubt: true };
    }
    const left = (current.due ?? 0) - this.#connection.now();
    if (left > 0) throw new DelayedError(left);
    delete current.due;
    current.isStarted = true;
    await this.#save();
    this.#checkRun();
    const cancelled = current.kind === 'execute' ? this.#cancelled : undefined;
    if (cancelled !== undefined) {
      current.isStarted = false;
      return { how: 'failed', error: cancelled, inDoubt: current.inDoubt === true };
    }
    const attempt = current.failures + current.losses + 1;
    const ended = await this.#call(step, current.kind, (signal) => run({ attempt, signal }));
    this.#checkRun();
    current.isStarted = false;
    delete current.isGivenBack;
    return ended.how === 'done' && current.kind === 'execute' ? kept(ended.output) : ended;
  }

  /** Runs a function until it ends, or has not ended for some time after it was told to. */
  async #call(step: CheckedStep, kind: CurrentStep['kind'], run: (signal: AbortSignal) => unknown): Promise<Ended> {
    const controller = new AbortController();
    const { signal: taken, interruption } = this.#context;
    const stops: (() => void)[] = [];
    const stopOn = (signal: AbortSignal): void => {
      const stop = (): void => controller.abort(signal.reason);
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop, { once: true });
      stops.push(() => signal.removeEventListener('abort', stop));
    };
    stopOn(taken);
    if (kind === 'execute') stopOn(interruption);
    if (step.timeoutMs > 0) {
      void this.#passed(step.timeoutMs).then(() => controller.abort(new TimeoutError(step.timeoutMs)));
    }
    const work = ending(() => run(controller.signal));
    const stopped = new Promise<void>((resolve) => {
      if (controller.signal.aborted) resolve();
      else controller.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    try {
      const first = await Promise.race([work, stopped]);
      if (first !== undefined) return first;
      const reason: unknown = controller.signal.reason;
      const ended = await Promise.race([work, this.#passed(GRACE_MS)]);
      if (ended?.how === 'done') return ended; // the work is done
      if (reason instanceof Error && reason.cause === undefined && ended?.how === 'failed' && ended.error !== reason)
        reason.cause = ended.error;
      return { how: 'failed', error: reason, inDoubt: true };
    } finally {
      for (const stop of stops) stop();
    }
  }

  /**
   * Resolves when that time has passed on the engine's clock: a wait for this very job, which can't end before, is that clock's timer on
   * every connection. Never, when the job or the engine has ended.
   */
  async #passed(ms: number): Promise<void> {
    try {
      await this.#connection.finished(this.#job.queueName, [this.#job], { timeout: ms });
    } catch (error) {
      if (error instanceof WaitTimeoutError) return;
    }
    await new Promise(() => {});
  }

  // ---- steps that are jobs --------------------------------------------------------------------------------------------------

  async #forwardJob(step: CheckedStep, current: CurrentStep): Promise<Ended> {
    const { queue, name } = step.job as NonNullable<CheckedStep['job']>;
    const ref = { queue, id: this.#key(step.name) };
    const data = inputOf(this.#record, step.name, this.#job.data);
    const cancelled = this.#cancelled;
    if (cancelled !== undefined && (await this.#connection.getState(queue, ref)) === 'unknown') {
      if ((await this.#dependency(ref)) === undefined) return { how: 'failed', error: cancelled, inDoubt: false };
    } else if (cancelled !== undefined) await this.#connection.cancel(queue, ref, cancelled.reason);
    return this.#awaitJob(step, current, ref, name, data);
  }

  async #backwardJob(step: CheckedStep, current: CurrentStep, inDoubt: boolean): Promise<Ended> {
    const { queue, compensateName } = step.job as NonNullable<CheckedStep['job']>;
    const forwardKey = this.#key(step.name);
    const ref = { queue, id: compensationKey(forwardKey) };
    if (current.isResumed === true) {
      current.isResumed = false;
      if ((await this.#connection.getState(queue, ref)) === 'failed') {
        await this.#save();
        await this.#connection.retryFailed(queue, [ref], { withDependencies: false });
      }
    }
    const data = {
      sagaId: this.#job.id,
      step: step.name,
      output: inDoubt ? undefined : this.#outputOf(step.name),
      input: inputOf(this.#record, step.name, this.#job.data),
      forwardKey,
      inDoubt,
    };
    return this.#awaitJob(step, current, ref, compensateName as string, data);
  }

  /** Adds the job, unless it is there, and gives how it ended; while it has not, the saga's slot is free. */
  async #awaitJob(
    step: CheckedStep,
    current: CurrentStep,
    ref: Required<Pick<JobRef, 'id' | 'queue'>>,
    name: string,
    data: unknown,
  ): Promise<Ended> {
    if ((await this.#dependency(ref)) === undefined) {
      if (current.isAdded !== true) {
        current.isAdded = true;
        await this.#save();
      }
      const opts = { ...step.jobOptions, jobId: ref.id };
      const answers = await this.#connection.add(ref.queue, [{ name, data, opts }], { atomic: false });
      const error = areNew(answers) ? undefined : (answers[0] as AddAnswer).error;
      if (error instanceof EngineFullError) return { how: 'again', delayMs: FULL_MS };
      if (error !== undefined) return { how: 'failed', error, inDoubt: false };
    }
    await this.#job.waitFor(ref); // ends this run unless it has settled
    const record = await this.#dependency(ref);
    const [snapshot] = await this.#connection.getJobs(ref.queue, [ref]);
    return endOfJob(ref, record, snapshot);
  }

  async #dependency(ref: { queue: string; id: string }): Promise<DependencyRecord | undefined> {
    const all = await this.#connection.getDependencies(this.#job.queueName, this.#job);
    return all.find((one) => one.queue === ref.queue && one.id === ref.id);
  }
}

interface Attempt {
  readonly attempt: number;
  readonly signal: AbortSignal;
}

function compensationKey(forwardKey: string): string {
  return `${forwardKey}:compensate`;
}

function nameOf(thrown: unknown): unknown {
  return typeof thrown === 'object' && thrown !== null ? (thrown as { name?: unknown }).name : undefined;
}

function millisecondsIn(thrown: unknown, key: string): number | undefined {
  const value = typeof thrown === 'object' && thrown !== null ? (thrown as Record<string, unknown>)[key] : undefined;
  return typeof value === 'number' && value >= 0 && value < Number.POSITIVE_INFINITY ? value : undefined;
}

/** As it would be read from the log. @throws ValidationError for what can't be kept. */
function copyOf(value: unknown): unknown {
  return decodePayload(encodePayload(value, 'output'));
}

/** How a function ends; never rejects. */
async function ending(run: () => unknown): Promise<Ended> {
  try {
    return { how: 'done', output: await run() };
  } catch (error) {
    const name = nameOf(error);
    if (name === 'RateLimitError' || name === 'DelayedError')
      return { how: 'again', delayMs: Math.max(1, millisecondsIn(error, 'delayMs') ?? 0) };
    return { how: 'failed', error, inDoubt: false };
  }
}

/**
 * The output as it will be read later, so that the next step gets the same in this run and in another. One that can't be kept fails its
 * step, which is not tried again, since it has done its work: it is in doubt.
 */
function kept(output: unknown): Ended {
  try {
    return { how: 'done', output: copyOf(output) };
  } catch (cause) {
    return { how: 'failed', error: new UnrecoverableError((cause as Error).message, { cause }), inDoubt: true };
  }
}

/** `snapshot`: of the job, if it is still there. */
function endOfJob(
  { queue, id }: { queue: string; id: string },
  record: DependencyRecord | undefined,
  snapshot: JobSnapshot | undefined,
): Ended {
  const job = { queue, jobId: id };
  switch (record?.state) {
    case 'completed':
      return { how: 'done', output: record.result };
    case 'failed': {
      const reason = snapshot?.dlq?.reason;
      const inDoubt = reason === undefined || reason === 'timeout' || reason === 'worker_lost';
      const { failedReason = '' } = record;
      return {
        how: 'failed',
        error: new JobFailedError({ ...job, failedReason, stacktrace: snapshot?.stacktrace ?? [] }),
        inDoubt,
      };
    }
    case 'cancelled': {
      const inDoubt = snapshot === undefined || snapshot.attemptsStarted > 0;
      return { how: 'failed', error: new JobCancelledError({ ...job, reason: record.failedReason }), inDoubt };
    }
    default:
      return { how: 'failed', error: new JobRemovedError(job), inDoubt: true };
  }
}
