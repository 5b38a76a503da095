/** The CPU time of each thread of this process, from `/proc`: Node 20 can tell only that of the whole process. */
import { readdirSync, readFileSync } from 'node:fs';

const TICK_MS = 10; // Linux reports in hundredths of a second on every common configuration

/** System's thread number → milliseconds of CPU so far; undefined where there is no /proc. Threads that have ended are not in it. */
export function cpuMsOfThreads(): Map<number, number> | undefined {
  try {
    const threads = new Map<number, number>();
    for (const id of readdirSync('/proc/self/task')) {
      const ms = cpuMsOf(readFileSync(`/proc/self/task/${id}/stat`, 'utf8'));
      threads.set(Number(id), ms);
    }
    return threads;
  } catch {
    return undefined;
  }
}

/** The second field is the thread's name in brackets and may hold anything: fields are counted from its last bracket on. */
export function cpuMsOf(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS; // user and system time
}
