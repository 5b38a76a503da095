/**
 * What the processes of one data directory asked for and were told, crash after crash, and what must hold of it: in the order of their
 * lines, and against everything that the next one finds.
 */
import { isDeepStrictEqual } from 'node:util';

/** A line of `programs/told.js`. */
export type Fact = { readonly at: number } & Record<string, any>;

export interface FoundJob {
  readonly key: string | undefined;
  readonly id: string;
  readonly queue: string;
  readonly list: string;
  readonly state: string;
  readonly progress: unknown;
  readonly logs: number;
  readonly value: unknown;
  readonly priority: number;
  readonly timestamp: number;
  readonly due: number;
  readonly lost: number;
  readonly reason: string | undefined;
}

/** What `programs/dump.js` gives. */
export interface Dump {
  readonly queues: readonly {
    readonly name: string;
    readonly paused: boolean;
    readonly config: { readonly concurrency?: number };
    readonly counts: Record<string, number>;
    readonly listed: Record<string, number>;
  }[];
  readonly jobs: readonly FoundJob[];
  /** Records that only dependents read. */
  readonly hidden: number;
  readonly live: number;
}

interface At<T> {
  readonly value: T;
  readonly at: number;
}

/** A job as far as it is known. */
interface Known {
  readonly key: string;
  readonly queue: string;
  readonly n: number;
  readonly opts: Record<string, any>;
  readonly deps: readonly string[];
  /** When it was asked for, and as what number of all. */
  readonly at: number;
  readonly line: number;
  id: string | undefined;
  /** When it was acknowledged. */
  added: number | undefined;
  isDeduplicated: boolean;
  ended: At<'completed' | 'cancelled' | 'removed'> | undefined;
  failed: number | undefined;
  starts: number;
  /** Runs that came through, and runs that threw. */
  ends: number;
  throws: number;
  cancelAsked: boolean;
  aborting: number | undefined;
  removeAsked: boolean;
  /** What its priority may be, and since when it can only be that. */
  priorities: Set<number>;
  prioritySince: number;
  wasPrioritised: boolean;
  progress: At<number> | undefined;
  logs: At<number> | undefined;
  /** As the last process found it, and how often it had been run then. */
  found: FoundJob | undefined;
  foundStarts: number;
}

/** What a setting may be, and since when it can only be that. */
interface Setting {
  values: Set<unknown>;
  since: number;
}

/** When a process was killed; or that its engine was closed; undefined: there was none before. */
export type EndOfProcess = number | 'closed' | undefined;

/** Clocks of processes are set when they start. */
const CLOCK_MS = 20;
/** How long before a failure was told somebody may have asked for its retry. */
const RETRY_MS = 2000;

export class History {
  readonly wrongs: string[] = [];
  readonly jobs = new Map<string, Known>();
  /** How often something was told, by whom. */
  readonly told = new Map<string, number>();
  last: Dump | undefined;
  readonly #windowMs: number;
  readonly #byId = new Map<string, string>();
  /** Ends that were told by an id before anybody was told whose it is. */
  #unnamed: Fact[] = [];
  readonly #owners = new Map<string, string>();
  readonly #bulks = new Map<string, Known[]>();
  readonly #paused: Setting = { values: new Set([false]), since: 0 };
  readonly #concurrency: Setting = { values: new Set([null]), since: 0 };
  readonly #retries = new Map<string, number>();
  #lines = 0;
  readonly #orderStarts: Known[] = [];

  /** `windowMs`: how long before a crash something may have been told that it undoes. */
  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  /** What one process said; `before`: how the one before it ended. */
  read(facts: readonly Fact[], before: EndOfProcess): void {
    for (const fact of facts) {
      this.#lines++;
      if (fact.did !== undefined) this.#did(fact);
      else if (fact.asks !== undefined) this.#asked(fact);
      else this.#heard(fact, before);
    }
  }

  #wrong(text: string): void {
    this.wrongs.push(text);
  }

  // ---- what handlers did ------------------------------------------------------------------------------------------------------

  #did(fact: Fact): void {
    const job = this.jobs.get(fact.key);
    if (job === undefined) this.#wrong(`a run of the unknown job ${fact.key}`);
    else if (fact.did === 'end') job.ends++;
    else if (fact.did === 'throw') job.throws++;
    else this.#started(job, fact);
  }

  #started(job: Known, { id, queue, at }: Fact): void {
    const { key, ended, opts } = job;
    if (ended !== undefined) this.#wrong(`${key} was run again after it was told ${ended.value}`);
    if (job.isDeduplicated) this.#wrong(`${key} is run, though it was told to be another job`);
    if (job.starts === 0 && queue === 'order') this.#orderStarts.push(job);
    job.starts++;
    this.#byId.set(`${queue}/${id}`, key);
    const early = opts.delay === undefined ? 0 : job.at + opts.delay - at;
    if (early > CLOCK_MS) this.#wrong(`${key} was run ${early} ms before it was due`);
    if (!needsAll(job)) return;
    for (const dep of job.deps.map((one) => this.jobs.get(one))) {
      if (dep === undefined || dep.ends !== 0 || mayBeGone(dep)) continue;
      this.#wrong(`${key} was run before ${dep.key}, on which it depends`);
    }
  }

  // ---- what was asked for -----------------------------------------------------------------------------------------------------

  #asked(fact: Fact): void {
    const job = this.jobs.get(fact.key ?? this.#byId.get(`${fact.queue}/${fact.id}`) ?? '');
    switch (fact.asks) {
      case 'add':
        this.#asksToAdd(fact);
        return;
      case 'cancel':
        job!.cancelAsked = true;
        return;
      case 'remove':
        if (job !== undefined) job.removeAsked = true;
        return;
      case 'priority':
        job!.priorities.add(fact.priority);
        job!.wasPrioritised = true;
        return;
      case 'retry':
        this.#retries.set(fact.queue, fact.at);
        return;
      case 'pause':
        this.#paused.values.add(fact.paused);
        return;
      case 'configure':
        this.#concurrency.values.add(fact.concurrency);
    }
  }

  #asksToAdd({ key, queue, n, opts, deps, bulk, at }: Fact): void {
    const job: Known = {
      key,
      queue,
      n,
      opts,
      deps,
      at,
      line: this.#lines,
      id: undefined,
      added: undefined,
      isDeduplicated: false,
      ended: undefined,
      failed: undefined,
      starts: 0,
      ends: 0,
      throws: 0,
      cancelAsked: false,
      aborting: undefined,
      removeAsked: false,
      priorities: new Set([opts.priority ?? 0]),
      prioritySince: at,
      wasPrioritised: false,
      progress: undefined,
      logs: undefined,
      found: undefined,
      foundStarts: 0,
    };
    this.jobs.set(key, job);
    if (bulk === undefined) return;
    const others = this.#bulks.get(bulk);
    if (others === undefined) this.#bulks.set(bulk, [job]);
    else others.push(job);
  }

  // ---- what was told ----------------------------------------------------------------------------------------------------------

  #heard(fact: Fact, before: EndOfProcess): void {
    const what = fact.by === undefined ? fact.told : `${fact.told} by ${fact.by}`;
    this.told.set(what, (this.told.get(what) ?? 0) + 1);
    switch (fact.told) {
      case 'opened':
        this.#found(fact as unknown as Dump, fact.at, before);
        return;
      case 'drained':
        this.#drained(fact as unknown as Dump, fact.at);
        return;
      case 'warning':
        this.#wrong(`a warning: ${fact.message}`);
        return;
      case 'refused':
        this.#refused(fact);
        return;
      case 'pause':
        settle(this.#paused, fact.paused, fact.at);
        return;
      case 'configure':
        settle(this.#concurrency, fact.concurrency, fact.at);
        return;
      default:
        this.#heardOf(fact);
    }
  }

  #refused({ what, code, message }: Fact): void {
    if (!USUAL.has(code)) this.#wrong(`${what ?? 'finished'} was refused: ${code} ${message}`);
  }

  #heardOf(fact: Fact): void {
    const job = this.#jobOf(fact);
    if (job === undefined) {
      if (isGenerated(fact.id)) this.#unnamed.push(fact);
      return;
    }
    const { at } = fact;
    switch (fact.told) {
      case 'added':
        this.#added(job, fact);
        return;
      case 'completed':
      case 'cancelled':
        this.#end(job, fact.told, fact);
        return;
      case 'failed':
        job.failed = at;
        return;
      case 'cancel':
        if (fact.answer === 'cancelled') this.#end(job, 'cancelled', fact);
        else if (fact.answer === 'aborting') job.aborting = at;
        return;
      case 'removed':
        if (fact.answer) job.ended = { value: 'removed', at };
        return;
      case 'priority':
        job.priorities = new Set([fact.priority]);
        job.prioritySince = at;
        return;
      case 'progress':
        if (fact.progress > (job.progress?.value ?? 0)) job.progress = { value: fact.progress, at };
        return;
      case 'logs':
        if (fact.logs > (job.logs?.value ?? 0)) job.logs = { value: fact.logs, at };
    }
  }

  /** Custom ids may pass from one job to another: of those it is only known whose value that is. */
  #jobOf({ key, queue, id, value }: Fact): Known | undefined {
    const name = key ?? value?.key ?? (isGenerated(id) ? this.#byId.get(`${queue}/${id}`) : undefined);
    return name === undefined ? undefined : this.jobs.get(name);
  }

  #added(job: Known, { id, deduplicated, of, at }: Fact): void {
    const { jobId } = job.opts;
    const owner = this.#owners.get(`${job.queue}/${jobId}`);
    const isOwned = owner !== undefined && this.jobs.get(owner)?.removeAsked === false;
    if (deduplicated) {
      job.isDeduplicated = true;
      if (of === undefined) return;
      if (isOwned && of !== owner) this.#wrong(`${job.key} was told to be ${of}, but ${jobId} is ${owner}`);
      this.#owners.set(`${job.queue}/${jobId}`, of);
      return;
    }
    job.id = id;
    job.added = at;
    if (jobId === undefined) {
      const before = this.#byId.get(`${job.queue}/${id}`);
      if (before !== undefined && before !== job.key) this.#wrong(`${job.key} has the id ${id}, as ${before} had`);
    } else {
      if (isOwned) this.#wrong(`${job.key} was added as ${jobId}, which is ${owner}`);
      this.#owners.set(`${job.queue}/${jobId}`, job.key);
    }
    this.#byId.set(`${job.queue}/${id}`, job.key);
  }

  #end(job: Known, end: 'completed' | 'cancelled', { at, value }: Fact): void {
    const before = job.ended?.value;
    if (before !== undefined && before !== end && before !== 'removed')
      this.#wrong(`${job.key} was told ${before}, then ${end}`);
    if (end === 'completed' && !isDeepStrictEqual(value, { key: job.key, n: job.n }))
      this.#wrong(`${job.key} gave ${JSON.stringify(value)}`);
    job.ended ??= { value: end, at };
  }

  // ---- what the next process finds --------------------------------------------------------------------------------------------

  #found(dump: Dump, at: number, before: EndOfProcess): void {
    this.last = dump;
    /** Whether what was told then may have been undone by the crash. */
    const isExcused = (told: number) => typeof before === 'number' && before - told < this.#windowMs;
    const byKey = new Map<string, FoundJob>();
    for (const job of dump.jobs) {
      if (job.key === undefined) continue;
      if (byKey.has(job.key)) this.#wrong(`${job.key} is there twice`);
      if (!this.jobs.has(job.key)) this.#wrong(`${job.key} is there, which nobody asked for`);
      byKey.set(job.key, job);
      this.#byId.set(`${job.queue}/${job.id}`, job.key);
    }
    for (const fact of this.#unnamed.splice(0)) {
      const job = this.#jobOf(fact);
      if (job !== undefined && !isExcused(fact.at)) this.#heardOf(fact);
    }
    for (const job of this.jobs.values()) {
      const found = byKey.get(job.key);
      if (found === undefined) this.#missing(job, isExcused);
      else {
        const lost = job.found?.lost ?? 0;
        if (before === 'closed' && found.lost > lost)
          this.#wrong(`${job.key} lost a run, though the engine was closed`);
        this.#there(job, found, at, isExcused);
      }
    }
    for (const job of this.jobs.values()) this.#dependent(job, byKey);
    for (const [bulk, jobs] of this.#bulks) this.#whole(bulk, jobs);
    this.#counted(dump);
    this.#settings(dump, isExcused);
  }

  #missing(job: Known, isExcused: (at: number) => boolean): void {
    const isKnown = job.found !== undefined || job.added !== undefined || job.starts > 0;
    const isUndone = job.found === undefined && isExcused(job.added ?? job.at);
    if (isUndone) this.#disown(job);
    if (isKnown && mayBeGone(job)) return;
    if (isKnown && !isUndone) this.#wrong(`${job.key} is lost`);
    this.#disown(job);
    this.jobs.delete(job.key);
  }

  /** Its ids are anybody's. */
  #disown(job: Known): void {
    const { jobId } = job.opts;
    if (jobId !== undefined && this.#owners.get(`${job.queue}/${jobId}`) === job.key)
      this.#owners.delete(`${job.queue}/${jobId}`);
    if (job.id !== undefined) this.#byId.delete(`${job.queue}/${job.id}`);
  }

  #there(job: Known, found: FoundJob, at: number, isExcused: (at: number) => boolean): void {
    const { key, ended, opts } = job;
    const differs = (what: string, since: number) => {
      if (!isExcused(since)) this.#wrong(`${key} was told ${what}, but is found ${JSON.stringify(found)}`);
    };
    if (job.isDeduplicated) differs('to be another job', job.at);
    if (ended !== undefined && ended.value !== found.state) differs(ended.value, ended.at);
    const wasRetried = (this.#retries.get(job.queue) ?? 0) > (job.failed ?? 0) - RETRY_MS;
    if (job.failed !== undefined && !wasRetried && found.state !== 'failed') differs('failed', job.failed);
    if (job.aborting !== undefined && !isEnd(found.state)) differs('to be aborted', job.aborting);
    if (!job.priorities.has(found.priority)) differs(`priority ${[...job.priorities]}`, job.prioritySince);
    if (job.progress !== undefined && !((found.progress as number) >= job.progress.value))
      differs(`progress ${job.progress.value}`, job.progress.at);
    if (job.logs !== undefined && found.logs < job.logs.value) differs(`${job.logs.value} lines`, job.logs.at);
    if (found.state === 'completed') {
      if (job.ends === 0) this.#wrong(`${key} completed without a run`);
      if (!isDeepStrictEqual(found.value, { key, n: job.n }))
        this.#wrong(`${key} holds ${JSON.stringify(found.value)}`);
    }
    if (found.list === 'delayed' && job.starts === 0 && job.deps.length === 0 && job.failed === undefined) {
      if (found.due !== found.timestamp + opts.delay)
        this.#wrong(`${key} is due ${found.due - found.timestamp} ms late`);
    }
    const before = job.found;
    if (before?.list === 'delayed' && found.list === 'delayed' && job.foundStarts === job.starts) {
      if (before.due !== found.due) this.#wrong(`${key} was due at ${before.due}, and now at ${found.due}`);
    }
    // All of that is on the disk.
    job.id = found.id;
    job.added = at;
    job.ended = found.state === 'completed' || found.state === 'cancelled' ? { value: found.state, at: 0 } : undefined;
    if (isExcused(job.failed ?? 0)) job.failed = undefined;
    job.aborting = undefined;
    job.priorities = new Set([found.priority]);
    job.prioritySince = 0;
    job.progress = typeof found.progress === 'number' ? { value: found.progress, at: 0 } : undefined;
    if (job.logs !== undefined) job.logs = { value: found.logs, at: 0 };
    job.found = found;
    job.foundStarts = job.starts;
  }

  /** A dependent and what it depends on, as they were found together. */
  #dependent(job: Known, byKey: ReadonlyMap<string, FoundJob>): void {
    const found = byKey.get(job.key);
    if (found === undefined || job.deps.length === 0) return;
    const deps = job.deps.map((key) => ({ key, known: this.jobs.get(key), found: byKey.get(key) }));
    for (const dep of deps) {
      if (dep.found === undefined && (dep.known === undefined || !mayBeGone(dep.known)))
        this.#wrong(`${job.key} is there, but not ${dep.key}, on which it depends`);
    }
    if (!needsAll(job)) return;
    const isReleased = ['waiting', 'delayed'].includes(found.list) || found.state === 'completed';
    for (const dep of deps) {
      if (dep.found === undefined || dep.found.state === 'completed') continue;
      if (isReleased) this.#wrong(`${job.key} is ${found.list}, but ${dep.key} is ${dep.found.state}`);
      const policy = job.opts.onDependencyFailure ?? 'fail';
      const isOver = dep.found.state === 'cancelled' || (dep.found.state === 'failed' && policy !== 'wait');
      if (isOver && found.list === 'blocked') this.#wrong(`${job.key} (${policy}) waits for ${dep.key}, which is over`);
    }
    const isHeld = found.list === 'blocked' && found.lost < 2;
    if (isHeld && deps.every((dep) => dep.found?.state === 'completed'))
      this.#wrong(`${job.key} is blocked, though all that it depends on has completed`);
  }

  /** All of an atomic call, or nothing. */
  #whole(bulk: string, jobs: readonly Known[]): void {
    const lost = jobs.filter((job) => this.jobs.get(job.key) !== job).length;
    const found = jobs.filter((job) => job.found !== undefined).length;
    if (lost !== 0 && found !== 0) this.#wrong(`of the ${jobs.length} jobs of call ${bulk} there are ${found}`);
    if (lost !== 0) this.#bulks.delete(bulk);
  }

  #counted({ queues, jobs, hidden, live }: Dump): void {
    for (const { name, counts, listed } of queues) {
      for (const state of ['waiting', 'delayed', 'blocked', 'completed', 'failed', 'cancelled']) {
        if (counts[state] !== listed[state])
          this.#wrong(`${name} counts ${counts[state]} ${state}, and lists ${listed[state]}`);
      }
      if (counts.active !== 0) this.#wrong(`${name} counts ${counts.active} active before any worker is there`);
    }
    if (live !== jobs.length + hidden)
      this.#wrong(`the engine counts ${live} jobs, and lists ${jobs.length}+${hidden}`);
  }

  #settings({ queues }: Dump, isExcused: (at: number) => boolean): void {
    const control = queues.find(({ name }) => name === 'control');
    const check = (setting: Setting, value: unknown, what: string) => {
      if (!setting.values.has(value) && !isExcused(setting.since))
        this.#wrong(`${what} is ${value}, and was told ${[...setting.values]}`);
      settle(setting, value, 0);
    };
    check(this.#paused, control?.paused ?? false, 'paused');
    check(this.#concurrency, control?.config.concurrency ?? null, 'concurrency');
  }

  // ---- the end ----------------------------------------------------------------------------------------------------------------

  #drained(dump: Dump, at: number): void {
    for (const { key, list } of dump.jobs) if (!ENDED.has(list)) this.#wrong(`${key} is ${list} at the end`);
    const byKey = new Map(dump.jobs.map((job) => [job.key, job]));
    for (const job of this.jobs.values()) {
      const found = byKey.get(job.key);
      if (found === undefined) this.#missing(job, () => false);
      else this.#there(job, found, at, () => false);
    }
    this.#counted(dump);
    this.#inOrder();
    this.last = dump;
  }

  /** The jobs that one worker ran one by one at the very end. */
  #inOrder(): void {
    const starts = this.#orderStarts;
    for (let i = 1; i < starts.length; i++) {
      const [one, next] = [starts[i - 1] as Known, starts[i] as Known];
      const [priority, lower] = [priorityOf(one), priorityOf(next)];
      if (priority < lower) this.#wrong(`${one.key} of priority ${priority} was run before ${next.key} of ${lower}`);
      if (priority !== lower || one.wasPrioritised || next.wasPrioritised) continue;
      const [lifo, nextLifo] = [one.opts.lifo === true, next.opts.lifo === true];
      const isRight = lifo ? !nextLifo || one.line > next.line : !nextLifo && one.line < next.line;
      if (!isRight) this.#wrong(`${one.key} was run before ${next.key}, which comes before it`);
    }
  }

  get ordered(): number {
    return this.#orderStarts.length;
  }
}

/** Answers that a program under load gets: the job, or what it depends on, is gone or over meanwhile. */
const USUAL = new Set([
  'FLASHQ_JOB_ACTIVE',
  'FLASHQ_JOB_REMOVED',
  'FLASHQ_JOB_NOT_FOUND',
  'FLASHQ_VALIDATION',
  'FLASHQ_UNKNOWN_DEPENDENCY',
  'FLASHQ_BULK',
  'FLASHQ_ENGINE_CLOSED',
]);

const ENDED = new Set(['completed', 'failed', 'cancelled', 'remembered', 'lingering']);

function priorityOf({ priorities }: Known): number {
  return [...priorities][0] as number;
}

function settle(setting: Setting, value: unknown, at: number): void {
  setting.values = new Set([value]);
  setting.since = at;
}

function isGenerated(id: unknown): boolean {
  return typeof id === 'string' && id.startsWith('j');
}

function isEnd(state: string): boolean {
  return state === 'completed' || state === 'failed' || state === 'cancelled';
}

/** It runs only when all that it depends on has completed. */
function needsAll({ opts }: Known): boolean {
  return opts.onDependencyFailure !== 'run' && opts.onDependencyFailure !== 'run-now';
}

/** Somebody removed it, or its own retention may have. */
function mayBeGone(job: Known): boolean {
  const { opts } = job;
  if (job.removeAsked) return true;
  const isCancelled = job.cancelAsked || opts.onDependencyFailure === 'cancel';
  if (opts.removeOnComplete === true && (job.ends > 0 || isCancelled)) return true;
  return opts.removeOnFail === true && (job.throws > 0 || job.deps.length > 0);
}
