/** What a run found, as numbers and as text, and whether every document was embedded exactly once. */
import { performance } from 'node:perf_hooks';
import { type Neighbour, nearest } from './collect.js';
import type { Earlier, Findings } from './run.js';
import type { EmbedTask } from './tasks.js';

const NEIGHBOURS = 5;
const PROBLEMS_SHOWN = 10;

export interface Quantiles {
  readonly p50: number;
  readonly p99: number;
}

export interface ThreadUse {
  readonly name: string;
  readonly jobs?: number;
  /** CPU time, or, where the system does not tell it, time in which the event loop was not idle. */
  readonly busyMs: number;
  readonly share: number;
}

export interface Report {
  readonly documents: number;
  /** Of these, the ones that an earlier run over the same data had embedded. */
  readonly embeddedEarlier: number;
  readonly files: number;
  readonly textBytes: number;
  readonly threads: number;
  readonly jobs: number;
  readonly seconds: number;
  readonly jobsPerSecond: number;
  readonly waitingMs: Quantiles;
  readonly runningMs: Quantiles;
  readonly urgentWaitingMs: Quantiles;
  readonly urgentOvertook: number;
  readonly retries: number;
  readonly retriesPlanned: number;
  readonly busy: { readonly measure: 'cpu' | 'event loop'; readonly threads: readonly ThreadUse[] };
  readonly residentBytesMax: number;
  readonly heapBytes: number;
  readonly nearest: readonly Neighbour[];
  readonly embeddedOnce: number;
  /** Empty when every document was embedded exactly once. */
  readonly problems: readonly string[];
}

export function reportOf(findings: Findings): Report {
  const { walk, ledger, earlier, addedMs, endedMs, urgent, threads } = findings;
  const seconds = (endedMs - addedMs) / 1000;
  const tasks = findings.tasks.filter((_, nth) => !earlier[nth]!.isDone);
  const jobs = tasks.length + urgent.length + 1; // and the collect job
  const problems = problemsOf(findings);
  return {
    documents: findings.tasks.length,
    embeddedEarlier: findings.tasks.length - tasks.length,
    files: walk.files,
    textBytes: walk.bytes,
    threads,
    jobs,
    seconds,
    jobsPerSecond: jobs / seconds,
    waitingMs: quantilesOf(tasks.map(({ task }) => ledger.firstStartMs[task]! - addedMs)),
    runningMs: quantilesOf(tasks.map(({ task }) => ledger.endMs[task]! - ledger.lastStartMs[task]!)),
    urgentWaitingMs: quantilesOf(urgent.map(({ waitedMs }) => waitedMs)),
    urgentOvertook: Math.max(0, ...urgent.map(({ overtaken }) => overtaken)),
    retries: tasks.reduce((sum, { task }) => sum + ledger.starts[task]! - ledger.completions[task]!, 0),
    retriesPlanned: findings.tasks.reduce((sum, one, nth) => sum + failuresLeft(one, earlier[nth]!), 0),
    busy: busyOf(findings),
    residentBytesMax: findings.residentBytesMax,
    heapBytes: process.memoryUsage().heapUsed,
    nearest: nearest(findings.index, findings.queryVector, NEIGHBOURS),
    embeddedOnce: findings.tasks.filter(
      ({ task }, nth) => ledger.completions[task]! + (earlier[nth]!.isDone ? 1 : 0) === 1,
    ).length,
    problems,
  };
}

/** Judged by what the threads noted in the ledger and by the collected vectors; the queue's own counters are not asked. */
export function problemsOf({ ledger, tasks, earlier, index }: Findings): string[] {
  const problems: string[] = [];
  for (const [nth, one] of tasks.entries()) {
    const { task, document } = one;
    const { isDone } = earlier[nth]!;
    const completions = ledger.completions[task]!;
    const starts = ledger.starts[task]!;
    const expected = isDone ? 0 : failuresLeft(one, earlier[nth]!) + 1;
    if (completions !== (isDone ? 0 : 1))
      problems.push(`${document.name} was embedded ${completions} times${isDone ? ' more' : ''}`);
    if (starts !== expected) problems.push(`${document.name} was started ${starts} times, expected ${expected}`);
  }
  if (index.names.length !== tasks.length)
    problems.push(`The index holds ${index.names.length} of ${tasks.length} documents`);
  return problems;
}

/** How many runs of it are still to fail. */
function failuresLeft({ failures }: EmbedTask, { isDone, failures: before }: Earlier): number {
  return isDone ? 0 : Math.max(0, failures - before);
}

function busyOf({ cpuMs, ledger, addedMs, endedMs }: Findings): Report['busy'] {
  const wallMs = endedMs - addedMs;
  const workers = ledger.threads().sort((a, b) => a.threadId - b.threadId);
  const use = (name: string, busyMs: number, jobs?: number): ThreadUse => ({
    name,
    busyMs,
    share: busyMs / wallMs,
    ...(jobs === undefined ? {} : { jobs }),
  });
  if (cpuMs === undefined) {
    const threads = workers.map(({ activeMs, tasks }, nth) => use(`worker ${nth + 1}`, activeMs, tasks));
    return { measure: 'event loop', threads: [use('main', performance.eventLoopUtilization().active), ...threads] };
  }
  const spent = new Map([...cpuMs.after].map(([id, ms]) => [id, ms - (cpuMs.before.get(id) ?? 0)]));
  const take = (id: number): number => {
    const ms = spent.get(id) ?? 0;
    spent.delete(id);
    return ms;
  };
  const threads = [use('main', take(process.pid))];
  for (const [nth, { systemId, tasks }] of workers.entries())
    threads.push(use(`worker ${nth + 1}`, take(systemId), tasks));
  const others = [...spent.values()].reduce((sum, ms) => sum + ms, 0);
  return { measure: 'cpu', threads: [...threads, use('garbage collection, compiler, file system', others)] };
}

function quantilesOf(values: readonly number[]): Quantiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (quantile: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * quantile))] ?? 0;
  return { p50: at(0.5), p99: at(0.99) };
}

export function textOf(report: Report, query: string): string {
  const { waitingMs, runningMs, urgentWaitingMs, busy, problems } = report;
  const lines: [string, string][] = [
    [
      'documents',
      `${count(report.documents)} from ${count(report.files)} files, ${mebibytes(report.textBytes)} of text`,
    ],
    ...(report.embeddedEarlier === 0
      ? []
      : [
          ['earlier', `${count(report.embeddedEarlier)} of them had been embedded by an earlier run`] as [
            string,
            string,
          ],
        ]),
    [
      'jobs',
      `${count(report.jobs)} in ${report.seconds.toFixed(2)} s: ${count(report.jobsPerSecond)} jobs/s on ${report.threads} threads`,
    ],
    ['waiting', `p50 ${ms(waitingMs.p50)}, p99 ${ms(waitingMs.p99)} (the backlog was added at once)`],
    ['running', `p50 ${ms(runningMs.p50)}, p99 ${ms(runningMs.p99)}`],
    [
      'urgent jobs',
      `waited p50 ${ms(urgentWaitingMs.p50)}, p99 ${ms(urgentWaitingMs.p99)}, with up to ${count(report.urgentOvertook)} jobs before them`,
    ],
    ['retries', `${count(report.retries)} of ${count(report.retriesPlanned)} planned failures`],
    [
      'memory',
      `${mebibytes(report.residentBytesMax)} resident at most, ${mebibytes(report.heapBytes)} JavaScript heap`,
    ],
  ];
  for (const thread of busy.threads) {
    const jobs = thread.jobs === undefined ? '' : `, ${count(thread.jobs)} jobs`;
    lines.push([`${busy.measure} of`, `${thread.name}: ${(thread.share * 100).toFixed(0)} %${jobs}`]);
  }
  const width = Math.max(...lines.map(([name]) => name.length));
  const table = lines.map(([name, value]) => `${name.padEnd(width)}  ${value}`);
  const found = report.nearest.map(({ name, similarity }) => `  ${similarity.toFixed(3)}  ${name}`);
  const verdict =
    problems.length === 0
      ? [`Every one of the ${count(report.documents)} documents was embedded exactly once.`]
      : [`${count(problems.length)} problems:`, ...problems.slice(0, PROBLEMS_SHOWN).map((problem) => `  ${problem}`)];
  return [...table, '', `Nearest to "${query}":`, ...found, '', ...verdict].join('\n');
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function ms(value: number): string {
  return `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
}
