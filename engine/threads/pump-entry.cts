/**
 * What Piscina loads in a thread. Piscina tries `require` first, and a thread that is ended inside a `require` of an ES module takes
 * the whole process with it ("IsGraphAsync must be used on an instantiated module", seen in Node 20); inside an `import` it just ends.
 */
import type { PumpTask } from './wire.js' with { 'resolution-mode': 'import' };

module.exports = async (task: PumpTask): Promise<void> => {
  const { default: pump } = await import('./pump.js');
  return pump(task);
};
