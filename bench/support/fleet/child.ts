/** A process of a bench with commands: forked by one end, served by the other; it ends when its bench does. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

/** Every command takes and gives what survives JSON. */
export type Commands<T> = { readonly [K in keyof T]: (...args: never[]) => unknown };

interface Call {
  readonly id: number;
  readonly command: string;
  readonly args: readonly unknown[];
}

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

export class Child<T extends Commands<T>> {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  #id = 0;

  private constructor(child: ChildProcess, pid: number) {
    this.#child = child;
    this.pid = pid;
    child.on('message', ({ id, result, error }: Reply) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(error));
    });
    child.once('exit', (code, signal) => {
      for (const { reject } of this.#waiting.values())
        reject(new Error(`a process of the bench ended: ${code ?? signal}`));
    });
  }

  /** `file` is a module beside this one that calls `serve`. */
  static async start<T extends Commands<T>>(file: string): Promise<Child<T>> {
    const child = fork(join(import.meta.dirname, file), {
      // `tsx` is found from the project, wherever the bench was started.
      cwd: join(import.meta.dirname, '../../..'),
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    await once(child, 'spawn');
    return new Child<T>(child, child.pid ?? 0);
  }

  async ask<C extends keyof T & string>(
    command: C,
    ...args: Parameters<T[C]>
  ): Promise<Awaited<ReturnType<T[C]>>> {
    this.#id += 1;
    const id = this.#id;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    this.#child.send({ id, command, args } satisfies Call);
    return (await answer) as Awaited<ReturnType<T[C]>>;
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}

/** Called by the child: obeys until the bench is gone. */
export function serve<T extends Commands<T>>(commands: T): void {
  process.on('message', ({ id, command, args }: Call) => {
    void (async () => {
      try {
        const run = commands[command as keyof T] as unknown as (...args: readonly unknown[]) => unknown;
        process.send?.({ id, result: await run(...args) } satisfies Reply);
      } catch (error) {
        process.send?.({ id, error: error instanceof Error ? error.message : String(error) } satisfies Reply);
      }
    })();
  });
  process.on('disconnect', () => {
    process.exit(0);
  });
}
