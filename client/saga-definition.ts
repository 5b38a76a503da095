/** What a saga consists of: what users write, checked once, and the form in which the run reads it. */
import {
  checkBoolean,
  checkDuration,
  checkFunction,
  checkJobName,
  checkObject,
  checkOptionNames,
  checkQueueName,
  type KnownNames,
  refuse,
} from './checks.js';
import type { ConnectionInput } from './default-connection.js';
import { ValidationError } from './errors.js';
import { type BackoffInput, type BackoffOptions, type JobOptions, validateJobOptions } from './options.js';
import { checkConcurrency } from './worker-options.js';

/** What a step's function gets beside its data. */
export interface StepContext {
  readonly sagaId: string;
  /** The name of the step. */
  readonly step: string;
  /** 1 for the first run of this function in this saga, 2 for the next ... */
  readonly attempt: number;
  /**
   * The same for every run of this function in this saga, also after a crash; of a compensation another than of its step. Give it to
   * services that take an idempotency key.
   */
  readonly idempotencyKey: string;
  /** Aborts when the run should stop: the saga was cancelled, the step took too long, or the worker closes. `reason` says which. */
  readonly signal: AbortSignal;
}

export interface CompensationContext extends StepContext {
  /** The `idempotencyKey` that the step itself had. */
  readonly forwardKey: string;
  /** What the step itself was given. */
  readonly input: any;
  /** It is not known whether the step has done anything (`compensateInDoubt`); then there is no output. */
  readonly inDoubt: boolean;
}

interface StepSettings {
  /** Unique in the saga; it is what resumption goes by. 1 to 100 bytes. */
  readonly name: string;
  /** How often `execute` may run in all; `compensate` likewise, counted for itself. Default 1. */
  readonly attempts?: number | undefined;
  /** How long a retry waits, as the option of a job. Default: no wait. */
  readonly backoff?: number | BackoffInput | undefined;
  /** How long one run may take, in ms. None by default. */
  readonly timeout?: number | undefined;
  /**
   * Compensate this step also when it failed and it isn't known whether it has done anything: its last attempt timed out or was lost.
   * Default false.
   */
  readonly compensateInDoubt?: boolean | undefined;
}

/** A step of functions: they run in the processes that define the saga. */
export interface FunctionStep<Input = any, Output = any> extends StepSettings {
  /** Gets what the step before returned; the first one gets the data of the saga. */
  execute(data: Input, context: StepContext): Promise<Output> | Output;
  /** Undoes the step: gets what `execute` returned. Without it there is nothing to undo. */
  compensate?(output: Output | undefined, context: CompensationContext): unknown;
}

/** A step that is a job: any worker of its queue runs it. Attempts, backoff and timeout are those of the job. */
export interface JobStep extends StepSettings {
  readonly queue: string;
  /** The name of the job. Its data is what the step before returned, its result goes to the next, its id is the step's idempotency key. */
  readonly job: string;
  /** The name of the job, in the same queue, that undoes it. Its data is a `CompensationData`. */
  readonly compensateJob?: string | undefined;
}

export type SagaStep = FunctionStep | JobStep;

/** The data of a job that compensates a step. */
export interface CompensationData<Input = any, Output = any> {
  readonly sagaId: string;
  readonly step: string;
  /** What the step returned; undefined when it is in doubt. */
  readonly output: Output | undefined;
  /** What the step was given. */
  readonly input: Input;
  /** The id of the job that did it. */
  readonly forwardKey: string;
  readonly inDoubt: boolean;
}

export interface SagaOptions {
  /** Unique in the engine, 1 to 100 of A-Z a-z 0-9 . _ : - */
  readonly name: string;
  /** In the order in which they run. */
  readonly steps: readonly SagaStep[];
  /** An Engine, `'memory'`, or a connection. Default: this process's engine. */
  readonly connection?: ConnectionInput | undefined;
  /** How long a saga that has ended is kept, in ms: 7 days. Parked ones are kept until somebody decides. */
  readonly retention?: number | undefined;
  /** Whether this process runs the steps. `false`: it only starts sagas, and asks about them. Default true. */
  readonly work?: boolean | undefined;
  /** How many sagas this process works on at a time. One that waits for a job or for its next attempt doesn't count. Default 100. */
  readonly concurrency?: number | undefined;
}

/** What is left when everything has been checked. */
export interface CheckedStep {
  readonly name: string;
  readonly execute: FunctionStep['execute'] | undefined;
  readonly compensate: FunctionStep['compensate'];
  /** The step is a job. */
  readonly job:
    | { readonly queue: string; readonly name: string; readonly compensateName: string | undefined }
    | undefined;
  readonly attempts: number;
  readonly backoff: BackoffOptions | undefined;
  /** 0: none. */
  readonly timeoutMs: number;
  readonly compensateInDoubt: boolean;
  readonly jobOptions: JobOptions;
}

export interface SagaDefinition {
  readonly name: string;
  readonly steps: ReadonlyMap<string, CheckedStep>;
  readonly retentionMs: number;
  readonly work: boolean;
  readonly concurrency: number;
}

export const SAGA_DEFAULTS = Object.freeze({ retention: 604_800_000, concurrency: 100 });
/** Name of saga, id of run and name of step are parts of the ids of jobs, which have 512 bytes. */
const NAME_BYTES_MAX = 100;
const ID_BYTES_MAX = 256;

const SAGA_NAMES: KnownNames = {
  known: ['name', 'steps', 'connection', 'retention', 'work', 'concurrency'],
  elsewhere: {
    attempts: 'each step has its own.',
    timeout: 'each step has its own.',
    backoff: 'each step has its own.',
  },
};
const COMMON_NAMES = ['name', 'attempts', 'backoff', 'timeout', 'compensateInDoubt'];
const FUNCTION_NAMES: KnownNames = {
  known: [...COMMON_NAMES, 'execute', 'compensate'],
  elsewhere: { compensateJob: 'it is for steps with a queue and a job.' },
};
const JOB_NAMES: KnownNames = {
  known: [...COMMON_NAMES, 'queue', 'job', 'compensateJob'],
  elsewhere: {
    execute: 'a step is either functions, or a queue and a job.',
    compensate: 'a step that is a job is undone by another: compensateJob.',
  },
};

/** Where the runs of a saga are, a job each. */
export function queueOfSaga(name: string): string {
  return `saga:${name}`;
}

/** @throws ValidationError */
export function checkSaga(options: unknown): SagaDefinition {
  const given = checkObject(options, 'saga');
  checkOptionNames(given, 'saga', SAGA_NAMES);
  const name = checkQueueName(given.name);
  if (name.length > NAME_BYTES_MAX) refuse('saga.name', `be at most ${NAME_BYTES_MAX} characters`, name);
  const work = given.work === undefined ? true : checkBoolean(given.work, 'saga.work');
  const { retention, concurrency } = SAGA_DEFAULTS;
  const retentionMs = given.retention === undefined ? retention : checkDuration(given.retention, 'saga.retention');
  if (!Array.isArray(given.steps) || given.steps.length === 0)
    refuse('saga.steps', 'be an array of at least one step', given.steps);
  const steps = new Map<string, CheckedStep>();
  for (const [index, one] of (given.steps as unknown[]).entries()) {
    const path = `saga.steps[${index}]`;
    const step = checkStep(one, path, work, retentionMs);
    if (steps.has(step.name)) refuse(`${path}.name`, 'be unique in the saga', step.name);
    steps.set(step.name, step);
  }
  return {
    name,
    steps,
    retentionMs,
    work,
    concurrency:
      given.concurrency === undefined ? concurrency : checkConcurrency(given.concurrency, 'saga.concurrency'),
  };
}

function checkStep(value: unknown, path: string, work: boolean, retentionMs: number): CheckedStep {
  const given = checkObject(value, path);
  const isJob = given.queue !== undefined || given.job !== undefined;
  checkOptionNames(given, path, isJob ? JOB_NAMES : FUNCTION_NAMES);
  const name = checkShort(given.name, `${path}.name`, NAME_BYTES_MAX);
  const { attempts, backoff, timeout, compensateInDoubt } = given;
  if (!isJob && (given.execute !== undefined || work)) checkFunction(given.execute, `${path}.execute`);
  if (given.compensate !== undefined) checkFunction(given.compensate, `${path}.compensate`);
  const limits = validateJobOptions({ attempts, backoff, timeout } as object) ?? {};
  if (!isJob && limits.backoff !== undefined && !['fixed', 'exponential'].includes(limits.backoff.type))
    refuse(`${path}.backoff.type`, "be 'fixed' or 'exponential'", limits.backoff.type);
  return {
    name,
    execute: given.execute as CheckedStep['execute'],
    compensate: given.compensate as CheckedStep['compensate'],
    job: isJob ? checkJob(given, path) : undefined,
    attempts: limits.attempts ?? 1,
    backoff: limits.backoff,
    timeoutMs: limits.timeout ?? 0,
    compensateInDoubt:
      compensateInDoubt === undefined ? false : checkBoolean(compensateInDoubt, `${path}.compensateInDoubt`),
    jobOptions: { ...limits, ...retentionOptions(retentionMs) },
  };
}

function checkJob(given: Record<string, unknown>, path: string): NonNullable<CheckedStep['job']> {
  for (const name of ['job', 'compensateJob']) {
    if (name === 'compensateJob' && given[name] === undefined) continue;
    if (typeof given[name] !== 'string') refuse(`${path}.${name}`, 'be the name of a job', given[name]);
    checkJobName(given[name]);
  }
  return {
    queue: checkQueueName(given.queue),
    name: given.job as string,
    compensateName: given.compensateJob as string | undefined,
  };
}

/** How long a saga, and the jobs that are its steps, are there when they have completed. */
export function retentionOptions(retentionMs: number): JobOptions {
  return { removeOnComplete: retentionMs === 0 ? true : { age: retentionMs }, idempotencyTtl: retentionMs };
}

function checkShort(value: unknown, path: string, bytesMax: number): string {
  if (typeof value !== 'string' || value === '') refuse(path, 'be a string that is not empty', value);
  const bytes = new TextEncoder().encode(value).length;
  if (bytes > bytesMax) refuse(path, `be at most ${bytesMax} bytes of UTF-8 (it has ${bytes})`, value);
  return value;
}

/** @throws ValidationError for an id under which no saga can run. */
export function checkSagaId(id: unknown): string {
  return checkShort(id, 'id', ID_BYTES_MAX);
}

export function missingStep(saga: string, step: string): ValidationError {
  return new ValidationError(
    `Saga "${saga}" has no step "${step}" any more, which this run needs. Define it with that step again, and resume the run; or abandon it.`,
    { path: 'saga.steps' },
  );
}
