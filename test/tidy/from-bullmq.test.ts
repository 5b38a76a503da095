/** docs/from-bullmq.md against BullMQ's own declarations, and against ours. */
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { QueueEvents, Worker } from 'flashq';
import { describe, expect, test } from 'vitest';
import { type Declaration, declarationsOf, exportsOf, membersOf } from './declared.js';
import { readText, root } from './sources.js';

const text = readText('docs/from-bullmq.md');

const bullmq = join(createRequire(import.meta.url).resolve('bullmq/package.json'), '..', 'dist/esm');
const theirs = exportsOf(join(bullmq, 'index.d.ts'));
const ours = exportsOf(join(root, 'dist/engine/index.d.ts'));
/** Also what our index doesn't name: bases of classes, types of options. */
const client = new Map<string, Declaration>(ours);
for (const file of readdirSync(join(root, 'dist/client')).filter((name) => name.endsWith('.d.ts'))) {
  for (const one of declarationsOf(readFileSync(join(root, 'dist/client', file), 'utf8'))) {
    if ((client.get(one.name)?.members.size ?? 0) === 0) client.set(one.name, one);
  }
}

type Kind = 'same' | 'alias' | 'different';
interface Row {
  readonly kind: Kind;
  readonly note: string;
}

/** By section, which is named by its title, or the declaration that the title has in parentheses. */
const sections = new Map(
  text
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const title = section.slice(0, section.indexOf('\n'));
      return [/\(`(\w+)`\)/.exec(title)?.[1] ?? title, rowsOf(section)] as const;
    }),
);

function rowsOf(section: string): [name: string, row: Row][] {
  return [...section.matchAll(/^\| (`.+?`) \| (same|alias|different) \| (.*?) ?\|$/gm)].flatMap(
    ([, names, kind, note]) =>
      [...names!.matchAll(/`([^`]+)`/g)].map(([, name]): [string, Row] => [name!, { kind: kind as Kind, note: note! }]),
  );
}

/** The names that BullMQ has in a section. */
function namesOf(section: string): Set<string> {
  if (section === 'Exports') return new Set(theirs.keys());
  // A job can repeat, too; that option has a type of its own.
  if (section === 'JobsOptions') return new Set([...membersOf(section, theirs), 'repeat']);
  if (section !== 'JobType') return membersOf(section, theirs);
  const states = readFileSync(join(bullmq, 'types/job-type.d.ts'), 'utf8');
  const ends = readFileSync(join(bullmq, 'types/finished-status.d.ts'), 'utf8');
  const words = `${states}${ends.slice(0, ends.indexOf('FinishedPropValAttribute'))}`.replace(/^import.*$/gm, '');
  return new Set([...words.matchAll(/'([a-z-]+)'/g)].map(([, word]) => word!));
}

/** Where we have what BullMQ has there; sections that aren't here are called as theirs. */
const OURS: Readonly<Record<string, string>> = {
  JobsOptions: 'AddOptions',
  RateLimiterOptions: 'WorkerOptions',
  AdvancedOptions: 'RunnerSettings',
  RepeatOptions: 'CronOptions',
};

/** Options whose types are written where they are used. */
const LITERALS: Readonly<Record<string, readonly string[]>> = {
  RateLimiterOptions: ['max', 'duration'],
  NodeOpts: ['queueName', 'id', 'depth'],
  ObliterateOpts: ['force'],
  KeepJobs: ['age', 'count'],
  JobType: ['waiting', 'delayed', 'blocked', 'active', 'completed', 'failed', 'cancelled'],
};

function canListen(to: { on(event: never, listener: () => void): unknown }, event: string): boolean {
  try {
    to.on(event as never, () => {});
    return true;
  } catch {
    return false;
  }
}

/** Whether flashQ has that name there. */
function isHere(section: string, name: string): boolean {
  if (section === 'Exports') return ours.has(name);
  if (section === 'WorkerListener') return canListen(new Worker('q', () => {}, { autorun: false }), name);
  if (section === 'QueueEventsListener') return canListen(new QueueEvents('q', { autorun: false }), name);
  const literal = LITERALS[section];
  return literal?.includes(name) ?? membersOf(OURS[section] ?? section, client).has(name);
}

describe('docs/from-bullmq.md', () => {
  test('has a section for each thing of BullMQ that a user holds or writes', () => {
    const needed = [...theirs.keys()].filter((name) =>
      /^(Queue|Worker|Job|QueueEvents\w*|FlowProducer|FlowJob)$/.test(name),
    );
    const listeners = [...theirs.keys()].filter((name) => /Listener$/.test(name) && !/Ioredis|Relay/.test(name));
    const options = [...theirs.keys()].filter((name) =>
      /^(Queue|Worker|Jobs|QueueEvents|FlowProducer)Options$/.test(name),
    );
    for (const name of [...needed, ...listeners, ...options]) {
      if (!name.endsWith('ProducerOptions') || name.startsWith('Flow')) expect([...sections.keys()]).toContain(name);
    }
  });

  test.each([...sections])('%s: every name, once, and none that BullMQ does not have', (section, rows) => {
    const names = rows.map(([name]) => name);
    expect(names.filter((name, nth) => names.indexOf(name) !== nth)).toEqual([]);
    expect(names.sort()).toEqual([...namesOf(section)].sort());
  });

  test.each([...sections])('%s: what is the same is here', (section, rows) => {
    const promised = rows.filter(([, { kind }]) => kind !== 'different').map(([name]) => name);
    expect(promised.filter((name) => !isHere(section, name))).toEqual([]);
  });

  test('what is different, or an alias, says what to use, or why there is none', () => {
    const silent = [...sections].flatMap(([section, rows]) =>
      rows.filter(([, { kind, note }]) => kind !== 'same' && note === '').map(([name]) => `${section}: ${name}`),
    );
    expect(silent).toEqual([]);
  });
});
