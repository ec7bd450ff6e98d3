/** Transfers through all their states between two stores and HQ, and everything that HQ refuses of them. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { uuidv7 } from '../../src/core/ids.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { listDead } from '../../src/hq/inbox/dead.ts';
import {
  insertReceipt,
  insertTransfer,
  moveTransfer,
  openHq,
  openStore,
  together,
  type TestSide,
} from '../support/pos.ts';
import { differences, Up } from '../support/up.ts';

describe('transfers on the way up', () => {
  let hq: TestSide;
  let source: TestSide;
  let destination: TestSide;
  let sourceUp: Up;
  let destinationUp: Up;
  beforeEach(async () => {
    [hq, source, destination] = await Promise.all([
      openHq('transfers', [7, 8, 9]),
      openStore('transfers_7', 7),
      openStore('transfers_8', 8),
    ]);
    sourceUp = new Up(source, hq, 7);
    destinationUp = new Up(destination, hq, 8);
  });
  afterEach(async () => {
    for (const side of [hq, source, destination]) await side.close();
  });

  const statusAtHq = async (id: string): Promise<string | undefined> => {
    const { rows } = await hq.db.query<{ status: string }>(
      'select status from public.transfers where id = $1::uuid',
      [id],
    );
    return rows[0]?.status;
  };
  const receipts = async (): Promise<{ store_id: number; lines: number }[]> =>
    (
      await hq.db.query<{ store_id: number; lines: number }>(
        `select r.store_id, count(l.line_no) as lines from public.transfer_receipts r
           left join public.transfer_receipt_lines l on l.transfer_id = r.transfer_id group by r.transfer_id`,
      )
    ).rows;
  const deadOf = async (storeId: number): Promise<(string | null)[]> =>
    (await listDead(hq.pool, storeId)).map(({ sqlstate }) => sqlstate);
  /** What an apply would have brought to a store. */
  const bring = async (side: TestSide, id: string, status: string): Promise<void> => {
    const { rows } = await hq.db.query<Record<string, unknown>>(
      `select row_to_json(t)::text as header,
              (select json_agg(l)::text from public.transfer_lines l where l.transfer_id = t.id) as lines
         from public.transfers t where t.id = $1::uuid`,
      [id],
    );
    const [row] = rows;
    await forced(side.db, async () => {
      await side.db.query(`set local possync.applying = 'on'`);
      await side.db.query('delete from public.transfer_lines where transfer_id = $1::uuid', [id]);
      await side.db.query('delete from public.transfers where id = $1::uuid', [id]);
      await side.db.query(
        `insert into public.transfers (id, number, from_store_id, to_store_id, status, created_by)
         select x.id, x.number, x.from_store_id, x.to_store_id, $2::text, x.created_by
           from json_populate_record(null::public.transfers, $1::json) x`,
        [row?.header, status],
      );
      await side.db.query(
        `insert into public.transfer_lines (transfer_id, line_no, product_id, quantity)
         select x.transfer_id, x.line_no, x.product_id, x.quantity
           from json_populate_recordset(null::public.transfer_lines, $1::json) x`,
        [row?.lines],
      );
    });
  };
  const forced = async (db: pg.Client, work: () => Promise<unknown>): Promise<void> => {
    await together(db, work);
  };
  /** Rows captured as a store without our triggers (or a forger) would send them. */
  const forge = async (up: Up, side: TestSide, tbl: string, doc: Record<string, unknown>): Promise<void> => {
    await side.db.query(
      `insert into possync.raw (type, tbl, op, pk, root, high, doc)
       values ('forged', $1::text, 'I', $2::text, $2::text, true, $3::text)`,
      [tbl, String(doc.id ?? doc.transfer_id), JSON.stringify(doc)],
    );
    await up.drain();
  };
  const header = (id: string, changes: Record<string, unknown>): Promise<Record<string, unknown>> =>
    hq.db
      .query<{ doc: string }>(
        `select (to_jsonb(t) - 'received_at')::text as doc from public.transfers t where id = $1::uuid`,
        [id],
      )
      .then(({ rows }) => ({ ...(JSON.parse(rows[0]?.doc ?? '{}') as Record<string, unknown>), ...changes }));

  it('draft, pending, in transit, received: each step reaches HQ, nothing before the submission', async () => {
    const id = await together(source.db, () => insertTransfer(source.db, { lines: 3 }));
    await sourceUp.drain();
    assert.equal(await statusAtHq(id), undefined);
    await moveTransfer(source.db, id, 'pending');
    await sourceUp.drain();
    assert.equal(await statusAtHq(id), 'pending');
    await moveTransfer(source.db, id, 'in_transit');
    await sourceUp.drain();
    assert.equal(await statusAtHq(id), 'in_transit');
    await bring(destination, id, 'in_transit');
    await together(destination.db, () => insertReceipt(destination.db, id, 3));
    await destinationUp.drain();
    assert.deepEqual(await receipts(), [{ store_id: 8, lines: 3 }]);
    assert.deepEqual(await differences(hq, source, 7), []);
    assert.deepEqual(await differences(hq, destination, 8), []);
    assert.deepEqual(await listDead(hq.pool), []);
  });

  it('several steps in one batch, and one cancelled while pending', async () => {
    const shipped = await insertTransfer(source.db, { status: 'draft' });
    const cancelled = await insertTransfer(source.db, { status: 'draft' });
    await moveTransfer(source.db, shipped, 'pending');
    await moveTransfer(source.db, cancelled, 'pending');
    await moveTransfer(source.db, shipped, 'in_transit');
    await moveTransfer(source.db, cancelled, 'cancelled');
    await sourceUp.drain();
    assert.deepEqual([await statusAtHq(shipped), await statusAtHq(cancelled)], ['in_transit', 'cancelled']);
    assert.deepEqual(await differences(hq, source, 7), []);
  });

  it('a receipt that comes before its transfer waits at HQ, and is applied when the shipped record comes', async () => {
    const id = await insertTransfer(source.db);
    await moveTransfer(source.db, id, 'pending');
    await sourceUp.drain();
    await moveTransfer(source.db, id, 'in_transit'); // still offline
    await bring(destination, id, 'in_transit'); // carried over by hand, as after a restore of HQ
    await together(destination.db, () => insertReceipt(destination.db, id));
    await destinationUp.drain();
    assert.deepEqual(await deadOf(8), ['PS409']);
    assert.deepEqual(await receipts(), []);
    await sourceUp.drain();
    assert.deepEqual(await deadOf(8), []);
    assert.deepEqual(await receipts(), [{ store_id: 8, lines: 2 }]);
    assert.deepEqual(await differences(hq, destination, 8), []);
  });

  it('refuses forged and late writes; the same again is a no-op', async () => {
    const pending = await insertTransfer(source.db);
    const shipped = await insertTransfer(source.db);
    for (const id of [pending, shipped]) await moveTransfer(source.db, id, 'pending');
    await moveTransfer(source.db, shipped, 'in_transit');
    await sourceUp.drain();
    const before = await queryOne<{ all: string }>(
      hq.db,
      `select string_agg(t::text, '|' order by t.id) as all from public.transfers t`,
    );

    // By the destination: a foreign source, then the take-over of another store's id.
    await forge(destinationUp, destination, 'transfers', await header(shipped, { id: uuidv7() }));
    await forge(
      destinationUp,
      destination,
      'transfers',
      await header(pending, { from_store_id: 8, to_store_id: 9 }),
    );
    // A line for somebody else's transfer; a receipt before it is in transit.
    await forge(destinationUp, destination, 'transfer_lines', {
      transfer_id: shipped,
      line_no: 9,
      product_id: uuidv7(),
      quantity: 1,
    });
    await forge(destinationUp, destination, 'transfer_receipts', {
      transfer_id: pending,
      received_by: uuidv7(),
      received_at: '2026-11-20T00:00:00Z',
    });
    assert.deepEqual(await deadOf(8), ['PS403', 'PS403', 'PS403', 'PS409']);

    // By the source: a receipt of its own transfer, changes after shipping, a line too many, a draft.
    await forge(sourceUp, source, 'transfer_receipts', {
      transfer_id: shipped,
      received_by: uuidv7(),
      received_at: '2026-11-20T00:00:00Z',
    });
    await forge(sourceUp, source, 'transfers', await header(shipped, { status: 'cancelled' }));
    const late = await insertTransfer(source.db, { status: 'draft' });
    await forge(sourceUp, source, 'transfers', await header(shipped, { id: late, status: 'draft' }));
    assert.deepEqual(await deadOf(7), ['PS403', 'PS411', 'PS411']);
    await hq.db.query('delete from possync.dead');
    await forge(sourceUp, source, 'transfers', await header(shipped, { to_store_id: 9 }));
    await hq.db.query('delete from possync.dead');
    await forge(sourceUp, source, 'transfer_lines', {
      transfer_id: shipped,
      line_no: 9,
      product_id: uuidv7(),
      quantity: 1,
    });
    assert.deepEqual(await deadOf(7), ['PS410']);
    await hq.db.query('delete from possync.dead');

    // Replays: equal content is nothing, an older state is a finding.
    await forge(sourceUp, source, 'transfers', await header(shipped, {}));
    await forge(sourceUp, source, 'transfers', await header(shipped, { status: 'pending' }));
    assert.deepEqual(await deadOf(7), []);
    const { kind } = await queryOne<{ kind: string }>(hq.db, 'select kind from possync.findings');
    assert.equal(kind, 'older_state');

    const after = await queryOne<{ all: string }>(
      hq.db,
      `select string_agg(t::text, '|' order by t.id) as all from public.transfers t`,
    );
    assert.equal(after.all, before.all);
    assert.deepEqual(await receipts(), []);
  });

  it('a receipt of a cancelled transfer is refused for good', async () => {
    const id = await insertTransfer(source.db);
    await moveTransfer(source.db, id, 'cancelled');
    await sourceUp.drain();
    await forge(destinationUp, destination, 'transfer_receipts', {
      transfer_id: id,
      received_by: uuidv7(),
      received_at: '2026-11-20T00:00:00Z',
    });
    assert.deepEqual(await deadOf(8), ['PS411']);
  });
});
