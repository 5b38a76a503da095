import { describe, expect, test } from 'vitest';
import { Explorer, type Scenario } from './explore.js';
import { instrumentText } from './instrument.js';
import { call, Machine, type Program } from './machine.js';

/** Both accesses are operands of one another: without `flatten` there would be no yield between them. */
const COUNTER = `(module
  (import "env" "memory" (memory 1 65535 shared))
  (func (export "lossy") (i32.atomic.store (i32.const 64) (i32.add (i32.atomic.load (i32.const 64)) (i32.const 1))))
  (func (export "exact") (result i32) (i32.atomic.rmw.add (i32.const 64) (i32.const 1))))`;

const BOUNDS = { preemptions: 1, exhaustive: 1000, random: 50, randomPerDeath: 3, seed: 1 };

function counting(machine: Machine, name: string): Scenario<{ calls: number }> {
  machine.save();
  const program = function* (): Program {
    yield call(name);
    yield call(name);
  };
  return {
    name,
    start: () => ({ world: { calls: 4 }, programs: [program(), program()] }),
    check: ({ calls }, dead) => {
      const counted = machine.u32[16] as number;
      if (dead === -1 && counted !== calls) throw new Error(`counted ${counted} of ${calls}`);
    },
  };
}

describe('the interleaving harness', () => {
  test('finds a lost update of two threads with one preemption', () => {
    const machine = new Machine(instrumentText(COUNTER), 1, 2);
    expect(() => new Explorer(machine).explore(counting(machine, 'lossy'), BOUNDS)).toThrow(/counted [23] of 4/);
  });

  test('finds nothing wrong with an atomic counter, in all its schedules', () => {
    const machine = new Machine(instrumentText(COUNTER), 1, 2);
    const explored = new Explorer(machine).explore(counting(machine, 'exact'), { ...BOUNDS, preemptions: 4 });
    expect(explored).toMatchObject({ complete: true, exhaustive: 20 }); // 6 over 3: every order of two times three pieces
    expect(explored.deaths).toBeGreaterThan(0);
  });

  test('a thread that waits for what never comes is reported', () => {
    const machine = new Machine(instrumentText(COUNTER), 1, 2);
    machine.save();
    const waiting = function* (): Program {
      yield { until: () => machine.u32[16] === 3 };
    };
    const scenario: Scenario<null> = {
      name: 'waiting',
      start: () => ({ world: null, programs: [waiting(), waiting()] }),
      check: () => {},
    };
    expect(() => new Explorer(machine).explore(scenario, BOUNDS)).toThrow(/waits for ever/);
  });
});
