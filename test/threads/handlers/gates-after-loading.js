// Loads when cell 0 is open; its runs count in cell 2 and wait for cell 3.
import { count, opened } from './board.js';

count(1);
await opened(0);
export default async () => {
  count(2);
  await opened(3);
};
