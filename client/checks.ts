/**
 * What the public calls have in common when they judge what they were given. Every failure is a `ValidationError` that says what
 * was wrong, with which value, and what to do.
 */
import { ValidationError } from './errors.js';

/** Durations up to 317 years: with any date of today still an exact number, and within what `Date` can show. */
export const DURATION_MAX_MS = 1e13;
export const INT32_MAX = 0x7fffffff;
export const QUEUE_NAME_CHARS_MAX = 256;
export const JOB_NAME_BYTES_MAX = 1024;
export const JOB_ID_BYTES_MAX = 512;

const QUEUE_NAME = /^[A-Za-z0-9._:-]{1,256}$/;
const LONE_SURROGATE = /\p{Surrogate}/u;
const VALUE_CHARS_MAX = 80;
/** UTF-8 needs at most three bytes for each UTF-16 unit. */
const UTF8_BYTES_PER_UNIT_MAX = 3;
const utf8 = new TextEncoder();

/** A value as an error message shows it: short, and never throwing. */
export function shown(value: unknown): string {
  if (typeof value === 'function') return value.name === '' ? 'a function' : `the function ${value.name}`;
  if (typeof value === 'symbol' || typeof value === 'undefined' || typeof value === 'number') return String(value);
  if (typeof value === 'bigint') return `${value}n`;
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    text = undefined;
  }
  text ??= Object.prototype.toString.call(value);
  return text.length <= VALUE_CHARS_MAX ? text : `${text.slice(0, VALUE_CHARS_MAX - 1)}…`;
}

/** Refuses `value` under its name. `rule` continues the sentence "<path> must …". */
export function refuse(path: string, rule: string, value: unknown): never {
  throw new ValidationError(`${path} must ${rule}, but is ${shown(value)}`, { path });
}

export function checkInteger(value: unknown, path: string, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    refuse(path, `be a whole number from ${min} to ${max}`, value);
  }
  return value + 0; // -0 becomes 0
}

/** Milliseconds, fractions permitted (they are rounded up, so that nothing is early). */
export function checkDuration(value: unknown, path: string): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= DURATION_MAX_MS)) {
    refuse(path, `be a number of milliseconds from 0 to ${DURATION_MAX_MS}`, value);
  }
  return Math.ceil(value) + 0;
}

export function checkNumber(value: unknown, path: string, min: number, max: number): number {
  if (typeof value !== 'number' || !(value >= min && value <= max))
    refuse(path, `be a number from ${min} to ${max}`, value);
  return value;
}

export function checkBoolean(value: unknown, path: string): boolean {
  if (typeof value !== 'boolean') refuse(path, 'be true or false', value);
  return value;
}

export function checkFunction<T extends (...args: never[]) => unknown>(value: unknown, path: string): T {
  if (typeof value !== 'function') refuse(path, 'be a function', value);
  return value as T;
}

export function checkOneOf<T extends string>(value: unknown, path: string, allowed: readonly T[]): T {
  if (typeof value === 'string' && (allowed as readonly string[]).includes(value)) return value as T;
  const guess = typeof value === 'string' ? nearest(value, allowed) : undefined;
  const hint = guess === undefined ? '' : ` (did you mean '${guess}'?)`;
  return refuse(path, `be one of ${allowed.map((one) => `'${one}'`).join(', ')}${hint}`, value);
}

export function checkObject(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(path, 'be an object', value);
  return value as Record<string, unknown>;
}

/**
 * 1 to 256 of the characters A-Z a-z 0-9 . _ : -
 *
 * @throws ValidationError naming the first character that isn't one of them.
 */
export function checkQueueName(name: unknown): string {
  if (typeof name === 'string' && QUEUE_NAME.test(name)) return name;
  const odd = typeof name === 'string' ? name.match(/[^A-Za-z0-9._:-]/u)?.[0] : undefined;
  const hint = odd === undefined ? '' : ` (it contains ${JSON.stringify(odd)})`;
  return refuse(
    'The name of a queue',
    `be 1 to ${QUEUE_NAME_CHARS_MAX} of the characters A-Z a-z 0-9 . _ : -${hint}`,
    name,
  );
}

/** Text that fits and can be told apart from other text once it is UTF-8 (lone surrogates all become the same character). */
export function checkText(value: unknown, path: string, bytesMax: number): string {
  if (typeof value !== 'string' || value.length === 0) refuse(path, 'be a string that is not empty', value);
  if (value.length * UTF8_BYTES_PER_UNIT_MAX > bytesMax) {
    const bytes = utf8.encode(value).length;
    if (bytes > bytesMax) refuse(path, `be at most ${bytesMax} bytes of UTF-8 (it has ${bytes})`, value);
  }
  if (LONE_SURROGATE.test(value)) refuse(path, 'be well-formed Unicode (it holds half a surrogate pair)', value);
  return value;
}

let lastJobName = '';

/** A job's name: 1 to 1,024 bytes. */
export function checkJobName(name: unknown): string {
  if (name === lastJobName && name !== '') return lastJobName; // the same few names come again and again
  lastJobName = checkText(name, 'The name of a job', JOB_NAME_BYTES_MAX);
  return lastJobName;
}

/** A custom id: 1 to 512 bytes; `cron:` is the prefix of ids that the scheduler makes. */
export function checkJobId(id: unknown, path = 'opts.jobId'): string {
  if (typeof id === 'number') refuse(path, 'be a string: use String(id)', id);
  const text = checkText(id, path, JOB_ID_BYTES_MAX);
  if (text.startsWith('cron:')) refuse(path, "not start with 'cron:', the prefix of ids made by the scheduler", id);
  return text;
}

/** Insertions, deletions, exchanges and swaps of neighbours between two words. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, before[j - 2]! + 1);
      next.push(best);
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
}

/** The known name that a person most likely meant, or undefined when none is near. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  const word = name.toLowerCase();
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const one of known) {
    const d = distance(word, one.toLowerCase());
    if (d < bestDistance) {
      best = one;
      bestDistance = d;
    }
  }
  return best;
}

/** What may stand in an options object, and what to say about names that other libraries use. */
export interface KnownNames {
  readonly known: readonly string[];
  /** A name we know but call otherwise, or don't have: the sentence that helps. */
  readonly elsewhere?: Readonly<Record<string, string>>;
  /** Names of later versions. */
  readonly later?: readonly string[];
}

/** Refuses the unknown option `name` of `path` (such as `opts` or `opts.backoff`). */
export function refuseOption(path: string, name: string, names: KnownNames): never {
  const place = `${path}.${name}`;
  if (names.later?.includes(name)) {
    throw new ValidationError(`${place} is not supported yet in this version of flashQ. Leave it out.`, {
      path: place,
    });
  }
  const hint =
    names.elsewhere !== undefined && Object.hasOwn(names.elsewhere, name) ? names.elsewhere[name] : undefined;
  if (hint !== undefined) throw new ValidationError(`${place} is not an option of flashQ: ${hint}`, { path: place });
  const guess = nearest(name, names.known);
  const help = guess === undefined ? `Known are: ${names.known.join(', ')}.` : `Did you mean '${guess}'?`;
  throw new ValidationError(`${place} is not a known option. ${help}`, { path: place });
}

/** Refuses every name of `options` that isn't known. Members that are `undefined` count as absent, but their names must be known. */
export function checkOptionNames(options: Record<string, unknown>, path: string, names: KnownNames): void {
  for (const name of Object.keys(options)) {
    if (!names.known.includes(name)) refuseOption(path, name, names);
  }
}
