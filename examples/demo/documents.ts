/** Finds the documents of a folder: its text files, long ones divided into passages, as a search over them needs it. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';

/** What a job carries: where its text lies. The thread reads it itself, so no text travels through the queue. */
export interface Document {
  /** The path as a person would name it, and the line where a later passage starts: `docs/setup.md:120`. */
  readonly name: string;
  readonly file: string;
  readonly startBytes: number;
  readonly lengthBytes: number;
}

export interface WalkOptions {
  readonly documentsMax: number;
  /** A file longer than this is divided, at line ends where there are any; 0 leaves every file whole. */
  readonly passageBytesMax: number;
  readonly fileBytesMax?: number;
}

export interface Walk {
  readonly documents: readonly Document[];
  readonly files: number;
  readonly bytes: number;
  readonly skipped: {
    readonly tooLarge: number;
    readonly binary: number;
    readonly empty: number;
    readonly unreadable: number;
  };
}

export interface Passage {
  readonly start: number;
  readonly length: number;
  /** The first line is 1. */
  readonly line: number;
}

const FILE_BYTES_MAX = 256 * 1024;
const TEXT_FILE =
  /\.(?:md|markdown|txt|rst|adoc|[cm]?[jt]sx?|json|ya?ml|toml|html?|css|py|go|rs|c|h|cc|cpp|java|rb|php|sh|sql)$/i;
const NEWLINE = 0x0a;

/** In the order of their names, so that two walks of one folder give the same documents. Links are not followed. */
export async function walk(folder: string, options: WalkOptions): Promise<Walk> {
  const fileBytesMax = options.fileBytesMax ?? FILE_BYTES_MAX;
  const documents: Document[] = [];
  const skipped = { tooLarge: 0, binary: 0, empty: 0, unreadable: 0 };
  let files = 0;
  let bytes = 0;
  for await (const file of filesOf(folder)) {
    if (documents.length >= options.documentsMax) break;
    const content = await contentOf(file, fileBytesMax);
    if (typeof content === 'string') {
      skipped[content]++;
      continue;
    }
    files++;
    const name = relative(folder, file).split(sep).join('/');
    for (const { start, length, line } of passagesOf(content, options.passageBytesMax)) {
      if (documents.length >= options.documentsMax) break;
      bytes += length;
      documents.push({ name: line === 1 ? name : `${name}:${line}`, file, startBytes: start, lengthBytes: length });
    }
  }
  return { documents, files, bytes, skipped };
}

async function* filesOf(folder: string): AsyncGenerator<string> {
  const entries = await readdir(folder, { withFileTypes: true });
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!entry.name.startsWith('.')) yield* filesOf(path);
    } else if (entry.isFile() && TEXT_FILE.test(entry.name)) {
      yield path;
    }
  }
}

async function contentOf(file: string, bytesMax: number): Promise<Buffer | keyof Walk['skipped']> {
  try {
    const { size } = await stat(file);
    if (size > bytesMax) return 'tooLarge';
    const content = await readFile(file);
    if (content.includes(0)) return 'binary';
    return /\S/.test(content.toString('latin1')) ? content : 'empty';
  } catch {
    return 'unreadable'; // gone since it was listed, or not ours to read
  }
}

/** Divides at the last line end within reach; inside a longer line, never in the middle of a UTF-8 character. Blank passages are left out. */
export function passagesOf(content: Buffer, bytesMax: number): Passage[] {
  if (bytesMax <= 0 || content.length <= bytesMax) return [{ start: 0, length: content.length, line: 1 }];
  const passages: Passage[] = [];
  let line = 1;
  for (let start = 0; start < content.length; ) {
    const end = endOfPassage(content, start, bytesMax);
    const text = content.subarray(start, end);
    if (/\S/.test(text.toString('latin1'))) passages.push({ start, length: end - start, line });
    line += countOf(text, NEWLINE);
    start = end;
  }
  return passages;
}

function endOfPassage(content: Buffer, start: number, bytesMax: number): number {
  const reach = start + bytesMax;
  if (reach >= content.length) return content.length;
  const lineEnd = content.lastIndexOf(NEWLINE, reach - 1);
  if (lineEnd >= start) return lineEnd + 1;
  let end = reach;
  while (end > start + 1 && (content[end]! & 0xc0) === 0x80) end--; // a continuation byte belongs to the character before it
  return end;
}

function countOf(bytes: Buffer, wanted: number): number {
  let count = 0;
  for (const byte of bytes) if (byte === wanted) count++;
  return count;
}
