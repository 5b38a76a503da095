/**
 * Imports the lines of a folder's `.csv` files (`id,parent,name`) into a table, many lines with one write. Each line has its own end: one
 * that is wrong is refused for good, and one whose parent is not there yet is tried again later, while the others of its batch are done.
 *
 *     node dist/examples/batch.js FOLDER TABLE
 */
import { appendFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Engine, type Job, JobFailedError, Queue, UnrecoverableError, Worker } from 'flashq';

interface Line {
  readonly at: string;
  readonly text: string;
}

/** Rows of categories, one JSON text a line of a file. */
class Table {
  writes = 0;
  readonly #ids = new Set<string>();
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** All of them with one write, or an error and none. */
  async insert(rows: ReadonlyMap<string, object>): Promise<void> {
    if (rows.size === 0) return;
    await appendFile(this.#path, [...rows.values()].map((row) => `${JSON.stringify(row)}\n`).join(''));
    for (const id of rows.keys()) this.#ids.add(id);
    this.writes++;
  }
}

const [folder, path] = process.argv.slice(2);
if (folder === undefined || path === undefined) throw new Error('node dist/examples/batch.js FOLDER TABLE');
const table = new Table(path);

async function insertLines(jobs: readonly Job<Line>[]): Promise<(string | undefined)[]> {
  const rows = new Map<string, { id: string; parent: string; name: string }>();
  const ids = jobs.map((job) => {
    const [id = '', parent = '', name = '', ...more] = job.data.text.split(',').map((cell) => cell.trim());
    if (id === '' || name === '' || more.length > 0) job.setAsFailed(new UnrecoverableError('not id,parent,name'));
    else if (table.has(id) || rows.has(id)) job.setAsFailed(new UnrecoverableError(`${id} is there already`));
    else if (parent !== '' && !table.has(parent) && !rows.has(parent))
      job.setAsFailed(new Error(`no parent ${parent}`));
    else rows.set(id, { id, parent, name });
    return id;
  });
  await table.insert(rows); // should it throw, all of them are tried again
  return ids;
}

const engine = await Engine.open({ maxMemory: 64 * 2 ** 20 });
const queue = new Queue<Line>('lines', { connection: engine });
new Worker('lines', insertLines, { connection: engine, batch: { size: 100, maxWait: 20 } });

const lines: Line[] = [];
for (const name of (await readdir(folder)).filter((one) => one.endsWith('.csv')).sort()) {
  const texts = (await readFile(join(folder, name), 'utf8')).split('\n');
  for (const [nth, text] of texts.entries()) if (text.trim() !== '') lines.push({ at: `${name}:${nth + 1}`, text });
}
const opts = { attempts: 5, backoff: { type: 'exponential', delay: 20 } };
const jobs = await queue.addBulk(lines.map((data) => ({ name: 'line', data, opts })));
const ends = await queue.finished(jobs, { settled: true });

for (const [nth, end] of ends.entries()) {
  if (end.status === 'fulfilled') continue;
  const reason = end.reason instanceof JobFailedError ? end.reason.failedReason : end.reason;
  console.log(`${lines[nth]!.at}: ${reason}`);
}
const inserted = ends.filter(({ status }) => status === 'fulfilled').length;
console.log(`${inserted} of ${lines.length} lines inserted with ${table.writes} writes`);
await engine.close();
