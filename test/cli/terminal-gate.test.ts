/**
 * Every command of the program, as a process: no escape byte where none may be, and it ends.
 *
 * chalk ignores NO_COLOR, cli-table3 colours into pipes, ora writes into pipes and loops for ever on a terminal of 0
 * columns; whatever is added to the program, this is where it shows.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { COMMANDS } from '../../src/cli/commands.ts';
import { EXIT } from '../../src/core/errors.ts';
import { CliWorld, COMMAND_RUNS, type CommandRuns } from '../support/cli-world.ts';
import { POSSYNC, runPossync, startPossync, startProgram, type TestProcess } from '../support/process.ts';
import { skip } from '../support/skip.ts';

const ESC = '\u001b';
const EXITS: readonly (number | null)[] = Object.values(EXIT);
/** A command that hangs never ends; a busy machine only takes its time. */
const ENDS_MS = 120_000;
/** What a terminal with colours has; CI would switch the spinner off. */
const COLOURS = {
  TERM: 'xterm-256color',
  CI: '',
  COLORTERM: '',
  NO_COLOR: '',
  CLICOLOR: '',
  CLICOLOR_FORCE: '',
};

interface Mode {
  readonly name: string;
  /** Columns of its terminal; none: pipes. */
  readonly columns?: number;
  readonly env?: Readonly<Record<string, string>>;
}

const MODES: readonly Mode[] = [
  { name: 'a pipe' },
  { name: 'NO_COLOR', columns: 80, env: { NO_COLOR: '1' } },
  { name: 'TERM=dumb', columns: 80, env: { TERM: 'dumb' } },
  { name: 'a terminal of 0 columns', columns: 0 },
];

/** `script` of util-linux gives a program a terminal; without one of its own it has 0 columns and 0 rows. */
const hasTerminal = (() => {
  const { error, stdout } = spawnSync('script', ['--version'], { encoding: 'utf8' });
  return error === undefined && stdout.includes('util-linux');
})();

interface Started {
  readonly process: TestProcess;
  /** Of possync itself, which a terminal hides behind other programs. */
  readonly pid: () => Promise<number>;
}

async function start(
  args: readonly string[],
  { columns, env }: Mode,
  more: Readonly<Record<string, string>>,
): Promise<Started> {
  const all = { ...COLOURS, ...more, ...env };
  if (columns === undefined) {
    const process = await startPossync(args, { env: all });
    return { process, pid: () => Promise.resolve(process.pid) };
  }
  const quoted = [process.execPath, POSSYNC, ...args].map((word) => `'${word}'`).join(' ');
  const size = columns > 0 ? `stty cols ${columns} rows 24; ` : '';
  const child = await startProgram('script', ['-qec', `${size}echo "pid $$"; exec ${quoted}`, '/dev/null'], {
    env: { ...all, SHELL: '/bin/sh' },
  });
  return {
    process: child,
    pid: async () => Number(/pid (\d+)/.exec(await child.line(/pid \d+/, ENDS_MS))?.[1]),
  };
}

describe('a command on any terminal', () => {
  let world: CliWorld;

  before(async function () {
    this.timeout(ENDS_MS * 2);
    world = await CliWorld.open('gate');
    await runPossync(['--version']); // builds dist if it must
  });
  after(async () => {
    await world.close();
  });

  it('has words here for each of the program, and for no other', () => {
    assert.deepEqual(Object.keys(COMMAND_RUNS).sort(), COMMANDS.map(({ path }) => path).sort());
  });

  it('has colours where there is a terminal that shows them: the tests below could see one', async function () {
    if (!hasTerminal) skip(this, 'there is no script of util-linux here');
    this.timeout(ENDS_MS);
    const wide: Mode = { name: 'a terminal', columns: 80 };
    assert.ok((await written(['status'], wide, { at: 'store' })).includes(`${ESC}[31m`));
    const none = { ...wide, env: { COLUMNS: '0' } };
    assert.ok(!(await written(['status'], none, { at: 'store' })).includes(ESC));
  });

  /** What it has written when it has ended, on both streams. */
  async function written(
    words: readonly string[],
    mode: Mode,
    run: Pick<CommandRuns, 'at' | 'until'>,
  ): Promise<string> {
    const { process: child, pid } = await start(words, mode, world.env(run.at));
    if (run.until !== undefined) {
      await child.line(run.until, ENDS_MS);
      process.kill(await pid(), 'SIGTERM');
    }
    const { code, stdout, stderr } = await child.ended(ENDS_MS);
    assert.ok(EXITS.includes(code), `${words.join(' ')} ended with ${code}\n${stdout}${stderr}`);
    assert.notEqual(code, EXIT.internal, `${stdout}${stderr}`);
    return stdout + stderr;
  }

  for (const [path, run] of Object.entries(COMMAND_RUNS)) {
    it(`\`possync ${path}\`: no ESC in ${MODES.map(({ name }) => name).join(', ')}, and it ends`, async function () {
      this.timeout(4 * ENDS_MS);
      if (!hasTerminal) skip(this, 'there is no script of util-linux here');
      const check = async (mode: Mode, n: number): Promise<void> => {
        const text = await written([...path.split(' '), ...run.works(n, world)], mode, run);
        assert.ok(!text.includes(ESC), `${mode.name}: ${JSON.stringify(text)}`);
      };
      // One database has room for one daemon.
      if (run.until === undefined) await Promise.all(MODES.map(check));
      else for (const [n, mode] of MODES.entries()) await check(mode, n);
    });

    it(`\`possync ${path} --json\` that fails: one possync.error/1 on stdout, none on stderr`, async function () {
      this.timeout(ENDS_MS);
      const { code, stdout, stderr } = await runPossync(
        [...path.split(' '), ...(run.fails ?? []), '--json'],
        {
          env: { ...world.nowhere(), ...run.failsIn },
        },
      );
      assert.ok(
        EXITS.includes(code) && code !== EXIT.ok && code !== EXIT.internal,
        `exit ${code}\n${stderr}`,
      );
      assertErrorDocument(stdout, code);
      assert.doesNotMatch(stderr, /^\s*[[{]/m);
    });
  }
});

function assertErrorDocument(stdout: string, code: number | null): void {
  const { schema, exit_code, error } = JSON.parse(stdout) as {
    schema: string;
    exit_code: number;
    error: { code: string; message: string; hint: string };
  };
  assert.deepEqual([schema, exit_code], ['possync.error/1', code]);
  assert.match(error.code, /^PS-[A-Z0-9-]+$/);
  assert.ok(error.message.length > 0 && error.hint.length > 0);
}
