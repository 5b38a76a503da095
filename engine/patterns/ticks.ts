/** When a cron is due: of a schedule on the walls of a time zone, or every so many milliseconds. */
import type { CronSpec } from '../../client/connection.js';
import { type Expression, expressionOf } from './expression.js';
import { SHIFT_MS, type Zone, zoneOf } from './zones.js';

/** How far back the search for the last ticks before a moment begins; then four times as far, and so on. */
const LOOK_BACK_MS = 60_000;

/** @throws ValidationError for a schedule that can't be read, or a zone that isn't known. */
export function ticksOf(spec: CronSpec): Ticks {
  const { startDate, endDate } = spec;
  if (spec.every !== undefined) return new Ticks(new Multiples(spec.every, startDate ?? 0), startDate, endDate);
  const schedule = new Schedule(expressionOf(spec.schedule as string, spec.name), zoneOf(spec.tz as string));
  return new Ticks(schedule, startDate, endDate);
}

interface Rule {
  /** The first tick after that moment. */
  after(moment: number): number | undefined;
}

class Multiples implements Rule {
  readonly #every: number;
  readonly #origin: number;

  constructor(every: number, origin: number) {
    this.#every = every;
    this.#origin = origin;
  }

  after(moment: number): number {
    return this.#origin + (Math.floor((moment - this.#origin) / this.#every) + 1) * this.#every;
  }
}

/**
 * A schedule in a zone whose clocks are put forward and back. A time that they pass over is due as much later as they were put forward; one
 * that they show twice is due at the first, and with every hour named at both.
 */
class Schedule implements Rule {
  readonly #expression: Expression;
  readonly #zone: Zone;

  constructor(expression: Expression, zone: Zone) {
    this.#expression = expression;
    this.#zone = zone;
  }

  after(moment: number): number | undefined {
    const zone = this.#zone;
    const here = zone.offset(moment);
    let best = this.#from(moment, here);
    // Around a change two offsets have ticks to come: each is searched on its own wall.
    for (const other of [zone.offset(moment - SHIFT_MS), zone.offset(moment + SHIFT_MS)]) {
      if (other === here) continue;
      const found = this.#from(moment, other);
      if (found !== undefined && (best === undefined || found < best)) best = found;
    }
    return best;
  }

  /** The first tick after the moment that the walls of that offset have still to show; what lies before it is another offset's to find. */
  #from(moment: number, offset: number): number | undefined {
    let passedOver: number | undefined;
    for (let wall = moment + offset; ; ) {
      const next = this.#expression.next(wall);
      if (next === undefined) return passedOver;
      wall = next;
      const { first, second, exists } = this.#zone.moments(wall);
      if (exists) {
        const found = first > moment ? first : this.#expression.isHourly ? second : undefined;
        const isLater = found !== undefined && found > moment;
        return isLater && (passedOver === undefined || found < passedOver) ? found : passedOver;
      }
      // Times behind those that were passed over fall into the same hour: the nearest one comes first.
      if (first > moment) passedOver ??= first;
    }
  }
}

export class Ticks {
  readonly #rule: Rule;
  readonly #start: number;
  readonly #end: number;

  constructor(rule: Rule, start: number | undefined, end: number | undefined) {
    this.#rule = rule;
    this.#start = start ?? Number.NEGATIVE_INFINITY;
    this.#end = end ?? Number.POSITIVE_INFINITY;
  }

  /** The first tick after that moment, from the start date to the end date. */
  after(moment: number): number | undefined {
    const found = this.#rule.after(Math.max(moment, this.#start - 1));
    return found === undefined || found > this.#end ? undefined : found;
  }

  /** The last ticks from `first`, which is one, to `now`, at most `count` of them, in order; and whether there were more. */
  last(first: number, now: number, count: number): { readonly ticks: number[]; readonly isAll: boolean } {
    for (let back = LOOK_BACK_MS; ; back *= 4) {
      const from = Math.max(first - 1, now - back);
      const ticks: number[] = [];
      for (let tick = this.after(from); tick !== undefined && tick <= now; tick = this.after(tick)) ticks.push(tick);
      const isWhole = from === first - 1;
      if (isWhole || ticks.length > count)
        return { ticks: ticks.slice(-count), isAll: isWhole && ticks.length <= count };
    }
  }
}
