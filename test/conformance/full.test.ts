import { EngineFullError, type Job } from 'flashq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Bench, bench } from '../support/engine.js';

let b: Bench;
beforeEach(async () => {
  b = await bench({ maxMemory: 8 * 2 ** 20 });
});
afterEach(() => b.close());

/** Adds until nothing more fits: the jobs that did. */
async function fill(bytes: number, opts?: object): Promise<Job[]> {
  const queue = b.queue();
  const jobs: Job[] = [];
  while (jobs.length < 200_000) {
    try {
      jobs.push(await queue.add('a', 'x'.repeat(bytes), opts));
    } catch (error) {
      expect(error).toBeInstanceOf(EngineFullError);
      return jobs;
    }
  }
  throw new Error('it never filled');
}

describe('full memory', () => {
  test.each([20, 500, 5_000, 100_000])(
    'add rejects, and every job of %i bytes that was admitted runs',
    async (bytes) => {
      const jobs = await fill(bytes);
      expect(jobs.length).toBeGreaterThan(10);
      await expect(b.queue().addBulk([{ name: 'a', data: 'x'.repeat(bytes) }])).rejects.toThrow(/memory/);
      let ran = 0;
      b.worker(() => void ran++, { concurrency: 8 });
      await b.queue().finished(jobs);
      expect(ran).toBe(jobs.length);
      await b.clock.advance(7_200_000); // until then the records of finished jobs are kept
      expect(await fill(bytes)).not.toEqual([]);
    },
  );

  test('what was admitted can be retried, delayed, moved, cancelled', async () => {
    const jobs = await fill(200, { attempts: 3, backoff: 100 });
    const queue = b.queue();
    const seen = new Map<string, number>();
    b.worker(
      (job) => {
        const runs = (seen.get(job.id) ?? 0) + 1;
        seen.set(job.id, runs);
        if (runs < 3) throw new Error(`run ${runs}`);
      },
      { concurrency: 50 },
    );
    for (const job of jobs.slice(0, 20)) await queue.changePriority(job, 5).catch(() => {});
    let isDone = false;
    const done = queue.finished(jobs).finally(() => {
      isDone = true;
    });
    while (!isDone) await b.clock.advance(50);
    await done;
    expect((await queue.getJobCounts()).failed).toBe(0);
    expect([...seen.values()].every((runs) => runs === 3)).toBe(true);
    expect(seen.size).toBe(jobs.length);
  });

  test('a bulk that does not fit leaves nothing behind', async () => {
    const queue = b.queue();
    const used = b.engine.stats().memory.used;
    const items = Array.from({ length: 100 }, () => ({ name: 'a', data: 'x'.repeat(200_000) }));
    await expect(queue.addBulk(items)).rejects.toBeDefined();
    expect((await queue.getJobCounts()).waiting).toBe(0);
    expect(b.engine.stats().memory.used - used).toBeLessThan(5 * 65_536);
    const answers = await queue.addBulk(items, { atomic: false });
    const added = answers.filter((one) => one.ok).length;
    expect(added).toBeGreaterThan(5);
    expect((await queue.getJobCounts()).waiting).toBe(added);
  });
});
