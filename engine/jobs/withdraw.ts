/** Taking a waiting job back from claimers. */
import { L, type Slot } from '../core/index.js';
import type { EngineState } from '../state.js';
import { endAging } from './aging.js';
import { groupLeft, isGrouped } from './groups.js';

/** Into the engine's hands (as blocked). False when a claim came first. */
export function withdraw(state: EngineState, slot: Slot): boolean {
  if (state.core.wasm.jobWithdraw(slot, L.STATE_BLOCKED) === 0) return false;
  endAging(state, slot);
  if (isGrouped(state, slot)) groupLeft(state, slot);
  return true;
}
