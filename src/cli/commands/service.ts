/** `possync service install|uninstall`: the systemd units of one side; --dry-run shows every step and takes none. */
import { realpathSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { EXIT, PossyncError } from '../../core/errors.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { carryOut, installPlan, uninstallPlan, type Step } from '../service/plan.ts';
import { unitsOf } from '../service/units.ts';

const USER_DEFAULT = 'possync';

export async function serviceAnswer(
  context: Context,
  args: Args,
  what: 'install' | 'uninstall',
): Promise<Answer> {
  const side = sideOf(args.at(0));
  const user = args.text('user') ?? USER_DEFAULT;
  if (!/^[a-z_][a-z0-9_-]{0,31}$/.test(user))
    throw new PossyncError('PS-USAGE', `'${user}' is no name of a user`);
  const root = args.text('root');
  const program = programCommand();
  const units = unitsOf({ side, user, command: program });
  const steps = (what === 'install' ? installPlan : uninstallPlan)({ units, user, root });
  const dryRun = args.flag('dryRun');
  if (/\s\/(home|root)\//.test(` ${program}`) && what === 'install')
    context.note(
      `warning: ${program} lies in a home directory, which the service may not read (ProtectHome)`,
    );
  if (!dryRun) {
    if (root === undefined) await refuseWithoutSystemd();
    await carryOut(steps);
  }
  return {
    schema: 'possync.service/1',
    exit: EXIT.ok,
    body: { result: dryRun ? 'dry_run' : `${what}ed`, side, steps: steps.map(stepDocument) },
    text: () =>
      dryRun
        ? steps.map(stepText).join('')
        : what === 'install'
          ? `Installed possync-${side}.service${root === undefined ? ', started and enabled' : ` below ${root}`}.\n`
          : `Removed possync-${side}.service. Data, credential and logs are kept.\n`,
  };
}

function sideOf(text: string): 'hq' | 'store' {
  if (text === 'hq' || text === 'store') return text;
  throw new PossyncError('PS-USAGE', `the side must be hq or store, not '${text}'`);
}

/** This very program, as systemd starts it: absolute, and quoted where a path has blanks. */
function programCommand(): string {
  const script = realpathSync(process.argv[1] ?? '');
  return [process.execPath, script].map((path) => (/\s/.test(path) ? `"${path}"` : path)).join(' ');
}

async function refuseWithoutSystemd(): Promise<void> {
  const running = await stat('/run/systemd/system').catch(() => undefined);
  if (running === undefined)
    throw new PossyncError('PS-FILE-WRITE', 'this machine does not run systemd', {
      hint: 'write the units into an image with --root DIR, or see docs/service.md for other supervisors',
    });
}

function stepDocument(step: Step): Record<string, unknown> {
  return step.do === 'run' ? { do: step.do, argv: step.argv } : { ...step };
}

function stepText(step: Step): string {
  if (step.do === 'run') return `$ ${step.argv.join(' ')}\n`;
  if (step.do === 'remove') return `$ rm -f ${step.path}\n`;
  return `# ${step.path}\n${step.text}\n`;
}
