// Can't be loaded until the file that the environment names is there.
import { existsSync } from 'node:fs';
import { getEnvironmentData } from 'node:worker_threads';

if (!existsSync(getEnvironmentData('flashq-test-file'))) throw new Error('not yet');
export default async () => 'loaded';
