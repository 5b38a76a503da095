/** The small examples, as anybody starts them; each says what it has done. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const run = promisify(execFile);

async function outputOf(name: string, ...args: string[]): Promise<string[]> {
  const file = fileURLToPath(new URL(`../../dist/examples/${name}.js`, import.meta.url));
  const { stdout, stderr } = await run(process.execPath, [file, ...args], { timeout: 20_000 });
  expect(stderr).toBe('');
  return stdout.trimEnd().split('\n');
}

test('dead-letter', async () => {
  const [first, ...lines] = await outputOf('dead-letter');
  expect(first).toBe('converted at first: 2 of 5');
  expect(lines.slice(0, 3).map((line) => line.replace(/^j\d+: |: (Unterm|Expect|Unexp).*/g, ''))).toEqual([
    'attempts_exhausted, no rate for CHF',
    'unrecoverable, not JSON',
    'attempts_exhausted, no rate for CHF',
  ]);
  expect(lines.slice(3)).toEqual([
    'retried: 2',
    'in euros: 83.2 and 520',
    'purged: 1',
    'left in the dead letter queue: 0',
  ]);
});

test('idempotency', async () => {
  const [notices, booked, statement] = await outputOf('idempotency');
  expect(notices).toBe('notices: 300, of which 100 were repeats');
  expect(booked).toBe('booked: 200 payments');
  const [, written, payments, sum] = /written (\d+) times, has (\d+): (.*)$/.exec(statement as string) ?? [];
  expect([payments, sum]).toEqual(['200', '399.00']);
  expect(Number(written)).toBeLessThanOrEqual(200);
});

test('priority', async () => {
  const folder = fileURLToPath(new URL('../conformance', import.meta.url));
  const lines = await outputOf('priority', folder);
  expect(lines[0]).toMatch(/^files: \d\d, in line when they were asked for: \d+$/);
  expect(lines.at(-1)).toBe('next to start: asked for, asked for, asked for');
  expect(lines).toHaveLength(5);
});

test('retry', async () => {
  expect(await outputOf('retry')).toEqual([
    'fetched: 9 of 10, each at its second attempt',
    'requests: 19',
    'given up at once: /9 is not there (attempts: 1)',
  ]);
});
