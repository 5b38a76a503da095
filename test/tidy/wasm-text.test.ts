import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readText, root } from './sources.js';

const WAT = 'dist/core-wasm/flashq.wat';

/**
 * Mutable globals are per instance, and every thread has its own instance: one that is meant to be shared would be many. Whoever adds one here
 * says why its value may differ from thread to thread.
 */
const MUTABLE_GLOBALS: readonly string[] = [];

/** What a thread's instance would do to memory that others use. */
interface Findings {
  readonly dataSegments: number;
  readonly mutableGlobals: readonly string[];
  readonly grows: number;
  readonly imports: readonly string[];
  readonly start: boolean;
}

function findingsOf(text: string): Findings {
  return {
    dataSegments: [...text.matchAll(/^\s*\(data\b/gm)].length,
    mutableGlobals: [...text.matchAll(/^\s*\(global\s+(\$\S+)(?:\s+\(export[^)]*\))?\s+\(mut\b/gm)].map(
      ([, name]) => name!,
    ),
    grows: [...text.matchAll(/\bmemory\.grow\b/g)].length,
    imports: [...text.matchAll(/\(import\s+"([^"]*)"\s+"([^"]*)"/g)].map(([, module, name]) => `${module}.${name}`),
    start: /^\s*\(start\b/m.test(text),
  };
}

describe('the shipped module', () => {
  test('is built before this test runs', () => {
    expect(existsSync(join(root, WAT)), `${WAT} is missing: run npm run build`).toBe(true);
  });

  test('has no data segment: each instantiation would write it over live memory', () => {
    expect(findingsOf(readText(WAT)).dataSegments).toBe(0);
  });

  test('has no mutable global beyond the listed ones', () => {
    expect(findingsOf(readText(WAT)).mutableGlobals).toEqual(MUTABLE_GLOBALS);
  });

  test('never grows memory: views held by other threads would go stale', () => {
    expect(findingsOf(readText(WAT)).grows).toBe(0);
  });

  test('imports nothing but the memory, and runs nothing at instantiation', () => {
    const { imports, start } = findingsOf(readText(WAT));
    expect(imports).toEqual(['env.memory']);
    expect(start).toBe(false);
  });

  test('these checks find what they look for', () => {
    const text = `(module
 (import "env" "memory" (memory $0 0 65535 shared))
 (import "env" "step" (func $step (param i32)))
 (global $assembly/heap/count (mut i32) (i32.const 0))
 (global $assembly/heap/LIMIT i32 (i32.const 7))
 (data $0 (i32.const 12) "\\1c")
 (start $~start)
 (func $f (drop (memory.grow (i32.const 1)))))`;
    expect(findingsOf(text)).toEqual({
      dataSegments: 1,
      mutableGlobals: ['$assembly/heap/count'],
      grows: 1,
      imports: ['env.memory', 'env.step'],
      start: true,
    });
  });
});
