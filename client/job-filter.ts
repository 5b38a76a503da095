/** Which jobs of a queue: what `getDlq`, `retryDlq`, `purgeDlq` and `getJobs` take as `filter`, checked once. */
import { checkObject, checkOneOf, checkOptionNames, DURATION_MAX_MS, type KnownNames, refuse } from './checks.js';
import type { DlqReason } from './connection.js';

/** A job must match every member that is given. A job counts in the dead letter queue by when it came there, else by its `timestamp`. */
export interface JobFilter {
  /** The name that was given to `add`. */
  readonly name?: string | undefined;
  /** Why it is in the dead letter queue; no other job has a reason. */
  readonly reason?: DlqReason | undefined;
  /** One of its `tags`. */
  readonly tag?: string | undefined;
  /** At this moment or later; milliseconds since the epoch, or a Date. */
  readonly since?: number | Date | undefined;
  /** Before this moment. */
  readonly until?: number | Date | undefined;
}

/** The form in which the connection takes it: only members that were given. */
export interface CheckedFilter {
  readonly name?: string;
  readonly reason?: DlqReason;
  readonly tag?: string;
  readonly since?: number;
  readonly until?: number;
}

export const DLQ_REASONS: readonly DlqReason[] = [
  'attempts_exhausted',
  'unrecoverable',
  'timeout',
  'worker_lost',
  'expired',
  'dependency_failed',
  'result_unserialisable',
  'moved',
];

const NAMES: KnownNames = {
  known: ['name', 'reason', 'tag', 'since', 'until'],
  elsewhere: {
    tags: 'one tag at a time: it is called tag here.',
    queue: 'a filter is for one queue.',
    id: 'name the jobs instead of a filter.',
    state: 'states are an option of getJobs beside the filter.',
  },
};

function checkTime(value: unknown, path: string): number {
  const time = value instanceof Date ? value.getTime() : value;
  if (typeof time !== 'number' || !(time >= 0 && time <= DURATION_MAX_MS))
    refuse(path, 'be milliseconds since the epoch, or a valid Date', value);
  return time;
}

function checkName(value: unknown, path: string): string {
  if (typeof value !== 'string' || value === '') refuse(path, 'be a string that is not empty', value);
  return value;
}

/** `strict`: an undefined member, or no member at all, is refused, so that a mistake doesn't choose everything. */
export function checkFilter(value: unknown, path: string, strict: boolean): CheckedFilter {
  const given = checkObject(value, path);
  checkOptionNames(given, path, NAMES);
  if (strict) {
    const names = Object.keys(given);
    if (names.length === 0)
      refuse(path, "name at least one of name, reason, tag, since, until; for all say 'all'", value);
    for (const name of names) if (given[name] === undefined) refuse(`${path}.${name}`, 'have a value', undefined);
  }
  const { name, reason, tag, since, until } = given;
  return {
    ...(name === undefined ? {} : { name: checkName(name, `${path}.name`) }),
    ...(reason === undefined ? {} : { reason: checkOneOf(reason, `${path}.reason`, DLQ_REASONS) }),
    ...(tag === undefined ? {} : { tag: checkName(tag, `${path}.tag`) }),
    ...(since === undefined ? {} : { since: checkTime(since, `${path}.since`) }),
    ...(until === undefined ? {} : { until: checkTime(until, `${path}.until`) }),
  };
}
