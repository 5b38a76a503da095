/**
 * What handlers emit while they run, on its way to whoever reads it. Nothing of it is durable: chunks live in this process's memory,
 * encoded, a bounded number of them for each job; the job's end is told by the job itself.
 *
 * Back-pressure: a chunk that finds the buffer full, and a reader that still needs the oldest one, waits for that reader; one that
 * takes nothing for a while is cut off. Without readers the oldest chunks go.
 */
import type { JobRef, StreamBatch } from '../../client/connection.js';
import { EngineClosedError, LeaseLostError, ValidationError } from '../../client/errors.js';
import { decodePayload, encodePayload } from '../../client/payload.js';
import { L, type Slot } from '../core/index.js';
import { type EngineState, idOf, queueOf } from '../state.js';
import { mustResolve, resolve } from './references.js';

/** What is kept of a job for readers that come late, and what a reader may be behind: the stricter of the two. */
const KEPT_CHUNKS = 1_000;
const KEPT_BYTES = 1_048_576;
/** Beyond so many times that, slow readers are cut off at once: whoever emits doesn't wait for its chunks. */
const HARD = 4;
const SLOW_MS = 10_000;
/** After its end a job's chunks are kept so long, those of so many jobs, and so much of all of them. */
const LINGER_MS = 30_000;
const LINGER_STREAMS = 1_000;
const LINGER_BYTES = 64 * 1_048_576;
/** A reader that still has not been closed then has been forgotten by whoever opened it. */
const FORGOTTEN_MS = 600_000;
/** Given to a reader in one go. */
const BATCH_CHUNKS = 256;

interface Reader {
  readonly stream: JobStream;
  /** Place of the chunk that it needs next. */
  at: number;
  isSlow: boolean;
  wake: (() => void) | undefined;
}

interface JobStream {
  readonly number: number;
  /** The run that emits: its number among the runs of the job. */
  attempt: number;
  /** Place of the oldest chunk, counted over all runs. */
  first: number;
  chunks: Uint8Array[];
  bytes: number;
  /** What it held when its job ended. */
  keptBytes: number;
  readonly readers: Set<Reader>;
  /** The run in which the job ended, 0 while it hasn't. */
  endedIn: number;
  hasEnded: boolean;
  /** Emits that wait for readers. */
  blocked: (() => void)[];
  cancelTimer: (() => void) | undefined;
}

export class Streams {
  readonly #byNumber = new Map<number, JobStream>();
  readonly #readers = new Map<number, Reader>();
  #nextReader = 1;
  /** Ended ones that are kept a little, the oldest first. */
  readonly #ended = new Set<JobStream>();
  #endedBytes = 0;

  /** Whether there is anything to tell of a job's end. */
  get size(): number {
    return this.#byNumber.size;
  }

  /** `isOpen`: its job has not ended, or runs again. */
  #of(number: number, isOpen: boolean): JobStream {
    let stream = this.#byNumber.get(number);
    if (stream === undefined || (isOpen && stream.hasEnded)) {
      if (stream !== undefined) this.#drop(stream);
      stream = {
        number,
        attempt: 0,
        first: 0,
        chunks: [],
        bytes: 0,
        keptBytes: 0,
        readers: new Set(),
        endedIn: 0,
        hasEnded: false,
        blocked: [],
        cancelTimer: undefined,
      };
      this.#byNumber.set(number, stream);
    }
    return stream;
  }

  // ---- emitting ---------------------------------------------------------------------------------------------------------------

  /** Undefined when there is room; else a promise for it. */
  push(state: EngineState, number: number, attempt: number, chunk: Uint8Array): Promise<void> | undefined {
    const stream = this.#of(number, true);
    if (stream.attempt !== attempt) restart(stream, attempt);
    stream.chunks.push(chunk);
    stream.bytes += chunk.length;
    for (const reader of stream.readers) reader.wake?.();
    if (trim(stream, 1)) return undefined;
    if (!trim(stream, HARD)) {
      cutSlow(stream);
      trim(stream, 1);
      unblock(stream);
      return undefined;
    }
    stream.cancelTimer ??= state.clock.setTimer(() => {
      stream.cancelTimer = undefined;
      cutSlow(stream);
      unblock(stream);
    }, SLOW_MS);
    return new Promise((resolve) => stream.blocked.push(resolve));
  }

  // ---- reading ----------------------------------------------------------------------------------------------------------------

  /** A reader from the oldest chunk that is kept on. 0: the job has ended, and nothing is kept. */
  open(number: number, hasEnded: boolean): number {
    if (hasEnded && !this.#byNumber.has(number)) return 0;
    const stream = this.#of(number, !hasEnded);
    const reader: Reader = { stream, at: stream.first, isSlow: false, wake: undefined };
    stream.readers.add(reader);
    const id = this.#nextReader++;
    this.#readers.set(id, reader);
    return id;
  }

  /** What there is for this reader, as soon as there is something. */
  async read(id: number): Promise<StreamBatch> {
    const reader = this.#readers.get(id);
    if (reader === undefined) throw new EngineClosedError('This stream has been closed');
    const { stream } = reader;
    while (!hasNews(reader)) {
      await new Promise<void>((resolve) => {
        reader.wake = resolve;
      });
      reader.wake = undefined;
      if (!this.#readers.has(id)) throw new EngineClosedError('This stream has been closed');
    }
    if (reader.isSlow) {
      throw new ValidationError(
        `This reader took no chunk for ${SLOW_MS} ms, or was too far behind, and was left out so that the job could go on. Read faster, or emit less.`,
        { path: 'stream' },
      );
    }
    const from = Math.max(0, reader.at - stream.first);
    const chunks = stream.chunks.slice(from, from + BATCH_CHUNKS);
    reader.at = stream.first + from + chunks.length;
    if (stream.blocked.length !== 0 && trim(stream, 1)) unblock(stream);
    if (chunks.length === 0) return { attempt: stream.endedIn, chunks: [], hasEnded: true };
    return { attempt: stream.attempt, chunks: chunks.map((one) => decodePayload(one, 0, one.length)), hasEnded: false };
  }

  close(id: number): void {
    const reader = this.#readers.get(id);
    if (reader === undefined) return;
    this.#readers.delete(id);
    const { stream } = reader;
    stream.readers.delete(reader);
    reader.wake?.();
    if (trim(stream, 1)) unblock(stream);
    if (stream.readers.size === 0 && stream.chunks.length === 0) this.#drop(stream);
  }

  // ---- the end ----------------------------------------------------------------------------------------------------------------

  /** The job has ended in that run, or is gone. */
  end(state: EngineState, number: number, attempt: number): void {
    const stream = this.#byNumber.get(number);
    if (stream === undefined || stream.hasEnded) return;
    stream.hasEnded = true;
    stream.endedIn = attempt;
    unblock(stream);
    for (const reader of stream.readers) reader.wake?.();
    if (stream.readers.size !== 0) state.clock.setTimer(() => this.#forget(stream), FORGOTTEN_MS);
    if (stream.chunks.length === 0) {
      this.#drop(stream);
      return;
    }
    this.#ended.add(stream);
    stream.keptBytes = stream.bytes;
    this.#endedBytes += stream.keptBytes;
    state.clock.setTimer(() => this.#drop(stream), LINGER_MS);
    for (const oldest of this.#ended) {
      if (this.#ended.size <= LINGER_STREAMS && this.#endedBytes <= LINGER_BYTES) break;
      this.#drop(oldest);
    }
  }

  /** Readers that are in it finish it; nobody else will. */
  #drop(stream: JobStream): void {
    if (this.#ended.delete(stream)) this.#endedBytes -= stream.keptBytes;
    if (this.#byNumber.get(stream.number) === stream) this.#byNumber.delete(stream.number);
  }

  #forget(stream: JobStream): void {
    for (const [id, reader] of this.#readers) if (reader.stream === stream) this.#readers.delete(id);
  }

  /** The engine closes. */
  closeAll(): void {
    const readers = [...this.#readers.values()];
    this.#readers.clear();
    for (const { stream, wake } of readers) {
      unblock(stream);
      wake?.();
    }
    for (const stream of this.#byNumber.values()) unblock(stream);
    this.#byNumber.clear();
    this.#ended.clear();
  }
}

function hasNews({ stream, at, isSlow }: Reader): boolean {
  return isSlow || stream.hasEnded || Math.max(at, stream.first) < stream.first + stream.chunks.length;
}

/** Another run of the job emits: what is left of the one before is of no use any more. */
function restart(stream: JobStream, attempt: number): void {
  stream.attempt = attempt;
  stream.first += stream.chunks.length;
  stream.chunks = [];
  stream.bytes = 0;
}

/** Lets go of the oldest chunks as far as no reader needs them. True when the buffer is then within its bounds, `times` over. */
function trim(stream: JobStream, times: number): boolean {
  const { chunks, readers } = stream;
  let needed = stream.first + chunks.length;
  for (const reader of readers) if (!reader.isSlow && reader.at < needed) needed = Math.max(stream.first, reader.at);
  while (chunks.length > KEPT_CHUNKS || (stream.bytes > KEPT_BYTES && chunks.length > 1)) {
    if (stream.first >= needed) break;
    stream.bytes -= (chunks.shift() as Uint8Array).length;
    stream.first++;
  }
  return chunks.length <= KEPT_CHUNKS * times && (stream.bytes <= KEPT_BYTES * times || chunks.length <= 1);
}

/** Readers that still need the oldest chunk are not waited for any more. */
function cutSlow(stream: JobStream): void {
  for (const reader of stream.readers) {
    if (reader.at > stream.first) continue;
    reader.isSlow = true;
    reader.wake?.();
  }
}

function unblock(stream: JobStream): void {
  stream.cancelTimer?.();
  stream.cancelTimer = undefined;
  for (const resolve of stream.blocked.splice(0)) resolve();
}

// ---- by reference -------------------------------------------------------------------------------------------------------------

/** `attempt`: the number of the run that emits, among the runs of the job. */
export function emit(
  state: EngineState,
  queue: string,
  ref: JobRef,
  attempt: number,
  chunk: unknown,
): Promise<void> | undefined {
  const { core } = state;
  const bytes = new Uint8Array(encodePayload(chunk)); // a copy: what encodePayload returns is reused
  if (bytes.length > state.limits.payloadBytes)
    throw new ValidationError(
      `The chunk takes ${bytes.length} bytes encoded; the limit is ${state.limits.payloadBytes}. Emit smaller ones.`,
      { path: 'chunk' },
    );
  const slot = mustResolve(state, queue, ref);
  if (core.state(slot) !== L.STATE_ACTIVE || core.field(slot, L.S_STARTED) + 1 !== attempt)
    throw new LeaseLostError({ queue: queueOf(state, slot).name, jobId: idOf(state, slot) });
  return state.streams.push(state, core.number(slot), attempt, bytes);
}

export function openStream(state: EngineState, queue: string, ref: JobRef): number {
  const { slot } = resolve(state, queue, ref); // 0: whoever asks hears from the job what became of it
  return slot === 0 ? 0 : state.streams.open(state.core.number(slot), state.core.state(slot) >= L.STATE_COMPLETED);
}

/** The job has ended, or is being removed. */
export function streamEnded(state: EngineState, slot: Slot): void {
  if (state.streams.size === 0) return;
  state.streams.end(state, state.core.number(slot), state.core.field(slot, L.S_STARTED));
}
