/**
 * What a durable engine knows of each slot beside shared memory: where in the log its job stands, its place in the order of its queue,
 * and what of it has changed. In pages of plain arrays, made where jobs are: some 40 bytes a slot, outside of the heap.
 */
import { L, type Slot } from '../core/index.js';
import type { Ledger } from './ledger.js';

export const PAGE_SHIFT = 12;
const PAGE_SLOTS = 1 << PAGE_SHIFT;

/** By place in the page. */
export interface Page {
  /** Number of the group that holds its base; 0 = not in the log. */
  readonly base: Float64Array;
  /** Number of the group that holds its last record. */
  readonly last: Float64Array;
  /**
   * Place in its level: grows with every push at the tail; the same below 0 in the head lane, whose last one comes first. Of a blocked
   * job its place among those that wait for the same.
   */
  readonly seq: Float64Array;
  readonly baseBytes: Uint32Array;
  readonly deltaBytes: Uint32Array;
  /** What has changed since the last record: CHANGED, and parts. */
  readonly dirty: Uint8Array;
  /** Parts that have changed since the base. */
  readonly since: Uint8Array;
}

export class SlotTable {
  readonly pages: (Page | undefined)[] = [];

  page(slot: Slot): Page {
    return this.pages[slot >>> (L.SLOT_SHIFT + PAGE_SHIFT)] ?? this.#make(slot);
  }

  index(slot: Slot): number {
    return (slot >>> L.SLOT_SHIFT) & (PAGE_SLOTS - 1);
  }

  #make(slot: Slot): Page {
    const at = slot >>> (L.SLOT_SHIFT + PAGE_SHIFT);
    while (this.pages.length < at) this.pages.push(undefined);
    const page: Page = {
      base: new Float64Array(PAGE_SLOTS),
      last: new Float64Array(PAGE_SLOTS),
      seq: new Float64Array(PAGE_SLOTS),
      baseBytes: new Uint32Array(PAGE_SLOTS),
      deltaBytes: new Uint32Array(PAGE_SLOTS),
      dirty: new Uint8Array(PAGE_SLOTS),
      since: new Uint8Array(PAGE_SLOTS),
    };
    this.pages[at] = page;
    return page;
  }
}

export function slotAt(page: number, index: number): Slot {
  return (page * PAGE_SLOTS + index) * L.SLOT_BYTES;
}

/** The log's records of this slot are superseded. */
export function forgetRecords(table: SlotTable, ledger: Ledger, slot: Slot): void {
  const page = table.page(slot);
  const index = table.index(slot);
  ledger.release(page.base[index] as number);
  ledger.release(page.last[index] as number);
  ledger.liveBytes -= (page.baseBytes[index] as number) + (page.deltaBytes[index] as number);
  page.base[index] = 0;
  page.last[index] = 0;
  page.baseBytes[index] = 0;
  page.deltaBytes[index] = 0;
}

export interface NotedRecord {
  readonly group: number;
  readonly bytes: number;
  readonly isBase: boolean;
  readonly parts: number;
}

/** The log has a newer record of this slot, in a group that the ledger knows. A base supersedes all, a change the one before it. */
export function noteRecord(
  table: SlotTable,
  ledger: Ledger,
  slot: Slot,
  { group, bytes, isBase, parts }: NotedRecord,
): void {
  const page = table.page(slot);
  const index = table.index(slot);
  if (isBase) {
    if (page.base[index] !== 0) forgetRecords(table, ledger, slot);
    page.base[index] = group;
    page.baseBytes[index] = bytes;
    page.since[index] = 0;
    ledger.hold(group);
  } else {
    ledger.release(page.last[index] as number);
    ledger.liveBytes -= page.deltaBytes[index] as number;
    page.deltaBytes[index] = bytes;
    page.since[index] = parts;
  }
  page.last[index] = group;
  ledger.hold(group);
  ledger.liveBytes += bytes;
}
