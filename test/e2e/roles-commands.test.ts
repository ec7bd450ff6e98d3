/**
 * Least privilege as an operator sets it up: owner for `init`, and logins with one role each for everything that runs.
 * Every command does its work as that login, and what is none of its business PostgreSQL itself refuses.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { connect } from '../../src/db/pool.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { runPossync, startPossync, type Ended, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

const LONG_MS = 60_000;

/** What none of the programs may do: a break-in through one of them ends at its own rows. */
const NEVER = [
  'drop table public.sales cascade',
  'alter table public.sales disable trigger all',
  'drop schema possync cascade',
  'create function possync.mine() returns int language sql as $$ select 1 $$',
  'create or replace function possync.is_apply() returns boolean language sql as $$ select true $$',
  'create role somebody superuser',
  'select rolpassword from pg_catalog.pg_authid',
  `copy public.stores to program 'cat'`,
  `select pg_catalog.pg_read_file('/etc/passwd')`,
];
/** What a till may not do beside that: it writes what its store sells, and reads the catalogue. */
const NOT_A_TILL = [
  'select body from possync.outbox',
  'update possync.sending set seq = 0',
  'delete from possync.raw',
  'update possync.state set epoch = 7',
  `set local possync.applying = 'on'; insert into public.departments (id, code, name) values (gen_random_uuid(), 'X', 'x')`,
  'update public.products set price = 0',
  'delete from public.users',
];

describe('every command with the rights of its role', function () {
  this.timeout(6 * LONG_MS);
  let dir: string;
  let hqDb: TestDatabase;
  let storeDb: TestDatabase;
  let owners: { hq: pg.Client; store: pg.Client };
  const logins: { owner: pg.Client; name: string }[] = [];
  let hqEnv: Record<string, string>;
  let storeEnv: Record<string, string>;
  let tillUrl: string;
  let server: TestProcess;
  let daemon: TestProcess;

  /** A login that has this role and nothing else. */
  const loginAs = async (database: TestDatabase, owner: pg.Client, role: string): Promise<string> => {
    const name = `only_${role}_${database.name}`.slice(0, 60);
    await owner.query(`create role ${name} login password 'plain' in role ${role}`);
    logins.push({ owner, name });
    const url = new URL(database.url);
    url.username = name;
    url.password = 'plain';
    return url.href;
  };
  const run = (env: Record<string, string>, args: readonly string[], input = ''): Promise<Ended> =>
    runPossync([...args], { cwd: dir, env, input });
  const works = async (env: Record<string, string>, ...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await run(env, args);
    assert.equal(code, 0, `possync ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-roles-'));
    hqDb = await createDatabase('role commands hq');
    storeDb = await createDatabase('role commands store');
    owners = { hq: await hqDb.connect(), store: await storeDb.connect() };
    const shared = { LOG_DIR: dir, POSSYNC_STATUS_LISTEN: 'off', SYNC_PUSH_INTERVAL: '1s' };
    const inStore = { ...shared, POSSYNC_STATE_DIR: join(dir, 'state') };
    await works({ ...shared, DATABASE_URL: hqDb.url }, 'hq', 'init');
    hqEnv = { ...shared, DATABASE_URL: await loginAs(hqDb, owners.hq, 'possync_hq') };
    server = await startPossync(['hq', 'serve', '--port', '0'], { cwd: dir, env: hqEnv });
    const ready = await server.line(/"event":"ready"/, LONG_MS);
    const { url } = JSON.parse(ready) as { url: string };
    await works(hqEnv, 'stores', 'add', 'ROLE-1', '--name', 'Roles', '--time-zone', 'UTC');
    const token = await works(hqEnv, 'token', 'issue', 'ROLE-1', '--hq-url', url);
    const init = await run(
      { ...inStore, DATABASE_URL: storeDb.url },
      ['store', 'init', '--token-file', '-'],
      token,
    );
    assert.equal(init.code, 0, init.stderr);
    storeEnv = { ...inStore, DATABASE_URL: await loginAs(storeDb, owners.store, 'possync_store') };
    tillUrl = await loginAs(storeDb, owners.store, 'possync_pos');
    daemon = await startPossync(['store', 'daemon'], { cwd: dir, env: storeEnv });
    await daemon.line(/"event":"ready"/, LONG_MS);
    await works(hqEnv, 'status', '--wait', 'green', '--timeout', '60');
  });
  after(async () => {
    await daemon.kill();
    await server.kill();
    for (const { owner, name } of logins) await owner.query(`drop owned by ${name}; drop role ${name}`);
    await hqDb.drop();
    await storeDb.drop();
    await rm(dir, { recursive: true, force: true });
  });

  it('a till sells, HQ has it, and each command of either side works', async () => {
    const till = await connect({ url: tillUrl, applicationName: 'possync test till' });
    try {
      const session = await openSession(till, await addRegister(till, 1), 1);
      await sell(till, session, { storeId: 1 });
      await until(async () => (await owners.hq.query('select from public.sales')).rowCount === 1, {
        what: 'the sale is at HQ',
        timeoutMs: LONG_MS,
      });
    } finally {
      await till.end();
    }
    for (const args of [
      ['status', '--wait', 'drained', '--timeout', '60'],
      ['token', 'status'],
      ['token', 'ls'],
      ['token', 'rotate'],
      ['queue', 'ls'],
      ['verify'],
    ])
      await works(storeEnv, ...args);
    for (const args of [
      ['status', '--wait', 'caught-up', '--timeout', '60'],
      ['stores', 'ls'],
      ['token', 'ls'],
      ['token', 'status', 'ROLE-1'],
      ['token', 'rotate', '--all', '--wait', '60s'],
      ['queue', 'ls', '--dead'],
      ['queue', 'retry', 'ROLE-1', '--all'],
      ['verify', 'ROLE-1'],
      ['ledger'],
      ['stores', 'add', 'ROLE-2', '--name', 'Two', '--time-zone', 'UTC'],
      ['stores', 'deactivate', 'ROLE-2'],
      ['token', 'revoke', 'ROLE-1'],
    ])
      await works(hqEnv, ...args);
    assert.equal((await run(storeEnv, ['token', 'status'])).code, 77, 'the store is revoked');
  });

  it('no login can do what is none of its business; its owner can', async () => {
    const may = async (client: pg.Client, statement: string): Promise<string | undefined> => {
      await client.query('begin');
      try {
        await client.query(statement);
        return undefined;
      } catch (error) {
        return (error as { code: string }).code;
      } finally {
        await client.query('rollback');
      }
    };
    for (const [name, url, owner, refused] of [
      ['server', hqEnv.DATABASE_URL, owners.hq, NEVER],
      ['daemon', storeEnv.DATABASE_URL, owners.store, NEVER],
      ['till', tillUrl, owners.store, [...NEVER, ...NOT_A_TILL]],
    ] as const) {
      const login = await connect({ url: url ?? '', applicationName: 'possync test login' });
      try {
        for (const statement of refused)
          assert.equal(await may(login, statement), '42501', `the ${name}: ${statement}`);
      } finally {
        await login.end();
      }
      // The control: it is the right that is missing, not the table or the program.
      for (const statement of NEVER)
        assert.equal(await may(owner, statement), undefined, `the owner: ${statement}`);
    }
    for (const statement of NOT_A_TILL.filter((text) => text.includes('possync.')))
      assert.notEqual(await may(owners.store, statement), '42501', `the owner: ${statement}`);
  });
});
