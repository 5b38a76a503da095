/** The tests' own test: the core with one invariant broken at a time must not pass them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

interface Mutation {
  readonly name: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const MUTATIONS: readonly Mutation[] = [
  {
    name: 'a bit is cleared without the version that was read before its child was found empty',
    file: 'heap.ts',
    from: 'if (atomic.cmpxchg<u64>(node, word, cleared, N_WORD) != word) break;\n        word = cleared;',
    to: 'word = atomic.and<u64>(node, ~(<u64>1 << place), N_WORD) & ~(<u64>1 << place);',
  },
  {
    name: 'a claim takes the slot by a hint that it has not compared',
    file: 'heap.ts',
    from: 'return atomic.cmpxchg<u64>(slot, expected, active, S_WORD) == expected;',
    to: 'atomic.store<u64>(slot, active, S_WORD); return true;',
  },
  {
    name: 'a push makes its job reachable before it has stored it',
    file: 'heap.ts',
    from: 'const pushed = first ? lanePush(level, hint) : tailPush(level, hint);\n  assert(pushed);\n  mark(level);',
    to: 'mark(level);\n  const pushed = first ? lanePush(level, hint) : tailPush(level, hint);\n  assert(pushed);',
  },
  {
    name: 'the claim entry is written after the claim',
    file: 'heap.ts',
    from: 'return atomic.cmpxchg<u64>(slot, expected, active, S_WORD) == expected;',
    to: 'atomic.store<u64>(entry, 0); const won = atomic.cmpxchg<u64>(slot, expected, active, S_WORD) == expected; if (won) atomic.store<u64>(entry, (active & ~(<u64>0x1ffffff)) | (hint & 0x1ffffff)); return won;',
  },
  {
    name: 'an outcome is published before it is written',
    file: 'rings.ts',
    from: '  const entry = outcomeAt(thread, tail);\n  store<u64>(entry, ticket, E_TICKET);',
    to: '  const entry = outcomeAt(thread, tail);\n  atomic.store<u32>(record, tail + 1, T_OUTCOME_TAIL);\n  atomic.store<u64>(entry, ticket, E_TICKET);',
  },
  {
    name: 'a claim does not count the generation on',
    file: 'slots.ts',
    from: 'return ((hint & ~(<u64>LOW_MASK)) + (<u64>1 << GENERATION_SHIFT)) | ((<u64>thread)',
    to: 'return (hint & ~(<u64>LOW_MASK)) | ((<u64>thread)',
  },
  {
    name: 'retired memory is freed without waiting for claimers',
    file: 'threads.ts',
    from: 'if (!epochPassed(load<u32>(H_LIMBO_EPOCH))) return;',
    to: '',
  },
  {
    name: 'a permit is taken without a CAS',
    file: 'limits.ts',
    from: 'if (atomic.load<u64>(at) == 0 && atomic.cmpxchg<u64>(at, 0, thread) == 0) {',
    to: 'if (atomic.load<u64>(at) == 0) { atomic.store<u64>(at, thread);',
  },
  {
    name: 'a start that was not used is not put back',
    file: 'claim.ts',
    from: 'if (start != NO_CELL) startReturn(queue, start, thread, now);',
    to: '',
  },
  {
    name: 'chunks are sealed without a CAS',
    file: 'blocks.ts',
    from: 'if (atomic.cmpxchg<u32>(H_SEALED, top, chunk) == top) return;',
    to: 'atomic.store<u32>(H_SEALED, chunk); return;',
  },
  {
    name: 'a claimer that leaves jobs behind wakes nobody',
    file: 'claim.ts',
    from: 'if (heapMayHave(queue)) wakeQueue(queue, 1);',
    to: '',
  },
];

const folder = mkdtempSync(join(tmpdir(), 'flashq-mutations-'));
const caught: string[] = [];

afterAll(() => {
  rmSync(folder, { recursive: true });
  console.log(caught.join('\n'));
});

function build({ file, from, to }: Mutation, name: string): string {
  const assembly = join(folder, name, 'core-wasm', 'assembly');
  cpSync(join(ROOT, 'core-wasm', 'assembly'), assembly, { recursive: true });
  const text = readFileSync(join(assembly, file), 'utf8');
  if (!text.includes(from)) throw new Error(`${file} has changed: ${from} is not there any more`);
  writeFileSync(join(assembly, file), text.replace(from, to));
  const wasm = join(folder, name, 'flashq.wasm');
  const { options } = JSON.parse(readFileSync(join(ROOT, 'asconfig.json'), 'utf8'));
  const config = { entries: [join(assembly, 'index.ts')], options: { ...options, noAssert: true, outFile: wasm } };
  writeFileSync(join(folder, name, 'asconfig.json'), JSON.stringify(config));
  const asc = join(ROOT, 'node_modules', 'assemblyscript', 'bin', 'asc.js');
  execFileSync(process.execPath, [asc, '--config', join(folder, name, 'asconfig.json')], { cwd: join(folder, name) });
  return wasm;
}

test.each(MUTATIONS.map((mutation, index) => [mutation.name, mutation, index] as const))(
  'it is caught that %s',
  (name, mutation, index) => {
    const wasm = build(mutation, `m${index}`);
    const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
    const env = {
      ...process.env,
      FLASHQ_CORE: wasm,
      FLASHQ_LONG: '0',
      FLASHQ_TEST_JSON: join(folder, `m${index}.json`),
    };
    const { status } = spawnSync(process.execPath, [vitest, 'run', 'test/interleave'], {
      cwd: ROOT,
      env,
      timeout: 300_000,
    });
    const { testResults } = JSON.parse(readFileSync(env.FLASHQ_TEST_JSON, 'utf8')) as {
      testResults: { assertionResults: { title: string; status: string }[] }[];
    };
    const failed = testResults.flatMap(({ assertionResults }) =>
      assertionResults.filter((one) => one.status === 'failed').map((one) => one.title),
    );
    caught.push(`${name}: ${failed.length === 0 ? 'NOT CAUGHT' : failed.join('; ')}`);
    expect(status).not.toBe(0);
    expect(failed.length).toBeGreaterThan(0);
  },
);
