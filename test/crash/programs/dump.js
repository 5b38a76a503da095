/** All that an engine holds, as one object; taken in one turn. */
import { L } from '#engine/core/index.js';
import { counts } from '#engine/jobs/control.js';
import { dependenciesOf } from '#engine/jobs/dependencies.js';
import { coldOf, snapshot } from '#engine/jobs/records.js';

const LISTS = {
  waiting: L.STATE_WAITING,
  delayed: L.STATE_DELAYED,
  blocked: L.STATE_BLOCKED,
  completed: L.STATE_COMPLETED,
  failed: L.STATE_FAILED,
  cancelled: L.STATE_CANCELLED,
  remembered: L.STATE_REMEMBERED,
  lingering: L.STATE_LINGERING,
};

export function dump(engine) {
  const { state } = engine;
  const { core } = state;
  const jobs = [];
  const hidden = new Set();
  const queues = [...state.queues.all()].map((queue) => {
    const listed = {};
    for (const [name, raw] of Object.entries(LISTS)) {
      listed[name] = 0;
      for (let slot = core.listHead(queue.address, raw); slot !== 0; slot = core.field(slot, L.S_NEXT)) {
        listed[name]++;
        jobs.push(recordOf(state, slot, name));
        for (const one of dependenciesOf(state, slot)) if (core.state(one) === L.STATE_GONE) hidden.add(one);
      }
    }
    return { name: queue.name, paused: queue.paused, config: queue.config, counts: counts(state, queue), listed };
  });
  return { queues, jobs, hidden: hidden.size, live: engine.stats().jobs };
}

function recordOf(state, slot, list) {
  const { id, queue, data, state: final, progress, returnvalue, priority, timestamp, dlq } = snapshot(state, slot);
  const { core } = state;
  return {
    key: data?.key,
    id,
    queue,
    list: list === 'waiting' && final === 'active' ? 'active' : list,
    state: final,
    progress,
    logs: coldOf(state, slot).logCount ?? 0,
    value: returnvalue,
    priority,
    timestamp,
    due: core.time(slot, L.S_DUE),
    lost: core.lost(slot),
    reason: dlq?.reason,
  };
}
