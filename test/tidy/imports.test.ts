import { describe, expect, test } from 'vitest';
import { type Import, importsOf, readText, sourceFiles } from './sources.js';

/**
 * Who may import whom: `core-wasm ← engine ← gateway` and `client/protocol ← client ← engine`. The longest matching name is a
 * file's room. `packages`: which packages a room may load; absent means any.
 */
const TABLE: Record<string, { readonly may: readonly string[]; readonly packages?: readonly RegExp[] }> = {
  'core-wasm': { may: [], packages: [] },
  'client/protocol': { may: [], packages: [] },
  client: { may: ['client/protocol'] },
  engine: { may: ['client', 'engine/core'] },
  'engine/core': { may: ['engine', 'client', 'core-wasm/assembly/layout.ts'] },
  gateway: { may: ['engine', 'client/protocol'] },
  // Benchmarks and examples see what a user sees.
  bench: { may: ['bench/core.ts'], packages: [/^flashq$/, /^node:/, /^tinybench$/] },
  'bench/core.ts': { may: ['bench', 'engine/core', 'core-wasm/assembly/layout.ts', 'dist/engine/core'] },
  examples: { may: [], packages: [/^flashq$/, /^node:/, /^cli-progress$/] },
};

const ROOM_NAMES = Object.keys(TABLE).sort((a, b) => b.length - a.length);

function isIn(path: string, room: string): boolean {
  return path === room || path.startsWith(`${room}/`);
}

function roomOf(path: string): string | undefined {
  return ROOM_NAMES.find((room) => isIn(path, room));
}

/** What is wrong with an import, or undefined. */
function fault({ from, to, isPackage }: Import): string | undefined {
  const room = roomOf(from);
  if (room === undefined) return undefined; // tests may import anything
  const { may, packages } = TABLE[room]!;
  if (isPackage) {
    const allowed = packages === undefined || packages.some((pattern) => pattern.test(to));
    return allowed ? undefined : `${from} may not load the package ${to}`;
  }
  // The most specific name decides: a room that may import `client` may not thereby import `client/protocol`.
  const names = [...ROOM_NAMES, ...may, room].filter((name) => isIn(to, name)).sort((a, b) => b.length - a.length);
  const target = names[0];
  if (target !== undefined && (target === room || may.includes(target))) return undefined;
  return `${from} (${room}) may not import ${to} (${target ?? 'no room'})`;
}

describe('the import table', () => {
  test('every file imports only from the rooms its own room may see', () => {
    const faults = sourceFiles()
      .flatMap((path) => importsOf(path))
      .map(fault)
      .filter((one) => one !== undefined);
    expect(faults).toEqual([]);
  });

  test('only engine/core touches WebAssembly', () => {
    const offenders = sourceFiles(['engine', 'client', 'gateway', 'bench', 'examples']).filter(
      (path) => !isIn(path, 'engine/core') && path !== 'bench/core.ts' && /\bWebAssembly\.[A-Z]/.test(readText(path)),
    );
    expect(offenders).toEqual([]);
  });

  test.each([
    ['core-wasm/assembly/heap.ts', `import { X } from './layout';`, true],
    ['core-wasm/assembly/heap.ts', `import { X } from '../../engine/errors';`, false],
    ['core-wasm/assembly/heap.ts', `import fs from 'node:fs';`, false],
    ['engine/core/memory.ts', `import { X } from '../../core-wasm/assembly/layout.js';`, true],
    ['engine/core/memory.ts', `import { X } from '../../core-wasm/assembly/heap.js';`, false],
    ['engine/jobs.ts', `import { X } from '../core-wasm/assembly/layout.js';`, false],
    ['engine/jobs.ts', `import type { Job } from '../client/job.js';`, true],
    ['engine/jobs.ts', `export { serve } from '../gateway/main.js';`, false],
    ['client/queue.ts', `const x = await import('../engine/index.js');`, false],
    ['client/queue.ts', `import {\n  a,\n  b,\n} from '../engine/index.js';`, false],
    ['client/queue.ts', `import { frame } from './protocol/frame.js';`, true],
    ['client/protocol/frame.ts', `import { Queue } from '../queue.js';`, false],
    ['client/protocol/frame.ts', `import { pack } from 'msgpackr';`, false],
    ['gateway/server.ts', `import { Engine } from '../engine/index.js';`, true],
    ['gateway/server.ts', `import { Queue } from '../client/queue.js';`, false],
    ['bench/engine.ts', `import { Engine } from 'flashq';`, true],
    ['bench/engine.ts', `import { Engine } from '../engine/index.js';`, false],
    ['examples/demo/main.ts', `new Worker('q', new URL('../../engine/core/calls.js', import.meta.url))`, false],
  ])('the table judges %s: %s', (path, text, allowed) => {
    const [one] = importsOf(path, text);
    expect(one).toBeDefined();
    expect(fault(one!) === undefined).toBe(allowed);
  });
});
