import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setEnvironmentData } from 'node:worker_threads';
import { JobFailedError, Queue, TestClock, ValidationError, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { atEnd, handler, open, openEngine, reached, start, until } from './support.js';

describe('a handler file', () => {
  test.each([
    ['esm.js', 'esm'],
    ['function.cjs', 'module.exports'],
    ['default.cjs', 'exports.default'],
  ])('%s is loaded by its kind of export', async (file, from) => {
    const { queue } = await start(file);
    expect(await queue.addAndWait('job', { a: [1] })).toEqual({ from, data: { a: [1] } });
  });

  test('may be given as a path', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    new Worker('work', handler('esm.js').pathname, { connection: engine, threads: 1 });
    expect(await queue.addAndWait('job', 1)).toEqual({ from: 'esm', data: 1 });
  });

  test('meets no ES module that was loaded by require: ending a thread inside that would end the process', async () => {
    const { queue } = await start('tasks.js');
    const required: string[] = await queue.addAndWait('required', 0);
    expect(
      required
        .filter((path) => path.includes('/dist/engine/') || path.includes('/dist/client/'))
        .map((path) => path.replace(/.*\//, '')),
    ).toEqual(['pump-entry.cjs']);
  });

  test('that does not exist is refused when the Worker is made', () => {
    expect(() => new Worker('work', handler('absent.js'))).toThrow(ValidationError);
  });

  test('brings its settings: a named backoff decides the delay', async () => {
    const clock = new TestClock();
    const engine = await openEngine({ clock });
    const { queue } = await start('settings.js', { engine });
    const steps = await queue.add('steps', 0, { attempts: 3, backoff: { type: 'steps' } });
    for (const delay of [1000, 2000]) {
      await until(async () => (await steps.getState()) === 'delayed');
      await clock.advance(delay - 1);
      expect(await steps.getState()).toBe('delayed');
      await clock.advance(1);
    }
    expect(await queue.finished(steps)).toBe(2);
  });

  test('brings its settings: retryAfter reads the delay from a foreign error', async () => {
    const clock = new TestClock();
    const engine = await openEngine({ clock });
    const { queue } = await start('settings.js', { engine });
    const job = await queue.add('stranger', 0, { attempts: 2 });
    await until(async () => (await job.getState()) === 'delayed');
    await clock.advance(4999);
    expect(await job.getState()).toBe('delayed');
    await clock.advance(1);
    expect(await queue.finished(job)).toBe(1);
  });

  test('brings its settings: from CommonJS too', async () => {
    const { queue } = await start('settings.cjs');
    const job = await queue.add('job', 0, { attempts: 5, backoff: { type: 'never' } });
    await expect(queue.finished(job)).rejects.toThrow(JobFailedError);
    expect((await queue.getJob(job.id))?.attemptsMade).toBe(1);
  });
});

describe('a handler file that does not load', () => {
  test.each([
    ['nothing.js', /must export its handler as default/],
    ['syntax-error.js', /Unexpected end of input/],
    ['exits-while-loading.js', /ended: worker exited with code: 7/],
  ])('%s is reported as an error, and its jobs wait', async (file, message) => {
    const { queue, errors } = await start(file);
    const job = await queue.add('job', 0);
    await until(() => errors.length > 0);
    expect(errors[0]!.message).toMatch(message);
    expect(await job.getState()).toBe('waiting');
  });

  test('is tried again, ever later, and works once it loads', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'flashq-'));
    atEnd(async () => rmSync(directory, { recursive: true }));
    setEnvironmentData('flashq-test-file', join(directory, 'ready'));
    const clock = new RecordingClock();
    const engine = await openEngine({ clock });
    const { queue, worker, errors } = await start('fails-first.js', { engine });
    const ready = new Promise<void>((resolve) => worker.once('ready', resolve));
    const result = queue.addAndWait('job', 0);
    for (const ms of [500, 1000, 2000]) {
      await until(() => clock.delays.includes(ms), `a pause of ${ms} ms`);
      if (ms === 2000) writeFileSync(join(directory, 'ready'), '');
      await clock.advance(ms);
    }
    expect(await result).toBe('loaded');
    await ready;
    await worker.waitUntilReady();
    expect(errors.map((error) => error.message)).toEqual(['not yet', 'not yet', 'not yet']);
  });

  test('while it loads, the Worker is not ready and its jobs wait', async () => {
    const engine = await openEngine();
    const queue = new Queue('work', { connection: engine });
    const worker = new Worker('work', handler('loads-slowly.js'), { connection: engine, threads: 1 });
    let ready = false;
    worker.on('ready', () => {
      ready = true;
    });
    const job = await queue.add('job', 0);
    await reached(1, 1);
    expect(ready).toBe(false);
    expect(await job.getState()).toBe('waiting');
    open(0);
    expect(await queue.finished(job)).toBe('loaded at last');
    expect(ready).toBe(true);
  });
});

/** Tells which delays it was asked for. */
class RecordingClock extends TestClock {
  readonly delays: number[] = [];

  override setTimer(run: () => void, ms: number): () => void {
    this.delays.push(ms);
    return super.setTimer(run, ms);
  }
}
