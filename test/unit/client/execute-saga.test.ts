import { executeSaga, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf } from '../../conformance/kit.js';

describe('executeSaga', () => {
  test('runs the steps in order, each with what the one before returned', async () => {
    const steps = [
      { name: 'a', execute: (n: number) => n + 1 },
      { name: 'b', execute: async (n: number) => n * 10 },
    ];
    expect(await executeSaga({ name: 'sum', steps }, 1)).toBe(20);
    expect(await executeSaga({ steps: [] }, 'data')).toBe('data');
  });

  test("rejects with the step's own error object, after compensating the others in reverse; the rollback goes on past failures", async () => {
    const undone: unknown[] = [];
    const boom = new Error('boom');
    const undo = (name: string, fails = false) => ({
      name,
      execute: () => `did ${name}`,
      compensate: async (output: unknown) => {
        undone.push(output);
        if (fails) throw new Error(`no way back from ${name}`);
      },
    });
    const steps = [
      undo('a'),
      undo('b', true),
      { name: 'without', execute: () => 1 },
      {
        name: 'c',
        execute: () => {
          throw boom;
        },
        compensate: () => undone.push('never'),
      },
      undo('d'),
    ];
    const error = await errorOf(executeSaga({ steps }, null));
    expect(error).toBe(boom);
    expect(undone).toEqual(['did b', 'did a']);
    expect(error.compensationErrors).toMatchObject([{ step: 'b', error: { message: 'no way back from b' } }]);
  });

  test('without a failed compensation the error is as it was thrown; so is what is no object', async () => {
    const steps = (thrown: unknown) => [
      { name: 'a', execute: () => 1, compensate: () => Promise.reject(new Error('no')) },
      { name: 'b', execute: () => Promise.reject(thrown) },
    ];
    expect(await errorOf(executeSaga({ steps: steps('text') }, null))).toBe('text');
    const plain = new Error('plain');
    expect(Object.keys(await errorOf(executeSaga({ steps: steps(plain).slice(1) }, null)))).toEqual([]);
    const frozen = Object.freeze(new Error('frozen'));
    expect(await errorOf(executeSaga({ steps: steps(frozen) }, null))).toBe(frozen);
  });

  test('refuses what it would not obey', async () => {
    const execute = () => 1;
    for (const saga of [
      null,
      {},
      { steps: [{ name: 'a' }] },
      { steps: [{ execute }] },
      { steps: [{ name: 'a', execute, attempts: 3 }] },
      { steps: [{ name: 'a', execute, compensate: 1 }] },
    ])
      expect(await errorOf(executeSaga(saga as never, 1))).toBeInstanceOf(ValidationError);
  });
});
