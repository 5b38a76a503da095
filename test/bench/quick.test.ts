import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import type { Row } from '../../bench/harness.js';

const MAIN = fileURLToPath(new URL('../../dist/bench/main.js', import.meta.url));
const run = promisify(execFile);

test('every benchmark still runs, does its work and reports its rows', { timeout: 180_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'flashq-bench-'));
  try {
    const file = join(folder, 'figures.json');
    const listed = (await run(process.execPath, [MAIN, '--list'])).stdout.trim().split('\n');
    const { stdout, stderr } = await run(process.execPath, [MAIN, '--quick', '--json', file]);
    expect(stderr).toBe('');
    const { rows } = JSON.parse(await readFile(file, 'utf8')) as { rows: Row[] };
    expect([...new Set(rows.map(({ group }) => group))]).toEqual(listed);
    for (const { name } of rows) expect(stdout).toContain(name);
    for (const { median } of rows) expect(Number.isFinite(median)).toBe(true);
  } finally {
    await rm(folder, { recursive: true });
  }
});
