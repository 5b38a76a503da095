/** The handlers that are files: found, or refused, when the Worker is made and not when its first thread fails to load them. */
import { statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { isAbsolute, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ValidationError } from './errors.js';

/**
 * The `file:` URL of a handler file, given as a URL, a `file:` string, or a path (relative ones from the working directory).
 *
 * @throws ValidationError when it is no file that can be read.
 */
export function handlerFile(file: string | URL): string {
  const path = pathOf(file);
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined || !stats.isFile()) {
    throw new ValidationError(
      `The handler file ${path} does not exist${stats === undefined ? '' : ' (it is no file)'}. ` +
        "Give new URL('./handler.js', import.meta.url), or an absolute path.",
      { path: 'handler' },
    );
  }
  return pathToFileURL(path).href;
}

function pathOf(file: string | URL): string {
  try {
    if (file instanceof URL || file.startsWith('file:')) return fileURLToPath(file);
  } catch (cause) {
    throw new ValidationError(`The handler ${String(file)} must be a file: URL or a path`, { path: 'handler', cause });
  }
  return isAbsolute(file) ? file : resolve(file);
}

/** Threads of a file Worker that says nothing: one less than the machine runs at a time, at least one. */
export function defaultThreads(): number {
  return Math.max(1, availableParallelism() - 1);
}
