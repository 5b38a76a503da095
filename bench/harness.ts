/**
 * Measures cases against each other in one run. The cases of a group take turns, one repetition each, because the machine's speed
 * drifts by more than the differences of interest; a ratio is the median of the ratios of neighbours in time.
 *
 * Every repetition proves that it did the work: it returns how many jobs it saw end and a hash over what it read back, and both
 * must be what the case said they would be. A wrong one stops the whole run.
 */
import { writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';

export interface Settings {
  /** Tiny sizes, few repetitions: proves that the benchmark still runs, its figures mean nothing. */
  readonly quick: boolean;
  readonly warmups: number;
  readonly repetitions: number;
}

export const FULL: Settings = { quick: false, warmups: 2, repetitions: 7 };
export const QUICK: Settings = { quick: true, warmups: 0, repetitions: 2 };

/** What one repetition found. */
export interface Sample {
  /** In the unit of the case. */
  readonly value: number;
  /** Jobs that were seen to end. */
  readonly count: number;
  /** Over what was read back; see `hashOf`. */
  readonly hash: number;
  /** Further figures of the same repetition, each reported as a row of its own: 'p99' → 41.5. */
  readonly more?: Readonly<Record<string, number>>;
}

export interface Case {
  readonly name: string;
  readonly unit: string;
  readonly expected: { readonly count: number; readonly hash: number };
  once(): Promise<Sample>;
  close?(): Promise<void>;
}

/** A comparison to report: the case (or one of its `more` figures, as `case/p99`) over the base, and what it should reach. */
export interface Ratio {
  readonly of: string;
  readonly to: string;
  readonly label?: string;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** A figure that should reach a value by itself. */
export interface Target {
  readonly of: string;
  readonly atLeast?: number;
  readonly atMost?: number;
}

export interface Group {
  readonly name: string;
  /** Smaller numbers than the run's, for cases that take long. */
  readonly repetitions?: number;
  readonly warmups?: number;
  /** Of a quick run: fewer, for cases whose repetitions have nothing in common. */
  readonly quickRepetitions?: number;
  readonly cases: readonly Case[];
  readonly ratios?: readonly Ratio[];
  readonly targets?: readonly Target[];
}

export interface Part {
  readonly name: string;
  open(settings: Settings): Promise<Group>;
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface Row extends Spread {
  readonly group: string;
  readonly name: string;
  readonly unit: string;
  readonly repetitions: number;
  readonly target?: string;
  readonly reached?: boolean;
}

export function spreadOf(values: readonly number[]): Spread {
  if (values.length === 0) throw new Error('No values to summarise: a case ran no repetition');
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantileOf(sorted, 0.5), min: sorted[0]!, max: sorted[sorted.length - 1]! };
}

/** `sorted` ascending; between two neighbours it interpolates. */
export function quantileOf(sorted: ArrayLike<number>, quantile: number): number {
  if (sorted.length === 0) return Number.NaN;
  const at = (sorted.length - 1) * quantile;
  const low = Math.floor(at);
  const high = Math.ceil(at);
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (at - low);
}

/** A hash that does not depend on the order in which results arrive: each id is scrambled (murmur3's finisher), the rest is a sum. */
export function hashOf(hash: number, id: number): number {
  let mixed = id | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (hash + (mixed ^ (mixed >>> 16))) | 0;
}

/** The hash over the ids `first` to `first + count - 1`, each once. */
export function hashOfIds(count: number, first = 0): number {
  let hash = 0;
  for (let id = first; id < first + count; id++) hash = hashOf(hash, id);
  return hash;
}

export async function runPart(part: Part, settings: Settings, say: (line: string) => void): Promise<Row[]> {
  const group = await part.open(settings);
  const warmups = settings.quick ? settings.warmups : (group.warmups ?? settings.warmups);
  const repetitions = (settings.quick ? group.quickRepetitions : group.repetitions) ?? settings.repetitions;
  const figures = new Map<string, { unit: string; values: number[] }>();
  try {
    for (let turn = -warmups; turn < repetitions; turn++) {
      // Every other turn goes backwards, so that no case always follows the same neighbour.
      const order = turn % 2 === 0 ? group.cases : [...group.cases].reverse();
      for (const one of order) {
        say(`${part.name}: ${one.name}, ${turn < 0 ? 'warm-up' : `${turn + 1} of ${repetitions}`}`);
        const sample = await one.once();
        check(one, sample);
        if (turn >= 0) keep(figures, one, sample);
      }
    }
  } finally {
    for (const one of group.cases) await one.close?.();
  }
  return rowsOf(part.name, group, figures, repetitions);
}

function check(one: Case, sample: Sample): void {
  const { count, hash } = one.expected;
  if (sample.count !== count || sample.hash !== hash) {
    throw new Error(
      `${one.name}: the work was not done as expected: ${sample.count} results with hash ${sample.hash}, ` +
        `expected ${count} with ${hash}. Its figure would mean nothing.`,
    );
  }
}

function keep(figures: Map<string, { unit: string; values: number[] }>, one: Case, sample: Sample): void {
  const add = (name: string, value: number) => {
    const figure = figures.get(name);
    if (figure === undefined) figures.set(name, { unit: one.unit, values: [value] });
    else figure.values.push(value);
  };
  add(one.name, sample.value);
  for (const [name, value] of Object.entries(sample.more ?? {})) add(`${one.name}/${name}`, value);
}

function rowsOf(
  group: string,
  { ratios = [], targets = [] }: Group,
  figures: Map<string, { unit: string; values: number[] }>,
  repetitions: number,
): Row[] {
  const rows: Row[] = [];
  for (const [name, { unit, values }] of figures) {
    const target = targets.find((one) => one.of === name);
    const spread = spreadOf(values);
    rows.push({ group, name, unit, repetitions, ...spread, ...verdictOf(spread.median, target) });
  }
  for (const ratio of ratios) {
    const above = figures.get(ratio.of);
    const below = figures.get(ratio.to);
    if (above === undefined || below === undefined)
      throw new Error(`No figure for the ratio ${ratio.of} ÷ ${ratio.to}`);
    const spread = spreadOf(above.values.map((value, turn) => value / below.values[turn]!));
    const name = ratio.label ?? `${ratio.of} ÷ ${ratio.to}`;
    rows.push({ group, name, unit: '×', repetitions, ...spread, ...verdictOf(spread.median, ratio) });
  }
  return rows;
}

function verdictOf(
  value: number,
  limits: { atLeast?: number; atMost?: number } | undefined,
): { target?: string; reached?: boolean } {
  if (limits?.atLeast !== undefined) return { target: `≥ ${limits.atLeast}`, reached: value >= limits.atLeast };
  if (limits?.atMost !== undefined) return { target: `≤ ${limits.atMost}`, reached: value <= limits.atMost };
  return {};
}

/** A Markdown table, so that it can be pasted as it is. */
export function tableOf(rows: readonly Row[]): string {
  const lines = [['part', 'what', 'median', 'min to max', 'target', '']];
  for (const row of rows) {
    const unit = row.unit === '×' ? '' : ` ${row.unit}`;
    const verdict = row.reached === undefined ? '' : row.reached ? 'reached' : 'missed';
    lines.push([
      row.group,
      row.name,
      `${numberText(row.median)}${unit}`,
      `${numberText(row.min)} to ${numberText(row.max)}`,
      row.target ?? '',
      verdict,
    ]);
  }
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const text = lines.map((line) => `| ${line.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`);
  text.splice(1, 0, `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`);
  return text.join('\n');
}

export function numberText(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function machine(): Record<string, string | number> {
  return {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    date: new Date().toISOString(),
  };
}

export async function writeJson(file: string, settings: Settings, rows: readonly Row[]): Promise<void> {
  await writeFile(file, `${JSON.stringify({ machine: machine(), settings, rows }, null, 2)}\n`);
}
