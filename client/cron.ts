/** Crons as users describe them (`CronOptions`), and the one form in which the connection takes them. */
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkJobName,
  checkObject,
  checkOneOf,
  checkOptionNames,
  checkQueueName,
  checkText,
  INT32_MAX,
  type KnownNames,
  refuse,
} from './checks.js';
import type { CronSpec } from './connection.js';
import { ValidationError } from './errors.js';
import { type AddOptions, type JobOptions, validateJobOptions } from './options.js';

/** What is made of ticks that passed while nobody could fire them. */
export type MissedPolicy = 'skip' | 'once' | 'all';
/** What becomes of a tick while the job of the one before has not finished. */
export type OverlapPolicy = 'skip' | 'buffer' | 'cancel' | 'allow';

/** A moment: a Date, milliseconds since the epoch, or what `new Date` reads. */
export type DateInput = Date | number | string;

/** The options of the jobs that a cron makes: those of `add`, and their name. */
export interface CronJobOptions extends Omit<AddOptions, 'jobId' | 'onDuplicate' | 'dependsOn' | 'depends_on'> {
  /** The name of the jobs. Default: that of the cron. */
  readonly name?: string | undefined;
}

/** `schedule` or `every`, and what else there is to say. A member that is `undefined` counts as absent. */
export interface CronOptions<Data = any> {
  /** The queue that gets the jobs. Default: the one on which `addCron` was called. */
  readonly queue?: string | undefined;
  /** Five fields (minute, hour, day of the month, month, day of the week), six with the second first, or `@daily` and its like. */
  readonly schedule?: string | undefined;
  /** Milliseconds from one tick to the next; ticks are at multiples since `startDate`, else since the epoch. */
  readonly every?: number | undefined;
  /** The same as `every`. */
  readonly repeat_every?: number | undefined;
  readonly data?: Data | undefined;
  readonly opts?: CronJobOptions | undefined;
  /** The zone of the clocks by which `schedule` goes, such as `Europe/Berlin`. Default UTC. */
  readonly tz?: string | undefined;
  /** No tick before this moment. */
  readonly startDate?: DateInput | undefined;
  /** No tick after this moment. */
  readonly endDate?: DateInput | undefined;
  /** How many jobs it makes in all. No limit by default. */
  readonly limit?: number | undefined;
  /** Ticks that passed while the engine was down, or could not fire: none of them, one job for all, or each. Default `once`. */
  readonly missed?: MissedPolicy | undefined;
  /** With `missed: 'all'`: the newest so many. Default 100, at most 10,000. */
  readonly missedMax?: number | undefined;
  /** While the previous tick's job has not finished: skip the tick, keep one, cancel that job, or run both. Default `skip`. */
  readonly overlap?: OverlapPolicy | undefined;
  /** One job at once when the cron is added, or changed. Default false. */
  readonly immediately?: boolean | undefined;
}

/** With the name and the prefix `cron:` an id has to fit into 512 bytes. */
const NAME_BYTES_MAX = 400;
const MISSED_MAX = 10_000;
const DEFAULTS = { tz: 'UTC', missed: 'once', missedMax: 100, overlap: 'skip' } as const;

const CRON_NAMES: KnownNames = {
  known: [
    'queue',
    'schedule',
    'every',
    'repeat_every',
    'data',
    'opts',
    'tz',
    'startDate',
    'endDate',
    'limit',
    'missed',
    'missedMax',
    'overlap',
    'immediately',
  ],
  elsewhere: {
    pattern: 'it is called schedule here.',
    cron: 'it is called schedule here.',
    expression: 'it is called schedule here.',
    interval: 'it is called every here (milliseconds).',
    timezone: 'it is called tz here.',
    utc: 'UTC is the default. Leave it out.',
    offset: 'ticks of every are at multiples since startDate: move that.',
    immediate: 'it is called immediately here.',
    runOnInit: 'it is called immediately here.',
    start: 'it is called startDate here.',
    end: 'it is called endDate here.',
    count: 'the runs are counted by the engine; to limit them, give a limit.',
    jobId: 'the id of a job is made of the name of the cron and the time of the tick. Leave it out.',
    name: 'the name of a cron is the first argument; that of its jobs is opts.name.',
    template: 'give data and opts.',
  },
};

export function checkCronName(name: unknown): string {
  return checkText(name, 'The name of a cron', NAME_BYTES_MAX);
}

/**
 * @param queueName The queue that gets the jobs unless the options name another.
 * @throws ValidationError. Whether the schedule and the zone can be read is seen by the engine.
 */
export function normaliseCron(name: unknown, queueName: string, given: unknown, defaults?: JobOptions): CronSpec {
  const options = checkObject(given, 'options');
  checkOptionNames(options, 'options', CRON_NAMES);
  const { queue, limit, missed, missedMax, overlap, immediately } = options;
  const spec: CronSpec = {
    name: checkCronName(name),
    queue: queue === undefined ? queueName : checkQueueName(queue),
    ...rhythmOf(options),
    ...jobOf(checkCronName(name), options, defaults),
    ...spanOf(options),
    ...(limit === undefined ? {} : { limit: checkInteger(limit, 'options.limit', 1, INT32_MAX) }),
    missed: missed === undefined ? DEFAULTS.missed : checkOneOf(missed, 'options.missed', ['skip', 'once', 'all']),
    missedMax:
      missedMax === undefined ? DEFAULTS.missedMax : checkInteger(missedMax, 'options.missedMax', 1, MISSED_MAX),
    overlap:
      overlap === undefined
        ? DEFAULTS.overlap
        : checkOneOf(overlap, 'options.overlap', ['skip', 'buffer', 'cancel', 'allow']),
    immediately: immediately === undefined ? false : checkBoolean(immediately, 'options.immediately'),
  };
  if (missedMax !== undefined && spec.missed !== 'all')
    refuse('options.missedMax', "be left out unless missed is 'all'", missedMax);
  return spec;
}

function rhythmOf(options: Record<string, unknown>): Pick<CronSpec, 'schedule' | 'every' | 'tz'> {
  const { schedule, tz } = options;
  if (options.every !== undefined && options.repeat_every !== undefined) {
    throw new ValidationError('options.every and options.repeat_every are the same option: give one of them.', {
      path: 'options.repeat_every',
    });
  }
  const every = options.every ?? options.repeat_every;
  if ((schedule === undefined) === (every === undefined)) {
    const what = schedule === undefined ? 'neither was given' : 'both were given';
    throw new ValidationError(`A cron needs either options.schedule or options.every: ${what}.`, {
      path: 'options.schedule',
    });
  }
  if (schedule !== undefined) {
    if (typeof schedule !== 'string') refuse('options.schedule', 'be a cron expression', schedule);
    if (tz !== undefined && (typeof tz !== 'string' || tz === ''))
      refuse('options.tz', "be the name of a time zone, such as 'Europe/Berlin'", tz);
    return { schedule, tz: tz ?? DEFAULTS.tz };
  }
  if (tz !== undefined)
    refuse('options.tz', 'be left out with every: milliseconds are the same in every time zone', tz);
  const ms = checkDuration(every, 'options.every');
  if (ms === 0) refuse('options.every', 'be at least 1 ms', every);
  return { every: ms };
}

const NOT_OF_CRONS = ['jobId', 'onDuplicate', 'dependsOn', 'depends_on'] as const;

function jobOf(
  cronName: string,
  { data, opts }: Record<string, unknown>,
  defaults: JobOptions | undefined,
): Pick<CronSpec, 'jobName' | 'data' | 'opts'> {
  const { name, ...rest } = opts === undefined ? {} : checkObject(opts, 'options.opts');
  for (const one of NOT_OF_CRONS) {
    if (rest[one] === undefined) continue;
    const why =
      one === 'jobId'
        ? 'the id of a job is made of the name of the cron and the time of the tick'
        : 'each tick makes one new job';
    throw new ValidationError(`options.opts.${one} can't be given to a cron: ${why}. Leave it out.`, {
      path: `options.opts.${one}`,
    });
  }
  const own = validateJobOptions(rest as AddOptions, withoutReferences(defaults));
  return {
    jobName: name === undefined ? cronName : checkJobName(name),
    data,
    ...(own === undefined ? {} : { opts: own }),
  };
}

/** What a Queue has as defaults for all its jobs may name dependencies. */
function withoutReferences(defaults: JobOptions | undefined): JobOptions | undefined {
  if (defaults?.dependsOn === undefined && defaults?.onDuplicate === undefined) return defaults;
  const { dependsOn: _references, onDuplicate: _policy, ...rest } = defaults;
  return rest;
}

function spanOf(options: Record<string, unknown>): Pick<CronSpec, 'startDate' | 'endDate'> {
  const startDate = momentOf(options.startDate, 'options.startDate');
  const endDate = momentOf(options.endDate, 'options.endDate');
  if (startDate !== undefined && endDate !== undefined && endDate < startDate)
    refuse('options.endDate', 'not lie before options.startDate', options.endDate);
  return { ...(startDate === undefined ? {} : { startDate }), ...(endDate === undefined ? {} : { endDate }) };
}

function momentOf(value: unknown, path: string): number | undefined {
  if (value === undefined) return undefined;
  const isDate = value instanceof Date || typeof value === 'number' || typeof value === 'string';
  const moment = isDate ? new Date(value).getTime() : Number.NaN;
  if (!(moment >= 0))
    refuse(path, 'be a Date, milliseconds since the epoch, or a date as text (not before 1970)', value);
  return Math.trunc(moment);
}
