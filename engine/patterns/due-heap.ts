/** What is due when, the earliest first: a binary heap. Setting a name again leaves its old entry behind, which is skipped when it comes up. */
interface Due {
  readonly at: number;
  readonly name: string;
  readonly version: number;
}

export class DueHeap {
  readonly #heap: Due[] = [];
  readonly #versions = new Map<string, number>();
  #version = 0;

  /** Undefined: never. */
  set(name: string, at: number | undefined): void {
    if (at === undefined) {
      this.#versions.delete(name);
      return;
    }
    const version = ++this.#version;
    this.#versions.set(name, version);
    this.#heap.push({ at, name, version });
    this.#rise(this.#heap.length - 1);
  }

  /** When the earliest is due. */
  get next(): number | undefined {
    return this.#top()?.at;
  }

  /** Takes the earliest name out if it is due by then. */
  pop(now: number): string | undefined {
    const top = this.#top();
    if (top === undefined || top.at > now) return undefined;
    this.#drop();
    this.#versions.delete(top.name);
    return top.name;
  }

  #top(): Due | undefined {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      if (this.#versions.get(top.name) === top.version) return top;
      this.#drop();
    }
    return undefined;
  }

  #drop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Due;
    if (heap.length === 0) return;
    heap[0] = last;
    this.#sink(0);
  }

  #rise(place: number): void {
    const heap = this.#heap;
    const one = heap[place] as Due;
    let at = place;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] as Due).at <= one.at) break;
      heap[at] = heap[parent] as Due;
      at = parent;
    }
    heap[at] = one;
  }

  #sink(place: number): void {
    const heap = this.#heap;
    const one = heap[place] as Due;
    let at = place;
    for (let child = at * 2 + 1; child < heap.length; child = at * 2 + 1) {
      const other = heap[child + 1];
      if (other !== undefined && other.at < (heap[child] as Due).at) child++;
      if ((heap[child] as Due).at >= one.at) break;
      heap[at] = heap[child] as Due;
      at = child;
    }
    heap[at] = one;
  }
}
