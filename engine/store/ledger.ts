/**
 * Which groups of the log are still needed, and how much of it is. A group is live while the base or the last record of any object
 * lies in it; the log may forget everything before the first live one. (A record that says that a job is gone is never needed longer
 * than the records it follows, since only what is oldest is ever forgotten.)
 */

export interface Group {
  readonly number: number;
  /** Of its first batch in the log. */
  readonly position: number;
  bytes: number;
  /** Bases and last records in it. */
  live: number;
}

export class Ledger {
  /** The groups that the log holds, by number from `#first`. */
  #groups: Group[] = [];
  #head = 0;
  #first = 1;
  /** Bytes of all groups, and of the records in them that are needed. */
  bytes = 0;
  liveBytes = 0;

  get newest(): number {
    return this.#first + this.#groups.length - this.#head - 1;
  }

  get oldest(): number {
    return this.#first;
  }

  get(number: number): Group | undefined {
    if (number < this.#first) return undefined;
    return this.#groups[this.#head + number - this.#first];
  }

  add(number: number, position: number, bytes: number): void {
    if (this.#groups.length === this.#head) this.#first = number;
    this.#groups.push({ number, position, bytes, live: 0 });
    this.bytes += bytes;
  }

  /** So many bytes more of that group. */
  grow(number: number, bytes: number): void {
    (this.get(number) as Group).bytes += bytes;
    this.bytes += bytes;
  }

  hold(number: number): void {
    const group = this.get(number);
    if (group !== undefined) group.live++;
  }

  release(number: number): void {
    const group = this.get(number);
    if (group !== undefined) group.live--;
  }

  /** The oldest group, of those up to `newest`, that is still needed; what lies before it is not. */
  oldestNeeded(newest: number): number {
    let number = this.#first;
    while (number < newest && this.get(number)?.live === 0) number++;
    return number;
  }

  /** Lets go of the groups before that one; the position of the first that stays, or 0 when none does. */
  drop(before: number): number {
    while (this.#first < before && this.#head < this.#groups.length) {
      this.bytes -= (this.#groups[this.#head] as Group).bytes;
      this.#head++;
      this.#first++;
    }
    if (this.#head > 4096 && this.#head * 2 > this.#groups.length) {
      this.#groups = this.#groups.slice(this.#head);
      this.#head = 0;
    }
    return this.#groups[this.#head]?.position ?? 0;
  }

  /** The first group behind the older half of the bytes. */
  middle(): number {
    let bytes = 0;
    for (let at = this.#head; at < this.#groups.length; at++) {
      const group = this.#groups[at] as Group;
      bytes += group.bytes;
      if (bytes * 2 >= this.bytes) return group.number + 1;
    }
    return this.newest;
  }
}
