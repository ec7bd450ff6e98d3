/** Findings about an older state: they end when the store has caught up with itself, or by a command that is audited. */
import assert from 'node:assert/strict';
import { queryOne } from '../../src/db/transaction.ts';
import { listFindings } from '../../src/hq/ledger/findings.ts';
import { possync } from '../support/cli.ts';
import { insertTransfer, moveTransfer, together, voidSale } from '../support/pos.ts';
import { Recovery } from '../support/recovery.ts';

describe('a finding about an older state', function () {
  this.timeout(60_000);
  let r: Recovery;
  let sale: string;
  beforeEach(async () => {
    r = await Recovery.open('older');
    ({ id: sale } = await queryOne<{ id: string }>(
      r.store.db,
      'select id from public.sales order by id limit 1',
    ));
    await voidSale(r.store.db, sale);
    await r.up.drain();
  });
  afterEach(() => r.close());

  /** What is sent again stands in the state that it had in the backup: the void is forgotten. */
  const forget = async (statement: string, id: string): Promise<void> => {
    await r.store.db.query('begin; set local session_replication_role = replica');
    await r.store.db.query(statement, [id]);
    await r.store.db.query('commit');
    await r.store.db.query(`select possync.recapture('2000-01-01')`);
    await r.up.drain();
  };
  const forgetVoid = (): Promise<void> =>
    forget(
      `update public.sales set status = 'completed', voided_at = null, voided_by = null where id = $1::uuid`,
      sale,
    );
  const open = async (): Promise<string[]> =>
    (await listFindings(r.hq.db, {}))
      .filter(({ kind }) => kind === 'older_state')
      .map(({ detail }) => detail);
  const ledger = (...args: string[]): ReturnType<typeof possync> =>
    possync(['ledger', 'S-7', ...args], { env: { DATABASE_URL: r.hq.database.url } });

  it('ends when the record comes in the state that HQ has, and begins again when it is met again', async () => {
    await forgetVoid();
    const [told, ...more] = await open();
    assert.deepEqual(more, []);
    assert.match(
      told ?? '',
      new RegExp(`^sale ${sale} came as completed in entry \\d+, and HQ has it as voided$`),
    );
    await r.sell(1);
    await r.up.drain();
    assert.equal((await open()).length, 1, 'what others bring does not end it');
    const { voided_at: before } = await queryOne<{ voided_at: string }>(
      r.hq.db,
      'select voided_at::text as voided_at from public.sales where id = $1::uuid',
      [sale],
    );
    await r.store.db.query('begin; set local session_replication_role = replica');
    await r.store.db.query(
      `update public.sales set status = 'voided', voided_at = $2::timestamptz,
              voided_by = (select $3::uuid) where id = $1::uuid`,
      [
        sale,
        before,
        (
          await queryOne<{ by: string }>(
            r.hq.db,
            'select voided_by as by from public.sales where id = $1::uuid',
            [sale],
          )
        ).by,
      ],
    );
    await r.store.db.query('commit');
    await r.store.db.query(`select possync.recapture('2000-01-01')`);
    await r.up.drain();
    assert.deepEqual(await open(), []);
    assert.equal(
      (await listFindings(r.hq.db, { closed: true })).filter(({ kind }) => kind === 'older_state').length,
      1,
    );
    await forgetVoid();
    assert.equal((await open()).length, 1);
  });

  it('of a transfer ends when it is shipped again', async () => {
    const transfer = await together(r.store.db, () => insertTransfer(r.store.db));
    await moveTransfer(r.store.db, transfer, 'pending');
    await moveTransfer(r.store.db, transfer, 'in_transit');
    await r.up.drain();
    const { shipped } = await queryOne<{ shipped: string }>(
      r.hq.db,
      'select t.shipped_at::text as shipped from public.transfers t where t.id = $1::uuid',
      [transfer],
    );
    await forget(
      `update public.transfers set status = 'pending', shipped_at = null where id = $1::uuid`,
      transfer,
    );
    assert.match((await open())[0] ?? '', /^transfer .* came as pending .* HQ has it as in_transit$/);
    await r.store.db.query(
      `update public.transfers set status = 'in_transit', shipped_at = $2::timestamptz where id = $1::uuid`,
      [transfer, shipped],
    );
    await r.up.drain();
    assert.deepEqual(await open(), []);
    assert.equal((await r.hq.db.query('select from possync.dead')).rowCount, 0);
  });

  it('ends by a command where the store will never say it: with a reason, in the audit, and no other finding does', async () => {
    await forgetVoid();
    await r.hq.db.query(
      `select possync.note_finding(7, 'z_hole', 'z_report', 'hole', '{"text": "Z 2 has not arrived"}')`,
    );
    assert.equal((await ledger('--close', sale)).code, 64, 'a reason is needed');
    assert.equal((await ledger('--close', 'hole', '--reason', 'r')).code, 64, 'this one ends by itself');
    assert.equal((await open()).length, 1);
    const closed = await ledger('--close', sale, '--reason', 'the store was restored', '--json');
    const { findings } = JSON.parse(closed.stdout) as { findings: { kind: string }[] };
    const kinds = findings.map(({ kind }) => kind);
    assert.deepEqual([kinds.includes('z_hole'), kinds.includes('older_state')], [true, false], closed.stderr);
    const audit = await queryOne<{ action: string; reason: string; key: string }>(
      r.hq.db,
      `select a.action, a.details ->> 'reason' as reason, a.details ->> 'key' as key
         from possync.audit a where a.store_id = 7 and a.action = 'ledger close'`,
    );
    assert.deepEqual(audit, { action: 'ledger close', reason: 'the store was restored', key: sale });
    assert.equal((await ledger('--close', sale, '--reason', 'again')).code, 64);
  });
});
