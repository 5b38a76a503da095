/**
 * The thread that owns the log. While it loads it talks by messages; then it takes groups from shared memory, makes them durable, and
 * sleeps on a word in between: a blocking wait wakes some 10 µs sooner than an event loop, and nobody else needs this thread.
 *
 * It is never terminated: a native call that is interrupted inside a transaction takes the whole process with it. It ends by itself
 * when it is told to close.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { serialiseError } from '../../client/errors.js';
import { BATCH_BYTES_MAX, batchesOf, cutGroup } from './format.js';
import { LOG_PART } from './log-host.js';
import type { LogSession, LogStore } from './log-store.js';
import * as W from './log-wire.js';

const port = parentPort as MessagePort;
const data = workerData as W.LogThreadData;
/** Nobody listens on it, so what comes waits there until it is asked for. */
const groups = data.groups;
const control = new Int32Array(data.control);
/** Bytes of batches on their way to the engine's thread while it loads. */
const LOAD_BYTES = 16 * 1024 * 1024;

function say(message: W.LogMessage, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

async function main(): Promise<void> {
  const { openStore } = (await import(data.store.url)) as { openStore: (options: unknown) => Promise<LogStore> };
  const store = await openStore(data.store.options);
  const session = await store.open(LOG_PART, data.node);
  const batchBytesMax = Math.min(store.caps.batchBytesMax, BATCH_BYTES_MAX);
  say({ kind: 'opened', epoch: Number(session.epoch), batchBytesMax });
  const next = await load(session);
  if (next === undefined) {
    await session.close();
    return;
  }
  await new Server(session, batchBytesMax, next).serve();
}

// ---- loading ------------------------------------------------------------------------------------------------------------------

/** Undefined when the engine has given up. */
async function load(session: LogSession): Promise<number | undefined> {
  let underway = 0;
  let more: (() => void) | undefined;
  let onCommand: (command: W.LogCommand) => void = () => {};
  const wanted = new Promise<boolean>((resolve) => {
    onCommand = ({ kind }) => resolve(kind === 'load');
  });
  const listener = (command: W.LogCommand) => onCommand(command);
  const gone = () => process.exit();
  port.on('message', listener);
  port.on('close', gone);
  if (!(await wanted)) return undefined;
  let isServing: () => void = () => {};
  const serving = new Promise<void>((resolve) => {
    isServing = resolve;
  });
  onCommand = (command) => {
    if (command.kind === 'read') {
      underway -= command.bytes;
      more?.();
    } else isServing();
  };
  const next = await session.load(async (position, batch) => {
    const bytes = new Uint8Array(batch); // a copy of its own, which is given away
    underway += bytes.length;
    say({ kind: 'batch', position: Number(position), bytes }, [bytes.buffer]);
    while (underway > LOAD_BYTES) {
      await new Promise<void>((resolve) => {
        more = resolve;
      });
    }
  });
  say({ kind: 'loaded', next: Number(next) });
  await serving;
  port.off('message', listener);
  port.off('close', gone);
  return Number(next);
}

// ---- serving ------------------------------------------------------------------------------------------------------------------

class Server {
  readonly #session: LogSession;
  readonly #batchBytesMax: number;
  readonly #buffers: readonly Uint8Array[];
  #next: number;
  /** Groups taken, and groups durable. */
  #taken = 0;
  #durable = 0;
  #truncates = 0;
  /** The newest truncation, while it is under way. */
  #truncating: Promise<void> | undefined;
  #chain: Promise<void> = Promise.resolve();
  #failed = false;

  constructor(session: LogSession, batchBytesMax: number, next: number) {
    this.#session = session;
    this.#batchBytesMax = batchBytesMax;
    this.#buffers = data.buffers.map((buffer) => new Uint8Array(buffer));
    this.#next = next;
    void session.lost.then((error) => this.#fail(error));
  }

  async serve(): Promise<void> {
    for (;;) {
      const bell = Atomics.load(control, W.W_BELL);
      while (!this.#failed && this.#taken !== Atomics.load(control, W.W_SUBMITTED)) this.#take();
      // A store that has done its work inside the call says so within a few microtasks.
      for (let turn = 0; turn < 8 && this.#isBusy; turn++) await undefined;
      this.#truncate();
      if (this.#isBusy) await Promise.race([this.#chain, rung(bell)]);
      else if (Atomics.load(control, W.W_CLOSING) !== 0 && (this.#failed || !this.#hasMore)) break;
      // It goes on in turns of the event loop, of which a thread that appends or waits has none.
      else if (this.#truncating !== undefined)
        await (this.#hasMore ? nextTurn() : Promise.race([this.#truncating, rung(bell)]));
      else if (!this.#hasMore || this.#failed) Atomics.wait(control, W.W_BELL, bell);
    }
    await this.#session.close();
    Atomics.store(control, W.W_CLOSED, 1);
    Atomics.notify(control, W.W_DURABLE);
  }

  get #isBusy(): boolean {
    return !this.#failed && this.#durable !== this.#taken;
  }

  get #hasMore(): boolean {
    return this.#taken !== Atomics.load(control, W.W_SUBMITTED);
  }

  #take(): void {
    const place = W.W_RING + (this.#taken % W.RING_GROUPS) * W.RING_WORDS;
    const length = control[place] as number;
    const index = control[place + 1] as number;
    const buffer = index === -1 ? receiveGroup() : (this.#buffers[index] as Uint8Array);
    const group = ++this.#taken;
    const first = this.#next;
    this.#next += batchesOf(length, this.#batchBytesMax);
    const appends: Promise<unknown>[] = [];
    cutGroup(buffer.subarray(0, length), this.#batchBytesMax, Number(this.#session.epoch), first, (batch) => {
      const append = this.#session.append(batch);
      append.catch(() => {}); // seen below
      appends.push(append);
    });
    this.#chain = this.#chain
      .then(() => (appends.length === 1 ? appends[0] : Promise.all(appends)))
      .then(
        () => this.#done(group),
        (error: unknown) => this.#fail(error),
      );
  }

  #done(group: number): void {
    if (this.#failed) return;
    this.#durable = group;
    Atomics.store(control, W.W_DURABLE, group);
    Atomics.notify(control, W.W_DURABLE);
  }

  #fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    say({ kind: 'failed', error: serialiseError(error) });
    Atomics.store(control, W.W_FAILED, 1);
    Atomics.notify(control, W.W_DURABLE);
  }

  #truncate(): void {
    const wanted = Atomics.load(control, W.W_TRUNCATES);
    if (wanted === this.#truncates || this.#failed) return;
    this.#truncates = wanted;
    const before = (control[W.W_TRUNCATE_LOW] as number) + (control[W.W_TRUNCATE_HIGH] as number) * 2 ** 31;
    const truncating: Promise<void> = this.#session
      .truncate(BigInt(before))
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        if (this.#truncating === truncating) this.#truncating = undefined;
      });
    this.#truncating = truncating;
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function rung(bell: number): Promise<unknown> {
  const wait = Atomics.waitAsync(control, W.W_BELL, bell);
  return wait.async ? wait.value : Promise.resolve();
}

/** It was posted before its place in the ring was published, so it is there. */
function receiveGroup(): Uint8Array {
  const received = receiveMessageOnPort(groups) as { message: SharedArrayBuffer } | undefined;
  if (received === undefined) throw new Error('a group was announced and not sent');
  return new Uint8Array(received.message);
}

/** A store's work may leave nothing that keeps a thread alive. */
const alive = setInterval(() => {}, 0x7fffffff);

function end(): void {
  clearInterval(alive);
  groups.close();
  port.close();
}

main().then(end, (error: unknown) => {
  say({ kind: 'failed', error: serialiseError(error) });
  Atomics.store(control, W.W_FAILED, 1);
  Atomics.store(control, W.W_CLOSED, 1);
  Atomics.notify(control, W.W_DURABLE);
  end();
});
