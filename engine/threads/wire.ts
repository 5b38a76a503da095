/**
 * What crosses between the engine's thread and another one beside shared memory. Jobs go through the submit ring, claims and outcomes
 * through shared memory; the port carries calls and their answers, aborts, events, and control of handler threads. Bodies are encoded
 * by the payload codec, so that every kind of value arrives as what it was.
 */
import type { MessagePort } from 'node:worker_threads';
import type { AbortReason, BatchSettings } from '../../client/connection.js';
import type { SerialisedError } from '../../client/errors.js';
import type { CoreHandle } from '../core/memory.js';

/** How one thread joins an engine. Made for one thread: the port belongs into the transfer list. */
export interface EngineHandle {
  /** Version of the package that made it. */
  readonly flashq: string;
  readonly core: CoreHandle;
  /** Its index in the thread table. */
  readonly thread: number;
  readonly port: MessagePort;
  readonly payloadLimit: number;
  readonly memoryLimit: number;
  /** Of an engine with a data directory: the file in which starts are noted while it is careful. */
  readonly startsFile: string | undefined;
  /** What happens is told only once it is durable. */
  readonly isDurable: boolean;
  /** The engine's clock less the process's high-resolution timer, in ms: both threads then tell the same time. */
  readonly timeBase: number;
}

/** The task of a handler thread. How many runs at a time, and whether it is paused, it is told when it has loaded. */
export interface PumpTask {
  readonly handle: EngineHandle;
  readonly queue: string;
  readonly queueAddress: number;
  readonly file: string;
  readonly abortGraceMs: number;
  readonly breaker: number | undefined;
  readonly batch: BatchSettings | undefined;
  readonly recycle: { readonly jobs?: number; readonly heapMb?: number };
}

export interface CloseHow {
  readonly timeoutMs: number;
  readonly onTimeout: 'requeue' | 'wait' | 'fail';
}

/** From the engine. */
export type DownMessage =
  | { kind: 'reply'; id: number; body: Uint8Array }
  | { kind: 'fail'; id: number; error: SerialisedError }
  | { kind: 'event'; id: number; body: Uint8Array }
  /** The outcome of a run of that entry of the table came too late; `body`: the job. */
  | { kind: 'late'; thread: number; body: Uint8Array }
  | { kind: 'abort'; thread: number; low: number; high: number; reason: AbortReason; message: string }
  | ControlMessage;

/** From the engine, to a handler thread. */
export type ControlMessage =
  /** Answered by `paused` with that number. */
  | { kind: 'pause'; id: number; doNotWaitActive: boolean }
  | { kind: 'resume' }
  | { kind: 'concurrency'; count: number }
  | { kind: 'close'; how: CloseHow };

/** To the engine. */
export type UpMessage =
  | { kind: 'call'; id: number; method: string; body: Uint8Array }
  /** It closes its port by its own will: what it still runs is given back. */
  | { kind: 'leave' }
  | PumpMessage;

/** To the engine, from a handler thread. */
export type PumpMessage =
  /** Its module is in place; claims begin when it is told its concurrency. */
  | { kind: 'loaded' }
  | { kind: 'not-loaded'; error: SerialisedError }
  | { kind: 'paused'; id: number }
  | { kind: 'error'; error: SerialisedError }
  /** It has ended its runs and wants to be replaced. */
  | { kind: 'recycle' };

// ---- entries of the submit ring ------------------------------------------------------------------------------------------------

/** The last entry of its request. */
export const SUBMIT_LAST = 1;
export const SUBMIT_ATOMIC = 2;
/** The block holds `SubmitExtras` for the job in the entry after it. */
export const SUBMIT_EXTRAS = 4;
/** Answered when the job has ended, with its result. */
export const SUBMIT_WAIT = 8;
/** An item of the request was refused before it got here: the answer says what is wrong with the others, and none is added. */
export const SUBMIT_ABORT = 16;

/** What a job's block has no place for. */
export interface SubmitExtras {
  readonly dependsOn?: readonly { readonly id: string; readonly queue?: string }[];
  readonly timeout?: number;
}
