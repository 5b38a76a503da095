/**
 * From batches to groups. What a crash may leave is told from what only damage can: a group that has a beginning but no end was never
 * acknowledged, and is passed over, if it is the last that its engine has written: behind it there is nothing, or what an engine wrote
 * that came later, and so begins with the record that says so.
 */
import * as F from './format.js';

export interface GroupSink {
  /** A group that is there as a whole. `position`: of its first batch. */
  group(position: number, bytes: Uint8Array): void;
  /** One that a crash left unfinished. */
  unfinished(position: number, what: string): void;
  /** What no crash leaves, or what a newer flashQ wrote. May throw. */
  fault(position: number, kind: 'damaged' | 'version', what: string): void;
}

export class GroupAssembler {
  readonly #sink: GroupSink;
  #parts: Uint8Array[] = [];
  #partsAt = 0;
  /** A group without an end. What comes next says whether a crash left it. */
  #broken: { readonly position: number; readonly what: string } | undefined;
  /** Anything but the rest of a group whose beginning the log has forgotten. */
  #hasBegun = false;
  /** What follows is the rest of a group that has been found to be faulty. */
  #isSkipping = false;

  constructor(sink: GroupSink) {
    this.#sink = sink;
  }

  batch(position: number, bytes: Uint8Array): void {
    const header = F.readBatch(bytes, position);
    if ('what' in header) {
      if (header.kind === 'torn') this.#breakOff(position, header.what);
      else this.fault(position, header.kind, header.what);
      return;
    }
    if (header.isFirst) {
      if (this.#parts.length !== 0) this.#breakOff(this.#partsAt, 'its group has no end');
      this.#partsAt = position;
      this.#isSkipping = false;
    } else if (this.#parts.length === 0) {
      this.#noBeginning(position);
      return;
    }
    this.#parts.push(bytes.subarray(F.BATCH_HEADER_BYTES));
    if (!header.isLast) return;
    const [first] = this.#parts as [Uint8Array];
    const whole = this.#parts.length === 1 ? first : new Uint8Array(Buffer.concat(this.#parts));
    this.#parts = [];
    this.#group(whole);
  }

  /** All batches have been given. */
  end(): void {
    if (this.#parts.length !== 0) this.#breakOff(this.#partsAt, 'its group has no end');
    if (this.#broken !== undefined) this.#sink.unfinished(this.#broken.position, this.#broken.what);
    this.#broken = undefined;
  }

  /** The batch at that place is of no use, and its group with it. */
  fault(position: number, kind: 'damaged' | 'version', what: string): void {
    this.#parts = [];
    this.#hasBegun = true;
    this.#isSkipping = true;
    this.#sink.fault(position, kind, what);
  }

  #breakOff(position: number, what: string): void {
    this.#parts = [];
    if (this.#broken !== undefined) this.#sink.unfinished(this.#broken.position, this.#broken.what);
    this.#broken = { position, what };
  }

  #noBeginning(position: number): void {
    const broken = this.#broken;
    this.#broken = undefined;
    if (broken !== undefined) this.fault(broken.position, 'damaged', broken.what);
    else if (this.#hasBegun && !this.#isSkipping) this.fault(position, 'damaged', 'its group has no beginning');
  }

  #group(bytes: Uint8Array): void {
    const broken = this.#broken;
    this.#broken = undefined;
    this.#hasBegun = true;
    if (broken !== undefined) {
      if (isOpening(bytes)) this.#sink.unfinished(broken.position, broken.what);
      else this.#sink.fault(broken.position, 'damaged', broken.what);
    }
    this.#sink.group(this.#partsAt, bytes);
  }
}

/** Whether it is the first group of an engine. */
function isOpening(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return recordsFault(view) === undefined && recordsOf(view).some((at) => bytes[at + F.R_KIND] === F.KIND_OPENED);
}

/** Where the records of a group begin. Its lengths must be right. */
export function recordsOf(view: DataView): number[] {
  const found: number[] = [];
  for (let at = 0; at < view.byteLength; at += view.getUint32(at + F.R_BYTES, true)) found.push(at);
  return found;
}

/** What is wrong with the lengths of its records, if anything. */
export function recordsFault(view: DataView): string | undefined {
  for (let at = 0; at < view.byteLength; ) {
    const bytes = view.byteLength - at < F.RECORD_HEADER_BYTES ? 0 : view.getUint32(at + F.R_BYTES, true);
    if (bytes < F.RECORD_HEADER_BYTES || at + bytes > view.byteLength)
      return `the record at byte ${at} has a length of ${bytes}`;
    at += bytes;
  }
  return undefined;
}
