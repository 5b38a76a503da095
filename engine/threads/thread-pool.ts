/** Workers whose handler is a file. */
import type { ThreadWorkerLink, ThreadWorkerSpec } from '../../client/connection.js';
import type { EngineState } from '../state.js';

export async function openThreadWorker(_state: EngineState, spec: ThreadWorkerSpec): Promise<ThreadWorkerLink> {
  throw new Error(`Handler files are not run yet: ${spec.file}`);
}
