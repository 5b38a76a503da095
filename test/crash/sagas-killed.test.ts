/** A process that runs sagas is killed at random: at the boundaries of steps and inside them. */
import { expect, onTestFinished, test } from 'vitest';
import { Place, randomFrom, seedOfTest } from './killed.js';

const LONG = process.env.FLASHQ_LONG === '1';
const HISTORIES = LONG ? 25 : 2;
/** Fewer than the losses after which a step is given up. */
const KILLS = 4;
const SAGAS = 36;

/** In the order in which they have to be: each may come several times in a row, and never again after a later one. */
function expected(saga: number): { order: string[]; state: string } {
  const forward = ['reserve', 'charge', 'ship'];
  if (saga % 3 !== 0) return { order: forward, state: 'completed' };
  const order = [...forward, 'undo charge', 'undo reserve'];
  return { order, state: saga % 6 === 0 ? 'compensation_failed' : 'compensated' };
}

test.each(Array.from({ length: HISTORIES }, (_, i) => seedOfTest() + i))(
  'kill after kill, no step that has settled is started again, and every saga ends (seed %i)',
  async (seed) => {
    const place = new Place();
    onTestFinished(() => place.remove());
    const random = randomFrom(seed);
    for (let kill = 0; kill < KILLS; kill++) {
      const program = place.start('sagas.js', [`${SAGAS}`]);
      await place.said(Math.floor(1 + random() * 4000), program);
      program.kill();
      const { how, errors } = await program.ended;
      expect([0, 'SIGKILL'], errors).toContain(how);
    }
    const { how, errors } = await place.start('sagas.js', [`${SAGAS}`]).ended;
    expect(how, errors).toBe(0);

    const facts = place.facts();
    for (let saga = 0; saga < SAGAS; saga++) {
      const mine = facts.filter((fact) => fact.saga === saga);
      const { order, state } = expected(saga);
      const starts = mine.filter(({ did }) => did === 'start');
      const inRow = starts.map(({ what }) => what).filter((what, i) => i === 0 || starts[i - 1]?.what !== what);
      expect(inRow, `saga ${saga}`).toEqual(order);
      for (const { what, key, value } of starts) {
        const name = String(what).replace('undo ', '');
        expect(key).toBe(`saga:order:saga-${saga}:${name}${name === what ? '' : ':compensate'}`);
        const by = { charge: 'reserve', ship: 'charge', 'undo charge': 'charge', 'undo reserve': 'reserve' }[
          String(what)
        ];
        expect(value).toEqual(by === undefined ? { of: saga } : { of: saga, by });
      }
      const told = mine.filter((fact) => fact.told === 'state');
      expect(new Set(told.map((fact) => fact.state))).toEqual(new Set([state]));
    }
  },
  120_000,
);
