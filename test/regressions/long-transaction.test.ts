/**
 * long-transaction: replication that follows a sequence skips what a slow transaction took a lower number for and
 * commits later (SymmetricDS gives such a gap up after 20 minutes); one that waits for the oldest transaction holds
 * everybody up. Here a position is given to what is visible: the slow one arrives when it commits, the others at once.
 */
import assert from 'node:assert/strict';
import { queryOne } from '../../src/db/transaction.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { addRegister, insertSale, openSession, sell } from '../support/pos.ts';
import { until } from '../support/until.ts';

describe('long-transaction', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let store: TestStore;

  before(async () => {
    hq = await TestHq.open('long_transaction');
    store = await TestStore.open(hq, 'LONG');
    await store.untilLight('green');
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  const salesAtHq = async (): Promise<string[]> => {
    const { rows } = await hq.pool.query<{ receipt: string }>(
      'select s.receipt_number as receipt from public.sales s order by s.receipt_number',
    );
    return rows.map(({ receipt }) => receipt);
  };
  const rolesInStore = async (): Promise<string[]> => {
    const { rows } = await store.pool.query<{ name: string }>(
      'select r.name from public.roles r order by r.name',
    );
    return rows.map(({ name }) => name);
  };

  it('a till that commits late: later sales do not wait for it, and it is not skipped', async () => {
    const [slow, fast] = [await store.database.connect(), await store.database.connect()];
    const session = await openSession(fast, await addRegister(fast, store.id), store.id);
    await slow.query('begin');
    await insertSale(slow, session, { storeId: store.id, receipt: 'SLOW' });
    const { last } = await queryOne<{ last: number }>(
      slow,
      'select max(r.id) as last from possync.raw r where r.xid = pg_current_xact_id()',
    );
    await sell(fast, session, { storeId: store.id, receipt: 'FAST' });
    await until(async () => (await salesAtHq()).includes('FAST'), { what: 'the fast sale reached HQ' });
    assert.deepEqual(await salesAtHq(), ['FAST']);
    // Negative control: who reads on from the highest number it has seen never looks at the slow one again.
    const { next } = await queryOne<{ next: number }>(
      fast,
      `select nextval(pg_get_serial_sequence('possync.raw', 'id')) as next`,
    );
    assert.ok(last < next, 'the slow transaction holds the lower numbers');
    await slow.query('commit');
    await until(async () => (await salesAtHq()).includes('SLOW'), { what: 'the slow sale reached HQ' });
    assert.deepEqual(await salesAtHq(), ['FAST', 'SLOW']);
  });

  it('a program of HQ that commits late: stores get what is committed, and its change when it commits', async () => {
    const [slow, fast] = [await hq.database.connect(), await hq.database.connect()];
    await slow.query('begin');
    await slow.query(`insert into public.roles (id, name) values (gen_random_uuid(), 'slow')`);
    await fast.query(`insert into public.roles (id, name) values (gen_random_uuid(), 'fast')`);
    await until(async () => (await rolesInStore()).includes('fast'), {
      what: 'the fast change reached the store',
    });
    assert.deepEqual(await rolesInStore(), ['fast']);
    const { head } = await queryOne<{ head: number }>(fast, 'select h.pos as head from possync.head h');
    await slow.query('commit');
    await until(async () => (await rolesInStore()).includes('slow'), {
      what: 'the slow change reached the store',
    });
    const { pos } = await queryOne<{ pos: number }>(
      fast,
      `select f.pos from possync.feed f where f.entity = 'role' and f.doc ->> 'name' = 'slow'`,
    );
    assert.ok(pos > head, 'it was given its position when it could be seen, above the head of that time');
  });
});
