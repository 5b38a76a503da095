import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const SAGA = fileURLToPath(new URL('../../dist/examples/saga.js', import.meta.url));

test('the saga example ships what it can, and leaves nothing of the orders that it can not', async () => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [SAGA]); // rejects unless it ends with 0
  expect(stderr).toBe('');
  expect(stdout.trim().split('\n')).toEqual([
    'order-1: 2 x lamp for ann',
    '  ann pays 80',
    '  shipped: 2 x lamp to 1 Harbour Street, receipt for 80',
    '  completed (reserve completed, charge completed, ship completed)',
    'order-2: 1 x lamp for bob',
    '  1 x lamp back on the shelf',
    expect.stringMatching(/ {2}not shipped, charge failed: .*the card of bob is good for 30, not for 40/),
    '  compensated (reserve completed, charge failed, ship waiting)',
    'order-3: 5 x rope for eve',
    '  eve pays 60',
    '  eve gets 60 back',
    '  5 x rope back on the shelf',
    '  not shipped, ship failed: no carrier goes to "The lighthouse"',
    '  compensated (reserve completed, charge completed, ship failed)',
    'order-4: 9 x lamp for ann',
    '  not shipped, reserve failed: only 3 of lamp left',
    '  compensated (reserve failed, charge waiting, ship waiting)',
    "in the shop's files: 1 reserved, 1 charged, 1 shipped",
  ]);
}, 30_000);
