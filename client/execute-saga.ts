/** The simple form of a saga: in this process, and only as long as it lives. */
import { checkFunction, checkObject, checkOptionNames, refuse } from './checks.js';

/** One step: `execute` gets what the step before returned, `compensate` what `execute` did. */
export interface SimpleStep<Input = any, Output = any> {
  readonly name: string;
  execute(data: Input): Promise<Output> | Output;
  compensate?(output: Output): unknown;
}

/** Why a compensation failed; in `compensationErrors` of the error that `executeSaga` rejects with. */
export interface CompensationError {
  readonly step: string;
  readonly error: unknown;
}

/**
 * Runs steps one after the other and gives what the last one returned. When one throws, those before it are compensated, the last one
 * first, and the call rejects with that very error. A compensation that throws doesn't stop the others: its error is in
 * `error.compensationErrors` (there only if one has failed, and if what was thrown is an object).
 *
 * Nothing of it survives the process: see `defineSaga` for what does.
 *
 * @throws ValidationError; what a step throws.
 *
 * @example
 * const receipt = await executeSaga({
 *   steps: [
 *     { name: 'reserve', execute: (order) => stock.reserve(order), compensate: (reserved) => stock.release(reserved) },
 *     { name: 'charge', execute: (reserved) => charge(reserved) },
 *   ],
 * }, order);
 */
export async function executeSaga<Result = any>(
  saga: { readonly name?: string | undefined; readonly steps: readonly SimpleStep[] },
  data: unknown,
): Promise<Result> {
  const steps = checkSteps(saga);
  const done: { step: SimpleStep; output: unknown }[] = [];
  let value = data;
  try {
    for (const step of steps) {
      value = await step.execute(value);
      done.push({ step, output: value });
    }
    return value as Result;
  } catch (error) {
    const compensationErrors = await rollBack(done);
    if (compensationErrors.length > 0 && typeof error === 'object' && error !== null && Object.isExtensible(error))
      Object.assign(error, { compensationErrors });
    throw error;
  }
}

async function rollBack(done: readonly { step: SimpleStep; output: unknown }[]): Promise<CompensationError[]> {
  const errors: CompensationError[] = [];
  for (const { step, output } of [...done].reverse()) {
    try {
      await step.compensate?.(output);
    } catch (error) {
      errors.push({ step: step.name, error });
    }
  }
  return errors;
}

function checkSteps(saga: unknown): SimpleStep[] {
  const given = checkObject(saga, 'saga');
  checkOptionNames(given, 'saga', { known: ['name', 'steps'] });
  if (!Array.isArray(given.steps)) refuse('saga.steps', 'be an array of steps', given.steps);
  return given.steps.map((one: unknown, index) => {
    const path = `saga.steps[${index}]`;
    const step = checkObject(one, path);
    checkOptionNames(step, path, {
      known: ['name', 'execute', 'compensate'],
      elsewhere: { attempts: 'only sagas of defineSaga have attempts.', timeout: 'only sagas of defineSaga have it.' },
    });
    if (typeof step.name !== 'string') refuse(`${path}.name`, 'be a string', step.name);
    checkFunction(step.execute, `${path}.execute`);
    if (step.compensate !== undefined) checkFunction(step.compensate, `${path}.compensate`);
    return step as unknown as SimpleStep;
  });
}
