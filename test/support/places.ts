/** Directories for tests: temporary ones, and file systems of a size or kind that this user may or may not be permitted to mount. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** Removed after the test. */
export function temporaryDir(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'flashq-test-')));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** An empty file system in memory with those mount options, unmounted after the test. */
export function mounted(options: string): string {
  const path = mkdtempSync(join(tmpdir(), 'flashq-mount-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path], { stdio: 'pipe' });
  onTestFinished(() => {
    execFileSync('umount', ['-l', path], { stdio: 'pipe' });
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

/** Whether `mounted` works here. */
export const canMount = ((): boolean => {
  const path = mkdtempSync(join(tmpdir(), 'flashq-mount-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', path], { stdio: 'pipe' });
    execFileSync('umount', [path], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
})();
