/** Rotation of a credential: killed at every phase, with every answer lost, twice at once, and under a stream of sales. */
import assert from 'node:assert/strict';
import { access, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readCredential } from '../../src/store/credential.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync, type CliResult } from '../support/cli.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { runPossync, startPossync } from '../support/process.ts';
import { until } from '../support/until.ts';

interface RotateDocument {
  readonly schema: string;
  readonly result: string;
  readonly old: { readonly kid: string; readonly valid_until: string | null };
  readonly new: { readonly kid: string; readonly expires_at: string | null } | null;
  readonly offline_ms: number | null;
  readonly steps: readonly { readonly name: string }[];
}

describe('token rotate', function () {
  this.timeout(180_000);
  let hq: TestHq;
  let store: TestStore;
  let proxy: FaultProxy;
  /** Everything that any command here has printed, and every secret that was ever on disk. */
  let printed = '';
  const secrets = new Set<string>();

  before(async () => {
    await runPossync(['--version']); // what is started later is built by then
    hq = await TestHq.open('rotation');
    store = await TestStore.open(hq, 'ROT-1');
    proxy = new FaultProxy({ host: '127.0.0.1', port: hq.port });
    await proxy.open();
    await store.untilLight('green');
  });
  after(async () => {
    await proxy.close();
    await store.close();
    await hq.close();
  });
  afterEach(() => {
    proxy.delay(0);
  });

  const env = (through?: FaultProxy): Record<string, string> => ({
    DATABASE_URL: store.database.url,
    POSSYNC_STATE_DIR: store.stateDir,
    ...(through === undefined ? {} : { SYNC_HQ_URL: `http://127.0.0.1:${through.port}` }),
  });
  const noteSecrets = async (): Promise<void> => {
    for (const name of await readdir(store.stateDir)) {
      if (!name.startsWith('credential')) continue;
      const text = await readFile(join(store.stateDir, name), 'utf8').catch(() => '');
      for (const [, secret = ''] of text.matchAll(/pst_[A-Z2-9]+_([A-Za-z0-9_-]{43})_/g)) secrets.add(secret);
    }
  };
  const inStore = async (args: readonly string[], through?: FaultProxy): Promise<CliResult> => {
    await noteSecrets();
    const result = await possync(args, { env: env(through) });
    printed += result.stdout + result.stderr;
    await noteSecrets();
    return result;
  };
  const rotate = async (...more: string[]): Promise<RotateDocument> => {
    const { code, stdout, stderr } = await inStore(['token', 'rotate', '--json', ...more]);
    assert.equal(code, 0, stdout + stderr);
    return JSON.parse(stdout) as RotateDocument;
  };
  const kid = async (): Promise<string> => (await readCredential(store.stateDir))?.kid ?? 'none';
  const states = async (): Promise<Record<string, string>> => {
    const { rows } = await hq.pool.query<{ kid: string; state: string }>(
      `select t.kid, t.state from possync.tokens t where t.kind = 'credential' and t.store_id = $1::integer`,
      [store.id],
    );
    return Object.fromEntries(rows.map((row) => [row.kid, row.state]));
  };
  const whoami = async (name = 'credential'): Promise<number> => {
    const { token } = JSON.parse(await readFile(join(store.stateDir, name), 'utf8')) as { token: string };
    const answer = await fetch(`${hq.running.url}/api/v1/whoami`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return answer.status;
  };
  const there = (name: string): Promise<boolean> =>
    access(join(store.stateDir, name)).then(
      () => true,
      () => false,
    );
  /** What must hold after any rotation, however it came about. */
  const whole = async (): Promise<void> => {
    const current = await kid();
    const known = await states();
    assert.equal(known[current], 'active');
    assert.deepEqual(
      Object.values(known).filter((state) => state === 'active' || state === 'pending').length,
      1,
    );
    assert.equal(await whoami(), 200);
    assert.equal((await readCredential(store.stateDir))?.rotation, undefined);
    const left = (await readdir(store.stateDir)).filter((name) => /next|lock|probe|tmp/.test(name));
    assert.deepEqual(left, []);
  };
  const downs = (): number => hq.log.lines.filter(({ event }) => event === 'link.down').length;
  const refusals = (): string[] =>
    [...hq.log.lines, ...store.log.lines].flatMap(({ code }) =>
      typeof code === 'string' && code.startsWith('PS-TOKEN') ? [code] : [],
    );

  it('goes on over the open connection, under a stream of sales, without one refusal', async () => {
    const till = await store.database.connect();
    const session = await openSession(till, await addRegister(till, store.id), store.id);
    const before = await kid();
    const stop = new AbortController();
    let sold = 0;
    const sales = (async () => {
      while (!stop.signal.aborted) {
        await sell(till, session, { storeId: store.id, lines: 1 });
        sold += 1;
      }
    })();
    const document = await rotate();
    stop.abort();
    await sales;
    assert.equal(document.schema, 'possync.token-rotate/1');
    assert.equal(document.result, 'rotated');
    assert.equal(document.old.kid, before);
    assert.equal(document.new?.kid, await kid());
    assert.equal(document.offline_ms, 0);
    assert.deepEqual(
      document.steps.map(({ name }) => name),
      ['pre-flight', 'created', 'registered', 'tested', 'switched', 'confirmed', 'live', 'finished'],
    );
    assert.equal((await states())[before], 'retiring');
    assert.equal((await stat(join(store.stateDir, 'credential.prev'))).mode & 0o777, 0o600);
    assert.equal(await whoami('credential.prev'), 200);
    await whole();
    await until(
      async () =>
        (await hq.pool.query<{ kid: string }>('select l.kid from possync.live_links l where l.connected'))
          .rows[0]?.kid === (await kid()),
      { what: 'HQ holds the same connection under the new credential' },
    );
    await until(
      async () =>
        (await hq.pool.query<{ n: number }>('select count(*) as n from public.sales')).rows[0]?.n === sold,
      { what: 'every sale is at HQ' },
    );
    assert.ok(sold > 0);
    assert.equal(downs(), 0, 'the light never turned red');
    assert.deepEqual(refusals(), []);
  });

  it('with --revoke-old-now ends the old one at once, and the light stays green', async () => {
    const before = await kid();
    const old = await readFile(join(store.stateDir, 'credential'), 'utf8');
    await rotate('--revoke-old-now');
    assert.equal((await states())[before], 'revoked');
    assert.equal(await there('credential.prev'), false);
    const copy = 'copy-of-the-old-one';
    await writeFile(join(store.stateDir, copy), old, { mode: 0o600 });
    assert.equal(await whoami(copy), 401);
    await whole();
    assert.equal((await store.link()).indicator, 'green');
    assert.equal(downs(), 0);
  });

  it('is not needed for a credential that does not end soon, and says so with exit 0', async () => {
    const before = await kid();
    assert.equal((await rotate('--if-expires-within', '30d')).result, 'not_needed');
    assert.equal((await rotate('--dry-run')).result, 'dry_run');
    assert.equal(await kid(), before);
    assert.equal((await inStore(['token', 'status'])).code, 0);
    await rotate('--expires-in', '20d');
    assert.equal((await inStore(['token', 'status'])).code, 0);
    const soon = await inStore(['token', 'status', '--warn', '30d', '--json']);
    assert.equal(soon.code, 1);
    assert.equal((JSON.parse(soon.stdout) as { expires_soon: boolean }).expires_soon, true);
    assert.equal((await rotate('--if-expires-within', '30d')).result, 'rotated');
    await whole();
  });

  it('runs once at a time: the second ends with 75 and changes nothing', async () => {
    proxy.delay(300);
    const first = await startPossync(['token', 'rotate', '--json'], { env: env(proxy) });
    await until(() => there('credential.lock'), {
      what: 'the first has the lock',
      everyMs: 2,
      timeoutMs: 30_000,
    });
    const second = await inStore(['token', 'rotate']);
    assert.equal(second.code, 75, second.stderr);
    assert.match(second.stderr, /PS-TOKEN-BUSY/);
    const ended = await first.ended();
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    printed += ended.stdout + ended.stderr;
    await whole();
  });

  it('breaks the lock of a process that is gone', async () => {
    await writeFile(
      join(store.stateDir, 'credential.lock'),
      JSON.stringify({
        pid: process.pid,
        boot: 'another boot',
        started: '1',
        command: 'possync token rotate',
      }),
    );
    assert.equal((await rotate()).result, 'rotated');
    await whole();
  });

  const rotations = async (where: string): Promise<boolean> =>
    (
      await hq.pool.query(
        `select from possync.rotations r join possync.tokens t on t.kid = r.kid where ${where}`,
      )
    ).rowCount === 1;
  const halfway = async (): Promise<boolean> =>
    (await readCredential(store.stateDir))?.rotation !== undefined;
  const phases: readonly (readonly [string, () => Promise<boolean>])[] = [
    ['locked', () => there('credential.lock')],
    ['created', () => there('credential.next')],
    ['registered', () => rotations(`t.state = 'pending'`)],
    ['switched', halfway],
    [
      'confirmed',
      async () =>
        (await halfway()) && (await rotations(`r.kid = '${await kid()}' and r.confirmed_at is not null`)),
    ],
  ];
  for (const [phase, reached] of phases) {
    it(`killed when it has ${phase}, the same command run again ends with one credential that HQ takes`, async () => {
      await noteSecrets();
      // No daemon: what it would do with a half-done rotation, it must not do in the command's place here.
      await store.stop();
      proxy.delay(150);
      const child = await startPossync(['token', 'rotate'], { env: env(proxy) });
      await until(reached, { what: `the rotation has ${phase}`, everyMs: 1, timeoutMs: 30_000 });
      const { signal, stdout, stderr } = await child.kill();
      assert.equal(signal, 'SIGKILL', stdout + stderr);
      proxy.delay(0);
      await noteSecrets();
      assert.equal(await whoami(), 200, 'what is on disk is taken at every moment');
      const again = await rotate();
      assert.ok(again.result === 'rotated' || again.result === 'resumed');
      if (phase !== 'locked') assert.equal(again.result, 'resumed');
      await whole();
      await store.start();
      await store.untilLight('green');
    });
  }

  it('killed after the switch: the daemon alone takes the new credential into use, and HQ confirms it', async () => {
    proxy.delay(150);
    const child = await startPossync(['token', 'rotate'], { env: env(proxy) });
    await until(halfway, { what: 'the rotation has switched', everyMs: 1, timeoutMs: 30_000 });
    await child.kill();
    proxy.delay(0);
    const current = await kid();
    await until(async () => (await states())[current] === 'active', { what: 'HQ confirmed it by its use' });
    assert.equal((await rotate()).result, 'resumed');
    assert.equal(await kid(), current);
    await whole();
  });

  for (const [what, head] of [
    ['the first question', /GET \/api\/v1\/whoami/],
    ['the registration', /POST \/api\/v1\/tokens\/rotations /],
    ['the confirmation', /POST \/api\/v1\/tokens\/rotations\/[0-9a-f-]+\/confirm/],
    ['the end of the old one', /POST \/api\/v1\/tokens\/rotations\/[0-9a-f-]+\/finish/],
  ] as const) {
    it(`with the answer to ${what} lost, the same command run again finishes it`, async () => {
      const dropped = proxy.dropped;
      proxy.dropNextAnswer(head);
      const lost = await inStore(['token', 'rotate', '--revoke-old-now'], proxy);
      assert.equal(proxy.dropped, dropped + 1);
      assert.equal(lost.code, 69, lost.stderr);
      assert.equal(await whoami(), 200);
      const { result } = await rotate('--revoke-old-now');
      assert.ok(result === 'rotated' || result === 'resumed');
      await whole();
      assert.ok(!Object.values(await states()).includes('retiring'));
    });
  }

  it('gives up what HQ waits for and this machine has lost only when told to', async () => {
    await hq.pool.query(
      `insert into possync.tokens (kid, store_id, kind, state, hash)
       values ('LSTLSTLS', $1::integer, 'credential', 'pending', sha256('lost'))`,
      [store.id],
    );
    const refused = await inStore(['token', 'rotate']);
    assert.equal(refused.code, 75);
    assert.match(refused.stderr, /PS-TOKEN-ROTATION/);
    assert.equal((await rotate('--force')).result, 'resumed');
    assert.equal((await states()).LSTLSTLS, 'revoked');
    await whole();
  });

  it('does not begin from a credential that is on its way out', async () => {
    const old = await readFile(join(store.stateDir, 'credential'), 'utf8');
    await rotate();
    const newer = await readFile(join(store.stateDir, 'credential'), 'utf8');
    await store.stop();
    await writeFile(join(store.stateDir, 'credential'), old);
    const refused = await inStore(['token', 'rotate']);
    assert.equal(refused.code, 77, refused.stderr);
    assert.match(refused.stderr, /PS-TOKEN-RETIRING/);
    await writeFile(join(store.stateDir, 'credential'), newer);
    await rotate();
    await store.start();
    await whole();
  });

  it('changes nothing where HQ is away (69), there is no credential (66), or nothing can be saved (73)', async () => {
    const before = await kid();
    const gone = await possync(['token', 'rotate'], { env: { ...env(), SYNC_HQ_URL: 'http://127.0.0.1:9' } });
    assert.equal(gone.code, 69, gone.stderr);
    const none = await possync(['token', 'rotate'], {
      env: { ...env(), POSSYNC_STATE_DIR: join(store.stateDir, 'none') },
    });
    assert.equal(none.code, 66, none.stderr);
    assert.equal((await inStore(['token', 'rotate', '--grace', 'soon'])).code, 64);
    // A directory in the place of the probe: what a full or read-only disk is to a user without root's rights.
    await mkdir(join(store.stateDir, 'credential.probe', 'x'), { recursive: true });
    const known = await states();
    const full = await inStore(['token', 'rotate']);
    await rm(join(store.stateDir, 'credential.probe'), { recursive: true });
    assert.equal(full.code, 73, full.stderr);
    assert.match(full.stderr, /PS-TOKEN-SAVE/);
    assert.deepEqual(await states(), known, 'HQ was asked for nothing');
    assert.equal(await kid(), before);
    await whole();
  });

  it('leaves no secret in any output, log or table', async () => {
    const { rows } = await hq.pool.query<{ text: string }>(
      `select t::text as text from possync.tokens t union all select r::text from possync.rotations r
       union all select a::text from possync.audit a union all select l::text from possync.live_links l`,
    );
    const { rows: local } = await store.pool.query<{ text: string }>(
      'select l::text as text from possync.link l',
    );
    const everything = [
      printed,
      JSON.stringify(hq.log.lines),
      JSON.stringify(store.log.lines),
      ...rows.map(({ text }) => text),
      ...local.map(({ text }) => text),
    ].join('\n');
    assert.ok(secrets.size > 0, `only ${secrets.size} secrets were seen`);
    assert.deepEqual(
      [...secrets].filter((secret) => everything.includes(secret)),
      [],
    );
    assert.ok(everything.includes(await kid()), 'kids are shown');
  });
});
