/** The terminal's side of the program, without a database: help, usage errors, colours, documents. */
import assert from 'node:assert/strict';
import { COMMANDS } from '../../src/cli/commands.ts';
import {
  formatAgo,
  formatBytes,
  formatCents,
  formatCount,
  formatDuration,
} from '../../src/core/quantities.ts';
import { cleanStream, CURSOR } from '../../src/cli/render/clean.ts';
import { renderTable } from '../../src/cli/render/table.ts';
import { createTerm, type TermFlags } from '../../src/cli/render/term.ts';
import { ERRORS } from '../../src/core/errors.ts';
import { possync } from '../support/cli.ts';

const ESC = '\u001b';
const NOWHERE = { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' };

interface ErrorDocument {
  readonly schema: string;
  readonly exit_code: number;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string };
}

describe('the command line', () => {
  it('has an example, a summary and working help for every command', async () => {
    for (const { path, examples } of COMMANDS) {
      const { code, stdout } = await possync([...path.split(' '), '--help']);
      assert.equal(code, 0, path);
      assert.ok(stdout.startsWith(`Examples:\n  ${examples[0] ?? '?'}`), path);
      assert.equal((await possync(['help', ...path.split(' ')])).code, 0, path);
    }
  });

  for (const [args, message, why] of [
    [['stauts'], /unknown command 'stauts'/, /Did you mean status\?/],
    [['stores', 'lst'], /unknown command 'lst'/, /Did you mean ls\?/],
    [['status', '--jsn'], /unknown option '--jsn'/, /Did you mean --json\?/],
    [['stores'], /a command is missing/, undefined],
    [[], /a command is missing/, undefined],
    [['stores', 'add'], /missing required argument 'CODE'/, undefined],
    [['stores', 'show', 'A', 'B'], /too many arguments/, undefined],
    [['stores', 'add', 'X-1', '--time-zone', 'UTC'], /--name is missing/, undefined],
    [['status', '--wait', 'blue'], /--wait must be green, drained, caught-up, not 'blue'/, undefined],
    [['status', '--timeout', 'long'], /--timeout must be a duration/, undefined],
    [['status', '--role', 'till'], /--role/, undefined],
    [['help', 'nothing'], /no help on 'nothing'/, undefined],
    [['explain', 'PS-DB-DWN'], /there is no code PS-DB-DWN/, undefined],
  ] as const)
    it(`refuses \`possync ${args.join(' ')}\` with exit 64, as text and as JSON`, async () => {
      const text = await possync(args);
      assert.equal(text.code, 64, text.stderr);
      assert.equal(text.stdout, '');
      assert.match(text.stderr, /^error: .*\n(why: .*\n)?fix: .*\ncode: {2}PS-USAGE\n$/);
      assert.match(text.stderr, message);
      if (why !== undefined) assert.match(text.stderr, why);
      const json = await possync([...args, '--json']);
      assert.equal(json.code, 64);
      const document = JSON.parse(json.stdout) as ErrorDocument;
      assert.deepEqual([document.exit_code, document.error.code], [64, 'PS-USAGE']);
      assert.match(document.error.message, message);
      assert.equal(json.stderr, '');
    });

  it('says why there is no --token, and does not repeat it', async () => {
    const secret = `pse_${'A'.repeat(60)}_abcd`;
    for (const args of [
      ['store', 'init', '--token', secret],
      ['store', 'init', `--token=${secret}`],
      ['store', 'init', secret],
    ]) {
      const { code, stderr } = await possync(args);
      assert.equal(code, 64);
      assert.ok(!stderr.includes('AAAA'), stderr);
    }
    assert.match((await possync(['store', 'init', '--token', secret])).stderr, /--token-file FILE, or -/);
  });

  it('ends every command that needs a database with 69 when there is none, as text and as JSON', async () => {
    for (const { path, side, args = [], service } of COMMANDS) {
      if (side === 'none' || service === true) continue;
      const words = [
        ...path.split(' '),
        ...args
          .filter(([flags]) => flags.startsWith('<'))
          .map(([flags]) => (flags.includes('SEQ') ? '1' : 'product')),
        ...(path === 'queue drop' ? ['--reason', 'r'] : []),
        ...(path === 'token revoke' ? ['NYC-001'] : []),
        ...(path === 'token issue' ? ['--hq-url', 'https://hq'] : []),
        ...(path === 'stores add' ? ['--name', 'n', '--time-zone', 'UTC'] : []),
        ...(path === 'store reexport' ? ['--from', '2026-01-01'] : []),
      ];
      const text = await possync(words, { env: NOWHERE });
      assert.equal(text.code, 69, `${path}: ${text.stderr}`);
      assert.match(text.stderr, /^error: .*\n(why: .*\n)*fix: .*\ncode: {2}PS-DB-DOWN\n$/, path);
      const json = await possync([...words, '--json'], { env: NOWHERE });
      assert.equal(json.code, 69, path);
      assert.equal((JSON.parse(json.stdout) as ErrorDocument).error.code, 'PS-DB-DOWN', path);
    }
  });

  it('tells wrong settings with 78 and all of them', async () => {
    const { code, stdout } = await possync(['config', 'show', '--json'], {
      env: { SYNC_LISTEN_PORT: 'x', LOG_LEVEL: 'y' },
    });
    assert.equal(code, 78);
    const { error } = JSON.parse(stdout) as ErrorDocument & { error: { why: string } };
    assert.match(error.why, /SYNC_LISTEN_PORT.*\n.*LOG_LEVEL/);
  });

  it('explains every code of the table', async () => {
    for (const code of Object.keys(ERRORS)) {
      const { code: exit, stdout } = await possync(['explain', code]);
      assert.equal(exit, 0, code);
      assert.ok(stdout.includes(code));
    }
  });

  it('warns of mistyped variables on stderr only', async () => {
    const { stdout, stderr } = await possync(['config', 'show', '--json'], { env: { SYNC_LISTENPORT: '1' } });
    JSON.parse(stdout);
    assert.match(stderr, /^warning: Unknown SYNC_LISTENPORT/);
  });
});

describe('the gate of the terminal', () => {
  const AUTO: TermFlags = { color: 'auto', ascii: false, json: false };
  const terminal = { write: () => true, isTTY: true, columns: 80 };
  const pipe = { write: () => true };

  for (const [title, flags, env, stream, coloured] of [
    ['a terminal', AUTO, {}, terminal, true],
    ['a pipe', AUTO, {}, pipe, false],
    ['NO_COLOR', AUTO, { NO_COLOR: '1' }, terminal, false],
    ['an empty NO_COLOR', AUTO, { NO_COLOR: '' }, terminal, true],
    ['POSSYNC_NO_COLOR', AUTO, { POSSYNC_NO_COLOR: '1' }, terminal, false],
    ['TERM=dumb', AUTO, { TERM: 'dumb' }, terminal, false],
    ['CLICOLOR=0', AUTO, { CLICOLOR: '0' }, terminal, false],
    ['FORCE_COLOR in a pipe', AUTO, { FORCE_COLOR: '1' }, pipe, true],
    ['FORCE_COLOR=0', AUTO, { FORCE_COLOR: '0' }, terminal, false],
    ['CLICOLOR_FORCE in a pipe', AUTO, { CLICOLOR_FORCE: '1' }, pipe, true],
    ['NO_COLOR against FORCE_COLOR', AUTO, { NO_COLOR: '1', FORCE_COLOR: '1' }, terminal, false],
    ['--color=always against NO_COLOR', { ...AUTO, color: 'always' }, { NO_COLOR: '1' }, pipe, true],
    ['--no-color against FORCE_COLOR', { ...AUTO, color: 'never' }, { FORCE_COLOR: '1' }, terminal, false],
  ] as const)
    it(`with ${title}: ${coloured ? 'colour' : 'no ESC byte'}`, () => {
      const { out } = createTerm(stream, stream, flags, env);
      assert.equal(out.good('x').includes(ESC), coloured);
    });

  it('judges stdout and stderr apart', () => {
    const { out, err } = createTerm(pipe, terminal, AUTO, {});
    assert.deepEqual([out.level, err.level], [0, 1]);
  });

  it('takes 0 columns for 80 and animates nothing there: ora would loop for ever', () => {
    const serial = { ...terminal, columns: 0 };
    const term = createTerm(serial, serial, AUTO, {});
    assert.deepEqual([term.out.width, term.animated, term.out.cursor], [80, false, false]);
    for (const COLUMNS of ['0', '-1', 'many'])
      assert.equal(createTerm(terminal, terminal, AUTO, { COLUMNS }).out.level, 0, COLUMNS);
    assert.equal(createTerm(serial, serial, AUTO, { COLUMNS: '132' }).out.width, 132);
    assert.equal(createTerm(terminal, terminal, AUTO, { NO_COLOR: '1' }).out.cursor, false);
    assert.equal(createTerm(terminal, terminal, AUTO, {}).animated, true);
    assert.equal(createTerm(terminal, terminal, AUTO, { CI: '1' }).animated, false);
    assert.equal(createTerm(terminal, terminal, { ...AUTO, json: true }, {}).animated, false);
  });

  it('uses plain symbols where the locale has no others, and shows blue for green to who asks', () => {
    assert.equal(createTerm(pipe, pipe, AUTO, { LANG: 'C' }).out.glyphs.on, '[+]');
    assert.equal(createTerm(pipe, pipe, AUTO, { LANG: 'en_US.UTF-8' }).out.glyphs.on, '●');
    assert.equal(createTerm(pipe, pipe, AUTO, { LC_ALL: 'C', LANG: 'en_US.UTF-8' }).out.glyphs.on, '[+]');
    assert.equal(createTerm(pipe, pipe, AUTO, {}).out.glyphs.on, '●');
    assert.match(createTerm(terminal, terminal, AUTO, { POSSYNC_COLORBLIND: '1' }).out.good('x'), /\[34m/);
  });

  it('lets through its own colours and its own move of the cursor, and nothing that data brings along', () => {
    const hostile = 'a\u001b[2Jb\u001b]0;title\u0007c\u009b1md\re';
    const clean = 'a?[2Jb?]0;title?c?1md?e';
    for (const [stream, flags] of [
      [pipe, AUTO],
      [terminal, { ...AUTO, color: 'never' }],
      [terminal, AUTO],
    ] as const) {
      let written = '';
      const { out } = createTerm(stream, stream, flags, {});
      const guarded = cleanStream({ ...stream, write: (text) => Boolean((written += text)) }, out);
      guarded.write(`${hostile}${out.good('on')}\t\n`);
      assert.equal(written, `${clean}${out.good('on')}\t\n`);
      written = '';
      guarded.write(`${CURSOR.up(2)}${hostile}`);
      assert.equal(written, (out.cursor ? CURSOR.up(2) : '?[2A?[J') + clean);
    }
  });

  it('prints tables in aligned columns, cut on a terminal only, harmless whatever the data holds', () => {
    const wide = ['A', 'x'.repeat(100)];
    const { out: piped } = createTerm(pipe, pipe, AUTO, {});
    const { out: shown } = createTerm(terminal, terminal, { ...AUTO, color: 'never' }, {});
    assert.equal(renderTable(piped, ['K', 'V'], [wide]), `K  V\nA  ${'x'.repeat(100)}\n`);
    assert.equal(renderTable(shown, ['K', 'V'], [wide]).split('\n')[1]?.length, 80);
    const { out: colours } = createTerm(terminal, terminal, AUTO, {});
    const painted = colours.good('on');
    assert.equal(renderTable(colours, ['K', 'V'], [[painted, 'b']]), `K   V\n${painted}  b\n`);
    assert.equal(renderTable(piped, ['K'], [[`a\u001b[31m\nb`]]), 'K\na?[31m b\n');
  });
});

describe('quantities', () => {
  for (const [ms, text] of [
    [41, '41ms'],
    [12_000, '12s'],
    [61_000, '1m 01s'],
    [600_000, '10m'],
    [7_980_000, '2h 13m'],
    [784_800_000, '9d 02h'],
    [61 * 86_400_000, '61d'],
  ] as const)
    it(`${ms} ms read ${text}`, () => {
      assert.equal(formatDuration(ms), text);
    });

  it('read alike everywhere', () => {
    assert.deepEqual([0, 1023, 1536, 326_144].map(formatBytes), ['0 B', '1023 B', '1.5 KiB', '319 KiB']);
    assert.deepEqual([0, 2595, 1_234_567].map(formatCount), ['0', '2 595', '1 234 567']);
    assert.deepEqual([412_345, -5, 0].map(formatCents), ['4 123.45', '-0.05', '0.00']);
    assert.deepEqual([formatAgo(null, 0), formatAgo('1970-01-01T00:00:00Z', 3_000)], ['never', '3s ago']);
  });
});
