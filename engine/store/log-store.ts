/**
 * What a durable engine needs of a store: one log of batches. A store knows nothing of jobs; it keeps byte strings in order, and may
 * forget the oldest. So the same interface fits an embedded database and a replicated log: no reads by key, positions only grow.
 */
import type { StoreError } from '../../client/errors.js';

export interface LogStore {
  readonly caps: {
    /** What a resolved `append` has survived: nothing (`memory`), a power loss (`fsync`), the loss of a node (`quorum`). */
    readonly ack: 'memory' | 'fsync' | 'quorum';
    /** Whether owners on several machines may open it, one after the other. */
    readonly shared: boolean;
    /** Bytes of one batch, at most. */
    readonly batchBytesMax: number;
  };
  /**
   * Takes ownership of the log `part` for `node`: a new epoch, by which the session of an earlier owner is fenced off.
   *
   * @throws StoreError when the store is damaged, of a newer version, or can't be reached.
   */
  open(part: string, node: string): Promise<LogSession>;
}

/** One owner's access to a log. Calls after `close` reject. */
export interface LogSession {
  /** Grows with every `open`. */
  readonly epoch: bigint;
  /** Resolves when another owner has taken the log: this one must stop. May stay pending for ever. */
  readonly lost: Promise<StoreError>;
  /**
   * Gives every batch that is kept, oldest first, and waits for what `onBatch` returns. The bytes are only valid until then. Resolves
   * with the position that the next append will have. To be called once, before the first append.
   */
  load(onBatch: (pos: bigint, batch: Uint8Array) => void | Promise<void>): Promise<bigint>;
  /**
   * Adds a batch behind the last one; resolves with its position when it is as durable as `caps.ack` says. Several may be under way;
   * they become durable in order. After a failure every later append fails too: what was under way may or may not be kept.
   *
   * @throws StoreError; reason `fenced` when another owner has taken the log, `full` when the medium is full.
   */
  append(batch: Uint8Array): Promise<bigint>;
  /** Forgets all batches before that position, now or later. */
  truncate(before: bigint): Promise<void>;
  close(): Promise<void>;
}
