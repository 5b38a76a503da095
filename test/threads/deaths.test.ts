import { type Job, JobCancelledError, JobFailedError, QueueEvents } from 'flashq';
import { describe, expect, test } from 'vitest';
import { atEnd, board, open, reached, start, until } from './support.js';

async function failure(promise: Promise<unknown>): Promise<JobFailedError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(JobFailedError);
  return error as JobFailedError;
}

describe('a thread that ends by itself', () => {
  test.each([
    ['process.exit', 'exits', /worker exited with code: 3/],
    ['an uncaught error', 'throwsOutside', /nobody catches this/],
    ['an unhandled rejection', 'rejectsOutside', /nobody handles this/],
  ])('%s: the run is lost, and after maxDeliveries the job fails as worker_lost', async (_, name, message) => {
    const { queue, worker, errors } = await start('tasks.js');
    const failed: string[] = [];
    worker.on('failed', (job) => void failed.push(job.failedReason ?? ''));
    const job = await queue.add(name, {}, { maxDeliveries: 2, attempts: 1 });
    await failure(queue.finished(job));
    const record = (await queue.getJob(job.id)) as Job;
    expect(record.dlq?.reason).toBe('worker_lost');
    expect(record.attemptsMade).toBe(0);
    expect(record.attemptsStarted).toBe(2);
    expect(failed).toEqual(['Its worker died while running it, 2 times']);
    await until(() => errors.length === 2);
    for (const error of errors) expect(error.message).toMatch(message);
    expect(await queue.addAndWait('echo', 'the place is filled again')).toBe('the place is filled again');
  });

  test('the events tell each loss, and what became of the job: the second table of docs/STATE_MACHINE.md', async () => {
    const { engine, queue } = await start('tasks.js');
    const events = new QueueEvents('work', { connection: engine });
    atEnd(() => events.close());
    const told: unknown[] = [];
    for (const name of ['active', 'stalled', 'waiting', 'failed'] as const)
      events.on(name, ({ prev }) => void told.push(prev === undefined ? name : [name, prev]));
    await events.waitUntilReady();
    await failure(queue.finished(await queue.add('exits', {}, { maxDeliveries: 2 })));
    await until(() => told.length === 7);
    const active = ['active', 'waiting'];
    expect(told).toEqual([
      'waiting',
      active,
      'stalled',
      ['waiting', 'active'],
      active,
      'stalled',
      ['failed', 'active'],
    ]);
  });

  test('maxDeliveries of the queue holds for jobs that do not say', async () => {
    const { queue } = await start('tasks.js');
    await queue.configure({ maxDeliveries: 1 });
    const job = await queue.add('exits', {});
    await failure(queue.finished(job));
    expect((await queue.getJob(job))?.attemptsStarted).toBe(1);
    const other = await queue.add('exits', {}, { maxDeliveries: 2 });
    await failure(queue.finished(other));
    expect((await queue.getJob(other))?.attemptsStarted).toBe(2);
  });

  test('maxDeliveries is 5 unless the job says otherwise', async () => {
    const { queue } = await start('tasks.js');
    const job = await queue.add('exits', { started: 1 });
    await failure(queue.finished(job));
    expect(board[1]).toBe(5);
  });

  test('a lost run consumes no attempt: the next one is the first', async () => {
    const { queue } = await start('tasks.js');
    const job = await queue.add('exitsAtFirst', { runs: 1, times: 1 }, { attempts: 1 });
    expect(await queue.finished(job)).toBe(2);
    expect((await queue.getJob(job.id))?.attemptsMade).toBe(0);
  });

  test('the neighbours on the thread are lost runs too, and run again', async () => {
    const { queue } = await start('tasks.js', { concurrency: 3 });
    const neighbours = await queue.addBulk([
      { name: 'gate', data: { started: 1, gate: 2 } },
      { name: 'gate', data: { started: 1, gate: 2 } },
    ]);
    await reached(1, 2);
    const culprit = await queue.add('exits', {}, { maxDeliveries: 1 });
    expect((await failure(queue.finished(culprit))).message).toMatch(/worker died/);
    await reached(1, 4);
    open(2);
    expect(await queue.finished(neighbours)).toEqual(['through', 'through']);
    expect((await queue.getJob(neighbours[0]!.id))?.attemptsMade).toBe(0);
  });

  test('other threads of the Worker go on', async () => {
    const { queue } = await start('tasks.js', { threads: 2 });
    const held = await queue.add('gate', { started: 1, gate: 2 });
    await reached(1, 1);
    await failure(queue.addAndWait('exits', {}, { maxDeliveries: 1 }));
    open(2);
    expect(await queue.finished(held)).toBe('through');
    expect((await queue.getJob(held.id))?.attemptsStarted).toBe(1);
  });

  test('what it had published before counts', async () => {
    const { queue } = await start('tasks.js', { concurrency: 100 });
    const jobs = await queue.addBulk([
      ...Array.from({ length: 99 }, (_, i) => ({ name: 'echo', data: i })),
      { name: 'exits', data: {}, opts: { maxDeliveries: 1 } },
    ]);
    const results = await queue.finished(jobs, { settled: true });
    expect(results.slice(0, 99).map((one) => (one.status === 'fulfilled' ? one.value : one.reason))).toEqual(
      Array.from({ length: 99 }, (_, i) => i),
    );
    expect(results[99]?.status).toBe('rejected');
  });
});

describe('jobs lost twice', () => {
  test('run with no other such job beside them', async () => {
    const { queue } = await start('tasks.js', { concurrency: 4, threads: 2 });
    // Each of them ends its thread twice; so all of them are lost twice or more. From then on: one at a time.
    const jobs = await queue.addBulk(
      Array.from({ length: 4 }, (_, i) => ({
        name: 'exitsAtFirst',
        data: { runs: 10 + i, times: 2 },
        opts: { maxDeliveries: 20 },
      })),
    );
    expect(await queue.finished(jobs)).toHaveLength(4);
    expect(await queue.getJobCounts()).toMatchObject({ completed: 4, waiting: 0, active: 0, blocked: 0 });
  });

  test('and are told: blocked while another such job waits or runs', async () => {
    const { engine, queue } = await start('tasks.js', { concurrency: 2 });
    const events = new QueueEvents('work', { connection: engine });
    atEnd(() => events.close());
    const told: string[] = [];
    for (const name of ['stalled', 'blocked', 'waiting', 'completed'] as const)
      events.on(
        name,
        ({ jobId, prev }) => void told.push(`${jobId} ${name}${prev === undefined ? '' : ` from ${prev}`}`),
      );
    await events.waitUntilReady();
    await queue.pause();
    // Both run when their thread ends, twice; then one runs without the other.
    const [one, other] = (await queue.addBulk([
      { name: 'gate', data: { started: 1, gate: 2 } },
      { name: 'exitsWith', data: { runs: 3, times: 2, with: 1 } },
    ])) as [Job, Job];
    await queue.resume();
    await until(
      () => told.includes(`${other.id} blocked from active`) || told.includes(`${one.id} blocked from active`),
    );
    open(2);
    await queue.finished([one, other]);
    await until(() => told.filter((line) => line.includes('completed')).length === 2);
    const held = told.includes(`${one.id} blocked from active`) ? one : other;
    expect(told.filter((line) => line.startsWith(`${held.id} `))).toEqual([
      `${held.id} waiting`,
      `${held.id} stalled`,
      `${held.id} waiting from active`,
      `${held.id} stalled`,
      `${held.id} blocked from active`,
      `${held.id} waiting from blocked`,
      `${held.id} completed from active`,
    ]);
  });

  test('the innocent one beside a poison job is not convicted with it', async () => {
    const { queue } = await start('tasks.js', { concurrency: 2 });
    const innocent = await queue.add('gate', { started: 1, gate: 2 }, { maxDeliveries: 4 });
    const poison = await queue.add('exits', { started: 3 }, { maxDeliveries: 4 });
    await failure(queue.finished(poison));
    open(2);
    expect(await queue.finished(innocent)).toBe('through');
  });
});

describe('a run that takes too long', () => {
  test('and obeys its signal: the attempt fails as a timeout, the thread stays', async () => {
    const { queue } = await start('tasks.js');
    const before = await queue.addAndWait('thread', 0);
    const job = await queue.add('obedient', { started: 1, gate: 2 }, { timeout: 20 });
    expect((await failure(queue.finished(job))).message).toMatch(/timeout of 20 ms/);
    const failed = await queue.getJob(job.id);
    expect(failed?.dlq?.reason).toBe('timeout');
    expect(failed?.attemptsMade).toBe(1);
    expect(await queue.addAndWait('thread', 0)).toBe(before);
  });

  test('and completes before its grace ends: completed', async () => {
    const { queue } = await start('tasks.js', { abortGrace: 5000 });
    expect(await queue.addAndWait('stubborn', { started: 1 }, { timeout: 20 })).toBe('done all the same');
  });

  test.each(['hangs', 'spins'])('and %s: its thread is replaced and its attempt has failed', async (name) => {
    const { queue, worker, errors } = await start('tasks.js', { abortGrace: 30 });
    const before = await queue.addAndWait('thread', 0);
    const failed: string[] = [];
    worker.on('failed', (_, error) => void failed.push(error.message));
    const job = await queue.add(name, { started: 1 }, { timeout: 20 });
    expect((await failure(queue.finished(job))).message).toMatch(/timeout of 20 ms/);
    expect((await queue.getJob(job.id))?.dlq?.reason).toBe('timeout');
    expect(await queue.addAndWait('thread', 0)).not.toBe(before);
    expect(errors).toEqual([]);
    expect(failed).toEqual([expect.stringMatching(/timeout of 20 ms/)]);
  });

  test('is run again while it has attempts', async () => {
    const { queue } = await start('tasks.js', { abortGrace: 10 });
    const job = await queue.add('hangs', { started: 1 }, { timeout: 10, attempts: 3 });
    await failure(queue.finished(job));
    expect(board[1]).toBe(3);
    expect((await queue.getJob(job.id))?.attemptsMade).toBe(3);
  });

  test('neighbours on its thread are released: no attempt, no lost run', async () => {
    const { queue } = await start('tasks.js', { concurrency: 3, abortGrace: 20 });
    const neighbours = await queue.addBulk([
      { name: 'gate', data: { started: 1, gate: 2 }, opts: { maxDeliveries: 1 } },
      { name: 'gate', data: { started: 1, gate: 2 }, opts: { maxDeliveries: 1 } },
    ]);
    await reached(1, 2);
    await failure(queue.addAndWait('hangs', { started: 3 }, { timeout: 10 }));
    await reached(1, 4);
    open(2);
    expect(await queue.finished(neighbours)).toEqual(['through', 'through']);
    expect((await queue.getJob(neighbours[1]!.id))?.attemptsMade).toBe(0);
  });
});

describe('cancelling a running job', () => {
  test('its signal aborts, and it is cancelled', async () => {
    const { queue } = await start('tasks.js');
    const job = await queue.add('obedient', { started: 1, gate: 2 });
    await reached(1, 1);
    expect(await queue.cancel(job, 'not needed')).toBe('aborting');
    await expect(queue.finished(job)).rejects.toThrow(JobCancelledError);
    expect(await job.getState()).toBe('cancelled');
  });

  test('a handler that ignores it loses its thread, and the job is cancelled', async () => {
    const { queue, errors } = await start('tasks.js', { abortGrace: 20 });
    const before = await queue.addAndWait('thread', 0);
    const job = await queue.add('spins', { started: 1 });
    await reached(1, 1);
    expect(await queue.cancel(job)).toBe('aborting');
    await expect(queue.finished(job)).rejects.toThrow(JobCancelledError);
    expect(await queue.addAndWait('thread', 0)).not.toBe(before);
    expect(errors).toEqual([]);
  });

  test('a completion within the grace counts', async () => {
    const { queue } = await start('tasks.js', { abortGrace: 5000 });
    const job = await queue.add('stubborn', { started: 1 });
    await reached(1, 1);
    await queue.cancel(job);
    expect(await queue.finished(job)).toBe('done all the same');
    expect(await job.getState()).toBe('completed');
  });

  test('a job whose thread dies while it is being cancelled is cancelled', async () => {
    const { queue } = await start('tasks.js', { concurrency: 2, abortGrace: 5000 });
    const job = await queue.add('hangs', { started: 1 });
    await reached(1, 1);
    await queue.cancel(job);
    await failure(queue.addAndWait('exits', {}, { maxDeliveries: 1 }));
    await until(async () => (await job.getState()) === 'cancelled');
    expect(board[1]).toBe(1);
  });
});
