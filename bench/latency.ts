/** How soon a job starts when nothing else goes on, and what an engine costs that has nothing to do. */
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker as Thread } from 'node:worker_threads';
import { Engine, Queue, Worker } from 'flashq';
import { type Case, hashOf, hashOfIds, type Part, quantileOf, type Sample, type Settings } from './harness.js';
import { ACKNOWLEDGED, ENDED_AT_WORD, STAMP_BYTES, WAKE } from './wake-thread.js';

type Place = 'thread' | 'in process';

const QUEUE = 'latency';
const BARE = 'bare waitAsync wake of a thread, p50';
const GAP_MS = 2; // both threads are parked again by then
/** Run before anything is measured, so that the compiler is through with what a service that has been up for a while has compiled. */
const WARMING_JOBS = 20_000;
const WARMING_IN_FLIGHT = 100;

export interface StampedJob {
  readonly id: number;
}

export interface Stamp {
  readonly id: number;
  /** Nanoseconds of the monotonic clock, which all threads share, at the handler's first line. */
  readonly startedNs: number;
}

/** `wakeUp` resolves to the moment at which the other side ran. */
async function sampled(samples: number, wakeUp: (id: number) => Promise<Stamp>): Promise<Sample> {
  const micros: number[] = [];
  let hash = 0;
  for (let id = 0; id < samples; id++) {
    await pause(GAP_MS);
    const added = Number(process.hrtime.bigint());
    const stamp = await wakeUp(id);
    micros.push((stamp.startedNs - added) / 1000);
    hash = hashOf(hash, stamp.id);
  }
  micros.sort((a, b) => a - b);
  return { value: quantileOf(micros, 0.5), count: samples, hash, more: { p99: quantileOf(micros, 0.99) } };
}

/** Many, one after the other in some lines at once. */
async function warmUp(count: number, inFlight: number, once: () => Promise<unknown>): Promise<void> {
  const line = async (): Promise<void> => {
    for (let nth = 0; nth < count / inFlight; nth++) await once();
  };
  await Promise.all(Array.from({ length: inFlight }, line));
}

async function bareCase(samples: number, warming: number): Promise<Case> {
  const shared = new SharedArrayBuffer(STAMP_BYTES);
  const words = new Int32Array(shared);
  const stamps = new Float64Array(shared);
  const thread = new Thread(new URL('./wake-thread.js', import.meta.url), { workerData: shared });
  await once(thread, 'message'); // it is about to park
  const wakeUp = async (id: number): Promise<Stamp> => {
    const acknowledged = Atomics.load(words, ACKNOWLEDGED);
    Atomics.add(words, WAKE, 1);
    Atomics.notify(words, WAKE);
    const { async, value } = Atomics.waitAsync(words, ACKNOWLEDGED, acknowledged);
    if (async) await value;
    return { id, startedNs: stamps[ENDED_AT_WORD]! };
  };
  await warmUp(warming, 1, () => wakeUp(0));
  return {
    name: BARE,
    unit: 'µs',
    expected: { count: samples, hash: hashOfIds(samples) },
    once: () => sampled(samples, wakeUp),
    close: async () => {
      await thread.terminate();
    },
  };
}

interface Opened {
  readonly queue: Queue<StampedJob, Stamp>;
  close(): Promise<void>;
}

async function open(place: Place): Promise<Opened> {
  const engine = await Engine.open({});
  const queue = new Queue<StampedJob, Stamp>(QUEUE, { connection: engine });
  const worker =
    place === 'thread'
      ? new Worker<StampedJob, Stamp>(QUEUE, new URL('./stamp-processor.js', import.meta.url), {
          connection: engine,
          threads: 1,
        })
      : new Worker<StampedJob, Stamp>(
          QUEUE,
          async ({ data }) => ({ id: data.id, startedNs: Number(process.hrtime.bigint()) }),
          {
            connection: engine,
          },
        );
  await queue.addAndWait('stamp', { id: 0 }); // the thread is up and has loaded its file
  const close = async (): Promise<void> => {
    await worker.close();
    await engine.close();
  };
  return { queue, close };
}

async function jobCase(place: Place, samples: number, warming: number): Promise<Case> {
  const { queue, close } = await open(place);
  await warmUp(warming, WARMING_IN_FLIGHT, () => queue.addAndWait('stamp', { id: 0 }));
  return {
    name: `add to handler's start, ${place}, p50`,
    unit: 'µs',
    expected: { count: samples, hash: hashOfIds(samples) },
    once: () => sampled(samples, (id) => queue.addAndWait('stamp', { id })),
    close,
  };
}

/** The first jobs of an engine and of its thread: nothing in them has been compiled yet. */
async function newCase(samples: number): Promise<Case> {
  return {
    name: "add to handler's start, new thread, p50",
    unit: 'µs',
    expected: { count: samples, hash: hashOfIds(samples) },
    once: async () => {
      const { queue, close } = await open('thread');
      const sample = await sampled(samples, (id) => queue.addAndWait('stamp', { id }));
      await close();
      return sample;
    },
  };
}

const latencyPart: Part = {
  name: 'latency',
  async open({ quick }) {
    const samples = quick ? 5 : 300;
    const warming = quick ? 100 : WARMING_JOBS;
    const bare = await bareCase(samples, warming);
    const inProcess = await jobCase('in process', samples, warming);
    const thread = await jobCase('thread', samples, warming);
    return {
      name: 'latency',
      cases: [bare, thread, inProcess],
      targets: [{ of: inProcess.name, atMost: 20 }],
      ratios: [{ of: thread.name, to: BARE, label: 'start in a thread ÷ bare wake', atMost: 1.5 }],
    };
  },
};

const newLatencyPart: Part = {
  name: 'latency-new',
  async open({ quick }) {
    const samples = quick ? 5 : 300;
    const thread = await newCase(samples);
    return {
      name: 'latency-new',
      cases: [await bareCase(samples, 0), thread],
      ratios: [{ of: thread.name, to: BARE, label: 'start in a new thread ÷ bare wake' }],
    };
  },
};

/** CPU time of the whole process, in per cent of one core. */
async function idleCase({ quick }: Settings): Promise<Case> {
  const windowMs = quick ? 100 : 5_000;
  const engine = await Engine.open({});
  const queue = new Queue<StampedJob, Stamp>(QUEUE, { connection: engine });
  const file = new URL('./stamp-processor.js', import.meta.url);
  const workers = [
    new Worker<StampedJob, Stamp>(QUEUE, file, { connection: engine, threads: 2 }),
    new Worker('other', async () => undefined, { connection: engine }),
  ];
  await queue.addAndWait('stamp', { id: 0 });
  return {
    name: 'CPU of an idle engine with 2 threads',
    unit: '%',
    expected: { count: 0, hash: 0 },
    async once() {
      const before = process.cpuUsage();
      const started = performance.now();
      await pause(windowMs);
      const { user, system } = process.cpuUsage(before);
      return { value: (user + system) / 10 / (performance.now() - started), count: 0, hash: 0 };
    },
    close: async () => {
      for (const worker of workers) await worker.close();
      await engine.close();
    },
  };
}

const idlePart: Part = {
  name: 'idle',
  open: async (settings) => ({ name: 'idle', warmups: 0, repetitions: 5, cases: [await idleCase(settings)] }),
};

export const latencyParts: readonly Part[] = [latencyPart, newLatencyPart, idlePart];
