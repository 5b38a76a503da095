/** How callers name jobs, and the one form in which the connection takes such names. */
import { refuse } from './checks.js';
import type { JobRef } from './connection.js';

/**
 * What identifies a job, as its methods and those of Queue pass it on. The text of a generated id is made when somebody reads it:
 * a service that adds a million jobs reads few.
 */
export class JobIdentity implements JobRef {
  readonly queueName: string;
  /** The number in a generated id; 0 for ids of the user's own. */
  readonly number: number;
  readonly place: number;
  #id: string | undefined;

  constructor(queueName: string, id: string | number, place: number) {
    this.queueName = queueName;
    this.place = place;
    if (typeof id === 'number') {
      this.number = id;
      this.#id = undefined;
    } else {
      this.number = 0;
      this.#id = id;
    }
  }

  /** Unique in the engine when generated, in the queue when your own. */
  get id(): string {
    this.#id ??= `j${this.number}`;
    return this.#id;
  }

  get queue(): string {
    return this.queueName;
  }

  toJSON(): object {
    return { id: this.id, queue: this.queue };
  }
}

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

/** As `normaliseRef`, but a Job stands for itself: nothing is made for it. */
export function asRef(reference: unknown, path?: string): JobRef {
  return reference instanceof JobIdentity ? reference : normaliseRef(reference, path);
}

/** Many references, in their order, without repeats. Linear in their number. */
export function normaliseRefs(references: unknown, path: string): JobRef[] {
  if (!Array.isArray(references)) refuse(path, 'be an array of job ids, Jobs, or {queue, id}', references);
  const seen = new Set<string | number>();
  const refs: JobRef[] = [];
  for (let i = 0; i < references.length; i++) {
    const given: unknown = references[i];
    // A Job with a generated number: its text need not be made, and its data need not be kept.
    const isNumbered = given instanceof JobIdentity && given.number !== 0;
    const ref = isNumbered
      ? new JobIdentity(given.queueName, given.number, given.place)
      : normaliseRef(given, `${path}[${i}]`);
    const key = isNumbered ? given.number : `${ref.queue ?? ''}\n${ref.id}`; // no queue's name holds a line break
    if (seen.has(key)) continue;
    seen.add(key);
    refs.push(ref);
  }
  return refs;
}
