/**
 * The shared memory and its module: created once by the engine, instantiated by every thread over the same pages.
 *
 * The memory is created at its maximum (address space only: the system commits pages on first touch) and never grown, since growing
 * leaves every view held elsewhere stale. What may be used of it is bounded by `maxMemory` in the header.
 */
import { readFileSync } from 'node:fs';
import {
  CHUNK_FIRST,
  H_MAGIC,
  H_VERSION,
  LAYOUT_VERSION,
  MAGIC,
  PAGE_BYTES,
  PAGES_MAX,
} from '../../core-wasm/assembly/layout.js';

/** What another thread needs to join: both parts can be posted. */
export interface CoreHandle {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
}

let compiled: WebAssembly.Module | undefined;

function compiledModule(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(readFileSync(new URL('../../core-wasm/flashq.wasm', import.meta.url)));
  return compiled;
}

/** Fewest bytes that an engine can work in: fixed regions, its own areas and the reserve. */
export const MEMORY_BYTES_MIN = 8 * 1024 * 1024;
export const MEMORY_BYTES_MAX = PAGES_MAX * PAGE_BYTES;

/** A fresh memory, not formatted yet. */
export function createMemory(): CoreHandle {
  return {
    module: compiledModule(),
    memory: new WebAssembly.Memory({ initial: PAGES_MAX, maximum: PAGES_MAX, shared: true }),
  };
}

/** Pages that `bytes` of memory allow, the fixed regions included. */
export function pagesFor(bytes: number): number {
  return Math.max(CHUNK_FIRST + 1, Math.min(PAGES_MAX, Math.floor(bytes / PAGE_BYTES)));
}

/** Throws when the memory was laid out by another version of flashQ (two copies of the package in one process). */
export function checkMemory(memory: WebAssembly.Memory): void {
  const words = new Uint32Array(memory.buffer, 0, 1024);
  const magic = words[H_MAGIC >>> 2];
  const version = words[H_VERSION >>> 2];
  if (magic !== MAGIC || version !== LAYOUT_VERSION) {
    throw new Error(
      `This memory is not one of this flashq: magic ${magic}, layout ${version}, expected ${MAGIC}, ${LAYOUT_VERSION}. ` +
        'Make every thread load the same version of the flashq package.',
    );
  }
}
