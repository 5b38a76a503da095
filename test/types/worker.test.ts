/** What the compiler says of workers, engines and threads. `tsc -p test` is the test; here nothing is called. */
import { type MessagePort, Worker as Thread } from 'node:worker_threads';
import {
  type AttachedEngine,
  Engine,
  type EngineHandle,
  type EngineStats,
  type Handler,
  type Job,
  Queue,
  QueueEvents,
  TestClock,
  type TypedHandlers,
  Worker,
} from 'flashq';
import { expect, expectTypeOf, test } from 'vitest';

interface Email {
  to: string;
}
interface Sent {
  messageId: number;
}
type Jobs = { email: { data: Email; result: Sent }; ping: { data: null; result?: 'pong' } };

/** Compiled, never run. */
function compiled(code: (...given: never[]) => unknown): void {
  expect(code).toBeTypeOf('function');
}

test('a handler gets its job and a signal, and returns the result or a promise of it', () =>
  compiled(() => {
    new Worker<Email, Sent>('a', async (job, { signal }) => {
      expectTypeOf(job).toEqualTypeOf<Job<Email, Sent>>();
      expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
      return { messageId: job.data.to.length };
    });
    new Worker<Email, Sent>('a', () => ({ messageId: 5 }), { concurrency: 5 });
    const handler: Handler<Email, Sent> = (job) => ({ messageId: job.attemptsMade });
    new Worker('a', handler);
    // @ts-expect-error another result
    new Worker<Email, Sent>('a', async () => ({ id: 5 }));
    // @ts-expect-error no result at all
    new Worker<Email, Sent>('a', async () => {});
    // @ts-expect-error no such member
    new Worker<Email, Sent>('a', async (job) => ({ messageId: job.data.cc }));
    // @ts-expect-error no such member
    new Worker<Email, Sent>('a', async (_, { token }) => ({ messageId: token }));
  }));

test('a handler may be a file', () =>
  compiled(() => {
    new Worker('a', new URL('./handler.js', import.meta.url), { threads: 4, recycle: { jobs: 1000, heapMb: 100 } });
    new Worker<Email, Sent>('a', '/srv/handler.js', { limiter: { max: 5, duration: 1000 }, abortGrace: 5 });
    // @ts-expect-error neither a function nor a file
    new Worker('a', 5);
    // @ts-expect-error no such option
    new Worker('a', '/srv/handler.js', { thread: 4 });
    // @ts-expect-error how long?
    new Worker('a', '/srv/handler.js', { limiter: { max: 5 } });
  }));

test('one handler for each name, and none missing', () =>
  compiled(() => {
    const handlers: TypedHandlers<Jobs> = {
      email: async (job, { signal }) => {
        expectTypeOf(job).toEqualTypeOf<Job<Email, Sent, 'email'>>();
        expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
        return { messageId: 1 };
      },
      ping: (job) => {
        expectTypeOf(job.data).toEqualTypeOf<null>();
        return 'pong';
      },
    };
    Worker.typed<Jobs>('a', handlers, { concurrency: 5 });
    // @ts-expect-error who handles ping?
    Worker.typed<Jobs>('a', { email: async () => ({ messageId: 1 }) });
    // @ts-expect-error there is no fax
    Worker.typed<Jobs>('a', { ...handlers, fax: () => 1 });
    // @ts-expect-error the result of another name
    Worker.typed<Jobs>('a', { ...handlers, ping: () => ({ messageId: 1 }) });
  }));

test('the events and the end of a worker', () =>
  compiled(async (worker: Worker<Email, Sent>) => {
    worker.on('completed', (job, result) => {
      expectTypeOf(job).toEqualTypeOf<Job<Email, Sent>>();
      expectTypeOf(result).toEqualTypeOf<Sent>();
    });
    worker.on('failed', (_, error) => expectTypeOf(error).toEqualTypeOf<Error>());
    worker.on('drained', () => {});
    worker.concurrency = 5;
    await worker.close();
    await worker.close(true);
    await worker.close({ timeout: 5, onTimeout: 'fail' });
    // @ts-expect-error no such event
    worker.on('complete', () => {});
    // @ts-expect-error no such way
    await worker.close({ onTimeout: 'forget' });
  }));

test('an engine, its handle, and an engine in another thread', () =>
  compiled(async (received: EngineHandle) => {
    const engine = await Engine.open({ threadsMax: 5, maxMemory: 2 ** 28, clock: new TestClock(), random: () => 0.5 });
    expectTypeOf(engine).toEqualTypeOf<Engine>();
    expectTypeOf(await Engine.default()).toEqualTypeOf<Engine>();
    expectTypeOf(engine.stats()).toEqualTypeOf<EngineStats>();
    expectTypeOf(engine.health()).toEqualTypeOf<{ ok: boolean; reason?: string }>();
    const { handle } = engine;
    expectTypeOf(handle).toEqualTypeOf<EngineHandle>();
    expectTypeOf(handle.port).toEqualTypeOf<MessagePort>();
    new Thread('file', { workerData: { handle }, transferList: [handle.port] });
    const attached = Engine.attach(received);
    expectTypeOf(attached).toEqualTypeOf<AttachedEngine>();
    new Queue<Email>('a', { connection: attached });
    new Worker<Email>('a', () => {}, { connection: attached });
    new QueueEvents('*', { connection: engine, lastEventId: 'e5' });
    expectTypeOf(attached.close()).toEqualTypeOf<void>();
    await engine.close({ timeout: 5, onTimeout: 'wait' });
    // @ts-expect-error a number of bytes
    await Engine.open({ maxMemory: '1 GB' });
    // @ts-expect-error no such option
    await Engine.open({ memory: 5 });
    // @ts-expect-error an engine is no handle of itself
    Engine.attach(engine);
    // @ts-expect-error made by open alone
    new Engine();
  }));
