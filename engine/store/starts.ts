/**
 * Which runs have begun, for the engine after this one. A start is in the log soon enough for most crashes, but not for a handler that
 * kills the process in its first microseconds: nobody would ever see that it was the one. Waiting for a commit before each run would
 * cost a millisecond a job, so while an engine has reason to be careful every start is written into this file first, without a sync:
 * what was handed to the system survives the end of the process, and a loss of power is no handler's fault. 2 µs a start.
 *
 * An entry is a job's number and how often it had been started before. It says something only as long as the log does not know better:
 * when its run has ended, the job has ended too, or has been started once more.
 */
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { L } from '../core/index.js';

const ENTRY_BYTES = 16;
/** Behind those of all threads: the engine's own runs, of which there may be any number. */
const LOCAL_FIRST = L.THREADS_MAX * L.CLAIM_ENTRIES_MAX;

export function startsFile(dataDir: string): string {
  return join(dataDir, 'starts');
}

/** Begins an empty file. */
export function clearStarts(file: string): void {
  writeFileSync(file, '', { mode: 0o600 });
  truncateSync(file);
}

/** By the numbers of the jobs: how often each had been started before the start that was noted last. */
export function readStarts(file: string): Map<number, number> {
  const found = new Map<number, number>();
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch {
    return found; // the engine before had no reason to be careful
  }
  for (let at = 0; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES) {
    const number = bytes.readDoubleLE(at);
    const started = bytes.readDoubleLE(at + 8);
    if (number !== 0 && started >= (found.get(number) ?? 0)) found.set(number, started);
  }
  return found;
}

/** One thread's hand on the file. */
export class StartNotes {
  readonly #file: string;
  readonly #entry = new Float64Array(2);
  #descriptor: number | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  /** Notes the run in that entry of a thread, before it begins. */
  ofThread(thread: number, run: number, number: number, started: number): void {
    this.#note(thread * L.CLAIM_ENTRIES_MAX + run, number, started);
  }

  /** Notes a run of a function handler on the engine's thread. */
  ofEngine(ticket: number, number: number, started: number): void {
    this.#note(LOCAL_FIRST + ticket, number, started);
  }

  #note(index: number, number: number, started: number): void {
    this.#entry[0] = number;
    this.#entry[1] = started;
    try {
      this.#descriptor ??= openSync(this.#file, 'r+');
      writeSync(this.#descriptor, this.#entry, 0, ENTRY_BYTES, index * ENTRY_BYTES);
    } catch {
      // No space, or the folder has gone: the job runs all the same, only less carefully.
    }
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}
