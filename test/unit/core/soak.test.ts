import { describe, expect, test } from 'vitest';
import { L } from '../../support/core.js';
import { type Churned, churn, HEAP_SOAKS, soak, waves } from '../../support/core-soak.js';
import { onlyComputes } from '../../support/synchronous.js';

onlyComputes();

const STEPS = 1_000_000;
/**
 * Chunks of 64 KiB by which a footprint may differ: a batch of retired blocks not yet freed, and in each of the size classes that
 * the heap uses a chunk begun.
 */
const CHUNKS_SLACK = 3;

function expectSteady({ tenth, end, tenthBytes, endBytes }: Churned): void {
  // What is live differs a little between the two moments, since sizes are random: compare what it takes beyond that.
  const chunks = end - tenth - Math.ceil((endBytes - tenthBytes) / L.PAGE_BYTES);
  expect(Math.abs(chunks)).toBeLessThan(0.05 * tenth);
}

describe('memory after 1,000,000 steps is that after the first 100,000', () => {
  test.each(HEAP_SOAKS.map((one) => [one.name, one] as const))('%s', (_name, one) => {
    const { tenth, end, settled } = soak(one, STEPS);
    expect(end).toBeLessThanOrEqual(tenth + CHUNKS_SLACK);
    expect(settled).toBeLessThanOrEqual(end);
  });

  test('100,000 priorities at once, again and again', () => {
    const chunks = waves(100_000, 10);
    expect(Math.max(...chunks)).toBeLessThanOrEqual(chunks[0]! + CHUNKS_SLACK);
  });

  test('jobs of mixed payload sizes, 10,000 of them live', () => {
    const churned = churn(STEPS, 10_000, 1);
    expectSteady(churned);
    // 10,001 slots take 20 chunks, the rest is an index segment, an area, a queue chunk and a chunk begun in each size class.
    expect(churned.settled).toBeLessThanOrEqual(20 + 3 + L.SIZE_CLASSES);
  });
});
