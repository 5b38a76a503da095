/** Sagas whose engine crashes at random commits and inside random steps, until one life is long enough: what was run, and how often. */

import fc from 'fast-check';
import { defineSaga, Engine, type Saga, type SagaState, type SagaStep, TestClock, Worker } from 'flashq';
import { expect, test } from 'vitest';
import { FaultStore } from '../support/fault-store.js';
import { SMALL } from '../support/lived.js';
import { seedOfTest } from './killed.js';

const LONG = process.env.FLASHQ_LONG === '1';
const RUNS = LONG ? 5000 : 200;
/** Fewer than the losses after which a step is given up. */
const LIVES_MAX = 4;
/** Rounds in which nothing happens, after which nothing will. */
const QUIET_ROUNDS = 8;
/** Longer than any backoff. */
const ROUND_MS = 20;

interface Step {
  readonly kind: 'function' | 'job';
  readonly hasUndo: boolean;
  /** Attempts that fail before one succeeds. */
  readonly flaky: number;
}

interface Life {
  /** Appends until the disk answers no more. */
  readonly appends: number;
  /** How many of those under way are on the disk all the same. */
  readonly keep: number;
  /** The call of this life that never ends, if it comes to it. */
  readonly hangs: number;
}

interface Scenario {
  readonly steps: readonly Step[];
  /** The step that fails for good; none when there are fewer. */
  readonly fails: number;
  /** The step that can't be undone; none when there are fewer. */
  readonly stuck: number;
  readonly lives: readonly Life[];
  /** It is cancelled after so many calls. */
  readonly cancelAt?: number;
}

const step = fc.record({
  kind: fc.constantFrom<Step['kind']>('function', 'function', 'job'),
  hasUndo: fc.boolean(),
  flaky: fc.nat(1),
});
const life = fc.record({ appends: fc.integer({ min: 1, max: 24 }), keep: fc.nat(1), hangs: fc.nat(12) });
const scenarios = fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: 4 }),
  fails: fc.nat(5),
  stuck: fc.nat(8),
  lives: fc.array(life, { maxLength: LIVES_MAX }),
});

interface Call {
  readonly life: number;
  /** `3` or `undo 3`. */
  readonly what: string;
  readonly key: string;
  readonly input: unknown;
}

/** Plays the lives of one saga. */
class Play {
  readonly calls: Call[] = [];
  readonly #scenario: Scenario;
  readonly #store = new FaultStore();
  #clock = new TestClock();
  #life = 0;
  #isOver = false;
  /** Calls of this life. */
  #count = 0;
  #failed = new Map<string, number>();
  /** Somebody was told that it is being cancelled. */
  #isCancelled = false;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
  }

  /** The state in which it ends. */
  async run(): Promise<SagaState> {
    for (const one of this.#scenario.lives) {
      await this.#live(one);
    }
    const end = await this.#live(undefined);
    if (end === undefined) throw new Error('the saga has not ended');
    return end;
  }

  async #live(crash: Life | undefined): Promise<SagaState | undefined> {
    this.#life++;
    this.#count = 0;
    this.#isOver = false;
    const engine = await Engine.open({ store: this.#store, clock: this.#clock, ...SMALL });
    engine.on('warning', () => {});
    const last = this.#store.appends + (crash?.appends ?? Number.POSITIVE_INFINITY);
    this.#store.failAt(last, { kind: 'slow' });
    const saga = defineSaga({ name: 's', steps: this.#steps(), connection: engine });
    const worker = new Worker('jobs', (job) => this.#job(job.name, job.id, job.data), { connection: engine });
    worker.on('error', () => {});
    const state = await this.#play(saga, engine);
    const calls = this.calls.length;
    this.#store.failAt(last, undefined);
    if (crash !== undefined || state === undefined) this.#store.crash({ keep: crash?.keep ?? 0 });
    this.#isOver = true;
    await turn();
    await engine.close({ timeout: 0 }).catch(() => {});
    expect(this.calls.length, 'an engine without a disk starts nothing').toBe(calls);
    this.#clock = new TestClock(this.#clock.now());
    return state;
  }

  /** The state of a saga that has ended; undefined when nothing goes on any more. */
  async #play(saga: Saga, engine: Engine): Promise<SagaState | undefined> {
    const begun = saga.run('data', { id: 'one' });
    let end: SagaState | undefined;
    begun
      .then(async (handle) => {
        await handle.result().catch(() => {});
        end = (await handle.status()).state;
      })
      .catch(() => {}); // the engine was gone before
    let before = '';
    for (let quiet = 0; quiet < QUIET_ROUNDS && end === undefined; quiet++) {
      await this.#clock.advance(ROUND_MS);
      this.#cancel(saga);
      await turn();
      const now = `${this.calls.length} ${this.#store.appends} ${engine.stats().jobs}`;
      if (now !== before) quiet = 0;
      before = now;
    }
    return end;
  }

  #cancel(saga: Saga): void {
    const { cancelAt = Number.POSITIVE_INFINITY } = this.#scenario;
    if (this.#isCancelled || this.calls.length < cancelAt) return;
    saga.cancel('one').then(
      () => {
        this.#isCancelled = true;
      },
      () => {}, // it is not there yet, or the engine was gone before
    );
  }

  #steps(): SagaStep[] {
    return this.#scenario.steps.map(({ kind, hasUndo }, index): SagaStep => {
      const name = `${index}`;
      const common = { name, attempts: 2, backoff: 10 };
      if (kind === 'job')
        return { ...common, queue: 'jobs', job: name, ...(hasUndo ? { compensateJob: `undo ${name}` } : {}) };
      return {
        ...common,
        execute: (input, { idempotencyKey }) => this.#call(name, idempotencyKey, input),
        ...(hasUndo
          ? {
              compensate: (output: unknown, { idempotencyKey, input }: { idempotencyKey: string; input: unknown }) =>
                this.#call(`undo ${name}`, idempotencyKey, { input, output }),
            }
          : {}),
      };
    });
  }

  #job(name: string, id: string, data: any): Promise<unknown> {
    return this.#call(name, id, name.startsWith('undo') ? { input: data.input, output: data.output } : data);
  }

  async #call(what: string, key: string, input: unknown): Promise<unknown> {
    if (this.#isOver) return undefined;
    this.calls.push({ life: this.#life, what, key, input });
    const { lives, steps, fails, stuck } = this.#scenario;
    if (lives[this.#life - 1]?.hangs === this.#count++) return new Promise(() => {});
    await Promise.resolve();
    const failed = this.#failed.get(what) ?? 0;
    const index = Number(what.replace('undo ', ''));
    const isHopeless = what.startsWith('undo') ? index === stuck : index === fails;
    if (isHopeless || failed < (steps[index] as Step).flaky) {
      this.#failed.set(what, failed + 1);
      throw new Error(`${what} fails`);
    }
    return `did ${what}`;
  }
}

async function turn(): Promise<void> {
  for (let i = 0; i < 6; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** In the order in which they have to be: each may come several times in a row, and never again after a later one. */
function expectedOrder({ steps, fails, stuck }: Scenario): { order: string[]; end: SagaState } {
  const order = steps.slice(0, fails + 1).map((_, index) => `${index}`);
  if (fails >= steps.length) return { order, end: 'completed' };
  for (let index = fails - 1; index >= 0; index--) {
    if (!steps[index]?.hasUndo) continue;
    order.push(`undo ${index}`);
    if (index === stuck) return { order, end: 'compensation_failed' };
  }
  return { order, end: 'compensated' };
}

/** Where a cancelled one may have turned back: after any step, the last one undone or in doubt. */
function turned({ steps, fails, stuck }: Scenario): { order: string[]; end: SagaState }[] {
  const all: { order: string[]; end: SagaState }[] = [];
  for (let begun = 0; begun <= Math.min(steps.length, fails + 1); begun++) {
    for (const done of begun === 0 ? [0] : [begun, begun - 1]) {
      const order = steps.slice(0, begun).map((_, index) => `${index}`);
      let end: SagaState = 'compensated';
      for (let index = done - 1; index >= 0 && end === 'compensated'; index--) {
        if (!steps[index]?.hasUndo) continue;
        order.push(`undo ${index}`);
        if (index === stuck) end = 'compensation_failed';
      }
      all.push({ order, end });
    }
  }
  return all;
}

function inRow(calls: readonly Call[]): string[] {
  return calls.map(({ what }) => what).filter((what, i) => i === 0 || calls[i - 1]?.what !== what);
}

function check(scenario: Scenario, calls: readonly Call[], end: SagaState): void {
  const expected = expectedOrder(scenario);
  const found = { order: inRow(calls), end };
  if (scenario.cancelAt === undefined) {
    expect(found, 'nothing that has settled is started again, and nothing is left out').toEqual(expected);
  } else expect([expected, ...turned(scenario)]).toContainEqual(found);
  for (const { what, key, input } of calls) {
    const index = Number(what.replace('undo ', ''));
    const given = index === 0 ? 'data' : `did ${index - 1}`;
    expect(key).toBe(`saga:s:one:${index}${what.startsWith('undo') ? ':compensate' : ''}`);
    expect(input).toEqual(what.startsWith('undo') ? { input: given, output: `did ${index}` } : given);
  }
}

async function checkAll(arbitrary: fc.Arbitrary<Scenario>): Promise<void> {
  await fc.assert(
    fc.asyncProperty(arbitrary, async (scenario) => {
      const play = new Play(scenario);
      const end = await play.run();
      check(scenario, play.calls, end);
    }),
    { numRuns: RUNS, seed: seedOfTest() },
  );
}

test(
  'whatever step fails and wherever the engine crashes: a settled step is never started again, and every saga ends',
  () => checkAll(scenarios),
  600_000,
);

test(
  'so it is when the saga is cancelled meanwhile',
  () => checkAll(fc.tuple(scenarios, fc.nat(8)).map(([scenario, cancelAt]) => ({ ...scenario, cancelAt }))),
  600_000,
);
