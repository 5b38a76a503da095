/**
 * Time zones: how far the clocks on the wall are from UTC, and which moments a time on the wall stands for. The data is Node's own (ICU).
 *
 * A *wall time* is a number like a moment: the milliseconds since the epoch of a UTC clock that shows the same.
 */
import { ValidationError } from '../../client/errors.js';

/** Every change of a zone's offset since 1972 happens at a full quarter of an hour of UTC. */
const QUARTER_MS = 900_000;
/** Longer than what any clock was ever put forward or back by at once, but for changes of the date line. */
export const SHIFT_MS = 6 * 3_600_000;
const DAY_MS = 86_400_000;
/** Quarters of an hour whose offset is kept, for each zone. */
const KEPT = 64;

export class Zone {
  readonly name: string;
  readonly #format: Intl.DateTimeFormat | undefined;
  readonly #offsets = new Map<number, number>();

  constructor(name: string) {
    this.name = name;
    this.#format =
      name === 'UTC'
        ? undefined
        : new Intl.DateTimeFormat('en-US', {
            timeZone: name,
            hourCycle: 'h23',
            year: 'numeric',
            month: 'numeric',
            day: 'numeric',
            hour: 'numeric',
            minute: 'numeric',
            second: 'numeric',
          });
  }

  /** Milliseconds to add to a moment for the time on the wall. */
  offset(moment: number): number {
    if (this.#format === undefined) return 0;
    const quarter = Math.floor(moment / QUARTER_MS);
    const known = this.#offsets.get(quarter);
    if (known !== undefined) return known;
    if (this.#offsets.size >= KEPT) this.#offsets.clear();
    const offset = this.#wall(quarter * QUARTER_MS) - quarter * QUARTER_MS;
    this.#offsets.set(quarter, offset);
    return offset;
  }

  #wall(moment: number): number {
    const parts: Record<string, number> = {};
    for (const { type, value } of (this.#format as Intl.DateTimeFormat).formatToParts(moment))
      parts[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
    return Date.UTC(year, month - 1, day, hour, minute, second);
  }

  /**
   * The moments at which the walls show that time: one; two, the earlier one first, when the clocks are put back over it; or none, when
   * they are put forward over it: then the moment by the offset from before, at which they show as much later as they were put forward.
   */
  moments(wall: number): { readonly first: number; readonly second?: number; readonly exists: boolean } {
    const before = this.offset(wall - DAY_MS);
    const after = this.offset(wall + DAY_MS);
    const early = wall - Math.max(before, after);
    const late = wall - Math.min(before, after);
    if (early === late) return { first: early, exists: true };
    const isEarly = this.offset(early) === wall - early;
    const isLate = this.offset(late) === wall - late;
    if (isEarly && isLate) return { first: early, second: late, exists: true };
    if (isEarly) return { first: early, exists: true };
    return { first: late, exists: isLate };
  }
}

const zones = new Map<string, Zone>();

/** @throws ValidationError for a name that Node doesn't know. */
export function zoneOf(name: string): Zone {
  const known = zones.get(name);
  if (known !== undefined) return known;
  let zone: Zone;
  try {
    zone = new Zone(name);
  } catch (cause) {
    throw new ValidationError(
      `opts.tz must be the name of a time zone, such as 'UTC' or 'Europe/Berlin', but is ${JSON.stringify(name)}`,
      { path: 'opts.tz', cause },
    );
  }
  zones.set(name, zone);
  return zone;
}
