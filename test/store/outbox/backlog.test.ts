/** What a step of sending reads while much is waiting: by what it moves, never by what is left. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { createPool } from '../../../src/db/pool.ts';
import { queryOne, withTransaction } from '../../../src/db/transaction.ts';
import { Outbox } from '../../../src/store/outbox/outbox.ts';
import { settle } from '../../../src/store/outbox/position.ts';
import { openStore, type TestSide } from '../../support/pos.ts';

const ENTRIES = 20_000;
/** Acknowledged before the test begins, and kept. */
const ACKED = 10_000;
const BATCH = 100;

describe('sending from a long queue', () => {
  let store: TestSide;
  let one: pg.Pool;
  before(async () => {
    store = await openStore('backlog');
    one = createPool({ url: store.database.url, applicationName: 'possync test', max: 1 });
    await store.db.query(
      `insert into possync.outbox (epoch, seq, v, body, chain, high, captured_at, type, key, records, rows, bytes, types)
       select 1, n, 2, repeat('x', 600), sha256(n::text::bytea), n % 10 = 0, now(), 'sale', n::text, 1, 8, 600, '{"sale":1}'
         from generate_series(1, $1::int) n`,
      [ENTRIES],
    );
    await store.db.query(
      `update possync.state set seq = $1::bigint, chain = (select o.chain from possync.outbox o where o.seq = $1::bigint)`,
      [ENTRIES],
    );
    await store.db.query(
      `update possync.sending set epoch = 1, seq = $1::bigint, chain = (select o.chain from possync.outbox o where o.seq = $1::bigint)`,
      [ACKED],
    );
    await store.db.query('vacuum analyze possync.outbox');
  });
  after(async () => {
    await one.end();
    await store.close();
  });

  /** Rows of the outbox that the work reads, by whatever plan; it has the only connection of this pool. */
  async function rowsRead(work: () => Promise<void>): Promise<number> {
    const total = async (): Promise<number> => {
      await one.query('select pg_stat_force_next_flush()');
      const { n } = await queryOne<{ n: number }>(
        store.db,
        `select seq_tup_read + coalesce(idx_tup_fetch, 0) as n from pg_stat_user_tables
          where schemaname = 'possync' and relname = 'outbox'`,
      );
      return n;
    };
    const before = await total();
    await work();
    return (await total()) - before;
  }

  async function acknowledgeUpTo(seq: number): Promise<number> {
    const { chain } = await queryOne<{ chain: string }>(
      store.db,
      `select encode(o.chain, 'hex') as chain from possync.outbox o where o.epoch = 1 and o.seq = $1::bigint`,
      [seq],
    );
    return rowsRead(async () => {
      const settled = await withTransaction(one, (tx) => settle(tx, { epoch: 1, seq, chain }));
      assert.equal(settled.result, 'agreed');
    });
  }

  const tally = async (what: string): Promise<number> =>
    (
      await queryOne<{ n: number }>(
        store.db,
        `select coalesce(sum(t.n), 0)::int as n from possync.tally t where t.side = 'acked' and t.what = $1::text`,
        [what],
      )
    ).n;

  it('an acknowledgement reads the entries that it passes, and counts them', async () => {
    const rows = await acknowledgeUpTo(ACKED + BATCH);
    assert.ok(rows <= 2 * BATCH, `${rows} rows were read to acknowledge ${BATCH}`);
    assert.deepEqual([await tally('#entries'), await tally('#high'), await tally('sale')], [100, 10, 100]);
  });

  it('the way back, when HQ was restored, counts what lies between', async () => {
    await acknowledgeUpTo(ACKED);
    assert.deepEqual([await tally('#entries'), await tally('#high'), await tally('sale')], [0, 0, 0]);
  });

  it('the next batch is read without the rest of the queue', async () => {
    const rows = await rowsRead(async () => {
      const batch = await new Outbox(one).nextBatch({ transactions: BATCH });
      assert.equal(batch?.txs.length, BATCH);
    });
    assert.ok(rows <= 2 * BATCH, `${rows} rows were read for a batch of ${BATCH}`);
  });

  it('the look for what is urgent, once a second, passes over what was acknowledged', async () => {
    await store.db.query('update possync.outbox set high = false where seq > $1::bigint', [ACKED]);
    await store.db.query('vacuum analyze possync.outbox');
    const rows = await rowsRead(async () => {
      assert.equal(await new Outbox(one).hasUrgent(), false);
    });
    assert.ok(rows <= 10, `${rows} rows were read`);
  });
});
