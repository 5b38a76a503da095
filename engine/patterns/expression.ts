/**
 * Cron expressions: cron-parser reads them, and what it read is searched here, on the wall. Its own search walks with Luxon's dates: 30 to
 * 100 µs a tick, where this takes one (docs/decisions/0009-cron.md has the figures); in UTC both find the same, which is a test.
 */
import { CronExpressionParser, type CronFieldCollection } from 'cron-parser';
import { ValidationError } from '../../client/errors.js';

const DAY_MS = 86_400_000;
/** Days in which there is one at least: a 29 February that is the fifth Monday comes every 28 years, and after 40 around 2100. */
const SEARCH_DAYS = 366 * 100;
const FIELDS_MIN = 5;
const FIELDS_MAX = 6;
const HOURS = 24;
/** Expressions that are kept parsed: the same few serve many crons. */
const KEPT = 10_000;

export class Expression {
  /** Every hour: then those that the clocks show twice count twice. */
  readonly isHourly: boolean;
  readonly #seconds: readonly number[];
  readonly #minutes: readonly number[];
  readonly #hours: readonly number[];
  readonly #months: ReadonlySet<number>;
  readonly #days: CronFieldCollection['dayOfMonth'];
  readonly #weekdays: CronFieldCollection['dayOfWeek'];
  /** Days of the month; days of the week from Sunday = 0; and those of them that are meant as the last of the month. */
  readonly #daySet: ReadonlySet<number>;
  readonly #weekdaySet: ReadonlySet<number>;
  readonly #lastWeekdays: ReadonlySet<number>;

  constructor(fields: CronFieldCollection) {
    this.#seconds = [...fields.second.values];
    this.#minutes = [...fields.minute.values];
    this.#hours = [...fields.hour.values];
    this.#months = new Set<number>(fields.month.values);
    this.#days = fields.dayOfMonth;
    this.#weekdays = fields.dayOfWeek;
    this.#daySet = new Set(numbersOf(fields.dayOfMonth.values));
    this.#weekdaySet = new Set(numbersOf(fields.dayOfWeek.values).map((day) => day % 7));
    this.#lastWeekdays = new Set(fields.dayOfWeek.values.map((day) => Number.parseInt(String(day), 10) % 7));
    this.isHourly = this.#hours.length === HOURS;
  }

  /** The first time on the wall after that one which the expression names; undefined when there is none in a hundred years. */
  next(wall: number): number | undefined {
    const from = (Math.floor(wall / 1000) + 1) * 1000;
    let day = Math.floor(from / DAY_MS) * DAY_MS;
    const inDay = this.#timeFrom(from - day);
    if (inDay !== undefined && this.#isDay(new Date(day))) return day + inDay;
    for (let count = 0; count < SEARCH_DAYS; count++) {
      day += DAY_MS;
      const date = new Date(day);
      if (!this.#months.has(date.getUTCMonth() + 1)) {
        day = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0);
        count += 27; // at least
      } else if (this.#isDay(date)) return day + (this.#timeFrom(0) as number);
    }
    return undefined;
  }

  /** The first time of day, in milliseconds, from that one on. */
  #timeFrom(ms: number): number | undefined {
    const second = ms / 1000;
    const h = Math.floor(second / 3600);
    const m = Math.floor(second / 60) % 60;
    const s = second % 60;
    for (const hour of this.#hours) {
      if (hour < h) continue;
      for (const minute of this.#minutes) {
        if (hour === h && minute < m) continue;
        const isNow = hour === h && minute === m;
        const found = isNow ? this.#seconds.find((one) => one >= s) : this.#seconds[0];
        if (found !== undefined) return ((hour * 60 + minute) * 60 + found) * 1000;
      }
    }
    return undefined;
  }

  /** Days of month and week: when both are limited either will do, as cron has always had it. */
  #isDay(date: Date): boolean {
    if (!this.#months.has(date.getUTCMonth() + 1)) return false;
    const isAnyDay = this.#days.isWildcard;
    const isAnyWeekday = this.#weekdays.isWildcard;
    if (isAnyDay && isAnyWeekday) return true;
    if (!isAnyDay && this.#isDayOfMonth(date)) return true;
    return !isAnyWeekday && this.#isDayOfWeek(date);
  }

  #isDayOfMonth(date: Date): boolean {
    return this.#daySet.has(date.getUTCDate()) || (this.#days.hasLastChar && date.getUTCDate() === lastDay(date));
  }

  #isDayOfWeek(date: Date): boolean {
    const weekday = date.getUTCDay();
    const { nthDay, hasLastChar } = this.#weekdays;
    if (this.#weekdaySet.has(weekday) && (nthDay <= 0 || Math.ceil(date.getUTCDate() / 7) === nthDay)) return true;
    return hasLastChar && this.#lastWeekdays.has(weekday) && date.getUTCDate() > lastDay(date) - 7;
  }
}

function lastDay(date: Date): number {
  return new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
}

function numbersOf(values: readonly (number | string)[]): number[] {
  return values.filter((value) => typeof value === 'number');
}

const kept = new Map<string, Expression>();

/**
 * @param seed What `H` (some minute, the same for ever) is drawn from.
 * @throws ValidationError
 */
export function expressionOf(text: string, seed: string): Expression {
  const key = text.includes('H') ? `${text}\n${seed}` : text;
  const known = kept.get(key);
  if (known !== undefined) return known;
  const count = text.trim().split(/\s+/).length;
  // cron-parser takes what is missing at the front as *, so that '5' would mean every minute of Fridays.
  if (!text.startsWith('@') && (count < FIELDS_MIN || count > FIELDS_MAX)) refuse(text, `it has ${count} fields`);
  let expression: Expression;
  try {
    expression = new Expression(CronExpressionParser.parse(text, { tz: 'UTC', hashSeed: seed }).fields);
  } catch (cause) {
    refuse(text, (cause as Error).message, cause);
  }
  if (expression.next(0) === undefined) refuse(text, 'there is no such day');
  if (kept.size >= KEPT) kept.clear();
  kept.set(key, expression);
  return expression;
}

function refuse(text: string, why: string, cause?: unknown): never {
  throw new ValidationError(
    `opts.schedule must be five fields (minute, hour, day of the month, month, day of the week), or six with the second first, but is ${JSON.stringify(text)}: ${why}`,
    { path: 'opts.schedule', cause },
  );
}
