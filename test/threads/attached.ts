/** A user's own thread, driven by the test; see handlers/attached.js. */
import { Worker as Thread } from 'node:worker_threads';
import type { Engine } from 'flashq';
import { atEnd, handler } from './support.js';

interface Answer {
  readonly id?: number;
  readonly value?: unknown;
  readonly error?: Told;
  readonly event?: unknown;
  readonly workerError?: Error;
}

/** An error as the thread tells it. */
export interface Told {
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly errors?: { index: number; name: string }[];
}

export class AttachedThread {
  readonly events: unknown[] = [];
  readonly workerErrors: Error[] = [];
  readonly exited: Promise<void>;
  readonly #thread: Thread;
  readonly #calls = new Map<number, (answer: Answer) => void>();
  #next = 1;

  private constructor(thread: Thread) {
    this.#thread = thread;
    thread.on('message', (answer: Answer) => this.#hear(answer));
    this.exited = new Promise((resolve) => thread.once('exit', () => resolve()));
    atEnd(() => this.terminate());
  }

  /** A thread that has joined `engine`; with none, one that hasn't. */
  static async open(engine?: Engine): Promise<AttachedThread> {
    const handle = engine?.handle;
    const thread = new AttachedThread(
      new Thread(handler('attached.js'), {
        ...(handle === undefined ? {} : { workerData: { handle }, transferList: [handle.port] }),
      }),
    );
    await new Promise<void>((resolve) => thread.#calls.set(0, () => resolve()));
    return thread;
  }

  #hear(answer: Answer): void {
    if (answer.event !== undefined) this.events.push(answer.event);
    if (answer.workerError !== undefined) this.workerErrors.push(answer.workerError);
    if (answer.id === undefined) return;
    this.#calls.get(answer.id)?.(answer);
    this.#calls.delete(answer.id);
  }

  /** Rejects with what the thread tells of its error. Never settles when the thread ends. */
  call<T = unknown>(
    command: string,
    args?: unknown,
    transferList: readonly import('node:worker_threads').Transferable[] = [],
  ): Promise<T> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, (answer) => (answer.error === undefined ? resolve(answer.value as T) : reject(answer.error)));
      this.#thread.postMessage({ id, command, args }, transferList);
    });
  }

  /** What the call rejects with. */
  async failing(command: string, args?: unknown): Promise<Told> {
    return this.call(command, args).then(
      (value) => {
        throw new Error(`${command} did not fail but gave ${JSON.stringify(value)}`);
      },
      (told: Told) => told,
    );
  }

  async terminate(): Promise<void> {
    await this.#thread.terminate();
  }
}
