/** For `--require`: every thread says when it blocks, at once, since a blocked one says nothing more. */
const { writeSync } = require('node:fs');

const { wait } = Atomics;
Atomics.wait = (...args) => {
  writeSync(1, 'blocks\n');
  return wait(...args);
};
