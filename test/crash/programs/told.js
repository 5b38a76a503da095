/**
 * What a process was told, one line a fact, written before anything else happens: a line that is in the file has left the process, however
 * that ends. The threads of a process write to the same file.
 */
import { openSync, writeSync } from 'node:fs';

const fd = openSync(process.env.FLASHQ_TOLD, 'a');

export function say(fact) {
  writeSync(fd, `${JSON.stringify({ ...fact, at: Date.now() })}\n`);
}
