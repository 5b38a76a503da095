import type { Connection } from '../client/connection.js';

/** What `Engine.attach` gives: an engine of another thread, as a connection for Queues and Workers of this one. */
export interface AttachedEngine {
  readonly connection: Connection;
  /** Lets go of the engine, which goes on: what this thread had claimed is given back. */
  close(): void;
}
