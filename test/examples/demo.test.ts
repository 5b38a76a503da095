import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Report } from '../../examples/demo/report.js';

/** The demo as `npm run demo` starts it, over a folder of our own. */
const NODE_MODULES = fileURLToPath(new URL('../../node_modules', import.meta.url));
const MAIN = fileURLToPath(new URL('../../dist/examples/demo/main.js', import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function start(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

async function endOf(child: ChildProcess): Promise<Ended> {
  const texts = { out: '', err: '' };
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    texts.out += text;
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    texts.err += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...texts };
}

describe('the demo', () => {
  let folder = '';

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flashq-demo-'));
    for (let nth = 0; nth < 60; nth++) {
      await writeFile(
        join(folder, `note-${nth}.md`),
        `Note ${nth} is about weather and the price of apples.\n`.repeat(40),
      );
    }
    await writeFile(join(folder, 'lighthouse.md'), 'The lighthouse keeper polishes the lens of the lamp.\n');
  });

  afterAll(() => rm(folder, { recursive: true }));

  test('embeds every document exactly once, retries what failed, and finds the right one', async () => {
    const { code, out, err } = await endOf(
      start([folder, '--threads', '2', '--json', '--query', 'who polishes a lighthouse lens']),
    );
    expect(err).toBe('');
    const report = JSON.parse(out) as Report;
    expect(report).toMatchObject({ documents: 121, files: 61, jobs: 127, embeddedOnce: 121, problems: [] });
    expect(report.retries).toBe(report.retriesPlanned);
    expect(report.retries).toBeGreaterThan(0);
    expect(report.nearest[0]!.name).toBe('lighthouse.md');
    expect(code).toBe(0);
  });

  test('tells a person the same, and how busy each thread was', async () => {
    const { code, out } = await endOf(start([folder, '--threads', '1', '--passage', '0']));
    expect(out).toContain('100%  61 after');
    expect(out).toMatch(/worker 1: \d+ %, \d+ jobs/);
    expect(out).toContain('Every one of the 61 documents was embedded exactly once.');
    expect(code).toBe(0);
  });

  test('Ctrl-C in the middle closes the queue and ends with 130', async () => {
    const child = start([NODE_MODULES, '--threads', '1', '--passage', '1000']);
    child.stdout!.once('data', () => child.kill('SIGINT')); // the first line tells that the work begins
    const { code, err } = await endOf(child);
    expect(err).toContain('Stopped before the end');
    expect(code).toBe(130);
  });

  test.each(['SIGKILL', 'SIGINT'] as const)(
    'with a folder for its jobs it goes on after %s where it was, and embeds no completed document twice',
    async (signal) => {
      const data = join(folder, '..', `flashq-demo-data-${process.pid}-${signal}`);
      const args = [NODE_MODULES, '--limit', '3000', '--threads', '1', '--passage', '1000', '--data', data];
      try {
        const first = start(args);
        // The first tenth or more is told: some documents are done, and some are not.
        first.stdout!.on('data', (text: Buffer) => {
          if (text.includes('%')) first.kill(signal);
        });
        const { code } = await endOf(first);
        expect(code).toBe(signal === 'SIGKILL' ? null : 130);
        const second = await endOf(start([...args, '--json']));
        expect(second.err).toBe('');
        const report = JSON.parse(second.out) as Report;
        expect(report.problems).toEqual([]);
        expect(report.embeddedOnce).toBe(report.documents);
        expect(report.embeddedEarlier).toBeGreaterThan(0);
        const third = await endOf(start([...args, '--json']));
        expect(JSON.parse(third.out)).toMatchObject({ embeddedEarlier: report.documents, problems: [] });
      } finally {
        await rm(data, { recursive: true, force: true });
      }
    },
    60_000,
  );

  test.each([
    [['--threads', 'many'], 2, '--threads takes a whole number'],
    [['--nonsense'], 2, 'npm run demo [folder]'],
    [['no-such-folder'], 1, 'is not a folder'],
  ])('%j ends with %i and says why', async (args, expected, message) => {
    const { code, err } = await endOf(start(args));
    expect(err).toContain(message);
    expect(code).toBe(expected);
  });
});
