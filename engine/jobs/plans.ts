/** References of jobs on their way in: who depends on whom, and whether that can be. */
import type { JobRef } from '../../client/connection.js';
import { UnknownDependencyError, ValidationError } from '../../client/errors.js';
import type { Slot } from '../core/index.js';
import type { QueueEntry } from '../queues.js';
import type { EngineState } from '../state.js';
import type { Entry } from './admission.js';
import { awaitedBy } from './dependencies.js';
import { resolve } from './references.js';

/** What one item depends on, in order: a job that is there, or another item of the same call. */
export type Plan = readonly { readonly slot: Slot; readonly entry?: Entry }[];

/** The item of the call that has that id, or undefined. */
export type FindItem = (queue: string, id: string) => Entry | undefined;

/** Resolves the references of all items; refuses unknown ones and cycles. Linear in their number. */
export function planDependencies(
  state: EngineState,
  queue: QueueEntry,
  entries: readonly Entry[],
  byId: ReadonlyMap<string, Entry>,
): void {
  const isInternal = planReferences(state, queue, entries, (name, id) =>
    name === queue.name ? byId.get(id) : undefined,
  );
  judgePlans(state, queue, entries, isInternal);
}

/** Resolves the references of items of one queue. True when some are to items of the call. */
export function planReferences(
  state: EngineState,
  queue: QueueEntry,
  entries: readonly Entry[],
  find: FindItem,
): boolean {
  let internal = false;
  for (const entry of entries) {
    const refs = entry.opts?.dependsOn;
    if (refs === undefined || entry.error !== undefined) continue;
    try {
      const plan = refs.map((ref) => planOne(state, queue, ref, find));
      internal ||= plan.some((one) => one.entry !== undefined);
      entry.plan = plan;
    } catch (error) {
      entry.error = error as Error;
    }
  }
  return internal;
}

/** Refuses items that wait for refused ones, and cycles. `isInternal`: some wait for others of the call. */
export function judgePlans(
  state: EngineState,
  queue: QueueEntry,
  entries: readonly Entry[],
  isInternal: boolean,
): void {
  if (isInternal) refuseBroken(queue, entries);
  if (isInternal || entries.some(changesPlan)) refuseCycles(state, entries);
}

function planOne(state: EngineState, queue: QueueEntry, ref: JobRef, find: FindItem): { slot: Slot; entry?: Entry } {
  const own = find(ref.queue ?? queue.name, ref.id);
  if (own !== undefined) return planItem(own);
  const found = resolve(state, queue.name, ref);
  if (found.slot !== 0) return { slot: found.slot };
  if (found.existed) return { slot: 0 }; // its record is gone: satisfied
  throw new UnknownDependencyError({ queue: ref.queue ?? queue.name, jobId: ref.id });
}

/** Of an item of the same call. */
export function planItem(item: Entry): { slot: Slot; entry?: Entry } {
  const own = item.twin ?? item;
  return own.existing === undefined ? { slot: 0, entry: own } : { slot: own.existing };
}

/** An item that waits for a refused one is refused too. */
function refuseBroken(queue: QueueEntry, entries: readonly Entry[]): void {
  for (let again = true; again; ) {
    again = false;
    for (const entry of entries) {
      if (entry.error !== undefined) continue;
      const broken = entry.plan?.find((one) => one.entry?.error !== undefined);
      if (broken === undefined) continue;
      const { node, opts } = broken.entry as Entry;
      entry.error = new UnknownDependencyError({
        queue: node?.queue ?? queue.name,
        jobId: opts?.jobId ?? node?.key ?? '',
      });
      again = true;
    }
  }
}

/** It gives other dependencies to a job that is there, which others may wait for already. */
function changesPlan({ replace, plan, error }: Entry): boolean {
  return replace === true && plan !== undefined && error === undefined;
}

/** The items of the call that each item waits for, also through jobs that are there and wait for one that an item replaces. */
function needsOf(state: EngineState, entries: readonly Entry[]): Map<Entry, Entry[]> {
  const replacedBy = new Map<Slot, Entry>();
  for (const entry of entries) if (changesPlan(entry)) replacedBy.set(entry.existing as Slot, entry);
  const needs = new Map<Entry, Entry[]>();
  for (const entry of entries) {
    const found: Entry[] = [];
    const seen = new Set<Slot>();
    const slots: Slot[] = [];
    for (const { slot, entry: needed } of entry.error === undefined ? (entry.plan ?? []) : []) {
      if (needed !== undefined) found.push(needed);
      else if (replacedBy.size > 0) slots.push(slot);
    }
    for (let slot = slots.pop(); slot !== undefined; slot = slots.pop()) {
      if (seen.has(slot)) continue;
      seen.add(slot);
      const replacing = replacedBy.get(slot);
      if (replacing !== undefined) found.push(replacing);
      else if (slot !== 0) slots.push(...awaitedBy(state, slot));
    }
    needs.set(entry, found);
  }
  return needs;
}

/** Kahn's algorithm (A. Kahn, 1962): what can't be put in order is in a cycle, or behind one. */
function refuseCycles(state: EngineState, entries: readonly Entry[]): void {
  const needs = needsOf(state, entries);
  const waits = new Map<Entry, number>();
  const dependents = new Map<Entry, Entry[]>();
  for (const [entry, needed] of needs) {
    waits.set(entry, needed.length);
    for (const one of needed) {
      const known = dependents.get(one);
      if (known === undefined) dependents.set(one, [entry]);
      else known.push(entry);
    }
  }
  const ready = entries.filter((entry) => waits.get(entry) === 0);
  for (let entry = ready.pop(); entry !== undefined; entry = ready.pop()) {
    for (const dependent of dependents.get(entry) ?? []) {
      const left = (waits.get(dependent) as number) - 1;
      waits.set(dependent, left);
      if (left === 0) ready.push(dependent);
    }
  }
  const stuck = entries.filter((entry) => (waits.get(entry) as number) > 0);
  if (stuck.length === 0) return;
  const cycle = cycleFrom(stuck[0] as Entry, needs, waits);
  const error = new ValidationError(
    `These jobs depend on each other in a cycle: ${cycle}. Take one of the references away.`,
    {
      path: 'opts.dependsOn',
    },
  );
  for (const entry of stuck) entry.error = error;
}

/** Walks from one stuck item along stuck ones until one comes again. */
function cycleFrom(
  start: Entry,
  needs: ReadonlyMap<Entry, readonly Entry[]>,
  waits: ReadonlyMap<Entry, number>,
): string {
  const path: Entry[] = [];
  let at: Entry = start;
  while (!path.includes(at) && path.length < 1000) {
    path.push(at);
    at = needs.get(at)?.find((one) => (waits.get(one) ?? 0) > 0) as Entry;
  }
  const names = [...path.slice(path.indexOf(at)), at].map(({ node, opts }) =>
    JSON.stringify(node?.key ?? opts?.jobId ?? '(no id)'),
  );
  return names.join(' → ');
}
