/** Follows the records of a log without making jobs of them: what is there, what is wrong, and which records still say something. */
import { L } from '../core/index.js';
import * as F from './format.js';
import { type GroupSink, recordsFault, recordsOf } from './groups.js';

const STATE_NAMES: Readonly<Record<number, string>> = {
  [L.STATE_FREE]: 'waiting', // as soon as there was memory for it
  [L.STATE_WAITING]: 'waiting',
  [L.STATE_DELAYED]: 'delayed',
  [L.STATE_BLOCKED]: 'blocked',
  [L.STATE_ACTIVE]: 'active',
  [L.STATE_COMPLETED]: 'completed',
  [L.STATE_FAILED]: 'failed',
  [L.STATE_CANCELLED]: 'cancelled',
  [L.STATE_REMEMBERED]: 'remembered',
  [L.STATE_GONE]: 'gone',
  [L.STATE_LINGERING]: 'lingering',
};
const KIND_LAST = F.KIND_OPENED;
const utf8 = new TextDecoder();

export class Survey implements GroupSink {
  readonly damaged: { position: number; what: string }[] = [];
  /** Something of it was written by a newer flashQ. */
  hasNewer = false;
  /** Groups. */
  unfinishedCount = 0;
  groups = 0;
  bytes = 0;
  readonly #queues = new Map<number, string>();
  readonly #jobs = new Map<number, { readonly queue: string; readonly state: string }>();
  /** Jobs of which a change was seen, and no base. */
  readonly #orphans = new Set<number>();

  /** Jobs of which there is no more than changes. */
  get lost(): number {
    return this.#orphans.size;
  }

  counts(): Record<string, Record<string, number>> {
    const counts: Record<string, Record<string, number>> = {};
    for (const name of this.#queues.values()) counts[name] = {};
    for (const { queue, state } of this.#jobs.values()) {
      const of = counts[queue] as Record<string, number>;
      of[state] = (of[state] ?? 0) + 1;
    }
    return counts;
  }

  fault(position: number, kind: 'damaged' | 'version', what: string): void {
    if (kind === 'version') this.hasNewer = true;
    this.damaged.push({ position, what });
  }

  unfinished(): void {
    this.unfinishedCount++;
  }

  /** Gives the group without the records that say nothing any more, since what they refer to is lost; undefined when it is none. */
  group(position: number, bytes: Uint8Array): Uint8Array | undefined {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const fault = recordsFault(view);
    if (fault !== undefined) {
      this.fault(position, 'damaged', fault);
      return undefined;
    }
    this.groups++;
    this.bytes += bytes.length;
    const records = recordsOf(view);
    // As an engine reads it: the queues of a group stand before its jobs.
    for (const at of records) if (view.getUint8(at + F.R_KIND) === F.KIND_QUEUE) this.#queue(view, bytes, at);
    const kept = records.filter((at) => this.#record(position, view, at));
    if (kept.length === records.length) return bytes;
    return new Uint8Array(Buffer.concat(kept.map((at) => bytes.subarray(at, at + view.getUint32(at, true)))));
  }

  /** Whether it says something. */
  #record(position: number, view: DataView, at: number): boolean {
    const kind = view.getUint8(at + F.R_KIND);
    if (kind === F.KIND_JOB_BASE || kind === F.KIND_JOB_DELTA) return this.#job(position, view, at, kind);
    if (kind === F.KIND_JOB_GONE) {
      const number = view.getFloat64(at + F.J_NUMBER, true);
      this.#jobs.delete(number);
      this.#orphans.delete(number);
    } else if (kind === 0 || kind > KIND_LAST) {
      this.fault(position, 'version', `it holds a record of the unknown kind ${kind}`);
    }
    return true;
  }

  #queue(view: DataView, bytes: Uint8Array, at: number): void {
    const length = view.getUint32(at + F.Q_NAME, true);
    const start = at + F.Q_NAME + 4;
    this.#queues.set(view.getUint32(at + F.Q_ID, true), utf8.decode(bytes.subarray(start, start + length)));
  }

  #job(position: number, view: DataView, at: number, kind: number): boolean {
    const unknown = view.getUint16(at + F.R_PARTS, true) & ~F.PARTS_ALL;
    const number = view.getFloat64(at + F.J_NUMBER, true);
    if (unknown !== 0) this.fault(position, 'version', `job ${number} has parts of the unknown kind ${unknown}`);
    const queue = this.#queues.get(view.getUint32(at + F.J_QUEUE, true));
    if (queue === undefined || (kind === F.KIND_JOB_DELTA && !this.#jobs.has(number))) {
      this.#orphans.add(number);
      return false;
    }
    this.#orphans.delete(number);
    this.#jobs.set(number, { queue, state: STATE_NAMES[view.getUint8(at + F.R_STATE)] ?? 'unknown' });
    return true;
  }
}
