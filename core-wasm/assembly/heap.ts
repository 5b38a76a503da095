/**
 * The ready heap of a queue: strict priority, FIFO within a priority, O(1), claims lock-free.
 *
 * A trie over the 32 bits of the priority (2 bits, then 6 times 5) leads to *levels*, one a priority in use. Each trie node is one
 * 64-bit word, version(32) | children(32); the highest child is one `clz`. A level is a list of hints in segments, a head that
 * claimers advance, a tail that the engine advances, and a head lane (last in, first out) for released and `lifo` jobs. Hints
 * are only hints: the slot's word decides (slots.ts).
 *
 * A push (engine thread only) stores the cell, advances the tail, and then at every level from leaf to root, always, CASes in its
 * bit with version + 1. A claimer clears a bit only by one CAS from the word that it read *before* it found the child empty; it
 * never sets one. Hence:
 *  - A bit is cleared only if no push below it completed its own CAS on that node since the word was read. A push that has stored
 *    its cell but not yet come to that node sets the bit again when it comes. So once a push has returned, every bit above its job
 *    stays set until the job is taken, and a claim that begins later ends at that level or at a higher one, and never says "empty".
 *  - A claimer that stops between any two instructions has cleared a bit that was rightly cleared, or none; claimed a job whose hint
 *    is still at the head (the next one advances the head for it), or none. It blocks nobody.
 * Linearization points: push, the CAS on the root (or the first CAS that makes it reachable from a bit already set); claim, the CAS
 * on the slot's word; "empty", the load of the root's word with no children.
 * A version wraps after 2^32 pushes through one node; a claimer that slept through exactly a multiple of that could clear a bit
 * wrongly. Left unsolved: the next push below that bit, or the engine's upkeep (`levelsSweep` marks what is not empty), mends it.
 *
 * Nodes, levels, segments and lane nodes that are unlinked go to limbo and are reused once every claimer has left the claim it was in
 * (threads.ts), so an address read inside a claim means the same thing until its end, and a head can never be a lapped one.
 *
 * Rejected: clearing a bit, checking again and setting it back if wrong. A claimer that stops between the two loses the jobs below
 * that bit: 22 lost in 172,000 explored schedules, where this one lost none in 312,000.
 */
import {
  A_CLAIMS,
  A_PATH,
  CLAIM_EMPTY,
  ENGINE_THREAD,
  G_CELLS,
  G_FIRST,
  G_NEXT,
  L_FIRST,
  L_HEAD,
  L_INLINE,
  L_KEY,
  L_LANE,
  L_LANE_KNOWN,
  L_NEXT,
  L_NODE,
  L_PLACE,
  L_PREV,
  L_PUSHED,
  L_QUEUE,
  L_STALE,
  L_TAIL,
  LANE_BYTES,
  LANE_HINT,
  LANE_NEXT,
  LEVEL_BYTES,
  LEVEL_INLINE_CELLS,
  N_CHILDREN,
  N_PARENT,
  N_PLACE,
  N_WORD,
  NODE_BYTES,
  Q_LEVEL,
  Q_LEVEL_KEY,
  Q_LEVELS,
  Q_LEVELS_HEAD,
  Q_LEVELS_TAIL,
  Q_ROOT,
  S_WORD,
  SEGMENT_CELLS_MAX,
  SEGMENT_CELLS_MIN,
  STALE_SLACK,
  TRIE_DEPTH,
  TRIE_ROOT_SHIFT,
} from './layout';
import { areaOf, retire } from './threads';
import { blockAlloc, blockFree } from './blocks';
import { activeWord, slotOfHint, waitingWord, wordOf } from './slots';

/** Levels that a queue keeps, empty or not, before empty ones are looked for. */
const LEVELS_KEPT: u32 = 64;
/** Stale hints that one look at a level passes over at most. */
const STALE_SKIPPED: u32 = 64;

// @ts-ignore: decorator
@inline
function keyOf(priority: i32): u32 {
  return <u32>priority ^ 0x80000000; // unsigned order = signed order
}

// @ts-ignore: decorator
@inline
function placeAt(key: u32, depth: u32): u32 {
  return depth == 0 ? key >> TRIE_ROOT_SHIFT : (key >> (TRIE_ROOT_SHIFT - 5 * depth)) & 31;
}

// @ts-ignore: decorator
@inline
function position(segment: u32, cell: u32): u64 {
  return (<u64>segment << 32) | cell;
}

// ---- structure: engine thread only ----------------------------------------------------------------------------------------

/** An empty trie node; 0 when memory is full. */
export function nodeCreate(parent: u32, place: u32): u32 {
  const node = blockAlloc(ENGINE_THREAD, NODE_BYTES, false);
  if (node == 0) return 0;
  memory.fill(node, 0, NODE_BYTES);
  store<u32>(node, parent, N_PARENT);
  store<u32>(node, place, N_PLACE);
  return node;
}

function levelCreate(queue: u32, key: u32, node: u32, place: u32): u32 {
  const level = blockAlloc(ENGINE_THREAD, LEVEL_BYTES, false);
  if (level == 0) return 0;
  memory.fill(level, 0, LEVEL_BYTES);
  store<u32>(level, node, L_NODE);
  store<u32>(level, place, L_PLACE);
  store<u32>(level, key, L_KEY);
  store<u32>(level, queue, L_QUEUE);
  const inline = level + L_INLINE;
  store<u32>(inline, LEVEL_INLINE_CELLS, G_CELLS);
  store<u32>(level, inline, L_FIRST);
  atomic.store<u64>(level, position(inline, 0), L_HEAD);
  atomic.store<u64>(level, position(inline, 0), L_TAIL);
  return level;
}

/** Links a level as the newest of its queue. */
function levelLink(queue: u32, level: u32): void {
  const tail = load<u32>(queue, Q_LEVELS_TAIL);
  store<u32>(level, tail, L_PREV);
  store<u32>(level, 0, L_NEXT);
  if (tail == 0) store<u32>(queue, level, Q_LEVELS_HEAD);
  else store<u32>(tail, level, L_NEXT);
  store<u32>(queue, level, Q_LEVELS_TAIL);
  store<u32>(queue, load<u32>(queue, Q_LEVELS) + 1, Q_LEVELS);
}

function levelUnlink(queue: u32, level: u32): void {
  const previous = load<u32>(level, L_PREV);
  const next = load<u32>(level, L_NEXT);
  if (previous == 0) store<u32>(queue, next, Q_LEVELS_HEAD);
  else store<u32>(previous, next, L_NEXT);
  if (next == 0) store<u32>(queue, previous, Q_LEVELS_TAIL);
  else store<u32>(next, previous, L_PREV);
  store<u32>(queue, load<u32>(queue, Q_LEVELS) - 1, Q_LEVELS);
}

/** The level of that key, made if need be; 0 when memory is full. */
function levelFor(queue: u32, key: u32): u32 {
  const cached = load<u32>(queue, Q_LEVEL);
  if (cached != 0 && load<u32>(queue, Q_LEVEL_KEY) == key) return cached;
  let node = load<u32>(queue, Q_ROOT);
  for (let depth: u32 = 0; depth < TRIE_DEPTH - 1; depth++) {
    const place = placeAt(key, depth);
    const at = node + N_CHILDREN + (place << 2);
    let child = load<u32>(at);
    if (child == 0) {
      child = nodeCreate(node, place);
      if (child == 0) return levelRefused(node);
      atomic.store<u32>(at, child);
    }
    node = child;
  }
  const place = placeAt(key, TRIE_DEPTH - 1);
  const at = node + N_CHILDREN + (place << 2);
  let level = load<u32>(at);
  if (level == 0) {
    level = levelCreate(queue, key, node, place);
    if (level == 0) return levelRefused(node);
    atomic.store<u32>(at, level);
    levelLink(queue, level);
    if (load<u32>(queue, Q_LEVELS) > LEVELS_KEPT) levelsSweep(queue, 2, level);
  }
  store<u32>(queue, level, Q_LEVEL);
  store<u32>(queue, key, Q_LEVEL_KEY);
  return level;
}

/** Memory is full: nodes made on the way to a level that is not there would never be retired with it. */
function levelRefused(node: u32): u32 {
  nodeRetire(node);
  return 0;
}

/** Cells of the segment that follows one of `cells`. */
function cellsAfter(cells: u32): u32 {
  if (cells < SEGMENT_CELLS_MIN) return SEGMENT_CELLS_MIN;
  return min(cells << 1, SEGMENT_CELLS_MAX);
}

/** A segment more for the tail; 0 when memory is full. */
function tailGrow(level: u32, segment: u32, cells: u32): u32 {
  const next = cellsAfter(cells);
  const grown = blockAlloc(ENGINE_THREAD, G_FIRST + (next << 3), false);
  if (grown == 0) return 0;
  store<u32>(grown, 0, G_NEXT);
  store<u32>(grown, next, G_CELLS);
  // Before the tail that leads to it.
  atomic.store<u32>(segment, grown, G_NEXT);
  segmentsRetire(level);
  return grown;
}

/** Retires the segments that the head has left behind. */
function segmentsRetire(level: u32): void {
  const at = <u32>(atomic.load<u64>(level, L_HEAD) >> 32);
  let first = load<u32>(level, L_FIRST);
  while (first != at) {
    const next = load<u32>(first, G_NEXT);
    store<u32>(level, load<u32>(level, L_PUSHED) - load<u32>(first, G_CELLS), L_PUSHED);
    if (first != level + L_INLINE) retire(first);
    first = next;
  }
  store<u32>(level, first, L_FIRST);
}

/** Stores a hint at the tail; false when memory is full. The job is claimable only after `mark`, or by chance before. */
function tailPush(level: u32, hint: u64): bool {
  const tail = load<u64>(level, L_TAIL);
  let segment = <u32>(tail >> 32);
  let cell = <u32>tail;
  const cells = load<u32>(segment, G_CELLS);
  if (cell == cells) {
    segment = tailGrow(level, segment, cells);
    if (segment == 0) return false;
    cell = 0;
  }
  atomic.store<u64>(segment + G_FIRST + (cell << 3), hint);
  store<u32>(level, load<u32>(level, L_PUSHED) + 1, L_PUSHED);
  atomic.store<u64>(level, position(segment, cell + 1), L_TAIL);
  return true;
}

/**
 * Retires the lane nodes above `top` that have been popped since the engine last looked: pops come from the top only, and pushes
 * from this thread only, so they are a prefix of the engine's own chain.
 */
function laneRetire(level: u32, top: u32): void {
  let known = load<u32>(level, L_LANE_KNOWN);
  while (known != top) {
    const next = load<u32>(known, LANE_NEXT);
    retire(known);
    store<u32>(level, load<u32>(level, L_PUSHED) - 1, L_PUSHED);
    known = next;
  }
  store<u32>(level, top, L_LANE_KNOWN);
}

function laneNode(level: u32, hint: u64): u32 {
  const node = blockAlloc(ENGINE_THREAD, LANE_BYTES, false);
  if (node == 0) return 0;
  store<u64>(node, hint, LANE_HINT);
  store<u32>(node, 0, LANE_NEXT);
  store<u32>(level, load<u32>(level, L_PUSHED) + 1, L_PUSHED);
  return node;
}

function lanePush(level: u32, hint: u64): bool {
  const node = laneNode(level, hint);
  if (node == 0) return false;
  while (true) {
    const top = atomic.load<u32>(level, L_LANE);
    store<u32>(node, top, LANE_NEXT);
    if (atomic.cmpxchg<u32>(level, top, node, L_LANE) != top) continue;
    laneRetire(level, top);
    store<u32>(level, node, L_LANE_KNOWN);
    return true;
  }
}

/** Makes a level reachable: its bit at every node from leaf to root, always, with a new version. */
function mark(level: u32): void {
  let node = load<u32>(level, L_NODE);
  let place = load<u32>(level, L_PLACE);
  while (node != 0) {
    const bit = <u64>1 << place;
    while (true) {
      const word = atomic.load<u64>(node, N_WORD);
      if (atomic.cmpxchg<u64>(node, word, (word + ((<u64>1) << 32)) | bit, N_WORD) == word) break;
    }
    place = load<u32>(node, N_PLACE);
    node = load<u32>(node, N_PARENT);
  }
}

/**
 * The level for a push that will not fail: there is room for one more hint in it. 0 when memory is full; nothing has changed then. To
 * be asked before a job's state is changed, so that a job is never waiting without a hint.
 */
export function heapRoom(queue: u32, priority: i32, first: bool): u32 {
  const level = levelFor(queue, keyOf(priority));
  if (level == 0) return 0;
  let bytes = LANE_BYTES;
  if (!first) {
    const tail = load<u64>(level, L_TAIL);
    const cells = load<u32>(<u32>(tail >> 32), G_CELLS);
    if (<u32>tail != cells) return level;
    bytes = G_FIRST + (cellsAfter(cells) << 3);
  }
  // Taken and given back: freed blocks are this thread's alone, so the next of this size is certain.
  const block = blockAlloc(ENGINE_THREAD, bytes, false);
  if (block == 0) return 0;
  blockFree(block);
  return level;
}

/** Pushes a waiting job (its word is set) into the level that `heapRoom` gave. */
export function heapPush(level: u32, hint: u64, first: bool): void {
  const pushed = first ? lanePush(level, hint) : tailPush(level, hint);
  assert(pushed);
  mark(level);
}

/**
 * Pushes without making reachable, for many jobs of one priority in a row: `heapMark` after the last. Between the two the jobs may
 * be claimed or not; no claim that began before has been promised them.
 */
export function heapPushQuiet(level: u32, hint: u64): void {
  const pushed = tailPush(level, hint);
  assert(pushed);
}

export function heapMark(queue: u32, priority: i32): void {
  const level = levelFor(queue, keyOf(priority));
  if (level != 0) mark(level);
}

// ---- claims: any thread ---------------------------------------------------------------------------------------------------

// @ts-ignore: decorator
@inline
function laneEmpty(level: u32): bool {
  return atomic.load<u32>(level, L_LANE) == 0;
}

/** Whether the job that a hint names is still the one that waits. */
// @ts-ignore: decorator
@inline
function isLive(hint: u64): bool {
  return wordOf(slotOfHint(hint)) == waitingWord(hint);
}

/** Whether neither lane nor list holds a hint, stale ones included. */
function levelEmpty(level: u32): bool {
  return laneEmpty(level) && atomic.load<u64>(level, L_HEAD) == atomic.load<u64>(level, L_TAIL);
}

/** Takes the job that a hint names; false when the hint is stale. `entry`: where this thread says what it is about to own. */
function take(hint: u64, thread: u32, entry: usize): bool {
  const slot = slotOfHint(hint);
  const expected = waitingWord(hint);
  if (wordOf(slot) != expected) return false;
  const active = activeWord(hint, thread);
  // Before the CAS, so that a reaper finds a run that began and stopped at once.
  atomic.store<u64>(entry, (active & ~(<u64>0x1ffffff)) | (hint & 0x1ffffff));
  return atomic.cmpxchg<u64>(slot, expected, active, S_WORD) == expected;
}

/** Claims the first job of a level that is still there; CLAIM_EMPTY when it found none. */
function levelClaim(level: u32, thread: u32, entry: usize): u32 {
  while (true) {
    const top = atomic.load<u32>(level, L_LANE);
    if (top != 0) {
      const hint = load<u64>(top, LANE_HINT);
      const taken = take(hint, thread, entry);
      // Taken by us, or stale: either way this node is done with, and anybody may say so.
      atomic.cmpxchg<u32>(level, top, load<u32>(top, LANE_NEXT), L_LANE);
      if (taken) return slotOfHint(hint);
      continue;
    }
    const head = atomic.load<u64>(level, L_HEAD);
    if (head == atomic.load<u64>(level, L_TAIL)) return CLAIM_EMPTY;
    let segment = <u32>(head >> 32);
    let cell = <u32>head;
    if (cell == load<u32>(segment, G_CELLS)) {
      // Not the tail, so there is a next one: the link was stored before the tail moved on.
      segment = atomic.load<u32>(segment, G_NEXT);
      cell = 0;
    }
    const hint = atomic.load<u64>(segment + G_FIRST + (cell << 3));
    const taken = take(hint, thread, entry);
    atomic.cmpxchg<u64>(level, head, position(segment, cell + 1), L_HEAD);
    if (taken) return slotOfHint(hint);
  }
}

/**
 * Claims the job of the highest priority; its slot, or CLAIM_EMPTY. Inside a claim epoch. `run`: the thread's entry for it.
 */
export function heapClaim(queue: u32, thread: u32, run: u32): u32 {
  const root = load<u32>(queue, Q_ROOT);
  const area = areaOf(thread);
  const entry: usize = area + A_CLAIMS + (run << 3);
  const path: usize = area + A_PATH;
  while (true) {
    let node = root;
    let depth: u32 = 0;
    let word = atomic.load<u64>(node, N_WORD);
    let children = <u32>word;
    if (children == 0) return CLAIM_EMPTY;
    while (true) {
      if (children != 0) {
        const place: u32 = 31 - clz(children);
        const child = atomic.load<u32>(node + N_CHILDREN + (place << 2));
        store<u64>(path + (depth << 3), word);
        if (depth == TRIE_DEPTH - 1) {
          const slot = child == 0 ? CLAIM_EMPTY : levelClaim(child, thread, entry);
          if (slot != CLAIM_EMPTY) return slot;
        } else if (child != 0) {
          node = child;
          depth++;
          word = atomic.load<u64>(node, N_WORD);
          children = <u32>word;
          continue;
        }
        // The child is empty (or retired): clear its bit, by one CAS from the word read before that was found.
        const cleared = word & ~(<u64>1 << place);
        if (atomic.cmpxchg<u64>(node, word, cleared, N_WORD) != word) break;
        word = cleared;
        children = <u32>word;
        continue;
      }
      // This node has no children left: the same one level up.
      if (depth == 0) return CLAIM_EMPTY;
      const place = load<u32>(node, N_PLACE);
      node = load<u32>(node, N_PARENT);
      depth--;
      const above = load<u64>(path + (depth << 3));
      const cleared = above & ~(<u64>1 << place);
      if (atomic.cmpxchg<u64>(node, above, cleared, N_WORD) != above) break;
      word = cleared;
      children = <u32>word;
    }
  }
}

// ---- lists as the engine thread reads them ----------------------------------------------------------------------------------

/** The position of the hint that a head leads to: in the segment that follows, when it stands at the end of one. */
function nextCell(head: u64): u64 {
  const segment = <u32>(head >> 32);
  return <u32>head == load<u32>(segment, G_CELLS) ? position(load<u32>(segment, G_NEXT), 0) : head;
}

function hintAt(at: u64): u64 {
  return load<u64>(<u32>(at >> 32) + G_FIRST + (<u32>at << 3));
}

// ---- upkeep: engine thread only -------------------------------------------------------------------------------------------

/** Clears a bit below which nothing is, and unlinks the child. Nobody but this thread could set it again. */
function unmark(node: u32, place: u32): void {
  const bit = <u64>1 << place;
  while (true) {
    const word = atomic.load<u64>(node, N_WORD);
    if ((word & bit) == 0 || atomic.cmpxchg<u64>(node, word, word & ~bit, N_WORD) == word) break;
  }
  atomic.store<u32>(node + N_CHILDREN + (place << 2), 0);
}

/** Retires a level that is empty; false when it is not. */
function levelRetire(queue: u32, level: u32): bool {
  if (!levelEmpty(level)) return false;
  const node = load<u32>(level, L_NODE);
  unmark(node, load<u32>(level, L_PLACE));
  if (load<u32>(queue, Q_LEVEL) == level) store<u32>(queue, 0, Q_LEVEL);
  levelUnlink(queue, level);
  levelRelease(level);
  nodeRetire(node);
  return true;
}

/** Sends a level and all that hangs on it to limbo. */
function levelRelease(level: u32): void {
  laneRetire(level, 0);
  for (let segment = load<u32>(level, L_FIRST); segment != 0; ) {
    const next = load<u32>(segment, G_NEXT);
    if (segment != level + L_INLINE) retire(segment);
    segment = next;
  }
  retire(level);
}

/** Retires a trie node without children, and its parents likewise. The root stays. */
function nodeRetire(node: u32): void {
  while (true) {
    const parent = load<u32>(node, N_PARENT);
    if (parent == 0) return;
    for (let place: u32 = 0; place < 32; place++) {
      if (load<u32>(node + N_CHILDREN + (place << 2)) != 0) return;
    }
    unmark(parent, load<u32>(node, N_PLACE));
    retire(node);
    node = parent;
  }
}

/**
 * Passes over stale hints at the front of a level, as a claimer would. Without this, one withdrawn job would keep its level for as long
 * as nobody claims from the queue (it is paused), and jobs added and withdrawn at ever new priorities would fill memory.
 */
function skipStale(level: u32): void {
  for (let i: u32 = 0; i < STALE_SKIPPED; i++) {
    const top = atomic.load<u32>(level, L_LANE);
    if (top != 0) {
      if (isLive(load<u64>(top, LANE_HINT))) return;
      atomic.cmpxchg<u32>(level, top, load<u32>(top, LANE_NEXT), L_LANE);
      continue;
    }
    const head = atomic.load<u64>(level, L_HEAD);
    if (head == load<u64>(level, L_TAIL)) return;
    const at = nextCell(head);
    if (isLive(hintAt(at))) return;
    atomic.cmpxchg<u64>(level, head, at + 1, L_HEAD);
  }
}

/** Looks at the `count` oldest levels, each once: retires the empty ones, moves the others to the end. `spare` is left alone. */
export function levelsSweep(queue: u32, count: u32, spare: u32): void {
  for (count = min(count, load<u32>(queue, Q_LEVELS)); count > 0; count--) {
    const level = load<u32>(queue, Q_LEVELS_HEAD);
    if (level == 0 || level == spare) return;
    skipStale(level);
    if (levelRetire(queue, level)) continue;
    levelUnlink(queue, level);
    levelLink(queue, level);
    mark(level);
  }
}

/** A waiting job was withdrawn: its hint is stale. Rewrites the level when those outnumber the live ones. */
export function heapStale(queue: u32, priority: i32): void {
  const level = levelFor(queue, keyOf(priority));
  if (level == 0) return;
  const stale = load<u32>(level, L_STALE) + 1;
  store<u32>(level, stale, L_STALE);
  if (stale < STALE_SLACK) return;
  segmentsRetire(level);
  laneRetire(level, atomic.load<u32>(level, L_LANE));
  const pushed = load<u32>(level, L_PUSHED);
  // Stale hints that claimers have passed over are still counted: with nothing like that many there, start again.
  if (stale > pushed + STALE_SLACK) store<u32>(level, 0, L_STALE);
  else if (stale > (pushed >> 1) + STALE_SLACK / 2) levelRewrite(queue, level);
}

/**
 * Replaces a level by one with its live hints only, in their order. A claimer still inside the old one claims by the slots' words like
 * everybody; if it finds the old one empty, the new version of the node's word makes its clearing fail, and it starts again.
 */
function levelRewrite(queue: u32, level: u32): void {
  const node = load<u32>(level, L_NODE);
  const place = load<u32>(level, L_PLACE);
  const fresh = levelCreate(queue, load<u32>(level, L_KEY), node, place);
  if (fresh == 0) return; // memory is full: the stale hints stay for now
  if (!copyLive(level, fresh)) {
    levelRelease(fresh);
    return;
  }
  levelUnlink(queue, level);
  levelLink(queue, fresh);
  atomic.store<u32>(node + N_CHILDREN + (place << 2), fresh);
  if (load<u32>(queue, Q_LEVEL) == level) store<u32>(queue, fresh, Q_LEVEL);
  mark(fresh);
  levelRelease(level);
}

function copyLive(from: u32, to: u32): bool {
  const tail = load<u64>(from, L_TAIL);
  let head = atomic.load<u64>(from, L_HEAD);
  while (head != tail) {
    const at = nextCell(head);
    const hint = hintAt(at);
    if (isLive(hint) && !tailPush(to, hint)) return false;
    head = at + 1;
  }
  return laneCopy(atomic.load<u32>(from, L_LANE), to);
}

/** The lane's live hints, in their order. `to` is not reachable yet. */
function laneCopy(top: u32, to: u32): bool {
  let last: u32 = 0;
  for (let node = top; node != 0; node = load<u32>(node, LANE_NEXT)) {
    const hint = load<u64>(node, LANE_HINT);
    if (!isLive(hint)) continue;
    const copy = laneNode(to, hint);
    if (copy == 0) return false;
    if (last == 0) {
      store<u32>(to, copy, L_LANE_KNOWN);
      atomic.store<u32>(to, copy, L_LANE);
    } else store<u32>(last, copy, LANE_NEXT);
    last = copy;
  }
  return true;
}

/** The level in whose front a live hint is, of the highest priority there is; 0 when there is none. For a heap without claimers. */
export function heapTop(queue: u32): u32 {
  // Mostly all jobs of a group have one priority: then there is no other level to look for, and no trie to go down.
  if (load<u32>(queue, Q_LEVELS) == 1) return liveLevel(load<u32>(queue, Q_LEVELS_HEAD));
  const root = load<u32>(queue, Q_ROOT);
  let node = root;
  let depth: u32 = 0;
  while (true) {
    const children = <u32>atomic.load<u64>(node, N_WORD);
    if (children == 0) {
      if (node == root) return 0;
      unbit(load<u32>(node, N_PARENT), load<u32>(node, N_PLACE));
      node = root;
      depth = 0;
      continue;
    }
    const place: u32 = 31 - clz(children);
    const child = load<u32>(node + N_CHILDREN + (place << 2));
    if (depth < TRIE_DEPTH - 1) {
      node = child;
      depth++;
      continue;
    }
    if (liveLevel(child) != 0) return child;
    unbit(node, place);
  }
}

/** The level, stale hints at its front passed over; 0 when it is empty. */
function liveLevel(level: u32): u32 {
  while (!levelEmpty(level)) {
    if (frontHint(level) != 0) return level;
    skipStale(level);
  }
  return 0;
}

/** Clears a bit below which nothing is, and leaves the child for what comes. */
function unbit(node: u32, place: u32): void {
  const word = atomic.load<u64>(node, N_WORD);
  atomic.store<u64>(node, word & ~(<u64>1 << place), N_WORD);
}

/** The hint at the front of a level that is not empty, if it is live; else 0. */
export function frontHint(level: u32): u64 {
  const top = atomic.load<u32>(level, L_LANE);
  if (top != 0) {
    const hint = load<u64>(top, LANE_HINT);
    return isLive(hint) ? hint : 0;
  }
  const head = atomic.load<u64>(level, L_HEAD);
  const hint = hintAt(nextCell(head));
  return isLive(hint) ? hint : 0;
}

/** Takes the hint at the front of a level out. For a heap without claimers. */
export function frontPop(level: u32): void {
  const top = atomic.load<u32>(level, L_LANE);
  if (top != 0) {
    atomic.store<u32>(level, load<u32>(top, LANE_NEXT), L_LANE);
    laneRetire(level, load<u32>(top, LANE_NEXT));
    return;
  }
  const head = atomic.load<u64>(level, L_HEAD);
  atomic.store<u64>(level, nextCell(head) + 1, L_HEAD);
}

/** Whether a claim might find something: the root has children. */
export function heapMayHave(queue: u32): bool {
  return <u32>atomic.load<u64>(load<u32>(queue, Q_ROOT), N_WORD) != 0;
}

/** Retires every level and node of a queue whose jobs are all withdrawn. */
export function heapClear(queue: u32): void {
  while (true) {
    const level = load<u32>(queue, Q_LEVELS_HEAD);
    if (level == 0) return;
    // What is left in it is stale: an empty one takes its place, then goes.
    drainStale(level);
    if (!levelRetire(queue, level)) return;
  }
}

function drainStale(level: u32): void {
  while (true) {
    const top = atomic.load<u32>(level, L_LANE);
    if (top == 0 || atomic.cmpxchg<u32>(level, top, 0, L_LANE) == top) break;
  }
  while (true) {
    const head = atomic.load<u64>(level, L_HEAD);
    if (atomic.cmpxchg<u64>(level, head, load<u64>(level, L_TAIL), L_HEAD) == head) return;
  }
}
