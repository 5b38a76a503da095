// Loads when cell 0 of the board has been opened.
import { board, opened } from './board.js';

Atomics.add(board, 1, 1);
Atomics.notify(board, 1);
await opened(0);
export default async () => 'loaded at last';
