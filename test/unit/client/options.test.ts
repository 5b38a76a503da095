import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkJobId, checkJobName, checkQueueName, nearest } from '../../../client/checks.js';
import { ValidationError } from '../../../client/errors.js';
import {
  type AddOptions,
  normaliseRef,
  normaliseRefs,
  OPTION_NAMES,
  validateJobOptions,
} from '../../../client/options.js';

function refusal(opts: unknown): string {
  try {
    validateJobOptions(opts as AddOptions);
  } catch (error) {
    expect(error).toBeInstanceOf(ValidationError);
    return (error as Error).message;
  }
  throw new Error(`accepted: ${JSON.stringify(opts)}`);
}

describe('the normalised form', () => {
  test.each([
    [undefined, undefined],
    [{}, undefined],
    [{ delay: undefined }, undefined],
    [{ dependsOn: [] }, undefined],
    [{ priority: -0 }, { priority: 0 }],
    [{ delay: 1.2 }, { delay: 2 }],
    [{ backoff: 1000 }, { backoff: { type: 'fixed', delay: 1000, factor: 2, maxDelay: 1e13, jitter: 0 } }],
    [
      { backoff: { type: 'exponential', delay: 5, jitter: 0.5, maxDelay: 60_000 } },
      { backoff: { type: 'exponential', delay: 5, factor: 2, maxDelay: 60_000, jitter: 0.5 } },
    ],
    [{ backoff: { type: 'mine' } }, { backoff: { type: 'mine', delay: 1000, factor: 2, maxDelay: 1e13, jitter: 0 } }],
    [
      { removeOnComplete: 0, removeOnFail: 7 },
      { removeOnComplete: true, removeOnFail: { count: 7 } },
    ],
    [{ removeOnFail: { age: 5 } }, { removeOnFail: { age: 5 } }],
    [{ removeOnFail: { age: 0, count: 5 } }, { removeOnFail: true }],
    [{ depends_on: ['a', { queue: 'q', id: 'b' }, 'a'] }, { dependsOn: [{ id: 'a' }, { queue: 'q', id: 'b' }] }],
    [
      { jobId: 'mine', timeout: 0, ttl: 10 },
      { jobId: 'mine', timeout: 0, ttl: 10 },
    ],
  ])('%j', (opts, expected) => {
    expect(validateJobOptions(opts as AddOptions | undefined)).toEqual(expected);
  });

  test('defaults fill in what is open, and no more', () => {
    const defaults = validateJobOptions({ attempts: 3, priority: 9, dependsOn: ['x'] })!;
    expect(validateJobOptions(undefined, defaults)).toBe(defaults);
    expect(validateJobOptions({ priority: 0, dependsOn: [] }, defaults)).toEqual({ attempts: 3, priority: 0 });
    expect(validateJobOptions({ delay: 5 }, defaults)).toEqual({
      attempts: 3,
      priority: 9,
      delay: 5,
      dependsOn: [{ id: 'x' }],
    });
  });

  test('equal options are one frozen object; options of one job are their own', () => {
    const one = validateJobOptions({ priority: 5, backoff: 100 })!;
    expect(validateJobOptions({ backoff: 100, priority: 5 })).toBe(one);
    expect(Object.isFrozen(one) && Object.isFrozen(one.backoff)).toBe(true);
    expect(validateJobOptions({ priority: 5, backoff: 101 })).not.toBe(one);
    expect(validateJobOptions({ jobId: 'a' })).not.toBe(validateJobOptions({ jobId: 'a' }));
  });

  test('an object that its owner changes between two adds is read anew', () => {
    const opts = { delay: 1 };
    expect(validateJobOptions(opts)).toEqual({ delay: 1 });
    opts.delay = 2;
    expect(validateJobOptions(opts)).toEqual({ delay: 2 });
  });

  test('ten thousand references, half of them repeats, take linear time', () => {
    const refs = Array.from({ length: 10_000 }, (_, i) => `job-${i % 5000}`);
    expect(validateJobOptions({ dependsOn: refs })!.dependsOn).toHaveLength(5000);
  });
});

describe('refusals', () => {
  test.each([
    [{ prioriti: 1 }, /opts\.prioriti is not a known option. Did you mean 'priority'/],
    [{ retries: 1 }, /it is called attempts here/],
    [{ failParentOnFailure: true }, /onDependencyFailure/],
    [{ name: 'x' }, /first argument of add/],
    [{ priority: 1.5 }, /whole number from -2147483648 to 2147483647.*but is 1\.5/],
    [{ priority: 2 ** 31 }, /2147483648/],
    [{ delay: -1 }, /milliseconds/],
    [{ delay: Number.POSITIVE_INFINITY }, /milliseconds/],
    [{ delay: null }, /but is null/],
    [{ attempts: 0 }, /counts the first run/],
    [{ attempts: 1.5 }, /whole number/],
    [{ backoff: { type: 'fixed' } }, /backoff\.delay/],
    [{ backoff: { type: 'fixed', delay: 1, jiter: 1 } }, /Did you mean 'jitter'/],
    [{ backoff: { type: 'fixed', delay: 1, jitter: 2 } }, /from 0 to 1/],
    [{ backoff: { delay: 1 } }, /backoff\.type/],
    [{ removeOnComplete: {} }, /age/],
    [{ removeOnComplete: null }, /removeOnComplete/],
    [{ onDuplicate: 'replce' }, /did you mean 'replace'/],
    [{ jobId: '' }, /not empty/],
    [{ jobId: 7 }, /String\(id\)/],
    [{ jobId: 'é'.repeat(257) }, /at most 512 bytes/],
    [{ jobId: 'cron:x' }, /cron:/],
    [{ jobId: 'a\ud800' }, /well-formed/],
    [{ dependsOn: 'a' }, /array/],
    [{ dependsOn: ['a', 5] }, /dependsOn\[1\]/],
    [{ dependsOn: ['a'], depends_on: ['b'] }, /same option/],
    [[], /must be an object/],
    [5, /must be an object/],
    [null, /must be an object/],
  ])('%j', (opts, message) => {
    expect(refusal(opts)).toMatch(message);
  });

  test('every known option is either accepted or refused by its own rule', () => {
    for (const name of OPTION_NAMES.known) expect(refusal({ [name]: Symbol('odd') })).not.toMatch(/known option/);
  });

  test('no input does anything but pass or throw a ValidationError', () => {
    const name = fc.oneof(fc.constantFrom(...OPTION_NAMES.known), fc.string());
    fc.assert(
      fc.property(fc.dictionary(name, fc.anything()), (opts) => {
        try {
          validateJobOptions(opts as AddOptions);
        } catch (error) {
          expect(error).toBeInstanceOf(ValidationError);
        }
      }),
    );
  });
});

describe('names', () => {
  test('queue names', () => {
    for (const good of ['a', 'A.b_c:d-9', 'x'.repeat(256)]) expect(checkQueueName(good)).toBe(good);
    for (const bad of ['', 'x'.repeat(257), 'a b', 'é', 'a\n', 5, null]) {
      expect(() => checkQueueName(bad)).toThrow(ValidationError);
    }
    expect(() => checkQueueName('a/b')).toThrow(/contains "\/"/);
  });

  test('job names and ids', () => {
    expect(checkJobName('send')).toBe('send');
    expect(checkJobName('send')).toBe('send');
    for (const bad of ['', 'x'.repeat(1025), undefined]) expect(() => checkJobName(bad)).toThrow(ValidationError);
    expect(checkJobId('é'.repeat(256))).toHaveLength(256);
  });

  test('references', () => {
    expect(normaliseRef('a')).toEqual({ id: 'a' });
    expect(normaliseRef({ id: 'a', queueName: 'q' })).toEqual({ id: 'a', queue: 'q' });
    for (const bad of ['', {}, { id: 'a' }, null, 5]) expect(() => normaliseRef(bad)).toThrow(ValidationError);
    expect(normaliseRefs(['a', { id: 'a', queue: 'q' }], 'refs')).toHaveLength(2);
  });

  test('the nearest name', () => {
    expect(nearest('proirity', ['delay', 'priority'])).toBe('priority');
    expect(nearest('xyz', ['delay', 'priority'])).toBeUndefined();
  });
});
