/**
 * npm run demo [folder] [-- --query TEXT --threads N --limit N --passage N --data DIR --json]
 *
 * Exits with 0 only if every document was embedded exactly once; with 130 after Ctrl-C.
 */
import { stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { barOn, linesOn, SILENT } from './progress.js';
import { reportOf, textOf } from './report.js';
import { type Options, runDemo } from './run.js';

const USAGE = `npm run demo [folder] [-- options]
  --query TEXT     what to search for in the end
  --threads N      worker threads (default: one a core)
  --limit N        documents at most (default: 10000)
  --passage N      divide longer files into passages of N bytes (default: 1600; 0: leave files whole)
  --data DIR       keep the jobs in that folder: stopped in the middle, even by a crash, the demo goes on there the next time
  --json           print the report as JSON and nothing else`;

const DEFAULT_QUERY = 'wake a thread that waits on shared memory with Atomics.notify';
/** From dist/examples/demo/ back to the project's own folder. */
const DEFAULT_FOLDER = fileURLToPath(new URL('../../../node_modules', import.meta.url));
const STOPPED = 130; // what a shell gives for a program ended by SIGINT

interface Invocation extends Options {
  readonly json: boolean;
  readonly help: boolean;
}

function invocationOf(args: readonly string[]): Invocation {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      query: { type: 'string', default: DEFAULT_QUERY },
      threads: { type: 'string', default: String(availableParallelism()) },
      limit: { type: 'string', default: '10000' },
      passage: { type: 'string', default: '1600' },
      data: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (positionals.length > 1) throw new Error(`One folder at a time, not ${positionals.length}`);
  return {
    folder: resolve(positionals[0] ?? DEFAULT_FOLDER),
    query: values.query,
    threads: wholeNumber('--threads', values.threads, 1),
    documentsMax: wholeNumber('--limit', values.limit, 1),
    passageBytesMax: wholeNumber('--passage', values.passage, 0),
    dataDir: values.data === undefined ? undefined : resolve(values.data),
    json: values.json,
    help: values.help,
  };
}

function wholeNumber(name: string, text: string, min: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < min)
    throw new Error(`${name} takes a whole number from ${min} on, not ${text}`);
  return value;
}

async function main(invocation: Invocation): Promise<number> {
  const { json, query, folder, dataDir } = invocation;
  if (!(await stat(folder).catch(() => undefined))?.isDirectory()) throw new Error(`${folder} is not a folder`);
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort()); // a second Ctrl-C ends the process at once, as without a handler
  const progress = json ? SILENT : process.stdout.isTTY ? barOn(process.stdout) : linesOn(process.stdout);
  const findings = await runDemo(invocation, stop.signal, progress);
  if (findings === undefined) {
    const next = dataDir === undefined ? '' : ` The same command goes on where it was.`;
    console.error(`Stopped before the end; the queue is closed.${next}`);
    return STOPPED;
  }
  const report = reportOf(findings);
  console.log(json ? JSON.stringify(report, null, 2) : `\n${textOf(report, query)}`);
  return report.problems.length === 0 ? 0 : 1;
}

let invocation: Invocation | undefined;
try {
  invocation = invocationOf(process.argv.slice(2));
} catch (error) {
  console.error(`${messageOf(error)}\n\n${USAGE}`);
  process.exitCode = 2;
}
if (invocation?.help) {
  console.log(USAGE);
} else if (invocation !== undefined) {
  process.exitCode = await main(invocation).catch((error: unknown) => {
    console.error(messageOf(error));
    return 1;
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
