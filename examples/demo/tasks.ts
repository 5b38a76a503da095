/** What the demo's jobs carry: shared by the side that adds them and the processor file that runs them. */
import type { Document } from './documents.js';

export const EMBED_QUEUE = 'embed';
export const COLLECT_QUEUE = 'collect';

/** `task`: the line of the ledger that belongs to this job. */
export interface EmbedTask {
  readonly task: number;
  readonly document: Document;
  /** How many runs of it fail before one succeeds: a stand-in for a service that is not always there. */
  readonly failures: number;
}

export interface QueryTask {
  readonly task: number;
  readonly query: string;
}

export type Task = EmbedTask | QueryTask;

export interface CollectTask {
  readonly documents: number;
}

export interface CollectResult {
  readonly documents: number;
  readonly bytes: number;
}
