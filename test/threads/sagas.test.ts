/** Sagas that are worked on in one thread, and looked after from another. */
import { defineSaga, Queue } from 'flashq';
import { expect, test } from 'vitest';
import { AttachedThread } from './attached.js';
import { board, open, openEngine, reached, until } from './support.js';

const STARTED = 1;
const GATE = 2;
const UNDONE = 3;

async function opened() {
  const engine = await openEngine();
  const thread = await AttachedThread.open(engine);
  await thread.call('defineSaga', { started: STARTED, gate: GATE });
  const steps = ['first', 'gated', 'job'].map((name) => ({ name, execute: () => undefined }));
  const saga = defineSaga({ name: 'order', work: false, steps, connection: engine });
  return { engine, thread, saga, queue: new Queue('work', { connection: engine }) };
}

test('steps run in the thread that defines them with work, steps that are jobs wherever their queue has a worker', async () => {
  const { thread, saga } = await opened();
  await thread.call('work');
  const handle = await saga.run({ undone: UNDONE }, { id: 's' });
  await reached(STARTED, 1);
  expect(await thread.call('sagaState', { id: 's' })).toBe('running');
  expect(await thread.call('listSagas', { state: 'running' })).toEqual(['s']);
  open(GATE);
  expect(await handle.result()).toEqual({ here: [{ undone: UNDONE }, 'through'] });
  expect(await thread.call('sagaResult', { id: 's' })).toEqual({ here: [{ undone: UNDONE }, 'through'] });
});

test('cancelled from another thread, the signal of its step aborts, and what was done is undone', async () => {
  const { thread, saga } = await opened();
  await thread.call('runSaga', { data: { undone: UNDONE }, id: 's' });
  await reached(STARTED, 1);
  const result = thread.failing('sagaResult', { id: 's' });
  expect(await saga.cancel('s', 'enough')).toBe('cancelling');
  expect(await result).toMatchObject({ name: 'SagaFailedError', message: expect.stringContaining('enough') });
  expect(board[UNDONE]).toBe(1);
  expect((await (await saga.get('s'))!.status()).state).toBe('compensated');
});

test('and the other way round, while it waits for a job', async () => {
  const { engine, thread, saga } = await opened();
  open(GATE);
  const handle = await saga.run({ undone: UNDONE }, { id: 's' });
  const runs = new Queue('saga:order', { connection: engine });
  await until(async () => (await runs.getJobState('s')) === 'blocked');
  expect(await thread.call('cancelSaga', { id: 's', reason: 'enough' })).toBe('cancelling');
  await expect(handle.result()).rejects.toMatchObject({ step: 'job', cause: { name: 'JobCancelledError' } });
  expect(board[UNDONE]).toBe(1);
});

test('its thread ends: the step that ran runs again in another, with the same key', async () => {
  const { engine, thread, saga, queue } = await opened();
  const handle = await saga.run({ undone: UNDONE }, { id: 's' });
  await reached(STARTED, 1);
  await thread.terminate();
  const other = await AttachedThread.open(engine);
  await other.call('defineSaga', { started: STARTED, gate: GATE });
  await reached(STARTED, 2);
  open(GATE);
  await other.call('work');
  expect(await handle.result()).toEqual({ here: [{ undone: UNDONE }, 'through'] });
  expect((await queue.getJobCounts()).completed).toBe(1);
});
