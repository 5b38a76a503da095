/** Whole graphs of jobs, across queues, added in one step. */
import {
  checkInteger,
  checkJobName,
  checkObject,
  checkOptionNames,
  checkQueueName,
  INT32_MAX,
  type KnownNames,
  refuse,
} from './checks.js';
import type { Connection, DependencyRecord, GraphItem, JobRef, JobStateOrUnknown } from './connection.js';
import { type ConnectionInput, ConnectionLink } from './default-connection.js';
import { ValidationError } from './errors.js';
import { type Job, jobOfAnswer, jobOfSnapshot } from './job.js';
import { type AddOptions, validateJobOptions } from './options.js';

export interface FlowProducerOptions {
  /** An Engine, `'memory'`, or a connection. Default: this process's engine. */
  readonly connection?: ConnectionInput | undefined;
}

/** One job of a tree: it runs when its children have completed. */
export interface FlowJob<Data = any> {
  readonly name: string;
  readonly queueName: string;
  readonly data?: Data | undefined;
  /** Those of `queue.add`; `onDependencyFailure` says what a failed child means. */
  readonly opts?: AddOptions | undefined;
  readonly children?: readonly FlowJob[] | undefined;
}

/** A tree that was added: BullMQ's form. */
export interface JobNode {
  readonly job: Job;
  readonly children?: JobNode[];
}

/** One job of a graph. */
export type GraphNode<Data = any> = Omit<FlowJob<Data>, 'children'>;

export interface Graph<Key extends string = string> {
  readonly nodes: Readonly<Record<Key, GraphNode>>;
  /** `[before, after]`: the second one runs when the first one has completed. */
  readonly edges?: readonly (readonly [before: NoInfer<Key>, after: NoInfer<Key>])[] | undefined;
}

/** A job with what it depends on, as it was read. */
export interface FlowNode {
  readonly id: string;
  readonly queueName: string;
  /** `unknown`: the record is gone. */
  readonly state: JobStateOrUnknown;
  /** Undefined when the record is gone. */
  readonly job: Job | undefined;
  /** What it depends on; a job that several depend on is the same object for all of them. Empty also below `depth`. */
  readonly children: FlowNode[];
}

const FLOW_NAMES: KnownNames = {
  known: ['name', 'queueName', 'data', 'opts', 'children'],
  elsewhere: {
    queue: 'it is called queueName here.',
    prefix: 'queues of different engines share nothing. Leave it out.',
    dependsOn: 'give it in opts.',
    depends_on: 'give it in opts.',
  },
};
const NODE_NAMES: KnownNames = {
  known: ['name', 'queueName', 'data', 'opts'],
  elsewhere: { ...FLOW_NAMES.elsewhere, children: 'in a graph edges say who waits for whom.' },
};

/**
 * Adds jobs that depend on each other, of any queues, all in one step: either every one of them is there, or none is. Closing it closes
 * nothing else.
 *
 * A `jobId` that is there already stands for that job, which keeps the dependencies that it has; so does a deduplication key that is held.
 * Jobs without a `jobId` get generated ids.
 *
 * @example
 * const flows = new FlowProducer();
 * const { job } = await flows.add({
 *   name: 'assemble', queueName: 'videos', data: { id: 7 },
 *   children: [1, 2, 3].map((part) => ({ name: 'encode', queueName: 'parts', data: { part }, opts: { attempts: 3 } })),
 * });
 * const video = await job.waitUntilFinished();
 */
export class FlowProducer {
  readonly #link: ConnectionLink;

  /** @throws ValidationError */
  constructor(opts: FlowProducerOptions = {}) {
    checkOptionNames(checkObject(opts, 'opts'), 'opts', { known: ['connection'] });
    this.#link = new ConnectionLink(opts.connection, 'FlowProducer');
  }

  /**
   * Adds a tree. A child runs before its parent, which gets its result by `job.getDependencyResults()`.
   *
   * @throws ValidationError (a name, an option, a tree that contains itself), BulkError whose `errors` say which jobs were refused, counted
   *   parents before children
   */
  async add(flow: FlowJob): Promise<JobNode> {
    const [tree] = await this.#addTrees([flow], ['flow']);
    return tree as JobNode;
  }

  /** Adds many trees in one step: all of them, or none. `[]` gives `[]`. */
  async addBulk(flows: readonly FlowJob[]): Promise<JobNode[]> {
    if (!Array.isArray(flows)) refuse('flows', 'be an array of {name, queueName, data, opts, children}', flows);
    return this.#addTrees(
      flows,
      flows.map((_, index) => `flows[${index}]`),
    );
  }

  async #addTrees(flows: readonly FlowJob[], paths: readonly string[]): Promise<JobNode[]> {
    const items: Item[] = [];
    const trees = flows.map((flow, index) => planTree(flow, paths[index] as string, items));
    const jobs = await this.#submit(items);
    return trees.map((tree) => nodeOf(tree, jobs));
  }

  /**
   * Adds a graph without cycles, in which any number of jobs may wait for the same one. Gives the jobs under the keys of their nodes.
   *
   * @throws ValidationError (an edge to a node that isn't there), BulkError whose `errors` say which jobs were refused, counted in the
   *   order of `nodes`; of a cycle it names the nodes
   *
   * @example
   * const { report } = await flows.addGraph({
   *   nodes: {
   *     fetch: { name: 'fetch', queueName: 'io' },
   *     clean: { name: 'clean', queueName: 'cpu' },
   *     count: { name: 'count', queueName: 'cpu' },
   *     report: { name: 'report', queueName: 'cpu' },
   *   },
   *   edges: [['fetch', 'clean'], ['fetch', 'count'], ['clean', 'report'], ['count', 'report']],
   * });
   */
  async addGraph<Key extends string>(graph: Graph<Key>): Promise<Record<Key, Job>> {
    const given = checkObject(graph, 'graph');
    checkOptionNames(given, 'graph', { known: ['nodes', 'edges'] });
    const nodes = Object.entries(checkObject(given.nodes, 'graph.nodes'));
    const items = nodes.map(([key, node]) => itemOf(node, `graph.nodes.${key}`, key, NODE_NAMES));
    addEdges(items, given.edges);
    const jobs = await this.#submit(items);
    return Object.fromEntries(nodes.map(([key], index) => [key, jobs[index]])) as Record<Key, Job>;
  }

  async #submit(items: readonly Item[]): Promise<Job[]> {
    if (items.length === 0) return [];
    const connection = await this.#link.ready();
    const answers = await connection.addGraph(items);
    return items.map((item, index) => jobOfAnswer(connection, item.queue, item, answers[index]!));
  }

  /**
   * Reads a job, what it depends on, what that depends on and so on, with their states. Undefined when there is no record of the job.
   *
   * @param which `depth`: how many steps down; all of them by default. A job that has finished knows its dependencies as long as there is a
   *   record of it.
   */
  async getFlow(which: {
    readonly id: string;
    readonly queueName: string;
    readonly depth?: number | undefined;
  }): Promise<FlowNode | undefined> {
    const given = checkObject(which, 'flow');
    checkOptionNames(given, 'flow', {
      known: ['id', 'queueName', 'depth'],
      elsewhere: { maxChildren: 'all of them are read. Leave it out.', prefix: 'leave it out.' },
    });
    const { id, depth } = given;
    if (typeof id !== 'string' || id === '') refuse('flow.id', 'be the id of a job', id);
    const queue = checkQueueName(given.queueName);
    const steps = depth === undefined ? Number.POSITIVE_INFINITY : checkInteger(depth, 'flow.depth', 0, INT32_MAX);
    return readFlow(await this.#link.ready(), { id, queue }, steps);
  }

  /** Later calls on this object reject. */
  async close(): Promise<void> {
    this.#link.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

// ---- on the way in -----------------------------------------------------------------------------------------------------------------

interface Item extends GraphItem {
  readonly needs: number[];
}

interface Tree {
  readonly place: number;
  readonly children: Tree[] | undefined;
}

function itemOf(given: unknown, path: string, key: string, names: KnownNames): Item {
  const node = checkObject(given, path);
  checkOptionNames(node, path, names);
  const opts = validateJobOptions(node.opts as AddOptions | undefined);
  return {
    queue: checkQueueName(node.queueName),
    key,
    name: checkJobName(node.name),
    data: node.data,
    opts,
    needs: [],
  };
}

/** Parents before children. Not recursive: a chain may be long. */
function planTree(flow: unknown, path: string, items: Item[]): Tree {
  const begin = (given: unknown, at: string) => {
    const item = itemOf(given, at, at, FLOW_NAMES);
    const { children } = given as FlowJob;
    if (children !== undefined && !Array.isArray(children)) refuse(`${at}.children`, 'be an array of jobs', children);
    const tree: Tree = { place: items.length, children: children === undefined ? undefined : [] };
    items.push(item);
    return { given, at, item, tree, children: children ?? [], next: 0 };
  };
  const root = begin(flow, path);
  const way = [root];
  const onWay = new Set([flow]);
  for (let top = way.at(-1); top !== undefined; top = way.at(-1)) {
    if (top.next === top.children.length) {
      onWay.delete(top.given);
      way.pop();
      continue;
    }
    const at = `${top.at}.children[${top.next}]`;
    const child: unknown = top.children[top.next++];
    if (onWay.has(child)) {
      const from = way.find(({ given }) => given === child)!.at;
      throw new ValidationError(`${at} is ${from} again: the tree contains itself. A job can't wait for itself.`, {
        path: at,
      });
    }
    const begun = begin(child, at);
    top.item.needs.push(begun.tree.place);
    top.tree.children!.push(begun.tree);
    onWay.add(child);
    way.push(begun);
  }
  return root.tree;
}

function nodeOf(root: Tree, jobs: readonly Job[]): JobNode {
  const made: JobNode = { job: jobs[root.place]!, ...(root.children === undefined ? {} : { children: [] }) };
  const open: [Tree, JobNode][] = [[root, made]];
  for (let top = open.pop(); top !== undefined; top = open.pop()) {
    const [tree, node] = top;
    for (const child of tree.children ?? []) {
      const below: JobNode = { job: jobs[child.place]!, ...(child.children === undefined ? {} : { children: [] }) };
      node.children!.push(below);
      open.push([child, below]);
    }
  }
  return made;
}

function addEdges(items: readonly Item[], edges: unknown): void {
  if (edges === undefined) return;
  if (!Array.isArray(edges)) refuse('graph.edges', 'be an array of [before, after]', edges);
  const places = new Map(items.map(({ key }, place) => [key, place]));
  const seen = new Set<string>();
  for (const [index, edge] of edges.entries()) {
    const path = `graph.edges[${index}]`;
    if (!Array.isArray(edge) || edge.length !== 2) refuse(path, 'be [before, after], two keys of graph.nodes', edge);
    const [before, after] = edge.map((key: unknown, end) => {
      const place = places.get(key as string);
      return place ?? refuse(`${path}[${end}]`, 'be a key of graph.nodes', key);
    }) as [number, number];
    if (seen.has(`${before} ${after}`)) continue;
    seen.add(`${before} ${after}`);
    items[after]!.needs.push(before);
  }
}

// ---- on the way out ----------------------------------------------------------------------------------------------------------------

type Growing = { -readonly [K in keyof FlowNode]: FlowNode[K] };

/** Level by level; each job is read once. */
async function readFlow(
  connection: Connection,
  root: JobRef & { queue: string },
  depth: number,
): Promise<FlowNode | undefined> {
  const known = new Map<string, Growing>();
  const [top] = await readNodes(connection, [{ id: root.id, queue: root.queue, state: 'unknown' }], known);
  if (top?.job === undefined) return undefined;
  let level = [top];
  for (let step = 0; step < depth && level.length > 0; step++) {
    const dependencies = await Promise.all(level.map((node) => dependenciesOf(connection, node)));
    const fresh = await readNodes(connection, dependencies.flat(), known);
    for (const [index, node] of level.entries())
      for (const one of dependencies[index]!) node.children.push(known.get(keyOf(one))!);
    level = fresh.filter(({ job }) => job !== undefined);
  }
  return top;
}

function keyOf({ queue, id }: DependencyRecord): string {
  return `${queue}\n${id}`;
}

/** It may have been removed since it was read. */
async function dependenciesOf(connection: Connection, { queueName, id }: FlowNode): Promise<DependencyRecord[]> {
  try {
    return await connection.getDependencies(queueName, { id, queue: queueName });
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === 'FLASHQ_JOB_REMOVED' || code === 'FLASHQ_JOB_NOT_FOUND') return [];
    throw error;
  }
}

/** Those that are not known yet. */
async function readNodes(
  connection: Connection,
  records: readonly DependencyRecord[],
  known: Map<string, Growing>,
): Promise<Growing[]> {
  const byQueue = new Map<string, Growing[]>();
  const fresh: Growing[] = [];
  for (const record of records) {
    const key = keyOf(record);
    if (known.has(key)) continue;
    const node: Growing = { id: record.id, queueName: record.queue, state: record.state, job: undefined, children: [] };
    known.set(key, node);
    fresh.push(node);
    const same = byQueue.get(record.queue);
    if (same === undefined) byQueue.set(record.queue, [node]);
    else same.push(node);
  }
  for (const [queue, nodes] of byQueue) {
    const snapshots = await connection.getJobs(
      queue,
      nodes.map(({ id }) => ({ id, queue })),
    );
    for (const [index, node] of nodes.entries()) {
      const snapshot = snapshots[index];
      if (snapshot === undefined) continue;
      node.state = snapshot.state;
      node.job = jobOfSnapshot(connection, snapshot);
    }
  }
  return fresh;
}
