/** One writer for every table, whoever is logged in; and the roles that make it so. */
import assert from 'node:assert/strict';
import { installTriggers } from '../../src/db/capture.ts';
import { migrate } from '../../src/db/migrations.ts';
import { connect } from '../../src/db/pool.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { createDatabase, hqDatabase, storeDatabase } from '../support/postgres.ts';

const APPLYING = `set possync.applying = 'on'`;
const INSERT = `insert into public.departments (id, code, name) values (gen_random_uuid(), 'X', 'x')`;
const SESSION = `insert into public.register_sessions (store_id, id, register_id, user_id, status, opened_at)
  values (1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'open', now())`;

describe('guards', () => {
  it('in a store refuse every kind of write to what HQ owns, even to a superuser who forgot', async () => {
    const store = await storeDatabase('guards');
    const db = await store.connect();
    for (const statement of [
      INSERT,
      `update public.departments set name = 'y'`,
      'delete from public.departments',
      'truncate public.role_permissions',
      `copy public.departments from program 'true'`,
    ]) {
      await assert.rejects(db.query(statement), { code: 'PS002' }, statement);
    }
    await db.query(`begin; set local possync.applying = 'on'`);
    await db.query(INSERT);
    await db.query('rollback');
    await store.drop();
  });

  it('in a store leave a till the right to read, and none to write', async () => {
    const store = await storeDatabase('guards till');
    const till = await store.psqlAs('possync_pos');
    await till.query('select id from public.products');
    await assert.rejects(till.query(INSERT), { code: '42501' });
    await till.query(
      `insert into public.registers (id, store_id, code, name) values (gen_random_uuid(), 1, 'R', 'r')`,
    );
    await store.drop();
  });

  it('believe the setting only from a member of possync_apply: not from the owner of the tables', async () => {
    const store = await storeDatabase('guards owner');
    const db = await store.connect();
    await db.query('alter table public.departments owner to possync_owner');
    const owner = await store.psqlAs('possync_owner');
    await owner.query(APPLYING);
    await assert.rejects(owner.query(INSERT), { code: 'PS002' });
    const daemon = await store.psqlAs('possync_store');
    await assert.rejects(daemon.query(INSERT), { code: 'PS002' });
    await daemon.query(APPLYING);
    await daemon.query(INSERT);
    await store.drop();
  });

  it('negative control: a guard that believes the setting alone lets the owner through', async () => {
    const store = await storeDatabase('guards naive');
    const db = await store.connect();
    await db.query(`alter table public.departments owner to possync_owner;
      create or replace function possync.is_apply() returns boolean language sql as
        $$ select current_setting('possync.applying', true) = 'on' $$`);
    const owner = await store.psqlAs('possync_owner');
    await owner.query(APPLYING);
    await owner.query(INSERT);
    await store.drop();
  });

  it('at HQ refuse writes to what stores own, and let the catalogue be written', async () => {
    const hq = await hqDatabase('guards hq');
    const db = await hq.connect();
    await assert.rejects(db.query(SESSION), { code: 'PS002' });
    await assert.rejects(db.query('truncate public.sales'), { code: 'PS002' });
    await db.query(INSERT);
    const server = await hq.psqlAs('possync_hq');
    await server.query(APPLYING);
    await server.query(SESSION);
    await server.query('reset possync.applying');
    await server.query(
      'begin isolation level repeatable read; lock table possync.seal_lock in exclusive mode nowait; select possync.seal(); commit',
    );
    await hq.drop();
  });
});

describe('roles', () => {
  it('are created once when several databases of one cluster are initialised together', async () => {
    const databases = [];
    for (let n = 0; n < 4; n += 1) databases.push(await createDatabase('roles'));
    await Promise.all(
      databases.map(({ url }) => migrate('store', url, (db) => installTriggers(db, 'store'))),
    );
    const db = await databases[0]?.connect();
    const { n } = await queryOne<{ n: number }>(
      db ?? assert.fail(),
      `select count(*) as n from pg_roles where rolname in
         ('possync_owner', 'possync_hq', 'possync_store', 'possync_pos', 'possync_apply')`,
    );
    assert.equal(n, 5);
    for (const database of databases) await database.drop();
  });

  it('are done without where the owner of the database may not create any: the owner applies', async () => {
    const database = await createDatabase('roles none');
    const admin = await database.connect();
    const login = `plain_${database.name}`;
    await admin.query(`create role ${login} login password 'plain'`);
    await admin.query(
      `alter database ${database.name} owner to ${login}; alter schema public owner to ${login}`,
    );
    const url = new URL(database.url);
    url.username = login;
    url.password = 'plain';
    await migrate('store', url.href, (db) => installTriggers(db, 'store'));
    const owner = await connect({ url: url.href, applicationName: 'possync test' });
    await assert.rejects(owner.query(INSERT), { code: 'PS002' });
    await owner.query(APPLYING);
    await owner.query(INSERT);
    await owner.end();
    await admin.query(`reassign owned by ${login} to current_user; drop owned by ${login}`);
    await admin.query(`alter database ${database.name} owner to current_user`);
    await admin.query(`drop role ${login}`);
    await database.drop();
  });
});
