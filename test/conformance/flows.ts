/** Whole graphs, across queues: added in one step, and read again. */
import { BulkError, FlowProducer, type Graph, UnknownDependencyError, ValidationError } from 'flashq';
import { describe, expect, test } from 'vitest';
import { errorOf, kitOf, type Suite, states } from './kit.js';

export const flows: Suite = (harness) => {
  const kit = kitOf(harness);
  const producer = () => new FlowProducer({ connection: kit.world.connection });

  async function counts(...queues: string[]): Promise<number[]> {
    return Promise.all(queues.map(async (name) => await kit.queue(name).count()));
  }

  describe('trees', () => {
    test('a parent runs when its children have completed, and gets their results', async () => {
      const tree = await producer().add({
        name: 'sum',
        queueName: 'sums',
        children: [1, 2, 3].map((n) => ({ name: 'square', queueName: 'squares', data: n })),
      });
      expect(await counts('sums', 'squares')).toEqual([1, 3]);
      expect(await states(tree.job, ...tree.children!.map(({ job }) => job))).toEqual([
        'blocked',
        'waiting',
        'waiting',
        'waiting',
      ]);
      await kit.worker((job) => job.data ** 2, {}, 'squares');
      await kit.worker(
        async (job) => Object.values(await job.getDependencyResults<number>()).reduce((a, b) => a + b),
        {},
        'sums',
      );
      expect(await tree.job.waitUntilFinished()).toBe(14);
    });

    test('the answer has the form of the tree, with generated ids and those given', async () => {
      const tree = await producer().add({
        name: 'root',
        queueName: 'a',
        data: 1,
        opts: { jobId: 'the-root', priority: 4 },
        children: [
          { name: 'leaf', queueName: 'b' },
          { name: 'branch', queueName: 'b', children: [{ name: 'twig', queueName: 'c', children: [] }] },
        ],
      });
      expect(tree.job).toMatchObject({ id: 'the-root', name: 'root', queueName: 'a', data: 1, priority: 4 });
      const [leaf, branch] = tree.children!;
      expect(leaf).not.toHaveProperty('children');
      expect(branch!.children![0]!.children).toEqual([]);
      expect(branch!.children![0]!.job).toMatchObject({ name: 'twig', queueName: 'c' });
      const ids = [leaf!, branch!, branch!.children![0]!].map(({ job }) => job.id);
      expect(ids.every((id) => /^j\d+$/.test(id))).toBe(true);
      expect(new Set(ids).size).toBe(3);
      expect(await branch!.job.getDependencies()).toMatchObject([{ queue: 'c', id: ids[2], state: 'waiting' }]);
    });

    test('deep ones and wide ones', async () => {
      let chain: Parameters<FlowProducer['add']>[0] = { name: 'n', queueName: 'q', data: 0 };
      for (let depth = 1; depth < 3000; depth++) chain = { name: 'n', queueName: 'q', data: depth, children: [chain] };
      const wide = {
        name: 'w',
        queueName: 'w',
        children: Array.from({ length: 5000 }, () => ({ name: 'n', queueName: 'q' })),
      };
      const [deep, top] = await producer().addBulk([chain, wide]);
      expect(await kit.queue('q').getJobCounts()).toMatchObject({ waiting: 5001, blocked: 2999 });
      expect(await states(deep!.job, top!.job)).toEqual(['blocked', 'blocked']);
    });

    test('a failed child fails its parent, unless the parent’s policy says otherwise', async () => {
      const [strict, lenient] = await producer().addBulk(
        [{}, { onDependencyFailure: 'run' as const }].map((opts) => ({
          ...{ name: 'parent', queueName: 'parents', opts },
          children: [{ name: 'child', queueName: 'children' }],
        })),
      );
      await kit.worker(
        () => {
          throw new Error('no');
        },
        {},
        'children',
      );
      await kit.settle();
      expect(await states(strict!.job, lenient!.job)).toEqual(['failed', 'waiting']);
    });

    test('many trees: all of them, or none', async () => {
      expect(await producer().addBulk([])).toEqual([]);
      const bad = {
        name: 'b',
        queueName: 'q',
        children: [{ name: 'c', queueName: 'other', opts: { dependsOn: ['nobody'] } }],
      };
      const error = await errorOf(producer().addBulk([{ name: 'a', queueName: 'q' }, bad]));
      expect(error).toBeInstanceOf(BulkError);
      // The parent is refused with its child.
      expect(error.errors.map(({ index }: { index: number }) => index)).toEqual([1, 2]);
      expect(error.errors[1].error).toBeInstanceOf(UnknownDependencyError);
      expect(await counts('q', 'other')).toEqual([0, 0]);
    });

    test('that contains itself is refused, and says where', async () => {
      const loop: { name: string; queueName: string; children: unknown[] } = {
        name: 'a',
        queueName: 'q',
        children: [],
      };
      loop.children.push({ name: 'b', queueName: 'q', children: [loop] });
      const error = await errorOf(producer().add(loop as never));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(/flow\.children\[0\]\.children\[0\] is flow again/);
    });

    test('one object at two places is two jobs', async () => {
      const leaf = { name: 'leaf', queueName: 'q' };
      const { children } = await producer().add({ name: 'root', queueName: 'q', children: [leaf, leaf] });
      expect(children![0]!.job.id).not.toBe(children![1]!.job.id);
    });

    test('one jobId at two places is one job', async () => {
      const leaf = { name: 'leaf', queueName: 'q', opts: { jobId: 'shared' } };
      const { job, children } = await producer().add({ name: 'root', queueName: 'q', children: [leaf, leaf] });
      expect(children!.map((child) => [child.job.id, child.job.deduplicated])).toEqual([
        ['shared', false],
        ['shared', true],
      ]);
      expect(await job.getDependencies()).toMatchObject([{ id: 'shared' }]);
      expect(await counts('q')).toEqual([2]);
    });
  });

  describe('graphs', () => {
    const diamond: Graph<'top' | 'left' | 'right' | 'bottom'> = {
      nodes: {
        bottom: { name: 'bottom', queueName: 'b', data: 'bottom' },
        top: { name: 'top', queueName: 'a', data: 'top' },
        left: { name: 'left', queueName: 'a', data: 'left' },
        right: { name: 'right', queueName: 'b', data: 'right' },
      },
      edges: [
        ['top', 'left'],
        ['top', 'right'],
        ['left', 'bottom'],
        ['right', 'bottom'],
        ['right', 'bottom'],
      ],
    };

    test('a node that several wait for runs once, before all of them', async () => {
      const { top, left, right, bottom } = await producer().addGraph(diamond);
      expect(await states(top, left, right, bottom)).toEqual(['waiting', 'blocked', 'blocked', 'blocked']);
      const ran: string[] = [];
      for (const name of ['a', 'b']) await kit.worker((job) => ran.push(job.data), {}, name);
      await bottom.waitUntilFinished();
      expect(ran[0]).toBe('top');
      expect(ran[3]).toBe('bottom');
      expect([...ran].sort()).toEqual(['bottom', 'left', 'right', 'top']);
    });

    test('an edge is one however often it is said, and in what form', async () => {
      const { bottom } = await producer().addGraph({
        nodes: {
          top: { name: 'n', queueName: 'a', opts: { jobId: 'top' } },
          bottom: { name: 'n', queueName: 'b', opts: { dependsOn: [{ queue: 'a', id: 'top' }] } },
        },
        edges: [
          ['top', 'bottom'],
          ['top', 'bottom'],
        ],
      });
      expect(await bottom.getDependencies()).toMatchObject([{ queue: 'a', id: 'top', state: 'waiting' }]);
    });

    test('nodes may name custom ids of each other, in any order and queue', async () => {
      const { first, second } = await producer().addGraph({
        nodes: {
          second: { name: 'n', queueName: 'b', opts: { dependsOn: [{ queue: 'a', id: 'one' }] } },
          first: { name: 'n', queueName: 'a', opts: { jobId: 'one' } },
        },
      });
      expect(await states(first, second)).toEqual(['waiting', 'blocked']);
    });

    test('a cycle is refused, and named by its nodes', async () => {
      const node = (queueName: string) => ({ name: 'n', queueName });
      const error = await errorOf(
        producer().addGraph({
          nodes: { a: node('q'), b: node('other'), c: node('q'), free: node('q') },
          edges: [
            ['a', 'b'],
            ['b', 'c'],
            ['c', 'a'],
          ],
        }),
      );
      expect(error).toBeInstanceOf(BulkError);
      expect(error.message).toMatch(/cycle: ("[abc]" → ){3}"[abc]"/);
      expect(error.errors.map(({ index }: { index: number }) => index)).toEqual([0, 1, 2]);
      expect(await counts('q', 'other')).toEqual([0, 0]);
    });

    test('a node that waits for itself is a cycle, too', async () => {
      const error = await errorOf(
        producer().addGraph({ nodes: { a: { name: 'n', queueName: 'q' } }, edges: [['a', 'a']] }),
      );
      expect(error.message).toMatch(/cycle: "a" → "a"/);
    });

    test('a jobId that is there stands for that job, as it is', async () => {
      const done = await kit.completed(kit.queue('a'), 5, { jobId: 'done' });
      const open = await kit.queue('a').add('open', null, { jobId: 'open' });
      const graph = await producer().addGraph({
        nodes: {
          done: { name: 'n', queueName: 'a', opts: { jobId: 'done' } },
          open: { name: 'n', queueName: 'a', opts: { jobId: 'open' } },
          after: { name: 'n', queueName: 'b' },
        },
        edges: [
          ['done', 'open'],
          ['done', 'after'],
        ],
      });
      expect(graph.done).toMatchObject({ id: done.id, deduplicated: true, returnvalue: 5 });
      expect(graph.open).toMatchObject({ id: open.id, deduplicated: true });
      expect(await states(graph.open, graph.after)).toEqual(['waiting', 'waiting']);
      expect(await graph.after.getDependencyResults()).toEqual({ 'a:done': 5 });
    });

    test('on one that has failed already: as its policy says, at once', async () => {
      const failed = await kit.failed(kit.queue('a'), { jobId: 'bad' });
      const graph = await producer().addGraph({
        nodes: {
          bad: { name: 'n', queueName: 'a', opts: { jobId: 'bad' } },
          next: { name: 'n', queueName: 'b' },
          last: { name: 'n', queueName: 'b', opts: { onDependencyFailure: 'cancel' } },
        },
        edges: [
          ['bad', 'next'],
          ['next', 'last'],
        ],
      });
      expect(graph.bad.id).toBe(failed.id);
      expect(await states(graph.next, graph.last)).toEqual(['failed', 'cancelled']);
    });

    test('two nodes of one jobId: the second one can’t have dependencies of its own', async () => {
      const twin = { name: 'n', queueName: 'q', opts: { jobId: 'x' } };
      const error = await errorOf(
        producer().addGraph({ nodes: { a: twin, b: twin, c: { name: 'n', queueName: 'q' } }, edges: [['c', 'b']] }),
      );
      expect(error.message).toMatch(/"a" and "b" have one jobId/);
      expect(await counts('q')).toEqual([0]);
    });

    test('nothing is nothing', async () => {
      expect(await producer().addGraph({ nodes: {} })).toEqual({});
    });

    test('what can’t be kept refuses the whole', async () => {
      const error = await errorOf(
        producer().addGraph({
          nodes: { a: { name: 'n', queueName: 'q' }, b: { name: 'n', queueName: 'q', data: 'x'.repeat(10_000_001) } },
        }),
      );
      expect(error.errors).toMatchObject([{ index: 1 }]);
      expect(await counts('q')).toEqual([0]);
    });
  });

  describe('getFlow', () => {
    test('reads a job, what it depends on and so on, each once, with states', async () => {
      const { bottom, top } = await producer().addGraph({
        nodes: Object.fromEntries(
          ['top', 'left', 'right', 'bottom'].map((key) => [key, { name: key, queueName: key === 'top' ? 'a' : 'b' }]),
        ),
        edges: [
          ['top', 'left'],
          ['top', 'right'],
          ['left', 'bottom'],
          ['right', 'bottom'],
        ],
      });
      await kit.worker(() => 'done', {}, 'a');
      await kit.settle();
      const flow = await producer().getFlow({ id: bottom!.id, queueName: 'b' });
      expect(flow).toMatchObject({ id: bottom!.id, queueName: 'b', state: 'blocked', job: { name: 'bottom' } });
      expect(flow!.children.map(({ state, job }) => [job!.name, state])).toEqual([
        ['left', 'waiting'],
        ['right', 'waiting'],
      ]);
      const [left, right] = flow!.children;
      expect(left!.children[0]).toMatchObject({
        id: top!.id,
        queueName: 'a',
        state: 'completed',
        job: { returnvalue: 'done' },
      });
      expect(left!.children[0]).toBe(right!.children[0]);
    });

    test('goes as deep as it is told', async () => {
      const child = { name: 'b', queueName: 'q', children: [{ name: 'c', queueName: 'q' }] };
      const { job } = await producer().add({ name: 'a', queueName: 'q', children: [child] });
      const names = async (depth?: number) => {
        const found: string[] = [];
        for (
          let node = await producer().getFlow({ id: job.id, queueName: 'q', depth });
          node !== undefined;
          node = node.children[0]
        )
          found.push(node.job!.name);
        return found;
      };
      expect(await names(0)).toEqual(['a']);
      expect(await names(1)).toEqual(['a', 'b']);
      expect(await names()).toEqual(['a', 'b', 'c']);
    });

    test('knows those whose record is gone by name', async () => {
      const { job, children } = await producer().add({
        name: 'a',
        queueName: 'q',
        opts: { onDependencyFailure: 'run' },
        children: [{ name: 'b', queueName: 'q' }],
      });
      await kit.worker(() => 1);
      await kit.settle();
      await children![0]!.job.remove();
      const flow = await producer().getFlow({ id: job.id, queueName: 'q' });
      expect(flow!.children).toMatchObject([
        { id: children![0]!.job.id, state: 'unknown', job: undefined, children: [] },
      ]);
    });

    test('of a job that is not there is undefined', async () => {
      expect(await producer().getFlow({ id: 'nobody', queueName: 'q' })).toBeUndefined();
    });
  });

  test('a deduplication key that is held stands for its job, in a flow as in another', async () => {
    const key = { deduplication: { id: 'k' } };
    const first = await kit.queue().add('a', 1, key);
    const tree = await producer().add({
      name: 'parent',
      queueName: 'p',
      children: [2, 3].map((data) => ({ name: 'a', queueName: 'q', data, opts: key })),
    });
    expect(tree.children!.map(({ job }) => [job.id, job.deduplicated])).toEqual([
      [first.id, true],
      [first.id, true],
    ]);
    expect(await counts('q', 'p')).toEqual([1, 1]);
    await kit.worker((job) => job.data);
    await kit.settle();
    expect(await tree.job.getState()).toBe('waiting');
    expect(await tree.job.getDependencyResults()).toEqual({ [`q:${first.id}`]: 1 });
    expect(await kit.queue().getDeduplicationJobId('k')).toBeNull();
  });

  describe('what is refused', () => {
    const bad: [call: (flow: FlowProducer) => Promise<unknown>, message: RegExp][] = [
      [(flow) => flow.add(undefined as never), /^flow must be an object/],
      [(flow) => flow.add({ name: '', queueName: 'q' }), /name of a job/],
      [(flow) => flow.add({ name: 'a', queueName: 'no/such' }), /name of a queue/],
      [(flow) => flow.add({ name: 'a', queue: 'q' } as never), /it is called queueName/],
      [(flow) => flow.add({ name: 'a', queueName: 'q', opts: { priorty: 1 } as never }), /priority/],
      [(flow) => flow.add({ name: 'a', queueName: 'q', children: {} as never }), /flow.children must be an array/],
      [
        (flow) => flow.add({ name: 'a', queueName: 'q', children: [null as never] }),
        /flow.children\[0\] must be an object/,
      ],
      [(flow) => flow.addBulk({} as never), /flows must be an array/],
      [(flow) => flow.addGraph({} as never), /graph.nodes must be an object/],
      [
        (flow) => flow.addGraph({ nodes: { a: { name: 'a', queueName: 'q', children: [] } as never } }),
        /edges say who waits/,
      ],
      [
        (flow) => flow.addGraph({ nodes: {}, edges: [['a', 'b']] as never }),
        /graph.edges\[0\]\[0\] must be a key of graph.nodes/,
      ],
      [
        (flow) => flow.addGraph({ nodes: {}, edges: [{ from: 'a' }] as never }),
        /graph.edges\[0\] must be \[before, after\]/,
      ],
      [(flow) => flow.getFlow({ id: '', queueName: 'q' }), /flow.id/],
      [(flow) => flow.getFlow({ id: 'a', queueName: 'q', depth: -1 }), /flow.depth/],
    ];
    test.each(bad)('%s', async (call, message) => {
      const error = await errorOf(call(producer()));
      expect(error).toBeInstanceOf(ValidationError);
      expect(error.message).toMatch(message);
      expect(await counts('q')).toEqual([0]);
    });

    test('anything, after it was closed', async () => {
      const flow = producer();
      await flow.close();
      expect((await errorOf(flow.add({ name: 'a', queueName: 'q' }))).code).toBe('FLASHQ_ENGINE_CLOSED');
    });
  });
};
