/**
 * Random histories of one queue: whenever the engine ends, the next one knows what it knew, and claims in the order in which it would have.
 * FLASHQ_LONG=1 plays many more, with another seed each time; FLASHQ_SEED plays those of one seed.
 */

import fc from 'fast-check';
import { DelayedError, type Job, RateLimitError, TestClock, UnrecoverableError } from 'flashq';
import { expect, test } from 'vitest';
import { afterCrash, type Dump, dumpOf } from '../support/dump.js';
import { turn } from '../support/engine.js';
import { flush, knownFrom, openLife } from '../support/lived.js';
import { Tape } from '../support/tape.js';
import type { ModelOutcome } from './job-model.js';
import { type Ref, type Spec, type Step, steps } from './steps.js';

const isLong = process.env.FLASHQ_LONG === '1';
const numRuns = isLong ? 3000 : 60;
const seed = Number(process.env.FLASHQ_SEED ?? (isLong ? Date.now() % 2 ** 31 : 20261125));

type Opened = Awaited<ReturnType<typeof openLife>>;

class Played {
  #tape = new Tape();
  readonly told: string[] = [];
  readonly #ids: string[] = [];
  #life!: Opened;
  #data = 0;

  /** Compares after every so many steps; before step `crashAt` the engine ends, and another one goes on. */
  async play(history: readonly Step[], every: number, crashAt: number): Promise<void> {
    this.#life = await openLife(this.#tape, { concurrency: 1 });
    try {
      this.#life.hands('q');
      for (const [nth, step] of history.entries()) {
        if (nth === crashAt) await this.#crash();
        this.told.push(JSON.stringify(step));
        await this.#do(step).catch(() => {}); // refused
        await this.#life.b.clock.advance(0);
        if (nth % every === 0) await this.#compare();
      }
      await this.#compare();
      await this.#compareOrder();
    } catch (error) {
      throw new Error(`${(error as Error).message}\n\nAfter:\n${this.told.join('\n')}\n`, { cause: error });
    } finally {
      await this.#life.close();
    }
  }

  async #crash(): Promise<void> {
    this.told.push('a crash');
    const { b, close } = this.#life;
    await flush(b);
    const left = this.#tape.copy();
    const clock = new TestClock(b.clock.now());
    await close();
    this.#tape = left;
    this.#life = await openLife(left, { concurrency: 1, clock });
    this.#life.hands('q');
    await clock.advance(0);
  }

  async #compare(): Promise<void> {
    const { b } = this.#life;
    await flush(b);
    const now = new TestClock(b.clock.now());
    expect(ofUsers(await knownFrom(this.#tape.copy(), now))).toEqual(ofUsers(afterCrash(dumpOf(b.engine))));
  }

  /** With no run under way, since that would be the first of its priority. */
  async #compareOrder(): Promise<void> {
    const { b, hands } = this.#life;
    await b.queue('q').pause();
    for (const run of hands('q').started) await run.complete();
    await b.clock.advance(0);
    await flush(b);
    const next = await openLife(this.#tape.copy(), { concurrency: 1, clock: new TestClock(b.clock.now()) });
    const [here, there] = [await drained(this.#life), await drained(next)];
    await next.close();
    expect(there).toEqual(here);
  }

  // ---- steps ------------------------------------------------------------------------------------------------------------------

  async #do(step: Step): Promise<unknown> {
    const { b } = this.#life;
    const queue = b.queue('q');
    switch (step.do) {
      case 'add':
      case 'addAndWait':
        return this.#added([await queue.add('job', ++this.#data, this.#options(step.job))]);
      case 'addBulk': {
        const items = step.jobs.map((job) => ({ name: 'job', data: ++this.#data, opts: this.#options(job) }));
        return this.#added(await queue.addBulk(items));
      }
      case 'settle':
        return this.#settle(step.outcome);
      case 'pause':
        return queue.pause();
      case 'resume':
        return queue.resume();
      case 'advance':
        return b.clock.advance(step.ms);
      case 'retryDlq':
        return queue.retryDlq(step.jobs === 'all' ? 'all' : step.jobs.map((ref) => this.#id(ref)), {
          withDependencies: step.withDependencies,
        });
      case 'purgeDlq':
        return queue.purgeDlq(step.jobs === 'all' ? 'all' : step.jobs.map((ref) => this.#id(ref)));
      case 'drain':
        return queue.drain({ delayed: step.delayed, blocked: step.blocked });
      case 'obliterate':
        return queue.obliterate();
      case 'finished':
        return undefined; // nothing that an engine would know after another
      default:
        return this.#change(step, this.#id(step.job));
    }
  }

  async #change(step: Extract<Step, { job: Ref }>, id: string): Promise<unknown> {
    const queue = this.#life.b.queue('q');
    switch (step.do) {
      case 'cancel':
        if ((await queue.getJobState(id)) === 'active') return undefined; // what that leads to needs the run's end
        return queue.cancel(id);
      case 'remove':
        return queue.remove(id);
      case 'promote':
        return queue.promote(id);
      case 'changePriority':
        return queue.changePriority(id, { priority: step.priority, lifo: step.lifo });
      case 'changeDelay':
        return queue.changeDelay(id, step.delay);
      case 'updateData':
        return queue.updateData(id, ++this.#data);
      case 'moveToDlq':
        return queue.moveToDlq(id, step.message);
    }
  }

  #added(jobs: readonly Job[]): void {
    for (const { id } of jobs) this.#ids.push(id);
  }

  /** Without `maxDeliveries`: that a crash may be one too many is told by the other model. */
  #options({ opts: { maxDeliveries: _most, ...opts }, needs }: Spec): object {
    return needs.length === 0 ? opts : { ...opts, dependsOn: needs.map((ref) => this.#id(ref)) };
  }

  #id(ref: Ref): string {
    if ('named' in ref) return ref.named;
    return this.#ids[ref.nth % this.#ids.length] ?? 'x9';
  }

  async #settle(outcome: ModelOutcome): Promise<void> {
    const run = this.#life.hands('q').started.at(-1);
    if (outcome.kind === 'complete') await run?.complete(outcome.value);
    else await run?.fail(errorOf(outcome));
  }
}

function errorOf(outcome: Exclude<ModelOutcome, { kind: 'complete' }>): Error {
  if (outcome.kind === 'unrecoverable') return new UnrecoverableError(outcome.message);
  if (outcome.kind === 'again') return new { DelayedError, RateLimitError }[outcome.by](outcome.delayMs);
  const error = new Error(outcome.message);
  return outcome.retryAfterMs === undefined ? error : Object.assign(error, { retryAfterMs: outcome.retryAfterMs });
}

/** Without a queue that nobody has used, and numbers that were given to jobs that were refused. */
function ofUsers({ jobs, queues: { q } }: Dump): object {
  return { jobs, queue: q ?? { paused: false, config: {}, counts: {} } };
}

/** Lets all that waits run, one after the other; the ids in the order of their runs. */
async function drained({ b, hands }: Opened): Promise<string[]> {
  const { started } = hands('q');
  let seen = started.length;
  const before = seen;
  const queue = b.queue('q');
  await queue.resume();
  for (;;) {
    await flush(b);
    await b.clock.advance(0);
    if (seen === started.length) break;
    await started[seen++]!.complete();
    await turn();
  }
  return started.slice(before).map(({ job }) => job.id);
}

test('whenever an engine ends, the next one knows the same, and claims in the same order', async () => {
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 1, max: 9 }), fc.nat(60), (history, every, crashAt) =>
      new Played().play(history, every, crashAt),
    ),
    { seed, numRuns },
  );
}, 600_000);
