/** A job that ends the process before anything can be said about it. */
import { expect, onTestFinished, test } from 'vitest';
import { Place } from './killed.js';

/** The default. Of fewer a neighbour might die: when the first start of all is unseen, it is lost three times before it runs apart. */
const MAX_DELIVERIES = 5;
const JOBS = 12;

test.each([
  ['function', 1],
  ['function', 4],
  ['file', 2],
  ['file', 4],
] as const)(
  'a handler (%s, %i at a time) that kills its process at once ends in the dead letter queue, and its neighbours complete',
  async (kind, concurrency) => {
    const place = new Place();
    onTestFinished(() => place.remove());
    let openings = 0;
    for (let jobs = JOBS; ; jobs = 0) {
      const { how, errors } = await place.start('poison.js', [kind, `${concurrency}`, `${jobs}`]).ended;
      openings++;
      if (how === 0) break;
      expect(how, errors).toBe('SIGKILL');
      // The first start of all is the only one that need not be on the disk.
      expect(openings).toBeLessThanOrEqual(MAX_DELIVERIES + 1);
    }
    const facts = place.facts();
    const told = (what: string) => facts.find((fact) => fact.told === what);
    expect(told('failed')?.jobs).toEqual([{ name: 'poison', reason: 'worker_lost', attemptsMade: 0 }]);
    expect(told('counts')).toMatchObject({ completed: JOBS - 1, failed: 1, waiting: 0, active: 0, blocked: 0 });
    expect(new Set(facts.filter((fact) => fact.did === 'end').map(({ key }) => key)).size).toBe(JOBS - 1);
  },
  60_000,
);
