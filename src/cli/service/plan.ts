/** What installing or removing the service does, step by step: printed by --dry-run, carried out without it. */
import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { codeOf } from '../../core/classify.ts';
import { PossyncError } from '../../core/errors.ts';
import type { UnitFile } from './units.ts';

export type Step =
  | { readonly do: 'write'; readonly path: string; readonly text: string }
  | { readonly do: 'remove'; readonly path: string }
  | { readonly do: 'run'; readonly argv: readonly string[]; readonly mayFail?: true };

const UNIT_DIR = '/etc/systemd/system';

export interface PlanOptions {
  readonly units: readonly UnitFile[];
  readonly user: string;
  /** Another root directory, for a package or an image: files only, no command runs. */
  readonly root: string | undefined;
}

export function installPlan({ units, user, root }: PlanOptions): Step[] {
  const write = units.map(({ name, text }): Step => ({ do: 'write', path: unitPath(root, name), text }));
  if (root !== undefined) return write;
  return [
    // Exits 9 where the user exists already.
    {
      do: 'run',
      argv: ['useradd', '--system', '--no-create-home', '--shell', '/usr/sbin/nologin', user],
      mayFail: true,
    },
    ...write,
    { do: 'run', argv: ['systemctl', 'daemon-reload'] },
    { do: 'run', argv: ['systemctl', 'enable', '--now', ...startable(units)] },
  ];
}

export function uninstallPlan({ units, root }: PlanOptions): Step[] {
  const remove = units.map(({ name }): Step => ({ do: 'remove', path: unitPath(root, name) }));
  if (root !== undefined) return remove;
  return [
    { do: 'run', argv: ['systemctl', 'disable', '--now', ...startable(units)], mayFail: true },
    ...remove,
    { do: 'run', argv: ['systemctl', 'daemon-reload'] },
  ];
}

function unitPath(root: string | undefined, name: string): string {
  return join(root ?? '/', UNIT_DIR, name);
}

/** A oneshot is started by its timer. */
function startable(units: readonly UnitFile[]): string[] {
  return units.map(({ name }) => name).filter((name) => name !== 'possync-diagnose.service');
}

export async function carryOut(steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    if (step.do === 'run') await command(step.argv, step.mayFail === true);
    else await change(step);
  }
}

async function change(step: Exclude<Step, { do: 'run' }>): Promise<void> {
  try {
    if (step.do === 'remove') {
      await rm(step.path, { force: true });
      return;
    }
    await mkdir(dirname(step.path), { recursive: true });
    await writeFile(step.path, step.text, { mode: 0o644 });
  } catch (error) {
    throw new PossyncError('PS-FILE-WRITE', `cannot write ${step.path}`, {
      why: codeOf(error) ?? String(error),
      hint: 'run it as root: sudo possync service install …; or look at it first with --dry-run',
      cause: error,
    });
  }
}

async function command([file = '', ...args]: readonly string[], mayFail: boolean): Promise<void> {
  const why = await new Promise<string | undefined>((resolve) => {
    execFile(file, args, { timeout: 60_000 }, (error, _out, stderr) => {
      resolve(error === null ? undefined : stderr.trim() || error.message);
    });
  });
  if (why !== undefined && !mayFail)
    throw new PossyncError('PS-FILE-WRITE', `${[file, ...args].join(' ')} failed`, {
      why,
      hint: 'read the reason above; the files are written, the service is not started',
    });
}
