import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

const run = promisify(execFile);
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flashq-examples-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** What an example prints; it must print no complaint, and end with 0. */
async function outputOf(name: string, ...args: string[]): Promise<string> {
  const file = fileURLToPath(new URL(`../../dist/examples/${name}.js`, import.meta.url));
  const { stdout, stderr } = await run(process.execPath, [file, ...args], { timeout: 20_000 });
  expect(stderr).toBe('');
  return stdout;
}

test('fan-out counts the words of a folder', async () => {
  const texts = join(folder, 'texts');
  await mkdir(join(texts, 'deep'), { recursive: true });
  await writeFile(join(texts, 'one.md'), 'apple apple pear to constructor');
  await writeFile(join(texts, 'deep', 'two.txt'), 'Apple, and plum!');
  await writeFile(join(texts, 'no.bin'), 'apple '.repeat(9));
  const out = await outputOf('fan-out', texts);
  expect(out).toContain('2 files, 0 of them could not be read');
  expect(out).toMatch(/3 {2}apple\n +1 {2}constructor\n +1 {2}pear\n +1 {2}plum\n/);
});

test('cron copies what has changed, and goes on after a second start', async () => {
  const [from, to, data] = [join(folder, 'from'), join(folder, 'to'), join(folder, 'data')];
  await mkdir(from);
  await writeFile(join(from, 'a.txt'), 'a');
  const first = await outputOf('cron', from, to, '2', data);
  expect(first).toMatch(/Z 1 copied\n/);
  expect(await readdir(to)).toEqual(['a.txt']);
  expect(first).toMatch(/copy-changed: [2-9] runs/);
  expect(first).toMatch(/copy-all: 0 runs, the next at .*T0[01]:30:00.000Z/);
  await writeFile(join(from, 'b.txt'), 'b');
  const second = await outputOf('cron', from, to, '2', data);
  expect(second).toMatch(/1 copied, late: nobody was there/);
  expect(await readdir(to)).toEqual(['a.txt', 'b.txt']);
});

test('circuit-breaker loses no job while a service is down, and leaves it alone', async () => {
  const out = await outputOf('circuit-breaker');
  expect(out).toContain('CLOSED to OPEN');
  expect(out).toContain('HALF-OPEN to CLOSED');
  const [, completed, requests] = out.match(/(\d+) of 20 jobs completed; (\d+) requests/)!;
  expect(Number(completed)).toBe(20);
  expect(Number(requests)).toBeLessThan(15);
});
