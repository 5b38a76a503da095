/** Runs sagas on a directory until all of them have ended, and says every start and end of a step. Ends by itself when none is left. */
import { setTimeout as sleep } from 'node:timers/promises';
import { defineSaga, Engine, Worker } from 'flashq';
import { say } from './told.js';

const [dataDir, count] = process.argv.slice(2);
const engine = await Engine.open({ dataDir });

/** `of` decides what becomes of a saga: every third one fails at its end, and of these every second can't undo its first step. */
function isHopeless(what, of) {
  if (what === 'ship') return of % 3 === 0;
  return what === 'undo reserve' && of % 6 === 0;
}

async function act(what, of, key, value) {
  say({ did: 'start', saga: of, what, key, value });
  await sleep(of % 4);
  if (isHopeless(what, of)) {
    say({ did: 'throw', saga: of, what, key });
    throw new Error(`${what} fails`);
  }
  say({ did: 'end', saga: of, what, key });
  return { of, by: what };
}

const saga = defineSaga({
  name: 'order',
  connection: engine,
  concurrency: 8,
  steps: [
    {
      name: 'reserve',
      execute: (data, { idempotencyKey }) => act('reserve', data.of, idempotencyKey, data),
      compensate: (output, { idempotencyKey }) => act('undo reserve', output.of, idempotencyKey, output),
    },
    { name: 'charge', queue: 'payments', job: 'charge', compensateJob: 'undo charge' },
    {
      name: 'ship',
      attempts: 2,
      backoff: 5,
      execute: (input, { idempotencyKey }) => act('ship', input.of, idempotencyKey, input),
    },
  ],
});
new Worker(
  'payments',
  (job) => act(job.name, job.data.of ?? job.data.output.of, job.id, job.name === 'charge' ? job.data : job.data.output),
  { connection: engine, concurrency: 4 },
);
const handles = await Promise.all(
  Array.from({ length: Number(count) }, (_, of) => saga.run({ of }, { id: `saga-${of}` })),
);
for (const handle of handles) {
  await handle.result().catch(() => {});
  const { state } = await handle.status();
  say({ told: 'state', saga: Number(handle.id.slice(5)), state });
}
await engine.close();
