/**
 * What runs in a handler thread: one long task that claims jobs from shared memory, runs the handler file's default export on them,
 * and settles them there. Returns when it was told to close; a thread that is worn out, or could not load the file, waits for its end.
 */
import { fromErrorRecord, serialiseError } from '../../client/errors.js';
import type { RunnerSettings } from '../../client/outcome.js';
import { closeRunner, type Handler, Runner } from '../../client/runner.js';
import { attachHere } from '../default.js';
import { AttachedConnection } from './attached-connection.js';
import type { ControlMessage, PumpTask } from './wire.js';

interface HandlerModule {
  readonly default?: unknown;
  readonly settings?: RunnerSettings;
}

/** The default export; of a CommonJS file `module.exports`, or its `default` when it was compiled from ESM. */
function handlerOf(module: HandlerModule, file: string): { handler: Handler; settings: RunnerSettings } {
  const exported = module.default;
  const inner = (exported as HandlerModule | undefined)?.default;
  const handler = typeof exported === 'function' ? exported : inner;
  if (typeof handler !== 'function') {
    throw fromErrorRecord({
      name: 'TypeError',
      message: `${file} must export its handler as default: export default async function (job, { signal }) { ... }`,
      stack: '',
    });
  }
  const settings = module.settings ?? (exported as HandlerModule | undefined)?.settings ?? {};
  return { handler: handler as Handler, settings };
}

export default async function pump(task: PumpTask): Promise<void> {
  const connection = new AttachedConnection(task.handle);
  connection.ref();
  attachHere(connection);
  let loaded: ReturnType<typeof handlerOf>;
  try {
    loaded = handlerOf((await import(task.file)) as HandlerModule, task.file);
  } catch (error) {
    connection.send({ kind: 'not-loaded', error: serialiseError(error) });
    return new Promise(() => {}); // the engine ends this thread: a module that failed to load stays failed in it
  }
  await run(task, connection, loaded.handler, loaded.settings);
}

async function run(
  task: PumpTask,
  connection: AttachedConnection,
  handler: Handler,
  settings: RunnerSettings,
): Promise<void> {
  const hooks = { error: (error: Error) => connection.send({ kind: 'error', error: serialiseError(error) }) };
  // Nothing is claimed before the engine has dealt this thread its share: what was paused or changed while it loaded would be missed.
  const runner = new Runner({ connection, handler, concurrency: 0, settings, hooks });
  let isWorn = false;
  const wear = async (): Promise<void> => {
    isWorn = true;
    await runner.pause();
    await runner.idle();
    connection.send({ kind: 'recycle' });
  };
  const source = connection.claimsOn(
    {
      thread: task.handle.thread,
      queue: task.queue,
      queueAddress: task.queueAddress,
      abortGraceMs: task.abortGraceMs,
      breaker: task.breaker,
      batch: task.batch,
      recycle: task.recycle,
      onWorn: () => void wear(),
      onClose: async () => {},
    },
    runner,
  );
  await new Promise<void>((resolve) => {
    connection.onControl = (message) => {
      if (isWorn && message.kind === 'resume') return; // its successor is told
      control(message as ControlMessage, runner, connection, resolve);
    };
    runner.start(source);
    connection.send({ kind: 'loaded' });
  });
  connection.close();
  await connection.portClosed; // the engine has heard of the end of this task before the pool does
}

function control(message: ControlMessage, runner: Runner, connection: AttachedConnection, end: () => void): void {
  switch (message.kind) {
    case 'pause':
      void runner
        .pause()
        .then(() => (message.doNotWaitActive ? undefined : runner.idle()))
        .then(() => connection.send({ kind: 'paused', id: message.id }));
      return;
    case 'resume':
      runner.resume();
      return;
    case 'concurrency':
      void runner.setConcurrency(message.count);
      return;
    case 'close':
      void closeRunner(runner, message.how, 'abort').finally(end);
  }
}
