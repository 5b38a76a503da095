/** What the engine's thread and the log's thread share. */
import type { MessagePort } from 'node:worker_threads';
import type { SerialisedError } from '../../client/errors.js';

/** Groups that may be under way: one being made durable, one behind it, so that the log never waits for the engine. */
export const RING_GROUPS = 1;

// Words of the control memory (Int32Array).
/** Grows with every command: what the log's thread sleeps on. */
export const W_BELL = 0;
/** Groups handed over. */
export const W_SUBMITTED = 1;
/** Groups that are durable: what the engine's thread sleeps on. */
export const W_DURABLE = 2;
/** 1: close when everything is durable. */
export const W_CLOSING = 3;
/** 1: nothing further becomes durable; the error comes as a message. Stored last. */
export const W_FAILED = 4;
/** 1: the session is closed. */
export const W_CLOSED = 5;
/** The position before which the log may forget, as two words; taken when `W_TRUNCATES` has grown. */
export const W_TRUNCATE_LOW = 6;
export const W_TRUNCATE_HIGH = 7;
export const W_TRUNCATES = 8;
/** For each place in the ring: bytes of the group; which buffer it is in, or -1 for one that comes as a message. */
export const W_RING = 16;
export const RING_WORDS = 2;
export const CONTROL_WORDS = W_RING + RING_GROUPS * RING_WORDS;

/** How the thread finds its store: a module that exports `openStore(options)`. */
export interface StoreModule {
  readonly url: string;
  readonly options: unknown;
}

export interface LogThreadData {
  readonly store: StoreModule;
  readonly node: string;
  readonly control: SharedArrayBuffer;
  readonly buffers: readonly SharedArrayBuffer[];
  /** On which groups come that found no room in a buffer: the SharedArrayBuffer alone. */
  readonly groups: MessagePort;
}

/** From the log's thread. */
export type LogMessage =
  | { kind: 'opened'; epoch: number; batchBytesMax: number }
  | { kind: 'batch'; position: number; bytes: Uint8Array }
  | { kind: 'loaded'; next: number }
  | { kind: 'failed'; error: SerialisedError };

/** To it. */
export type LogCommand =
  /** Begin to load. */
  | { kind: 'load' }
  /** That many bytes of batches have been read: more may come. */
  | { kind: 'read'; bytes: number }
  /** Loading is over: groups come through shared memory from now on. */
  | { kind: 'serve' };
