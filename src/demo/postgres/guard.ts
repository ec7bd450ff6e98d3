/**
 * Ends processes and removes a folder when this program dies, however it dies.
 *
 * A small shell holds the other end of a pipe. The kernel closes our end even after SIGKILL; the shell then stops
 * what it was told to watch and removes the folder. It runs in a session of its own, so Ctrl-C does not reach it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { PossyncError } from '../../core/errors.ts';
import type { Identity } from './identity.ts';

/**
 * `$1` is the folder (or empty). One line per command: `+PID` watch, `-PID` forget.
 *
 * SIGINT is PostgreSQL's fast shutdown; who is still there after five seconds is killed. A dead child of a container
 * whose first process reaps nobody stays visible to `kill -0`: that costs those five seconds, no more. The removal is
 * tried again while a dying server still writes into the folder.
 */
const SCRIPT = `
trap '' INT TERM HUP
pids=' '
while read -r line <&3; do
  pid=\${line#?}
  case $line in
    +*) pids="$pids$pid " ;;
    -*) case $pids in *" $pid "*) pids="\${pids%%" $pid "*} \${pids#*" $pid "}" ;; esac ;;
  esac
done
for pid in $pids; do kill -INT "$pid" 2>/dev/null; done
for pid in $pids; do
  tries=0
  while kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -KILL "$pid" 2>/dev/null
done
[ -n "$1" ] || exit 0
tries=0
while ! rm -rf "$1" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
`;

export interface Guard {
  readonly watch: (pid: number) => void;
  readonly forget: (pid: number) => void;
  /** Lets it do its work now and waits until it is done. */
  close(): Promise<void>;
}

export async function startGuard(folder: string | undefined, spawnAs: Identity['spawnAs']): Promise<Guard> {
  const shell = spawn('/bin/sh', ['-c', SCRIPT, 'possync-guard', folder ?? ''], {
    ...spawnAs,
    cwd: '/',
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  });
  const pipe = shell.stdio[3] as Socket; // 'pipe' above makes it one
  pipe.on('error', () => undefined); // a guard that somebody killed must not take this program down
  await started(shell);
  // Neither keeps this program alive: it may end without a word, that is what the guard is for.
  shell.unref();
  pipe.unref();
  const ended = once(shell, 'exit');
  return {
    watch: (pid) => {
      pipe.write(`+${pid}\n`);
    },
    forget: (pid) => {
      pipe.write(`-${pid}\n`);
    },
    async close() {
      shell.ref();
      pipe.end();
      await ended;
    },
  };
}

async function started(shell: ChildProcess): Promise<void> {
  try {
    await once(shell, 'spawn');
  } catch (error) {
    throw new PossyncError('PS-NO-POSTGRES', 'PostgreSQL cannot be started from here', {
      why: 'no /bin/sh, or root in this container may not become another user',
      hint: 'run as a normal user, or use a PostgreSQL server that runs already',
      cause: error,
    });
  }
}
