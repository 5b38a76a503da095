import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DIMENSIONS,
  embed,
  hashOf,
  learnWeights,
  similarity,
  WEIGHT_SLOTS,
  wordsOf,
} from '../../../examples/demo/embedding.js';

const texts = [
  'The lock-free heap hands out the job of the highest priority',
  'A job that fails is retried with exponential backoff',
  'The bread is baked with flour, water and salt',
  'The soup needs salt, water and a carrot',
];
const weights = learnWeights(texts);
const lengthOf = (vector: Float32Array): number => Math.sqrt(similarity(vector, vector));

describe('wordsOf', () => {
  test('takes identifiers apart, lowers case and drops the plural', () => {
    expect(wordsOf('readFileSync(HTTPServers, max_jobs2)')).toEqual([
      'read',
      'file',
      'sync',
      'http',
      'server',
      'max',
      'job',
    ]);
  });

  test('reads other scripts', () => {
    expect(wordsOf('Größe café Привет 東京')).toEqual(['größe', 'café', 'привет', '東京']);
  });

  test('leaves out encoded data', () => {
    expect(wordsOf('x'.repeat(33))).toEqual([]);
  });
});

describe('embed', () => {
  test('gives a vector of length 1 for any text with a word, of zeros for any other', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (text) => {
        const vector = embed(text, weights);
        expect(vector).toHaveLength(DIMENSIONS);
        const length = lengthOf(vector);
        // Two grams of one weight may take each other's place with opposite signs, so a text of few words may end at zero.
        if (wordsOf(text).length === 0) expect(length).toBe(0);
        else expect(length === 0 || Math.abs(length - 1) < 1e-5).toBe(true);
      }),
    );
  });

  test('is a function of its arguments', () => {
    expect(embed(texts[0]!, weights)).toEqual(embed(texts[0]!, weights));
  });

  test('finds the text that shares the rare words of a query', () => {
    const nearestTo = (query: string): string => {
      const vector = embed(query, weights);
      return texts.toSorted(
        (a, b) => similarity(vector, embed(b, weights)) - similarity(vector, embed(a, weights)),
      )[0]!;
    };
    expect(nearestTo('retry a failed job with backoff')).toBe(texts[1]);
    expect(nearestTo('how is bread baked?')).toBe(texts[2]);
    expect(nearestTo('priority heap')).toBe(texts[0]);
  });

  test('does not care about the order of paragraphs as much as about their words', () => {
    const turned = embed('water and salt, baked with flour: the bread', weights);
    expect(similarity(turned, embed(texts[2]!, weights))).toBeGreaterThan(0.5);
    expect(similarity(turned, embed(texts[0]!, weights))).toBeLessThan(0.3);
  });
});

describe('learnWeights', () => {
  test('a rare word weighs more than a common one, an unknown one most', () => {
    const weightOf = (word: string): number => weights[hashOf(word) % WEIGHT_SLOTS]!;
    expect(weightOf('the')).toBeLessThan(weightOf('salt'));
    expect(weightOf('salt')).toBeLessThan(weightOf('carrot'));
    expect(weightOf('carrot')).toBeLessThan(weightOf('zeppelin'));
    expect(weightOf('zeppelin')).toBeCloseTo(Math.log(1 + texts.length));
  });
});
