/** One PostgreSQL data folder and the server on it: make it, start it, crash it, start it again. */
import { randomBytes } from 'node:crypto';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { chown, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import type { Binaries } from './binaries.ts';
import type { Guard } from './guard.ts';
import { run, type Identity } from './identity.ts';
import { choosePort } from './port.ts';

export interface ClusterOptions {
  readonly binaries: Binaries;
  readonly identity: Identity;
  readonly workspace: string;
  readonly guard: Guard;
  /** False only for tests: a power cut of the machine may then lose everything (a crash of PostgreSQL does not). */
  readonly durable: boolean;
  readonly maxConnections: number;
  readonly settings: Readonly<Record<string, string>>;
}

export const SUPERUSER = 'possync';

/** How often a start is looked at, and how long it may take: recovery after a crash included. */
const LOOK_EVERY_MS = 10;
const START_TIMEOUT_MS = 60_000;
/** A fast shutdown writes a checkpoint; what takes longer than this hangs. */
const STOP_TIMEOUT_MS = 20_000;
const START_ATTEMPTS = 20;

export class Cluster {
  readonly dataDir: string;
  /** Empty where no password is asked for. */
  readonly password: string;
  readonly #options: ClusterOptions;
  readonly #logFile: string;
  #server: ChildProcess | undefined;
  #port: number | undefined;

  private constructor(options: ClusterOptions, password: string) {
    this.#options = options;
    this.password = password;
    this.dataDir = join(options.workspace, 'data');
    this.#logFile = join(options.workspace, 'postgres.log');
  }

  /**
   * Makes the data folder. A durable cluster asks for a password: it may run for hours on a machine with other users,
   * and whoever gets in as superuser can run programs. Tests do without, every connection would pay for it.
   */
  static async create(options: ClusterOptions): Promise<Cluster> {
    const { binaries, identity, workspace, guard, durable } = options;
    const password = durable ? randomBytes(18).toString('hex') : '';
    const cluster = new Cluster(options, password);
    const passwordFile = join(workspace, 'password');
    if (durable) await writeFile(passwordFile, password, { mode: 0o600 });
    const { uid, gid } = identity.spawnAs;
    if (durable && uid !== undefined && gid !== undefined) await chown(passwordFile, uid, gid);
    const auth = durable ? ['-A', 'password', `--pwfile=${passwordFile}`] : ['-A', 'trust'];
    let initdbPid: number | undefined;
    const { status, output } = await run(
      join(binaries.binDir, 'initdb'),
      ['-D', cluster.dataDir, '-U', SUPERUSER, ...auth, '-E', 'UTF8', '--locale=C', '--no-sync'],
      {
        spawnAs: identity.spawnAs,
        cwd: workspace,
        env: binaries.env,
        onSpawn: (pid) => {
          initdbPid = pid;
          guard.watch(pid);
        },
      },
    );
    if (initdbPid !== undefined) guard.forget(initdbPid);
    if (status !== 0) throw initdbFailed(output);
    return cluster;
  }

  get port(): number {
    if (this.#port === undefined) throw new Error('PostgreSQL was not started yet');
    return this.#port;
  }

  /**
   * Starts the server: on a free port the first time, later on the same one.
   *
   * Two things pass by themselves and are tried again: the port was taken between looking and binding, and processes
   * of a killed server that still hold its shared memory.
   */
  async start(): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      const port = this.#port ?? (await choosePort());
      const result = await this.#tryStart(port);
      if (result === 'ready') {
        this.#port = port;
        return;
      }
      const passes = /could not bind|could not create any TCP|pre-existing shared memory|lock file/.test(
        result,
      );
      if (!passes || attempt === START_ATTEMPTS) {
        throw new PossyncError('PS-NO-POSTGRES', 'PostgreSQL did not start', {
          why: result.trim().split('\n').slice(-5).join('; '),
          hint: 'read the message of PostgreSQL above',
        });
      }
      await systemClock.sleep(100);
    }
  }

  async #tryStart(port: number): Promise<string> {
    const { binaries, identity, workspace, guard } = this.#options;
    const logStart = await stat(this.#logFile).then(
      (file) => file.size,
      () => 0, // there is none before the first start
    );
    // A file and not a pipe: a pipe that we are too busy to read would stop the server.
    const log = openSync(this.#logFile, 'a', 0o600);
    const server = spawn(join(binaries.binDir, 'postgres'), this.#arguments(port), {
      ...identity.spawnAs,
      cwd: workspace,
      env: binaries.env,
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    if (server.pid === undefined) {
      const [error] = (await once(server, 'error')) as [Error];
      return error.message;
    }
    const { pid } = server;
    guard.watch(pid);
    server.once('exit', () => {
      guard.forget(pid);
    });
    server.unref();
    const waitUntil = performance.now() + START_TIMEOUT_MS;
    while (!hasEnded(server) && !(await this.#isReady(pid))) {
      if (performance.now() > waitUntil) server.kill('SIGKILL');
      await systemClock.sleep(LOOK_EVERY_MS);
    }
    if (hasEnded(server)) return (await readFile(this.#logFile)).subarray(logStart).toString('utf8');
    this.#server = server;
    return 'ready';
  }

  #arguments(port: number): string[] {
    const { durable, maxConnections, settings, workspace } = this.#options;
    const all: Record<string, string> = {
      listen_addresses: '127.0.0.1',
      port: String(port),
      unix_socket_directories: workspace,
      max_connections: String(maxConnections),
      // synchronous_commit stays on even here: off, a killed server loses commits that possync has relied on.
      ...(durable ? {} : { fsync: 'off', full_page_writes: 'off' }),
      ...settings,
    };
    return [
      '-D',
      this.dataDir,
      ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ];
  }

  /** What pg_ctl looks at: the server writes its process id first and its state into the eighth line. */
  async #isReady(pid: number): Promise<boolean> {
    const text = await readFile(join(this.dataDir, 'postmaster.pid'), 'utf8').catch(() => '');
    const lines = text.split('\n');
    return lines[0] === String(pid) && lines[7]?.trim() === 'ready';
  }

  /** Ends the server like a power cut does: nothing is written any more. It can be started again. */
  async kill(signal: 'SIGKILL' | 'SIGQUIT'): Promise<void> {
    const server = this.#server;
    if (server === undefined || hasEnded(server)) return;
    server.ref();
    const ended = once(server, 'exit');
    const backends = signal === 'SIGKILL' ? await childrenOf(server.pid) : [];
    server.kill(signal);
    // A killed postmaster leaves its backends at work for a moment; in a power cut they stop as well.
    for (const pid of backends) killQuietly(pid);
    await ended;
  }

  /** Fast shutdown: open transactions are rolled back, everything committed is on disk. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined || hasEnded(server)) return;
    server.ref();
    const ended = once(server, 'exit');
    const cancel = systemClock.after(STOP_TIMEOUT_MS, () => server.kill('SIGQUIT'));
    server.kill('SIGINT');
    await ended;
    cancel();
  }

  async log(): Promise<string> {
    return readFile(this.#logFile, 'utf8');
  }
}

function hasEnded(server: ChildProcess): boolean {
  return server.exitCode !== null || server.signalCode !== null;
}

/** The processes that a postmaster has started; empty where the system does not tell (they then end by themselves). */
async function childrenOf(pid: number | undefined): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').filter(Boolean).map(Number);
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself in between.
  }
}

function initdbFailed(output: string): PossyncError {
  const noName = output.includes('could not look up effective user ID');
  return new PossyncError('PS-NO-POSTGRES', 'PostgreSQL could not make its data folder', {
    why: output.trim().split('\n').slice(-3).join('; '),
    ...(noName
      ? {
          hint: 'this user id has no name on this machine: run as one that has, or (tests only) set POSSYNC_TEST_PG_URL to a running server',
        }
      : { hint: 'read the message of PostgreSQL above' }),
  });
}
