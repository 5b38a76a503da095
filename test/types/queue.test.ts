/**
 * What the compiler says of queues and jobs. `tsc -p test` is the test; here nothing is called, so that nothing runs either.
 */
import {
  type AddOptions,
  type BulkAnswer,
  BulkError,
  type DlqReason,
  type Engine,
  type Explanation,
  FlashQError,
  type Job,
  type JobCounts,
  JobFailedError,
  type JobJson,
  type JobStateOrUnknown,
  Queue,
  type SettledResult,
  type TypedQueue,
} from 'flashq';
import { expect, expectTypeOf, test } from 'vitest';

interface Email {
  to: string;
  subject?: string;
}
interface Sent {
  messageId: number;
}
type Jobs = {
  email: { data: Email; result: Sent };
  sms: { data: { phone: string } };
  ping: { data: null; result?: 'pong' };
};

/** Compiled, never run. */
function compiled(code: (...given: never[]) => unknown): void {
  expect(code).toBeTypeOf('function');
}

test('a Queue with no types takes anything', () =>
  compiled(async (queue: Queue) => {
    const job = await queue.add('any', { whatever: 1n });
    expectTypeOf(job.data).toBeAny();
    expectTypeOf(await queue.addAndWait('any', 1)).toBeAny();
    // @ts-expect-error data is not optional: say undefined
    await queue.add('any');
    // @ts-expect-error the name is a string
    await queue.add(1, {});
  }));

test('a Queue with data, result and names', () =>
  compiled(async (queue: Queue<Email, Sent, 'welcome' | 'bye'>) => {
    const job = await queue.add('welcome', { to: 'a' });
    expectTypeOf(job).toEqualTypeOf<Job<Email, Sent, 'welcome' | 'bye'>>();
    expectTypeOf(await queue.addAndWait('bye', { to: 'a' }, { priority: 1 }, { timeout: 5 })).toEqualTypeOf<Sent>();
    // @ts-expect-error no such name
    await queue.add('hello', { to: 'a' });
    // @ts-expect-error no recipient
    await queue.add('welcome', { subject: 'a' });
    // @ts-expect-error a member that Email doesn't have
    await queue.add('welcome', { to: 'a', cc: 'b' });
    // @ts-expect-error the recipient is a string
    await queue.updateData(job, { to: 1 });
  }));

test('a generic wrapper compiles', () =>
  compiled(async (queue: Queue<Email>) => {
    const enqueue = <T>(to: Queue<T>, data: T) => to.add('wrapped', data);
    expectTypeOf((await enqueue(queue, { to: 'a' })).data).toEqualTypeOf<Email>();
  }));

test('addBulk gives jobs, or with atomic: false one answer an item', () =>
  compiled(async (queue: Queue<Email, Sent>) => {
    const items = [{ name: 'a', data: { to: 'a' }, opts: { delay: 5 } }] as const;
    expectTypeOf(await queue.addBulk(items)).toEqualTypeOf<Job<Email, Sent>[]>();
    expectTypeOf(await queue.addBulk(items, { atomic: true })).toEqualTypeOf<Job<Email, Sent>[]>();
    const answers = await queue.addBulk(items, { atomic: false });
    expectTypeOf(answers).toEqualTypeOf<BulkAnswer<Job<Email, Sent>>[]>();
    for (const answer of answers) {
      if (answer.ok) expectTypeOf(answer.job).toEqualTypeOf<Job<Email, Sent>>();
      else expectTypeOf(answer.error).toEqualTypeOf<Error>();
      // @ts-expect-error only if it is ok
      answer.job.id;
    }
    // @ts-expect-error data of another kind
    await queue.addBulk([{ name: 'a', data: { to: 5 } }]);
    // @ts-expect-error no such option
    await queue.addBulk(items, { atomically: true });
  }));

test('finished: one result for one, results for many, and what became of each when settled', () =>
  compiled(async (queue: Queue<Email, Sent>) => {
    const job = await queue.add('a', { to: 'a' });
    expectTypeOf(await queue.finished(job)).toEqualTypeOf<Sent>();
    expectTypeOf(await queue.finished('j1', 500)).toEqualTypeOf<Sent>();
    expectTypeOf(await queue.finished({ queue: 'other', id: 'mine' }, { timeout: 5 })).toEqualTypeOf<Sent>();
    expectTypeOf(await queue.finished([job, 'j2'])).toEqualTypeOf<Sent[]>();
    const settled = await queue.finished([job, 'j2'], { settled: true, timeout: 5 });
    expectTypeOf(settled).toEqualTypeOf<SettledResult<Sent>[]>();
    for (const one of settled) {
      if (one.status === 'fulfilled') expectTypeOf(one.value).toEqualTypeOf<Sent>();
      else expectTypeOf(one.reason).toEqualTypeOf<Error>();
    }
    // @ts-expect-error a number is no reference
    await queue.finished(5);
    // @ts-expect-error settled is for many
    await queue.finished(job, { settled: true });
    // @ts-expect-error milliseconds
    await queue.finished(job, { timeout: '5 s' });
  }));

test('a typed queue: every name has its own data and result', () =>
  compiled(async () => {
    const queue = Queue.typed<Jobs>('messages', { defaultJobOptions: { attempts: 3 } });
    const email = await queue.add('email', { to: 'a' }, { delay: 5 });
    expectTypeOf(email).toEqualTypeOf<Job<Email, Sent, 'email'>>();
    expectTypeOf(await queue.addAndWait('email', { to: 'a' })).toEqualTypeOf<Sent>();
    expectTypeOf(await queue.addAndWait('ping', null)).toEqualTypeOf<'pong'>();
    expectTypeOf(await queue.addAndWait('sms', { phone: '1' })).toEqualTypeOf<unknown>();
    expectTypeOf(await queue.finished(email)).toEqualTypeOf<Sent>();
    expectTypeOf(queue.name).toEqualTypeOf<string>();
    expectTypeOf(await queue.getJobCounts()).toEqualTypeOf<JobCounts>();
    // @ts-expect-error the data of another name
    await queue.add('email', { phone: '1' });
    // @ts-expect-error no such name
    await queue.add('fax', { to: 'a' });
    // @ts-expect-error the data of another name
    await queue.addAndWait('ping', { to: 'a' });
  }));

test('a typed queue in bulk: items are checked one by one, and the name of a job tells its data', () =>
  compiled(async () => {
    const queue = Queue.typed<Jobs>('messages');
    const jobs = await queue.addBulk([
      { name: 'email', data: { to: 'a' } },
      { name: 'ping', data: null, opts: { priority: 1 } },
    ]);
    for (const job of [...jobs, ...(await queue.getDlq(10, { offset: 5 }))]) {
      if (job.name === 'email') expectTypeOf(job.data).toEqualTypeOf<Email>();
      if (job.name === 'email') expectTypeOf(job.returnvalue).toEqualTypeOf<Sent | undefined>();
      if (job.name === 'ping') expectTypeOf(job.data).toEqualTypeOf<null>();
    }
    const answers = await queue.addBulk([{ name: 'sms', data: { phone: '1' } }], { atomic: false });
    for (const answer of answers) {
      if (answer.ok && answer.job.name === 'sms') expectTypeOf(answer.job.data).toEqualTypeOf<{ phone: string }>();
    }
    const found = await queue.getJob('j1');
    if (found?.name === 'sms') expectTypeOf(found.data.phone).toEqualTypeOf<string>();
    // @ts-expect-error a name with the data of another
    await queue.addBulk([{ name: 'sms', data: { to: 'a' } }]);
  }));

test('the fields of a job', () =>
  compiled(async (job: Job<Email, Sent, 'email'>) => {
    expectTypeOf(job.id).toEqualTypeOf<string>();
    expectTypeOf(job.name).toEqualTypeOf<'email'>();
    expectTypeOf(job.queueName).toEqualTypeOf<string>();
    expectTypeOf(job.data).toEqualTypeOf<Email>();
    expectTypeOf(job.returnvalue).toEqualTypeOf<Sent | undefined>();
    expectTypeOf(job.failedReason).toEqualTypeOf<string | undefined>();
    expectTypeOf(job.stacktrace).toEqualTypeOf<readonly string[]>();
    expectTypeOf(job.attemptsMade).toEqualTypeOf<number>();
    expectTypeOf(job.processedOn).toEqualTypeOf<number | undefined>();
    expectTypeOf(job.deduplicated).toEqualTypeOf<boolean>();
    expectTypeOf(job.dlq?.reason).toEqualTypeOf<DlqReason | undefined>();
    expectTypeOf(job.toJSON()).toEqualTypeOf<JobJson<Email, Sent>>();
    expectTypeOf(await job.waitUntilFinished()).toEqualTypeOf<Sent>();
    expectTypeOf(await job.waitUntilFinished({}, 5)).toEqualTypeOf<Sent>();
    expectTypeOf(await job.getState()).toEqualTypeOf<JobStateOrUnknown>();
    expectTypeOf(await job.getDependencyResults<number>()).toEqualTypeOf<Record<string, number>>();
    expectTypeOf(await job.log('line')).toEqualTypeOf<number>();
    await job.updateData({ to: 'b' });
    await job.changePriority({ lifo: true });
    // @ts-expect-error other data
    await job.updateData({ phone: '1' });
    // @ts-expect-error set by the engine alone
    job.attemptsMade = 5;
    // @ts-expect-error set by the engine alone
    job.id = 'j5';
  }));

test('the options of a job', () =>
  compiled(async (queue: Queue) => {
    const job = await queue.add('a', 1);
    const all: AddOptions = {
      delay: 1,
      priority: -1,
      lifo: true,
      attempts: 5,
      backoff: { type: 'exponential', delay: 1000, jitter: 0.5 },
      timeout: 5,
      ttl: 5,
      jobId: 'mine',
      onDuplicate: 'rerun',
      dependsOn: [job, 'j1', { queue: 'other', id: 'mine' }],
      onDependencyFailure: 'run-now',
      removeOnComplete: { age: 5 },
      removeOnFail: 100,
      maxDeliveries: 2,
    };
    await queue.add('a', 1, all);
    await queue.add('a', 1, { backoff: 1000, depends_on: [job], removeOnComplete: true, delay: undefined });
    await queue.add('a', 1, { backoff: { type: 'a strategy of mine' } });
    // @ts-expect-error no such option
    await queue.add('a', 1, { retries: 5 });
    // @ts-expect-error no such policy
    await queue.add('a', 1, { onDuplicate: 'ignore' });
    // @ts-expect-error no such policy
    await queue.add('a', 1, { onDependencyFailure: 'explode' });
    // @ts-expect-error a list
    await queue.add('a', 1, { dependsOn: 'j1' });
    // @ts-expect-error a number
    await queue.add('a', 1, { priority: 'high' });
  }));

test('control of a queue', () =>
  compiled(async (queue: Queue, engine: Engine) => {
    expectTypeOf(await queue.cancel('j1', 'why')).toEqualTypeOf<'cancelled' | 'aborting' | 'finished'>();
    expectTypeOf(await queue.explain('j1')).toEqualTypeOf<Explanation>();
    expectTypeOf(await queue.remove('j1')).toEqualTypeOf<boolean>();
    expectTypeOf(await queue.retryDlq('all')).toEqualTypeOf<number>();
    await queue.setRateLimit({ max: 5, duration: 1000 });
    await queue.configure({ rateLimit: null, concurrency: 5 });
    expectTypeOf(new Queue<Email>('a', { connection: engine })).toEqualTypeOf<Queue<Email, any, string>>();
    // @ts-expect-error how long?
    await queue.setRateLimit({ max: 5 });
    // @ts-expect-error no such setting
    await queue.configure({ concurency: 5 });
    // @ts-expect-error no such option
    new Queue('a', { prefix: 'bull' });
  }));

test('the dead letter queue, pages of jobs, and streams', () =>
  compiled(async (queue: Queue<Email, Sent>, job: Job<Email, Sent>, typed: TypedQueue<Jobs>) => {
    expectTypeOf(await queue.purgeDlq({ tag: 'x', since: new Date() })).toEqualTypeOf<number>();
    await queue.retryDlq([job, 'j1'], { withDependencies: true });
    expectTypeOf(await queue.getDlq(5, { filter: { reason: 'timeout' } })).toEqualTypeOf<Job<Email, Sent, string>[]>();
    expectTypeOf((await queue.getJobs({ states: ['failed'] })).jobs).toEqualTypeOf<Job<Email, Sent, string>[]>();
    expectTypeOf(await queue.clean(5, 0, 'delayed')).toEqualTypeOf<string[]>();
    const [one] = await typed.getWaiting(0, 5);
    if (one?.name === 'email') expectTypeOf(one.data).toEqualTypeOf<Email>();
    for await (const token of job.stream<string>()) expectTypeOf(token).toEqualTypeOf<string>();
    // @ts-expect-error which ones?
    await queue.purgeDlq();
    // @ts-expect-error no such reason
    await queue.getDlq(5, { filter: { reason: 'bored' } });
    // @ts-expect-error never active ones
    await queue.clean(5, 0, 'active');
  }));

test('errors are told apart by class, and have a code', () =>
  compiled((error: unknown) => {
    if (error instanceof FlashQError) {
      expectTypeOf(error.code).toEqualTypeOf<string>();
      expectTypeOf(error.retryable).toEqualTypeOf<boolean>();
    }
    if (error instanceof JobFailedError) {
      expectTypeOf(error.jobId).toEqualTypeOf<string>();
      expectTypeOf(error.failedReason).toEqualTypeOf<string>();
      // @ts-expect-error it is what it is
      error.jobId = 'j1';
    }
    if (error instanceof BulkError) {
      expectTypeOf(error.errors).toEqualTypeOf<readonly { readonly index: number; readonly error: Error }[]>();
    }
  }));
