/** Everything that is measured through the package's public entries. */
import { backlogParts } from './backlog.js';
import { cpuBoundParts } from './cpu-bound.js';
import { cronParts } from './cron.js';
import { durableParts } from './durable.js';
import { durableAddsParts } from './durable-adds.js';
import { endToEndParts } from './end-to-end.js';
import { fanInParts } from './fan-in.js';
import type { Part } from './harness.js';
import { idempotentParts } from './idempotent.js';
import { latencyParts } from './latency.js';
import { reopenParts } from './reopen.js';
import { stallParts } from './stall.js';
import { turnsParts } from './turns.js';

export const engineParts: readonly Part[] = [
  ...endToEndParts,
  ...latencyParts,
  ...fanInParts,
  ...cronParts,
  ...turnsParts,
  ...idempotentParts,
  ...cpuBoundParts,
  ...backlogParts,
  ...durableParts,
  ...durableAddsParts,
  ...stallParts,
  ...reopenParts,
];
