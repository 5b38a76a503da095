/**
 * Events for `Worker` and `QueueEvents`, in Node and in browsers alike. A listener that throws is reported and stops nobody: the
 * other listeners are called, and the work goes on.
 */
import { type KnownNames, refuseOption } from './checks.js';
import { ValidationError } from './errors.js';

type Listener = (...args: never[]) => unknown;
type Events = { [event: string]: unknown[] };

/** Shows a problem that has no caller: a process warning in Node, the console elsewhere. `code` is stable. */
export function reportWarning(message: string, code: string, detail?: unknown): void {
  const text = detail instanceof Error ? `${message}\n${detail.stack ?? detail.message}` : message;
  if (typeof process !== 'undefined' && typeof process.emitWarning === 'function') {
    process.emitWarning(text, { type: 'FlashQWarning', code });
  } else {
    console.error(`(${code}) ${text}`);
  }
}

/** The names and arguments of the events are `E`. Listeners are called in the order in which they were added, synchronously. */
export class Emitter<E extends { [K in keyof E]: unknown[] } = Events> {
  readonly #listeners = new Map<keyof E, { call: Listener; once: boolean }[]>();
  readonly #names: KnownNames;

  /** `names`: listening to any other is refused, since it would never be called. */
  constructor(names: KnownNames) {
    this.#names = names;
  }

  /** Calls `listener` at every `event`. */
  on<K extends keyof E>(event: K, listener: (...args: E[K]) => unknown): this {
    return this.#add(event, listener as Listener, false);
  }

  /** Calls `listener` at the next `event` only. */
  once<K extends keyof E>(event: K, listener: (...args: E[K]) => unknown): this {
    return this.#add(event, listener as Listener, true);
  }

  off<K extends keyof E>(event: K, listener: (...args: E[K]) => unknown): this {
    const list = this.#listeners.get(event);
    const index = list?.findIndex((one) => one.call === listener) ?? -1;
    if (list === undefined || index === -1) return this;
    // A new list: one that is being gone through must not change.
    const rest = list.filter((_, i) => i !== index);
    if (rest.length === 0) this.#listeners.delete(event);
    else this.#listeners.set(event, rest);
    this.listenersChanged(event);
    return this;
  }

  addListener<K extends keyof E>(event: K, listener: (...args: E[K]) => unknown): this {
    return this.on(event, listener);
  }

  removeListener<K extends keyof E>(event: K, listener: (...args: E[K]) => unknown): this {
    return this.off(event, listener);
  }

  /** Without `event`: the listeners of all events. */
  removeAllListeners(event?: keyof E): this {
    const events = event === undefined ? [...this.#listeners.keys()] : [event];
    for (const one of events) {
      this.#listeners.delete(one);
      this.listenersChanged(one);
    }
    return this;
  }

  listenerCount(event: keyof E): number {
    return this.#listeners.get(event)?.length ?? 0;
  }

  #add(event: keyof E, call: Listener, once: boolean): this {
    if (typeof call !== 'function') {
      throw new ValidationError(`The listener of '${String(event)}' must be a function`, { path: 'listener' });
    }
    if (!this.#names.known.includes(event as string)) refuseOption('events', event as string, this.#names);
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), { call, once }]);
    this.listenersChanged(event);
    return this;
  }

  /** For those that do work only when somebody listens. */
  protected listenersChanged(_event: keyof E): void {}

  /** True when there was a listener. */
  protected fire<K extends keyof E>(event: K, ...args: E[K]): boolean {
    const list = this.#listeners.get(event);
    if (list === undefined) return false;
    for (const one of list) {
      if (one.once) this.off(event, one.call as (...args: E[K]) => unknown);
      try {
        const result = (one.call as (...args: E[K]) => unknown)(...args);
        if (result instanceof Promise) result.catch((error: unknown) => this.#listenerFailed(event, error));
      } catch (error) {
        this.#listenerFailed(event, error);
      }
    }
    return true;
  }

  #listenerFailed(event: keyof E, thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    reportWarning(`A listener of the event '${String(event)}' threw`, 'FLASHQ_LISTENER_ERROR', error);
  }
}
