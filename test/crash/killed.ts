/** Runs programs on one data directory and kills them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Fact } from './history.js';

/** mulberry32 */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function seedOfTest(): number {
  return process.env.FLASHQ_SEED === undefined ? Date.now() % 1_000_000 : Number(process.env.FLASHQ_SEED);
}

export interface Ended {
  /** Exit code, or signal. */
  readonly how: number | string | null;
  readonly errors: string;
  /** When it was killed by us. */
  readonly killedAt: number | undefined;
}

export class Place {
  readonly path = mkdtempSync(join(tmpdir(), 'flashq-crash-'));
  readonly dataDir = join(this.path, 'data');
  readonly #told = join(this.path, 'told');
  #read = 0;

  constructor() {
    writeFileSync(this.#told, '');
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  /** A program of `programs/`. */
  start(program: string, args: readonly string[]): Program {
    const file = fileURLToPath(new URL(`./programs/${program}`, import.meta.url));
    return new Program(
      spawn(process.execPath, [file, this.dataDir, ...args], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, NODE_OPTIONS: '', FLASHQ_TOLD: this.#told },
      }),
    );
  }

  /** Resolves when that many bytes more have been said. */
  async said(bytes: number, { ended }: Program): Promise<void> {
    let isOver = false;
    void ended.then(() => {
      isOver = true;
    });
    const end = statSync(this.#told).size + bytes;
    while (!isOver && statSync(this.#told).size < end) await sleep(Math.random());
  }

  /** What was said since the last call. A line that a kill cut off says nothing. */
  facts(): Fact[] {
    const bytes = readFileSync(this.#told);
    const text = bytes.toString('utf8', this.#read);
    this.#read = bytes.length;
    const facts: Fact[] = [];
    for (const line of text.split('\n')) {
      try {
        if (line !== '') facts.push(JSON.parse(line));
      } catch {}
    }
    return facts;
  }
}

export class Program {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  #killedAt: number | undefined;
  #errors = '';
  #output = '';
  #wake: (() => void)[] = [];

  constructor(child: ChildProcess) {
    this.child = child;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
      for (const wake of this.#wake.splice(0)) wake();
    });
    this.ended = new Promise((resolve) => {
      child.once('close', (code, signal) => {
        resolve({ how: signal ?? code, errors: this.#errors, killedAt: this.#killedAt });
        for (const wake of this.#wake.splice(0)) wake();
      });
    });
  }

  /** Resolves when it has printed that, or has ended. */
  async printed(text: string): Promise<void> {
    while (!this.#output.includes(text) && this.child.exitCode === null && this.child.signalCode === null)
      await new Promise<void>((resolve) => this.#wake.push(resolve));
  }

  kill(): void {
    this.#killedAt = Date.now();
    this.child.kill('SIGKILL');
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
