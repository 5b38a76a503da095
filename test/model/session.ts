/** An engine with one queue and one worker, from its opening to its end; the next one may go on with its log. */
import { Engine, Queue, type TestClock } from 'flashq';
import type { CleaningLimits } from '#engine/store/cleaner.js';
import type { MemoryStore } from '#engine/store/memory-store.js';
import { Hand } from '../conformance/kit.js';

/** Without: an engine in memory. */
export interface Durable {
  readonly mode: 'commit' | 'relaxed';
  readonly store: MemoryStore;
  readonly cleaning: CleaningLimits;
}

/** A commit leads to a claim, that to the record of a start. */
const QUIET_TURNS = 2;

export class Session {
  /** Its own: when it stands still for ever, the engine does, too. */
  readonly clock: TestClock;
  readonly engine: Engine;
  readonly queue: Queue;
  readonly hand: Hand;
  /** What the log is needed for, as it was read. */
  readonly liveBytes: number | undefined;
  readonly #durable: Durable | undefined;

  private constructor(clock: TestClock, engine: Engine, durable: Durable | undefined) {
    this.clock = clock;
    this.engine = engine;
    this.#durable = durable;
    this.liveBytes = engine.state.journal?.ledger.liveBytes;
    engine.on('warning', () => {});
    if (durable !== undefined) engine.state.journal!.cleaner.limits = durable.cleaning;
    this.queue = new Queue('q', { connection: engine });
    this.hand = new Hand('q', { connection: engine });
  }

  static async open(clock: TestClock, durable: Durable | undefined): Promise<Session> {
    const log = durable === undefined ? {} : { store: durable.store, durability: durable.mode };
    const session = new Session(clock, await Engine.open({ clock, ...log }), durable);
    await session.hand.worker.waitUntilReady();
    return session;
  }

  /** What is under way, and waits neither for time nor for a handler, has been dealt with. */
  async settle(): Promise<void> {
    await this.clock.advance(0);
    if (this.#durable?.mode !== 'commit') return;
    for (let quiet = 0; quiet < QUIET_TURNS; quiet++) {
      const pending = this.engine.connection.durable();
      if (pending === undefined) continue;
      await pending;
      await this.clock.advance(0);
      quiet = -1;
    }
  }

  /** All that has happened is in the log. */
  async flush(): Promise<void> {
    await this.engine.state.journal?.flush();
  }

  async close(): Promise<void> {
    await this.hand.worker.close(true);
    await this.engine.close({ timeout: 0 });
  }

  /** Another has taken its log: whatever it still does is written nowhere. */
  async abandon(): Promise<void> {
    await this.close().catch(() => {});
  }
}
