/** What is to happen when a group is durable, gathered until that group is sealed and then until its commit. */

/** Somebody who waits for a result. */
export interface ResultWait {
  complete(index: number, value: unknown): void;
  abandon(error: unknown): void;
}

export class Gathering {
  /** Jobs that can be claimed then: slot and number in turn. */
  readonly held: number[] = [];
  /**
   * What is told, in order, three places each: a function, what is done instead when it can't be told, nothing; or a wait, its index and
   * the value. Results are most of it, and a closure or two for each of them would be a tenth of what durability costs.
   */
  readonly #told: unknown[] = [];
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

  after(told: () => void, never: ((error: Error) => void) | undefined): void {
    this.#told.push(told, never, undefined);
  }

  result(wait: ResultWait, index: number, value: unknown): void {
    this.#told.push(wait, index, value);
  }

  /** One that throws must not keep the others from being told. */
  done(report: (error: unknown) => void): void {
    const told = this.#told;
    for (let i = 0; i < told.length; i += 3) {
      const one = told[i] as ResultWait | (() => void);
      try {
        if (typeof one === 'function') one();
        else one.complete(told[i + 1] as number, told[i + 2]);
      } catch (error) {
        report(error);
      }
    }
    this.#resolve?.();
  }

  fail(error: Error): void {
    const told = this.#told;
    for (let i = 0; i < told.length; i += 3) {
      const one = told[i] as ResultWait | (() => void);
      if (typeof one !== 'function') one.abandon(error);
      else (told[i + 1] as ((error: Error) => void) | undefined)?.(error);
    }
    this.#reject?.(error);
  }
}
