/**
 * The dependency graph: one edge for each (dependent, dependency), in two lists. The dependent's list gives its dependencies in
 * their order, to the end of its life; the dependency's list holds the dependents that are still to be told. A dependency's record
 * outlives its retention while a dependent may read it (`pins`). Engine thread only.
 */
import {
  D_DEPENDENCY,
  D_DEPENDENT,
  D_IN_NEXT,
  D_LINKED,
  D_OUT_NEXT,
  D_OUT_PREV,
  EDGE_BYTES,
  ENGINE_THREAD,
  S_DEPENDENCIES,
  S_DEPENDENTS,
  S_PINS,
} from './layout';
import { blockAlloc, blockFree } from './blocks';

/** Puts an edge in front of a dependent's list (so add the last dependency first); 0 when memory is full. */
export function edgeAdd(dependent: u32, dependency: u32): u32 {
  const edge = blockAlloc(ENGINE_THREAD, EDGE_BYTES, false);
  if (edge == 0) return 0;
  store<u32>(edge, dependency, D_DEPENDENCY);
  store<u32>(edge, dependent, D_DEPENDENT);
  store<u32>(edge, load<u32>(dependent, S_DEPENDENCIES), D_IN_NEXT);
  store<u32>(edge, 0, D_LINKED);
  store<u32>(dependent, edge, S_DEPENDENCIES);
  store<u32>(dependency, load<u32>(dependency, S_PINS) + 1, S_PINS);
  return edge;
}

/** The dependent is to be told when this dependency settles. */
export function edgeLink(edge: u32): void {
  if (load<u32>(edge, D_LINKED) != 0) return;
  const dependency = load<u32>(edge, D_DEPENDENCY);
  const next = load<u32>(dependency, S_DEPENDENTS);
  store<u32>(edge, 1, D_LINKED);
  store<u32>(edge, 0, D_OUT_PREV);
  store<u32>(edge, next, D_OUT_NEXT);
  if (next != 0) store<u32>(next, edge, D_OUT_PREV);
  store<u32>(dependency, edge, S_DEPENDENTS);
}

export function edgeUnlink(edge: u32): void {
  if (load<u32>(edge, D_LINKED) == 0) return;
  const previous = load<u32>(edge, D_OUT_PREV);
  const next = load<u32>(edge, D_OUT_NEXT);
  if (previous == 0) store<u32>(load<u32>(edge, D_DEPENDENCY), next, S_DEPENDENTS);
  else store<u32>(previous, next, D_OUT_NEXT);
  if (next != 0) store<u32>(next, previous, D_OUT_PREV);
  store<u32>(edge, 0, D_LINKED);
}

/**
 * Takes the first edge of a dependent whose life is over, and frees it; the dependency it led to (whose pins it lowers), or 0 when
 * none is left.
 */
export function edgeDrop(dependent: u32): u32 {
  const edge = load<u32>(dependent, S_DEPENDENCIES);
  if (edge == 0) return 0;
  edgeUnlink(edge);
  store<u32>(dependent, load<u32>(edge, D_IN_NEXT), S_DEPENDENCIES);
  const dependency = load<u32>(edge, D_DEPENDENCY);
  store<u32>(dependency, load<u32>(dependency, S_PINS) - 1, S_PINS);
  blockFree(edge);
  return dependency;
}
