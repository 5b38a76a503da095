/** All that an engine knows of its jobs and queues, to compare one engine with another. */
import type { DependencyRecord, Engine } from 'flashq';
import { L, type Slot } from '#engine/core/index.js';
import { finalOf } from '#engine/jobs/flags.js';
import { dependencyRecord, snapshot } from '#engine/jobs/records.js';
import type { EngineState } from '#engine/state.js';
import { crc32 } from '#engine/store/crc32.js';
import { slotAt } from '#engine/store/slot-table.js';
import type { JobSnapshot } from '../../client/connection.js';

const RAW = [
  'free',
  'waiting',
  'delayed',
  'blocked',
  'active',
  'completed',
  'failed',
  'cancelled',
  'remembered',
  'gone',
  'lingering',
] as const;

interface Edge extends DependencyRecord {
  readonly isAwaited: boolean;
}

export interface JobDump {
  readonly number: number;
  raw: (typeof RAW)[number];
  state: string;
  readonly queue: string;
  readonly id: string;
  lost: number;
  expiry: number;
  readonly dependencies: readonly Edge[];
  readonly [field: string]: unknown;
}

export interface Dump {
  readonly nextNumber: number;
  readonly queues: Record<string, { paused: boolean; config: unknown; counts: unknown }>;
  /** By number. */
  readonly jobs: JobDump[];
}

/** Of a durable engine, all of whose changes are in its log. */
export function dumpOf(engine: Engine): Dump {
  const state = engine.state as EngineState;
  const jobs = slotsOf(state)
    .map((slot) => dumpJob(state, slot))
    .sort((a, b) => a.number - b.number);
  const queues: Dump['queues'] = {};
  for (const { name, paused, config } of state.queues.all()) queues[name] = { paused, config, counts: {} };
  return { nextNumber: state.core.nextNumber(), queues: counted(queues, jobs), jobs };
}

function counted(queues: Dump['queues'], jobs: readonly JobDump[]): Dump['queues'] {
  return Object.fromEntries(
    Object.entries(queues).map(([name, queue]) => {
      const counts: Record<string, number> = {};
      for (const job of jobs) if (job.queue === name) counts[job.raw] = (counts[job.raw] ?? 0) + 1;
      return [name, { ...queue, counts }];
    }),
  );
}

function slotsOf(state: EngineState): Slot[] {
  const slots: Slot[] = [];
  const { pages } = state.journal!.table;
  for (const [at, page] of pages.entries())
    for (const [index, base] of page?.base.entries() ?? []) if (base !== 0) slots.push(slotAt(at, index));
  return slots;
}

function dumpJob(state: EngineState, slot: Slot): JobDump {
  const { core } = state;
  const raw = RAW[core.state(slot)]!;
  const record = recordOf(state, slot);
  const due = raw === 'delayed' || raw === 'remembered' || raw === 'lingering' ? core.time(slot, L.S_DUE) : undefined;
  return {
    ...record,
    data: Buffer.isBuffer(record.data) ? `${record.data.length} bytes, ${crc32(record.data)}` : record.data,
    number: core.number(slot),
    raw,
    lost: core.lost(slot),
    due,
    expiry: core.time(slot, L.S_EXPIRY),
    final: finalOf(core.field(slot, L.S_FLAGS)),
    isNamed: (core.field(slot, L.S_FLAGS) & L.FLAG_CUSTOM_ID) !== 0,
    logs: logsOf(state, slot),
    hash:
      raw === 'remembered'
        ? Buffer.from(state.payloads.dataBytes(core.field(slot, L.S_PAYLOAD))).toString('hex')
        : undefined,
    dependencies: edgesOf(state, slot),
  };
}

function recordOf(state: EngineState, slot: Slot): Omit<JobSnapshot, 'delay'> {
  if (state.core.state(slot) !== L.STATE_GONE) {
    const { delay: _delay, ...record } = snapshot(state, slot);
    return record;
  }
  // Its data may be no more than a hash: only dependents see it, and not that.
  const record = dependencyRecord(state, slot);
  return { ...record, returnvalue: record.result } as unknown as JobSnapshot;
}

function logsOf({ core, payloads }: EngineState, slot: Slot): unknown {
  const block = core.field(slot, L.S_EXTRA);
  return block === 0 ? undefined : (payloads.value(block) as { logs?: string[] }).logs;
}

function edgesOf(state: EngineState, slot: Slot): Edge[] {
  const { core } = state;
  const edges: Edge[] = [];
  for (let edge = core.field(slot, L.S_DEPENDENCIES); edge !== 0; edge = core.field(edge, L.D_IN_NEXT)) {
    const record = dependencyRecord(state, core.field(edge, L.D_DEPENDENCY));
    edges.push({ ...record, isAwaited: core.field(edge, L.D_LINKED) !== 0 });
  }
  return edges;
}

/** What an engine must know that comes after one of which this is the last: a run that was under way has been lost. */
export function afterCrash({ jobs, queues, nextNumber }: Dump): Dump {
  const after = jobs.map((job) => ({ ...job, dependencies: job.dependencies.map(seenAfterCrash) }));
  for (const job of after) {
    if (job.raw !== 'active') continue;
    job.lost++;
    job.raw = 'waiting';
    job.state = 'waiting';
    job.expiry = 0;
  }
  return { jobs: after, queues: counted(queues, after), nextNumber };
}

function seenAfterCrash(edge: Edge): Edge {
  return edge.state === 'active' ? { ...edge, state: 'waiting' } : edge;
}
