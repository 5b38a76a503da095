/** The fan-in: one job that runs when every document has been embedded, and makes an index of their vectors. */
import type { Job } from 'flashq';
import { DIMENSIONS, similarity } from './embedding.js';
import { type CollectResult, type CollectTask, EMBED_QUEUE } from './tasks.js';

export interface SearchIndex {
  readonly names: readonly string[];
  /** One row of `DIMENSIONS` numbers a name. */
  readonly vectors: Float32Array;
}

export interface Neighbour {
  readonly name: string;
  readonly similarity: number;
}

/** Throws unless there is exactly one vector of the right size for each name. */
export function buildIndex(names: readonly string[], vectorOf: (row: number) => unknown, given: number): SearchIndex {
  if (given !== names.length) throw new Error(`${given} results for ${names.length} documents`);
  const vectors = new Float32Array(names.length * DIMENSIONS);
  for (const [row, name] of names.entries()) {
    const vector = vectorOf(row);
    if (!(vector instanceof Float32Array) || vector.length !== DIMENSIONS) {
      throw new Error(`The result for ${name} is not a vector of ${DIMENSIONS} numbers`);
    }
    vectors.set(vector, row * DIMENSIONS);
  }
  return { names, vectors };
}

/**
 * The handler of the `collect` queue. It runs in the main thread, which goes on to search the index that `keep` receives.
 * `ids()` are the embed jobs' in the order of `names`.
 */
export function collector(names: readonly string[], ids: () => readonly string[], keep: (index: SearchIndex) => void) {
  return async (job: Job<CollectTask, CollectResult>): Promise<CollectResult> => {
    const results = await job.getDependencyResults();
    const jobIds = ids();
    // Results of another queue's jobs are keyed by `queue:id`.
    const index = buildIndex(names, (row) => results[`${EMBED_QUEUE}:${jobIds[row]}`], Object.keys(results).length);
    keep(index);
    return { documents: names.length, bytes: index.vectors.byteLength };
  };
}

/** The nearest first; of a file that was divided, only its nearest passage. */
export function nearest(index: SearchIndex, query: Float32Array, count: number): Neighbour[] {
  const best = new Map<string, Neighbour>();
  for (const [row, name] of index.names.entries()) {
    const file = name.replace(/:\d+$/, '');
    const found = similarity(query, index.vectors, row * DIMENSIONS);
    if (found > (best.get(file)?.similarity ?? Number.NEGATIVE_INFINITY)) best.set(file, { name, similarity: found });
  }
  return [...best.values()].sort((a, b) => b.similarity - a.similarity).slice(0, count);
}
