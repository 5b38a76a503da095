/**
 * Finished records past the standard age. They leave a queue's list in the order in which they came, so one timer of the clock a list
 * serves them all, set for its oldest; records with an age of their own have timers of their own.
 */
import { JOB_DEFAULTS } from '../../client/options.js';
import { L, type QueueAddress, type Slot } from '../core/index.js';
import { evict } from '../jobs/endings.js';
import { OWN_RETENTION } from '../jobs/flags.js';
import type { EngineState } from '../state.js';
import { flagsOf } from '../state.js';

/** Records dropped in one go before the event loop gets a turn. */
const BATCH = 5000;

export class Retention {
  readonly #stateOf: () => EngineState;
  /** Lists with a timer, by queue and state. */
  readonly #watched = new Map<number, () => void>();

  constructor(stateOf: () => EngineState) {
    this.#stateOf = stateOf;
  }

  get #state(): EngineState {
    return this.#stateOf();
  }

  /** A record with the standard age has come to the list of that state. */
  watch(queue: QueueAddress, raw: number): void {
    const key = queue * L.STATES + raw;
    if (this.#watched.has(key)) return;
    const { core, clock } = this.#state;
    const oldest = core.time(this.#oldest(core.listHead(queue, raw)), L.S_FINISHED_ON);
    this.#schedule(key, queue, raw, Math.max(0, oldest + JOB_DEFAULTS.removeOnComplete.age - clock.now()));
  }

  #schedule(key: number, queue: QueueAddress, raw: number, ms: number): void {
    this.#watched.set(
      key,
      this.#state.clock.setTimer(() => this.#sweep(key, queue, raw), Math.ceil(ms)),
    );
  }

  #sweep(key: number, queue: QueueAddress, raw: number): void {
    const { core, clock } = this.#state;
    const now = clock.now();
    let slot = this.#oldest(core.listHead(queue, raw));
    for (let count = 0; slot !== 0; count++) {
      const due = core.time(slot, L.S_FINISHED_ON) + JOB_DEFAULTS.removeOnComplete.age;
      if (due > now || count === BATCH) {
        this.#schedule(key, queue, raw, Math.max(0, due - now));
        return;
      }
      const next = core.field(slot, L.S_NEXT);
      evict(this.#state, slot);
      slot = this.#oldest(next);
    }
    this.#watched.delete(key);
  }

  /** The first record from `slot` on that has the standard age. */
  #oldest(slot: Slot): Slot {
    while (slot !== 0 && (flagsOf(this.#state, slot) & OWN_RETENTION) !== 0) {
      slot = this.#state.core.field(slot, L.S_NEXT);
    }
    return slot;
  }

  stop(): void {
    for (const cancel of this.#watched.values()) cancel();
    this.#watched.clear();
  }
}
