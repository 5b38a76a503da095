/** Every transition of docs/STATE_MACHINE.md: the table there says from where to where and which events tell it; here is how it comes about. */
import { readFileSync } from 'node:fs';
import { type Job, RateLimitError, UnrecoverableError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite } from './kit.js';

interface Row {
  readonly from: string;
  readonly to: string;
  readonly cause: string;
  readonly events: readonly string[];
}

/** The rows of the first table; those of the others need threads, or are over before anybody can look. */
function rowsOf(text: string): Row[] {
  const [, table = ''] = text.split('## Every transition');
  const rows: Row[] = [];
  for (const line of table.split(/\n\n\w+ more /)[0]!.split('\n')) {
    const [from, to, cause, events] = line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, ''));
    if (events === undefined || from === 'from' || from!.startsWith('---')) continue;
    rows.push({
      from: from!,
      to: to!,
      cause: cause!,
      events: [...events.matchAll(/`([^`]+)`/g)].map((match) => match[1]!),
    });
  }
  return rows;
}

const rows = rowsOf(readFileSync(new URL('../../docs/STATE_MACHINE.md', import.meta.url), 'utf8'));
const keyOf = ({ from, to, cause }: Row) => `${from} → ${to}: ${cause}`;

/** What must be there before the transition (the job, unless the transition makes it), and what makes it happen. */
interface Scenario {
  readonly before?: () => Promise<Job>;
  readonly happens: (job: Job) => Promise<unknown>;
}

export const states: Suite = (harness) => {
  const kit = kitOf(harness);
  const queue = () => kit.queue();
  const add = (opts: Parameters<ReturnType<typeof queue>['add']>[2] = {}) => queue().add('a', 1, opts);
  const other = () => kit.queue('other').add('o', 1);
  const delayed = () => add({ delay: 1000 });

  /** A blocked job and what it waits for. */
  const held = new WeakMap<object, Job>();
  const blockedOn = async (opts: object = {}) => {
    const dependency = await other();
    const job = await add({ dependsOn: [dependency], ...opts });
    held.set(job, dependency);
    return job;
  };
  const dependencyOf = (job: Job) => held.get(job) as Job;
  const completeDependency = async () => void (await kit.worker(() => 1, {}, 'other'));
  const failDependency = async () =>
    void (await kit.worker(
      () => {
        throw new Error('no');
      },
      {},
      'other',
    ));

  /** An active job; `end` says what its run does. */
  const ends = new WeakMap<object, { complete(value?: unknown): void; fail(error: unknown): void }>();
  const active = async (opts: object = {}) => {
    const job = await add(opts);
    const hand = await kit.hand();
    ends.set(job, await hand.next());
    closers.set(job, () => hand.worker.close(true));
    return job;
  };
  const closers = new WeakMap<object, () => Promise<void>>();
  const fail = async (job: Job, error: unknown = new Error('no')) => ends.get(job)!.fail(error);

  const scenarios: Record<string, Scenario> = {
    'unknown → waiting: `add`': { happens: () => add() },
    'unknown → delayed: `add` with `delay`': { happens: delayed },
    'unknown → blocked: `add` with `depends_on` a job that has not ended': { happens: () => blockedOn() },
    'unknown → waiting: `add` with `depends_on` completed jobs only': {
      happens: async () => add({ dependsOn: [await kit.completed(kit.queue('other'), 1)] }),
    },
    'unknown → failed: `add` with `depends_on` a failed job, policy `fail`': {
      happens: async () => add({ dependsOn: [await kit.failed(kit.queue('other'))] }),
    },
    'unknown → cancelled: `add` with `depends_on` a failed job, policy `cancel`': {
      happens: async () => add({ dependsOn: [await kit.failed(kit.queue('other'))], onDependencyFailure: 'cancel' }),
    },
    'waiting → active: claim': { before: add, happens: () => kit.hand() },
    'waiting → waiting: `changePriority`': { before: add, happens: (job) => job.changePriority({ priority: 5 }) },
    "waiting → waiting: `add` of its id, `onDuplicate: 'replace'`": {
      before: () => add({ jobId: 'x' }),
      happens: () => add({ jobId: 'x', onDuplicate: 'replace' }),
    },
    'waiting → cancelled: `cancel`': { before: add, happens: (job) => queue().cancel(job) },
    'waiting → failed: its `ttl` is over': { before: () => add({ ttl: 10 }), happens: () => kit.pass(11) },
    'waiting → failed: `moveToDlq`': { before: add, happens: (job) => queue().moveToDlq(job, 'bad') },
    'waiting → unknown: `remove`': { before: add, happens: (job) => job.remove() },
    'waiting → unknown: `drain`': { before: add, happens: () => queue().drain() },
    'waiting → unknown: `obliterate`': { before: add, happens: () => queue().obliterate() },
    'delayed → waiting: its time has come': { before: delayed, happens: () => kit.pass(1001) },
    'delayed → waiting: `promote`': { before: delayed, happens: (job) => job.promote() },
    'delayed → waiting: `changeDelay` to 0': { before: delayed, happens: (job) => job.changeDelay(0) },
    'delayed → waiting: a saga is cancelled, of which it is the job': {
      before: delayed,
      happens: (job) => kit.engine.connection.interrupt('q', job, 'enough'),
    },
    'delayed → delayed: `changeDelay`': { before: delayed, happens: (job) => job.changeDelay(5000) },
    'delayed → cancelled: `cancel`': { before: delayed, happens: (job) => queue().cancel(job) },
    'delayed → failed: its `ttl` is over (after a `changeDelay` beyond it)': {
      before: async () => {
        const job = await add({ delay: 10, ttl: 10 });
        await job.changeDelay(50_000);
        return job;
      },
      happens: () => kit.pass(50_001),
    },
    'delayed → failed: `moveToDlq`': { before: delayed, happens: (job) => queue().moveToDlq(job, 'bad') },
    'delayed → unknown: `remove`': { before: delayed, happens: (job) => job.remove() },
    'delayed → unknown: `drain` with `delayed: true`': {
      before: delayed,
      happens: () => queue().drain({ delayed: true }),
    },
    'blocked → waiting: its last dependency has completed': { before: blockedOn, happens: completeDependency },
    'blocked → delayed: its last dependency has completed, and it has a `delay`': {
      before: () => blockedOn({ delay: 1000 }),
      happens: completeDependency,
    },
    'blocked → waiting: its last dependency has settled, policy `run`': {
      before: () => blockedOn({ onDependencyFailure: 'run' }),
      happens: failDependency,
    },
    'blocked → waiting: a dependency has failed, policy `run-now`': {
      before: async () =>
        add({
          dependsOn: [await other(), await queue().add('later', 1, { delay: 1000 })],
          onDependencyFailure: 'run-now',
        }),
      happens: failDependency,
    },
    'blocked → failed: a dependency has failed, policy `fail`': { before: blockedOn, happens: failDependency },
    'blocked → cancelled: a dependency has failed, policy `cancel`': {
      before: () => blockedOn({ onDependencyFailure: 'cancel' }),
      happens: failDependency,
    },
    'blocked → waiting: a saga is cancelled, of which it is the job': {
      before: async () => {
        const job = await active();
        await fail(job, await errorOf((await queue().getJob(job))!.waitFor(await other())));
        await closers.get(job)!();
        return job;
      },
      happens: (job) => kit.engine.connection.interrupt('q', job, 'enough'),
    },
    'blocked → blocked: a dependency has failed, policy `wait`': {
      before: () => blockedOn({ onDependencyFailure: 'wait' }),
      happens: failDependency,
    },
    'blocked → failed: a dependency is removed, policy `wait`': {
      before: () => blockedOn({ onDependencyFailure: 'wait' }),
      happens: (job) => dependencyOf(job).remove(),
    },
    'blocked → cancelled: `cancel`': { before: blockedOn, happens: (job) => queue().cancel(job) },
    'blocked → failed: its `ttl` is over': { before: () => blockedOn({ ttl: 10 }), happens: () => kit.pass(11) },
    'blocked → failed: `moveToDlq`': { before: blockedOn, happens: (job) => queue().moveToDlq(job, 'bad') },
    'blocked → unknown: `remove`': { before: blockedOn, happens: (job) => job.remove() },
    'active → completed: the handler returned': { before: active, happens: async (job) => ends.get(job)!.complete(1) },
    'active → waiting: the handler failed, attempts are left': {
      before: () => active({ attempts: 2 }),
      happens: async (job) => {
        await queue().pause();
        await fail(job);
      },
    },
    'active → delayed: the handler failed, attempts are left, with a backoff': {
      before: () => active({ attempts: 2, backoff: 1000 }),
      happens: (job) => fail(job),
    },
    'active → failed: the handler failed on its last attempt': { before: active, happens: (job) => fail(job) },
    'active → failed: the handler threw UnrecoverableError': {
      before: () => active({ attempts: 5 }),
      happens: (job) => fail(job, new UnrecoverableError('no')),
    },
    "active → failed: the result can't be encoded": {
      before: () => active({ attempts: 5 }),
      happens: async (job) => ends.get(job)!.complete(() => 1),
    },
    'active → delayed: the handler threw RateLimitError or DelayedError': {
      before: active,
      happens: (job) => fail(job, new RateLimitError(1000)),
    },
    'active → failed: its `timeout`, on the last attempt': {
      before: () => active({ timeout: 10 }),
      happens: () => kit.pass(5_011),
    },
    'active → delayed: its `timeout`, attempts are left': {
      before: () => active({ timeout: 10, attempts: 2, backoff: 60_000 }),
      happens: () => kit.pass(5_011),
    },
    'active → waiting: its worker closed and gave it back': { before: active, happens: (job) => closers.get(job)!() },
    "active → blocked: the handler's `job.waitFor` has to wait": {
      before: active,
      happens: async (job) => {
        const awaited = await other();
        await fail(job, await errorOf((await queue().getJob(job))!.waitFor(awaited)));
      },
    },
    'active → cancelled: `cancel`, and the handler rejected or the grace ended': {
      before: active,
      happens: async (job) => {
        await queue().cancel(job);
        await fail(job);
      },
    },
    'active → completed: `cancel`, and the handler returned within the grace': {
      before: active,
      happens: async (job) => {
        await queue().cancel(job);
        ends.get(job)!.complete(1);
      },
    },
    'active → unknown: `obliterate` with `force: true`': {
      before: active,
      happens: () => queue().obliterate({ force: true }),
    },
    "completed → unknown: the record's time is over": {
      before: () => kit.completed(queue(), 1, { removeOnComplete: { age: 1000 } }),
      happens: () => kit.pass(1001),
    },
    'completed → unknown: `remove`': { before: () => kit.completed(queue(), 1), happens: (job) => job.remove() },
    'completed → unknown: `clean`': { before: () => kit.completed(queue(), 1), happens: () => queue().clean(0) },
    'failed → waiting: `retryDlq`': { before: () => kit.failed(queue()), happens: (job) => queue().retryDlq(job) },
    'failed → blocked: `retryDlq` together with a dependency that had failed': {
      before: async () => {
        const dependency = await kit.failed(queue());
        const job = await add({ dependsOn: [dependency] });
        held.set(job, dependency);
        return job;
      },
      happens: (job) => queue().retryDlq([dependencyOf(job), job]),
    },
    'failed → delayed: `retryDlq` in a queue with a `redriveRate`, not the first': {
      before: async () => {
        await queue().configure({ dlq: { redriveRate: 1 } });
        await kit.failed(queue());
        return kit.failed(queue());
      },
      happens: () => queue().retryDlq(),
    },
    'failed → unknown: `purgeDlq`': { before: () => kit.failed(queue()), happens: (job) => queue().purgeDlq(job) },
    "failed → unknown: the dead letter queue's limits": {
      before: () => kit.failed(queue(), { removeOnFail: { count: 1 } }),
      happens: () => kit.failed(queue(), { removeOnFail: { count: 1 } }),
    },
    'failed → unknown: `remove`': { before: () => kit.failed(queue()), happens: (job) => job.remove() },
    "cancelled → unknown: the record's time is over": {
      before: async () => {
        const job = await add({ removeOnComplete: { age: 1000 } });
        await queue().cancel(job);
        return job;
      },
      happens: () => kit.pass(1001),
    },
    'cancelled → unknown: `remove`': {
      before: async () => {
        const job = await add();
        await queue().cancel(job);
        return job;
      },
      happens: (job) => job.remove(),
    },
  };

  test('the table and the tests are the same', () => {
    expect(Object.keys(scenarios)).toEqual(rows.map(keyOf));
  });

  describe('each transition, and the events that tell it', () => {
    test.each(rows.map((row) => [keyOf(row), row] as const))('%s', async (key, { from, to, events }) => {
      const { before, happens } = scenarios[key] as Scenario;
      const there = await before?.();
      await kit.settle();
      if (there !== undefined) expect(await queue().getJobState(there.id)).toBe(from);
      const recorder = await kit.recorder();
      const made = await happens(there as Job);
      await kit.settle();
      const job = there ?? (made as Job);
      expect(await queue().getJobState(job.id)).toBe(to);
      expect(recorder.of(job)).toEqual(events);
      const last = recorder.told.filter((one) => one.jobId === job.id).at(-1);
      if (last !== undefined && from !== 'unknown' && to !== from && last.event !== 'dlq:evicted')
        expect(last.args.prev).toBe(from);
    });
  });
};
