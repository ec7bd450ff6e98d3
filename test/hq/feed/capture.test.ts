/** What marks a record as changed: every kind of statement, and nothing that was taken back. */
import assert from 'node:assert/strict';
import { installTriggers } from '../../../src/db/capture.ts';
import { openHq, type TestSide } from '../../support/pos.ts';

const ID = '00000000-0000-7000-8000-000000000001';
const OTHER = '00000000-0000-7000-8000-000000000002';

describe('capture at HQ', () => {
  let hq: TestSide;

  before(async () => {
    hq = await openHq('capture');
  });
  after(() => hq.close());

  beforeEach(async () => {
    await hq.db
      .query(`delete from public.user_store_roles; delete from public.users; delete from public.role_permissions;
      delete from public.roles; delete from public.store_prices; delete from public.products; delete from public.departments;
      delete from possync.capture`);
  });

  const marked = async (): Promise<string[]> => {
    const { rows } = await hq.db.query<{ mark: string }>(
      `select distinct c.entity || ' ' || c.pk as mark from possync.capture c order by 1`,
    );
    return rows.map((row) => row.mark);
  };
  const forget = (): Promise<unknown> => hq.db.query('delete from possync.capture');

  it('notes inserted, updated and deleted rows by their key', async () => {
    await hq.db.query(`insert into public.departments (id, code, name) values ($1, 'D', 'd')`, [ID]);
    assert.deepEqual(await marked(), [`department ["${ID}"]`]);
    await forget();
    await hq.db.query(`update public.departments set name = 'e'`);
    assert.deepEqual(await marked(), [`department ["${ID}"]`]);
    await forget();
    await hq.db.query('delete from public.departments');
    assert.deepEqual(await marked(), [`department ["${ID}"]`]);
  });

  it('notes both keys of a row whose key changes', async () => {
    await hq.db.query(`insert into public.departments (id, code, name) values ($1, 'D', 'd')`, [ID]);
    await forget();
    await hq.db.query('update public.departments set id = $1', [OTHER]);
    assert.deepEqual(await marked(), [`department ["${ID}"]`, `department ["${OTHER}"]`]);
  });

  it('notes what MERGE and ON CONFLICT do', async () => {
    await hq.db.query(`insert into public.departments (id, code, name) values ($1, 'D', 'd')`, [ID]);
    await forget();
    await hq.db.query(
      `insert into public.departments (id, code, name) values ($1, 'D', 'x') on conflict (id) do update set name = 'y'`,
      [ID],
    );
    assert.deepEqual(await marked(), [`department ["${ID}"]`]);
    await forget();
    await hq.db.query(
      `merge into public.departments d using (values ($1::uuid), ($2::uuid)) v (id) on v.id = d.id
         when matched then delete
         when not matched then insert (id, code, name) values (v.id, 'E', 'e')`,
      [ID, OTHER],
    );
    assert.deepEqual(await marked(), [`department ["${ID}"]`, `department ["${OTHER}"]`]);
  });

  it('forgets what a savepoint or a transaction takes back', async () => {
    await hq.db.query('begin');
    await hq.db.query('savepoint s');
    await hq.db.query(`insert into public.departments (id, code, name) values ($1, 'D', 'd')`, [ID]);
    await hq.db.query('rollback to savepoint s');
    await hq.db.query(`insert into public.departments (id, code, name) values ($1, 'E', 'e')`, [OTHER]);
    await hq.db.query('commit');
    await hq.db.query('begin');
    await hq.db.query('delete from public.departments');
    await hq.db.query('rollback');
    assert.deepEqual(await marked(), [`department ["${OTHER}"]`]);
  });

  it('marks the parent for a child, and every record whose audience may change', async () => {
    await hq.db.query(`insert into public.roles (id, name) values ($1, 'cashier')`, [ID]);
    await hq.db.query(
      `insert into public.users (id, username, display_name, pin_hash) values ($1, 'anna', 'Anna', '')`,
      [OTHER],
    );
    await forget();
    await hq.db.query(
      `insert into public.role_permissions (role_id, permission) values ($1, 'pos:void_sale')`,
      [ID],
    );
    assert.deepEqual(await marked(), [`role ["${ID}"]`]);
    await forget();
    await hq.db.query('insert into public.user_store_roles (id, user_id, role_id) values ($1, $2, $1)', [
      ID,
      OTHER,
    ]);
    assert.deepEqual(await marked(), [`user ["${OTHER}"]`, `user_role ["${ID}"]`]);
  });

  it('writes keys of several columns as one JSON array, whatever text is in them', async () => {
    await hq.db.query(`insert into public.products (id, sku, name, price) values ($1, 'S', 's', 1)`, [ID]);
    await forget();
    await hq.db.query('insert into public.store_prices (store_id, product_id, price) values (7, $1, 1)', [
      ID,
    ]);
    assert.deepEqual(await marked(), [`store_price ["7","${ID}"]`]);
  });

  it('notes what ON DELETE CASCADE removes', async () => {
    await hq.db.query(`create table public.cascade_parent (id uuid primary key);
      alter table public.departments add column owner uuid references public.cascade_parent on delete cascade;
      insert into public.cascade_parent values ('${ID}');
      insert into public.departments (id, code, name, owner) values ('${OTHER}', 'D', 'd', '${ID}')`);
    await forget();
    await hq.db.query('delete from public.cascade_parent');
    assert.deepEqual(await marked(), [`department ["${OTHER}"]`]);
    await hq.db.query('alter table public.departments drop column owner; drop table public.cascade_parent');
  });

  it('is not confused by columns named like the aliases of its functions', async () => {
    await hq.db.query(
      'alter table public.departments add column n integer, add column o integer, add column r integer',
    );
    await hq.db.query(
      `insert into public.departments (id, code, name, n, o, r) values ($1, 'D', 'd', 1, 2, 3)`,
      [ID],
    );
    assert.deepEqual(await marked(), [`department ["${ID}"]`]);
    await hq.db.query('alter table public.departments drop column n, drop column o, drop column r');
  });

  it('refuses TRUNCATE, which shows no rows', async () => {
    await assert.rejects(hq.db.query('truncate public.store_prices'), { code: 'PS006' });
  });

  it('needs no right of the program that writes on anything of possync', async () => {
    const program = await hq.database.psqlAs('possync_pos');
    await hq.db.query('grant insert on public.departments to possync_pos');
    await program.query(`insert into public.departments (id, code, name) values ($1, 'D', 'd')`, [ID]);
    assert.deepEqual(await marked(), [`department ["${ID}"]`]);
    await assert.rejects(program.query('select from possync.capture'), { code: '42501' });
  });

  it('is put back by installTriggers when somebody has dropped or disabled a trigger', async () => {
    await hq.db.query(`drop trigger possync_feed_insert on public.departments;
      alter table public.departments disable trigger possync_feed_update`);
    await installTriggers(hq.db, 'hq');
    await hq.db.query(`insert into public.departments (id, code, name) values ($1, 'D', 'd')`, [ID]);
    assert.deepEqual(await marked(), [`department ["${ID}"]`]);
    await forget();
    await hq.db.query(`update public.departments set name = 'e'`);
    assert.deepEqual(await marked(), [`department ["${ID}"]`]);
  });
});
