/** How callers name jobs, and the one form in which the connection takes such names. */
import { refuse } from './checks.js';
import type { JobRef } from './connection.js';

/** A job: its id (of this queue, or a generated id of any), the `Job`, or queue and id. */
export type JobReference = string | JobRef | { readonly id: string; readonly queueName: string };

/**
 * One reference in the form the connection takes.
 *
 * @throws ValidationError when it is no string, Job or {queue, id}.
 */
export function normaliseRef(reference: unknown, path = 'ref'): JobRef {
  if (typeof reference === 'string' && reference !== '') return { id: reference };
  if (typeof reference === 'object' && reference !== null) {
    const { id, queue, queueName } = reference as { id?: unknown; queue?: unknown; queueName?: unknown };
    const name = typeof queue === 'string' ? queue : queueName;
    if (typeof id === 'string' && id !== '' && typeof name === 'string') return { id, queue: name };
  }
  return refuse(path, 'be a job id, a Job, or {queue, id}', reference);
}

/** Many references, in their order, without repeats. Linear in their number. */
export function normaliseRefs(references: unknown, path: string): JobRef[] {
  if (!Array.isArray(references)) refuse(path, 'be an array of job ids, Jobs, or {queue, id}', references);
  const seen = new Set<string>();
  const refs: JobRef[] = [];
  for (let i = 0; i < references.length; i++) {
    const ref = normaliseRef(references[i], `${path}[${i}]`);
    const key = `${ref.queue ?? ''}\n${ref.id}`; // no queue's name holds a line break
    if (seen.has(key)) continue;
    seen.add(key);
    refs.push(ref);
  }
  return refs;
}
