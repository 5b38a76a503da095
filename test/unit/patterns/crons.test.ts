/** Crons where there is little room, or many of them. */
import { Engine, type EngineFullError, Queue, TestClock, Worker } from 'flashq';
import { expect, onTestFinished, test } from 'vitest';
import { handler } from '../../threads/support.js';

const MINUTE = 60_000;

async function opened(options: object = {}): Promise<{ engine: Engine; clock: TestClock; queue: Queue }> {
  const clock = new TestClock(0);
  const engine = await Engine.open({ clock, ...options });
  onTestFinished(() => engine.close({ timeout: 0 }));
  return { engine, clock, queue: new Queue('q', { connection: engine }) };
}

test('in full memory a tick is tried until there is room, and told once', async () => {
  const { engine, clock, queue } = await opened({ maxMemory: 16 << 20 });
  const warnings: string[] = [];
  engine.on('warning', (_message, code) => warnings.push(code));
  await queue.addCron('c', { every: MINUTE, data: 'x'.repeat(200_000) });
  const other = new Queue('other', { connection: engine });
  for (const bytes of [500_000, 5_000, 100])
    for (let error: unknown; error === undefined; )
      error = await other.add('fill', 'y'.repeat(bytes)).then(
        () => undefined,
        (thrown: unknown) => thrown as EngineFullError,
      );
  await clock.advance(MINUTE + 5000);
  expect((await queue.getJobCounts()).waiting).toBe(0);
  expect(warnings).toEqual(['FLASHQ_CRON_REFUSED']);
  await other.drain();
  await clock.advance(1000);
  expect((await queue.getJob(`cron:c:${MINUTE}`))?.cron).toEqual({ scheduledFor: MINUTE, backfilled: false });
  expect(await queue.listCrons()).toMatchObject([{ runs: 1, next: 2 * MINUTE }]);
});

test('a thousand that are due at once all come', async () => {
  const { clock, queue } = await opened();
  await Promise.all(
    Array.from({ length: 1000 }, (_, n) => queue.addCron(`c${n}`, { every: MINUTE, overlap: 'allow' })),
  );
  await clock.advance(2 * MINUTE);
  expect((await queue.getJobCounts()).waiting).toBe(2000);
  expect((await queue.listCrons()).every(({ runs, next }) => runs === 2 && next === 3 * MINUTE)).toBe(true);
});

test('on a thread a job knows its tick', async () => {
  const { engine, clock, queue } = await opened();
  const worker = new Worker('q', handler('tells-cron.js'), { connection: engine, threads: 1 });
  await worker.waitUntilReady();
  await queue.addCron('c', { every: MINUTE, opts: { priority: 2 } });
  await clock.advance(MINUTE);
  const told = await queue.finished(`cron:c:${MINUTE}`);
  expect(told).toEqual({ cron: { scheduledFor: MINUTE, backfilled: false }, opts: { idempotencyTtl: 0, priority: 2 } });
  await worker.close();
});

test('a closed engine has no more ticks', async () => {
  const { engine, clock, queue } = await opened();
  await queue.addCron('c', { every: MINUTE });
  await engine.close();
  await clock.advance(10 * MINUTE);
});
