/** What the kernel knows of processes: CPU time of whole trees and peak memory, read from /proc. */
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import os from 'node:os';

const TICK_MS = 1_000 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/**
 * CPU time in ms of a process and its living children; of children that ended as well, once their parent has waited
 * for them. Of a postmaster that is the whole server: its backends, its workers, its WAL senders.
 */
export function cpuMs(pid: number): number {
  const own = statOf(pid);
  if (own === undefined) return 0;
  return childrenOf(pid).reduce((sum, child) => sum + cpuMs(child), own.ticks * TICK_MS);
}

/** Most memory a process ever held, in MB; of a server its shared memory is counted with each backend, so ask of Node only. */
export function peakRssMb(pid: number): number {
  const match = /^VmHWM:\s+(\d+) kB/m.exec(readOr(`/proc/${pid}/status`));
  return Math.round(Number(match?.[1] ?? 0) / 1024);
}

/** Begins peak memory anew, where the kernel lets us. */
export function rssMb(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readOr(`/proc/${pid}/status`));
  return Math.round(Number(match?.[1] ?? 0) / 1024);
}

export function machineLine(): string {
  const load = os.loadavg().map((value) => value.toFixed(1));
  const memory = Math.round(os.totalmem() / 2 ** 30);
  return `${os.cpus().length} CPUs (${os.cpus()[0]?.model ?? 'unknown'}), ${memory} GiB, ${os.type()} ${os.release()}, load ${load.join(' ')}`;
}

function statOf(pid: number): { ticks: number } | undefined {
  const text = readOr(`/proc/${pid}/stat`);
  // The name in parentheses may hold blanks; the numbers behind it do not.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [utime, stime, cutime, cstime] = fields.slice(11, 15).map(Number);
  if (utime === undefined || stime === undefined || cutime === undefined || cstime === undefined)
    return undefined;
  return { ticks: utime + stime + cutime + cstime };
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readOr(`/proc/${pid}/task/${task}/children`).split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}

function readOr(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it has ended
  }
}
