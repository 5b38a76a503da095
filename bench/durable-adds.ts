/** Adds that are on the disk when they resolve: one after the other, beside the bare syncs that each needs, and many at a time. */
import { once } from 'node:events';
import { Worker as Thread } from 'node:worker_threads';
import { Engine, Queue } from 'flashq';
import { makeDataDir, removeDataDir } from './data-dir.js';
import { type Case, hashOf, hashOfIds, type Part, quantileOf, type Settings } from './harness.js';
import { type SmallJob, smallJob } from './jobs.js';
import { ANSWERED, ASKED, SYNC_BYTES, type SyncMessage } from './sync-thread.js';

const QUEUE = 'adds';
const CALLERS = 100;

interface Measured {
  readonly ms: number;
  readonly seconds: number;
  readonly p99: number;
  readonly hash: number;
}

/** `callers` at a time, each of which awaits what it did before it does the next; milliseconds of one. */
async function timed(ids: number, callers: number, change: (id: number) => Promise<number>): Promise<Measured> {
  const took: number[] = [];
  let next = 0;
  let hash = 0;
  const caller = async (): Promise<void> => {
    while (next < ids) {
      const began = performance.now();
      const id = await change(next++);
      took.push(performance.now() - began);
      hash = hashOf(hash, id);
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: callers }, caller));
  const seconds = (performance.now() - started) / 1000;
  took.sort((a, b) => a - b);
  return { ms: quantileOf(took, 0.5), seconds, p99: quantileOf(took, 0.99), hash };
}

async function bareCase({ quick }: Settings): Promise<Case> {
  const changes = quick ? 20 : 1_000;
  const dataDir = await makeDataDir();
  const shared = new SharedArrayBuffer(SYNC_BYTES);
  const words = new Int32Array(shared);
  const workerData: SyncMessage = { dataDir, shared };
  const thread = new Thread(new URL('./sync-thread.js', import.meta.url), { workerData });
  await once(thread, 'message'); // its file is there
  const change = async (id: number): Promise<number> => {
    const answered = Atomics.load(words, ANSWERED);
    Atomics.add(words, ASKED, 1);
    Atomics.notify(words, ASKED);
    const { async, value } = Atomics.waitAsync(words, ANSWERED, answered);
    if (async) await value;
    return id;
  };
  return {
    name: 'two bare syncs and two wakes, p50',
    unit: 'ms',
    expected: { count: changes, hash: hashOfIds(changes) },
    async once() {
      const before = Atomics.load(words, ANSWERED);
      const { ms, p99, hash } = await timed(changes, 1, change);
      return { value: ms, count: Atomics.load(words, ANSWERED) - before, hash, more: { p99 } };
    },
    async close() {
      await thread.terminate();
      await removeDataDir(dataDir);
    },
  };
}

/** In milliseconds of one add, or in adds a second. */
async function addsCase(name: string, unit: 'ms' | 'adds/s', callers: number, jobs: number): Promise<Case> {
  const dataDir = await makeDataDir();
  const engine = await Engine.open({ dataDir, durability: 'commit' });
  const queue = new Queue<SmallJob>(QUEUE, { connection: engine });
  return {
    name,
    unit,
    expected: { count: jobs, hash: hashOfIds(jobs) },
    async once() {
      const { ms, seconds, p99, hash } = await timed(jobs, callers, async (id) => {
        return (await queue.add('small', smallJob(id))).data.id;
      });
      const { waiting } = await queue.getJobCounts();
      await queue.drain();
      return unit === 'ms'
        ? { value: ms, count: waiting, hash, more: { p99 } }
        : { value: jobs / seconds, count: waiting, hash };
    },
    async close() {
      await engine.close();
      await removeDataDir(dataDir);
    },
  };
}

const addsPart: Part = {
  name: 'durable-adds',
  async open(settings) {
    const bare = await bareCase(settings);
    const one = await addsCase('an add that is awaited, p50', 'ms', 1, settings.quick ? 20 : 1_000);
    const ratios = [{ of: one.name, to: bare.name, label: 'an add ÷ two bare syncs', atMost: 1.5 }];
    return { name: 'durable-adds', cases: [bare, one], ratios };
  },
};

const callersPart: Part = {
  name: 'durable-callers',
  async open({ quick }) {
    const one = await addsCase('1 caller', 'adds/s', 1, quick ? 20 : 1_000);
    const many = await addsCase(`${CALLERS} callers`, 'adds/s', CALLERS, quick ? 500 : 50_000);
    return { name: 'durable-callers', cases: [one, many], ratios: [{ of: many.name, to: one.name, atLeast: 30 }] };
  },
};

export const durableAddsParts: readonly Part[] = [addsPart, callersPart];
