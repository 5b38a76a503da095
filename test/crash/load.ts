/** A history of crashes: one data directory, process after process under load, each killed at some moment; then everything may end. */
import { Engine } from 'flashq';
import { expect } from 'vitest';
import { type Dump, History } from './history.js';
import { Place, randomFrom, sleep } from './killed.js';
import { dump } from './programs/dump.js';

export interface Crashes {
  readonly durability: 'commit' | 'relaxed';
  readonly seed: number;
  readonly kills: number;
  /** What was told this long before a kill must hold. */
  readonly windowMs: number;
}

/** A kill may hit the opening: so long after the start. */
const START_MS = 600;
/** Or it comes when so much has been said: some hundred jobs. */
const SAID_BYTES = 150_000;

export async function crash({ durability, seed, kills, windowMs }: Crashes): Promise<History> {
  const random = randomFrom(seed);
  const place = new Place();
  const history = new History(windowMs);
  let crashedAt: number | undefined;
  try {
    for (let round = 1; round <= kills; round++) {
      const program = place.start('load.js', [durability, `${Math.floor(random() * 1e9)}`, `${round}`]);
      if (random() < 0.2) await Promise.race([sleep(random() * START_MS), program.ended]);
      else {
        await program.printed('opened');
        await place.said(random() ** 2 * SAID_BYTES, program);
      }
      program.kill();
      const { how, errors, killedAt } = await program.ended;
      if (how !== 'SIGKILL') throw new Error(`the program ended by itself (${how}): ${errors}`);
      history.read(place.facts(), crashedAt);
      crashedAt = killedAt;
      if (history.wrongs.length !== 0) break;
    }
    if (history.wrongs.length === 0) await end(place, history, durability, `${kills + 1}`, crashedAt);
    expect(history.wrongs.slice(0, 20), `seed ${seed}`).toEqual([]);
    place.remove();
    return history;
  } catch (error) {
    throw new Error(`seed ${seed}, ${place.path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Everything runs to its end, and is there when the directory is opened once more. */
async function end(
  place: Place,
  history: History,
  durability: 'commit' | 'relaxed',
  round: string,
  crashedAt: number | undefined,
): Promise<void> {
  const { how, errors } = await place.start('load.js', [durability, '1', round, 'drain']).ended;
  if (how !== 0) throw new Error(`the last program ended by ${how}: ${errors}`);
  history.read(place.facts(), crashedAt);
  const engine = await Engine.open({ dataDir: place.dataDir, durability });
  const found = dump(engine) as Dump;
  await engine.close();
  expect(stateOf(found)).toEqual(stateOf(history.last as Dump));
}

/** Without what only lingers: its time may be over. */
function stateOf({ jobs, queues }: Dump): unknown {
  const kept = jobs.filter(({ list }) => list === 'completed' || list === 'failed' || list === 'cancelled');
  return {
    kept: kept.map(({ due: _due, ...job }) => JSON.stringify(job)).sort(),
    queues: queues.map(({ name, counts, config }) => ({ name, counts, config })),
  };
}
