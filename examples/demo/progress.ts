/** A live bar in a terminal, a line every tenth where the output goes to a file, nothing when it is read by a program. */
import { Presets, SingleBar } from 'cli-progress';

export interface Progress {
  start(total: number): void;
  update(done: number): void;
  stop(): void;
}

export const SILENT: Progress = { start() {}, update() {}, stop() {} };

export function barOn(stream: NodeJS.WriteStream): Progress {
  let startedMs = 0;
  const bar = new SingleBar(
    {
      format: 'embedding {bar} {percentage}%  {value} of {total}  {rate} jobs/s  {left} s left',
      stream,
      hideCursor: true,
      stopOnComplete: false,
    },
    Presets.shades_classic,
  );
  return {
    start(total) {
      startedMs = performance.now();
      bar.start(total, 0, { rate: 0, left: '-' });
    },
    update(done) {
      const perSecond = (done * 1000) / (performance.now() - startedMs);
      const left = perSecond > 0 ? ((bar.getTotal() - done) / perSecond).toFixed(0) : '-';
      bar.update(done, { rate: Math.round(perSecond).toLocaleString('en-US'), left });
    },
    stop: () => bar.stop(),
  };
}

export function linesOn(stream: NodeJS.WritableStream): Progress {
  let total = 0;
  let told = 0;
  let startedMs = 0;
  return {
    start(count) {
      total = count;
      startedMs = performance.now();
      stream.write(`embedding ${count.toLocaleString('en-US')} documents\n`);
    },
    update(done) {
      const tenths = Math.floor((done * 10) / total);
      if (tenths <= told) return;
      told = tenths;
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
      stream.write(`  ${String(tenths * 10).padStart(3)}%  ${done.toLocaleString('en-US')} after ${seconds} s\n`);
    },
    stop() {},
  };
}
