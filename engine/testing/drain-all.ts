/** Lets an engine do all that there is to do, the time that it takes included. */
import { setTimeout as realTime } from 'node:timers/promises';
import { checkDuration, checkObject, checkOptionNames } from '../../client/checks.js';
import { TimeoutError, ValidationError } from '../../client/errors.js';
import type { Engine } from '../engine.js';
import { counts } from '../jobs/control.js';
import { hasThreads } from '../jobs/explain.js';
import type { QueueEntry } from '../queues.js';
import type { EngineState } from '../state.js';
import { TestClock } from '../upkeep/clock.js';

export interface DrainOptions {
  /** How far the time goes on at least, in milliseconds of the engine's clock: so far crons come, too. Default 0. */
  readonly advance?: number | undefined;
  /** How far it may go on at most before draining is given up, in milliseconds of the engine's clock. Default seven days. */
  readonly limit?: number | undefined;
  /** How long a handler may take, in real milliseconds. Default 10,000. */
  readonly timeout?: number | undefined;
}

const LIMIT_MS = 7 * 24 * 3_600_000;
const TIMEOUT_MS = 10_000;
/** Turns of the event loop in which nothing happens: a commit leads to claims, those to outcomes, and those to the next commit. */
const QUIET_TURNS = 4;
/** Jobs for handlers on threads are given this long, in real milliseconds, to be taken. */
const THREADS_MS = 50;

/**
 * Runs what waits, and lets the time go on to what is delayed (delays, backoff, rate limits), until no job is active or delayed any more.
 * Jobs that nobody can take stay: of a queue that is paused or has no worker, or blocked by such. Crons don't keep it going: as far
 * as the time goes on they come, and with `advance` it goes on so far.
 *
 * @throws ValidationError unless the engine was opened with a TestClock; TimeoutError when a handler takes longer than `timeout`, or
 *   when there is still something to do after `limit` (a job that is retried for ever)
 *
 * @example
 * const engine = await Engine.open({ clock: new TestClock() });
 * await queue.add('mail', { to: 'ann@example.com' }, { delay: 3_600_000, attempts: 3, backoff: 60_000 });
 * await drainAll(engine);
 * expect(sent).toEqual(['ann@example.com']);
 */
export async function drainAll(engine: Engine, options: DrainOptions = {}): Promise<void> {
  checkOptionNames(checkObject(options, 'options'), 'options', { known: ['advance', 'limit', 'timeout'] });
  const { advance = 0, limit = LIMIT_MS, timeout = TIMEOUT_MS } = options;
  const { state } = engine;
  const { clock } = state;
  if (!(clock instanceof TestClock)) {
    throw new ValidationError(
      'drainAll needs an engine whose time it can move: Engine.open({ clock: new TestClock() })',
      {
        path: 'engine',
      },
    );
  }
  const begin = clock.now();
  const end = begin + checkDuration(advance, 'options.advance');
  const last = Math.max(end, begin + checkDuration(limit, 'options.limit'));
  checkDuration(timeout, 'options.timeout');
  while (true) {
    await settle(engine, clock, timeout);
    const now = clock.now();
    if (now >= end && ![...state.queues.all()].some((queue) => hasTimed(state, queue))) return;
    // From timer to timer, so that what each of them leads to happens in its time.
    const { next } = clock;
    const target = now < end ? Math.min(next ?? end, end) : next;
    if (target === undefined) return;
    if (target > last) throw tooLong(state, limit);
    await clock.advance(Math.max(0, target - now));
  }
}

/** Whether the time will let jobs of it run: those that are delayed, and those that wait for more than a worker. */
function hasTimed(state: EngineState, queue: QueueEntry): boolean {
  const { delayed, waiting } = counts(state, queue);
  if (delayed > 0) return true;
  const { rateLimit, groups } = queue.config;
  const isLimited = (rateLimit ?? undefined) !== undefined || groups?.rateLimit !== undefined;
  const mayWait =
    isLimited || queue.heldUntil > state.clock.now() || queue.batchers.size > 0 || state.breakers.holdsBack(queue);
  return waiting > 0 && mayWait && isServed(state, queue);
}

function isServed(state: EngineState, queue: QueueEntry): boolean {
  return !queue.paused && (queue.local.size > 0 || hasThreads(state, queue));
}

/** Until nothing is active and nothing more happens at this time. Events are counted even when nobody reads them. */
async function settle(engine: Engine, clock: TestClock, timeoutMs: number): Promise<void> {
  const { state } = engine;
  let changedAt = performance.now();
  let seen = state.events.last;
  for (let quiet = 0; ; quiet++) {
    await clock.advance(0);
    await engine.connection.durable();
    if (state.events.last !== seen) {
      seen = state.events.last;
      quiet = 0;
      changedAt = performance.now();
    }
    if (quiet < QUIET_TURNS) continue;
    const quietMs = performance.now() - changedAt;
    const active = activeIn(state);
    if (active === 0 && (quietMs > THREADS_MS || !waitsForThreads(state))) return;
    if (quietMs > timeoutMs) {
      throw new TimeoutError(
        timeoutMs,
        `${active} ${active === 1 ? 'job has' : 'jobs have'} been running for ${timeoutMs} ms of real time: ${named(state)}. Give drainAll a longer timeout, or let the handlers end.`,
      );
    }
    await realTime(1); // a handler waits for something that is no job
  }
}

function activeIn(state: EngineState): number {
  let active = 0;
  for (const queue of state.queues.all()) active += counts(state, queue).active;
  return active;
}

function waitsForThreads(state: EngineState): boolean {
  for (const queue of state.queues.all())
    if (!queue.paused && hasThreads(state, queue) && counts(state, queue).waiting > 0) return true;
  return false;
}

/** The queues in which something is under way, with how much. */
function named(state: EngineState): string {
  const parts: string[] = [];
  for (const queue of state.queues.all()) {
    const { active, delayed, waiting } = counts(state, queue);
    if (active + delayed + waiting > 0)
      parts.push(`"${queue.name}" ${active} active, ${waiting} waiting, ${delayed} delayed`);
  }
  return parts.join('; ');
}

function tooLong(state: EngineState, limitMs: number): TimeoutError {
  return new TimeoutError(
    limitMs,
    `There is still something to do after ${limitMs} ms of the engine's time: ${named(state)}. Give drainAll a higher limit, or look for a job that is put off for ever.`,
  );
}
