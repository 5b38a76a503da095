import type { Engine } from 'flashq';

export function dump(engine: Engine): unknown;
