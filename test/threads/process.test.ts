import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { atEnd, handler, until } from './support.js';

interface Program {
  readonly child: ChildProcess;
  readonly lines: string[];
  /** How it ended: its exit code, or the signal. */
  readonly ended: Promise<number | string | null>;
}

function run(args: readonly string[], nodeArgs: readonly string[] = []): Program {
  const child = spawn(process.execPath, [...nodeArgs, fileURLToPath(handler('process.js')), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  const lines: string[] = [];
  let rest = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
  });
  const ended = new Promise<number | string | null>((resolve) =>
    child.once('close', (code, signal) => resolve(signal ?? code)),
  );
  atEnd(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, lines, ended };
}

test('a process whose engine is closed ends by itself', async () => {
  const { lines, ended } = run(['closed']);
  expect(await ended).toBe(0);
  expect(lines).toEqual(['done', 'closed', 'FLASHQ_ENGINE_CLOSED', 'exit']);
});

test('a handler thread never blocks for want of work: one that is ended in such a wait may stay in it for ever', async () => {
  const { lines, ended } = run(['closed'], ['--require', fileURLToPath(handler('tells-waits.cjs'))]);
  expect(await ended).toBe(0);
  expect(lines).toEqual(['done', 'closed', 'FLASHQ_ENGINE_CLOSED', 'exit']);
});

test.each(['idle', 'closedWorker'])('nor does an open engine without work keep it alive: %s', async (program) => {
  const { lines, ended } = run([program]);
  expect(await ended).toBe(0);
  expect(lines).not.toContain('still alive');
});

test.each(['fileWorker', 'functionWorker', 'waiting'])('but this does: %s', async (program) => {
  const { lines } = run([program]);
  await until(() => lines.length === 2);
  expect(lines).toEqual(['ready', 'still alive']);
});

test('the default engine of the process is that of its handler threads', async () => {
  const { lines, ended } = run(['defaultEngine']);
  expect(await ended).toBe(0);
  expect(lines).toEqual(['from a handler, and another', 'exit']);
});

test.each(['SIGINT', 'SIGTERM'] as const)(
  '%s closes the engine, then ends the process by that signal',
  async (signal) => {
    const { child, lines, ended } = run(['signals', 'finish']);
    await until(() => lines.includes('running'));
    child.kill(signal);
    expect(await ended).toBe(signal);
    expect(lines).toEqual(['running', 'closing', 'through', 'closed']);
  },
);

test('a second Ctrl-C does not wait for jobs', async () => {
  const { child, lines, ended } = run(['signals']);
  await until(() => lines.includes('running'));
  child.kill('SIGINT');
  await until(() => lines.includes('closing'));
  child.kill('SIGINT');
  expect(await ended).toBe('SIGINT');
  expect(lines).toEqual(['running', 'closing']);
});

test('a thread out of memory loses its run, and the process lives', async () => {
  const { lines, ended } = run(['outOfMemory'], ['--max-old-space-size=60']);
  expect(await ended).toBe(0);
  expect(lines).toEqual(['worker_lost', 'ERR_WORKER_OUT_OF_MEMORY', 'goes on', 'exit']);
});

test('a process that just ends, with threads at work, ends', async () => {
  const { lines, ended } = run(['abandoned']);
  expect(await ended).toBe(0);
  expect(lines).toEqual(['running', 'exit']);
});
