/** `job.emit` and `job.stream`, and the events of a Worker about its runs. */
import { type Job, JobCancelledError, JobFailedError, JobRemovedError, LeaseLostError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, watch } from './kit.js';

export const streams: Suite = (harness) => {
  const kit = kitOf(harness);
  const queue = () => kit.queue();

  /** Reads a stream to its end. */
  const read = async <T = any>(job: Job, seen: T[] = [], onRestart?: (attempt: number) => void): Promise<T[]> => {
    for await (const chunk of job.stream<T>({ onRestart })) seen.push(chunk);
    return seen;
  };

  describe('a stream', () => {
    test('gives every chunk in order, as what it was, and ends with the job', async () => {
      const job = await queue().add('a', 1);
      const chunks = [1, 'two', { three: [3] }, new Date(4), new Uint8Array([5]), null, undefined];
      const got = read(job);
      await kit.worker(async (run) => {
        for (const chunk of chunks) await run.emit(chunk);
        return 'done';
      });
      expect(await got).toEqual(chunks);
      expect(await queue().finished(job)).toBe('done');
    });

    test('chunks that nobody waited for come before the end', async () => {
      const job = await queue().add('a', 1);
      const got = read(job);
      await kit.worker((run) => {
        for (let i = 0; i < 500; i++) void run.emit(i);
        return 'done';
      });
      expect(await got).toEqual(Array.from({ length: 500 }, (_, i) => i));
    });

    test('several readers, each gets all; one that comes later what is kept', async () => {
      const job = await queue().add('a', 1);
      const hand = await kit.hand();
      const run = await hand.next();
      const first = read(job);
      for (const i of [1, 2]) await run.job.emit(i);
      await kit.settle();
      const second = read((await queue().getJob(job)) as Job);
      await kit.settle();
      await run.job.emit(3);
      run.complete();
      expect(await Promise.all([first, second])).toEqual([
        [1, 2, 3],
        [1, 2, 3],
      ]);
      expect(await read(job)).toEqual([1, 2, 3]);
      await kit.pass(30_001);
      expect(await read(job)).toEqual([]);
    });

    test('of a job that emits nothing is empty, also when it has ended already', async () => {
      const job = await queue().add('a', 1);
      const got = read(job);
      await kit.worker(() => 1);
      expect(await got).toEqual([]);
      expect(await read(job)).toEqual([]);
    });

    test('throws what the job ended with', async () => {
      const [failing, cancelled, removed] = await queue().addBulk(
        ['f', 'c', 'r'].map((name) => ({ name, data: 1, opts: { delay: 10 } })),
      );
      const errors = [failing, cancelled, removed].map((job) => errorOf(read(job as Job)));
      await kit.settle();
      await cancelled?.promote();
      const hand = await kit.hand();
      const run = await hand.next();
      await run.job.emit(1);
      await queue().cancel(run.job, 'no more');
      run.fail(new Error('stopped'));
      await removed?.remove();
      await failing?.promote();
      const other = await hand.next();
      await other.job.emit(1);
      other.fail(new Error('boom'));
      const [a, b, c] = await Promise.all(errors);
      expect(a).toBeInstanceOf(JobFailedError);
      expect(b).toBeInstanceOf(JobCancelledError);
      expect(c).toBeInstanceOf(JobRemovedError);
      expect(await errorOf(read(failing as Job))).toBeInstanceOf(JobFailedError);
    });

    test('of a job whose record goes at once ends all the same', async () => {
      const job = await queue().add('a', 1, { removeOnComplete: true });
      const got = read(job);
      await kit.worker(async (run) => void (await run.emit('x')));
      expect(await got).toEqual(['x']);
      await kit.pass(60_000);
      expect(await errorOf(read(job))).toBeInstanceOf(JobRemovedError);
    });

    test('begins anew with the next run, which is told; unread chunks of a failed one are dropped', async () => {
      const job = await queue().add('a', 1, { attempts: 2, backoff: 1000 });
      const seen: unknown[] = [];
      const got = read(job, seen, (attempt) => seen.push(`restart ${attempt}`));
      const hand = await kit.hand();
      const first = await hand.next();
      await first.job.emit('a');
      await kit.settle();
      first.fail(new Error('x'));
      await kit.pass(1001);
      const late = read(job);
      const second = await hand.next();
      await kit.settle();
      await second.job.emit('b');
      second.complete();
      expect(await got).toEqual(['a', 'restart 2', 'b']);
      expect(await late).toEqual(['a', 'b']);
      expect(await read(job)).toEqual(['b']);
    });

    test('a run that emits nothing tells, at its end, that what was read does not count', async () => {
      const job = await queue().add('a', 1, { attempts: 2 });
      const seen: unknown[] = [];
      const got = read(job, seen, (attempt) => seen.push(`restart ${attempt}`));
      const hand = await kit.hand();
      const first = await hand.next();
      await first.job.emit('a');
      await kit.settle();
      first.fail(new Error('x'));
      (await hand.next()).complete();
      expect(await got).toEqual(['a', 'restart 2']);
    });

    test('a loop that is left lets go of it', async () => {
      const job = await queue().add('a', 1);
      const hand = await kit.hand();
      const run = await hand.next();
      for (let i = 0; i < 3; i++) await run.job.emit(i);
      for await (const chunk of job.stream()) if (chunk === 1) break;
      for (let i = 3; i < 3000; i++) await run.job.emit(i);
      run.complete();
    });
  });

  describe('bounds', () => {
    test('without a reader the last 1,000 chunks are kept', async () => {
      const job = await queue().add('a', 1);
      const hand = await kit.hand();
      const run = await hand.next();
      for (let i = 0; i < 1500; i++) await run.job.emit(i);
      const got = read(job);
      await kit.settle();
      run.complete();
      expect(await got).toEqual(Array.from({ length: 1000 }, (_, i) => i + 500));
    });

    test('or 1 MiB of them', async () => {
      const job = await queue().add('a', 1);
      const hand = await kit.hand();
      const run = await hand.next();
      for (let i = 0; i < 30; i++) await run.job.emit(new Uint8Array(100_000).fill(i));
      run.complete();
      expect((await read<Uint8Array>(job)).map((one) => one[0])).toEqual(Array.from({ length: 10 }, (_, i) => i + 20));
    });

    test('a slow reader is waited for, and misses nothing', async () => {
      const job = await queue().add('a', 1);
      const hand = await kit.hand();
      const run = await hand.next();
      const chunks = job.stream<number>();
      const first = chunks.next();
      await kit.settle();
      for (let i = 0; i < 1001; i++) await run.job.emit(i);
      expect((await first).value).toBe(0);
      let blocked = watch(Promise.resolve());
      let emitted = 1001;
      while (blocked.settled || emitted === 1001) {
        blocked = watch(run.job.emit(emitted++));
        await kit.settle();
      }
      expect(emitted).toBeLessThan(1300);
      const seen: number[] = [0];
      for await (const chunk of chunks) {
        seen.push(chunk);
        if (chunk === 900) {
          await kit.settle();
          expect(blocked.settled).toBe(true);
          run.complete();
        }
      }
      expect(seen).toEqual(Array.from({ length: emitted }, (_, i) => i));
    });

    test('one that takes nothing for 10 s is left out, and the run goes on', async () => {
      const job = await queue().add('a', 1);
      const hand = await kit.hand();
      const run = await hand.next();
      const chunks = job.stream<number>();
      const first = chunks.next();
      await kit.settle();
      await run.job.emit('first');
      await first;
      for (let i = 0; i < 1000; i++) await run.job.emit(i);
      const blocked = watch(run.job.emit('last'));
      await kit.settle();
      expect(blocked.settled).toBe(false);
      await kit.pass(10_001);
      expect(blocked.settled).toBe(true);
      run.complete();
      expect(await errorOf(chunks.next())).toBeInstanceOf(ValidationError);
    });

    test('whoever does not wait for its chunks cannot fill the memory: a reader far behind is left out at once', async () => {
      const job = await queue().add('a', 1);
      const hand = await kit.hand();
      const run = await hand.next();
      const chunks = job.stream<number>();
      const first = chunks.next();
      await kit.settle();
      await run.job.emit('first');
      await first;
      await Promise.all(Array.from({ length: 6000 }, (_, i) => run.job.emit(i)));
      run.complete();
      expect(await errorOf(chunks.next())).toBeInstanceOf(ValidationError);
    });
  });

  describe('emit', () => {
    test('is refused when the job is not run by that run any more', async () => {
      const job = await queue().add('a', 1, { attempts: 2 });
      const hand = await kit.hand();
      const first = await hand.next();
      first.fail(new Error('x'));
      const second = await hand.next();
      expect(await errorOf(first.job.emit(1))).toBeInstanceOf(LeaseLostError);
      await second.job.emit(2);
      second.complete();
      await kit.settle();
      expect(await errorOf(second.job.emit(3))).toBeInstanceOf(LeaseLostError);
      expect(await errorOf(job.emit(1))).toBeInstanceOf(LeaseLostError);
      expect(await read(job)).toEqual([2]);
    });

    test('of what can not be stored is refused, and harms nobody who does not look', async () => {
      await queue().add('a', 1);
      const hand = await kit.hand();
      const run = await hand.next();
      void run.job.emit(() => 1);
      expect(await errorOf(run.job.emit(() => 1))).toBeInstanceOf(ValidationError);
      run.complete();
    });
  });

  test('extendLock says whether the run still owns its job', async () => {
    await queue().add('a', 1, { attempts: 2 });
    const hand = await kit.hand();
    const first = await hand.next();
    expect(await first.job.extendLock(5000)).toBe(5000);
    expect(await first.job.extendLock('token', 1000)).toBe(1000);
    first.fail(new Error('x'));
    await hand.next();
    expect(await errorOf(first.job.extendLock(1))).toBeInstanceOf(LeaseLostError);
    expect(await errorOf(first.job.extendLock('x' as never))).toBeInstanceOf(ValidationError);
  });

  describe('events of the Worker', () => {
    test('progress', async () => {
      const worker = await kit.worker(async (job) => {
        await job.updateProgress({ done: 1 });
        return 1;
      });
      const told: unknown[] = [];
      worker.on('progress', (job, progress) => told.push([job.id, progress, job.progress]));
      const job = await queue().add('a', 1);
      await queue().finished(job);
      await kit.settle();
      expect(told).toEqual([[job.id, { done: 1 }, { done: 1 }]]);
    });

    test('late: a handler ends whose job was taken from it', async () => {
      const hand = await kit.hand({ abortGrace: 100 });
      const told: string[] = [];
      hand.worker.on('late', (job) => told.push(job.id));
      const job = await queue().add('a', 1);
      const run = await hand.next();
      await queue().cancel(job);
      await kit.pass(101);
      expect(await job.getState()).toBe('cancelled');
      run.complete('too late');
      await kit.settle();
      expect(told).toEqual([job.id]);
    });
  });
};
