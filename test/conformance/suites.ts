/** All topics of the suite, by name. */
import { adding } from './adding.js';
import { batch } from './batch.js';
import { breaker } from './breaker.js';
import { breakers } from './breakers.js';
import { crons } from './crons.js';
import { deadLetters } from './dead-letters.js';
import { deduplication } from './deduplication.js';
import { dependencies } from './dependencies.js';
import { dependencyFailures } from './dependency-failures.js';
import { ends } from './ends.js';
import { flows } from './flows.js';
import { groups } from './groups.js';
import { identity } from './identity.js';
import type { Suite } from './kit.js';
import { operating } from './operating.js';
import { order } from './order.js';
import { retry } from './retry.js';
import { sagas } from './sagas.js';
import { states } from './states.js';
import { streams } from './streams.js';
import { waiting } from './waiting.js';
import { waitingRuns } from './waiting-runs.js';

export const SUITES: Readonly<Record<string, Suite>> = {
  adding,
  batch,
  'circuit breaker': breaker,
  'dead letters': deadLetters,
  deduplication,
  dependencies,
  'dependency failures': dependencyFailures,
  ends,
  groups,
  breakers,
  crons,
  flows,
  identity,
  operating,
  order,
  retry,
  sagas,
  states,
  streams,
  waiting,
  'waiting runs': waitingRuns,
};
