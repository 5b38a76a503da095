import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** Rooms that hold code, whether they exist yet or not. */
export const ROOMS = ['core-wasm', 'engine', 'client', 'gateway', 'bench', 'examples', 'test'];

/** Paths relative to the root, with forward slashes, sorted. */
export function sourceFiles(rooms: readonly string[] = ROOMS): string[] {
  const found: string[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.name === 'node_modules' || entry.name === 'dist' || entry.name.startsWith('.')) continue;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (/\.[cm]?[tj]s$/.test(entry.name)) found.push(relative(root, path).split(sep).join('/'));
    }
  };
  const present = new Set(readdirSync(root));
  for (const room of rooms) if (present.has(room)) walk(join(root, room));
  return found.sort();
}

export function readText(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

export interface Import {
  readonly from: string;
  /** A path relative to the root (with the extension of the source), or the package's name as it is written. */
  readonly to: string;
  readonly isPackage: boolean;
}

/** `from '…'`, `import '…'`, `import('…')` and `new URL('./….js', import.meta.url)`; comments and code alike: nobody writes those by chance. */
const SPECIFIERS = [
  /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm,
  /^\s*import\s*['"]([^'"]+)['"]/gm,
  /\bimport\s*\(\s*['"]([^'"]+)['"]\s*\)/g,
  /\bnew URL\(\s*['"](\.[^'"]+\.[cm]?js)['"]\s*,\s*import\.meta\.url/g,
];

export function importsOf(path: string, text: string = readText(path)): Import[] {
  const found: Import[] = [];
  for (const pattern of SPECIFIERS) {
    for (const [, specifier] of text.matchAll(pattern)) {
      const isPackage = !specifier!.startsWith('.');
      found.push({ from: path, to: isPackage ? specifier! : resolved(path, specifier!), isPackage });
    }
  }
  return found;
}

function resolved(from: string, specifier: string): string {
  const path = posix.join(dirname(from), specifier);
  // The sources are TypeScript, and name what they become; AssemblyScript names no extension.
  if (/\.[cm]?js$/.test(path)) return path.replace(/js$/, 'ts');
  return /\.[a-z]+$/.test(path) ? path : `${path}.ts`;
}
