/** What engines do when the process ends without closing them: one listener for all, however many there are. */
const last = new Set<() => void>();

/** Calls `run` when the process ends; it must not wait for anything. Gives a function that takes that back. */
export function atExit(run: () => void): () => void {
  if (last.size === 0) process.on('exit', runAll);
  last.add(run);
  return () => {
    last.delete(run);
    if (last.size === 0) process.removeListener('exit', runAll);
  };
}

function runAll(): void {
  for (const run of last) run();
}
