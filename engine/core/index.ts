/** The core as the rest of the engine sees it. */
export * as L from '../../core-wasm/assembly/layout.js';
export { type Block, Core, type QueueAddress, type Slot } from './calls.js';
