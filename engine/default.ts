/** Which engine a Queue or Worker uses that was given none: one a process, shared by every copy of the package that is loaded. */
import { isMainThread } from 'node:worker_threads';
import type { Connection } from '../client/connection.js';
import { ConnectionError, ValidationError } from '../client/errors.js';
import { Engine } from './engine.js';
import { VERSION } from './version.js';

interface DefaultEngine {
  readonly version: string;
  readonly engine: Promise<Engine>;
}

const KEY = Symbol.for('flashq.engine');
const holder = globalThis as { [KEY]?: DefaultEngine };

/** The default engine of this process, opened on first use. */
export function defaultEngine(quiet: boolean): Promise<Engine> {
  const known = holder[KEY];
  if (known !== undefined) {
    if (known.version === VERSION) return known.engine;
    throw new ConnectionError(
      `The default engine of this process was opened by flashq ${known.version}, and this is flashq ${VERSION}. Install one version, or give each its own Engine.`,
    );
  }
  if (!isMainThread) {
    throw new ConnectionError(
      'There is no engine in this thread. Post engine.handle to it and call Engine.attach(handle); a second engine would not see the jobs of the first.',
    );
  }
  const engine = open(quiet);
  holder[KEY] = { version: VERSION, engine };
  const forget = () => {
    delete holder[KEY];
  };
  engine.then((opened) => opened.once('closed', forget), forget);
  return engine;
}

async function open(quiet: boolean): Promise<Engine> {
  const { FLASHQ_URL: url, FLASHQ_DATA_DIR: dataDir } = process.env;
  if (url !== undefined && dataDir !== undefined) {
    throw new ValidationError(
      'FLASHQ_URL and FLASHQ_DATA_DIR are both set: the first names a server, the second an engine of this process. Unset one.',
    );
  }
  if (url !== undefined)
    throw new ConnectionError('FLASHQ_URL is set, but this version has no client for servers yet. Unset it.');
  if (dataDir !== undefined)
    throw new ValidationError('FLASHQ_DATA_DIR is set, but this version keeps everything in memory. Unset it.');
  if (!quiet) {
    process.emitWarning(
      "jobs live in this process only; another process opening this queue does not see them (connection: 'memory' says that you know)",
      { code: 'FLASHQ_MEMORY_ENGINE' },
    );
  }
  return Engine.open();
}

/** What `connection` may be: nothing, 'memory' or an Engine. */
export function resolveConnection(given: unknown): Connection | Promise<Connection> {
  if (given === undefined || given === 'memory')
    return defaultEngine(given === 'memory').then((engine) => engine.connection);
  if (given instanceof Engine) return given.connection;
  const connection = (given as { connection?: unknown } | null)?.connection;
  if (typeof connection === 'object' && connection !== null) return connection as Connection;
  if (typeof given === 'string' && /^wss?:/.test(given)) {
    throw new ConnectionError(
      `connection: ${JSON.stringify(given)}: this version has no client for servers yet. Use an Engine.`,
    );
  }
  throw new ValidationError("connection must be an Engine, what Engine.attach returned, or 'memory'", {
    path: 'connection',
  });
}
