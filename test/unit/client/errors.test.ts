import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as errors from '../../../client/errors.js';

const {
  BulkError,
  deserialiseError,
  ERROR_CLASSES,
  FlashQError,
  fromErrorRecord,
  JobFailedError,
  serialiseError,
  toErrorRecord,
  ValidationError,
} = errors;

/** The contract: a code never changes. */
const CODES: Record<string, [code: string, retryable: boolean]> = {
  FlashQError: ['FLASHQ_ERROR', false],
  ValidationError: ['FLASHQ_VALIDATION', false],
  BulkError: ['FLASHQ_BULK', false],
  UnrecoverableError: ['FLASHQ_UNRECOVERABLE', false],
  RateLimitError: ['FLASHQ_RATE_LIMIT', true],
  DelayedError: ['FLASHQ_DELAYED', true],
  WaitingForJobsError: ['FLASHQ_WAITING_FOR_JOBS', true],
  DuplicateJobError: ['FLASHQ_DUPLICATE_JOB', false],
  UnknownDependencyError: ['FLASHQ_UNKNOWN_DEPENDENCY', false],
  JobFailedError: ['FLASHQ_JOB_FAILED', false],
  JobCancelledError: ['FLASHQ_JOB_CANCELLED', false],
  JobRemovedError: ['FLASHQ_JOB_REMOVED', false],
  JobNotFoundError: ['FLASHQ_JOB_NOT_FOUND', false],
  JobActiveError: ['FLASHQ_JOB_ACTIVE', true],
  WaitTimeoutError: ['FLASHQ_WAIT_TIMEOUT', true],
  TimeoutError: ['FLASHQ_TIMEOUT', true],
  EngineFullError: ['FLASHQ_ENGINE_FULL', true],
  EngineClosedError: ['FLASHQ_ENGINE_CLOSED', false],
  DataDirLockedError: ['FLASHQ_DATA_DIR_LOCKED', true],
  StoreError: ['FLASHQ_STORE', false],
  ConnectionError: ['FLASHQ_CONNECTION', true],
  AuthenticationError: ['FLASHQ_AUTHENTICATION', false],
  PermissionError: ['FLASHQ_PERMISSION', false],
  ProtocolError: ['FLASHQ_PROTOCOL', false],
  LeaseLostError: ['FLASHQ_LEASE_LOST', false],
  SagaFailedError: ['FLASHQ_SAGA_FAILED', false],
  CircuitOpenError: ['FLASHQ_CIRCUIT_OPEN', true],
};

const JOB = { queue: 'emails', jobId: '7' };
const SAMPLES: Error[] = [
  new errors.FlashQError('x'),
  new ValidationError('bad', { path: 'data.items[3]', cause: new TypeError('why') }),
  new BulkError([{ index: 2, error: new ValidationError('bad', { path: 'name' }) }]),
  new errors.UnrecoverableError('never'),
  new errors.RateLimitError(5000),
  new errors.DelayedError(10),
  new errors.WaitingForJobsError(JOB),
  new errors.DuplicateJobError({ ...JOB, state: 'active' }),
  new errors.UnknownDependencyError(JOB),
  new JobFailedError({ ...JOB, failedReason: 'no luck', stacktrace: ['a', 'b'] }),
  new errors.JobCancelledError({ ...JOB, reason: 'because' }),
  new errors.JobRemovedError({ ...JOB, state: 'completed' }),
  new errors.JobNotFoundError(JOB),
  new errors.JobActiveError(JOB),
  new errors.WaitTimeoutError({ queue: 'emails', jobIds: ['7'], timeoutMs: 5 }),
  new errors.TimeoutError(100),
  new errors.EngineFullError({ limitBytes: 1024 }),
  new errors.EngineClosedError(),
  new errors.DataDirLockedError({ dataDir: '/data', pid: 4 }),
  new errors.StoreError('disk', { reason: 'io' }),
  new errors.ConnectionError('lost'),
  new errors.AuthenticationError('who'),
  new errors.PermissionError('no'),
  new errors.ProtocolError('what'),
  new errors.LeaseLostError(JOB),
  new errors.SagaFailedError({ saga: 's', sagaId: '1', step: 'pay' }, { cause: new Error('declined') }),
  new errors.CircuitOpenError({ retryAfterMs: 3, key: 'k' }),
];

function fieldsOf(error: Error): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const key of Object.keys(error)) {
    const value = (error as unknown as Record<string, unknown>)[key];
    if (value !== undefined) fields[key] = value;
  }
  return fields;
}

describe('classes', () => {
  test.each(Object.entries(CODES))('%s keeps its code and its retryability', (name, [code, retryable]) => {
    const type = ERROR_CLASSES.get(code)!;
    expect(type).toBe((errors as unknown as Record<string, unknown>)[name]);
    expect(type.prototype).toMatchObject({ name, code, retryable });
  });

  test('there is a sample, and a code, of every class', () => {
    expect(ERROR_CLASSES.size).toBe(Object.keys(CODES).length);
    expect(new Set(SAMPLES.map((one) => one.name))).toEqual(new Set(Object.keys(CODES)));
  });

  test('the message of a breaker that is open is the known one', () => {
    expect(new errors.CircuitOpenError({ retryAfterMs: 1 }).message).toBe('Circuit breaker is OPEN');
  });
});

describe('across a port', () => {
  test.each(SAMPLES.map((one) => [one.name, one] as const))(
    '%s arrives as the same class with its fields',
    (_, error) => {
      const crossed = structuredClone(serialiseError(error));
      expect(JSON.parse(JSON.stringify(crossed))).toEqual(crossed);
      const back = deserialiseError(crossed);
      expect(back).toBeInstanceOf(error.constructor);
      expect(back).toBeInstanceOf(FlashQError);
      expect(back).toMatchObject({ name: error.name, message: error.message, stack: error.stack });
      expect((back as errors.FlashQError).code).toBe((error as errors.FlashQError).code);
      expect(Object.keys(fieldsOf(back))).toEqual(Object.keys(fieldsOf(error)));
      for (const [key, value] of Object.entries(fieldsOf(error))) {
        if (key !== 'errors') expect((back as unknown as Record<string, unknown>)[key]).toEqual(value);
      }
    },
  );

  test('errors inside errors are rebuilt too', () => {
    const back = deserialiseError(serialiseError(SAMPLES[2])) as errors.BulkError;
    expect(back.errors[0]!.index).toBe(2);
    expect(back.errors[0]!.error).toBeInstanceOf(ValidationError);
    expect((back.errors[0]!.error as errors.ValidationError).path).toBe('name');
  });

  test('causes are kept', () => {
    const back = deserialiseError(serialiseError(SAMPLES[1]));
    expect(back.cause).toBeInstanceOf(Error);
    expect(back.cause).toMatchObject({ name: 'TypeError', message: 'why' });
  });

  test("a stranger's error keeps name, message, stack and code, but no field of ours", () => {
    const error = Object.assign(new RangeError('far'), { code: 'E_FAR', jobId: 'x' });
    const back = deserialiseError(serialiseError(error));
    expect(back).toMatchObject({ name: 'RangeError', message: 'far', code: 'E_FAR', stack: error.stack });
  });

  test("a stranger's error with a code of ours does not become an error of ours without its fields", () => {
    const back = deserialiseError({ name: 'Error', message: 'm', stack: '', code: 'FLASHQ_JOB_FAILED' });
    expect(back).not.toBeInstanceOf(FlashQError);
  });

  test('errors that are their own cause come through', () => {
    const error = new Error('round') as Error & { cause: unknown };
    error.cause = error;
    expect(() => deserialiseError(structuredClone(serialiseError(error)))).not.toThrow();
  });
});

describe('toErrorRecord', () => {
  test('whatever is thrown becomes strings', () => {
    fc.assert(
      fc.property(
        fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true }),
        (thrown) => {
          const record = toErrorRecord(thrown);
          for (const value of [record.name, record.message, record.stack]) expect(typeof value).toBe('string');
          expect(fromErrorRecord(record).message).toBe(record.message);
        },
      ),
    );
  });

  test.each([
    [undefined, 'undefined'],
    [null, 'null'],
    ['text', 'text'],
    [5n, '5'],
    [Symbol('s'), 'Symbol(s)'],
    [{ message: 'like one' }, 'like one'],
    [{ status: 404 }, '{"status":404}'],
    [new Error(''), 'Error'],
  ])('%s', (thrown, message) => {
    expect(toErrorRecord(thrown).message).toBe(message);
  });

  test('getters and proxies that throw are survived', () => {
    const trap = new Proxy(
      {},
      {
        get: () => {
          throw new Error('trap');
        },
        getPrototypeOf: () => null,
      },
    );
    expect(typeof toErrorRecord(trap).message).toBe('string');
  });

  test('the stacks of causes are told', () => {
    const record = toErrorRecord(new Error('outer', { cause: new Error('inner') }));
    expect(record.stack).toMatch(/outer[\s\S]*Caused by: Error: inner/);
  });

  test('a megabyte is cut', () => {
    expect(toErrorRecord(new Error('x'.repeat(1e6))).message.length).toBeLessThan(20_000);
  });
});
