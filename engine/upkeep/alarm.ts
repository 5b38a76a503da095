/** One timer of the clock for the nearest of all the core's timers. */
import type { Core } from '../core/index.js';
import type { Clock } from './clock.js';

export class Alarm {
  readonly #core: Core;
  readonly #clock: Clock;
  readonly #ring: () => void;
  #at = Number.POSITIVE_INFINITY;
  #cancel: (() => void) | undefined;

  constructor(core: Core, clock: Clock, ring: () => void) {
    this.#core = core;
    this.#clock = clock;
    this.#ring = ring;
  }

  /** To be called after anything that may have set an earlier timer. Cheap when nothing changed. */
  arm(): void {
    const next = this.#core.wasm.timerNext();
    if (next >= this.#at) return;
    this.#cancel?.();
    this.#at = next;
    // Node's timers count whole milliseconds and may fire one early: rounded up.
    this.#cancel = this.#clock.setTimer(() => this.#fire(), Math.max(0, Math.ceil(next - this.#clock.now())));
  }

  #fire(): void {
    this.#at = Number.POSITIVE_INFINITY;
    this.#cancel = undefined;
    this.#ring();
    this.arm();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#at = Number.NEGATIVE_INFINITY;
  }
}
