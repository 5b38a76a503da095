import { fileURLToPath } from 'node:url';
import { configDefaults, defineConfig } from 'vitest/config';

const long = process.env.FLASHQ_LONG === '1';
const jsonFile = process.env.FLASHQ_TEST_JSON;

export default defineConfig({
  resolve: {
    // The package by its own name, as its users import it: the built files, not the sources.
    alias: [
      { find: /^flashq$/, replacement: fileURLToPath(new URL('./dist/engine/index.js', import.meta.url)) },
      {
        find: /^flashq\/testing$/,
        replacement: fileURLToPath(new URL('./dist/engine/testing/index.js', import.meta.url)),
      },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...(long ? [] : ['**/*.long.test.ts'])],
    pool: 'forks', // a process a file: an engine left open, or a crashed thread, can't touch the next file
    maxWorkers: 2,
    testTimeout: long ? 600_000 : 20_000,
    hookTimeout: 20_000,
    teardownTimeout: 10_000,
    reporters: jsonFile === undefined ? ['default'] : ['default', 'json'],
    ...(jsonFile === undefined ? {} : { outputFile: { json: jsonFile } }),
    // Built files run as Node runs them, untransformed, so that worker threads and tests load the same modules.
    server: { deps: { external: [/\/dist\//] } },
  },
});
