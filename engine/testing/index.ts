/// <reference types="node" preserve="true" />
/** The public names of flashq/testing. */
export { TestClock } from '../upkeep/clock.js';
export { type DrainOptions, drainAll } from './drain-all.js';
export { Spy, type SpyEvent, type SpySelector, spy } from './spy.js';
