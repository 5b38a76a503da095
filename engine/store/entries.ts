/**
 * What must survive and is no job: crons and their like, each a plain object under a name, by room. In memory only a table; of a durable
 * engine each change is a record in the log's next group, so that it is there together with the jobs that were made in the same step.
 */
import { decodePayload, encodePayload } from '../../client/payload.js';
import type { GroupWriter } from './group-writer.js';
import type { Ledger } from './ledger.js';

interface Kept {
  readonly room: string;
  readonly name: string;
  /** Undefined: it is gone, and the log has not been told yet. */
  value: object | undefined;
  /** The group of its last record, 0 when the log has not heard of it. */
  group: number;
  bytes: number;
}

const utf8 = new TextEncoder();

export class Entries {
  readonly #rooms = new Map<string, Map<string, Kept>>();
  readonly #changed = new Set<Kept>();
  /** Set by the journal: something is to be written. */
  onChange: (() => void) | undefined;

  get hasChanges(): boolean {
    return this.onChange !== undefined && this.#changed.size !== 0;
  }

  /** What was put there last. The object is the table's: to change it, put it again. */
  get<T extends object>(room: string, name: string): T | undefined {
    return this.#rooms.get(room)?.get(name)?.value as T | undefined;
  }

  /** In the order in which they came. */
  *all<T extends object>(room: string): IterableIterator<[name: string, value: T]> {
    for (const { name, value } of this.#rooms.get(room)?.values() ?? [])
      if (value !== undefined) yield [name, value as T];
  }

  /** `value`: what MessagePack can keep. The same object, changed, is written anew. */
  put(room: string, name: string, value: object): void {
    const kept = this.#kept(room, name);
    kept.value = value;
    this.#touch(kept);
  }

  delete(room: string, name: string): boolean {
    const kept = this.#rooms.get(room)?.get(name);
    if (kept?.value === undefined) return false;
    kept.value = undefined;
    if (kept.group === 0) this.#drop(kept);
    else this.#touch(kept);
    return true;
  }

  #kept(room: string, name: string): Kept {
    let names = this.#rooms.get(room);
    if (names === undefined) {
      names = new Map();
      this.#rooms.set(room, names);
    }
    let kept = names.get(name);
    if (kept === undefined) {
      kept = { room, name, value: undefined, group: 0, bytes: 0 };
      names.set(name, kept);
    }
    return kept;
  }

  #touch(kept: Kept): void {
    if (this.onChange === undefined) return;
    this.#changed.add(kept);
    this.onChange();
  }

  #drop(kept: Kept): void {
    this.#changed.delete(kept);
    this.#rooms.get(kept.room)?.delete(kept.name);
  }

  // ---- the log ----------------------------------------------------------------------------------------------------------------

  /** Read from the log; an empty value says that it is gone. */
  restore(room: string, name: string, value: Uint8Array, group: number, bytes: number, ledger: Ledger): void {
    const kept = this.#kept(room, name);
    this.#release(kept, ledger);
    if (value.length === 0) {
      this.#drop(kept);
      return;
    }
    kept.value = decodePayload(value, 0, value.length) as object;
    this.#hold(kept, group, bytes, ledger);
  }

  /** Writes those that have changed. */
  write(writer: GroupWriter, group: number, ledger: Ledger): void {
    for (const kept of this.#changed) {
      const value = kept.value === undefined ? new Uint8Array(0) : new Uint8Array(encodePayload(kept.value));
      const bytes = writer.entry(utf8.encode(kept.room), utf8.encode(kept.name), value);
      this.#release(kept, ledger);
      if (kept.value === undefined) this.#drop(kept);
      else this.#hold(kept, group, bytes, ledger);
    }
    this.#changed.clear();
  }

  /** Marks those whose record lies before that group. */
  renew(before: number): void {
    for (const names of this.#rooms.values())
      for (const kept of names.values()) if (kept.group !== 0 && kept.group < before) this.#changed.add(kept);
  }

  #hold(kept: Kept, group: number, bytes: number, ledger: Ledger): void {
    kept.group = group;
    kept.bytes = bytes;
    ledger.hold(group);
    ledger.liveBytes += bytes;
  }

  #release(kept: Kept, ledger: Ledger): void {
    if (kept.group === 0) return;
    ledger.release(kept.group);
    ledger.liveBytes -= kept.bytes;
    kept.group = 0;
  }
}
