/**
 * What a dead thread leaves behind, found without a scan of all slots: the engine first drains its rings (what was published counts),
 * then looks at its claim entries, its permits, its chunks. Engine thread only, in this order.
 */
import { A_CLAIMS, CLAIM_ENTRIES_MAX, S_WORD, STATE_ACTIVE } from './layout';
import { areaOf } from './threads';
import { ownerOfWord, slotOfHint, stateOfWord } from './slots';
import { runSlot } from './jobs';

/** The job that the thread's entry `run` says it owns, if it does; else 0. */
export function runOf(thread: u32, run: u32): u32 {
  const ticket = load<u64>(areaOf(thread) + A_CLAIMS + (run << 3));
  if (ticket == 0) return 0;
  const word = atomic.load<u64>(slotOfHint(ticket), S_WORD);
  if (stateOfWord(word) != STATE_ACTIVE || ownerOfWord(word) != thread) return 0;
  return runSlot(ticket);
}

/** The first run at or after `from` that the thread owns: its entry, or CLAIM_ENTRIES_MAX. */
export function runNext(thread: u32, from: u32): u32 {
  for (; from < CLAIM_ENTRIES_MAX; from++) {
    if (runOf(thread, from) != 0) return from;
  }
  return CLAIM_ENTRIES_MAX;
}

/** How many jobs the thread is running. */
export function runsActive(thread: u32): u32 {
  let count: u32 = 0;
  for (let run = runNext(thread, 0); run < CLAIM_ENTRIES_MAX; run = runNext(thread, run + 1)) count++;
  return count;
}
