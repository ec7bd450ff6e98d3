/** A fleet of simulated stores in one process beside HQ, as a bench holds it. */
import { execFileSync, fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { readHqId } from '../../../src/hq/identity.ts';
import type { BenchHq } from '../chain.ts';
import type { Command, CommandArgs, CommandResult } from './commands.ts';
import { enrolFleet } from './identity.ts';

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** A socket and a connection for requests each, and what a process has open anyway. */
const FILES_PER_STORE = 2;
const FILES_BESIDE = 200;

export class Fleet {
  readonly pid: number;
  readonly stores: number;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  #id = 0;

  private constructor(child: ChildProcess, pid: number, stores: number) {
    this.#child = child;
    this.pid = pid;
    this.stores = stores;
    child.on('message', ({ id, result, error }: Reply) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(`fleet: ${error}`));
    });
    child.once('exit', (code, signal) => {
      for (const { reject } of this.#waiting.values())
        reject(new Error(`the fleet ended: ${code ?? signal}`));
    });
  }

  /** Enrols so many stores with an HQ that does not serve yet, starts it and the process that plays them. */
  static async open(hq: BenchHq, stores: number): Promise<Fleet> {
    const needed = stores * FILES_PER_STORE + FILES_BESIDE;
    if (openFilesLimit() < needed)
      throw new Error(
        `${stores} stores need ${needed} open files in one process; ulimit -n says ${openFilesLimit()}`,
      );
    const identities = await enrolFleet(hq.pool, stores);
    await hq.start();
    const child = fork(join(import.meta.dirname, 'process.ts'), {
      // `tsx` is found from the project, wherever the bench was started.
      cwd: join(import.meta.dirname, '../../..'),
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    await once(child, 'spawn');
    const fleet = new Fleet(child, child.pid ?? 0, stores);
    await fleet.ask('open', { hq: { url: hq.address, id: await readHqId(hq.pool) }, stores: identities });
    return fleet;
  }

  async ask<C extends Command>(command: C, ...args: CommandArgs<C>): Promise<CommandResult<C>> {
    this.#id += 1;
    const id = this.#id;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    this.#child.send({ id, command, args });
    return (await answer) as CommandResult<C>;
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}

/** Of processes that this one starts: Node raises its own soft limit to the hard one, as its children do. */
export function openFilesLimit(): number {
  const text = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim();
  return text === 'unlimited' ? Infinity : Number(text);
}
