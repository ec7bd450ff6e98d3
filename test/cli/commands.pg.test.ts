/** Every command on real databases of both sides: documents that parse, no ESC byte, the right side, the exit code. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { uuidv7 } from '../../src/core/ids.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { possync, type CliOptions, type CliResult } from '../support/cli.ts';
import { TestHq, TestStore } from '../support/chain.ts';

const ESC = '\u001b';

describe('the commands', () => {
  let dir: string;
  let hq: TestHq;
  let store: TestStore;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-cli-'));
    hq = await TestHq.open('cli');
    store = await TestStore.enrolled(hq, 'CLI-1');
    // A queue: one store transaction that is not sent, because the daemon does not run.
    await store.pool.query(
      `insert into public.registers (id, store_id, code, name) values ($1, $2, 'R1', 'R')`,
      [uuidv7(), store.id],
    );
    // A dead letter: HQ has refused something of this store.
    await hq.pool.query('insert into possync.inbox (store_id) values ($1) on conflict do nothing', [
      store.id,
    ]);
    await hq.pool.query(
      `insert into possync.dead (store_id, epoch, seq, v, body, type, key, aggregates, kind, sqlstate, error)
       values ($1, 1, 7, 1, '{"sales":[{"id":"no uuid"}]}', 'sale', '["x"]', '{sale:x}', 'data', '23514', 'made by this test')`,
      [store.id],
    );
  });
  after(async () => {
    await store.close();
    await hq.close();
    await rm(dir, { recursive: true, force: true });
  });

  const env = (side: 'hq' | 'store'): Record<string, string> => ({
    DATABASE_URL: side === 'hq' ? hq.database.url : store.database.url,
    POSSYNC_STATE_DIR: store.stateDir,
    LOG_DIR: dir,
  });
  const at = (side: 'hq' | 'store', args: readonly string[], more: CliOptions = {}): Promise<CliResult> =>
    possync(args, { ...more, env: { ...env(side), ...more.env } });

  /** What each command is run with, where it belongs, and its exit code. */
  const RUNS: readonly (readonly ['hq' | 'store', readonly string[], number])[] = [
    ['hq', ['hq', 'init'], 0],
    ['hq', ['hq', 'serve', '--check'], 0],
    ['hq', ['hq', 'reproject', 'product'], 0],
    ['hq', ['stores', 'ls'], 0],
    ['hq', ['stores', 'show', 'CLI-1'], 0],
    ['hq', ['stores', 'deactivate', 'CLI-1'], 0],
    ['hq', ['stores', 'activate', 'CLI-1'], 0],
    ['hq', ['ledger'], 0],
    ['hq', ['ledger', 'CLI-1', '--all'], 0],
    ['hq', ['token', 'ls'], 0],
    ['hq', ['token', 'ls', 'CLI-1'], 0],
    ['hq', ['token', 'issue', 'CLI-1', '--hq-url', 'https://hq.example.com'], 0],
    ['hq', ['status'], 1],
    ['hq', ['status', 'CLI-1'], 1],
    ['hq', ['status', '--short'], 1],
    ['hq', ['status', '--red'], 1],
    ['hq', ['status', '--wait', 'green', '--timeout', '100ms'], 1],
    ['hq', ['status', '--wait', 'drained', '--timeout', '100ms'], 1],
    ['hq', ['status', '--wait', 'caught-up', '--timeout', '100ms'], 1],
    ['hq', ['queue', 'ls'], 0],
    ['hq', ['queue', 'ls', '--dead'], 0],
    ['hq', ['queue', 'show', 'CLI-1', '7'], 0],
    ['hq', ['queue', 'show', 'CLI-1', '7', '--payload'], 0],
    ['hq', ['queue', 'drop', 'CLI-1', '99', '--reason', 'none'], 1],
    ['hq', ['stores', 'show', 'CLI-2'], 1],
    ['hq', ['stores', 'add', 'CLI-1', '--name', 'n', '--time-zone', 'UTC'], 1],
    ['hq', ['hq', 'reproject', 'prodct'], 64],
    ['hq', ['verify'], 69],
    ['hq', ['verify', 'CLI-1'], 69],
    ['hq', ['verify', 'CLI-2'], 1],
    ['store', ['verify'], 69],
    ['store', ['verify', 'CLI-1'], 64],
    ['store', ['store', 'init'], 0],
    ['store', ['store', 're-enrol', '--dry-run'], 0],
    ['store', ['store', 'reexport', '--from', '2026-01-01', '--dry-run'], 0],
    ['store', ['store', 'reexport', '--from', 'yesterday'], 64],
    ['store', ['store', 'init', '--token-file', '/nowhere/token'], 66],
    ['store', ['store', 'init', '--replace'], 64],
    ['store', ['token', 'ls'], 0],
    ['store', ['status'], 1],
    ['store', ['status', '--short'], 1],
    ['store', ['status', '--wait', 'green', '--timeout', '100ms'], 1],
    ['store', ['status', '--wait', 'drained', '--timeout', '100ms'], 1],
    ['store', ['status', '--wait', 'caught-up', '--timeout', '500ms'], 1],
    ['store', ['queue', 'ls'], 0],
    ['store', ['queue', 'ls', '--all', '--type', 'register'], 0],
    ['store', ['queue', 'ls', '--counts'], 0],
    ['store', ['queue', 'ls', '--fail-if-older', '1ms'], 1],
    ['store', ['queue', 'ls', '--fail-if-older', '1h'], 0],
    ['store', ['queue', 'ls', '--limit', '0'], 64],
    ['store', ['queue', 'show', '999'], 1],
    ['store', ['config', 'show'], 0],
    ['store', ['explain', 'PS-DB-DOWN'], 0],
    ['store', ['schema', 'status'], 0],
  ];

  for (const [side, args, exit] of RUNS) {
    it(`\`possync ${args.join(' ')}\` ${side === 'hq' ? 'at HQ' : 'in a store'}: exit ${exit}, text without ESC, one document`, async () => {
      const text = await at(side, args);
      assert.equal(text.code, exit, `${text.stdout}${text.stderr}`);
      for (const more of [
        { env: { NO_COLOR: '1' }, columns: 80 },
        { env: { TERM: 'dumb' }, columns: 80 },
        { columns: 0, env: { NO_COLOR: '1' } },
      ]) {
        const { stdout, stderr } = await at(side, args, more);
        assert.ok(!`${stdout}${stderr}`.includes(ESC), JSON.stringify(more));
      }
      assert.ok(!`${text.stdout}${text.stderr}`.includes(ESC));
      const json = await at(side, [...args, '--json']);
      const document = JSON.parse(json.stdout) as {
        schema: string;
        exit_code: number;
        generated_at: string;
        possync: string;
      };
      assert.equal(json.code, exit);
      assert.equal(document.exit_code, exit);
      assert.match(document.schema, /^possync\.[a-z-]+\/1$/);
      assert.ok(!Number.isNaN(Date.parse(document.generated_at)));
      assert.equal(typeof document.possync, 'string');
    });
  }

  it('are all in the list above, but for those that run until they are stopped or have tests of their own', () => {
    const run = new Set(RUNS.map(([, args]) => args.slice(0, 2).join(' ')));
    const elsewhere = ['hq serve', 'store daemon', 'demo', 'diagnose', 'queue retry'];
    elsewhere.push('token revoke', 'token rotate', 'token status');
    elsewhere.push('logs', 'completion', 'service install', 'service uninstall');
    const missing = COMMANDS.map(({ path }) => path).filter(
      (path) =>
        !elsewhere.includes(path) &&
        ![...run].some((words) => words === path || words.split(' ')[0] === path),
    );
    assert.deepEqual(missing, []);
  });

  it('colour on a terminal, and a light that is a word as well', async () => {
    const { stdout } = await at('store', ['status'], { columns: 120 });
    assert.ok(stdout.includes(ESC));
    assert.match(stdout, /○ DISCONNECTED/);
    assert.match((await at('store', ['status', '--ascii'])).stdout, /^\[-\] DISCONNECTED/);
  });

  it('refuse the wrong side with 64 and name the right one', async () => {
    for (const [side, args, right] of [
      ['store', ['stores', 'ls'], /command of HQ/],
      ['store', ['queue', 'retry', 'CLI-1'], /command of HQ/],
      ['store', ['hq', 'reproject', 'product'], /command of HQ/],
      ['hq', ['store', 're-enrol'], /command of a store/],
    ] as const) {
      const { code, stderr } = await at(side, args);
      assert.equal(code, 64);
      assert.match(stderr, right);
    }
    assert.equal((await at('hq', ['store', 'init'])).code, 64);
    assert.equal((await at('store', ['hq', 'init'])).code, 64);
  });

  it('give the token out once: alone on stdout, or in a file of mode 0600 and nowhere else', async () => {
    const issue = ['token', 'issue', 'CLI-1', '--hq-url', 'wss://hq.example.com'];
    const alone = await at('hq', issue);
    assert.match(alone.stdout, /^pse_[A-Za-z0-9_-]+\n$/);
    assert.ok(!alone.stderr.includes('pse_'));
    const document = JSON.parse((await at('hq', [...issue, '--json'])).stdout) as {
      token: string;
      hq_url: string;
    };
    assert.match(document.token, /^pse_/);
    assert.equal(document.hq_url, 'https://hq.example.com:3001');
    const file = join(dir, 'token');
    for (const flags of [[], ['--json']]) {
      const filed = await at('hq', [...issue, '--out', file, ...flags]);
      assert.ok(!`${filed.stdout}${filed.stderr}`.includes('pse_'));
      assert.equal((await stat(file)).mode & 0o777, 0o600);
      assert.match(await readFile(file, 'utf8'), /^pse_\S+\n$/);
    }
  });

  it('take the token from standard input', async () => {
    const { stdout } = await at('hq', ['token', 'issue', 'CLI-1', '--hq-url', hq.running.url]);
    const done = await at('store', ['store', 'init', '--token-file', '-', '--json'], { stdin: stdout });
    assert.equal(done.code, 0, done.stdout);
    assert.equal((JSON.parse(done.stdout) as { enrolment: string }).enrolment, 'enrolled');
  });

  it('list the queue as JSON Lines, and as one document whose counts add up', async () => {
    const lines = (await at('store', ['queue', 'ls', '--jsonl'])).stdout.trimEnd().split('\n');
    const types = lines.map((line) => (JSON.parse(line) as { type: string }).type);
    assert.deepEqual(types, ['register']);
    const { counts } = JSON.parse((await at('store', ['queue', 'ls', '--json'])).stdout) as {
      counts: { queued: number; waiting: number; sending: number };
    };
    assert.equal(counts.queued, 1);
    assert.equal(counts.waiting + counts.sending, counts.queued);
  });

  it('retry what HQ refused: exit 1 while it is refused again, 0 when nothing is left', async () => {
    const refused = await at('hq', ['queue', 'retry', 'CLI-1', '--json']);
    assert.equal(refused.code, 1, refused.stdout);
    const dropped = await at('hq', [
      'queue',
      'drop',
      'CLI-1',
      '7',
      '--reason',
      'made by this test',
      '--json',
    ]);
    assert.equal(dropped.code, 0, dropped.stdout);
    assert.equal((await at('hq', ['queue', 'retry', 'CLI-1'])).code, 0);
    assert.match((await at('hq', ['queue', 'ls', '--dead'])).stdout, /Nothing parked/);
  });
});
