/** The core alone: what a push and a claim cost, called from JavaScript, without payloads, handlers or events. */
import { Core, L } from '#engine/core/index.js';
import { createMemory, pagesFor } from '#engine/core/memory.js';
import { type Case, hashOf, hashOfIds, type Part, type Sample, type Settings } from './harness.js';

const MEMORY_BYTES = 65_535 * 65_536;
const NOW = 1;

interface Shape {
  readonly waiting: number;
  readonly priorities: number;
}

/** `waiting` jobs stay in line; each repetition adds and claims as many again, in strides over all priorities. */
function heapCase({ waiting, priorities }: Shape, { quick }: Settings): Case {
  const cycles = quick ? 1_000 : 200_000;
  const core = Core.format(createMemory(), pagesFor(MEMORY_BYTES));
  const queue = core.wasm.queueOpen() >>> 0;
  const push = (nth: number): void => {
    const slot = core.wasm.jobCreate(queue, (nth * 7919) % priorities, 0, 0, NOW, 0) >>> 0;
    if (slot === 0 || core.wasm.jobReady(slot, 0) === 0) throw new Error('memory is full');
  };
  for (let nth = 0; nth < waiting; nth++) push(nth);
  let next = waiting;
  return {
    name: `${waiting.toLocaleString('en-US')} waiting, ${priorities} ${priorities === 1 ? 'priority' : 'priorities'}`,
    unit: 'ns',
    expected: { count: cycles, hash: hashOfIds(cycles) },
    once: async () => {
      const sample = turn(core, queue, cycles, (nth) => push(next + nth));
      next += cycles;
      return sample;
    },
  };
}

/** Nanoseconds for a push (creating the job), with the claim (ending and freeing it) as a further figure. */
function turn(core: Core, queue: number, cycles: number, push: (nth: number) => void): Sample {
  const pushing = performance.now();
  for (let nth = 0; nth < cycles; nth++) push(nth);
  const claiming = performance.now();
  const area = core.area(L.ENGINE_THREAD);
  let hash = 0;
  let count = 0;
  for (; count < cycles; count++) {
    const slot = core.wasm.claim(L.ENGINE_THREAD, queue, 0, NOW) >>> 0;
    if (slot < L.CLAIM_CODES) break;
    if (core.wasm.runComplete(core.ticketLow(area, 0), core.ticketHigh(area, 0), 0, NOW) === 0) break;
    core.wasm.jobRemove(slot);
    hash = hashOf(hash, count);
  }
  const ended = performance.now();
  const perJob = 1e6 / cycles;
  return { value: (claiming - pushing) * perJob, count, hash, more: { 'claim and end': (ended - claiming) * perJob } };
}

const heapPart: Part = {
  name: 'heap',
  async open(settings) {
    const many = settings.quick ? 5_000 : 10_000_000;
    const shapes: Shape[] = [
      { waiting: 1_000, priorities: 1 },
      { waiting: many, priorities: 1 },
      { waiting: 1_000, priorities: 100 },
      { waiting: settings.quick ? 5_000 : 1_000_000, priorities: 4_000 },
    ];
    const cases = shapes.map((shape) => heapCase(shape, settings));
    const [few, most] = cases.map(({ name }) => name) as [string, string];
    const ratios = [
      { of: most, to: few, label: 'push: many ÷ few waiting' },
      { of: `${most}/claim and end`, to: `${few}/claim and end`, label: 'claim: many ÷ few waiting' },
    ];
    return { name: 'heap', cases, ratios };
  },
};

export const coreParts: readonly Part[] = [heapPart];
