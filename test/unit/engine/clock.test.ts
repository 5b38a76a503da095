import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { SystemClock } from '#engine/upkeep/clock.js';

const DAY = 86_400_000;

describe('a timer of the system clock', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test('is not cut at the 24.8 days that Node can wait', () => {
    const run = vi.fn();
    new SystemClock().setTimer(run, 60 * DAY);
    vi.advanceTimersByTime(60 * DAY - 1);
    expect(run).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(run).toHaveBeenCalledTimes(1);
  });

  test('can be prevented at any time', () => {
    const run = vi.fn();
    const cancel = new SystemClock().setTimer(run, 60 * DAY);
    vi.advanceTimersByTime(59 * DAY);
    cancel();
    vi.advanceTimersByTime(60 * DAY);
    expect(run).not.toHaveBeenCalled();
    expect(vi.getTimerCount()).toBe(0);
  });
});
