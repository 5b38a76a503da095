/** Waiting for what happens to jobs, whether it comes or has come already. */
import { isDeepStrictEqual } from 'node:util';
import { checkDuration, checkOneOf, refuse } from '../../client/checks.js';
import type { EventSubscription, JobSnapshot, QueueEvent } from '../../client/connection.js';
import { ConnectionError, TimeoutError } from '../../client/errors.js';
import { type Job, jobOfSnapshot } from '../../client/job.js';
import { Queue } from '../../client/queue.js';
import { L } from '../core/index.js';
import { Engine } from '../engine.js';
import { InProcessConnection } from '../in-process.js';
import { snapshot } from '../jobs/records.js';
import { resolve } from '../jobs/references.js';
import type { EngineState } from '../state.js';

const EVENTS = [
  'added',
  'waiting',
  'delayed',
  'blocked',
  'active',
  'progress',
  'completed',
  'failed',
  'retrying',
  'cancelled',
] as const;

/** What can be waited for: events of jobs, as `QueueEvents` names them. `failed`: for good. */
export type SpyEvent = (typeof EVENTS)[number];

/** Which jobs: every member that is there must match; of `data` every member that is named. Or a function that says so. */
export type SpySelector =
  | {
      readonly id?: string | undefined;
      readonly queue?: string | undefined;
      readonly name?: string | undefined;
      readonly data?: unknown;
    }
  | ((job: Job) => boolean);

interface Seen {
  readonly event: string;
  readonly job: Job;
}

const TIMEOUT_MS = 5000;
/** By event, the states in which a job is to which it has happened: for those to which it did before there was a spy. */
const STATES: Partial<Record<SpyEvent, readonly number[]>> = {
  added: [L.STATE_WAITING, L.STATE_DELAYED, L.STATE_BLOCKED, L.STATE_COMPLETED, L.STATE_FAILED, L.STATE_CANCELLED],
  waiting: [L.STATE_WAITING],
  delayed: [L.STATE_DELAYED],
  blocked: [L.STATE_BLOCKED],
  active: [L.STATE_WAITING], // they share a list
  completed: [L.STATE_COMPLETED],
  failed: [L.STATE_FAILED],
  cancelled: [L.STATE_CANCELLED],
};

/** Made by `spy`. */
export class Spy {
  readonly #opened: Promise<InProcessConnection>;
  readonly #queue: string | undefined;
  readonly #seen: Seen[] = [];
  readonly #waiting = new Set<(seen: Seen) => void>();
  #subscription: EventSubscription | undefined;
  #isClosed = false;

  constructor(target: Engine | Queue) {
    this.#queue = target instanceof Queue ? target.name : undefined;
    this.#opened = this.#open(target);
    this.#opened.catch(() => {}); // told to whoever waits
  }

  async #open(target: Engine | Queue): Promise<InProcessConnection> {
    const connection = target instanceof Engine ? target.connection : await connectionOf(target);
    if (!(connection instanceof InProcessConnection))
      throw new ConnectionError(
        'A spy looks at an engine of its own process and thread: give it that engine, or a Queue of it.',
      );
    if (!this.#isClosed)
      this.#subscription = await connection.subscribe(this.#queue ?? '*', undefined, (event) =>
        this.#hear(connection, event),
      );
    return connection;
  }

  #hear(connection: InProcessConnection, { event, queue, jobId }: QueueEvent): void {
    if (jobId === undefined) return;
    const { slot } = resolve(connection.state, queue, { id: jobId, queue });
    if (slot === 0) return;
    const seen = { event, job: jobOfSnapshot<any, any, string>(connection, snapshot(connection.state, slot)) };
    this.#seen.push(seen);
    for (const waiting of [...this.#waiting]) waiting(seen);
  }

  /**
   * Resolves with the first job to which that happens, or has happened: while this spy was there, or before if there is still a record of
   * it. The job shows how it was then.
   *
   * @param opts `timeout`: real milliseconds after which to give up. Default 5000.
   * @throws TimeoutError; ConnectionError when the engine is elsewhere.
   *
   * @example
   * const job = await watched.waitFor('completed', { name: 'mail', data: { to: 'ann@example.com' } });
   */
  async waitFor(
    event: SpyEvent,
    selector: SpySelector = {},
    opts: { readonly timeout?: number | undefined } = {},
  ): Promise<Job> {
    checkOneOf(event, 'event', EVENTS);
    const matches = matcherOf(selector);
    const timeout = opts.timeout === undefined ? TIMEOUT_MS : checkDuration(opts.timeout, 'opts.timeout');
    const connection = await this.#opened;
    const known = this.#found(connection, event, matches)[0];
    return known ?? this.#next(event, matches, timeout);
  }

  /** How many times it has happened to such jobs: since the spy was made, and to those before of which there is a record. */
  async count(event: SpyEvent, selector: SpySelector = {}): Promise<number> {
    checkOneOf(event, 'event', EVENTS);
    const matches = matcherOf(selector);
    return this.#found(await this.#opened, event, matches).length;
  }

  #found(connection: InProcessConnection, event: SpyEvent, matches: (job: Job) => boolean): Job[] {
    const seen = this.#seen.filter((one) => one.event === event && matches(one.job)).map(({ job }) => job);
    const ids = new Set(seen.map((job) => `${job.queueName}\n${job.id}`));
    for (const record of recordsOf(connection.state, this.#queue, event)) {
      if (ids.has(`${record.queue}\n${record.id}`)) continue;
      const job = jobOfSnapshot<any, any, string>(connection, record);
      if (matches(job)) seen.push(job);
    }
    return seen;
  }

  #next(event: SpyEvent, matches: (job: Job) => boolean, timeoutMs: number): Promise<Job> {
    return new Promise((resolve, reject) => {
      const stop = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(look);
      };
      const look = (seen: Seen): void => {
        if (seen.event !== event || !matches(seen.job)) return;
        stop();
        resolve(seen.job);
      };
      const timer = setTimeout(() => {
        stop();
        const told = this.#seen.slice(-5).map((one) => `${one.job.name} ${one.event}`);
        const message = `No job that matches was ${event} within ${timeoutMs} ms. The last events: ${told.join(', ') || 'none'}.`;
        reject(new TimeoutError(timeoutMs, message));
      }, timeoutMs);
      this.#waiting.add(look);
    });
  }

  /** Hears nothing more. */
  close(): void {
    this.#isClosed = true;
    this.#subscription?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Looks at all jobs of an engine, or of one queue.
 *
 * @example
 * const watched = spy(queue);
 * await signUp('ann@example.com'); // adds a job somewhere
 * const job = await watched.waitFor('completed', { name: 'welcome' });
 * expect(job.returnvalue).toBe('sent');
 */
export function spy(target: Engine | Queue): Spy {
  if (!(target instanceof Engine || target instanceof Queue)) refuse('target', 'be an Engine or a Queue', target);
  return new Spy(target);
}

async function connectionOf(queue: Queue): Promise<unknown> {
  return (queue as unknown as { readonly link: { ready(): Promise<unknown> } }).link.ready();
}

function matcherOf(selector: SpySelector): (job: Job) => boolean {
  if (typeof selector === 'function') return selector;
  if (typeof selector !== 'object' || selector === null)
    refuse('selector', 'be {id, queue, name, data} or a function', selector);
  const { id, queue, name, data } = selector;
  return (job) =>
    (id === undefined || job.id === id) &&
    (queue === undefined || job.queueName === queue) &&
    (name === undefined || job.name === name) &&
    (data === undefined || includes(job.data, data));
}

/** Every member that is named is there, and alike; arrays and values are alike as a whole. */
function includes(value: unknown, wanted: unknown): boolean {
  const isPlain = typeof wanted === 'object' && wanted !== null && Object.getPrototypeOf(wanted) === Object.prototype;
  if (!isPlain || typeof value !== 'object' || value === null) return isDeepStrictEqual(value, wanted);
  return Object.entries(wanted).every(([name, one]) => includes((value as Record<string, unknown>)[name], one));
}

function* recordsOf(state: EngineState, queue: string | undefined, event: SpyEvent): Iterable<JobSnapshot> {
  const { core, queues } = state;
  for (const entry of queues.all()) {
    if (queue !== undefined && entry.name !== queue) continue;
    for (const raw of STATES[event] ?? []) {
      for (let slot = core.listHead(entry.address, raw); slot !== 0; slot = core.field(slot, L.S_NEXT)) {
        const record = snapshot(state, slot);
        const isActive = record.state === 'active';
        if (event === 'added' || (event === 'active') === isActive) yield record;
      }
    }
  }
}
