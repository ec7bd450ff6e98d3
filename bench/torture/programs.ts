/** The programs of possync in a run, started again whenever they end, as systemd would. */
import { setTimeout as pause } from 'node:timers/promises';
import { startPossync, type Ended, type TestProcess } from '../../test/support/process.ts';

/** Ends that a program may choose by itself while its database or the network is broken. */
const EXPECTED_EXITS = new Set([0, 69, 73, 75]);

/** What a program says on a pipe once it hears signals. */
const READY = '"event":"ready"';

export class Program {
  readonly name: string;
  readonly #args: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  readonly #cwd: string;
  readonly #fault: (what: string) => void;
  #process: TestProcess | undefined;
  #wanted = false;
  #loop: Promise<void> | undefined;
  /** Two faults may mean the same program: its starts and ends take turns. */
  #turn: Promise<void> = Promise.resolve();
  /** How often it ended by itself and was started again. */
  restarts = 0;

  constructor(
    name: string,
    args: readonly string[],
    env: Readonly<Record<string, string>>,
    cwd: string,
    fault: (what: string) => void,
  ) {
    this.name = name;
    this.#args = args;
    this.#env = env;
    this.#cwd = cwd;
    this.#fault = fault;
  }

  get pid(): number | undefined {
    return this.#process?.running === true ? this.#process.pid : undefined;
  }

  get args(): readonly string[] {
    return this.#args;
  }

  get env(): Readonly<Record<string, string>> {
    return this.#env;
  }

  async start(): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#wanted) return;
      this.#wanted = true;
      await this.#spawn();
      this.#loop = this.#supervise();
    });
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => undefined);
    await mine;
  }

  #isWanted(): boolean {
    return this.#wanted;
  }

  async #spawn(): Promise<void> {
    this.#process = await startPossync(this.#args, { env: this.#env, cwd: this.#cwd });
  }

  async #supervise(): Promise<void> {
    while (this.#wanted) {
      const process = this.#process;
      if (process?.running === true) {
        await pause(50);
        continue;
      }
      const end = await process?.ended();
      if (!this.#isWanted()) return;
      this.restarts += 1;
      // Another program of this machine may have taken its port while it was down.
      const taken = end?.stderr.includes('PS-LISTEN') === true;
      const known = taken || end?.code === null || (end !== undefined && EXPECTED_EXITS.has(end.code));
      if (!known)
        this.#fault(`${this.name} ended with ${end?.code ?? 'nothing'}: ${end?.stderr.trim() ?? ''}`);
      await pause(500);
      await this.#spawn();
    }
  }

  /** SIGKILL; stays down until `start`. */
  async kill(): Promise<void> {
    await this.#inTurn(async () => {
      this.#wanted = false;
      await this.#process?.kill();
      await this.#loop;
    });
  }

  /** SIGTERM: it must end by itself, with 0. */
  async stop(): Promise<void> {
    if (!this.#wanted) return;
    let end: Ended | undefined;
    await this.#inTurn(async () => {
      this.#wanted = false;
      this.signal('SIGCONT');
      end = await this.#process?.stop();
      await this.#loop;
    });
    // Before it is ready, which a loaded machine may take long for, it hears no signal yet.
    const starting = end?.signal === 'SIGTERM' && !`${end.stdout}${end.stderr}`.includes(READY);
    if (end !== undefined && end.code !== 0 && !starting)
      this.#fault(
        `${this.name} did not stop cleanly: ${end.code ?? end.signal ?? ''}: ${lastLines(end.stderr)}`,
      );
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    const { pid } = this;
    if (pid !== undefined) process.kill(pid, signal);
  }

  get output(): string {
    return `${this.#process?.stdout ?? ''}${this.#process?.stderr ?? ''}`;
  }
}

export function lastLines(text: string): string {
  return text.trim().split('\n').slice(-4).join(' | ');
}
