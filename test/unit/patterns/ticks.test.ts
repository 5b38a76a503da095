import { CronExpressionParser } from 'cron-parser';
import fc from 'fast-check';
import { ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { expressionOf } from '#engine/patterns/expression.js';
import { ticksOf } from '#engine/patterns/ticks.js';
import { zoneOf } from '#engine/patterns/zones.js';

type Spec = Parameters<typeof ticksOf>[0];

function spec(rest: object): Spec {
  return {
    name: 'c',
    queue: 'q',
    jobName: 'c',
    data: null,
    missed: 'once',
    missedMax: 100,
    overlap: 'skip',
    immediately: false,
    ...rest,
  };
}

function ticksFrom(rest: object, from: string, count: number): string[] {
  const ticks = ticksOf(spec(rest));
  const found: string[] = [];
  for (let at = ticks.after(Date.parse(from)); at !== undefined && found.length < count; at = ticks.after(at))
    found.push(new Date(at).toISOString().replace('.000Z', 'Z'));
  return found;
}

describe('clocks that are put forward and back', () => {
  /** By hand, from the rules: `from` is the first moment that is looked at, exclusive. */
  const TABLE: readonly [schedule: string, tz: string, from: string, ticks: string[]][] = [
    // Forward: 02:00 becomes 03:00. What doesn't exist is due an hour later, once.
    [
      '30 2 * * *',
      'Europe/Berlin',
      '2025-03-29T00:00:00Z',
      ['2025-03-29T01:30:00Z', '2025-03-30T01:30:00Z', '2025-03-31T00:30:00Z'],
    ],
    ['30 2 * * *', 'America/New_York', '2025-03-08T08:00:00Z', ['2025-03-09T07:30:00Z', '2025-03-10T06:30:00Z']],
    [
      '0,30 2 * * *',
      'America/New_York',
      '2025-03-09T05:00:00Z',
      ['2025-03-09T07:00:00Z', '2025-03-09T07:30:00Z', '2025-03-10T06:00:00Z'],
    ],
    ['15 30 2 * * *', 'Europe/Berlin', '2025-03-29T12:00:00Z', ['2025-03-30T01:30:15Z', '2025-03-31T00:30:15Z']],
    // 02:30 and 03:30 are the same moment then.
    [
      '30 2,3 * * *',
      'America/New_York',
      '2025-03-09T05:00:00Z',
      ['2025-03-09T07:30:00Z', '2025-03-10T06:30:00Z', '2025-03-10T07:30:00Z'],
    ],
    [
      '30 1-3 * * *',
      'America/New_York',
      '2025-03-09T05:00:00Z',
      ['2025-03-09T06:30:00Z', '2025-03-09T07:30:00Z', '2025-03-10T05:30:00Z'],
    ],
    [
      '30 * * * *',
      'America/New_York',
      '2025-03-09T05:45:00Z',
      ['2025-03-09T06:30:00Z', '2025-03-09T07:30:00Z', '2025-03-09T08:30:00Z'],
    ],
    ['30 2 9 3 *', 'America/New_York', '2025-03-01T05:00:00Z', ['2025-03-09T07:30:00Z', '2026-03-09T06:30:00Z']],
    // At midnight.
    ['0 0 * * *', 'America/Santiago', '2025-09-06T12:00:00Z', ['2025-09-07T04:00:00Z', '2025-09-08T03:00:00Z']],
    ['30 0 * * *', 'America/Sao_Paulo', '2018-11-03T12:00:00Z', ['2018-11-04T03:30:00Z', '2018-11-05T02:30:00Z']],
    // Back: 02:00 becomes 01:00. A fixed hour is due at the first, every hour at both.
    ['30 1 * * *', 'America/New_York', '2025-11-01T12:00:00Z', ['2025-11-02T05:30:00Z', '2025-11-03T06:30:00Z']],
    ['30 2 * * *', 'Europe/Berlin', '2025-10-25T12:00:00Z', ['2025-10-26T00:30:00Z', '2025-10-27T01:30:00Z']],
    [
      '*/30 1 * * *',
      'America/New_York',
      '2025-11-02T04:45:00Z',
      ['2025-11-02T05:00:00Z', '2025-11-02T05:30:00Z', '2025-11-03T06:00:00Z'],
    ],
    [
      '30 1-3 * * *',
      'America/New_York',
      '2025-11-02T04:45:00Z',
      ['2025-11-02T05:30:00Z', '2025-11-02T07:30:00Z', '2025-11-02T08:30:00Z'],
    ],
    [
      '30 * * * *',
      'America/New_York',
      '2025-11-02T04:45:00Z',
      ['2025-11-02T05:30:00Z', '2025-11-02T06:30:00Z', '2025-11-02T07:30:00Z'],
    ],
    [
      '*/30 * * * *',
      'America/New_York',
      '2025-11-02T04:45:00Z',
      [
        '2025-11-02T05:00:00Z',
        '2025-11-02T05:30:00Z',
        '2025-11-02T06:00:00Z',
        '2025-11-02T06:30:00Z',
        '2025-11-02T07:00:00Z',
      ],
    ],
    ['30 */1 * * *', 'America/New_York', '2025-11-02T05:45:00Z', ['2025-11-02T06:30:00Z', '2025-11-02T07:30:00Z']],
    // From within the repeated hour, and from within the hour that was skipped.
    ['30 1 * * *', 'America/New_York', '2025-11-02T06:10:00Z', ['2025-11-03T06:30:00Z']],
    ['45 2 * * *', 'America/New_York', '2025-03-09T07:10:00Z', ['2025-03-09T07:45:00Z', '2025-03-10T06:45:00Z']],
    // By half an hour: 02:00 becomes 02:30, and 02:00 becomes 01:30.
    ['15 2 * * *', 'Australia/Lord_Howe', '2025-10-03T16:00:00Z', ['2025-10-04T15:45:00Z', '2025-10-05T15:15:00Z']],
    [
      '*/15 * * * *',
      'Australia/Lord_Howe',
      '2025-10-04T14:50:00Z',
      ['2025-10-04T15:00:00Z', '2025-10-04T15:15:00Z', '2025-10-04T15:30:00Z', '2025-10-04T15:45:00Z'],
    ],
    [
      '10,35 2 * * *',
      'Australia/Lord_Howe',
      '2025-10-04T00:00:00Z',
      ['2025-10-04T15:35:00Z', '2025-10-04T15:40:00Z', '2025-10-05T15:10:00Z'],
    ],
    ['45 1 * * *', 'Australia/Lord_Howe', '2025-04-04T16:00:00Z', ['2025-04-05T14:45:00Z', '2025-04-06T15:15:00Z']],
  ];

  test.each(TABLE)('%s in %s from %s', (schedule, tz, from, ticks) => {
    expect(ticksFrom({ schedule, tz }, from, ticks.length)).toEqual(ticks);
  });

  const HOURLY = ['Europe/Berlin', 'America/New_York', 'America/Santiago', 'Africa/Cairo', 'Australia/Sydney'];

  test('where the clocks change by an hour, cron-parser finds the same', () => {
    const tick = fc.record({
      minute: fc.constantFrom('0', '30', '*/20', '59'),
      hour: fc.constantFrom('*', '0', '1', '2', '3', '1,2', '*/6', '12'),
      day: fc.constantFrom('*', '1', '*/2'),
      tz: fc.constantFrom(...HOURLY),
      from: fc.integer({ min: Date.UTC(2024, 0, 1) / 1000, max: Date.UTC(2027, 0, 1) / 1000 }),
    });
    fc.assert(
      fc.property(tick, ({ minute, hour, day, tz, from }) => {
        const schedule = `${minute} ${hour} ${day} * *`;
        // From the first minute of a day on: started within a change it finds other times than from before.
        const start = Math.floor(from / 86_400) * 86_400_000;
        const theirs = CronExpressionParser.parse(schedule, { tz, currentDate: new Date(start - 86_400_000) });
        let expected = theirs.next().getTime();
        while (expected <= start) expected = theirs.next().getTime();
        expect(ticksOf(spec({ schedule, tz })).after(start)).toBe(expected);
      }),
      { numRuns: 300 },
    );
  });
});

describe('expressions', () => {
  const field = (min: number, max: number) =>
    fc.oneof(
      fc.constant('*'),
      fc.integer({ min, max }).map(String),
      fc.integer({ min: 1, max: 7 }).map((step) => `*/${step}`),
      fc
        .tuple(fc.integer({ min, max }), fc.integer({ min, max }))
        .map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
      fc.uniqueArray(fc.integer({ min, max }), { minLength: 2, maxLength: 4 }).map((list) => list.join(',')),
    );

  test('in UTC what is found is what cron-parser finds', () => {
    const fields = fc.tuple(
      fc.oneof(fc.constant('0'), field(0, 59)),
      field(0, 59),
      field(0, 23),
      fc.oneof(field(1, 28), fc.constant('L')),
      field(1, 12),
      fc.oneof(field(0, 6), fc.constantFrom('5L', '1#2', 'MON', 'TUE-FRI')),
    );
    const moment = fc.integer({ min: Date.UTC(2020, 0, 1), max: Date.UTC(2040, 0, 1) });
    fc.assert(
      fc.property(fields, moment, (parts, from) => {
        const text = parts.join(' ');
        const theirs = CronExpressionParser.parse(text, { tz: 'UTC', currentDate: new Date(from) });
        expect(expressionOf(text, '').next(from)).toBe(theirs.next().getTime());
      }),
      { numRuns: 400 },
    );
  });

  test.each([
    ['@daily', '2025-01-02T00:00:00Z'],
    ['@hourly', '2025-01-01T01:00:00Z'],
    ['0 0 29 2 *', '2028-02-29T00:00:00Z'],
    ['0 0 * 2 1#5', '2044-02-29T00:00:00Z'],
    ['  0   12  *  *  * ', '2025-01-01T12:00:00Z'],
    ['0 0 L 2 *', '2025-02-28T00:00:00Z'],
    ['*/5 * * * * *', '2025-01-01T00:00:05Z'],
  ])('%j comes at %s', (schedule, expected) => {
    expect(ticksFrom({ schedule, tz: 'UTC' }, '2025-01-01T00:00:00Z', 1)).toEqual([expected]);
  });

  test('H is the same minute for the same name', () => {
    const at = (name: string) => expressionOf('H H * * *', name).next(0);
    expect(at('report')).toBe(at('report'));
    expect(new Set(['a', 'b', 'c', 'd', 'e'].map(at)).size).toBeGreaterThan(1);
  });

  test.each([
    '',
    '5',
    '* * * *',
    '* * * * * * *',
    '60 * * * *',
    '0 24 * * *',
    'noon',
    '@noon',
    '0 0 31 2 *',
    '*/0 * * * *',
    '5-1 * * * *',
  ])('%j is refused', (schedule) => {
    const refusal = (() => {
      try {
        ticksOf(spec({ schedule, tz: 'UTC' }));
      } catch (error) {
        return error as ValidationError;
      }
      return undefined;
    })();
    expect(refusal).toBeInstanceOf(ValidationError);
    expect(refusal?.message).toContain(JSON.stringify(schedule));
    expect(refusal?.path).toBe('opts.schedule');
  });

  test('a zone that nobody knows is refused', () => {
    expect(() => zoneOf('Mars/Olympus')).toThrow(/name of a time zone, such as .*Mars\/Olympus/);
  });
});

describe('every', () => {
  test('comes at multiples since the epoch', () => {
    expect(ticksFrom({ every: 7000 }, '1970-01-01T00:00:13Z', 2)).toEqual([
      '1970-01-01T00:00:14Z',
      '1970-01-01T00:00:21Z',
    ]);
    expect(ticksFrom({ every: 7000 }, '1970-01-01T00:00:14Z', 1)).toEqual(['1970-01-01T00:00:21Z']);
  });

  test('or since the start date, which is the first', () => {
    const startDate = Date.parse('2025-01-01T00:00:01Z');
    expect(ticksFrom({ every: 60_000, startDate }, '2024-12-01T00:00:00Z', 2)).toEqual([
      '2025-01-01T00:00:01Z',
      '2025-01-01T00:01:01Z',
    ]);
    expect(ticksFrom({ every: 60_000, startDate }, '2025-01-01T00:10:00Z', 1)).toEqual(['2025-01-01T00:10:01Z']);
  });

  test('and not after the end date, which may be the last', () => {
    const endDate = Date.parse('2025-01-01T00:02:00Z');
    expect(ticksFrom({ every: 60_000, endDate }, '2025-01-01T00:00:00Z', 9)).toEqual([
      '2025-01-01T00:01:00Z',
      '2025-01-01T00:02:00Z',
    ]);
    expect(ticksFrom({ schedule: '* * * * *', tz: 'UTC', endDate }, '2025-01-01T00:00:00Z', 9)).toHaveLength(2);
  });
});

describe('the last ticks before a moment', () => {
  test.each([
    [{ every: 1000 }, 100],
    [{ schedule: '* * * * *', tz: 'UTC' }, 100],
    [{ schedule: '0 9 * * 1', tz: 'Europe/Berlin' }, 3],
    [{ schedule: '0 0 1 1 *', tz: 'UTC' }, 3],
  ])('%j: the same as all of them, counted from behind', (rest, count) => {
    const ticks = ticksOf(spec(rest));
    const now = Date.parse('2025-06-01T12:00:30Z');
    for (const back of [1000, 90_000, 20_000_000, 40_000_000_000]) {
      const first = ticks.after(now - back);
      if (first === undefined || first > now) continue;
      const all: number[] = [];
      for (
        let at: number | undefined = first;
        at !== undefined && at <= now && all.length < 50_000;
        at = ticks.after(at)
      )
        all.push(at);
      if (all.length === 50_000) continue;
      expect(ticks.last(first, now, count)).toEqual({ ticks: all.slice(-count), isAll: all.length <= count });
    }
  });

  test('are found without going through all', () => {
    const ticks = ticksOf(spec({ schedule: '* * * * * *', tz: 'America/New_York' }));
    const now = Date.parse('2025-06-01T12:00:30Z');
    const { ticks: last, isAll } = ticks.last(Date.parse('2015-01-01T00:00:00Z'), now, 3);
    expect(last).toEqual([now - 2000, now - 1000, now]);
    expect(isAll).toBe(false);
  });
});
