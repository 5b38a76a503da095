/** What `.d.ts` files declare, as the compiler writes them: a member a line, four spaces in; a declaration ends at the margin. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Declaration {
  readonly name: string;
  /** Of a class or an object, without those that are private or protected. */
  readonly members: ReadonlySet<string>;
  /** What it extends; of a type, what it is made of. */
  readonly bases: readonly string[];
}

const DECLARATION =
  /^export (?:declare )?(?:abstract )?(class|interface|type|function|const|enum) (\w+)(.*(?:\n(?!\};?$|export |declare |import ).*)*)/gm;
const MEMBER =
  /^ {4}((?:(?:static|readonly|get|set|private|protected|async) |\*)*)(?:'([^']+)'|([A-Za-z]\w*)\??)(?=[(<:;,])/gm;

export function declarationsOf(text: string): Declaration[] {
  const plain = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/ *\/\/.*$/gm, '');
  return [...plain.matchAll(DECLARATION)].map(([, kind, name, body]) => {
    const members = new Set<string>();
    for (const [, modifiers, quoted, bare] of body!.matchAll(MEMBER)) {
      if (!/private|protected/.test(modifiers!) && bare !== 'constructor') members.add((quoted ?? bare)!);
    }
    return { name: name!, members, bases: basesOf(kind!, body!) };
  });
}

/** `A<X, Y>, Omit<B, 'c'>` are A and B. */
function basesOf(kind: string, body: string): string[] {
  const flat = withoutArguments(body.replace(/^ {4}.*$/gm, ''));
  const list = kind === 'type' ? flat.slice(flat.indexOf('=') + 1) : (/ extends ([^{]*)/.exec(flat)?.[1] ?? '');
  return [...list.replace(/ implements .*/s, '').matchAll(/\b[A-Z]\w+/g)].map(([word]) => word);
}

/** What stands in angle brackets goes, but for the first argument of `Omit` and its like. */
function withoutArguments(text: string): string {
  const kept = text.replace(/\b(?:Omit|Pick|Partial|NoInferType)<(\w+)/g, '$1<');
  let depth = 0;
  let flat = '';
  for (const [nth, sign] of [...kept].entries()) {
    if (sign === '<') depth++;
    else if (sign === '>' && kept[nth - 1] !== '=') depth--;
    else if (depth === 0) flat += sign;
  }
  return flat;
}

/** All that a package's entry exports, by name, going after `export *` and `export { … } from`. */
export function exportsOf(entry: string, seen = new Set<string>()): Map<string, Declaration> {
  if (seen.has(entry)) return new Map();
  seen.add(entry);
  const text = readFileSync(entry, 'utf8');
  const found = new Map(declarationsOf(text).map((one) => [one.name, one]));
  const add = (one: Declaration) => found.has(one.name) || found.set(one.name, one);
  for (const [, path] of text.matchAll(/^export \* from '(\..+)';$/gm)) {
    for (const one of exportsOf(fileOf(entry, path!), seen).values()) add(one);
  }
  for (const [, names, path] of text.matchAll(/^export (?:type )?\{([^}]*)\} from '(.+)';$/gm)) {
    const there = path!.startsWith('.') ? exportsOf(fileOf(entry, path!)) : new Map<string, Declaration>();
    for (const word of names!.split(',').map((one) => one.replace('type ', '').trim())) {
      if (word !== '') add(there.get(word) ?? { name: word, members: new Set(), bases: [] });
    }
  }
  return found;
}

function fileOf(from: string, path: string): string {
  const beside = join(from, '..', path.replace(/\.js$/, ''));
  return existsSync(`${beside}.d.ts`) ? `${beside}.d.ts` : join(beside, 'index.d.ts');
}

/** The members of a declaration and of all that it extends. */
export function membersOf(
  name: string,
  declared: ReadonlyMap<string, Declaration>,
  seen = new Set<string>(),
): Set<string> {
  const one = declared.get(name);
  if (one === undefined || seen.has(name)) return new Set();
  seen.add(name);
  return new Set([...one.members, ...one.bases.flatMap((base) => [...membersOf(base, declared, seen)])]);
}
