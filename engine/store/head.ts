/**
 * What a store keeps beside the batches: of which format it is, who owns it, and where its oldest batch lies. One record, so that
 * an owner's claim and a truncation each are one write.
 */
import { StoreError } from '../../client/errors.js';

/** Raised when an older flashQ could misread what a newer one writes. It stands first in the record, and stays there in every format. */
export const FORMAT = 1;
/** "FQLG" */
const MAGIC = 0x474c5146;
const FIXED_BYTES = 24;
/** Positions are keys of stores that know only JavaScript's numbers: at a million batches a second they last for 285 years. */
export const FIRST_POSITION = 1;

export interface Head {
  readonly epoch: bigint;
  /** Position of the oldest batch, or of the next one when none is kept. */
  readonly first: number;
  /** The owner's name, for messages. */
  readonly node: string;
}

export function encodeHead({ epoch, first, node }: Head): Buffer {
  const name = Buffer.from(node);
  const bytes = Buffer.alloc(FIXED_BYTES + name.length);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(FORMAT, 4);
  bytes.writeBigUInt64LE(epoch, 8);
  bytes.writeBigUInt64LE(BigInt(first), 16);
  bytes.set(name, FIXED_BYTES);
  return bytes;
}

/** @throws StoreError: `version` when a newer flashQ wrote it, `damaged` when nobody did. `where` names the store. */
export function decodeHead(record: Uint8Array, where: string): Head {
  const bytes = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
  if (bytes.length < 8 || bytes.readUInt32LE(0) !== MAGIC) throw damaged(where, 'its head record is not one of flashQ');
  const format = bytes.readUInt32LE(4);
  if (format > FORMAT) {
    throw new StoreError(
      `${where} is of format ${format}, this flashQ reads up to format ${FORMAT}. Open it with the newer flashQ that wrote it.`,
      { reason: 'version' },
    );
  }
  if (bytes.length < FIXED_BYTES) throw damaged(where, 'its head record is cut off');
  const first = Number(bytes.readBigUInt64LE(16));
  if (!Number.isSafeInteger(first) || first < FIRST_POSITION) throw damaged(where, `its first position is ${first}`);
  return { epoch: bytes.readBigUInt64LE(8), first, node: bytes.toString('utf8', FIXED_BYTES) };
}

export function damaged(where: string, what: string, cause?: unknown): StoreError {
  return new StoreError(
    `${where} is damaged: ${what}. It was left as it is. Restore it from a backup, or move it away to start with an empty one.`,
    { reason: 'damaged', ...(cause === undefined ? {} : { cause }) },
  );
}

export function fenced(where: string, owner: string): StoreError {
  const by = owner === '' ? 'another owner' : `another owner (${owner})`;
  return new StoreError(
    `${where} has been taken by ${by}. This engine must stop; what it had not yet saved is lost to it.`,
    {
      reason: 'fenced',
    },
  );
}
