/** All topics of the suite, by name. */
import { adding } from './adding.js';
import { dependencies } from './dependencies.js';
import { dependencyFailures } from './dependency-failures.js';
import type { Suite } from './kit.js';
import { order } from './order.js';
import { retry } from './retry.js';

export const SUITES: Readonly<Record<string, Suite>> = {
  adding,
  order,
  retry,
  dependencies,
  'dependency failures': dependencyFailures,
};
