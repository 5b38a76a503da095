/**
 * A text embedding without a model: words and word pairs, weighted by how often they stand in the text and how rare they are
 * elsewhere (TF-IDF), hashed with a sign into a fixed number of dimensions, normalised to length 1. Texts that share rare words
 * have a large dot product. Pure functions of their arguments.
 *
 * The hashing trick is that of Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009): with random signs,
 * what two different words add to one dimension cancels out on average.
 */
export const DIMENSIONS = 256;
/** Each word's weight lies at its hash modulo this. */
export const WEIGHT_SLOTS = 1 << 16;

const GRAMS_MAX = 64; // the heaviest words and pairs of a text: the rest would mostly add collisions
const HASHES_PER_GRAM = 2; // each gram goes to two dimensions, so that one collision spoils only half of it
const PAIR_WEIGHT = 0.5;
const WORD_LENGTH_MAX = 32; // longer ones are encoded data, not words

/** Lower case; identifiers are taken apart, so that `readFileSync` is found by "read file". */
const WORD = /\p{Lu}?[\p{Ll}\p{Lm}]+|\p{Lu}+(?!\p{Ll})|\p{Lo}+|\p{Nd}+/gu;

export function wordsOf(text: string): string[] {
  const words: string[] = [];
  for (const [word] of text.matchAll(WORD)) {
    if (word.length > 1 && word.length <= WORD_LENGTH_MAX) words.push(stemOf(word.toLowerCase()));
  }
  return words;
}

/** Only the plural's s: enough for a demo, and never wrong by much. */
function stemOf(word: string): string {
  return word.length > 3 && word.endsWith('s') && !word.endsWith('ss') ? word.slice(0, -1) : word;
}

/** FNV-1a over UTF-16 units, then murmur3's finisher, since FNV's low bits mix poorly. Unsigned. */
export function hashOf(text: string, seed = 0): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * How much each word tells, learnt from a sample of the texts: `ln(1 + n / (1 + texts with the word))`. A word in every text weighs
 * 0.69 or less, one in none of a thousand 6.9. Written into `weights`, which may be shared between threads.
 */
export function learnWeights(
  texts: readonly string[],
  weights: Float32Array = new Float32Array(WEIGHT_SLOTS),
): Float32Array {
  const textsWith = new Uint32Array(WEIGHT_SLOTS);
  for (const text of texts) {
    const slots = new Set(wordsOf(text).map((word) => hashOf(word) % WEIGHT_SLOTS));
    for (const slot of slots) textsWith[slot]!++;
  }
  for (let slot = 0; slot < WEIGHT_SLOTS; slot++) weights[slot] = Math.log(1 + texts.length / (1 + textsWith[slot]!));
  return weights;
}

/** A vector of length 1, or of zeros when the text has no words. */
export function embed(text: string, weights: Float32Array): Float32Array {
  const vector = new Float32Array(DIMENSIONS);
  for (const [gram, weight] of heaviest(gramsOf(text, weights), GRAMS_MAX)) {
    for (let nth = 1; nth <= HASHES_PER_GRAM; nth++) {
      const hash = hashOf(gram, Math.imul(nth, 0x9e3779b9));
      vector[hash % DIMENSIONS]! += hash & 0x80000000 ? weight : -weight;
    }
  }
  return normalise(vector);
}

function gramsOf(text: string, weights: Float32Array): [string, number][] {
  const counts = new Map<string, { count: number; weight: number }>();
  const add = (gram: string, weight: number): void => {
    const known = counts.get(gram);
    if (known === undefined) counts.set(gram, { count: 1, weight });
    else known.count++;
  };
  let before: { word: string; weight: number } | undefined;
  for (const word of wordsOf(text)) {
    const weight = weights[hashOf(word) % WEIGHT_SLOTS]!;
    add(word, weight);
    if (before !== undefined) add(`${before.word} ${word}`, Math.min(before.weight, weight) * PAIR_WEIGHT);
    before = { word, weight };
  }
  return [...counts].map(([gram, { count, weight }]) => [gram, (1 + Math.log(count)) * weight]);
}

function heaviest(grams: [string, number][], count: number): [string, number][] {
  return grams.length <= count ? grams : grams.sort(([, a], [, b]) => b - a).slice(0, count);
}

function normalise(vector: Float32Array): Float32Array {
  const length = Math.sqrt(similarity(vector, vector));
  if (length > 0) for (let at = 0; at < vector.length; at++) vector[at]! /= length;
  return vector;
}

/** The dot product: for vectors of length 1, the cosine of the angle between them. */
export function similarity(a: Float32Array, b: Float32Array, bStart = 0): number {
  let sum = 0;
  for (let at = 0; at < a.length; at++) sum += a[at]! * b[bStart + at]!;
  return sum;
}
