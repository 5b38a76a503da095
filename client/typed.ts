/** The types behind `Queue.typed` and `Worker.typed`: every name of a job has its own data and result. */
import type { SettledResult } from './connection.js';
import type { Job } from './job.js';
import type { JobFilter } from './job-filter.js';
import type { AddOptions, JobReference } from './options.js';
import type { BulkAnswer, GetJobsOptions, Queue, WaitOptions } from './queue.js';
import type { HandlerContext } from './runner.js';

/** The names of the jobs: `{ email: { data: Email; result?: Sent } }` has the name `email`. */
export type NameOf<Jobs> = keyof Jobs & string;
export type DataOf<Jobs, N extends NameOf<Jobs>> = Jobs[N] extends { data: infer D } ? D : unknown;
export type ResultOf<Jobs, N extends NameOf<Jobs>> = Jobs[N] extends { result?: infer R } ? R : unknown;

/** A job of that name. */
export type JobOf<Jobs, N extends NameOf<Jobs>> = Job<DataOf<Jobs, N>, ResultOf<Jobs, N>, N>;

/** A job of any of the names: `job.name` tells which, and narrows `job.data`. */
export type AnyJobOf<Jobs> = { [N in NameOf<Jobs>]: JobOf<Jobs, N> }[NameOf<Jobs>];
type AnyResultOf<Jobs> = { [N in NameOf<Jobs>]: ResultOf<Jobs, N> }[NameOf<Jobs>];
type AnyDataOf<Jobs> = { [N in NameOf<Jobs>]: DataOf<Jobs, N> }[NameOf<Jobs>];

export type TypedBulkItem<Jobs> = {
  [N in NameOf<Jobs>]: { readonly name: N; readonly data: DataOf<Jobs, N>; readonly opts?: AddOptions | undefined };
}[NameOf<Jobs>];

type ListsOfJobs = 'getWaiting' | 'getActive' | 'getDelayed' | 'getWaitingChildren' | 'getCompleted' | 'getFailed';
type Retyped = 'add' | 'addBulk' | 'addAndWait' | 'finished' | 'getJob' | 'getJobs' | 'getDlq' | ListsOfJobs;

/** `Queue` whose methods know what each name carries and returns. */
export interface TypedQueue<Jobs>
  extends Omit<Queue<AnyDataOf<Jobs>, AnyResultOf<Jobs>, NameOf<Jobs>>, Retyped>,
    Record<ListsOfJobs, (start?: number, end?: number) => Promise<AnyJobOf<Jobs>[]>> {
  add<N extends NameOf<Jobs>>(name: N, data: DataOf<Jobs, N>, opts?: AddOptions): Promise<JobOf<Jobs, N>>;
  addBulk(items: readonly TypedBulkItem<Jobs>[], opts?: { readonly atomic?: true }): Promise<AnyJobOf<Jobs>[]>;
  addBulk(
    items: readonly TypedBulkItem<Jobs>[],
    opts: { readonly atomic: false },
  ): Promise<BulkAnswer<AnyJobOf<Jobs>>[]>;
  addAndWait<N extends NameOf<Jobs>>(
    name: N,
    data: DataOf<Jobs, N>,
    opts?: AddOptions,
    wait?: WaitOptions,
  ): Promise<ResultOf<Jobs, N>>;
  /** A `Job` tells the type of its result; an id doesn't. */
  finished<R>(job: Job<any, R, any>, opts?: number | WaitOptions): Promise<R>;
  finished(ref: JobReference, opts?: number | WaitOptions): Promise<AnyResultOf<Jobs>>;
  finished(
    refs: readonly JobReference[],
    opts: WaitOptions & { readonly settled: true },
  ): Promise<SettledResult<AnyResultOf<Jobs>>[]>;
  finished(
    refs: readonly JobReference[],
    opts?: number | (WaitOptions & { readonly settled?: false }),
  ): Promise<AnyResultOf<Jobs>[]>;
  getJob(ref: JobReference): Promise<AnyJobOf<Jobs> | undefined>;
  getJobs(opts?: GetJobsOptions): Promise<{ jobs: AnyJobOf<Jobs>[]; cursor?: string }>;
  getDlq(
    count?: number,
    opts?: { readonly offset?: number | undefined; readonly filter?: JobFilter | undefined },
  ): Promise<AnyJobOf<Jobs>[]>;
}

/** One handler for each name. */
export type TypedHandlers<Jobs> = {
  readonly [N in NameOf<Jobs>]: (
    job: JobOf<Jobs, N>,
    context: HandlerContext,
  ) => ResultOf<Jobs, N> | Promise<ResultOf<Jobs, N>>;
};
