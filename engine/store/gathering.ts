/** What is to happen when a group is durable, gathered until that group is sealed and then until its commit. */

export class Gathering {
  /** Jobs that can be claimed then: slot and number in turn. */
  readonly held: number[] = [];
  readonly after: (() => void)[] = [];
  /** What is done instead of what is at the same place of `after`. */
  readonly never: ((error: Error) => void)[] = [];
  number = 0;
  promise: Promise<void> | undefined;
  #resolve: (() => void) | undefined;
  #reject: ((error: Error) => void) | undefined;

  wait(): Promise<void> {
    if (this.promise === undefined) {
      this.promise = new Promise((resolve, reject) => {
        this.#resolve = resolve;
        this.#reject = reject;
      });
      this.promise.catch(() => {}); // whoever waits for it hears of it
    }
    return this.promise;
  }

  /** One that throws must not keep the others from being told. */
  done(report: (error: unknown) => void): void {
    for (let i = 0; i < this.after.length; i++) {
      try {
        (this.after[i] as () => void)();
      } catch (error) {
        report(error);
      }
    }
    this.#resolve?.();
  }

  fail(error: Error): void {
    for (const tell of this.never) tell(error);
    this.#reject?.(error);
  }
}
