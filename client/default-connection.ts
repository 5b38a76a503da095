/**
 * How `Queue`, `Worker` and `QueueEvents` come by their connection. The client knows no engine: the package that has one registers
 * here, when it is imported, how to turn what a user gave (`undefined`, an Engine, `'memory'`, a URL) into a `Connection`.
 */
import { refuse } from './checks.js';
import type { Connection } from './connection.js';
import { ConnectionError, EngineClosedError, ValidationError } from './errors.js';

/** What a user may give. Objects of an engine are known to the resolver only. */
export type ConnectionInput = Connection | PromiseLike<unknown> | object | string;

/** `given` is `undefined` for the default engine. May throw or reject: the error reaches whoever made the first call. */
export type ConnectionResolver = (given: unknown) => Connection | PromiseLike<Connection>;

let resolver: ConnectionResolver | undefined;

/** Called by the engine's package, once, when it is imported. The last call wins; returns what was there before. */
export function setDefaultConnectionResolver(fn: ConnectionResolver | undefined): ConnectionResolver | undefined {
  const before = resolver;
  resolver = fn;
  return before;
}

function isConnection(given: unknown): given is Connection {
  if (typeof given !== 'object' || given === null) return false;
  const { add, openClaims, subscribe } = given as Partial<Connection>;
  return typeof add === 'function' && typeof openClaims === 'function' && typeof subscribe === 'function';
}

function isPromise(given: unknown): given is PromiseLike<unknown> {
  return typeof given === 'object' && given !== null && typeof (given as { then?: unknown }).then === 'function';
}

/** Throws or rejects with ConnectionError when nothing can resolve it. */
function resolve(given: unknown): Connection | PromiseLike<Connection> {
  if (isConnection(given)) return given;
  if (isPromise(given)) return given.then(resolve);
  if (resolver !== undefined) return resolver(given);
  const what = given === undefined ? 'there is no engine' : 'there is no engine that understands the option connection';
  throw new ConnectionError(
    `No connection: ${what}. Import 'flashq' (not its client part alone), or give a connection.`,
  );
}

/** What can be told at once: a plain object is no engine. Other libraries take an address there. */
function checkConnection(given: unknown): void {
  const path = 'opts.connection';
  const isObject = typeof given === 'object' && given !== null;
  if (given !== undefined && !isObject && typeof given !== 'string') refuse(path, WHAT, given);
  if (!isObject || isConnection(given) || isPromise(given) || 'connection' in given) return;
  const names = Object.keys(given).filter((name) => ADDRESS_NAMES.has(name));
  if (names.length === 0) refuse(path, WHAT, given);
  throw new ValidationError(
    `${path} is an address (${names.join(', ')}), but there is no server to reach: the engine lives in this process. ` +
      "Give it an Engine (await Engine.open(...)), 'memory', or leave it out.",
    { path },
  );
}

const WHAT = "be an Engine, what Engine.attach returned, or 'memory'";
const ADDRESS_NAMES = new Set(['host', 'port', 'url', 'path', 'username', 'password', 'db', 'tls', 'token', 'options']);

/**
 * One user's connection, resolved at its first use. `now` is there once it is open, so that the hot path neither waits nor makes a
 * promise.
 */
export class ConnectionLink {
  /** The open connection, or undefined before the first use has ended and after `close`. */
  now: Connection | undefined;
  readonly #given: unknown;
  readonly #owner: string;
  #opening: Promise<Connection> | undefined;
  #isClosed = false;

  /** `owner` names the user in the error after closing: `Queue "emails"`. */
  constructor(given: unknown, owner: string) {
    checkConnection(given);
    this.#given = given;
    this.#owner = owner;
    if (isConnection(given)) this.now = given;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Rejects with what opening failed with (the next call tries again), or EngineClosedError after `close`. */
  async ready(): Promise<Connection> {
    if (this.#isClosed) throw this.closedError();
    if (this.now !== undefined) return this.now;
    this.#opening ??= this.#open();
    return this.#opening;
  }

  async #open(): Promise<Connection> {
    try {
      const connection = await resolve(this.#given);
      if (this.#isClosed) throw this.closedError();
      this.now = connection;
      return connection;
    } finally {
      this.#opening = undefined;
    }
  }

  /** Later calls reject; the connection itself belongs to others and stays open. */
  close(): void {
    this.#isClosed = true;
    this.now = undefined;
  }

  closedError(): EngineClosedError {
    return new EngineClosedError(`${this.#owner} has been closed. Make a new one.`);
  }
}
