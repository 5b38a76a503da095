/** The cleaner over a journal of the test's own: what it asks for, and when. */
import { describe, expect, test } from 'vitest';
import { type Cleanable, Cleaner, type CleaningLimits } from '#engine/store/cleaner.js';
import { PART_PAYLOAD } from '#engine/store/format.js';
import { Ledger } from '#engine/store/ledger.js';
import { SlotTable, slotAt } from '#engine/store/slot-table.js';

const LIMITS: CleaningLimits = {
  slack: 1.5,
  slackBytes: 0,
  stepBytes: 200,
  stepSlots: 50_000,
  forgetGroups: 3,
  forgetBytes: 1 << 20,
};

/** Every job has a base of 100 bytes, in the group of its own number; group n begins at 10 n. */
class Log {
  readonly ledger = new Ledger();
  readonly table = new SlotTable();
  readonly touched: number[] = [];
  readonly forgotten: number[] = [];
  readonly renewed: number[] = [];
  changesGroup = 0;
  readonly cleaner: Cleaner;

  constructor(limits: CleaningLimits = LIMITS) {
    const self = this as unknown as Cleanable;
    this.cleaner = new Cleaner(self, limits);
  }

  readonly renewOthers = (before: number): void => void this.renewed.push(before);

  touch(slot: number, parts: number): void {
    expect(parts).toBe(PART_PAYLOAD);
    this.touched.push(slot);
  }

  forget(position: number): void {
    this.forgotten.push(position);
  }

  /** A group of a job, or of nothing that is needed. */
  add(job?: number): void {
    const number = this.ledger.newest + 1;
    this.ledger.add(number, number * 10, 100);
    this.changesGroup = number;
    if (job === undefined) return;
    const page = this.table.page(slotAt(0, job));
    page.base[job] = number;
    page.last[job] = number;
    page.baseBytes[job] = 100;
    this.ledger.hold(number);
    this.ledger.hold(number);
    this.ledger.liveBytes += 100;
  }

  step(): void {
    this.cleaner.step(this.ledger.newest);
  }
}

describe('forgetting', () => {
  test('is told for some groups at once, as far as nothing is needed', () => {
    const log = new Log({ ...LIMITS, slackBytes: 1e9 });
    for (let n = 0; n < 2; n++) {
      log.add();
      log.step();
    }
    expect(log.forgotten).toEqual([]);
    log.add(1);
    log.step();
    expect(log.forgotten).toEqual([30]);
    for (let n = 0; n < 9; n++) log.add();
    log.step();
    expect(log.forgotten).toEqual([30]); // the job is needed
    expect(log.touched).toEqual([]);
  });

  test('waits for the group that superseded what goes', () => {
    const log = new Log({ ...LIMITS, slackBytes: 1e9 });
    log.add(1);
    for (let n = 0; n < 5; n++) log.add();
    log.ledger.release(1);
    log.ledger.release(1);
    log.changesGroup = 7; // by a change that is still to be written
    log.step();
    expect(log.forgotten).toEqual([]);
    log.add(1);
    log.step();
    expect(log.forgotten).toEqual([60]);
  });
});

describe('rewriting', () => {
  test('begins when the log is longer than it may be, with the queues, then jobs a few at a time', () => {
    const log = new Log();
    for (let job = 1; job <= 8; job++) log.add(job);
    for (let n = 0; n < 4; n++) log.add();
    log.step();
    expect(log.renewed).toEqual([]); // 1200 bytes, of which 800 are needed
    log.add();
    log.step();
    expect(log.renewed).toEqual([8]); // 650 of 1300 bytes lie before that group
    expect(log.touched).toEqual([1, 2].map((job) => slotAt(0, job)));
    log.step();
    expect(log.touched).toEqual([1, 2, 3, 4].map((job) => slotAt(0, job)));
    log.step();
    log.step();
    expect(log.touched.length).toBe(7); // the eighth lies in the newer half
  });

  test('ends when the journal does', () => {
    const log = new Log();
    for (let job = 1; job <= 8; job++) log.add(job);
    for (let n = 0; n < 9; n++) log.add();
    log.cleaner.stop();
    log.step();
    expect([log.touched, log.forgotten, log.renewed]).toEqual([[], [], []]);
  });
});
