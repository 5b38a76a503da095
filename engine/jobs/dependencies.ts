/** Dependents and dependencies: who is released, failed or cancelled when a job ends. */
import type { DependencyRecord, JobRef } from '../../client/connection.js';
import { EngineFullError, UnknownDependencyError, ValidationError } from '../../client/errors.js';
import { L, type Slot } from '../core/index.js';
import type { EngineState } from '../state.js';
import { announce, flagsOf, idOf, queueOf, setFlags, tell } from '../state.js';
import { PART_DEPENDENCIES } from '../store/format.js';
import { toDelayed, toReadyOnceDurable } from '../upkeep/postponed.js';
import { deferEnds, ended } from './endings.js';
import { HAS_DEPENDENCIES, policyFlags, policyOf } from './flags.js';
import { type ColdRecord, coldOf, dependencyRecord, finalState, setCold } from './records.js';
import { mustResolve, resolve } from './references.js';
import { describe, makeReady, SUSPECT_LOSSES, sendToDlq } from './settle.js';

/** Makes `dependent` depend on `dependencies`, in their order. False when memory is full. Says how many are not settled yet. */
export function connect(state: EngineState, dependent: Slot, dependencies: readonly Slot[]): number | false {
  const { core } = state;
  let unsettled = 0;
  for (let i = dependencies.length - 1; i >= 0; i--) {
    const dependency = dependencies[i] as Slot;
    const edge = core.wasm.edgeAdd(dependent, dependency) >>> 0;
    if (edge === 0) return false;
    if (isOpen(state, dependency) || keepsWaiting(state, dependent, dependency)) {
      core.wasm.edgeLink(edge);
      unsettled++;
    }
  }
  core.setField(dependent, L.S_UNSETTLED, unsettled);
  if (dependencies.length !== 0) setFlags(state, dependent, HAS_DEPENDENCIES);
  return unsettled;
}

/** A dependency that may still complete. */
function isOpen(state: EngineState, slot: Slot): boolean {
  const raw = state.core.state(slot);
  return (
    raw === L.STATE_FREE ||
    raw === L.STATE_WAITING ||
    raw === L.STATE_DELAYED ||
    raw === L.STATE_BLOCKED ||
    raw === L.STATE_ACTIVE
  );
}

/** A failed dependency in the dead letter queue, waited for under the policy `wait`. */
function keepsWaiting(state: EngineState, dependent: Slot, dependency: Slot): boolean {
  return state.core.state(dependency) === L.STATE_FAILED && policyOf(flagsOf(state, dependent)) === 'wait';
}

/** The dependencies of a job, in their order. */
export function dependenciesOf(state: EngineState, slot: Slot): Slot[] {
  const { core } = state;
  const found: Slot[] = [];
  for (let edge = core.field(slot, L.S_DEPENDENCIES); edge !== 0; edge = core.field(edge, L.D_IN_NEXT)) {
    found.push(core.field(edge, L.D_DEPENDENCY));
  }
  return found;
}

/** What the job depends on, or depended on, in order; of records that are gone only the names. */
export function dependencyRecords(state: EngineState, slot: Slot): DependencyRecord[] {
  if ((flagsOf(state, slot) & HAS_DEPENDENCIES) !== 0) {
    return dependenciesOf(state, slot).map((dependency) => dependencyRecord(state, dependency));
  }
  return namesOf(coldOf(state, slot).dependencies).map((ref) => {
    const { slot: found } = resolve(state, ref.queue, ref);
    return found === 0 ? { ...ref, state: 'unknown' } : dependencyRecord(state, found);
  });
}

function namesOf(kept: ColdRecord['dependencies']): { queue: string; id: string }[] {
  if (kept === undefined || Array.isArray(kept)) return kept ?? [];
  return Array.from(kept.numbers, (number) => ({ queue: kept.queue, id: `j${number}` }));
}

/** The names of its dependencies stay with a finished job, after the records are let go. */
export function rememberDependencies(state: EngineState, slot: Slot): void {
  const { core } = state;
  const slots = dependenciesOf(state, slot);
  const queue = core.field(slots[0] as Slot, L.S_QUEUE);
  const isPlain = (one: Slot) => core.field(one, L.S_QUEUE) === queue && (flagsOf(state, one) & L.FLAG_CUSTOM_ID) === 0;
  const dependencies = slots.every(isPlain)
    ? { queue: state.queues.at(queue).name, numbers: Float64Array.from(slots, (one) => core.number(one)) }
    : slots.map((one) => ({ queue: queueOf(state, one).name, id: idOf(state, one) }));
  setCold(state, slot, { ...coldOf(state, slot), dependencies });
}

/** The first dependency that has failed for good, if any, and may not be waited for: what a new dependent's policy is applied to. */
export function firstFailed(state: EngineState, slot: Slot): Slot {
  for (const dependency of dependenciesOf(state, slot)) {
    if (isOpen(state, dependency) || keepsWaiting(state, slot, dependency)) continue;
    if (finalState(state, dependency) === 'completed') continue;
    return dependency;
  }
  return 0;
}

/** How a job ended for its dependents: `gone` also when it had failed before, and leaves the dead letter queue for good. */
export type EndKind = 'completed' | 'failed' | 'gone';

/**
 * A job ended (or is about to be removed): tells those that wait for it, in the order in which they began to. What follows for those
 * that end by it comes after (`deferEnds`), so that no edge is freed while they are gone through.
 */
export function settleDependents(state: EngineState, slot: Slot, kind: EndKind): void {
  const { core } = state;
  const edges: number[] = [];
  for (let edge = core.field(slot, L.S_DEPENDENTS); edge !== 0; edge = core.field(edge, L.D_OUT_NEXT)) edges.push(edge);
  deferEnds(() => {
    for (let i = edges.length - 1; i >= 0; i--) {
      const edge = edges[i] as number;
      if (core.field(edge, L.D_LINKED) === 0) continue;
      const dependent = core.field(edge, L.D_DEPENDENT);
      if (kind === 'completed') {
        core.wasm.edgeUnlink(edge);
        lower(state, dependent);
      } else applyPolicy(state, dependent, slot, edge, kind);
    }
  });
}

/** What `onDependencyFailure` says, for one dependent. `edge` may be 0 when it is not linked. */
export function applyPolicy(
  state: EngineState,
  dependent: Slot,
  dependency: Slot,
  edge: number,
  kind: 'failed' | 'gone',
): void {
  const { core } = state;
  const policy = policyOf(flagsOf(state, dependent));
  if (policy === 'wait' && kind === 'failed' && core.state(dependency) === L.STATE_FAILED) return;
  if (policy === 'run') {
    if (edge !== 0) {
      core.wasm.edgeUnlink(edge);
      state.journal?.touch(dependent, PART_DEPENDENCIES); // it does not follow from the states: the dependency may be retried
      lower(state, dependent);
    }
    return;
  }
  unlinkAll(state, dependent);
  if (policy === 'run-now') {
    release(state, dependent);
    return;
  }
  const why = `Its dependency ${JSON.stringify(idOf(state, dependency))} of queue "${queueOf(state, dependency).name}" ${endWord(state, dependency)}`;
  if (policy === 'cancel') {
    setCold(state, dependent, { ...coldOf(state, dependent), cancelReason: why });
    core.wasm.jobFinish(dependent, L.STATE_CANCELLED, 0, state.clock.now());
    tell(state, dependent, 'cancelled', () => ({ reason: why, prev: 'blocked' }));
    ended(state, dependent);
    return;
  }
  sendToDlq(state, dependent, 'dependency_failed', why, 'blocked');
}

function endWord(state: EngineState, slot: Slot): string {
  const final = finalState(state, slot);
  return final === 'failed' ? 'failed' : final === 'cancelled' ? 'was cancelled' : 'was removed';
}

/** The job waits for none of its dependencies any more; it may still read them. */
export function unlinkAll(state: EngineState, dependent: Slot): void {
  const { core } = state;
  if (core.field(dependent, L.S_UNSETTLED) === 0) return;
  for (let edge = core.field(dependent, L.S_DEPENDENCIES); edge !== 0; edge = core.field(edge, L.D_IN_NEXT))
    core.wasm.edgeUnlink(edge);
  core.setField(dependent, L.S_UNSETTLED, 0);
  state.journal?.touch(dependent, PART_DEPENDENCIES); // it does not follow from the states: some may be open
}

function lower(state: EngineState, dependent: Slot): void {
  const left = state.core.field(dependent, L.S_UNSETTLED) - 1;
  state.core.setField(dependent, L.S_UNSETTLED, left);
  if (left === 0) release(state, dependent);
}

/** Nothing holds a blocked job any more: its delay begins, or it is ready. */
export function release(state: EngineState, slot: Slot): void {
  const { core } = state;
  if (core.state(slot) !== L.STATE_BLOCKED) return;
  const flags = flagsOf(state, slot);
  if (core.lost(slot) >= SUSPECT_LOSSES) {
    makeReady(state, slot, false, 'blocked'); // it waited in the midst of its life
    return;
  }
  const isNew = core.field(slot, L.S_STARTED) === 0;
  const hasDelay = isNew && (flags & L.FLAG_OPTIONS) !== 0;
  const delay = hasDelay ? (state.payloads.opts(core.field(slot, L.S_PAYLOAD)).delay ?? 0) : 0;
  if (delay > 0) {
    toDelayed(state, slot, state.clock.now() + delay);
    tell(state, slot, 'delayed', () => ({ delay, prev: 'blocked' }));
    return;
  }
  toReadyOnceDurable(state, slot, (flags & L.FLAG_LIFO) !== 0);
  tell(state, slot, 'waiting', () => ({ prev: 'blocked' }));
  announce(state, queueOf(state, slot), 1);
}

/** The job needs its dependencies' records no more. */
export function dropDependencies(state: EngineState, slot: Slot): void {
  const { core } = state;
  if ((flagsOf(state, slot) & HAS_DEPENDENCIES) === 0) return;
  setFlags(state, slot, 0, HAS_DEPENDENCIES);
  while (true) {
    const dependency = core.wasm.edgeDrop(slot) >>> 0;
    if (dependency === 0) return;
    if (core.field(dependency, L.S_PINS) === 0 && core.state(dependency) === L.STATE_GONE)
      core.wasm.jobRemove(dependency);
  }
}

/** The dependencies without which a job can't run, and which will not complete as things are. */
export function hopeless(state: EngineState, slot: Slot): Slot[] {
  const policy = policyOf(flagsOf(state, slot));
  if (policy === 'run' || policy === 'run-now') return [];
  return dependenciesOf(state, slot).filter((one) => !isOpen(state, one) && finalState(state, one) !== 'completed');
}

/** Puts a failed job back to wait for those of its dependencies that may still complete (`willRun`: it is being retried too). How many. */
export function reconnect(state: EngineState, slot: Slot, willRun: (dependency: Slot) => boolean): number {
  const { core } = state;
  let open = 0;
  for (let edge = core.field(slot, L.S_DEPENDENCIES); edge !== 0; edge = core.field(edge, L.D_IN_NEXT)) {
    const dependency = core.field(edge, L.D_DEPENDENCY);
    if (!isOpen(state, dependency) && !willRun(dependency)) continue;
    core.wasm.edgeLink(edge);
    open++;
  }
  core.setField(slot, L.S_UNSETTLED, open);
  state.journal?.line(slot);
  return open;
}

// ---- a run that waits -------------------------------------------------------------------------------------------------------

/**
 * Makes an active job depend on these too, and from now on whatever it depends on counts as settled however it ends: its run may end to
 * wait for them (`blockRun`). True when all have settled.
 */
export function awaitInRun(state: EngineState, queue: string, ref: JobRef, refs: readonly JobRef[]): boolean {
  const { core } = state;
  const slot = mustResolve(state, queue, ref);
  if (core.state(slot) !== L.STATE_ACTIVE) {
    throw new ValidationError(
      `${describe(state, slot)} does not run: waitFor is for its handler. Elsewhere use queue.finished.`,
      { path: 'refs' },
    );
  }
  const wanted = new Set<Slot>();
  for (const one of refs) {
    const { slot: found, existed } = resolve(state, queue, one);
    if (found !== 0) wanted.add(found);
    else if (!existed && !hasWaitedFor(state, slot, queue, one))
      throw new UnknownDependencyError({ queue: one.queue ?? queue, jobId: one.id });
  }
  refuseCycle(state, slot, wanted);
  const known = new Set(dependenciesOf(state, slot));
  const added = [...wanted].filter((one) => !known.has(one));
  if (!append(state, slot, added)) throw new EngineFullError({ limitBytes: state.limits.memoryBytes });
  let open = 0;
  for (let edge = core.field(slot, L.S_DEPENDENCIES); edge !== 0; edge = core.field(edge, L.D_IN_NEXT)) {
    const dependency = core.field(edge, L.D_DEPENDENCY);
    if (wanted.has(dependency) && isOpen(state, dependency)) core.wasm.edgeLink(edge);
    open += core.field(edge, L.D_LINKED);
  }
  core.setField(slot, L.S_UNSETTLED, open);
  const hasOne = core.field(slot, L.S_DEPENDENCIES) !== 0; // of those whose records are gone there is nothing to read
  setFlags(
    state,
    slot,
    policyFlags('run') | (hasOne ? HAS_DEPENDENCIES : 0),
    policyFlags('wait') | policyFlags('cancel'),
  );
  state.journal?.line(slot);
  return open === 0;
}

/** A run before waited for it, and it was removed since: only the record that this job may read is left of it. */
function hasWaitedFor(state: EngineState, slot: Slot, queue: string, ref: JobRef): boolean {
  const name = ref.queue ?? queue;
  return dependenciesOf(state, slot).some(
    (one) => state.core.state(one) === L.STATE_GONE && idOf(state, one) === ref.id && queueOf(state, one).name === name,
  );
}

/** Puts more dependencies behind those that a job has, in their order. False when memory is full. */
function append(state: EngineState, slot: Slot, dependencies: readonly Slot[]): boolean {
  const { core } = state;
  const first = core.field(slot, L.S_DEPENDENCIES);
  if (dependencies.length === 0) return true;
  let last = 0;
  for (let edge = first; edge !== 0; edge = core.field(edge, L.D_IN_NEXT)) last = edge;
  core.setField(slot, L.S_DEPENDENCIES, 0);
  let isDone = true;
  for (let i = dependencies.length - 1; i >= 0 && isDone; i--)
    isDone = core.wasm.edgeAdd(slot, dependencies[i] as Slot) !== 0;
  if (last !== 0) {
    core.setField(last, L.D_IN_NEXT, core.field(slot, L.S_DEPENDENCIES));
    core.setField(slot, L.S_DEPENDENCIES, first);
  }
  if (core.field(slot, L.S_DEPENDENCIES) !== 0) setFlags(state, slot, HAS_DEPENDENCIES);
  return isDone;
}

/** What a job waits for at this moment. */
export function awaitedBy({ core }: EngineState, slot: Slot): Slot[] {
  const found: Slot[] = [];
  if (core.field(slot, L.S_UNSETTLED) === 0) return found;
  for (let edge = core.field(slot, L.S_DEPENDENCIES); edge !== 0; edge = core.field(edge, L.D_IN_NEXT))
    if (core.field(edge, L.D_LINKED) !== 0) found.push(core.field(edge, L.D_DEPENDENCY));
  return found;
}

/** One that waits for this job, through however many others, can't be waited for. Linear. */
function refuseCycle(state: EngineState, slot: Slot, wanted: ReadonlySet<Slot>): void {
  const seen = new Set<Slot>();
  for (const start of wanted) {
    const open = [start];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      if (at === slot) {
        const what = start === slot ? 'itself' : `${describe(state, start)}, which waits for it`;
        throw new ValidationError(`${describe(state, slot)} can't wait for ${what}. Leave that reference out.`, {
          path: 'refs',
        });
      }
      if (seen.has(at)) continue;
      seen.add(at);
      open.push(...awaitedBy(state, at));
    }
  }
}
