/** A breaker of one's own around what a handler calls: jobs that meet it open wait, and are not counted against. */
import { CircuitBreaker } from 'flashq';
import { expect, test } from 'vitest';
import { kitOf, type Suite } from './kit.js';

export const breakers: Suite = (harness) => {
  const kit = kitOf(harness);

  test('an open breaker delays jobs until the next probe, without an attempt, and none of them fails', async () => {
    const breaker = new CircuitBreaker({ threshold: 2, timeout: 60_000, clock: kit.clock });
    let isDown = true;
    let calls = 0;
    const call = () => {
      calls++;
      if (isDown) throw new Error('down');
      return 'up';
    };
    const queue = kit.queue();
    await kit.worker(() => breaker.execute(call));
    const jobs = await queue.addBulk(
      Array.from({ length: 10 }, () => ({ name: 'call', data: null, opts: { attempts: 2 } })),
    );
    await kit.settle();
    expect(calls).toBe(2);
    expect(await queue.getJobCounts()).toMatchObject({ delayed: 10, failed: 0 });
    expect((await queue.getJob(jobs[9]!))!.attemptsMade).toBe(0);
    isDown = false;
    await kit.pass(59_999);
    expect(calls).toBe(2);
    await kit.pass(1);
    await kit.pass(2000);
    expect(breaker.state).toBe('CLOSED');
    expect(await queue.getJobCounts()).toMatchObject({ completed: 10, failed: 0, delayed: 0 });
    expect((await queue.getJob(jobs[9]!))!.attemptsMade).toBe(0);
    expect(calls).toBe(12);
  });

  test('the failure that opens it counts for its job', async () => {
    const breaker = new CircuitBreaker({ threshold: 1, timeout: 1000, clock: kit.clock });
    const job = await kit.queue().add('a', null);
    await kit.worker(() => breaker.execute(() => Promise.reject(new Error('down'))));
    await kit.settle();
    expect(await job.getState()).toBe('failed');
    expect(breaker.state).toBe('OPEN');
  });
};
