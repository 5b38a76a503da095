/**
 * Makes the golden logs: what an engine of this version writes, for later ones to read. Run with
 *
 *     FLASHQ_WRITE_GOLDEN=1 npx vitest run test/golden
 *
 * when a version of the format is made, never to make a failing test pass: the files of a released version stay as they are.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TestClock } from 'flashq';
import { cutGroup } from '#engine/store/format.js';
import { turn } from '../support/engine.js';
import { flush, live, openLife } from '../support/lived.js';
import { lifeSteps } from '../support/log-life.js';
import { Tape } from '../support/tape.js';
import { encodeGolden, type Golden, knowledgeOf } from './golden.js';

/** Small, so that there are groups of several batches without large files. */
const SMALL_BATCHES = { batchBytesMax: 4096 };

/** What an engine leaves that ends now. Whatever it still does is not seen. */
async function crashed(
  name: string,
  says: string,
  tape: Tape,
  life: Awaited<ReturnType<typeof openLife>>,
): Promise<Golden> {
  await flush(life.b);
  const { batches, first } = tape.copy();
  const now = life.b.clock.now();
  await life.close();
  return { name, says, now, first, batches };
}

async function everything(): Promise<Golden> {
  const tape = new Tape([], SMALL_BATCHES);
  const life = await openLife(tape);
  await live(life, lifeSteps(20_000), () => {});
  const says = 'Every state of a job, every kind of record but that of an orderly end; three runs were under way.';
  return crashed('everything', says, tape, life);
}

/** Three engines, one after the other, whose runs are lost with them; then one that is closed in order. */
async function losses(): Promise<Golden> {
  const tape = new Tape([], SMALL_BATCHES);
  let clock = 1_735_700_000_000;
  for (const engine of [1, 2, 3]) {
    const life = await openLife(tape, { clock: new TestClock(clock) });
    const queue = life.b.queue('lost');
    if (engine === 1) {
      await queue.addBulk([
        { name: 'lost three times', data: 1, opts: { priority: 3, maxDeliveries: 9 } },
        { name: 'given up', data: 2, opts: { priority: 2, maxDeliveries: 1 } },
        { name: 'cancelled in its run', data: 3, opts: { priority: 1 } },
      ]);
    }
    const first = await life.hands('lost').next();
    if (engine === 1) {
      await life.hands('lost').next();
      const third = await life.hands('lost').next();
      await queue.cancel(third.job, 'too late');
    }
    await first.job.log(`run ${engine}`);
    await flush(life.b);
    const left = tape.copy();
    clock = life.b.clock.now() + 1000;
    await life.close();
    Object.assign(tape, { batches: left.batches, epoch: left.epoch + 1n });
  }
  const life = await openLife(tape, { clock: new TestClock(clock) });
  await life.close();
  const { batches, first } = tape;
  const says =
    'Three engines ended in the middle of runs, a fourth was closed in order: lost runs, a job that was given up.';
  return { name: 'losses', says, now: clock, first, batches: [...batches] };
}

/** A log whose beginning has been forgotten, and of whose first group only the end is left. */
async function forgotten(): Promise<Golden> {
  const tape = new Tape([], SMALL_BATCHES);
  const life = await openLife(tape);
  const queue = life.b.queue('kept');
  const gone = await queue.add('gone', Buffer.alloc(9000, 1));
  for (let n = 0; n < 80; n++) await queue.remove(await queue.add('chaff', n));
  const large = queue.add('kept', Buffer.alloc(9000, 2), { jobId: 'kept' });
  await Promise.all([large, queue.pause(), gone.updateProgress(50)]); // a change of a job whose base will be forgotten
  await queue.resume();
  await gone.remove();
  for (let n = 0; n < 3; n++) await queue.remove(await queue.add('chaff', n));
  if (tape.first === 1) throw new Error('nothing has been forgotten');
  const golden = await crashed('forgotten', '', tape, life);
  const first = golden.first - 1;
  const says =
    'The beginning has been forgotten: first the rest of a group, then a change of a job whose base is not there.';
  return { ...golden, says, first, batches: [restOfGroup(first), ...golden.batches] };
}

/** The last batch of a group of two, at that place. */
function restOfGroup(number: number): Uint8Array {
  const batches: Uint8Array[] = [];
  cutGroup(new Uint8Array(80), 100, 1, number - 1, (batch) => batches.push(batch));
  return batches[1]!;
}

/** Three times a batch was torn off, and twice an engine came after it. */
async function torn(): Promise<Golden> {
  const tape = new Tape([], SMALL_BATCHES);
  let now = 0;
  for (const bytes of [0, 17, 45]) {
    const life = await openLife(tape);
    await life.b.queue('torn').add(`before ${bytes} bytes`, bytes);
    await flush(life.b);
    const left = tape.copy();
    await life.b.queue('torn').add('never acknowledged', bytes);
    now = life.b.clock.now();
    const next = tape.batches[left.batches.length]!.slice(0, bytes);
    await life.close();
    await turn();
    Object.assign(tape, { batches: [...left.batches, next], epoch: left.epoch + 1n });
  }
  const says = 'Three engines ended while they wrote a batch, of which 0, 17 and 45 bytes are there.';
  return { name: 'torn', says, now, first: tape.first, batches: [...tape.batches] };
}

export async function writeGolden(folder: string): Promise<void> {
  Error.stackTraceLimit = 0; // stacks are kept with jobs, and tell of this machine
  mkdirSync(folder, { recursive: true });
  for (const golden of [await everything(), await losses(), await forgotten(), await torn()]) {
    writeFileSync(join(folder, `${golden.name}.batches`), encodeGolden(golden));
    const { says, now } = golden;
    const expected = { says, now, ...(await knowledgeOf(golden)) };
    writeFileSync(join(folder, `${golden.name}.json`), `${JSON.stringify(expected, undefined, 1)}\n`);
  }
}
