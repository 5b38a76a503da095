/**
 * Cells that tests and handlers share: a handler counts up what happened, or waits until the test opens a cell. The test puts the
 * memory into the environment data of its thread before it makes a Worker.
 */
import { getEnvironmentData } from 'node:worker_threads';

/** @type {Int32Array} */
export const board = getEnvironmentData('flashq-test-board');

/** Adds to a cell and wakes who waits for it; the value after. */
export function count(cell, by = 1) {
  const value = Atomics.add(board, cell, by) + by;
  Atomics.notify(board, cell);
  return value;
}

/** Raises `peak` to how many are inside at this moment, while `run` runs. */
export async function counted(inside, peak, run) {
  const now = count(inside);
  for (let most = Atomics.load(board, peak); now > most; most = Atomics.load(board, peak)) {
    if (Atomics.compareExchange(board, peak, most, now) === most) break;
  }
  try {
    return await run();
  } finally {
    count(inside, -1);
  }
}

/** Resolves when the cell isn't 0 any more; `signal` ends the wait with its reason. */
export async function opened(cell, signal) {
  while (Atomics.load(board, cell) === 0) {
    const wait = Atomics.waitAsync(board, cell, 0);
    if (wait.async) await (signal === undefined ? wait.value : Promise.race([wait.value, aborted(signal)]));
  }
}

/** Resolves when the cell is at least `least`. */
export async function reached(cell, least) {
  for (let now = Atomics.load(board, cell); now < least; now = Atomics.load(board, cell)) {
    const wait = Atomics.waitAsync(board, cell, now);
    if (wait.async) await wait.value;
  }
}

function aborted(signal) {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
