import { describe, expect, test } from 'vitest';
import { L } from '../../support/core.js';
import { churn, HEAP_SOAKS, soak, waves } from '../../support/core-soak.js';

const STEPS = 10_000_000;
/** The run that the long one is compared with. */
const FIRST = 100_000;
const CHUNKS_SLACK = 3;

describe('memory after 10,000,000 steps is that after the first 100,000', () => {
  test.each(HEAP_SOAKS.map((one) => [one.name, one] as const))('%s', (_name, one) => {
    const first = soak(one, FIRST);
    const all = soak(one, STEPS);
    expect(all.end).toBeLessThanOrEqual(first.end + CHUNKS_SLACK);
    expect(all.settled).toBeLessThanOrEqual(all.end);
  });

  test('100,000 priorities at once, again and again', () => {
    const chunks = waves(FIRST, STEPS / FIRST);
    expect(Math.max(...chunks)).toBeLessThanOrEqual(chunks[0]! + CHUNKS_SLACK);
  });

  test('1,000,000 priorities at once, again and again', () => {
    const chunks = waves(1_000_000, 10);
    expect(Math.max(...chunks)).toBeLessThanOrEqual(chunks[0]! + CHUNKS_SLACK);
  });

  test('jobs of mixed payload sizes, 10,000 of them live', () => {
    const { tenth, end, tenthBytes, endBytes, settled } = churn(STEPS, 10_000, 2);
    const chunks = end - tenth - Math.ceil((endBytes - tenthBytes) / L.PAGE_BYTES);
    expect(Math.abs(chunks)).toBeLessThan(0.05 * tenth);
    expect(settled).toBeLessThanOrEqual(20 + 3 + L.SIZE_CLASSES);
  });
});
