/** The one function behind `possync status` at HQ, on a real database: lights, words, reasons, counts. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { uuidv7 } from '../../src/core/ids.ts';
import { sealInTurn } from '../../src/hq/feed/seal.ts';
import { isGreen, readHqStatus } from '../../src/hq/status.ts';
import type { HqStoreView } from '../../src/protocol/status.ts';
import { openHq, type TestSide } from '../support/pos.ts';

interface LinkFacts {
  readonly connected?: boolean;
  /** Ages, as PostgreSQL intervals. */
  readonly written?: string;
  readonly frame?: string;
  readonly since?: string;
  readonly closeCode?: number;
  /** What status says of it. */
  readonly message?: RegExp;
  readonly closeReason?: string;
  readonly stat?: object;
}

describe('the status of HQ', () => {
  let hq: TestSide;
  let db: pg.Client;

  before(async () => {
    hq = await openHq('hq status', []);
    db = hq.db;
  });
  after(async () => {
    await hq.close();
  });

  let next = 0;
  /** A store that was enrolled long ago, so that nothing excuses its silence. */
  async function store(
    facts: { activated?: string | null; credential?: boolean; zone?: string } = {},
  ): Promise<number> {
    next += 1;
    const { activated = '1 day', credential = true, zone = 'UTC' } = facts;
    await db.query(`insert into public.stores (id, code, name, time_zone) values ($1, $2, $2, $3)`, [
      next,
      `ST-${next}`,
      zone,
    ]);
    if (activated !== null)
      await db.query('insert into possync.store_status values ($1, now() - $2::interval)', [next, activated]);
    if (credential && activated !== null)
      await db.query(
        `insert into possync.tokens (kid, store_id, kind, state, hash) values ($1, $2, 'credential', 'active', sha256('x'))`,
        [`K${next}KKKKKK`, next],
      );
    return next;
  }

  async function link(id: number, facts: LinkFacts): Promise<void> {
    const { connected = true, written = '1 second', frame = '2 seconds', since = '1 hour' } = facts;
    await db.query(
      `insert into possync.live_links (store_id, server, connection, daemon, kid, remote, software, connected, since,
              last_frame_at, rtt_ms, close_code, close_reason, stat, stat_at, written_at)
       values ($1, $2, $2, $2, 'K', '::1', 'possync 1.2.3', $3, now() - $4::interval, now() - $5::interval, 12, $6, $7,
               $8, case when $8::jsonb is null then null else now() - $9::interval end, now() - $9::interval)`,
      [
        id,
        randomUUID(),
        connected,
        since,
        frame,
        facts.closeCode ?? null,
        facts.closeReason ?? null,
        facts.stat === undefined ? null : JSON.stringify(facts.stat),
        written,
      ],
    );
  }

  async function view(id: number): Promise<HqStoreView> {
    const { stores } = await readHqStatus(hq.pool, { storeId: id });
    return stores[0] ?? assert.fail('no such store');
  }

  for (const [title, facts, light, code] of [
    ['green with a fresh row and a fresh frame', {}, 'green', undefined],
    [
      'green though the frame was old when read, but not when written',
      { written: '6 seconds', frame: '12 seconds' },
      'green',
      undefined,
    ],
    [
      'red when its server has not written for 10 s: it died',
      { written: '11 seconds', frame: '11 seconds' },
      'red',
      'PS-HQ-SERVE-DOWN',
    ],
    [
      'red when frames stopped, whatever the socket says',
      { written: '1 second', frame: '30 seconds' },
      'red',
      'PS-WS-SILENT',
    ],
    ['red after it was cut for silence', { connected: false, closeCode: 4408 }, 'red', 'PS-WS-SILENT'],
    [
      'red after its server of HQ was stopped, in words',
      { connected: false, closeCode: 1012, closeReason: '{"retry_ms":3}' },
      'red',
      'PS-WS-CLOSED',
    ],
    [
      'red after its daemon said good-bye',
      { connected: false, closeCode: 1000, message: /^stopped its daemon$/ },
      'red',
      'PS-WS-CLOSED',
    ],
    [
      'red after it left to come back at once',
      { connected: false, closeCode: 1000, closeReason: 'renew', message: /^left to connect anew/ },
      'red',
      'PS-WS-CLOSED',
    ],
    [
      'red with what was said at the end',
      { connected: false, closeCode: 1006, closeReason: 'lost' },
      'red',
      'PS-WS-CLOSED',
    ],
  ] as const)
    it(`shows a store ${title}`, async () => {
      const id = await store();
      await link(id, facts);
      const { connection } = await view(id);
      assert.equal(connection.indicator, light);
      assert.equal(connection.reason?.code, code);
      assert.doesNotMatch(connection.reason?.message ?? '', /[{}]/);
      if ('message' in facts) assert.match(connection.reason?.message ?? '', facts.message);
      assert.equal(connection.rtt_ms, light === 'green' ? 12 : null);
    });

  it('says of every kind of store what it is, and only enrolled ones make HQ red', async () => {
    const pending = await store({ activated: null });
    const fresh = await store({ activated: '1 minute' });
    const old = await store();
    const revoked = await store({ credential: false });
    const off = await store();
    await db.query('update public.stores set active = false where id = $1', [off]);
    const facts = async (id: number) => {
      const { status, connection } = await view(id);
      return [status, connection.reason?.code];
    };
    assert.deepEqual(await facts(pending), ['pending_provisioning', 'PS-NOT-ENROLLED']);
    assert.deepEqual(await facts(fresh), ['active', 'PS-HQ-UNREACHABLE']);
    assert.deepEqual(await facts(old), ['offline', 'PS-HQ-UNREACHABLE']);
    assert.deepEqual(await facts(revoked), ['offline', 'PS-TOKEN-REVOKED']);
    assert.deepEqual(await facts(off), ['deactivated', 'PS-STORE-DISABLED']);
    for (const [id, green] of [
      [pending, true],
      [off, true],
      [fresh, false],
      [old, false],
    ] as const)
      assert.equal(isGreen(await readHqStatus(hq.pool, { storeId: id })), green);
  });

  for (const [title, sql] of [
    [
      'its last push',
      `insert into possync.inbox (store_id, pushed_at) values ($1, now() - interval '10 minutes')`,
    ],
    [
      'its last pull',
      `insert into possync.store_cursor (store_id, pos, at) values ($1, 0, now() - interval '10 minutes')`,
    ],
  ] as const)
    it(`counts ${title} as a sync: not offline within 15 minutes`, async () => {
      const id = await store();
      await db.query(sql, [id]);
      const { status, last_sync_at: at } = await view(id);
      assert.equal(status, 'active');
      assert.ok(at !== null && Math.abs(Date.now() - Date.parse(at) - 600_000) < 60_000);
    });

  it('calls a green store stalled when its queue has not moved for five ticks', async () => {
    const stat = (oldest: string | null, queued: number) => ({
      out: { queued, queuedHigh: 0, bytes: 10, oldestAt: oldest, halted: null, acked: 0 },
      in: { pos: 0, appliedAt: null, error: null },
    });
    const ago = (minutes: number): string => new Date(Date.now() - minutes * 60_000).toISOString();
    const stuck = await store();
    await link(stuck, { stat: stat(ago(9), 4) });
    const busy = await store();
    await link(busy, { stat: stat(ago(2), 4) });
    const moving = await store();
    await link(moving, { stat: stat(ago(9), 4) });
    await db.query('insert into possync.inbox (store_id, pushed_at) values ($1, now())', [moving]);
    const idle = await store();
    await link(idle, { stat: stat(null, 0) });
    const answers = await Promise.all(
      [stuck, busy, moving, idle].map(async (id) => (await view(id)).stalled),
    );
    assert.deepEqual(answers, [true, false, false, false]);
    assert.equal((await view(stuck)).upstream.queued, 4);
  });

  it('knows what a store has not pulled yet, its parked entries and its errors', async () => {
    const id = await store();
    await db.query(
      `insert into public.departments (id, code, name) select gen_random_uuid(), 'D' || n, 'n' from generate_series(1, 5) n`,
    );
    await sealInTurn(db);
    const { rows } = await db.query<{ pos: number }>('select pos from possync.head');
    await db.query('insert into possync.store_cursor (store_id, pos) values ($1, $2)', [
      id,
      (rows[0]?.pos ?? 0) - 3,
    ]);
    await db.query(
      `insert into possync.dead (store_id, epoch, seq, v, body, type, key, aggregates, kind, error)
       values ($1, 1, 1, 1, '{}', 'sale', 'k', '{a}', 'data', 'e')`,
      [id],
    );
    await db.query(`select possync.note_finding($1, 'hole', 'z_report', 'k', '{}')`, [id]);
    const { downstream, upstream, errors } = await view(id);
    assert.equal(downstream.pending, 3);
    assert.equal(upstream.parked, 1);
    assert.equal(errors, 2);
  });

  it("adds up today in the store's own time zone, and counts records per type", async () => {
    // At any moment it is another day in one of these two zones, fourteen and minus eleven hours from UTC.
    const east = await store({ zone: 'Pacific/Kiritimati' });
    const odd = await store({ zone: 'Mars/Olympus' });
    const ingest = await hq.database.connect();
    await ingest.query(`set possync.applying = 'on'`);
    const sell = (id: number, day: string, kind: string, status: string, total: number) =>
      ingest.query(
        `insert into public.sales (store_id, id, register_id, session_id, cashier_id, kind, status, receipt_number,
                                   total, tax_total, occurred_at, business_date)
         values ($1, $2, $2, $2, $2, $3, $4, 'r', $5, 7, now(), $6::date)`,
        [id, uuidv7(), kind, status, total, day],
      );
    const { rows } = await db.query<{ today: string; before: string }>(
      `select (now() at time zone 'Pacific/Kiritimati')::date::text as today,
              (now() at time zone 'Pacific/Kiritimati')::date - 1 || '' as before`,
    );
    const { today, before } = rows[0] ?? assert.fail();
    await sell(east, today, 'sale', 'completed', 100);
    await sell(east, today, 'sale', 'completed', 50);
    await sell(east, today, 'sale', 'voided', 1_000);
    await sell(east, today, 'refund', 'completed', -30);
    await sell(east, before, 'sale', 'completed', 10_000);
    const found = await view(east);
    assert.deepEqual(found.today, { business_date: today, sales: 2, revenue: 150, tax: 14, refunds: -30 });
    assert.equal(found.types.sale?.records, 5);
    assert.equal(found.types.sale.direction, 'up');
    assert.ok(found.last_sale_at !== null);
    await ingest.query(`update public.sales set status = 'voided' where store_id = $1 and total = 50`, [
      east,
    ]);
    assert.equal((await view(east)).types.sale?.records, 5, 'a void is not another sale');
    assert.match(
      (await view(odd)).today.business_date,
      /^\d{4}-\d\d-\d\d$/,
      'a zone that does not exist fails nothing',
    );
  });

  describe('the last sync of a connected store', () => {
    const stat = (queued: number, error: string | null, oldestAt: string | null = null): object => ({
      out: { queued, oldestAt, halted: null },
      in: { pos: 0, error },
    });
    for (const [title, report, status] of [
      ['is now while nothing waits, even if a download fails', stat(0, 'a constraint'), 'active'],
      ['is now while downloads work, even if the queue is stuck', stat(5, null), 'active'],
      ['is not now when the queue is stuck and downloads fail', stat(5, 'a constraint'), 'offline'],
    ] as const)
      it(title, async () => {
        const id = await store();
        await link(id, { stat: report });
        assert.equal((await view(id)).status, status);
      });

    it('is told of all stores although one reports a time that is none', async () => {
      const id = await store();
      await link(id, { stat: stat(5, null, 'last tuesday') });
      assert.equal((await view(id)).upstream.oldest_at, null);
    });
  });
});
