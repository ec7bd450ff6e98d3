/** The support archive: a planted secret is in no byte of it, and the diagnosis can be shown again from it. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { jsonLine } from '../../src/core/log-output.ts';
import { formatCredential, newSecret } from '../../src/core/secret.ts';
import { possync } from '../support/cli.ts';

const CANARY = 'Zx9CanaryZx9';

describe('possync diagnose --bundle', () => {
  let dir: string;
  let file: string;
  const secret = newSecret('ABCDEFGH');
  const token = formatCredential({ kid: 'ABCDEFGH', secret }).reveal();
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-bundle-'));
    file = join(dir, 'bundle.json.gz');
    await mkdir(join(dir, 'state'), { mode: 0o700 });
    const credential = {
      token,
      hq_url: `http://u:${CANARY}@127.0.0.1:9`,
      store_id: 42,
      code: '0042',
      name: 'Elm',
    };
    await writeFile(join(dir, 'state', 'credential'), JSON.stringify(credential), { mode: 0o600 });
    const lines = [
      jsonLine('info', 'kept words', { code: 'PS-TCP-REFUSED', tries: 7 }),
      JSON.stringify({ ts: 'x', level: 'info', msg: `a token ${token} in a line that nobody redacted` }),
      JSON.stringify({
        ts: 'x',
        level: 'info',
        msg: `to postgres://u:${CANARY}@db/pos`,
        password: CANARY,
        err: { message: CANARY },
      }),
    ];
    await writeFile(join(dir, 'store-server.log'), `${lines.join('\n')}\n`);
  });
  afterEach(async () => {
    await rm(dir, { recursive: true });
  });

  const run = (...args: string[]) =>
    possync(['diagnose', ...args], {
      env: {
        POSSYNC_STATE_DIR: join(dir, 'state'),
        LOG_DIR: dir,
        DATABASE_URL: `postgres://u:${CANARY}@127.0.0.1:9/pos`,
        POSSYNC_PROXY: `http://u:${CANARY}@127.0.0.1:9`,
        SYNC_HQ_URL: `wss://u:${CANARY}@127.0.0.1:9`,
        POSSYNC_STATUS_LISTEN: `nonsense://u:${CANARY}@x`,
      },
    });

  it('holds no secret in any byte, and what is useful', async () => {
    const { stderr } = await run('cfg', 'token.file', 'db.connect', 'tcp', '--bundle', file);
    assert.match(stderr, /written: /);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const packed = await readFile(file);
    const text = gunzipSync(packed).toString('utf8');
    for (const planted of [CANARY, token, secret.reveal()]) {
      assert.ok(
        !text.includes(planted),
        text.slice(Math.max(0, text.indexOf(planted) - 200), text.indexOf(planted)),
      );
      assert.ok(!packed.includes(planted));
    }
    for (const useful of [
      'kept words',
      '"tries":7',
      'PS-TCP-REFUSED',
      '"manifest"',
      '"LOG_LEVEL":{"source":"default"',
    ])
      assert.ok(text.includes(useful), useful);
  });

  it('shows the diagnosis again, in any format and with its exit code', async () => {
    const first = await run('cfg', 'db.connect', '--json', '--bundle', file);
    const again = await possync(['diagnose', '--from-bundle', file, '--json']);
    const checks = (text: string): unknown => (JSON.parse(text) as { checks: unknown }).checks;
    assert.equal(again.code, first.code);
    assert.deepEqual(checks(again.stdout), checks(first.stdout));
    assert.equal(
      (JSON.parse(again.stdout) as { run_id: string }).run_id,
      (JSON.parse(first.stdout) as { run_id: string }).run_id,
    );
    assert.match((await possync(['diagnose', '--from-bundle', file])).stdout, /^VERDICT/m);
  });

  it('refuses what is no bundle', async () => {
    await writeFile(file, 'no gzip');
    assert.equal((await possync(['diagnose', '--from-bundle', file])).code, 66);
  });

  it('refuses a bundle whose report lacks or distorts something, and says what', async () => {
    await run('cfg', '--bundle', file);
    const whole = gunzipSync(await readFile(file)).toString('utf8');
    for (const [spoil, told] of [
      [(checks: Record<string, unknown>[]) => delete checks[0]?.title, /checks\.0\.title/],
      [
        (checks: Record<string, unknown>[]) => (checks[1] = { ...checks[1], code: 'PS-NEWER' }),
        /checks\.1\.code/,
      ],
      [
        (checks: Record<string, unknown>[]) => (checks[0] = { ...checks[0], layer: 'moon' }),
        /checks\.0\.layer/,
      ],
    ] as const) {
      const bundle = JSON.parse(whole) as { ran: { report: { checks: Record<string, unknown>[] } } };
      spoil(bundle.ran.report.checks);
      await writeFile(file, gzipSync(JSON.stringify(bundle)));
      const { code, stderr, stdout } = await possync(['diagnose', '--from-bundle', file]);
      assert.deepEqual([code, stdout], [66, '']);
      assert.match(stderr, told);
    }
  });
});
