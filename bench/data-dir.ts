/** Data directories for durable engines, below the system's folder for temporary files: set TMPDIR to measure another disk. */
import { rmSync } from 'node:fs';
import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const TMPFS = 0x01021994; // of Linux
const open = new Set<string>();
let isWatched = false;

export async function makeDataDir(): Promise<string> {
  watchEnd();
  const path = await mkdtemp(join(tmpdir(), 'flashq-bench-data-'));
  open.add(path);
  return path;
}

export async function removeDataDir(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
  open.delete(path);
}

/** A run that stops half-way never comes to close its cases. */
function watchEnd(): void {
  if (isWatched) return;
  isWatched = true;
  process.once('exit', removeAll);
  process.once('SIGINT', () => process.exit(130));
}

function removeAll(): void {
  for (const path of open) rmSync(path, { recursive: true, force: true });
}

/** Whether what is written there stays in memory: a sync costs nothing then, and no durable figure says anything. */
export async function isTmpInMemory(): Promise<boolean> {
  return process.platform === 'linux' && (await statfs(tmpdir())).type === TMPFS;
}
