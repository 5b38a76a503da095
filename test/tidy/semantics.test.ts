/** docs/semantics.md names a test for every promise: they are there. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readText, root } from './sources.js';
import { titlesOf } from './titles.js';

const text = readText('docs/semantics.md');

interface Row {
  readonly promise: string;
  readonly tests: readonly { readonly file: string; readonly title: string }[];
}

function rowsOf(document: string): Row[] {
  return [...document.matchAll(/^\| (.+?) \| (.*) \|$/gm)]
    .filter(([, promise]) => promise !== 'promise' && promise !== '---')
    .map(([, promise, cell]) => ({ promise: promise!, tests: testsOf(cell!) }));
}

/** `` `test/file.ts`: "title"; "title"<br>`test/other.ts`: "title" `` */
function testsOf(cell: string): Row['tests'] {
  return cell.split('<br>').flatMap((part) => {
    const [, file, titles] = /^`(test\/[^`]+\.ts)`: (".+")$/.exec(part) ?? [];
    if (file === undefined) return [{ file: part, title: '' }];
    return [...titles!.matchAll(/"([^"]+)"/g)].map(([, title]) => ({ file, title: title! }));
  });
}

const titles = new Map<string, Set<string>>();

function isThere({ file, title }: Row['tests'][number]): boolean {
  if (!titles.has(file)) titles.set(file, existsSync(join(root, file)) ? titlesOf(file) : new Set());
  return titles.get(file)!.has(title);
}

describe('docs/semantics.md', () => {
  const rows = rowsOf(text);

  test('has a row for every promise, once, and in each a test', () => {
    expect(rows.length).toBeGreaterThan(100);
    const sections = [...text.matchAll(/^## (.+)$/gm)].map(([, name]) => name);
    expect(new Set(sections).size).toBe(sections.length);
    for (const section of text.split(/^## /m).slice(1)) {
      const promises = rowsOf(section).map(({ promise }) => promise);
      expect(promises.length).toBeGreaterThan(0);
      expect(promises.filter((one, nth) => promises.indexOf(one) !== nth)).toEqual([]);
    }
  });

  test('names no test that is not there', () => {
    const missing = rows.flatMap(({ tests }) => tests).filter((one) => !isThere(one));
    expect(missing).toEqual([]);
  });

  test('names suites of the conformance tests that are run', () => {
    const suites = readText('test/conformance/suites.ts');
    const named = new Set(rows.flatMap(({ tests }) => tests.map(({ file }) => file)));
    for (const file of named) {
      const [, suite] = /^test\/conformance\/([\w-]+)\.ts$/.exec(file) ?? [];
      if (suite !== undefined) expect(suites).toContain(`'./${suite}.js'`);
    }
  });

  test('titles are found however they are written', () => {
    const written = `
      test('plain', () => {});
      test("with 'quotes'", async () => {});
      test('with \\'escapes\\'', { timeout: 5 }, () => {});
      test.each([['(', 1]] as const)(
        'of a table: %s',
        async (a, b) => {},
      );
      test.skipIf(gone())('skipped', () => {});
      test(\`\${name} of a loop\`, () => {});
      other('none', 5);`;
    expect([...titlesOf('', written)]).toEqual([
      'plain',
      "with 'quotes'",
      "with 'escapes'",
      'of a table: %s',
      'skipped',
      `\${name} of a loop`,
    ]);
  });
});
