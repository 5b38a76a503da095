/** What happens in a queue, told to whoever listens, wherever it happens. */
import { checkBoolean, checkObject, checkOptionNames, checkQueueName, type KnownNames, refuse } from './checks.js';
import type { EventSubscription, QueueEvent } from './connection.js';
import { type ConnectionInput, ConnectionLink } from './default-connection.js';
import { Emitter, reportWarning } from './emitter.js';

export interface QueueEventsOptions {
  /** An Engine, `'memory'`, or a connection. Default: this process's engine. */
  readonly connection?: ConnectionInput | undefined;
  /** Resume after this event; what can't be told any more is told as the event `gap`. Default: from now on. */
  readonly lastEventId?: string | undefined;
  /** `false`: tells nothing before `run()`. Default true. */
  readonly autorun?: boolean | undefined;
}

/** What an event says: its queue, its job if there is one, and more by event (`returnvalue`, `failedReason`, `delay`, `prev` ...). */
export interface QueueEventArgs {
  readonly queue: string;
  readonly jobId: string;
  readonly [key: string]: any;
}

type Told = [args: QueueEventArgs, eventId: string];

const NAMES = [
  'added',
  'waiting',
  'delayed',
  'blocked',
  'active',
  'progress',
  'completed',
  'failed',
  'retrying',
  'stalled',
  'late',
  'cancelled',
  'removed',
  'deduplicated',
  'duplicate:mismatch',
  'replaced',
  'priority',
  'timeout',
  'backoff:unknown',
  'idempotency:evicted',
  'drained',
  'paused',
  'resumed',
  'cleaned',
  'obliterated',
  'configured',
  'dlq:evicted',
  'dlq:threshold',
  'breaker:open',
  'breaker:half-open',
  'breaker:closed',
  'cron:added',
  'cron:changed',
  'cron:removed',
  'cron:paused',
  'cron:resumed',
  'cron:skipped',
  'gap',
] as const;

/** Their arguments, by name. */
export type QueueEventsEvents = { [N in (typeof NAMES)[number]]: Told } & {
  /** Something failed that has no caller. Without a listener it is shown as a process warning. */
  error: [error: Error];
};

const EVENTS: KnownNames = { known: [...NAMES, 'error'] };

/**
 * The events of one queue, or of all with the name `*`. Every listener gets `(args, eventId)`; ids grow, and resuming after one
 * (`lastEventId`) misses nothing that is still kept.
 *
 * @example
 * const events = new QueueEvents('emails');
 * events.on('completed', ({ jobId, returnvalue }) => console.log(jobId, returnvalue));
 * await events.waitUntilReady();
 */
export class QueueEvents extends Emitter<QueueEventsEvents> {
  /** A queue, or `*`. */
  readonly name: string;
  readonly #link: ConnectionLink;
  #lastEventId: string | undefined;
  #subscription: EventSubscription | undefined;
  #started: Promise<void> | undefined;
  #isClosed = false;

  /** @throws ValidationError */
  constructor(name: string, opts: QueueEventsOptions = {}) {
    super(EVENTS);
    this.name = name === '*' ? name : checkQueueName(name);
    checkOptionNames(checkObject(opts, 'opts'), 'opts', {
      known: ['connection', 'lastEventId', 'autorun'],
      elsewhere: {
        blockingTimeout: 'events are pushed. Leave it out.',
        prefix: 'queues of different engines share nothing. Leave it out.',
      },
    });
    const { lastEventId, autorun } = opts;
    if (lastEventId !== undefined && typeof lastEventId !== 'string')
      refuse('opts.lastEventId', 'be an event id', lastEventId);
    this.#lastEventId = lastEventId;
    this.#link = new ConnectionLink(opts.connection, `QueueEvents of "${name}"`);
    if (autorun === undefined || checkBoolean(autorun, 'opts.autorun')) {
      // Its failure is told as the event `error`, and to waitUntilReady.
      this.run().catch((error: unknown) => queueMicrotask(() => this.#failed(error)));
    }
  }

  /** The id of the last event that was told, to resume after. */
  get lastEventId(): string | undefined {
    return this.#lastEventId;
  }

  /** Subscribes; for `autorun: false`. Resolves when every later event will be told. */
  run(): Promise<void> {
    this.#started ??= this.#subscribe();
    return this.#started;
  }

  /** Resolves when every later event will be told; rejects with what subscribing failed with. */
  waitUntilReady(): Promise<void> {
    return this.run();
  }

  async #subscribe(): Promise<void> {
    const connection = await this.#link.ready();
    const subscription = await connection.subscribe(this.name, this.#lastEventId, (event) => this.#tell(event));
    if (this.#isClosed) subscription.close();
    else this.#subscription = subscription;
  }

  #tell({ id, queue, event, jobId, args }: QueueEvent): void {
    if (this.#isClosed) return;
    this.#lastEventId = id;
    const name = event as (typeof NAMES)[number];
    if (this.listenerCount(name) === 0) return;
    this.fire(name, { ...args, queue, jobId: jobId ?? '' }, id);
  }

  #failed(thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    if (this.#isClosed || this.fire('error', error)) return;
    reportWarning(`QueueEvents of "${this.name}" met an error`, 'FLASHQ_EVENTS_ERROR', error);
  }

  /** Tells nothing more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#subscription?.close();
    this.#subscription = undefined;
    this.#link.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
