/** Graphs of jobs, across queues: admitted in one step, all or nothing. The steps are those of `admission.ts`. */
import type { AddAnswer, GraphItem } from '../../client/connection.js';
import { ValidationError } from '../../client/errors.js';
import type { JobOptions } from '../../client/options.js';
import type { QueueEntry } from '../queues.js';
import type { EngineState } from '../state.js';
import {
  answerAll,
  create,
  type Entry,
  encode,
  full,
  isNew,
  link,
  refuseIfAny,
  resolveId,
  startAll,
} from './admission.js';
import { resolveKeys } from './deduplication.js';
import { deferEnds } from './endings.js';
import { judgePlans, planItem, planReferences } from './plans.js';

/** A job without options is taken to have no dependencies either. */
const DEPENDENT: JobOptions = Object.freeze({});

/** The nodes of one queue. */
interface Part {
  readonly queue: QueueEntry;
  readonly entries: Entry[];
  readonly byId: Map<string, Entry>;
}

/** Adds the nodes, each with its dependencies. Throws BulkError, whose indexes are those of the items, and has added nothing then. */
export function admitGraph(state: EngineState, items: readonly GraphItem[]): AddAnswer[] {
  if (items.length === 0) return [];
  const parts = new Map<string, Part>();
  for (const { queue } of items)
    if (!parts.has(queue)) parts.set(queue, { queue: state.queues.open(queue), entries: [], byId: new Map() });
  const partOf = ({ queue }: GraphItem): Part => parts.get(queue) as Part;
  const entries = items.map((item) => {
    const isDependent = item.needs.length > 0;
    const entry = encode(state, isDependent && item.opts === undefined ? { ...item, opts: DEPENDENT } : item);
    entry.node = { key: item.key, queue: item.queue };
    partOf(item).entries.push(entry);
    return entry;
  });
  for (const { queue, entries: own, byId } of parts.values())
    for (const entry of own)
      if (entry.error === undefined && entry.opts?.jobId !== undefined) resolveId(state, queue, entry, byId);
  for (const { queue, entries: own } of parts.values()) resolveKeys(state, queue, own);
  plan(state, parts, items, entries);
  refuseIfAny(state, entries);
  return deferEnds(() => admitPlanned(state, partOf, items, entries));
}

function plan(
  state: EngineState,
  parts: ReadonlyMap<string, Part>,
  items: readonly GraphItem[],
  entries: readonly Entry[],
): void {
  for (const { queue, entries: own } of parts.values())
    planReferences(state, queue, own, (name, id) => parts.get(name)?.byId.get(id));
  for (const [index, { needs }] of items.entries()) {
    const entry = entries[index] as Entry;
    if (needs.length === 0 || entry.error !== undefined) continue;
    if (entry.twin !== undefined) {
      entry.error = new ValidationError(
        `The nodes ${JSON.stringify(entry.twin.node?.key)} and ${JSON.stringify(entry.node?.key)} have one ${entry.key === undefined ? 'jobId' : 'deduplication key'}, and the second one waits for others: let the first one wait for them.`,
        { path: 'opts.jobId' },
      );
      continue;
    }
    entry.plan = [...needs.map((need) => planItem(entries[need] as Entry)), ...(entry.plan ?? [])];
  }
  const [first] = parts.values();
  judgePlans(state, (first as Part).queue, entries, true);
}

function admitPlanned(
  state: EngineState,
  partOf: (item: GraphItem) => Part,
  items: readonly GraphItem[],
  entries: readonly Entry[],
): AddAnswer[] {
  const now = state.clock.now();
  for (const [index, entry] of entries.entries()) {
    if (!isNew(entry)) continue;
    entry.slot = create(state, partOf(items[index] as GraphItem).queue, entry.block, entry.opts, now);
    if (entry.slot === 0) entry.error = full(state);
  }
  for (const entry of entries) link(state, entry);
  refuseIfAny(state, entries);
  for (const part of new Set(items.map(partOf))) startAll(state, part.queue, part.entries, now);
  return answerAll(state, entries, now);
}
