import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readText, root } from './sources.js';

const DOCUMENTS = [
  'README.md',
  'examples/README.md',
  'docs/from-bullmq.md',
  ...readdirSync(join(root, 'docs/patterns')).map((name) => `docs/patterns/${name}`),
];

interface Block {
  readonly title: string;
  readonly code: string;
}

function blocksOf(path: string): Block[] {
  return [...readText(path).matchAll(/^```(?:js|ts)\n([\s\S]*?)^```/gm)].map(([, code], nth) => ({
    title: `${path}, block ${nth + 1}`,
    code: code!,
  }));
}

describe('code in the documents', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flashq-readme-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each(DOCUMENTS.flatMap(blocksOf))('$title is an ES module that Node can read', ({ code }) => {
    const file = join(folder, 'block.mjs');
    writeFileSync(file, code);
    expect(() => execFileSync(process.execPath, ['--check', file], { stdio: 'pipe' })).not.toThrow();
  });

  test.each(DOCUMENTS.flatMap(blocksOf))('$title is short enough to be read at a glance', ({ code }) => {
    expect(code.trimEnd().split('\n').length).toBeLessThanOrEqual(25);
  });
});
