/**
 * Secrets planted where they belong, and looked for byte by byte everywhere else: logs at the most talkative level, the
 * command line and environment of every process, what commands print, what a crash prints, and both databases.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type pg from 'pg';
import { parseCredential, parseEnrolmentToken } from '../../src/core/secret.ts';
import { connect } from '../../src/db/pool.ts';
import { Authority } from '../support/certificates.ts';
import { clusterUrl, createDatabase, type TestDatabase } from '../support/postgres.ts';
import { runPossync, startNode, startPossync, type Ended, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

type Secrets = Readonly<Record<string, string>>;

/** Every form in which a secret could be written down, base64 at any place of a longer text included. */
function formsOf(secret: string): Buffer[] {
  const bytes = Buffer.from(secret);
  const inside = [0, 1, 2].flatMap((before) => {
    const shifted = Buffer.concat([Buffer.alloc(before), bytes]);
    // The characters at both ends hold bits of what stands beside it.
    const first = before === 0 ? 0 : before + 1;
    return [shifted.toString('base64').slice(first, -4), shifted.toString('base64url').slice(first, -4)];
  });
  return [secret, bytes.toString('hex'), encodeURIComponent(secret), ...inside].map((form) =>
    Buffer.from(form),
  );
}

function foundIn(where: string, content: Buffer | string, secrets: Secrets): string[] {
  const bytes = Buffer.from(content);
  return Object.entries(secrets).flatMap(([what, secret]) =>
    formsOf(secret).some((form) => bytes.includes(form)) ? [`${what} in ${where}`] : [],
  );
}

/** Every value of every table, as text: what pg_dump would write. */
async function dump(db: pg.Client): Promise<Map<string, string>> {
  const { rows } = await db.query<{ name: string }>(
    `select format('%I.%I', table_schema, table_name) as name from information_schema.tables
      where table_schema in ('public', 'possync') and table_type = 'BASE TABLE'`,
  );
  const texts = new Map<string, string>();
  for (const { name } of rows) {
    const all = await db.query<{ text: string }>(`select t::text as text from ${name} t`);
    texts.set(name, all.rows.map(({ text }) => text).join('\n'));
  }
  return texts;
}

describe('secrets', function () {
  this.timeout(400_000);
  let dir: string;
  let authority: Authority;
  let hqDb: TestDatabase;
  let storeDb: TestDatabase;
  let hq: TestProcess;
  let daemon: TestProcess;
  let hqEnv: Record<string, string>;
  let storeEnv: Record<string, string>;
  const outputs = new Map<string, Ended>();
  let secrets: Secrets = {};
  /** What only some may hold, by what it is. */
  let pinHash = '';
  const logins: string[] = [];

  const run = async (
    args: readonly string[],
    env: Record<string, string>,
    input?: string,
  ): Promise<Ended> => {
    const ended = await runPossync(args, { cwd: dir, env, ...(input === undefined ? {} : { input }) });
    outputs.set(`possync ${args.join(' ')}`, ended);
    return ended;
  };
  /** A login with a password of its own: what DATABASE_URL holds. */
  const withPassword = async (database: TestDatabase, password: string): Promise<string> => {
    const admin = await database.connect();
    const login = `canary_${database.name}`.slice(0, 60);
    await admin.query(`create role ${login} superuser login password '${password}'`);
    logins.push(login);
    const url = new URL(database.url);
    url.username = login;
    url.password = password;
    return url.href;
  };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-canary-'));
    authority = await Authority.make();
    const tls = await authority.issue();
    hqDb = await createDatabase('canary hq');
    storeDb = await createDatabase('canary store');
    const password = `pw${randomBytes(18).toString('hex')}`;
    hqEnv = {
      DATABASE_URL: await withPassword(hqDb, password),
      LOG_DIR: join(dir, 'hq'),
      LOG_LEVEL: 'debug',
      SYNC_TLS_CERT_FILE: tls.certFile,
      SYNC_TLS_KEY_FILE: tls.keyFile,
      SYNC_LISTEN_HOST: '127.0.0.1',
      SYNC_LISTEN_PORT: '0',
    };
    assert.equal((await run(['hq', 'init'], hqEnv)).code, 0);
    pinHash = `$argon2id$${randomBytes(24).toString('hex')}`;
    const admin = await hqDb.connect();
    hq = await startPossync(['hq', 'serve'], { cwd: dir, env: hqEnv });
    const { url } = JSON.parse(await hq.line(/"event":"ready"/, 30_000)) as { url: string };
    await run(['stores', 'add', 'C-1', '--name', 'Canary', '--time-zone', 'UTC'], hqEnv);
    await admin.query(
      `with u as (insert into public.users (id, username, display_name, pin_hash)
                  values (gen_random_uuid(), 'ann', 'Ann', $1) returning id),
            r as (insert into public.roles (id, name) values (gen_random_uuid(), 'cashier') returning id)
       insert into public.user_store_roles (id, user_id, role_id, store_id)
       select gen_random_uuid(), u.id, r.id, 1 from u, r`,
      [pinHash],
    );
    const tokenFile = join(dir, 'C-1.token');
    assert.equal((await run(['token', 'issue', 'C-1', '--hq-url', url, '--out', tokenFile], hqEnv)).code, 0);
    const enrolment = (await readFile(tokenFile, 'utf8')).trim();
    storeEnv = {
      DATABASE_URL: await withPassword(storeDb, `${password}store`),
      POSSYNC_STATE_DIR: join(dir, 'state'),
      LOG_DIR: join(dir, 'store'),
      LOG_LEVEL: 'debug',
      POSSYNC_STATUS_LISTEN: 'off',
      SYNC_PUSH_INTERVAL: '1s',
      SYNC_TLS_CA_FILE: authority.caFile,
    };
    assert.equal((await run(['store', 'init', '--token-file', '-'], storeEnv, enrolment)).code, 0);
    const first = await tokenInForce();
    daemon = await startPossync(['store', 'daemon'], { cwd: dir, env: storeEnv });
    await daemon.line(/"event":"ready"/, 30_000);
    await run(['status', '--wait', 'green', '--timeout', '30'], storeEnv);
    secrets = {
      'the enrolment token': enrolment,
      "the enrolment token's secret": parseEnrolmentToken(enrolment).secret.reveal(),
      'the first credential': first,
      "the first credential's secret": parseCredential(first).secret.reveal(),
      'the password of DATABASE_URL': password,
      // One line of it, from where a key of its kind is no longer the same as every other.
      'the TLS key': (await readFile(tls.keyFile, 'utf8')).split('\n')[2] ?? 'no key',
    };
    assert.equal((await run(['token', 'rotate'], storeEnv)).code, 0);
    const second = await tokenInForce();
    secrets = {
      ...secrets,
      'the second credential': second,
      "the second credential's secret": parseCredential(second).secret.reveal(),
    };
  });
  after(async () => {
    await daemon.kill();
    await hq.kill();
    await hqDb.drop();
    await storeDb.drop();
    // Only now: they own what init has made.
    const admin = await connect({ url: await clusterUrl('postgres'), applicationName: 'possync test' });
    for (const login of logins) await admin.query(`drop role ${login}`);
    await admin.end();
    await authority.remove();
    await rm(dir, { recursive: true, force: true });
  });

  const tokenInForce = async (): Promise<string> =>
    (JSON.parse(await readFile(join(dir, 'state', 'credential'), 'utf8')) as { token: string }).token;

  it('the search finds what is there: the credential in its own file', async () => {
    const file = await readFile(join(dir, 'state', 'credential'));
    assert.ok(foundIn('its file', file, secrets).includes('the second credential in its file'));
    const { password } = new URL(storeEnv.DATABASE_URL ?? '');
    const login = { login: password };
    for (const before of ['', 'u', 'u:', 'us:', 'usr:'])
      for (const encoding of ['base64', 'base64url', 'hex', 'utf8'] as const)
        assert.equal(
          foundIn('x', Buffer.from(`${before}${password}@`).toString(encoding), login).length,
          1,
          `${before} ${encoding}`,
        );
    const environment = readFileSync(`/proc/${daemon.pid}/environ`);
    assert.deepEqual(foundIn('it', environment, login), ['login in it'], 'as the user gave it to the daemon');
    assert.equal((await stat(join(dir, 'state', 'credential'))).mode & 0o777, 0o600);
  });

  it('are in no output of any command, with --json and --verbose as well', async () => {
    const both = [
      ['status'],
      ['status', '--json'],
      ['status', '--json', '--verbose'],
      ['config', 'show'],
      ['config', 'show', '--json'],
      ['queue', 'ls', '--json'],
      ['token', 'ls'],
    ];
    for (const args of [
      ...both,
      ['diagnose', '--json'],
      ['diagnose', '--quick', '--verbose'],
      ['token', 'status', '--json'],
    ])
      await run(args, storeEnv);
    for (const args of [
      ...both,
      ['stores', 'ls', '--json'],
      ['stores', 'show', 'C-1', '--json'],
      ['token', 'ls', '--json'],
    ])
      await run(args, hqEnv);
    // Failures talk most: a database that refuses, a token that is damaged, a file that others may read.
    const broken = new URL(storeEnv.DATABASE_URL ?? '');
    broken.pathname = '/no_such_database';
    await run(['status', '--verbose'], { ...storeEnv, DATABASE_URL: broken.href });
    await run(['status', '--json'], { ...storeEnv, DATABASE_URL: `${storeEnv.DATABASE_URL ?? ''}%%%:x` });
    await run(
      ['store', 'init', '--token-file', '-', '--verbose'],
      storeEnv,
      `${secrets['the enrolment token'] ?? ''}x`,
    );
    await run(['store', 'init', '--token', secrets['the enrolment token'] ?? ''], storeEnv);
    const open = join(dir, 'open.token');
    await writeFile(open, secrets['the enrolment token'] ?? '', { mode: 0o644 });
    await run(['store', 'init', '--token-file', open, '--verbose'], storeEnv);
    const found = [...outputs].flatMap(([command, { stdout, stderr }]) =>
      // What the user himself wrote on his command line is his; the program does not repeat it.
      foundIn(`the output of ${command.replace(/pse_\S+/, 'pse_…')}`, stdout + stderr, secrets),
    );
    assert.deepEqual(found, []);
    assert.ok(outputs.size > 20);
  });

  it('are in no support archive, packed or unpacked', async () => {
    const bundle = join(dir, 'bundle.json.gz');
    await run(['diagnose', '--bundle', bundle], storeEnv);
    const packed = await readFile(bundle);
    const text = gunzipSync(packed).toString('utf8');
    assert.match(text, /"manifest"/);
    assert.match(text, /token rotated|rotat/, 'the log of the rotation is in it');
    assert.deepEqual([...foundIn('the file', packed, secrets), ...foundIn('the archive', text, secrets)], []);
  });

  it('are in no log, at the level that says most, and in nothing that the servers print', () => {
    const found: string[] = [];
    for (const side of ['hq', 'store'])
      for (const name of readdirSync(join(dir, side)))
        found.push(...foundIn(`${side}/${name}`, readFileSync(join(dir, side, name)), secrets));
    found.push(...foundIn('what hq serve printed', hq.stdout + hq.stderr, secrets));
    found.push(...foundIn('what store daemon printed', daemon.stdout + daemon.stderr, secrets));
    assert.deepEqual(found, []);
  });

  it('are in no command line, and in the environment only where the user has put them', () => {
    const found: string[] = [];
    for (const { pid } of [hq, daemon]) {
      for (const task of childrenOf(pid)) {
        found.push(...foundIn(`the command line of ${task}`, readFileSync(`/proc/${task}/cmdline`), secrets));
        // DATABASE_URL is how an administrator hands the password over; nothing else may carry it.
        const environment = readFileSync(`/proc/${task}/environ`, 'latin1')
          .split('\0')
          .filter((line) => !line.startsWith('DATABASE_URL='));
        found.push(...foundIn(`the environment of ${task}`, environment.join('\n'), secrets));
      }
    }
    assert.deepEqual(found, []);
  });

  it('are in no table of either database, and the hash of a PIN only in the store where its user has a role', async () => {
    const found: string[] = [];
    const pins: string[] = [];
    for (const [side, database] of [
      ['HQ', hqDb],
      ['store', storeDb],
    ] as const) {
      const client = await database.connect();
      if (side === 'store')
        await until(async () => (await client.query('select from public.users')).rowCount === 1, {
          what: 'the user is in the store',
        });
      for (const [table, text] of await dump(client)) {
        found.push(...foundIn(`${side}: ${table}`, text, secrets));
        if (text.includes(pinHash)) pins.push(`${side}: ${table}`);
      }
      // A statement with a value in its text would be in the server's log and here.
      const { rows } = await client.query<{ query: string }>(
        // The test's own connections have made the logins.
        `select query from pg_stat_activity where application_name <> 'possync test'`,
      );
      found.push(...foundIn(`${side}: statements`, rows.map(({ query }) => query).join('\n'), secrets));
    }
    assert.deepEqual(found, []);
    assert.deepEqual(pins.sort(), ['HQ: possync.feed', 'HQ: public.users', 'store: public.users']);
  });

  it('are not printed by a crash, whatever the error holds', async () => {
    const script = join(dir, 'crash.mts');
    const secret = new URL('../../src/core/secret.ts', import.meta.url).pathname;
    const output = new URL('../../src/core/log-output.ts', import.meta.url).pathname;
    await writeFile(
      script,
      `import { inspect, format } from 'node:util';
       import { readFileSync } from 'node:fs';
       import { parseCredential, Secret } from ${JSON.stringify(secret)};
       import { jsonLine } from ${JSON.stringify(output)};
       const text = readFileSync(0, 'utf8');
       const whole = new Secret(text, 'kid');
       const parsed = parseCredential(text);
       console.log(String(whole), \`\${whole}\`, whole + '', JSON.stringify({ whole, parsed }), inspect(parsed, { depth: 9, showHidden: true }));
       console.log(format('%s %o %O %j %d', whole, whole, whole, whole, whole), Object.values(whole), JSON.stringify(structuredClone({ ...whole })));
       console.log(jsonLine('error', 'x ' + text, { err: new Error('with ' + text), whole, deep: { token: text } }));
       const error = new Error('boom', { cause: { parsed, whole } });
       throw Object.assign(error, { whole, parsed });`,
    );
    const credential = await tokenInForce();
    const child = await startNode(['--import', 'tsx', script], { input: credential, cwd: process.cwd() });
    const { code, stdout, stderr } = await child.ended();
    assert.equal(code, 1);
    assert.match(stderr, /boom/);
    assert.deepEqual(
      foundIn('the crash', stdout + stderr, {
        credential,
        secret: parseCredential(credential).secret.reveal(),
      }),
      [],
    );
  });
});

/** A process and whatever it has started. */
function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  const children = text === '' ? [] : text.split(' ').map(Number);
  return [pid, ...children.flatMap(childrenOf)];
}
