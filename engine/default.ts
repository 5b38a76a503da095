/** Which engine a Queue or Worker uses that was given none: one a process, shared by every copy of the package that is loaded. */
import { isMainThread } from 'node:worker_threads';
import type { Connection } from '../client/connection.js';
import { ConnectionError, ValidationError } from '../client/errors.js';
import type { AttachedEngine } from './attached-engine.js';
import { Engine } from './engine.js';
import type { AttachedConnection } from './threads/attached-connection.js';
import { VERSION } from './version.js';

interface Default {
  readonly version: string;
  /** Undefined in a thread that is attached to another's engine. */
  readonly engine: Promise<Engine> | undefined;
  readonly connection: Promise<Connection>;
}

const KEY = Symbol.for('flashq.engine');
const holder = globalThis as { [KEY]?: Default };

/** The default of this thread, if there is one. Throws when another version of the package made it. */
function known(): Default | undefined {
  const one = holder[KEY];
  if (one !== undefined && one.version !== VERSION) {
    throw new ConnectionError(
      `The default engine of this process was opened by flashq ${one.version}, and this is flashq ${VERSION}. Install one version, or give each its own Engine.`,
    );
  }
  return one;
}

/** The default engine of this process, opened on first use. `quiet`: without the warning that it lives in memory. */
export function defaultEngine(quiet: boolean): Promise<Engine> {
  const { engine } = known() ?? openDefault(quiet);
  if (engine !== undefined) return engine;
  throw new ConnectionError(
    'The engine of this thread lives in another one. Queues and Workers use it when they are given no connection.',
  );
}

function openDefault(quiet: boolean): Default {
  if (!isMainThread) {
    throw new ConnectionError(
      'There is no engine in this thread. Post engine.handle to it and call Engine.attach(handle); a second engine would not see the jobs of the first.',
    );
  }
  const engine = open(quiet);
  const made: Default = { version: VERSION, engine, connection: engine.then((opened) => opened.connection) };
  holder[KEY] = made;
  const forget = () => {
    delete holder[KEY];
  };
  engine.then((opened) => opened.once('closed', forget), forget);
  made.connection.catch(() => {}); // whoever uses it hears of it
  return made;
}

/** From now on the default of this thread is that connection; the first one stays. */
export function attachHere(connection: AttachedConnection): AttachedEngine {
  const made = { version: VERSION, engine: undefined, connection: Promise.resolve(connection) };
  holder[KEY] ??= made;
  return {
    connection,
    close: () => {
      connection.close();
      if (holder[KEY] === made) delete holder[KEY];
    },
  };
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
  if (dataDir !== undefined) return Engine.open({ dataDir });
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
  if (given === undefined || given === 'memory') return (known() ?? openDefault(given === 'memory')).connection;
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
