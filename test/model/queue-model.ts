/**
 * What one queue with one worker of concurrency 1 does, said as plainly as it can be: arrays, sets, and a search through everything.
 * It follows the semantics and knows nothing of the engine. Every public method is one step, after which the worker starts what is next.
 */
import type { JobState } from 'flashq';
import {
  Ambiguous,
  type ModelAnswer,
  type ModelItem,
  ModelJob,
  type ModelOutcome,
  ModelWait,
  NEVER,
  type Reason,
  Refused,
  retried,
  SOME_MESSAGE,
  type Told,
} from './job-model.js';
import { refusalsOf } from './refusals.js';

const LINGER_MS = 30_000;
const GRACE_MS = 5000;
const DELIVERIES_MAX = 5;
const SUSPECT_LOSSES = 2;

/** The run that occupies the worker. Its job may have been taken from it. */
interface ModelRun {
  job: ModelJob | undefined;
  aborted: 'timeout' | 'cancelled' | undefined;
  /** When its timeout, or its grace, is over. */
  deadline: number;
  /** Its job was removed with the queue; until its grace is over it still counts as active. */
  isDiscarded: boolean;
}

export class QueueModel {
  now: number;
  paused = false;
  /** Every job there ever was, in the order in which they came. */
  readonly jobs: ModelJob[] = [];
  /** Which job an id of the user's own means, while it is known. */
  readonly #byJobId = new Map<string, ModelJob>();
  /** Who is ready, in the order in which they will start. */
  #line: ModelJob[] = [];
  run: ModelRun | undefined;
  /** Every start, in order. */
  readonly started: ModelJob[] = [];
  readonly waits: ModelWait[] = [];
  /** Ended, with what follows from it still to come. */
  #ending: ModelJob[] = [];
  #events = 0;
  /** In the line, but to be claimed only when what put them there is durable. */
  readonly #held = new Set<ModelJob>();
  /** Of jobs lost twice or more one is in the line or runs; the others wait for it. */
  #suspectOut: ModelJob | undefined;
  #suspects: ModelJob[] = [];
  #isReopened = false;
  /** What `setRateLimit` was given. */
  rateMax: number | undefined;
  readonly #gates: boolean;

  /** `gates`: jobs that are added or released can be claimed only when that is durable. */
  constructor(now: number, gates = false) {
    this.now = now;
    this.#gates = gates;
  }

  // ---- looking ----------------------------------------------------------------------------------------------------------------

  /** The job that an id means; `gone` when there was one; undefined when there never was, as far as anybody knows. */
  find(id: string): ModelJob | 'gone' | undefined {
    const named = this.#byJobId.get(id);
    if (named !== undefined) return named;
    const numbered = this.jobs.find((job) => job.id === id && job.opts.jobId === undefined);
    return numbered?.kept === 'nothing' ? 'gone' : numbered;
  }

  in(state: JobState): ModelJob[] {
    return this.jobs.filter((job) => job.isVisible && job.state === state).sort((a, b) => a.since - b.since);
  }

  /** How many runs count as active. */
  get active(): number {
    return this.run !== undefined && (this.run.job !== undefined || this.run.isDiscarded) ? 1 : 0;
  }

  #mustFind(id: string): ModelJob {
    const found = this.find(id);
    if (found === undefined) throw new Refused('JobNotFoundError');
    if (found === 'gone' || !found.isVisible) throw new Refused('JobRemovedError');
    return found;
  }

  // ---- adding -----------------------------------------------------------------------------------------------------------------

  add(items: readonly ModelItem[], atomic: boolean): ModelAnswer[] {
    const refusals = refusalsOf(items, atomic, {
      named: (id) => this.#byJobId.get(id),
      find: (id) => this.find(id),
      canReplace: (job) => this.#canReplace(job),
    });
    if (atomic && refusals.some((one) => one !== undefined)) {
      return refusals.map((error) => ({ error: error ?? 'BulkError' }));
    }
    // First all records, so that items may name each other; then each begins.
    const fresh = new Map<number, ModelJob>();
    const before = new Map<number, ModelJob>();
    const inCall = new Map<string, number>();
    for (const [index, item] of items.entries()) {
      const { jobId, onDuplicate } = item.opts;
      const known = jobId === undefined ? undefined : this.#byJobId.get(jobId);
      if (refusals[index] !== undefined || (jobId !== undefined && inCall.has(jobId))) continue;
      if (jobId !== undefined) inCall.set(jobId, index);
      if (known !== undefined && !(onDuplicate === 'rerun' && known.isOver)) {
        before.set(index, known);
        continue;
      }
      if (known !== undefined) this.#drop(known);
      const job = new ModelJob(item);
      fresh.set(index, job);
      this.jobs.push(job);
      if (jobId !== undefined) this.#byJobId.set(jobId, job);
    }
    for (const [index, job] of fresh) this.#connect(job, items[index] as ModelItem);
    const answers = items.map((item, index): ModelAnswer => {
      const error = refusals[index];
      if (error !== undefined) return { error };
      const made = fresh.get(index);
      if (made !== undefined) {
        this.#configure(made, item);
        this.#begin(made);
        return { job: made, deduplicated: false };
      }
      const known = before.get(index);
      if (known === undefined) {
        return { job: this.#byJobId.get(item.opts.jobId as string) as ModelJob, deduplicated: true };
      }
      if (item.opts.onDuplicate === 'replace' && this.#canReplace(known)) this.#replace(known, item);
      return { job: known, deduplicated: true };
    });
    this.#follow(); // what items that ended at once lead to
    this.#commit();
    return answers;
  }

  #connect(job: ModelJob, item: ModelItem): void {
    job.opts = item.opts;
    const found = item.needs.map((id) => this.find(id)).filter((one) => one !== 'gone' && one !== undefined);
    job.needs = [...new Set(found as ModelJob[])];
    for (const needed of job.needs) {
      needed.dependents.push(job);
      if (!needed.isOver || job.mayWaitFor(needed)) job.open.add(needed);
    }
  }

  #configure(job: ModelJob, { data, opts }: ModelItem): void {
    job.data = data;
    job.opts = opts;
    job.priority = opts.priority ?? 0;
    job.expiry = opts.ttl === undefined ? NEVER : this.now + (opts.delay ?? 0) + opts.ttl;
  }

  #canReplace(job: ModelJob): boolean {
    return !job.isOver && job.attemptsStarted === 0;
  }

  #replace(job: ModelJob, item: ModelItem): void {
    this.#leave(job);
    this.#forgetNeeds(job);
    this.#connect(job, item);
    this.#configure(job, item);
    this.#begin(job);
  }

  /** Blocked, delayed or ready. */
  #begin(job: ModelJob): void {
    this.#enter(job, 'blocked');
    const isHopeless = (one: ModelJob) => one.isOver && one.state !== 'completed' && !job.mayWaitFor(one);
    const hopeless = job.needs.find(isHopeless);
    if (hopeless !== undefined && job.policy !== 'run') this.#applyPolicy(job, hopeless);
    else if (job.open.size === 0) this.#release(job);
  }

  // ---- from state to state ----------------------------------------------------------------------------------------------------

  #enter(job: ModelJob, state: JobState): void {
    job.state = state;
    job.since = ++this.#events;
    job.due = NEVER;
  }

  /** Out of the line, if it is in it. */
  #leave(job: ModelJob): void {
    this.#line = this.#line.filter((other) => other !== job);
    this.#held.delete(job);
  }

  /** As `#makeReady`, unless another job that was lost as often has to be through first. */
  #makeReadyAgain(job: ModelJob, first = job.opts.lifo === true): void {
    if (job.lost >= SUSPECT_LOSSES) {
      if (this.#suspectOut !== undefined) {
        this.#enter(job, 'blocked');
        this.#suspects.push(job);
        return;
      }
      this.#suspectOut = job;
    }
    this.#makeReady(job, first);
  }

  /** The suspect is through: the next one comes to the head. */
  #leaveSuspects(job: ModelJob): void {
    if (this.#suspectOut !== job) return;
    this.#suspectOut = undefined;
    this.#nextSuspect();
  }

  #nextSuspect(): void {
    while (this.#suspectOut === undefined) {
      const next = this.#suspects.shift();
      if (next === undefined) return;
      if (next.state === 'blocked' && next.isVisible) this.#makeReadyAgain(next, true);
    }
  }

  /** To the tail of its priority; `lifo` jobs to its head. */
  #makeReady(job: ModelJob, lifo = job.opts.lifo === true): void {
    this.#leave(job);
    if (job.state !== 'waiting') this.#enter(job, 'waiting');
    const before = this.#line.filter((one) => one.priority > job.priority || (one.priority === job.priority && !lifo));
    this.#line = [...before, job, ...this.#line.filter((one) => !before.includes(one))];
  }

  #delayOrReady(job: ModelJob, delay: number): void {
    if (delay <= 0) {
      this.#makeReadyAgain(job);
      return;
    }
    this.#enter(job, 'delayed');
    job.due = this.now + delay;
  }

  /** Nothing holds a blocked job any more. */
  #release(job: ModelJob): void {
    job.open.clear();
    this.#delayOrReady(job, job.attemptsStarted === 0 ? (job.opts.delay ?? 0) : 0);
    if (this.#gates && job.state === 'waiting') this.#held.add(job);
  }

  /** The end of a step: the worker takes what there is, and once it is durable what has come. */
  #commit(): void {
    this.#startNext();
    this.#held.clear();
    this.#startNext();
  }

  #startNext(): void {
    if (this.paused || this.run !== undefined) return;
    const job = this.#line.find((one) => !this.#held.has(one));
    if (job === undefined) return;
    this.#leave(job);
    job.state = 'active';
    job.attemptsStarted++;
    job.expiry = NEVER;
    const { timeout } = job.opts;
    this.run = {
      job,
      aborted: undefined,
      deadline: timeout === undefined ? NEVER : this.now + timeout,
      isDiscarded: false,
    };
    this.started.push(job);
  }

  // ---- ends -------------------------------------------------------------------------------------------------------------------

  #end(job: ModelJob, state: 'completed' | 'failed' | 'cancelled'): void {
    this.#leave(job);
    this.#enter(job, state);
    job.open.clear();
    job.expiry = NEVER;
    job.finishedOn = this.now;
    this.#ending.push(job);
  }

  #fail(job: ModelJob, reason: Reason, message: ModelJob['failedReason']): void {
    job.dlqReason = reason;
    job.failedReason = message;
    this.#end(job, 'failed');
  }

  /** What follows from the ends there were, and from those that this leads to. */
  #follow(): void {
    for (let job = this.#ending[0]; job !== undefined; job = this.#ending[0]) {
      this.#tellWaits(job);
      this.#settleDependents(job);
      if (job.state !== 'failed') this.#forgetNeeds(job);
      this.#ending.shift();
      this.#retain(job);
    }
  }

  #forgetNeeds(job: ModelJob): void {
    for (const needed of job.needs) needed.dependents = needed.dependents.filter((other) => other !== job);
    job.needs = [];
    job.open.clear();
  }

  /** `job` has ended, or is removed. */
  #settleDependents(job: ModelJob): void {
    for (const dependent of [...job.dependents]) {
      if (!dependent.open.has(job)) continue;
      if (job.state === 'completed') this.#oneLess(dependent, job);
      else if (!dependent.mayWaitFor(job)) this.#applyPolicy(dependent, job);
    }
  }

  #oneLess(job: ModelJob, needed: ModelJob): void {
    job.open.delete(needed);
    if (job.open.size === 0) this.#release(job);
  }

  #applyPolicy(job: ModelJob, failed: ModelJob): void {
    switch (job.policy) {
      case 'run':
        this.#oneLess(job, failed);
        return;
      case 'run-now':
        this.#release(job);
        return;
      case 'cancel':
        job.failedReason ??= SOME_MESSAGE;
        this.#end(job, 'cancelled');
        return;
      default:
        this.#fail(job, 'dependency_failed', SOME_MESSAGE);
    }
  }

  #retain(job: ModelJob): void {
    const policy = job.retention;
    if (policy === true) {
      job.kept = 'outcome';
      this.#forgetNeeds(job);
      this.#settleDependents(job);
      return;
    }
    if (policy.count === undefined) return;
    const records = this.in(job.state);
    for (const oldest of records.slice(0, Math.max(0, records.length - policy.count))) {
      if (this.#ending.includes(oldest)) return;
      this.#evict(oldest);
    }
  }

  /** The time of a finished record is over: a `jobId` is remembered for its own. */
  #evict(job: ModelJob): void {
    const isRemembered = job.opts.jobId !== undefined && job.forgetAt > this.now;
    job.kept = isRemembered ? 'id' : 'nothing';
    this.#forgetNeeds(job);
    this.#settleDependents(job);
    if (!isRemembered) this.#forgetId(job);
  }

  #forgetId(job: ModelJob): void {
    job.kept = 'nothing';
    if (this.#byJobId.get(job.id) === job) this.#byJobId.delete(job.id);
  }

  /** Removes it, whatever its state, and forgets its id. */
  #drop(job: ModelJob): void {
    const state = job.isVisible ? job.state : undefined;
    this.#leave(job);
    this.#leaveSuspects(job);
    this.#forgetId(job);
    if (state !== 'completed' && !job.isOver) {
      job.state = 'cancelled'; // as far as dependents are concerned
      this.#tellWaits(job, { error: 'JobRemovedError' });
    }
    this.#settleDependents(job);
    this.#forgetNeeds(job);
  }

  // ---- the run ----------------------------------------------------------------------------------------------------------------

  /** The handler of the run ends. */
  settle(outcome: ModelOutcome): void {
    const { job, aborted } = this.run as ModelRun;
    this.run = undefined;
    if (job !== undefined) this.#settleRun(job, aborted, outcome);
    this.#follow();
    this.#commit();
  }

  #settleRun(job: ModelJob, aborted: ModelRun['aborted'], outcome: ModelOutcome): void {
    this.#leaveSuspects(job);
    if (outcome.kind === 'complete') {
      job.value = outcome.value;
      this.#end(job, 'completed');
    } else if (aborted === 'cancelled') this.#end(job, 'cancelled');
    else if (aborted === 'timeout') this.#failAttempt(job, SOME_MESSAGE, 'timeout');
    else if (outcome.kind === 'again') this.#delayOrReady(job, outcome.delayMs);
    else if (outcome.kind === 'unrecoverable') {
      job.attemptsMade++;
      this.#fail(job, 'unrecoverable', outcome.message);
    } else this.#failAttempt(job, outcome.message, 'attempts_exhausted', outcome.retryAfterMs);
  }

  #failAttempt(job: ModelJob, message: ModelJob['failedReason'], reason: Reason, retryAfterMs?: number): void {
    const { attempts = 1, backoff } = job.opts;
    job.attemptsMade++;
    job.failedReason = message;
    if (job.attemptsMade >= attempts) {
      this.#fail(job, reason, message);
      return;
    }
    const factor = backoff?.type === 'exponential' ? 2 ** (job.attemptsMade - 1) : 1;
    const delay = Math.min((backoff?.delay ?? 0) * factor, backoff?.maxDelay ?? NEVER);
    this.#delayOrReady(job, retryAfterMs ?? delay);
  }

  /** Timeout or grace of the run is over. A function goes on all the same, and occupies the worker. */
  #deadline(run: ModelRun): void {
    if (run.aborted === undefined) {
      run.aborted = 'timeout';
      run.deadline = this.now + GRACE_MS;
      return;
    }
    const job = run.job as ModelJob;
    run.job = undefined;
    run.deadline = NEVER;
    this.#leaveSuspects(job);
    if (run.aborted === 'cancelled') this.#end(job, 'cancelled');
    else this.#failAttempt(job, SOME_MESSAGE, 'timeout');
  }

  // ---- what users do to jobs --------------------------------------------------------------------------------------------------

  cancel(id: string): 'cancelled' | 'aborting' | 'finished' {
    const job = this.#mustFind(id);
    if (job.isOver) return 'finished';
    if (job.state === 'active') {
      const run = this.run as ModelRun;
      run.aborted ??= 'cancelled';
      run.deadline = this.now + GRACE_MS;
      return 'aborting';
    }
    this.#leaveSuspects(job);
    this.#end(job, 'cancelled');
    this.#follow();
    this.#commit();
    return 'cancelled';
  }

  remove(id: string): boolean {
    const job = this.find(id);
    if (job === undefined || job === 'gone') return false;
    if (job.state === 'active') throw new Refused('JobActiveError');
    this.#drop(job);
    this.#follow();
    this.#commit();
    return true;
  }

  promote(id: string): void {
    const job = this.#mustFind(id);
    if (job.state !== 'delayed') throw new Refused('ValidationError');
    this.#makeReadyAgain(job);
    this.#commit();
  }

  changePriority(id: string, priority: number, lifo: boolean): void {
    const job = this.#mustFind(id);
    if (job.isOver || job.state === 'active') throw new Refused('ValidationError');
    job.priority = priority;
    if (job.state === 'waiting') this.#makeReady(job, lifo || job.opts.lifo === true);
  }

  changeDelay(id: string, delay: number): void {
    const job = this.#mustFind(id);
    if (job.state !== 'delayed') throw new Refused('ValidationError');
    this.#delayOrReady(job, delay);
    this.#commit();
  }

  updateData(id: string, data: number): void {
    const job = this.#mustFind(id);
    job.data = data;
    if (job.state === 'waiting') this.#makeReady(job); // at the tail anew
  }

  moveToDlq(id: string, message: string): void {
    const job = this.#mustFind(id);
    if (job.isOver || job.state === 'active') throw new Refused('ValidationError');
    this.#leaveSuspects(job);
    this.#fail(job, 'moved', message);
    this.#follow();
    this.#commit();
  }

  // ---- what users do to the queue ---------------------------------------------------------------------------------------------

  setPaused(paused: boolean): void {
    this.paused = paused;
    this.#commit();
  }

  /** The failed ones among these. */
  #failed(ids: readonly string[] | 'all'): ModelJob[] {
    const found = ids === 'all' ? this.in('failed') : ids.map((id) => this.find(id));
    if (found.some((job) => job === undefined || job === 'gone' || !job.isVisible))
      throw new Refused('JobNotFoundError');
    return [...new Set(found as ModelJob[])].filter((job) => job.state === 'failed');
  }

  purgeDlq(ids: readonly string[] | 'all'): number {
    const chosen = this.#failed(ids);
    if (this.#isReopened && chosen.filter(({ dependents }) => dependents.length > 0).length > 1) throw new Ambiguous();
    for (const job of chosen) this.#drop(job);
    this.#follow();
    this.#commit();
    return chosen.length;
  }

  retryDlq(ids: readonly string[] | 'all', withDependencies: boolean): number {
    const chosen = new Set(retried(this.#failed(ids), withDependencies));
    for (const job of chosen) job.beginAnew(this.now, chosen);
    for (const job of chosen) {
      if (job.open.size > 0) this.#enter(job, 'blocked');
      else this.#makeReady(job);
    }
    this.#commit();
    return chosen.size;
  }

  /** Removes those that are in these states now; one whose end another's removal leads to has ended. */
  drain(states: readonly JobState[]): void {
    const all = states.flatMap((state) => this.in(state));
    const needed = all.filter(({ dependents }) => dependents.length > 0);
    // In which order they go is not said of those that an earlier engine has left, nor of those that ran and wait again.
    const isUnsaid = all.some((job) => job.attemptsStarted > 0);
    if (needed.length > (this.#isReopened ? 1 : 0) && (this.#isReopened || isUnsaid)) throw new Ambiguous();
    for (const job of all) {
      if (job.isOver) continue;
      this.#drop(job);
      this.#follow();
    }
    this.#commit();
  }

  obliterate(force: boolean): void {
    const active = this.run?.job;
    if (this.active > 0 && !force) throw new Refused('JobActiveError');
    this.paused = true; // nothing starts meanwhile
    this.drain(['waiting', 'delayed', 'blocked']);
    if (active !== undefined) {
      this.run = { job: undefined, aborted: 'cancelled', deadline: this.now + GRACE_MS, isDiscarded: true };
      this.#drop(active);
    }
    for (const job of this.jobs) if (job.kept !== 'nothing') this.#drop(job);
    this.#follow();
    this.paused = false;
    this.rateMax = undefined;
    this.#commit();
  }

  // ---- one engine after the other ---------------------------------------------------------------------------------------------

  /** The engine is closed in order, which gives back what runs, and opened again after that time. */
  reopen(downMs: number): void {
    const { run } = this;
    this.run = undefined;
    if (run?.job !== undefined) this.#giveBack(run.job, run.aborted);
    this.#follow();
    this.now += downMs;
    this.#resume();
  }

  /** Where the old engine is, nobody knows; the new one finds that a run has not ended. */
  crash(downMs: number): void {
    const { run } = this;
    this.waits.length = 0;
    this.run = undefined;
    this.now += downMs;
    this.#putBack();
    const before = this.#suspects; // they come behind the one that is lost now
    this.#suspects = [];
    if (run?.job !== undefined) this.#lose(run.job, run.aborted);
    this.#suspects.push(...before);
    this.#follow();
    this.#resume();
  }

  #giveBack(job: ModelJob, aborted: ModelRun['aborted']): void {
    this.#leaveSuspects(job);
    if (aborted === 'cancelled') this.#end(job, 'cancelled');
    else this.#makeReadyAgain(job, true);
  }

  #lose(job: ModelJob, aborted: ModelRun['aborted']): void {
    if (this.#suspectOut === job) this.#suspectOut = undefined;
    if (aborted === 'cancelled') {
      this.#end(job, 'cancelled');
      return;
    }
    job.lost++;
    if (job.lost >= (job.opts.maxDeliveries ?? DELIVERIES_MAX)) this.#fail(job, 'worker_lost', SOME_MESSAGE);
    else this.#makeReadyAgain(job, true);
  }

  /** What has ended is in order of its end, and of one moment in that in which it was added. */
  #putBack(): void {
    for (const job of [...this.jobs].sort((a, b) => (a.finishedOn ?? 0) - (b.finishedOn ?? 0)))
      if (job.isOver) job.since = ++this.#events;
  }

  #resume(): void {
    this.#putBack();
    this.#isReopened = true;
    this.waits.length = 0;
    this.started.length = 0;
    this.#nextSuspect();
    const dueNow = () => this.jobs.filter((job) => this.#moment(job) <= this.now);
    for (let due = dueNow(); due.length > 0; due = dueNow()) {
      if (due.length > 1 && due.some((job) => !job.isOver || job.dependents.length > 0)) throw new Ambiguous();
      for (const job of due) this.#happen(job);
      this.#follow();
    }
    this.#held.clear();
    this.#commit();
  }

  // ---- waiting ----------------------------------------------------------------------------------------------------------------

  wait(ids: readonly string[], timeout: number | undefined, settled: boolean): ModelWait {
    const found = ids.map((id) => this.find(id));
    const jobs = found.map((job) => (job === 'gone' ? undefined : job));
    const wait = new ModelWait(jobs, timeout === undefined ? NEVER : this.now + timeout, settled);
    this.waits.push(wait);
    for (const [index, job] of found.entries()) {
      if (job === undefined) wait.tell(index, { error: 'JobNotFoundError' });
      else if (job === 'gone' || job.kept === 'id') wait.tell(index, { error: 'JobRemovedError' });
      else if (job.isOver) wait.tell(index, job.told);
    }
    if (ids.length === 0) wait.over = 'all';
    if (timeout === 0) wait.over ??= 'timeout';
    return wait;
  }

  #tellWaits(job: ModelJob, told: Told = job.told): void {
    for (const wait of this.waits) {
      for (const [index, one] of wait.jobs.entries()) if (one === job) wait.tell(index, told);
    }
  }

  // ---- time -------------------------------------------------------------------------------------------------------------------

  /** When something happens to the job by itself. */
  #moment(job: ModelJob): number {
    if (job.kept === 'nothing') return NEVER;
    if (job.kept === 'id') return job.forgetAt;
    if (job.kept === 'outcome') return (job.finishedOn as number) + LINGER_MS;
    if (!job.isOver) return job === this.run?.job ? this.run.deadline : Math.min(job.due, job.expiry);
    const policy = job.retention;
    return policy === true || policy.age === undefined ? NEVER : (job.finishedOn as number) + policy.age;
  }

  advance(ms: number): void {
    const end = this.now + ms;
    while (true) {
      const open = this.waits.filter((wait) => wait.over === undefined);
      const { isDiscarded = false, deadline = NEVER } = this.run ?? {};
      const discardedUntil = isDiscarded ? deadline : NEVER;
      const moments = this.jobs.map((job) => this.#moment(job));
      const next = Math.min(...moments, ...open.map((wait) => wait.deadline), discardedUntil);
      if (next > end) break;
      this.now = next;
      if (discardedUntil === next) (this.run as ModelRun).isDiscarded = false;
      const jobs = this.jobs.filter((job) => this.#moment(job) === next);
      const waits = open.filter((wait) => wait.deadline === next);
      const matters = jobs.filter((job) => !job.isOver || job.dependents.length > 0);
      if (matters.length > 0 && jobs.length + waits.length > 1) throw new Ambiguous();
      for (const wait of waits) wait.over = 'timeout';
      for (const job of jobs) this.#happen(job);
      this.#follow();
      this.#commit();
    }
    this.now = end;
  }

  #happen(job: ModelJob): void {
    if (job.kept === 'id') this.#forgetId(job);
    else if (job.isOver) this.#evict(job);
    else if (job === this.run?.job) this.#deadline(this.run);
    else if (job.expiry <= this.now) this.#fail(job, 'expired', SOME_MESSAGE);
    else this.#makeReadyAgain(job);
  }
}
