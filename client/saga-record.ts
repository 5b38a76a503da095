/**
 * What is kept of a saga while it runs: the progress of its job, written as a whole before anything of it starts. Beside it stand the
 * job's data (those of the saga) and its interruption (that it is to be cancelled).
 */
import type { JobSnapshot } from './connection.js';
import { deserialiseError, SagaFailedError, type SerialisedError } from './errors.js';

/**
 * `running` and `compensating` end as `completed` or `compensated`. Parked are `compensation_failed` (a compensation has failed on its
 * last attempt) and `parked` (the saga can't go on as it is defined); `abandoned`: somebody has given it up there.
 */
export type SagaState =
  | 'running'
  | 'compensating'
  | 'completed'
  | 'compensated'
  | 'compensation_failed'
  | 'parked'
  | 'abandoned';

export const SAGA_STATES: readonly SagaState[] = [
  'running',
  'compensating',
  'completed',
  'compensated',
  'compensation_failed',
  'parked',
  'abandoned',
];

/** A step or compensation that has begun and not settled. */
export interface CurrentStep {
  readonly name: string;
  readonly kind: 'execute' | 'compensate';
  /** Attempts that failed. */
  failures: number;
  /** Attempts that ended with their process. */
  losses: number;
  /** One is under way. Found so by a later run, it was lost. Not of steps that are jobs: these look after their own. */
  isStarted: boolean;
  /** The worker closes while it is under way: should it be given back, it was not lost. */
  isGivenBack?: boolean;
  /** Its job may be there. */
  isAdded?: boolean;
  /** Its failed job is to be retried. */
  isResumed?: boolean;
  /** Not before this time (ms since the epoch). */
  due?: number;
  /** The last attempt timed out or was lost. */
  inDoubt?: boolean;
  /** Of the last attempt that failed. */
  error?: SerialisedError;
}

/** What became of one step on the way back: undone; nothing to undo; not known whether there is; not undone. */
export interface Compensation {
  readonly step: string;
  readonly state: 'compensated' | 'skipped' | 'in_doubt' | 'failed';
  /** Why it failed. */
  readonly error?: Error;
}

interface KeptCompensation {
  readonly step: string;
  readonly state: 'compensated' | 'skipped' | 'in_doubt';
}

export interface SagaFailure {
  readonly step: string;
  readonly cause: SerialisedError;
  readonly inDoubt: boolean;
  /** What the step was given. */
  readonly input: unknown;
}

export interface SagaRecord {
  readonly version: 1;
  /** The names of the steps, as the saga was defined when it began. */
  readonly plan: readonly string[];
  state: SagaState;
  /** The steps that have completed, in the order of the plan. */
  readonly done: { readonly name: string; readonly output: unknown }[];
  current?: CurrentStep | undefined;
  /** Set once it goes backward. */
  failure?: SagaFailure | undefined;
  /** Settled ones, in their order. */
  readonly compensations: KeptCompensation[];
  /** Why it is parked. */
  error?: SerialisedError | undefined;
  updatedAt: number;
}

type EndState = 'completed' | 'compensated' | 'abandoned';

/** What the job of a saga returns: how it ended, without what its steps have returned. */
export interface SagaEnd {
  readonly state: EndState;
  /** What the last step returned, if all have completed. */
  readonly result: unknown;
  readonly record: SagaRecord;
}

export function hasEnded(record: SagaRecord): record is SagaRecord & { state: EndState } {
  return record.state === 'completed' || record.state === 'compensated' || record.state === 'abandoned';
}

export function endOf(record: SagaRecord & { state: EndState }): SagaEnd {
  const { done, failure, state } = record;
  const brief = {
    ...record,
    done: done.map(({ name }) => ({ name, output: undefined })),
    failure: failure === undefined ? undefined : { ...failure, input: undefined },
  };
  return { state, result: state === 'completed' ? done.at(-1)?.output : undefined, record: brief };
}

export function newRecord(plan: readonly string[], now: number): SagaRecord {
  return { version: 1, plan, state: 'running', done: [], compensations: [], updatedAt: now };
}

/** What a job's record says, if a run has begun. */
export function recordOf({ progress }: JobSnapshot): SagaRecord | undefined {
  return typeof progress === 'object' && progress !== null && 'plan' in progress ? (progress as SagaRecord) : undefined;
}

/** What a saga is, by its job. */
export function stateOf(snapshot: JobSnapshot): SagaState {
  const record = recordOf(snapshot);
  switch (snapshot.state) {
    case 'completed':
      return (snapshot.returnvalue as SagaEnd | undefined)?.state ?? 'completed';
    case 'cancelled': // by hand, past the saga
      return 'abandoned';
    case 'failed':
      return record?.state === 'compensation_failed' || record?.state === 'abandoned' ? record.state : 'parked';
    default:
      // The last thing written down comes a moment before the end.
      if (record?.state === 'compensated') return 'compensating';
      return record === undefined || record.state === 'completed' ? 'running' : record.state;
  }
}

/** What a step was given. */
export function inputOf({ plan, done }: SagaRecord, name: string, data: unknown): unknown {
  const index = plan.indexOf(name);
  return index === 0 ? data : done[index - 1]?.output;
}

/** The steps to compensate, in their order; the failed one among them when it is in doubt. */
export function toCompensate({ done, failure }: SagaRecord): string[] {
  const names = done.map(({ name }) => name).reverse();
  return failure?.inDoubt === true ? [failure.step, ...names] : names;
}

/** What became of the steps so far, the failed compensation included. */
export function compensationsOf(record: SagaRecord | undefined): Compensation[] {
  if (record === undefined) return [];
  const { compensations, current, error, state } = record;
  if (current?.kind !== 'compensate' || error === undefined || state === 'compensating') return [...compensations];
  return [...compensations, { step: current.name, state: 'failed', error: deserialiseError(error) }];
}

/** What `result()` rejects with when the saga has failed, was abandoned, or is parked. `reason`: of its job, if that has failed. */
export function failureOf(
  saga: string,
  sagaId: string,
  record: SagaRecord | undefined,
  reason = 'The saga was cancelled by hand',
): SagaFailedError {
  const { failure, error, plan = [], done = [], current } = record ?? {};
  const about = {
    saga,
    sagaId,
    step: failure?.step ?? current?.name ?? plan[done.length] ?? '',
    compensations: compensationsOf(record),
  };
  const cause = failure?.cause ?? error ?? { name: 'Error', message: reason, stack: '' };
  return new SagaFailedError(about, { cause: deserialiseError(cause) });
}
