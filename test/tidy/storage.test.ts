/** The document that tells the log's format names every constant of it, with its value. */
import { describe, expect, test } from 'vitest';
import { L } from '#engine/core/index.js';
import { policyOf, reasonOf } from '#engine/jobs/flags.js';
import * as F from '#engine/store/format.js';
import { readText } from './sources.js';

const text = readText('docs/STORAGE.md');

/** Rows of tables whose second cell is a number, and sentences of the form "`NAME` is 15". */
function documented(): Map<string, number> {
  const rows = [...text.matchAll(/^\| `([A-Z][A-Z_]+)` \| (\d+) \|/gm)];
  const sentences = [...text.matchAll(/`([A-Z][A-Z_]+)` is (\d+)/g)];
  return new Map([...rows, ...sentences].map(([, name, value]) => [name!, Number(value)]));
}

/** Of the format, without what only an engine decides (how large its batches are) and the magic and version, which are told as such. */
const constants = new Map(
  Object.entries(F).filter(
    (entry): entry is [string, number] =>
      typeof entry[1] === 'number' && !['BATCH_MAGIC', 'FORMAT_VERSION', 'BATCH_BYTES_MAX'].includes(entry[0]),
  ),
);

describe('docs/STORAGE.md', () => {
  test('names every offset, kind, part and flag with its value, and none that is not there', () => {
    expect(Object.fromEntries([...documented()].sort())).toEqual(Object.fromEntries([...constants].sort()));
  });

  test('tells the magic, the version and the limit of a batch', () => {
    expect(text).toContain(`0x${F.BATCH_MAGIC.toString(16)}, the bytes "fqB1"`);
    expect(Buffer.from(Uint32Array.of(F.BATCH_MAGIC).buffer).toString('latin1')).toBe('fqB1');
    expect(text).toContain(`**version ${F.FORMAT_VERSION}**`);
    expect(text).toContain(`of the format: ${F.FORMAT_VERSION} |`);
    expect(F.BATCH_BYTES_MAX).toBe(1 << 20); // "at most 1 MiB"
  });

  test('numbers policies, reasons and states as the engine does', () => {
    for (let policy = 0; policy < 5; policy++) expect(text).toContain(`${policy} \`${policyOf(policy << 16)}\``);
    for (let reason = 0; reason < 8; reason++) expect(text).toContain(`${reason} \`${reasonOf(reason << 20)}\``);
    for (const [name, state] of Object.entries(L)) {
      const [, word] = /^STATE_(WAITING|DELAYED|BLOCKED|ACTIVE|REMEMBERED|GONE|LINGERING)$/.exec(name) ?? [];
      if (word !== undefined) expect(text).toContain(`| ${state} | ${word.toLowerCase()}`);
    }
    expect([L.STATE_COMPLETED, L.STATE_FAILED, L.STATE_CANCELLED]).toEqual([5, 6, 7]);
  });

  test('says with each field how wide it is', () => {
    const widths: Record<string, number> = { u8: 1, u16: 2, u32: 4, i32: 4, f64: 8 };
    for (const prefix of ['B', 'R', 'G', 'J']) {
      const rows = [...text.matchAll(new RegExp(`^\\| \`${prefix}_[A-Z_]+\` \\| (\\d+) \\| (\\w+) \\|`, 'gm'))];
      expect(rows.length).toBeGreaterThan(2);
      for (const [nth, [, at, type]] of rows.entries()) {
        const next = rows[nth + 1];
        if (next !== undefined) expect(Number(at) + widths[type!]!).toBe(Number(next[1]));
      }
    }
  });
});
