import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readText, root, sourceFiles } from './sources.js';

/** A file that needs more than this is usually two files. */
const LINES_MAX = 700;

/**
 * The ratchet: files that are longer, and how long they may be. The numbers only go down: when a file has become shorter, write
 * its new length here; at `LINES_MAX` or below, take it off the list.
 */
const LONGER: Readonly<Record<string, number>> = {};
/** How much shorter a listed file may become before its number must follow. */
const SLACK_LINES = 25;

function linesOf(path: string): number {
  return readText(path).trimEnd().split('\n').length;
}

describe('file lengths', () => {
  test(`no file is longer than ${LINES_MAX} lines, or than its listed number`, () => {
    const tooLong = sourceFiles()
      .map((path) => ({ path, lines: linesOf(path), limit: LONGER[path] ?? LINES_MAX }))
      .filter(({ lines, limit }) => lines > limit);
    expect(tooLong).toEqual([]);
  });

  test('the list follows files that have become shorter, or are gone', () => {
    const stale = Object.entries(LONGER).filter(([path, limit]) => {
      if (!existsSync(join(root, path))) return true;
      const lines = linesOf(path);
      return lines <= LINES_MAX || lines + SLACK_LINES < limit;
    });
    expect(stale).toEqual([]);
  });
});

describe('index files', () => {
  const indexes = sourceFiles(['core-wasm', 'engine', 'client', 'gateway']).filter((path) =>
    /(^|\/)index\.ts$/.test(path),
  );

  test.each(indexes)('%s exports names one by one', (path) => {
    const text = readText(path);
    expect(text).not.toMatch(/export\s*\*\s*from/); // `export * as name` is one name
    expect(text).not.toMatch(/export\s+default/);
  });
});

describe('documents', () => {
  const { scripts } = JSON.parse(readText('package.json')) as { scripts: Record<string, string> };
  const documents = [
    'README.md',
    'CHANGELOG.md',
    'bench/README.md',
    'examples/README.md',
    'core-wasm/README.md',
    '.ci/run',
  ]
    .concat(
      existsSync(join(root, 'docs'))
        ? readdirSync(join(root, 'docs'), { recursive: true })
            .map(String)
            .filter((name) => name.endsWith('.md'))
            .map((name) => `docs/${name}`)
        : [],
    )
    .filter((path) => existsSync(join(root, path)));

  test.each(documents)('every npm command that %s names is there', (path) => {
    const named = [...readText(path).matchAll(/\bnpm (?:run ([\w:-]+)|(test)\b)/g)].map(
      ([, run, test]) => run ?? test!,
    );
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
  });

  test.each(documents)('every relative link of %s leads somewhere', (path) => {
    const links = [...readText(path).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)].map(([, target]) => target!);
    const dead = links.filter((target) => !existsSync(join(root, path, '..', target)));
    expect(dead).toEqual([]);
  });
});

describe('the lock file', () => {
  interface Locked {
    readonly resolved?: string;
    readonly optionalDependencies?: Record<string, string>;
  }
  const { packages } = JSON.parse(readText('package-lock.json')) as { packages: Record<string, Locked> };

  test('has an entry for every platform a package is built for, so that npm ci works on each', () => {
    const names = new Set(Object.keys(packages).map((path) => path.slice(path.lastIndexOf('node_modules/') + 13)));
    const missing = Object.values(packages)
      .flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies))
      .filter((name) => !names.has(name));
    expect(missing).toEqual([]);
  });

  test('names no download address', () => {
    expect(Object.values(packages).filter(({ resolved }) => resolved?.startsWith('http'))).toEqual([]);
  });
});
