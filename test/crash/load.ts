/** A history of crashes: one data directory, process after process under load, killed at some moment, or now and then closed; at last everything may end. */
import { Engine } from 'flashq';
import { expect } from 'vitest';
import { type Dump, type EndOfProcess, History } from './history.js';
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
/** Of every other history: its log is cleaned now and then. */
const BALLAST_BYTES = 800_000;

export async function crash({ durability, seed, kills, windowMs }: Crashes): Promise<History> {
  const random = randomFrom(seed);
  const ballast = seed % 2 === 0 ? '0' : `${BALLAST_BYTES}`;
  const place = new Place();
  const history = new History(windowMs);
  let before: EndOfProcess;
  try {
    let round = 0;
    for (let killed = 0; killed < kills; ) {
      round++;
      const program = place.start('load.js', [durability, `${Math.floor(random() * 1e9)}`, ballast, `${round}`]);
      const isClosed = random() < 0.15;
      if (!isClosed && random() < 0.2) await Promise.race([sleep(random() * START_MS), program.ended]);
      else {
        await program.printed(isClosed ? 'started' : 'opened');
        await place.said(random() ** 2 * SAID_BYTES, program);
      }
      if (isClosed) program.child.kill('SIGTERM');
      else {
        program.kill();
        killed++;
      }
      const { how, errors, killedAt } = await program.ended;
      if (how !== (isClosed ? 0 : 'SIGKILL')) throw new Error(`the program ended by itself (${how}): ${errors}`);
      history.read(place.facts(), before);
      before = isClosed ? 'closed' : killedAt;
      if (history.wrongs.length !== 0) break;
    }
    if (history.wrongs.length === 0) await end(place, history, durability, `${round + 1}`, before);
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
  before: EndOfProcess,
): Promise<void> {
  const { how, errors } = await place.start('load.js', [durability, '1', '0', round, 'drain']).ended;
  if (how !== 0) throw new Error(`the last program ended by ${how}: ${errors}`);
  history.read(place.facts(), before);
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
    // One that has never had a job or a setting has left nothing in the log.
    queues: queues
      .map(({ name, counts, config }) => ({ name, counts, config }))
      .filter(({ counts, config }) => Object.keys(config).length !== 0 || Object.values(counts).some((n) => n !== 0))
      .sort((a, b) => (a.name < b.name ? -1 : 1)), // their order is nobody's business
  };
}
