import { readText } from './sources.js';

/** A call of `test`, or the second call of `test.each(…)(…)`, up to its title. */
const TITLES = /(?:\btest(?:\.\w+)*|\))\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1\s*,\s*(?=async\b|\(|\w+ =>|\{)/g;

/** The titles of the tests in a file, as they are written: `%s` and `${name}` as such. */
export function titlesOf(path: string, text: string = readText(path)): Set<string> {
  return new Set([...text.matchAll(TITLES)].map(([, , title]) => title!.replace(/\\(.)/g, '$1')));
}
