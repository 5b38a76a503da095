/** What the tests of handler threads share. Nothing here sleeps: waits are for a cell of the board, an event, or a result. */
import { setEnvironmentData } from 'node:worker_threads';
import { Engine, type EngineOptions, Queue, Worker, type WorkerOptions } from 'flashq';
import { afterEach } from 'vitest';

export const CELLS = 4096;

/** See handlers/board.js. */
export const board = new Int32Array(new SharedArrayBuffer(CELLS * 4));
setEnvironmentData('flashq-test-board', board);

const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  board.fill(0);
});

/** To be run after the test, last one first. */
export function atEnd(close: () => Promise<unknown>): void {
  closers.push(close);
}

export function handler(name: string): URL {
  return new URL(`./handlers/${name}`, import.meta.url);
}

/** An engine that is closed after the test, at once. */
export async function openEngine(opts?: EngineOptions): Promise<Engine> {
  const engine = await Engine.open(opts);
  atEnd(async () => {
    for (let cell = 0; cell < CELLS; cell++) if (board[cell] === 0) open(cell); // whoever still waits may go
    await engine.close({ timeout: 0 });
  });
  return engine;
}

export interface Bench {
  readonly engine: Engine;
  readonly queue: Queue;
  readonly worker: Worker;
  /** What the worker told as `error`. */
  readonly errors: Error[];
}

/** An engine, a queue and a Worker with that handler file, ready. Options of the engine under `engine`. */
export async function start(
  file: string,
  { engine: given, queueName = 'work', ...opts }: WorkerOptions & { engine?: Engine; queueName?: string } = {},
): Promise<Bench> {
  const engine = given ?? (await openEngine());
  const queue = new Queue(queueName, { connection: engine });
  const worker = new Worker(queueName, handler(file), { connection: engine, threads: 1, abortGrace: 100, ...opts });
  const errors: Error[] = [];
  worker.on('error', (error) => void errors.push(error));
  await worker.waitUntilReady().catch(() => {}); // a file that does not load: told as an error
  return { engine, queue, worker, errors };
}

/** Lets those go that wait for the cell. */
export function open(cell: number): void {
  Atomics.store(board, cell, 1);
  Atomics.notify(board, cell);
}

const WAIT_MS = 10_000;

/** Resolves when the cell is at least `least`. */
export async function reached(cell: number, least: number): Promise<void> {
  const end = performance.now() + WAIT_MS;
  for (let now = Atomics.load(board, cell); now < least; now = Atomics.load(board, cell)) {
    const left = end - performance.now();
    if (left <= 0) throw new Error(`cell ${cell} is ${now} after ${WAIT_MS} ms, not ${least}`);
    const wait = Atomics.waitAsync(board, cell, now, left);
    if (wait.async) await wait.value;
  }
}

/** Resolves when the condition holds; for what has no event. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what = 'the condition',
  ms = WAIT_MS,
): Promise<void> {
  const end = performance.now() + ms;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`${what} does not hold after ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
