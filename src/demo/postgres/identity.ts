/** Who PostgreSQL runs as: it refuses root, so under root everything of it runs as the unprivileged `nobody`. */
import { spawn } from 'node:child_process';

export interface Identity {
  /** Empty for a normal user; uid and gid of `nobody` under root. */
  readonly spawnAs: { readonly uid?: number; readonly gid?: number };
  readonly isRoot: boolean;
}

/** `nobody` and `nogroup` are in every base image, so no user has to be made on the machine. */
const NOBODY = 65534;

export function postgresIdentity(): Identity {
  const isRoot = process.getuid?.() === 0;
  return isRoot ? { isRoot, spawnAs: { uid: NOBODY, gid: NOBODY } } : { isRoot, spawnAs: {} };
}

export interface RunOptions {
  readonly spawnAs: Identity['spawnAs'];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Called at once with the process id, so that a guard can watch it. */
  readonly onSpawn?: (pid: number) => void;
}

export interface RunResult {
  /** 0 = it worked; -1 = it could not be started or was killed. */
  readonly status: number;
  readonly output: string;
}

/** Runs a program to its end; never throws: what went wrong is in the output. */
export async function run(
  file: string,
  args: readonly string[],
  { spawnAs, cwd, env, onSpawn }: RunOptions,
): Promise<RunResult> {
  return new Promise((resolve) => {
    let output = '';
    // Detached: Ctrl-C in a terminal reaches our process only, which then stops things in its own order.
    const child = spawn(file, args, {
      ...spawnAs,
      cwd,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const collect = (chunk: Buffer): void => {
      output += chunk.toString('utf8');
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.once('error', (error) => {
      resolve({ status: -1, output: error.message });
    });
    child.once('close', (code, signal) => {
      resolve({ status: code ?? -1, output: signal === null ? output : `${output}killed by ${signal}` });
    });
    if (child.pid !== undefined) onSpawn?.(child.pid);
  });
}

/** Whether that user can open the path: root's own home is closed to `nobody`, for instance. */
export async function canReach(path: string, spawnAs: Identity['spawnAs']): Promise<boolean> {
  const test = '[ -r "$0" ] && [ -x "$0" ]';
  const { status } = await run('/bin/sh', ['-c', test, path], { spawnAs, cwd: '/', env: process.env });
  return status === 0;
}
