/** All topics of the suite, by name. */
import { adding } from './adding.js';
import { deadLetters } from './dead-letters.js';
import { deduplication } from './deduplication.js';
import { dependencies } from './dependencies.js';
import { dependencyFailures } from './dependency-failures.js';
import { ends } from './ends.js';
import { identity } from './identity.js';
import type { Suite } from './kit.js';
import { operating } from './operating.js';
import { order } from './order.js';
import { retry } from './retry.js';
import { states } from './states.js';
import { streams } from './streams.js';
import { waiting } from './waiting.js';

export const SUITES: Readonly<Record<string, Suite>> = {
  adding,
  'dead letters': deadLetters,
  deduplication,
  dependencies,
  'dependency failures': dependencyFailures,
  ends,
  identity,
  operating,
  order,
  retry,
  states,
  streams,
  waiting,
};
