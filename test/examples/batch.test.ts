import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';

const run = promisify(execFile);
const MAIN = fileURLToPath(new URL('../../dist/examples/batch.js', import.meta.url));

test('batch imports lines with few writes, refuses what is wrong, and waits for parents that come later', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'flashq-batch-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const children = Array.from({ length: 300 }, (_, nth) => `c${nth},p${nth % 3},child ${nth}`);
  await writeFile(join(folder, 'a-children.csv'), [...children, 'no name', 'c7,p1,again', 'x,nobody,lost'].join('\n'));
  await writeFile(join(folder, 'b-parents.csv'), 'p0,,zero\np1,p0,one\n\np2,p1,two\n');
  const path = join(folder, 'table.jsonl');

  const { stdout, stderr } = await run(process.execPath, [MAIN, folder, path], { timeout: 20_000 });
  expect(stderr).toBe('');
  const refused = stdout.split('\n').filter((line) => line.startsWith('a-'));
  expect(refused).toHaveLength(3);
  expect(refused[0]).toBe('a-children.csv:301: not id,parent,name');
  expect(refused.slice(1).every((line) => /is there already|no parent nobody/.test(line))).toBe(true);
  const [, inserted, lines, writes] = /(\d+) of (\d+) lines inserted with (\d+) writes/.exec(stdout)!.map(Number);
  expect([inserted, lines]).toEqual([303, 306]);
  expect(writes).toBeLessThan(20);

  const rows = (await readFile(path, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(rows.map(({ id }) => id).sort()).toEqual(
    [...children.map((line) => line.split(',')[0]), 'p0', 'p1', 'p2'].sort(),
  );
  const places = new Map(rows.map(({ id }, nth) => [id, nth]));
  const early = rows.filter(({ id, parent }) => parent !== '' && !(places.get(parent)! < places.get(id)!));
  expect(early).toEqual([]);
});
