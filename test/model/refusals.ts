/** Which items of an add are refused, and with which error. */
import type { ModelItem, ModelJob } from './job-model.js';

/** What is there when the call comes. */
interface Known {
  /** The job that an id of the user's own means. */
  named(id: string): ModelJob | undefined;
  find(id: string): ModelJob | 'gone' | undefined;
  canReplace(job: ModelJob): boolean;
}

/** Why each item can't be added, if so. */
export function refusalsOf(
  items: readonly ModelItem[],
  atomic: boolean,
  { named, find, canReplace }: Known,
): (string | undefined)[] {
  const first = new Map<string, number>(); // the item that an id means within this call
  const errors = items.map(({ opts: { jobId, onDuplicate } }, index): string | undefined => {
    if (jobId === undefined) return undefined;
    const isTwin = first.has(jobId);
    if (!isTwin) first.set(jobId, index);
    return onDuplicate === 'error' && (isTwin || named(jobId) !== undefined) ? 'DuplicateJobError' : undefined;
  });
  /** The item of this call that an id means, if it makes a new job. */
  const newOf = (id: string): number[] => {
    const index = first.get(id);
    const known = named(id);
    if (index === undefined) return [];
    return known === undefined || (known.isOver && items[index]?.opts.onDuplicate === 'rerun') ? [index] : [];
  };
  for (const [index, { needs }] of items.entries()) {
    if (needs.some((id) => !first.has(id) && find(id) === undefined)) errors[index] ??= 'UnknownDependencyError';
  }
  // Nobody can wait for an item that isn't added.
  for (let again = true; again; ) {
    again = false;
    for (const [index, { needs }] of items.entries()) {
      if (errors[index] !== undefined || needs.flatMap(newOf).every((other) => errors[other] === undefined)) continue;
      errors[index] = 'UnknownDependencyError';
      again = true;
    }
  }
  // Whoever can be put in order after what it needs is in no cycle. A job that is there needs what it still waits for, and what
  // replaces it needs what that says.
  const replacing = (job: ModelJob): number[] => {
    const index = job.opts.jobId === undefined ? undefined : first.get(job.id);
    if (index === undefined || items[index]?.opts.onDuplicate !== 'replace' || errors[index] !== undefined) return [];
    return canReplace(job) && named(job.id) === job ? [index] : [];
  };
  const behind = (job: ModelJob | 'gone' | undefined): number[] => {
    if (job === undefined || job === 'gone' || job.isOver) return [];
    const item = replacing(job);
    return item.length > 0 ? item : [...job.open].flatMap(behind);
  };
  const ordered = new Set<number>();
  for (let again = true; again; ) {
    again = false;
    for (const [index, { needs }] of items.entries()) {
      if (errors[index] !== undefined || ordered.has(index)) continue;
      const isReady = needs.every((id) => {
        const made = newOf(id);
        return (made.length > 0 ? made : behind(find(id))).every((other) => ordered.has(other));
      });
      if (!isReady) continue;
      ordered.add(index);
      again = true;
    }
  }
  for (const index of items.keys()) if (!ordered.has(index)) errors[index] ??= 'ValidationError';
  if (atomic) return errors;
  // What is the same job as a refused item isn't there either.
  for (const [index, { opts }] of items.entries()) {
    if (opts.jobId !== undefined) errors[index] ??= errors[first.get(opts.jobId) as number];
  }
  return errors;
}
