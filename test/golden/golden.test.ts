/** Logs that earlier versions wrote are read as they were meant. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { FORMAT_VERSION } from '#engine/store/format.js';
import { decodeGolden, knowledgeOf } from './golden.js';
import { writeGolden } from './write.js';

const root = fileURLToPath(new URL('.', import.meta.url));
const folders = readdirSync(root).filter((name) => /^v\d+$/.test(name));

beforeAll(async () => {
  if (process.env.FLASHQ_WRITE_GOLDEN === '1') await writeGolden(join(root, `v${FORMAT_VERSION}`));
}, 60_000);

describe.each(folders)('%s', (folder) => {
  test.each(['everything', 'losses', 'forgotten', 'torn'])('%s', async (name) => {
    const { says, now, ...expected } = JSON.parse(readFileSync(join(root, folder, `${name}.json`), 'utf8'));
    const log = decodeGolden(readFileSync(join(root, folder, `${name}.batches`)));
    expect(await knowledgeOf({ ...log, now }), says).toEqual(expected);
  });
});

test('there are logs of every version there has been', () => {
  expect(folders.sort()).toEqual(Array.from({ length: FORMAT_VERSION }, (_, n) => `v${n + 1}`));
});
