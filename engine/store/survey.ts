/** Follows the records of a log without making jobs of them: what is there, what is wrong, and which records still say something. */
import { encodePayload } from '../../client/payload.js';
import { L } from '../core/index.js';
import { STATE_NAMES } from '../jobs/records.js';
import * as F from './format.js';
import { type GroupSink, recordsFault, recordsOf } from './groups.js';

const NAMES: Readonly<Record<number, string>> = {
  ...STATE_NAMES,
  [L.STATE_FREE]: 'waiting', // as soon as there was memory for it
  [L.STATE_REMEMBERED]: 'remembered',
  [L.STATE_GONE]: 'gone',
  [L.STATE_LINGERING]: 'lingering',
};
const KIND_LAST = F.KIND_ENTRY;
const utf8 = new TextDecoder();

export class Survey implements GroupSink {
  readonly damaged: { position: number; what: string }[] = [];
  /** Something of it was written by a newer flashQ. */
  hasNewer = false;
  /** Groups. */
  unfinishedCount = 0;
  groups = 0;
  bytes = 0;
  /** Names of queues by their number in the log. */
  readonly queues = new Map<number, string>();
  readonly #named: ReadonlyMap<number, string>;
  readonly #jobs = new Map<number, { readonly queue: number; readonly state: string }>();
  /** Jobs of which a change was seen, and no base. */
  readonly #orphans = new Set<number>();

  /** `named`: what is known of queues from elsewhere, should their own records be lost. */
  constructor(named: ReadonlyMap<number, string> = new Map()) {
    this.#named = named;
  }

  /** Jobs of which there is no more than changes. */
  get lost(): number {
    return this.#orphans.size;
  }

  counts(): Record<string, Record<string, number>> {
    const counts: Record<string, Record<string, number>> = {};
    for (const name of this.queues.values()) counts[name] = {};
    for (const { queue, state } of this.#jobs.values()) {
      const of = counts[this.queues.get(queue) as string] as Record<string, number>;
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

  /**
   * Gives the group as an engine can read it: without the records that say nothing any more, since their job's base is lost, and with
   * a record for each queue whose own is. Undefined when it is none.
   */
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
    const made: Uint8Array[] = [];
    const kept = records.filter((at) => this.#record(position, view, at, made));
    if (kept.length === records.length && made.length === 0) return bytes;
    const rest = kept.map((at) => bytes.subarray(at, at + view.getUint32(at, true)));
    return new Uint8Array(Buffer.concat([...rest, ...made]));
  }

  /** Whether it says something. */
  #record(position: number, view: DataView, at: number, made: Uint8Array[]): boolean {
    const kind = view.getUint8(at + F.R_KIND);
    if (kind === F.KIND_JOB_BASE || kind === F.KIND_JOB_DELTA) return this.#job(position, view, at, made);
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
    this.queues.set(view.getUint32(at + F.Q_ID, true), utf8.decode(bytes.subarray(start, start + length)));
  }

  #job(position: number, view: DataView, at: number, made: Uint8Array[]): boolean {
    const unknown = view.getUint16(at + F.R_PARTS, true) & ~F.PARTS_ALL;
    const number = view.getFloat64(at + F.J_NUMBER, true);
    if (unknown !== 0) this.fault(position, 'version', `job ${number} has parts of the unknown kind ${unknown}`);
    if (view.getUint8(at + F.R_KIND) === F.KIND_JOB_DELTA && !this.#jobs.has(number)) {
      this.#orphans.add(number);
      return false;
    }
    this.#orphans.delete(number);
    const queue = view.getUint32(at + F.J_QUEUE, true);
    if (!this.queues.has(queue)) {
      this.fault(position, 'damaged', `job ${number} is of a queue that isn't there`);
      made.push(this.#madeUp(queue));
    }
    this.#jobs.set(number, { queue, state: NAMES[view.getUint8(at + F.R_STATE)] ?? 'unknown' });
    return true;
  }

  /** A record for a queue whose own is lost, with its settings. */
  #madeUp(id: number): Uint8Array {
    const name = this.#named.get(id) ?? `lost-queue-${id}`;
    this.queues.set(id, name);
    const [text, settings] = [new TextEncoder().encode(name), encodePayload({})];
    const settingsAt = F.Q_NAME + 4 + F.padTo4(text.length);
    const record = Buffer.alloc(F.padTo8(settingsAt + 4 + settings.length));
    record.writeUInt32LE(record.length, F.R_BYTES);
    record.writeUInt8(F.KIND_QUEUE, F.R_KIND);
    record.writeUInt32LE(id, F.Q_ID);
    record.writeUInt32LE(text.length, F.Q_NAME);
    record.set(text, F.Q_NAME + 4);
    record.writeUInt32LE(settings.length, settingsAt);
    record.set(settings, settingsAt + 4);
    return record;
  }
}
