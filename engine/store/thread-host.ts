/** The engine's end of the log's thread: hands groups over in shared memory, and hears of their commits on a word. */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { deserialiseError, StoreError } from '../../client/errors.js';
import { BUFFER_BYTES } from './group-writer.js';
import { type LogHost, type LogListener, toStoreError, within } from './log-host.js';
import * as W from './log-wire.js';

const THREAD_FILE = new URL('./log-thread.js', import.meta.url);
/** One being made durable, one behind it, one being written. */
const BUFFERS = W.RING_GROUPS;

export class ThreadHost implements LogHost {
  readonly goesOnAlone = true;
  epoch = 0;
  batchBytesMax = 0;
  readonly #worker: Worker;
  readonly #control = new Int32Array(new SharedArrayBuffer(W.CONTROL_WORDS * 4));
  readonly #buffers: readonly SharedArrayBuffer[];
  readonly #groups: MessagePort;
  #listener: LogListener | undefined;
  #submitted = 0;
  #durable = 0;
  #isWaiting = false;
  #error: StoreError | undefined;
  #hear: (message: W.LogMessage) => void = () => {};
  /** Resolves when the thread has ended, however it did. */
  readonly #ended: Promise<void>;

  private constructor(store: W.StoreModule, node: string) {
    this.#buffers = Array.from({ length: BUFFERS }, () => new SharedArrayBuffer(BUFFER_BYTES));
    const { port1, port2 } = new MessageChannel();
    this.#groups = port1;
    const workerData: W.LogThreadData = {
      store,
      node,
      control: this.#control.buffer as SharedArrayBuffer,
      buffers: this.#buffers,
      groups: port2,
    };
    this.#worker = new Worker(THREAD_FILE, { workerData, transferList: [port2], name: 'flashq log' });
    this.#worker.on('message', (message: W.LogMessage) => this.#hear(message));
    this.#ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()));
    port1.unref();
  }

  /** @throws StoreError, DataDirLockedError: whatever the store's module throws. */
  static async open(store: W.StoreModule, node: string): Promise<ThreadHost> {
    const host = new ThreadHost(store, node);
    await new Promise<void>((resolve, reject) => {
      host.#worker.once('error', reject);
      void host.#ended.then(() => reject(new StoreError('The thread of the log ended', { reason: 'io' })));
      host.#hear = (message) => {
        if (message.kind === 'failed') reject(deserialiseError(message.error));
        if (message.kind !== 'opened') return;
        host.epoch = message.epoch;
        host.batchBytesMax = message.batchBytesMax;
        resolve();
      };
    });
    host.#worker.on('error', (error) => host.#fail(error));
    return host;
  }

  load(onBatch: (position: number, batch: Uint8Array) => void): Promise<number> {
    return new Promise((resolve, reject) => {
      void this.#ended.then(() => reject(new StoreError('The thread of the log ended', { reason: 'io' })));
      this.#hear = (message) => {
        try {
          if (message.kind === 'failed') reject(deserialiseError(message.error));
          else if (message.kind === 'loaded') resolve(message.next);
          else if (message.kind === 'batch') {
            onBatch(message.position, message.bytes);
            this.#command({ kind: 'read', bytes: message.bytes.length });
          }
        } catch (error) {
          this.#hear = () => {};
          reject(error as Error);
        }
      };
      this.#command({ kind: 'load' });
    });
  }

  #command(command: W.LogCommand): void {
    this.#worker.postMessage(command);
  }

  begin(listener: LogListener): void {
    this.#listener = listener;
    this.#hear = (message) => {
      if (message.kind === 'failed') this.#fail(deserialiseError(message.error));
    };
    this.#command({ kind: 'serve' });
    this.#worker.unref();
  }

  // ---- groups -----------------------------------------------------------------------------------------------------------------

  buffer(): SharedArrayBuffer | undefined {
    this.poll();
    return this.#submitted - this.#durable < W.RING_GROUPS ? this.#buffers[this.#submitted % BUFFERS] : undefined;
  }

  append(buffer: SharedArrayBuffer, length: number): void {
    const control = this.#control;
    const index = this.#buffers.indexOf(buffer);
    if (index === -1) this.#groups.postMessage(buffer);
    const place = W.W_RING + (this.#submitted % W.RING_GROUPS) * W.RING_WORDS;
    control[place] = length;
    control[place + 1] = index;
    this.#submitted++;
    Atomics.store(control, W.W_SUBMITTED, this.#submitted);
    this.#ring();
    this.#listen();
  }

  #ring(): void {
    Atomics.add(this.#control, W.W_BELL, 1);
    Atomics.notify(this.#control, W.W_BELL);
  }

  #listen(): void {
    if (this.#isWaiting || this.#error !== undefined) return;
    this.#isWaiting = true;
    const wait = Atomics.waitAsync(this.#control, W.W_DURABLE, this.#durable);
    if (wait.async) void wait.value.then(this.#woken);
    else setImmediate(this.#woken);
  }

  readonly #woken = (): void => {
    this.#isWaiting = false;
    this.poll();
    if (this.#submitted !== this.#durable) this.#listen();
  };

  poll(): void {
    const durable = Atomics.load(this.#control, W.W_DURABLE);
    if (durable === this.#durable) return;
    this.#durable = durable;
    this.#listener?.durable(durable);
  }

  truncate(before: number): void {
    const control = this.#control;
    control[W.W_TRUNCATE_LOW] = before % 2 ** 31;
    control[W.W_TRUNCATE_HIGH] = Math.floor(before / 2 ** 31);
    Atomics.add(control, W.W_TRUNCATES, 1);
    this.#ring();
  }

  #fail(error: unknown): void {
    if (this.#error !== undefined) return;
    this.poll(); // what became durable before
    this.#error = toStoreError(error);
    this.#listener?.failed(this.#error);
  }

  // ---- the end ----------------------------------------------------------------------------------------------------------------

  closeSync(ms: number): boolean {
    const control = this.#control;
    const end = performance.now() + ms;
    Atomics.store(control, W.W_CLOSING, 1);
    this.#ring();
    while (Atomics.load(control, W.W_CLOSED) === 0) {
      const left = end - performance.now();
      if (left <= 0) return false;
      // The end is told on this word, too; the time bounds what a commit just before it would leave waiting.
      Atomics.wait(control, W.W_DURABLE, Atomics.load(control, W.W_DURABLE), Math.min(left, 5));
    }
    return Atomics.load(control, W.W_FAILED) === 0;
  }

  async close(deadlineMs: number): Promise<void> {
    Atomics.store(this.#control, W.W_CLOSING, 1);
    this.#ring();
    this.#command({ kind: 'serve' }); // one that is still loading
    await within(this.#ended, deadlineMs).finally(() => this.#groups.close());
    this.poll();
  }
}
