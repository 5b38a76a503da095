/**
 * Keeps the log short. Most of it goes by itself: what is oldest is forgotten as soon as nobody needs it. What keeps that from happening
 * is a few old records in front of much that is superseded; then the jobs whose records lie in the older half are written anew at the
 * end, a few at a time. That is a change like any other: ordered with the others, and forgotten is only what it has superseded.
 */
import * as F from './format.js';
import type { Journal } from './journal.js';
import { type Page, slotAt } from './slot-table.js';

export interface CleaningLimits {
  /** The log may be half as long again as what is needed of it, and this much. With what is being rewritten: 2.5 times and 64 MB. */
  readonly slack: number;
  readonly slackBytes: number;
  /** Rewritten in one group. */
  readonly stepBytes: number;
  /** Slots looked at in one step: some 50 µs. */
  readonly stepSlots: number;
  /** The log is told to forget when that many groups can go, or that many bytes. */
  readonly forgetGroups: number;
  readonly forgetBytes: number;
}

const LIMITS: CleaningLimits = {
  slack: 1.5,
  slackBytes: 32 << 20,
  stepBytes: 256 * 1024,
  stepSlots: 50_000,
  forgetGroups: 64,
  forgetBytes: 4 << 20,
};

/** What it needs of a journal. */
export type Cleanable = Pick<Journal, 'ledger' | 'table' | 'renewOthers' | 'touch' | 'forget' | 'changesGroup'>;

export class Cleaner {
  /** Tests clean shorter logs. */
  limits: CleaningLimits;
  readonly #journal: Cleanable;
  /** What lies before that group is being rewritten; 0 = nothing. */
  #target = 0;
  #page = 0;
  #index = 0;
  /** Groups before this one can go once the group `#goesWith` is durable: a newer group may have superseded what lies in them. */
  #goesBefore = 0;
  #goesWith = 0;
  #position = 0;
  #forgotten = 0;
  /** Of groups that have been dropped, and not been forgotten by the log. */
  #bytes = 0;
  #isStopped = false;

  constructor(journal: Cleanable, limits: CleaningLimits = LIMITS) {
    this.#journal = journal;
    this.limits = limits;
  }

  /** After a commit: forgets what can go, and does the next step of a cleaning, if there is one. */
  step(durable: number): void {
    const { ledger } = this.#journal;
    if (this.#isStopped) return;
    const { slack, slackBytes } = this.limits;
    this.#drop(durable);
    if (this.#position !== 0 && this.#mayForget()) this.#forget();
    if (this.#target === 0) {
      if (ledger.bytes <= ledger.liveBytes * slack + slackBytes) return;
      this.#target = ledger.middle();
      this.#page = 0;
      this.#index = 0;
      this.#journal.renewOthers(this.#target);
    }
    this.#sweep();
  }

  /** What nobody needs goes when that nobody needs it is durable. */
  #drop(durable: number): void {
    const { ledger, changesGroup } = this.#journal;
    if (this.#goesBefore === 0) {
      const needed = ledger.oldestNeeded(durable);
      if (needed === ledger.oldest) return;
      this.#goesBefore = needed;
      this.#goesWith = changesGroup;
    }
    if (this.#goesWith > durable) return;
    const before = ledger.bytes;
    this.#position = ledger.drop(this.#goesBefore);
    this.#bytes += before - ledger.bytes;
    this.#goesBefore = 0;
  }

  #mayForget(): boolean {
    const { forgetGroups, forgetBytes } = this.limits;
    return this.#journal.ledger.oldest - this.#forgotten >= forgetGroups || this.#bytes >= forgetBytes;
  }

  #forget(): void {
    this.#bytes = 0;
    this.#journal.forget(this.#position);
    this.#forgotten = this.#journal.ledger.oldest;
    this.#position = 0;
  }

  /** Marks the next few jobs whose records are old. */
  #sweep(): void {
    const { pages } = this.#journal.table;
    const { stepBytes, stepSlots } = this.limits;
    let bytes = 0;
    for (let seen = 0; seen < stepSlots && bytes < stepBytes; seen++) {
      const page = pages[this.#page];
      if (page === undefined || this.#index === page.base.length) {
        if (this.#page >= pages.length) {
          this.#target = 0; // the next commit forgets what this one has superseded
          return;
        }
        this.#page++;
        this.#index = 0;
        continue;
      }
      bytes += this.#renew(page, this.#index++);
    }
    // Something must be committed for the next step to come.
    if (bytes === 0) setImmediate(() => this.#target !== 0 && this.#sweep());
  }

  #renew(page: Page, index: number): number {
    const base = page.base[index] as number;
    if (base === 0 || (base >= this.#target && (page.last[index] as number) >= this.#target)) return 0;
    this.#journal.touch(slotAt(this.#page, index), F.PART_PAYLOAD);
    return (page.baseBytes[index] as number) + (page.deltaBytes[index] as number);
  }

  stop(): void {
    this.#isStopped = true;
    this.#target = 0;
  }
}
