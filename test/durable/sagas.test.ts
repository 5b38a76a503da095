/** What an engine finds again of the sagas that an engine before it has left. */
import { defineSaga, Engine, type Saga, type SagaStep, type StepContext, TestClock } from 'flashq';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryStore } from '#engine/store/memory-store.js';
import { errorOf } from '../conformance/kit.js';

let store: MemoryStore;
let clock: TestClock;
let engine: Engine;
let calls: string[];
let contexts: StepContext[];

beforeEach(async () => {
  store = new MemoryStore();
  clock = new TestClock();
  calls = [];
  contexts = [];
  await open();
});

afterEach(() => engine.close({ timeout: 0 }).catch(() => {}));

async function open(): Promise<void> {
  engine = await Engine.open({ clock, store });
  engine.on('warning', () => {}); // when its log is another's
}

async function reopen(): Promise<void> {
  await engine.close({ timeout: 0 });
  clock = new TestClock(clock.now());
  await open();
}

/** The engine goes on, but its clock stands still and its log is another's. */
async function crash(): Promise<void> {
  const old = engine;
  await old.state.journal!.flush();
  clock = new TestClock(clock.now());
  await open();
  await old.close({ timeout: 0 }).catch(() => {});
}

async function settled(): Promise<void> {
  for (let quiet = 0; quiet < 6; quiet++) {
    await clock.advance(0);
    await engine.connection.durable();
  }
}

function step(name: string, execute: (context: StepContext) => unknown = () => name, opts: object = {}): SagaStep {
  return {
    name,
    execute: (_data, context) => {
      calls.push(name);
      contexts.push(context);
      return execute(context);
    },
    compensate: () => void calls.push(`undo ${name}`),
    ...opts,
  };
}

function define(steps: readonly SagaStep[]): Saga {
  return defineSaga({ name: 'order', steps, connection: engine });
}

const hangs = () => new Promise(() => {});
const fails = () => {
  throw new Error('boom');
};

test('a saga goes on at the first step that has not settled, and a handle gives its result', async () => {
  const first = define([step('a'), step('b', hangs), step('c')]);
  const handle = await first.run({ of: 1 }, { id: 's' });
  await settled();
  expect(calls).toEqual(['a', 'b']);
  await crash();
  const again = define([step('a'), step('b'), step('c', () => 'end')]);
  expect(await (await again.get('s'))?.result()).toBe('end');
  expect(calls).toEqual(['a', 'b', 'b', 'c']);
  expect(contexts[1]?.idempotencyKey).toBe(contexts[2]?.idempotencyKey);
  expect(contexts.slice(1, 3).map(({ attempt }) => attempt)).toEqual([1, 2]);
  await reopen();
  const last = define([step('a')]);
  expect(await (await last.run({ of: 1 }, { id: 's' })).result()).toBe('end');
  expect((await errorOf(handle.result())).name).toBe('EngineClosedError');
});

test('and backward: what is compensated stays so', async () => {
  const compensate = () => {
    calls.push('undo b');
    return hangs();
  };
  const undo = { compensate };
  await define([step('a'), step('b', undefined, undo), step('c'), step('d', fails)]).run(null, { id: 's' });
  await settled();
  expect(calls).toEqual(['a', 'b', 'c', 'd', 'undo c', 'undo b']);
  await crash();
  const again = define([step('a'), step('b'), step('c'), step('d')]);
  const error = await errorOf((await again.get('s'))!.result());
  expect(error).toMatchObject({ step: 'd', cause: { message: 'boom' } });
  expect(calls.slice(6)).toEqual(['undo b', 'undo a']);
});

test('a parked saga is parked after a restart, and resumed it goes on', async () => {
  const undo = { compensate: fails };
  const before = await define([step('a', undefined, undo), step('b', fails)]).run(null, { id: 's' });
  await errorOf(before.result());
  for (const restart of [reopen, crash]) {
    await restart();
    const saga = define([step('a'), step('b')]);
    await settled();
    expect((await saga.list({ state: 'compensation_failed' })).map(({ id }) => id)).toEqual(['s']);
  }
  const saga = define([step('a'), step('b')]);
  await saga.resume('s');
  await settled();
  expect((await (await saga.get('s'))!.status()).state).toBe('compensated');
  expect(calls).toEqual(['a', 'b', 'undo a']);
});

test('a saga that is to be cancelled is cancelled by the engine after', async () => {
  const saga = define([step('a'), step('b', hangs, { compensateInDoubt: true })]);
  await saga.run(null, { id: 's' });
  await settled();
  const cancelling = saga.cancel('s', 'no more');
  await cancelling;
  await crash();
  const again = define([step('a'), step('b', undefined, { compensateInDoubt: true })]);
  const error = await errorOf((await again.get('s'))!.result());
  expect(error).toMatchObject({ step: 'b', cause: { name: 'JobCancelledError', reason: 'no more' } });
  expect(calls).toEqual(['a', 'b', 'undo b', 'undo a']); // it was lost, and so in doubt
});

test('a step that ends its process every time is given up, in doubt; the saga is not', async () => {
  const steps = (n: number) => [step('a'), step('b', n < 20 ? hangs : undefined)];
  await define(steps(0)).run(null, { id: 's' });
  for (let n = 1; n <= 6; n++) {
    await settled();
    await crash();
    define(steps(n));
  }
  await settled();
  const error = await errorOf((await define(steps(20)).get('s'))!.result());
  expect(error.cause.message).toMatch(/The process ended while step "b" ran, 5 times/);
  expect(error.compensations).toEqual([
    { step: 'b', state: 'in_doubt' },
    { step: 'a', state: 'compensated' },
  ]);
  expect(calls).toEqual(['a', 'b', 'b', 'b', 'b', 'b', 'undo a']);
});

test('a step that a closing engine gives back is not lost, however often', async () => {
  for (let n = 0; n < 8; n++) {
    await define([step('a'), step('b', hangs)]).run(null, { id: 's' });
    await settled();
    await reopen();
  }
  expect(await (await define([step('a'), step('b')]).run(null, { id: 's' })).result()).toBe('b');
  expect(calls).toEqual(['a', ...Array(9).fill('b')]);
});

test('an engine that closes starts no further step, and the next one goes on there', async () => {
  let end!: (value: unknown) => void;
  const waits = () =>
    new Promise((resolve) => {
      end = resolve;
    });
  await define([step('a', waits), step('b')]).run(null, { id: 's' });
  await settled();
  const closing = engine.close();
  end('a');
  await closing;
  expect(calls).toEqual(['a']);
  await open();
  expect(await (await define([step('a'), step('b')]).get('s'))?.result()).toBe('b');
  expect(calls).toEqual(['a', 'b']);
});
