/**
 * A life of an engine in steps, which leaves every kind of record and every state of a job in its log. The same steps give the same
 * log every time.
 */
import { UnrecoverableError } from 'flashq';
import type { Bench, Hands } from './engine.js';
import { turn } from './engine.js';

export interface Life {
  readonly b: Bench;
  /** The worker of a queue, whose runs the steps end. */
  hands(queue: string): Hands;
}

export type LifeStep = readonly [name: string, run: (life: Life) => Promise<unknown>];

const SECOND = 1000;
const LONG_AGO = 1_700_000_000_000;

/** `large`: bytes of the largest payload. */
export function lifeSteps(large: number): LifeStep[] {
  return [...admissions(large), ...runs(), ...dependents(), ...controls(), ...lastThings()];
}

function admissions(large: number): LifeStep[] {
  return [
    ['a job', ({ b }) => b.queue('plain').add('first', { n: 1 })],
    [
      'many jobs in one step, of several priorities and in the head lane',
      ({ b }) =>
        b.queue('plain').addBulk([
          { name: 'low', data: 'a', opts: { priority: -5 } },
          { name: 'high', data: 'b', opts: { priority: 2_000_000 } },
          { name: 'usual', data: null },
          { name: 'to the head', data: [1, 2], opts: { lifo: true } },
          { name: 'before that', data: undefined, opts: { lifo: true } },
          { name: 'noted', data: { when: new Date(0), big: 12n }, opts: { timestamp: LONG_AGO } },
        ]),
    ],
    ['a delayed job', ({ b }) => b.queue('plain').add('later', { at: 'noon' }, { delay: 3_600 * SECOND })],
    [
      'an id of its own',
      ({ b }) => b.queue('plain').add('order', { total: 10.5 }, { jobId: 'Bestellung-größer/1 ✓', attempts: 3 }),
    ],
    ['a large payload', ({ b }) => b.queue('large').add('blob', bytesOf(large))],
    [
      'a large group of small jobs',
      ({ b }) =>
        b
          .queue('large')
          .addBulk(Array.from({ length: 40 }, (_, n) => ({ name: `part ${n}`, data: { n, text: 'x'.repeat(n) } }))),
    ],
  ];
}

/** Bytes that don't repeat soon. */
function bytesOf(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = (at * 31 + (at >> 8) * 7) & 255;
  return bytes;
}

function runs(): LifeStep[] {
  const queue = 'runs';
  return [
    [
      'completed, with a result',
      async ({ b, hands }) => {
        await b.queue(queue).add('sum', { of: [1, 2] });
        await (await hands(queue).next()).complete({ sum: 3 });
      },
    ],
    [
      'failed, and to be tried again',
      async ({ b, hands }) => {
        await b.queue(queue).add('flaky', 1, { attempts: 3, backoff: { type: 'exponential', delay: 50_000 } });
        await (await hands(queue).next()).fail(failure('not yet'));
      },
    ],
    ['attempts_exhausted', (life) => failed(life, queue, failure('no more'), {})],
    [
      'unrecoverable',
      (life) =>
        failed(life, queue, Object.assign(new UnrecoverableError('never'), { stack: 'never' }), { attempts: 9 }),
    ],
    [
      'timeout',
      async ({ b, hands }) => {
        await b.queue(queue).add('slow', null, { timeout: 2 * SECOND });
        const run = await hands(queue).next();
        await b.clock.advance(2 * SECOND);
        await run.fail(failure('stopped'));
      },
    ],
    [
      'result_unserialisable',
      async ({ b, hands }) => {
        await b.queue(queue).add('odd', null);
        await (await hands(queue).next()).complete(() => {});
      },
    ],
    [
      'expired',
      async ({ b }) => {
        await b.queue('expiring').pause();
        await b.queue('expiring').add('too late', null, { ttl: 1 * SECOND });
        await b.clock.advance(2 * SECOND);
      },
    ],
    [
      'moved',
      async ({ b }) => {
        const job = await b.queue('moved').add('unwanted', null);
        await b.queue('moved').moveToDlq(job, 'nobody wants it');
      },
    ],
    [
      'retried from the dead letter queue',
      async ({ b }) => {
        const job = await b.queue('moved').add('wanted after all', { n: 2 });
        await b.queue('moved').moveToDlq(job, 'by mistake');
        await b.queue('moved').retryDlq(job);
      },
    ],
    [
      'released by its handler for later',
      async ({ b, hands }) => {
        const { DelayedError } = await import('flashq');
        await b.queue(queue).add('not now', null);
        await (await hands(queue).next()).fail(new DelayedError(90 * SECOND));
      },
    ],
    [
      'remembered, after it lingered',
      async ({ b, hands }) => {
        await b.queue(queue).add('once', { secret: 1 }, { jobId: 'once-1', removeOnComplete: true });
        await (await hands(queue).next()).complete('kept for a moment');
        await b.clock.advance(31 * SECOND);
      },
    ],
    [
      'lingering',
      async ({ b, hands }) => {
        await b.queue(queue).add('gone at once', { secret: 2 }, { removeOnComplete: true });
        await (await hands(queue).next()).complete('kept for a moment');
      },
    ],
  ];
}

async function failed({ b, hands }: Life, queue: string, error: Error, opts: object): Promise<void> {
  await b.queue(queue).add('failing', { will: 'fail' }, opts);
  await (await hands(queue).next()).fail(error);
}

/** Without the paths of this machine. */
function failure(message: string): Error {
  return Object.assign(new Error(message), { stack: `Error: ${message}\n    at handler.js:1:1` });
}

const POLICIES = ['fail', 'run', 'run-now', 'cancel', 'wait'] as const;

function dependents(): LifeStep[] {
  const failing = (policy: string) => ({ queue: 'parents', id: `fails-${policy}` });
  return [
    [
      'dependents of every policy',
      async ({ b }) => {
        await b.queue('parents').pause();
        for (const policy of POLICIES) {
          await b.queue('parents').addBulk([
            { name: 'parent', data: policy, opts: { jobId: failing(policy).id } },
            { name: 'parent', data: policy, opts: { jobId: `other-${policy}` } },
          ]);
          await b.queue('children').add('child', policy, {
            jobId: `child-${policy}`,
            onDependencyFailure: policy,
            dependsOn: [failing(policy), { queue: 'parents', id: `other-${policy}` }],
          });
        }
      },
    ],
    ...POLICIES.map(
      (policy): LifeStep => [
        `a dependency failed: ${policy}`,
        async ({ b }) => {
          await b.queue('parents').moveToDlq(failing(policy).id, 'to see what follows');
          await turn();
        },
      ],
    ),
    [
      'a dependency completed, another is open',
      async ({ b, hands }) => {
        const queue = b.queue('family');
        await queue.addBulk([
          { name: 'done', data: 1, opts: { jobId: 'done', removeOnComplete: false } },
          { name: 'open', data: 2, opts: { jobId: 'open', delay: 1000 * SECOND } },
        ]);
        await queue.add('child', 3, { jobId: 'half', dependsOn: ['done', 'open'] });
        await (await hands('family').next()).complete({ from: 'done' });
      },
    ],
    ['a completed dependency is removed, and still read', ({ b }) => b.queue('family').remove('done')],
    [
      'released by its dependency',
      async ({ b, hands }) => {
        const parent = await b.queue('family').add('soon', 4, { jobId: 'soon' });
        await b.queue('children').add('freed', 5, { dependsOn: [parent] });
        await (await hands('family').next()).complete([6]);
      },
    ],
  ];
}

function controls(): LifeStep[] {
  return [
    ['settings', ({ b }) => b.queue('plain').configure({ rateLimit: { max: 100, duration: 1000 }, concurrency: 7 })],
    ['a pause', ({ b }) => b.queue('plain').pause()],
    [
      'progress and log lines',
      async ({ b }) => {
        const job = await b.queue('told').add('talks', null, { keepLogs: 2 });
        await job.updateProgress({ percent: 40 });
        for (const line of ['one', 'two', 'three']) await job.log(line);
      },
    ],
    [
      'other data, another priority, another delay',
      async ({ b }) => {
        const queue = b.queue('told');
        const job = await queue.add('changes', { version: 1 }, { jobId: 'changes' });
        await queue.updateData(job, { version: 2, longer: 'than before' });
        await queue.changePriority(job, { priority: 3 });
        const later = await queue.add('moves', null, { delay: 10 * SECOND });
        await queue.changeDelay(later, 500 * SECOND);
        const sooner = await queue.add('promoted', null, { delay: 10 * SECOND });
        await queue.promote(sooner);
      },
    ],
    [
      'cancelled',
      async ({ b }) => {
        const job = await b.queue('told').add('dropped', null);
        await b.queue('told').cancel(job, 'changed my mind');
      },
    ],
    [
      'removed',
      async ({ b }) => {
        const job = await b.queue('told').add('mistake', null, { jobId: 'mistake' });
        await b.queue('told').remove(job);
      },
    ],
    [
      'a queue is wiped out',
      async ({ b }) => {
        const queue = b.queue('wiped');
        await queue.addBulk([1, 2, 3].map((n) => ({ name: 'chaff', data: n })));
        await queue.obliterate();
      },
    ],
  ];
}

function lastThings(): LifeStep[] {
  return [
    [
      'running when the engine ends',
      async ({ b, hands }) => {
        const queue = b.queue('crashing');
        await queue.addBulk([1, 2, 3].map((n) => ({ name: 'interrupted', data: n, opts: { priority: n } })));
        await hands('crashing').next();
        await hands('crashing').next();
        await hands('crashing').next();
      },
    ],
    ['a last job behind them', ({ b }) => b.queue('crashing').add('behind', 4)],
  ];
}
