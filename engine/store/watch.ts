/**
 * Between the engine and the core of a durable engine: whatever call changes something that must survive tells the journal. Every
 * transition of a job is a call of the core, so none can be forgotten; what the engine changes by itself beside them (what is kept
 * besides payload and result, the link to a failed dependency, the wish that a run ends) it tells by itself.
 */
import { type Core, L } from '../core/index.js';
import { PART_DEPENDENCIES, PART_PAYLOAD, PART_RESULT, PARTS_ALL } from './format.js';
import type { Journal } from './journal.js';

type Calls = Partial<Core['wasm']>;

/** Puts the journal in front of the core's calls. */
export function watchCore(core: Core, journal: Journal): void {
  const { wasm } = core;
  core.wasm = { ...wasm, ...placements(core, journal), ...changes(core, journal), ...removals(core, journal) };
}

/** Calls that give a job a place in its level. */
function placements(core: Core, journal: Journal): Calls {
  const { wasm } = core;
  return {
    jobReady(slot, first) {
      const done = wasm.jobReady(slot, first);
      if (done !== 0) journal.place(slot, first !== 0);
      return done;
    },
    jobReadyQuiet(slot) {
      const done = wasm.jobReadyQuiet(slot);
      if (done !== 0) journal.place(slot, false);
      return done;
    },
    jobHold(slot, first) {
      const done = wasm.jobHold(slot, first);
      if (done !== 0) journal.place(slot, first !== 0);
      return done;
    },
    jobPrioritise(slot, priority, first) {
      const done = wasm.jobPrioritise(slot, priority, first);
      if (done === 0) return done;
      if (core.state(slot) === L.STATE_WAITING) journal.place(slot, first !== 0);
      else journal.touch(slot, 0);
      return done;
    },
  };
}

/** Calls that change a job in place. */
function changes({ wasm }: Core, journal: Journal): Calls {
  return {
    jobCreate(queue, priority, flags, payload, timestamp, expiry) {
      const slot = wasm.jobCreate(queue, priority, flags, payload, timestamp, expiry);
      if (slot !== 0) journal.touch(slot >>> 0, PARTS_ALL);
      return slot;
    },
    jobDelay(slot, due) {
      const done = wasm.jobDelay(slot, due);
      if (done !== 0) journal.touch(slot, 0);
      return done;
    },
    jobBlock(slot) {
      const done = wasm.jobBlock(slot);
      if (done !== 0) journal.touch(slot, 0);
      return done;
    },
    jobWithdraw(slot, state) {
      const done = wasm.jobWithdraw(slot, state);
      if (done !== 0) journal.touch(slot, 0);
      return done;
    },
    jobFinish(slot, state, result, now) {
      wasm.jobFinish(slot, state, result, now);
      journal.touch(slot, PART_RESULT);
    },
    runComplete(low, high, result, now) {
      const slot = wasm.runComplete(low, high, result, now);
      if (slot !== 0) journal.touch(slot >>> 0, PART_RESULT);
      return slot;
    },
    jobReplacePayload(slot, payload) {
      wasm.jobReplacePayload(slot, payload);
      journal.touch(slot, PART_PAYLOAD);
    },
    jobRemember(slot, payload, due) {
      const done = wasm.jobRemember(slot, payload, due);
      if (done !== 0) journal.touch(slot, PARTS_ALL);
      return done;
    },
    jobLinger(slot, due) {
      const done = wasm.jobLinger(slot, due);
      if (done !== 0) journal.touch(slot, 0);
      return done;
    },
    edgeAdd(dependent, dependency) {
      const edge = wasm.edgeAdd(dependent, dependency);
      if (edge !== 0) journal.line(dependent);
      return edge;
    },
    edgeDrop(dependent) {
      const dependency = wasm.edgeDrop(dependent);
      if (dependency !== 0) journal.touch(dependent, PART_DEPENDENCIES);
      return dependency;
    },
  };
}

/** Calls after which there may be no job any more. */
function removals(core: Core, journal: Journal): Calls {
  const { wasm } = core;
  return {
    jobRemove(slot) {
      const number = core.number(slot);
      const isFree = wasm.jobRemove(slot);
      if (isFree !== 0) journal.remove(slot, number);
      else journal.touch(slot, 0); // a dependent still reads it
      return isFree;
    },
    /** Out of everybody's sight, though its run goes on. */
    indexRemove(slot) {
      wasm.indexRemove(slot);
      journal.remove(slot, core.number(slot));
    },
  };
}
