/** Keeps the process alive while something is under way: a parked wait and the core's timers do not. */
export class KeepAlive {
  #holds = 0;
  #timer: NodeJS.Timeout | undefined;

  acquire(): void {
    if (this.#holds++ !== 0) return;
    this.#timer ??= setInterval(() => {}, 0x7fffffff);
    this.#timer.ref();
  }

  release(): void {
    if (--this.#holds === 0) this.#timer?.unref();
  }

  /** Until the promise settles. */
  hold(promise: Promise<unknown>): void {
    this.acquire();
    const release = () => this.release();
    promise.then(release, release);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
