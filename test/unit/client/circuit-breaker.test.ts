import {
  CircuitBreaker,
  type CircuitBreakerOptions,
  CircuitOpenError,
  DelayedError,
  JobCancelledError,
  RateLimitError,
  TestClock,
  UnrecoverableError,
  ValidationError,
} from 'flashq';
import { beforeEach, describe, expect, test } from 'vitest';

let clock: TestClock;
beforeEach(() => {
  clock = new TestClock();
});

const boom = () => Promise.reject(new Error('boom'));
const fine = () => 'fine';

function made(options: CircuitBreakerOptions = {}): CircuitBreaker {
  return new CircuitBreaker({ threshold: 3, timeout: 1000, clock, ...options });
}

async function fail(breaker: CircuitBreaker, times = 1): Promise<void> {
  for (let i = 0; i < times; i++) await expect(breaker.execute(boom)).rejects.toThrow('boom');
}

/** A call that ends when the test says so. */
function held(breaker: CircuitBreaker): { done: Promise<unknown>; resolve(): void; reject(error: unknown): void } {
  let settle!: (how: PromiseLike<string> | string) => void;
  const ended = new Promise<string>((resolve) => {
    settle = resolve;
  });
  const done = breaker.execute(() => ended);
  done.catch(() => {});
  return { done, resolve: () => settle('late'), reject: (error) => settle(Promise.reject(error)) };
}

describe('closed', () => {
  test('a call goes through, whatever it gives', async () => {
    const breaker = made();
    expect(await breaker.execute(fine)).toBe('fine');
    expect(await breaker.execute(async () => 5)).toBe(5);
    await expect(
      breaker.execute(() => {
        throw new TypeError('at once');
      }),
    ).rejects.toThrow('at once');
    expect(breaker.state).toBe('CLOSED');
  });

  test('so many failures in a row open it', async () => {
    const breaker = made();
    await fail(breaker, 2);
    await breaker.execute(fine);
    await fail(breaker, 2);
    expect(breaker.state).toBe('CLOSED');
    await fail(breaker);
    expect(breaker.state).toBe('OPEN');
  });

  test('five, unless it is told otherwise, and for a minute', async () => {
    const breaker = new CircuitBreaker({ clock });
    await fail(breaker, 4);
    expect(breaker.state).toBe('CLOSED');
    await fail(breaker);
    await clock.advance(59_999);
    expect(breaker.state).toBe('OPEN');
    await clock.advance(1);
    expect(breaker.state).toBe('HALF-OPEN');
  });

  test('the numbers alone will do, and the time is the process’s', async () => {
    const breaker = new CircuitBreaker(1, 0);
    await fail(breaker);
    expect(breaker.state).toBe('HALF-OPEN'); // 0 ms later
    const slow = new CircuitBreaker(1);
    await fail(slow);
    expect(slow.state).toBe('OPEN');
  });

  test.each([
    new UnrecoverableError('bad input'),
    new RateLimitError(5),
    new DelayedError(5),
    new JobCancelledError({ queue: 'q', jobId: 'j1' }),
    Object.assign(new Error('aborted'), { name: 'AbortError' }),
  ])('$name is no failure', async (error) => {
    const breaker = made({ threshold: 1 });
    await expect(breaker.execute(() => Promise.reject(error))).rejects.toBe(error);
    expect(breaker.state).toBe('CLOSED');
  });

  test('isFailure decides; when it throws the error counts', async () => {
    const picky = made({ threshold: 1, isFailure: (error) => (error as Error).message !== 'boom' });
    await fail(picky);
    expect(picky.state).toBe('CLOSED');
    const broken = made({
      threshold: 1,
      isFailure: () => {
        throw new Error('bug');
      },
    });
    await fail(broken);
    expect(broken.state).toBe('OPEN');
  });
});

describe('open', () => {
  test('calls are refused without being made, and told when to come again', async () => {
    const breaker = made();
    await fail(breaker, 3);
    await clock.advance(400);
    let isCalled = false;
    const error = await breaker
      .execute(() => {
        isCalled = true;
      })
      .catch((thrown: unknown) => thrown as CircuitOpenError);
    expect(isCalled).toBe(false);
    expect(error).toBeInstanceOf(CircuitOpenError);
    expect(error).toMatchObject({ message: 'Circuit breaker is OPEN', code: 'FLASHQ_CIRCUIT_OPEN', retryAfterMs: 600 });
  });

  test('a call that began before it opened counts for nothing', async () => {
    const breaker = made({ threshold: 1 });
    const [good, bad] = [held(breaker), held(breaker)];
    await fail(breaker);
    await clock.advance(1000);
    expect(breaker.state).toBe('HALF-OPEN');
    good.resolve();
    bad.reject(new Error('late'));
    await expect(good.done).resolves.toBe('late');
    await expect(bad.done).rejects.toThrow('late');
    expect(breaker.state).toBe('HALF-OPEN');
  });
});

describe('half-open', () => {
  async function halfOpen(options: CircuitBreakerOptions = {}): Promise<CircuitBreaker> {
    const breaker = made({ threshold: 1, ...options });
    await fail(breaker);
    await clock.advance(1000);
    return breaker;
  }

  test('one probe at a time goes through', async () => {
    const breaker = await halfOpen();
    const probe = held(breaker);
    await expect(breaker.execute(fine)).rejects.toMatchObject({ name: 'CircuitOpenError', retryAfterMs: 1000 });
    probe.resolve();
    await probe.done;
    expect(breaker.state).toBe('CLOSED');
    expect(await breaker.execute(fine)).toBe('fine');
  });

  test('a probe that fails opens it again, for the whole time', async () => {
    const breaker = await halfOpen({ successThreshold: 2 });
    await breaker.execute(fine);
    await fail(breaker);
    expect(breaker.state).toBe('OPEN');
    await clock.advance(999);
    expect(breaker.state).toBe('OPEN');
  });

  test('as many probes as halfOpenMax, and successThreshold of them close it', async () => {
    const breaker = await halfOpen({ halfOpenMax: 2, successThreshold: 2 });
    const [one, two] = [held(breaker), held(breaker)];
    await expect(breaker.execute(fine)).rejects.toThrow(CircuitOpenError);
    one.resolve();
    await one.done;
    expect(breaker.state).toBe('HALF-OPEN');
    two.resolve();
    await two.done;
    expect(breaker.state).toBe('CLOSED');
  });

  test('a probe that ends by what is no failure decides nothing, and lets the next one through', async () => {
    const breaker = await halfOpen();
    await expect(breaker.execute(() => Promise.reject(new UnrecoverableError('bad input')))).rejects.toThrow(
      'bad input',
    );
    expect(breaker.state).toBe('HALF-OPEN');
    await breaker.execute(fine);
    expect(breaker.state).toBe('CLOSED');
  });

  test('a probe that never ends is not waited for longer than the timeout', async () => {
    const breaker = await halfOpen();
    held(breaker);
    await clock.advance(999);
    await expect(breaker.execute(fine)).rejects.toThrow(CircuitOpenError);
    await clock.advance(1);
    await breaker.execute(fine);
    expect(breaker.state).toBe('CLOSED');
  });
});

test('by hand: open, close, reset', async () => {
  const breaker = made();
  breaker.open();
  expect(breaker.state).toBe('OPEN');
  await expect(breaker.execute(fine)).rejects.toMatchObject({ retryAfterMs: 1000 });
  breaker.close();
  expect(await breaker.execute(fine)).toBe('fine');
  await fail(breaker, 2);
  breaker.reset();
  await fail(breaker, 2);
  expect(breaker.state).toBe('CLOSED');
});

test('onChange hears of every change, and may throw', async () => {
  const told: string[] = [];
  const breaker = made({
    threshold: 1,
    onChange: (state, before) => {
      told.push(`${before} to ${state}`);
      throw new Error('a listener’s own');
    },
  });
  await fail(breaker);
  await clock.advance(1000);
  await breaker.execute(fine);
  breaker.close();
  expect(told).toEqual(['CLOSED to OPEN', 'OPEN to HALF-OPEN', 'HALF-OPEN to CLOSED']);
});

test.each([
  [{ threshold: 0 }, /options.threshold/],
  [{ threshold: 1.5 }, /options.threshold/],
  [{ timeout: -1 }, /options.timeout/],
  [{ halfOpenMax: 0 }, /options.halfOpenMax/],
  [{ successThreshold: '2' }, /options.successThreshold/],
  [{ isFailure: true }, /options.isFailure/],
  [{ clock: 5 }, /options.clock/],
  [{ resetTimeout: 5 }, /it is called timeout/],
  [{ treshold: 5 }, /Did you mean 'threshold'/],
])('%j is refused', (options, message) => {
  const make = () => new CircuitBreaker(options as CircuitBreakerOptions);
  expect(make).toThrow(ValidationError);
  expect(make).toThrow(message);
});
