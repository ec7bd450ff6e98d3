/** The test support itself: what other tests lean on must fail when it should. */
import assert from 'node:assert/strict';
import { connect } from '../../src/db/pool.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { createDatabase, hqDatabase, storeDatabase } from './postgres.ts';

describe('databases for tests', () => {
  it('gives every caller a database of its own', async () => {
    const [one, two] = await Promise.all([createDatabase('own'), createDatabase('own')]);
    const client = await one.connect();
    await client.query('create table only_here ()');
    const other = await two.connect();
    const { found } = await queryOne<{ found: boolean }>(
      other,
      `select to_regclass('only_here') is not null as found`,
    );
    assert.equal(found, false);
    await Promise.all([one.drop(), two.drop()]);
  });

  it('names who left a connection open, and removes the database all the same', async () => {
    const database = await createDatabase('leak');
    const leak = await connect({ url: database.url, applicationName: 'possync leak' });
    await leak.query('select 1');
    await assert.rejects(database.drop(), /were left open by: possync leak \(select 1\)/);
    await assert.rejects(connect({ url: database.url, applicationName: 'possync test' }), {
      code: 'PS-DB-AUTH',
    });
    await leak.end();
  });

  it('clones both sides from a migrated template', async () => {
    const [hq, store] = await Promise.all([hqDatabase('clone'), storeDatabase('clone')]);
    for (const database of [hq, store]) {
      const client = await database.connect();
      const { found } = await queryOne<{ found: boolean }>(
        client,
        `select to_regclass('possync.migrations') is not null as found`,
      );
      assert.equal(found, true);
    }
    await Promise.all([hq.drop(), store.drop()]);
  });

  it('acts with the rights of another role', async () => {
    const database = await createDatabase('rights');
    const client = await database.psqlAs('pg_monitor');
    const { name } = await queryOne<{ name: string }>(client, 'select session_user as name');
    assert.equal(name, 'pg_monitor');
    await assert.rejects(client.query('create table forbidden ()'), { code: '42501' });
    await database.drop();
  });
});
