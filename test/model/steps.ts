/** What a history consists of: plain data, so that a counterexample can be read and made smaller. */
import fc from 'fast-check';
import type { ModelOptions, ModelOutcome, Policy } from './job-model.js';

/** A job of the history by its number, whichever is there (modulo how many there are). */
export type Nth = { readonly nth: number };
/** An id of the user's own, which may mean a job or not. */
export type Named = { readonly named: string };
export type Ref = Nth | Named;

export interface Spec {
  readonly opts: ModelOptions;
  readonly needs: readonly Ref[];
}

export type Step =
  | { readonly do: 'add'; readonly job: Spec }
  | { readonly do: 'addAndWait'; readonly job: Spec; readonly timeout?: number }
  | { readonly do: 'addBulk'; readonly jobs: readonly Spec[]; readonly atomic: boolean }
  | { readonly do: 'settle'; readonly outcome: ModelOutcome }
  | { readonly do: 'pause' | 'resume' }
  | { readonly do: 'cancel' | 'remove' | 'promote'; readonly job: Ref }
  | { readonly do: 'changePriority'; readonly job: Ref; readonly priority: number; readonly lifo: boolean }
  | { readonly do: 'changeDelay'; readonly job: Ref; readonly delay: number }
  | { readonly do: 'updateData'; readonly job: Ref }
  | { readonly do: 'moveToDlq'; readonly job: Ref; readonly message: string }
  | { readonly do: 'retryDlq'; readonly jobs: readonly Ref[] | 'all'; readonly withDependencies: boolean }
  | { readonly do: 'purgeDlq'; readonly jobs: readonly Ref[] | 'all' }
  | { readonly do: 'drain'; readonly delayed: boolean; readonly blocked: boolean }
  | { readonly do: 'obliterate'; readonly force: boolean }
  | { readonly do: 'finished'; readonly jobs: readonly Ref[]; readonly timeout?: number; readonly settled: boolean }
  | { readonly do: 'advance'; readonly ms: number };

/** What the engine is and was told, and what is under way when it is gone. */
export type DurableStep =
  | Step
  | { readonly do: 'configure'; readonly max: number }
  | { readonly do: 'reopen'; readonly downMs: number }
  | { readonly do: 'crash'; readonly downMs: number; readonly during: 'nothing' | 'add' | 'settle' };

const NAMES = ['x0', 'x1', 'x2', 'x3'] as const;
const POLICIES: readonly Policy[] = ['fail', 'run', 'run-now', 'cancel', 'wait'];

/** Wide, so that hardly ever two things are due at one moment. */
const duration = fc.integer({ min: 1, max: 100_000 });
const priority = fc.constantFrom(0, 0, 0, 1, -1, 7, -(2 ** 31), 2 ** 31 - 1);
const nth = fc.record({ nth: fc.nat(99) });
const named = fc.record({ named: fc.constantFrom(...NAMES) });
const ref: fc.Arbitrary<Ref> = fc.oneof({ weight: 3, arbitrary: nth }, { weight: 1, arbitrary: named });

const retention = fc.oneof(
  fc.boolean(),
  fc.record({ count: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ age: duration }),
  fc.record({ age: duration, count: fc.integer({ min: 1, max: 3 }) }),
);

/** There in one of `oneIn`. */
function sometimes<T>(arbitrary: fc.Arbitrary<T>, oneIn: number): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: oneIn - 1, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
}

const options: fc.Arbitrary<ModelOptions> = fc
  .record({
    priority: sometimes(priority, 2),
    lifo: sometimes(fc.boolean(), 5),
    delay: sometimes(fc.oneof(fc.constant(0), duration, duration), 4),
    ttl: sometimes(duration, 8),
    attempts: sometimes(fc.integer({ min: 1, max: 4 }), 2),
    backoff: sometimes(
      fc.oneof(
        fc.record({ type: fc.constant('fixed' as const), delay: duration }),
        fc.record({ type: fc.constant('exponential' as const), delay: duration }),
        fc.record({ type: fc.constant('exponential' as const), delay: duration, maxDelay: duration }),
      ),
      2,
    ),
    timeout: sometimes(duration, 6),
    jobId: sometimes(fc.constantFrom(...NAMES), 3),
    onDuplicate: sometimes(fc.constantFrom('return', 'replace', 'replace', 'rerun', 'rerun', 'error'), 2),
    onDependencyFailure: sometimes(fc.constantFrom(...POLICIES), 2),
    removeOnComplete: sometimes(retention, 4),
    removeOnFail: sometimes(retention, 4),
    idempotencyTtl: sometimes(fc.oneof(fc.constant(0), duration), 5),
    maxDeliveries: sometimes(fc.integer({ min: 1, max: 4 }), 4),
  })
  .map((all) => Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)));

const spec: fc.Arbitrary<Spec> = fc.record({
  opts: options,
  needs: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 2, arbitrary: fc.array(ref, { maxLength: 3 }) }),
});

const message = fc.constantFrom('boom', 'again', 'no');
const outcome: fc.Arbitrary<ModelOutcome> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('complete' as const), value: fc.nat(9) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('error' as const), message }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('error' as const), message, retryAfterMs: duration }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unrecoverable' as const), message }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('again' as const),
      by: fc.constantFrom('RateLimitError' as const, 'DelayedError' as const),
      delayMs: fc.oneof(fc.constant(0), duration),
    }),
  },
);

const ms = fc.oneof(
  { weight: 4, arbitrary: duration },
  { weight: 2, arbitrary: fc.constantFrom(0, 5000, 30_000) },
  { weight: 1, arbitrary: fc.constantFrom(3_600_000, 86_400_000) },
);

function step<Name extends DurableStep['do'], T extends object>(
  name: Name,
  rest: { [K in keyof T]: fc.Arbitrary<T[K]> },
) {
  return fc.record({ do: fc.constant(name), ...rest } as object) as unknown as fc.Arbitrary<any>;
}

const timeout = sometimes(fc.oneof(fc.constant(0), duration), 2);

interface Weighted<T> {
  readonly weight: number;
  readonly arbitrary: fc.Arbitrary<T>;
}

const failed = fc.oneof(fc.constant('all' as const), fc.array(ref, { maxLength: 4 }));

const common: Weighted<Step>[] = [
  { weight: 12, arbitrary: step('add', { job: spec }) },
  { weight: 4, arbitrary: step('addBulk', { jobs: fc.array(spec, { maxLength: 5 }), atomic: fc.boolean() }) },
  { weight: 2, arbitrary: step('addAndWait', { job: spec, timeout }) },
  { weight: 16, arbitrary: step('settle', { outcome }) },
  { weight: 8, arbitrary: step('advance', { ms }) },
  { weight: 2, arbitrary: step('pause', {}) },
  { weight: 3, arbitrary: step('resume', {}) },
  { weight: 3, arbitrary: step('cancel', { job: ref }) },
  { weight: 3, arbitrary: step('remove', { job: ref }) },
  { weight: 2, arbitrary: step('promote', { job: ref }) },
  { weight: 3, arbitrary: step('changePriority', { job: ref, priority, lifo: fc.boolean() }) },
  { weight: 2, arbitrary: step('changeDelay', { job: ref, delay: fc.oneof(fc.constant(0), duration) }) },
  { weight: 2, arbitrary: step('updateData', { job: ref }) },
  { weight: 2, arbitrary: step('moveToDlq', { job: ref, message }) },
  { weight: 2, arbitrary: step('retryDlq', { jobs: failed, withDependencies: fc.boolean() }) },
  { weight: 1, arbitrary: step('purgeDlq', { jobs: failed }) },
  {
    weight: 4,
    arbitrary: step('finished', { jobs: fc.array(ref, { maxLength: 3 }), timeout, settled: fc.boolean() }),
  },
  { weight: 1, arbitrary: step('drain', { delayed: fc.boolean(), blocked: fc.boolean() }) },
  { weight: 1, arbitrary: step('obliterate', { force: fc.boolean() }) },
];

const downMs = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: duration });
const during = fc.constantFrom('nothing' as const, 'add' as const, 'settle' as const);

const lasting: Weighted<DurableStep>[] = [
  { weight: 1, arbitrary: step('configure', { max: fc.integer({ min: 10_000, max: 10_009 }) }) },
  { weight: 4, arbitrary: step('reopen', { downMs }) },
  { weight: 6, arbitrary: step('crash', { downMs, during }) },
];

function history<T>(weighted: readonly Weighted<T>[]): fc.Arbitrary<T[]> {
  return fc.array(fc.oneof(...weighted), { maxLength: 60, size: 'max' });
}

export const steps: fc.Arbitrary<Step[]> = history(common);
export const durableSteps: fc.Arbitrary<DurableStep[]> = history([...common, ...lasting]);
