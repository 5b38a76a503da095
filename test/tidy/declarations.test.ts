import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const dist = new URL('../../dist/', import.meta.url);

/** Every declaration file that the package's types lead to, and the packages that those name. */
function reached(from: URL): { files: string[]; packages: string[] } {
  const files = new Set<string>();
  const packages = new Set<string>();
  const visit = (file: URL): void => {
    if (files.has(file.href)) return;
    files.add(file.href);
    for (const [, name] of readFileSync(file, 'utf8').matchAll(/(?:from |import\(|import )['"]([^'"]+)['"]/g)) {
      if (name!.startsWith('.')) visit(new URL(name!.replace(/\.js$/, '.d.ts'), file));
      else packages.add(name!);
    }
  };
  visit(from);
  return { files: [...files].map((href) => href.slice(dist.href.length)), packages: [...packages] };
}

/**
 * A user's compiler reads whole files, and without `skipLibCheck` it checks them: the core's layout uses types that only
 * AssemblyScript knows, and other packages' declarations have faults of their own.
 */
test('the types of the package lead neither to the core, nor to the parts of the engine, nor to other packages than Node', () => {
  const { files, packages } = reached(new URL('engine/index.d.ts', dist));
  expect(files).toContain('client/queue.d.ts');
  expect(files.filter((file) => !file.startsWith('client/')).sort()).toEqual([
    'engine/attached-engine.d.ts',
    'engine/core/memory.d.ts',
    'engine/engine.d.ts',
    'engine/index.d.ts',
    'engine/options.d.ts',
    'engine/store/doctor.d.ts',
    'engine/store/log-options.d.ts',
    'engine/store/log-store.d.ts',
    'engine/threads/wire.d.ts',
    'engine/upkeep/clock.d.ts',
  ]);
  expect(packages.filter((name) => !name.startsWith('node:'))).toEqual([]);
});

test('those of flashq/testing lead nowhere else either', () => {
  const { files, packages } = reached(new URL('engine/testing/index.d.ts', dist));
  const own = files.filter((file) => !file.startsWith('client/'));
  expect(own.filter((file) => file.startsWith('engine/testing/')).sort()).toEqual([
    'engine/testing/drain-all.d.ts',
    'engine/testing/index.d.ts',
    'engine/testing/spy.d.ts',
  ]);
  expect(own.filter((file) => /^(core-wasm|engine\/(core\/calls|jobs|state))/.test(file))).toEqual([]);
  expect(packages.filter((name) => !name.startsWith('node:'))).toEqual([]);
});
