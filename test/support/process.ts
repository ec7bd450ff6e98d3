/** Other programs under test, above all the built `possync`: start, read, wait for a line, kill; none survives the run. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { startGuard, type Guard } from '../../src/demo/postgres/guard.ts';
import { until } from './until.ts';

export const POSSYNC = resolve(import.meta.dirname, '../../bin/possync.js');
const SETUP = resolve(import.meta.dirname, '../../bin/setup.js');

export interface ProcessOptions {
  /** Added to a clean environment: nothing of the caller's PG…, SYNC_… and POSSYNC_… variables gets through. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Run as another user (needs root). */
  readonly uid?: number;
  /** Written to its standard input, which is then closed. */
  readonly input?: string;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TestProcess {
  readonly pid: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly running: boolean;
  /** The first line of either stream, whole, that matches; looks at what was already written as well. */
  line(pattern: RegExp, timeoutMs?: number): Promise<string>;
  /** Sends a signal (SIGTERM unless told) and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<Ended>;
  /** SIGKILL: no chance to tidy up. */
  kill(): Promise<Ended>;
  /** Waits until it ends by itself. */
  ended(timeoutMs?: number): Promise<Ended>;
}

const running = new Set<RunningProcess>();
let guard: Promise<Guard> | undefined;
let built: Promise<void> | undefined;

/** A test that runs yesterday's dist proves nothing; when nothing has changed this takes less than a tenth of a second. */
async function buildOnce(): Promise<void> {
  const setup = await startNode([SETUP]);
  const { code, stderr } = await setup.ended(300_000);
  if (code !== 0) throw new Error(`dist could not be built:\n${stderr}`);
}

/** `possync` from dist, as people run it. */
export async function startPossync(args: readonly string[], options?: ProcessOptions): Promise<TestProcess> {
  built ??= buildOnce();
  await built;
  return startNode([POSSYNC, ...args], options);
}

/** Runs `possync` to its end. */
export async function runPossync(args: readonly string[], options?: ProcessOptions): Promise<Ended> {
  const child = await startPossync(args, options);
  return child.ended();
}

/** Node with these arguments, e.g. `['--import', 'tsx', file]`. */
export async function startNode(args: readonly string[], options: ProcessOptions = {}): Promise<TestProcess> {
  return startProgram(process.execPath, args, options);
}

export async function startProgram(
  file: string,
  args: readonly string[],
  { env, cwd, uid, input }: ProcessOptions = {},
): Promise<TestProcess> {
  guard ??= startGuard(undefined, {}); // ends them even if this run is killed
  const { watch, forget } = await guard;
  const child = spawn(file, args, {
    env: { ...cleanEnvironment(), ...env },
    ...(cwd === undefined ? {} : { cwd }),
    ...(uid === undefined ? {} : { uid, gid: uid }),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  await once(child, 'spawn');
  const { pid } = child;
  if (pid === undefined) throw new Error('a started process has an id');
  watch(pid);
  const started = new RunningProcess(child, pid, [file, ...args].join(' '));
  running.add(started);
  child.once('close', () => {
    forget(pid);
    running.delete(started);
  });
  child.stdin.on('error', () => undefined); // it may end without having read everything
  child.stdin.end(input);
  return started;
}

function cleanEnvironment(): NodeJS.ProcessEnv {
  const foreign = /^(PG|SYNC_|POSSYNC_|DATABASE_URL$|LOG_DIR$|STATE_DIRECTORY$|NODE_OPTIONS$|FORCE_COLOR$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)));
}

class RunningProcess implements TestProcess {
  readonly pid: number;
  stdout = '';
  stderr = '';
  readonly #child: ChildProcess;
  readonly #command: string;
  #end: Ended | undefined;

  constructor(child: ChildProcess, pid: number, command: string) {
    this.#child = child;
    this.#command = command;
    this.pid = pid;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    child.once('close', (code, signal) => {
      this.#end = { code, signal, stdout: this.stdout, stderr: this.stderr };
    });
  }

  get running(): boolean {
    return this.#end === undefined;
  }

  async line(pattern: RegExp, timeoutMs = 15_000): Promise<string> {
    const look = (): string | undefined =>
      [...wholeLines(this.stdout), ...wholeLines(this.stderr)].find((line) => pattern.test(line));
    return this.#orShow(
      until(
        () => {
          const found = look();
          // An early end is an answer too: waiting out the time would only hide it.
          return found ?? (this.running ? undefined : { over: true as const });
        },
        { what: `${this.#command} wrote ${pattern}`, timeoutMs },
      ).then((answer) => {
        if (typeof answer === 'string') return answer;
        throw new Error(`${this.#command} ended before it wrote ${pattern}`);
      }),
    );
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.#child.kill(signal);
    return this.ended();
  }

  async kill(): Promise<Ended> {
    return this.stop('SIGKILL');
  }

  async ended(timeoutMs = 30_000): Promise<Ended> {
    return this.#orShow(until(() => this.#end, { what: `${this.#command} ended`, timeoutMs }));
  }

  /** A failure without what the program said would be a riddle. */
  async #orShow<T>(result: Promise<T>): Promise<T> {
    try {
      return await result;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`${message}\n--- stdout\n${this.stdout}\n--- stderr\n${this.stderr}`, { cause: error });
    }
  }
}

/** What follows the last line feed may be half a line. */
function wholeLines(text: string): string[] {
  return text.split('\n').slice(0, -1);
}

/** Called at the end of the run. */
export async function endProcesses(): Promise<void> {
  await Promise.all([...running].map((child) => child.kill()));
  await (await guard)?.close();
}
