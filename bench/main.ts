/** `npm run bench [-- --only PATTERN] [--quick] [--json FILE] [--list]` */
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { coreParts } from './core.js';
import { isTmpInMemory } from './data-dir.js';
import { engineParts } from './engine.js';
import { floorPart } from './floor.js';
import { FULL, machine, type Part, QUICK, type Row, runPart, tableOf, writeJson } from './harness.js';

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});

const settings = options.quick ? QUICK : FULL;
const wanted = options.only === undefined ? undefined : new RegExp(options.only);
const parts = [floorPart, ...coreParts, ...engineParts].filter(({ name }) => wanted?.test(name) ?? true);

if (options.list) {
  for (const { name } of parts) console.log(name);
} else if (parts.length === 0) {
  console.error(`No part's name matches ${options.only}. --list shows the names.`);
  process.exitCode = 2;
} else {
  await run(parts);
}

async function run(chosen: readonly Part[]): Promise<void> {
  const rows: Row[] = [];
  const { node, cpu, cores, memoryGiB } = machine();
  console.log(
    `Node ${node}, ${cores} cores (${cpu}), ${memoryGiB} GiB${settings.quick ? '; quick: no figure to keep' : ''}\n`,
  );
  if (await isTmpInMemory())
    console.log(`${tmpdir()} lies in memory: for the durable parts set TMPDIR to a folder on a disk.\n`);
  for (const part of chosen) rows.push(...(await runPart(part, settings, progress)));
  progress('');
  console.log(tableOf(rows));
  if (options.json !== undefined) await writeJson(options.json, settings, rows);
}

/** One line that is written over; nothing at all where there is no terminal. */
function progress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${line}`);
}
