/**
 * The shipped wasm, changed in one way: before each atomic access, each notify and each memory.fill or copy it calls the imported
 * `step`, through which a scheduler may suspend it (binaryen's Asyncify) and run another virtual thread.
 *
 * `flatten` comes first: it takes nested operands apart, so that an atomic access that was an operand of another has a yield before it
 * too. The calls are put in by the text form, one instruction a statement.
 */
import binaryen from 'binaryen';

const ATOMIC = /\((?:i32|i64)\.atomic\.|\(memory\.(?:fill|copy|atomic\.)/;
/** What a flattened access may be the operand of. */
const HOLDER = /^\s*\((?:local\.set|drop)\b[^)]*$/;

function withSteps(text: string): string {
  const lines = text.split('\n');
  const result: string[] = [];
  let imported = false;
  for (const line of lines) {
    if (!imported && /^\s*\((?:import|memory|func|export|global)\b/.test(line)) {
      result.push(' (import "env" "step" (func $step))');
      imported = true;
    }
    if (ATOMIC.test(line)) {
      const last = result[result.length - 1] as string;
      if (HOLDER.test(last)) result.splice(result.length - 1, 0, '(call $step)');
      else result.push('(call $step)');
    }
    result.push(line);
  }
  return result.join('\n');
}

/** The instrumented module, and how many yields it has. */
export function instrument(wasm: Uint8Array): { module: WebAssembly.Module; steps: number } {
  const flat = binaryen.readBinary(wasm);
  flat.setFeatures(binaryen.Features.All);
  flat.runPasses(['flatten']);
  const text = withSteps(flat.emitText());
  flat.dispose();
  const stepped = binaryen.parseText(text);
  stepped.setFeatures(binaryen.Features.All);
  // What flattening added goes; calls and atomic accesses keep their order, since both have effects.
  stepped.runPasses(['simplify-locals', 'coalesce-locals', 'vacuum']);
  const steps = (stepped.emitText().match(/\(call \$step/g) ?? []).length;
  binaryen.setPassArgument('asyncify-imports', 'env.step');
  stepped.runPasses(['asyncify', 'simplify-locals', 'coalesce-locals', 'vacuum']);
  if (!stepped.validate()) throw new Error('the instrumented module is not valid');
  const binary = stepped.emitBinary();
  stepped.dispose();
  return { module: new WebAssembly.Module(binary as unknown as BufferSource), steps };
}

/** A module in text form, instrumented: for the harness's own tests. */
export function instrumentText(text: string): WebAssembly.Module {
  const module = binaryen.parseText(text);
  module.setFeatures(binaryen.Features.All);
  const binary = module.emitBinary();
  module.dispose();
  return instrument(binary).module;
}
