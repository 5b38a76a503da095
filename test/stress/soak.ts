/** A durable engine under jobs of all kinds for as long as wanted: what it and its log take must stop growing. */
import { statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type AddOptions,
  Engine,
  JobNotFoundError,
  JobRemovedError,
  Queue,
  type Worker as QueueWorker,
  type SettledResult,
  Worker,
} from 'flashq';
import { expect } from 'vitest';
import type { CleaningLimits } from '#engine/store/cleaner.js';
import { readBatch } from '#engine/store/format.js';
import { LmdbStore } from '#engine/store/lmdb-store.js';
import { audit } from '../support/core-audit.js';
import type { Random } from './field.js';

const HANDLER = new URL('./handlers/soak.js', import.meta.url);
const DAY_MS = 86_400_000;
const QUEUES = ['threads', 'functions'] as const;
const KEPT_FAILED = 300;
const KEPT_COMPLETED = 100;

interface Kind {
  readonly name: string;
  readonly share: number;
  readonly ends: 'completed' | 'failed';
  readonly opts: (random: Random, at: number) => AddOptions;
}

const KINDS: readonly Kind[] = [
  { name: 'plain', share: 20, ends: 'completed', opts: () => ({ removeOnComplete: true }) },
  { name: 'kept', share: 3, ends: 'completed', opts: () => ({ removeOnComplete: { count: KEPT_COMPLETED } }) },
  {
    name: 'flaky',
    share: 3,
    ends: 'completed',
    opts: () => ({ attempts: 3, backoff: { type: 'fixed', delay: 3 }, removeOnComplete: true }),
  },
  { name: 'fails', share: 2, ends: 'failed', opts: () => ({ attempts: 2, removeOnFail: { count: KEPT_FAILED } }) },
  { name: 'big', share: 1, ends: 'completed', opts: () => ({ removeOnComplete: true }) },
  {
    name: 'later',
    share: 2,
    ends: 'completed',
    opts: (random) => ({ delay: 1 + random(20), priority: random(5) - 2, removeOnComplete: true }),
  },
  {
    name: 'named',
    share: 2,
    ends: 'completed',
    opts: (_, at) => ({ jobId: `named ${at}`, idempotencyTtl: 500, removeOnComplete: { age: 100 } }),
  },
];
const DRAWN = KINDS.flatMap((kind) => Array.from({ length: kind.share }, () => kind));

/** What the engine and its log take. */
export interface Sample {
  readonly diskBytes: number;
  readonly usedBytes: number;
  readonly rssBytes: number;
}

export interface SoakOptions {
  readonly dataDir: string;
  readonly random: Random;
  readonly jobsPerRound: number;
  readonly cleaning: Partial<CleaningLimits>;
}

export class Soak {
  readonly samples: Sample[] = [];
  jobs = 0;
  #engine!: Engine;
  readonly #options: SoakOptions;
  readonly #random: Random;
  readonly #longLived: { queue: string; id: string; data: unknown }[] = [];
  #workers: QueueWorker[] = [];

  private constructor(options: SoakOptions) {
    this.#options = options;
    this.#random = options.random;
  }

  static async open(options: SoakOptions): Promise<Soak> {
    const soak = new Soak(options);
    await soak.#open();
    for (const queue of QUEUES) {
      for (let n = 0; n < 20; n++) {
        const data = { n, text: 'x'.repeat(options.random(2000)) };
        const { id } = await soak.#queue(queue).add('stays', data, { delay: DAY_MS });
        soak.#longLived.push({ queue, id, data });
      }
    }
    return soak;
  }

  async #open(): Promise<void> {
    const engine = await Engine.open({ dataDir: this.#options.dataDir, maxMemory: 128 * 1024 * 1024 });
    const { cleaner } = engine.state.journal!;
    cleaner.limits = { ...cleaner.limits, ...this.#options.cleaning };
    this.#engine = engine;
  }

  #queue(name: string): Queue {
    return new Queue(name, { connection: this.#engine });
  }

  async work(): Promise<void> {
    const { default: handler } = await import(HANDLER.href);
    const connection = this.#engine;
    this.#workers = [
      new Worker('threads', HANDLER, { connection, threads: 1, concurrency: 50 }),
      new Worker('functions', handler, { connection, concurrency: 50 }),
    ];
    await Promise.all(this.#workers.map((worker) => worker.waitUntilReady()));
  }

  /** Adds jobs to both queues, some of which wait for others; resolves when all have come to the end that they must come to. */
  async round(): Promise<void> {
    await Promise.all(QUEUES.map((name) => this.#roundOf(this.#queue(name))));
    this.samples.push(this.#sample());
  }

  async #roundOf(queue: Queue): Promise<void> {
    const kinds = Array.from({ length: this.#options.jobsPerRound }, () => this.#drawn());
    const first = this.jobs;
    this.jobs += kinds.length;
    const items = kinds.map(({ name, opts }, i) => ({
      name,
      data: { n: i, ...(name === 'big' ? { bytes: Buffer.alloc(20_000 + this.#random(20_000), i) } : {}) },
      opts: opts(this.#random, first + i),
    }));
    const jobs = await queue.addBulk(items);
    const last = await queue.add('plain', { n: 0 }, { dependsOn: jobs.slice(0, 50), onDependencyFailure: 'run' });
    const ends = await queue.finished([...jobs.map(({ id }) => id), last.id], { settled: true });
    for (const [i, end] of ends.entries()) {
      const wanted = kinds[i]?.ends === 'failed' ? 'rejected' : 'fulfilled';
      if (end.status === wanted) continue;
      // It went, and perhaps its id was forgotten, before anybody asked.
      if (!['named', 'kept'].includes(kinds[i]?.name ?? '') || !isGone(end))
        expect.unreachable(`${kinds[i]?.name} has ${end.status}`);
    }
  }

  #drawn(): Kind {
    return DRAWN[this.#random(DRAWN.length)] as Kind;
  }

  #sample(): Sample {
    return {
      diskBytes: fileBytes(this.#options.dataDir),
      usedBytes: this.#engine.stats().memory.used,
      rssBytes: process.memoryUsage.rss(),
    };
  }

  get cleaned(): number {
    return this.#engine.state.journal!.ledger.oldest;
  }

  /** Ends the workers; what the engine counts must be what it has, before it is closed and after it is opened again. */
  async reckon(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.close()));
    const before = await this.#recount();
    await this.#engine.close();
    await checkBatches(this.#options.dataDir);
    await this.#open();
    const after = await this.#recount();
    // Their times run on; all else is as it was.
    expect(after).toEqual(before);
    for (const { queue, id, data } of this.#longLived)
      expect((await this.#queue(queue).getJob(id))?.data).toEqual(data);
    await this.#engine.close();
  }

  async #recount(): Promise<unknown> {
    const { core, queues } = this.#engine.state;
    audit(core, ...[...queues.all()].map(({ address }) => address));
    const all = this.#engine.queues().sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { name, counts } of all) {
      const failed = await this.#queue(name).getDlq(2 * KEPT_FAILED);
      expect(counts.failed).toBe(failed.length);
      expect(counts.failed).toBeLessThanOrEqual(KEPT_FAILED);
      expect(counts.delayed).toBe(this.#longLived.length / QUEUES.length);
      expect(counts).toMatchObject({ waiting: 0, active: 0, blocked: 0 });
    }
    return all.map(({ name, counts: { completed: _, ...counts } }) => ({ name, counts }));
  }

  async close(): Promise<void> {
    await this.#engine.close({ timeout: 0 }).catch(() => {});
  }
}

function isGone(end: SettledResult): boolean {
  return end.status === 'rejected' && (end.reason instanceof JobRemovedError || end.reason instanceof JobNotFoundError);
}

/** Of the files as they lie on the disk. */
export function fileBytes(dataDir: string): number {
  return statSync(join(dataDir, 'main.lmdb')).blocks * 512;
}

/** Every batch that is there is whole. Gives the first position and the bytes of all. */
export async function checkBatches(dataDir: string): Promise<{ first: number; bytes: number }> {
  expect(await readdir(dataDir)).toContain('main.lmdb');
  const session = await new LmdbStore(dataDir, { sync: true }).open('main', 'checker');
  let first = 0;
  let bytes = 0;
  await session.load((position, batch) => {
    if (first === 0) first = Number(position);
    bytes += batch.length;
    const header = readBatch(batch, Number(position));
    if ('what' in header) expect.unreachable(`batch ${position}: ${header.what}`);
  });
  await session.close();
  return { first, bytes };
}

/** The second half of the samples takes no more than the first did, but for so many times that and so much. */
export function expectPlateau(samples: readonly Sample[], of: keyof Sample, factor: number, slackBytes: number): void {
  const most = (some: readonly Sample[]) => Math.max(...some.map((sample) => sample[of]));
  const half = samples.length >>> 1;
  expect(most(samples.slice(half)), of).toBeLessThan(most(samples.slice(0, half)) * factor + slackBytes);
}
