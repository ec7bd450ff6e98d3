/**
 * The torture bench: a whole chain of real processes under a seeded schedule of faults.
 * `npm run torture -- --seed N --minutes M [--stores K] [--faults a,b] [--json] [--keep]`: exit 0 = nothing was lost,
 * doubled, out of order or half visible.
 */
import { randomInt } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { endProcesses } from '../../test/support/process.ts';
import { ALL_KINDS, KINDS, type FaultKind } from './plan.ts';
import { run, type Result } from './run.ts';

const USAGE = `npm run torture -- [--seed N] [--minutes M] [--stores K] [--servers P] [--faults KIND,…] [--json] [--keep]
kinds of faults:
${ALL_KINDS.map((kind) => `  ${kind.padEnd(14)} ${KINDS[kind].what}`).join('\n')}
`;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    minutes: { type: 'string', default: '1' },
    stores: { type: 'string', default: '3' },
    servers: { type: 'string', default: '2' },
    faults: { type: 'string' },
    pace: { type: 'string', default: '150' },
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

function number(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < least || value > most)
    throw new RangeError(`--${name} is a number from ${least} to ${most}, not ${text}`);
  return value;
}

function kindsOf(text: string | undefined): readonly FaultKind[] {
  if (text === undefined) return ALL_KINDS;
  return text.split(',').map((name) => {
    const kind = ALL_KINDS.find((candidate) => candidate === name);
    if (kind === undefined) throw new RangeError(`there is no fault ${name}\n${USAGE}`);
    return kind;
  });
}

async function main(): Promise<number> {
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const seed = values.seed === undefined ? randomInt(1, 2 ** 31) : number('seed', values.seed, 0, 2 ** 32);
  const minutes = number('minutes', values.minutes, 0.05, 24 * 60);
  const stores = number('stores', values.stores, 1, 20);
  const servers = number('servers', values.servers, 1, 4);
  const replay =
    `npm run torture -- --seed ${seed} --minutes ${minutes} --stores ${stores} --servers ${servers}` +
    (values.faults === undefined ? '' : ` --faults ${values.faults}`);
  const say = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  say(`seed ${seed}: ${replay}`);
  const runDir = await mkdtemp(join(tmpdir(), `possync-torture-${seed}-`));
  await chmod(runDir, 0o755); // PostgreSQL runs as another user and reads its clock here
  const result = await run({
    seed,
    durationMs: minutes * 60_000,
    stores,
    servers,
    kinds: kindsOf(values.faults),
    paceMs: number('pace', values.pace, 1, 60_000),
    runDir,
    say,
  }).finally(() => endProcesses());
  if (values.json)
    process.stdout.write(`${JSON.stringify({ schema: 'possync.torture/1', ...result }, null, 2)}\n`);
  else process.stdout.write(textOf(result));
  if (result.ok && !values.keep) await rm(runDir, { recursive: true, force: true });
  else {
    await writeFile(join(runDir, 'result.json'), JSON.stringify(result, null, 2));
    say(`logs: ${runDir}`);
    if (!result.ok) say(`the same schedule again: ${replay}`);
  }
  return result.ok ? 0 : 1;
}

function textOf(result: Result): string {
  const list = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ') || 'none';
  return [
    `seed ${result.seed}: ${result.ok ? 'nothing lost, doubled, out of order or half visible' : 'FAILED'}`,
    `  tills          ${result.transactions} transactions committed, ${result.interrupted} interrupted by their own PostgreSQL`,
    `  at HQ          ${result.end.atHq} facts, ${result.end.rowsCompared} rows compared, ${result.end.explained} explained`,
    `  with a disk    ${result.end.gone} facts that only a restored or cloned disk had`,
    `  head office    ${result.officeChanges} changes, ${result.looks} looks at what they left`,
    `  faults         ${list(result.faults)}`,
    `  in them        ${result.lostAnswers} answers lost, ${result.duplicates} pushes delivered twice, ${result.restarts} restarts`,
    `  halts mended   ${list(result.halts)}`,
    ...result.violations.map(({ kind, what }) => `  ${kind}: ${what}`),
    '',
  ].join('\n');
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 70;
}
