/** /metrics of a real daemon and a real HQ, scraped over HTTP and held against `possync status --json`. */
import assert from 'node:assert/strict';
import { readFileSync, statfsSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { HqStatusView, StoreStatusView } from '../../src/protocol/status.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { parseExposition } from '../support/exposition.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { until } from '../support/until.ts';

const LISTEN = { host: '127.0.0.1', port: 0 } as const;

async function scrape(url: string | undefined): Promise<ReadonlyMap<string, number>> {
  const answer = await fetch(`${url ?? assert.fail('no metrics port')}/metrics`);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  return parseExposition(await answer.text()).series;
}

/** What the store's series must be, from its document alone. */
function expectedOfStore(view: StoreStatusView): Record<string, number | undefined> {
  const { connection, upstream, downstream, token, last_sync_at } = view;
  const seconds = (at: string | null | undefined): number | undefined =>
    at == null ? undefined : Date.parse(at) / 1_000;
  return {
    possync_ws_connected: connection.indicator === 'green' ? 1 : 0,
    possync_db_up: 1,
    'possync_queue_entries{state="queued"}': upstream.queued,
    'possync_queue_entries{state="parked"}': upstream.parked,
    'possync_queue_records{type="sale"}': upstream.by_type.sale,
    possync_queue_bytes: upstream.bytes,
    possync_queue_oldest_timestamp_seconds: seconds(upstream.oldest_at),
    possync_push_last_success_timestamp_seconds: seconds(upstream.last_sent_at),
    'possync_push_records_total{result="acknowledged",type="sale"}': view.types.sale?.records ?? 0,
    possync_pull_cursor: downstream.cursor,
    possync_pull_hq_cursor: downstream.hq_cursor ?? undefined,
    possync_token_expiry_timestamp_seconds: seconds(token?.expires_at),
    ...(connection.indicator === 'red' && { possync_last_sync_timestamp_seconds: seconds(last_sync_at) }),
    ...(connection.reason !== null && {
      [`possync_problem{code="${connection.reason.code}",where="link"}`]: 1,
    }),
  };
}

function expectedOfHq(view: HqStatusView): Record<string, number | undefined> {
  const one: Record<string, number | undefined> = {
    possync_db_up: 1,
    possync_hq_change_log_seq: view.head,
    'possync_hq_stores{state="active"}': view.stores.filter(({ status }) => status === 'active').length,
    'possync_hq_ingest_records_total{result="applied",type="sale"}': view.stores.reduce(
      (sum, { types }) => sum + (types.sale?.records ?? 0),
      0,
    ),
  };
  for (const { code, connection, upstream, downstream, token, last_sale_at } of view.stores) {
    one[`possync_hq_store_connected{store="${code}"}`] = connection.indicator === 'green' ? 1 : 0;
    one[`possync_hq_store_queue_entries{store="${code}"}`] = upstream.queued ?? undefined;
    one[`possync_hq_store_cursor_lag{store="${code}"}`] = downstream.pending;
    one[`possync_hq_store_last_sale_timestamp_seconds{store="${code}"}`] =
      last_sale_at === null ? undefined : Date.parse(last_sale_at) / 1_000;
    one[`possync_hq_store_token_expiry_timestamp_seconds{store="${code}"}`] =
      token?.expires_at == null ? undefined : Date.parse(token.expires_at) / 1_000;
    if (connection.reason !== null)
      one[`possync_hq_store_problem{code="${connection.reason.code}",store="${code}",where="link"}`] = 1;
  }
  return one;
}

function pick(
  series: ReadonlyMap<string, number>,
  expected: Record<string, number | undefined>,
): Record<string, number | undefined> {
  return Object.fromEntries(Object.keys(expected).map((key) => [key, series.get(key)]));
}

describe('metrics', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let store: TestStore;
  let session: string;
  let lost = 0;

  before(async () => {
    hq = await TestHq.open('metrics', { metricsListen: LISTEN });
    store = await TestStore.open(hq, 'M-1', { metricsListen: LISTEN, logLost: () => lost });
    const till = await store.database.connect();
    session = await openSession(till, await addRegister(till, store.id), store.id);
    await till.end();
    await store.untilLight('green');
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  let receipts = 0;
  async function sale(): Promise<void> {
    const till = await store.database.connect();
    receipts += 1;
    await sell(till, session, { storeId: store.id, receipt: `R1-${receipts}` });
    await till.end();
  }

  const statusOf = async (side: { database: { url: string } }, dir: string): Promise<unknown> => {
    const env = { DATABASE_URL: side.database.url, POSSYNC_STATE_DIR: dir };
    return JSON.parse((await possync(['status', '--json'], { env })).stdout);
  };

  /** The answer may be a second old, and a heartbeat may come between: they agree soon, or never. */
  async function storeAgrees(): Promise<void> {
    await until(
      async () => {
        const expected = expectedOfStore((await statusOf(store, store.stateDir)) as StoreStatusView);
        assert.deepEqual(pick(await scrape(store.running.metricsUrl), expected), expected);
        return true;
      },
      { what: 'the metrics of the store say what its status says', timeoutMs: 30_000 },
    );
  }

  async function hqAgrees(): Promise<void> {
    await until(
      async () => {
        const expected = expectedOfHq((await statusOf(hq, store.stateDir)) as HqStatusView);
        assert.deepEqual(pick(await scrape(hq.running.watchUrl), expected), expected);
        return true;
      },
      { what: 'the metrics of HQ say what its status says', timeoutMs: 30_000 },
    );
  }

  it('say on both sides what `status --json` says, while connected, cut off and back again', async () => {
    await sale();
    await until(async () => (await scrape(hq.running.watchUrl)).get(SALES_AT_HQ) === 1, {
      what: 'the sale is counted at HQ',
    });
    await storeAgrees();
    await hqAgrees();

    await hq.stop();
    await store.untilLight('red');
    await sale();
    await storeAgrees();
    const cut = await scrape(store.running.metricsUrl);
    assert.equal(cut.get('possync_ws_connected'), 0);
    assert.equal(cut.get('possync_queue_records{type="sale"}'), 1);
    assert.equal(cut.get('possync_pull_hq_cursor'), undefined, 'unknown is absent, not 0');
    assert.equal(cut.get('possync_ws_connection_changes_total{to="red"}'), 1);
    await until(
      async () =>
        ((await scrape(store.running.metricsUrl)).get('possync_ws_connect_attempts_total{result="failed"}') ??
          0) > 0,
      { what: 'a failed attempt is counted' },
    );

    await hq.start();
    await store.untilLight('green', 40_000);
    await until(async () => (await scrape(hq.running.watchUrl)).get(SALES_AT_HQ) === 2, {
      what: 'the second sale is counted at HQ',
      timeoutMs: 40_000,
    });
    await storeAgrees();
    await hqAgrees();
    const back = await scrape(store.running.metricsUrl);
    assert.equal(back.get('possync_ws_connection_changes_total{to="green"}'), 2);
    assert.ok((back.get('possync_push_batches_total{result="ok"}') ?? 0) >= 2);
    assert.equal(back.get('possync_queue_oldest_timestamp_seconds'), undefined, 'nothing waits');
  });

  it('count at HQ requests by route and refused credentials by code, whatever addresses are asked for', async () => {
    for (const path of ['/nothing', '/nothing/else', '/api/v1/tokens/rotations/1234/confirm'])
      await fetch(`${hq.running.url}${path}`, { method: 'POST' });
    await fetch(`${hq.running.url}/api/v1/whoami`, { headers: { authorization: 'Bearer psc_none' } });
    const series = await scrape(hq.running.watchUrl);
    const routes = new Set(
      [...series.keys()].flatMap((key) => /_request_duration_.*route="([^"]*)"/.exec(key)?.[1] ?? []),
    );
    assert.ok(routes.has('other') && routes.has('/api/v1/tokens/rotations'), [...routes].join(' '));
    assert.ok(![...routes].some((route) => route.includes('nothing') || route.includes('1234')));
    const refused = [...series].filter(([key]) => key.startsWith('possync_hq_auth_failures_total{'));
    assert.ok(refused.length > 0);
    assert.ok(refused.every(([key]) => /\{reason="PS-[A-Z-]+"\}$/.test(key)));
  });

  it('name no credential, no address and no sale', async () => {
    const { kid } =
      (await hq.pool.query<{ kid: string }>('select t.kid from possync.tokens t')).rows[0] ?? {};
    for (const url of [hq.running.watchUrl, store.running.metricsUrl]) {
      const text = await (await fetch(`${url}/metrics`)).text();
      assert.ok(kid !== undefined && !text.includes(kid));
      const labels = new Set([...text.matchAll(/[{,]([a-z_]+)="/g)].map(([, name]) => name));
      for (const label of labels) assert.ok(LABELS.has(label ?? ''), `label ${label}`);
    }
  });

  it('know of the daemon itself: commits, room on the disk, lines of the log that were lost, rotations', async () => {
    const series = await scrape(store.running.metricsUrl);
    const commits = series.get('possync_db_commit_duration_seconds_count') ?? 0;
    assert.ok(commits > 0);
    assert.ok((series.get('possync_db_commit_duration_seconds_sum') ?? 0) > 0);
    const { bavail, bsize } = statfsSync(store.stateDir);
    const free = series.get(`possync_disk_free_bytes{path="${store.stateDir}"}`) ?? 0;
    assert.ok(free > (bavail * bsize) / 2 && free < bavail * bsize * 2, `${free} bytes are free`);
    assert.equal(series.get('possync_log_dropped_total'), 0);
    assert.equal(series.get(ROTATED), undefined);
    lost = 7;
    const { stdout } = await possync(['token', 'rotate', store.code, '--wait', '60s', '--json'], {
      env: { DATABASE_URL: hq.database.url },
    });
    assert.match(stdout, /"rotated"/);
    await until(async () => (await scrape(store.running.metricsUrl)).get(ROTATED) === 1, {
      what: 'the rotation is counted',
    });
    const later = await scrape(store.running.metricsUrl);
    assert.equal(later.get('possync_log_dropped_total'), 7);
    assert.equal((await scrape(hq.running.watchUrl)).get('possync_hq_ingest_duplicates_total'), 0);
    await hq.pool.query(`update public.stores set name = name || ' II' where code = $1::text`, [store.code]);
    await until(
      async () =>
        ((await scrape(hq.running.watchUrl)).get('possync_hq_notifications_total{type="head"}') ?? 0) > 0,
      { what: 'the hint to the store is counted', timeoutMs: 30_000 },
    );
    assert.ok((later.get('possync_db_commit_duration_seconds_count') ?? 0) > commits);
  });

  it('know how long a change of HQ took to be told and to be in place, and of which type it was', async () => {
    const LAG = 'possync_apply_lag_seconds';
    const DEPARTMENTS = 'possync_pull_records_total{result="applied",type="department"}';
    const before = await scrape(store.running.metricsUrl);
    const begun = Date.now();
    await hq.pool.query(
      `insert into public.departments (id, code, name) values (gen_random_uuid(), 'LAG', 'Lag'), (gen_random_uuid(), 'LAG2', 'Lag 2')`,
    );
    const had = (name: string): number => before.get(name) ?? 0;
    const after = await until(
      async () => {
        const series = await scrape(store.running.metricsUrl);
        return series.get(DEPARTMENTS) === had(DEPARTMENTS) + 2 ? series : undefined;
      },
      { what: 'two departments are counted', timeoutMs: 30_000 },
    );
    assert.ok((after.get(`${LAG}_count`) ?? 0) > had(`${LAG}_count`));
    const lag = (after.get(`${LAG}_sum`) ?? 0) - had(`${LAG}_sum`);
    // Clocks of one machine: what the store takes for a difference between them is half a round trip at most.
    assert.ok(lag > 0 && lag <= (Date.now() - begun) / 1_000 + 1, `${lag} s`);
    const told = await scrape(hq.running.watchUrl);
    assert.equal(
      told.get('possync_hq_notify_fanout_seconds_count'),
      told.get('possync_hq_notifications_total{type="head"}'),
    );
    assert.ok((told.get('possync_hq_notify_fanout_seconds_sum') ?? -1) >= 0);
  });

  it('say that the database is down while it is, and go on counting', async () => {
    await store.pool.query('alter table possync.link rename to link_hidden');
    try {
      await until(
        async () => {
          const series = await scrape(store.running.metricsUrl);
          assert.equal(series.get('possync_db_up'), 0);
          assert.equal(series.get('possync_ws_connected'), undefined, 'unknown is absent');
          assert.ok((series.get('possync_ws_connection_changes_total{to="green"}') ?? 0) > 0);
          return true;
        },
        { what: 'the metrics say that the database does not answer' },
      );
    } finally {
      await store.pool.query('alter table possync.link_hidden rename to link');
    }
    await storeAgrees();
  });

  it('have every name that the shipped alerts and the page about them use, and are all on that page', async () => {
    const types = new Map<string, string>();
    for (const url of [hq.running.watchUrl, store.running.metricsUrl])
      for (const [name, type] of parseExposition(await (await fetch(`${url}/metrics`)).text()).types)
        if (name.startsWith('possync_')) types.set(name, type);
    const served = (name: string): boolean =>
      types.has(name) || types.get(name.replace(/_(sum|count|bucket)$/, '')) === 'histogram';
    const docs = ['alerts.yml', 'monitoring.md'].map((file) =>
      readFileSync(join(import.meta.dirname, '../../docs', file), 'utf8'),
    );
    const used = docs.flatMap((text) => [...text.matchAll(/\bpossync_[a-z0-9_]+/g)].map(([name]) => name));
    assert.ok(used.length > 60);
    assert.deepEqual(
      [...new Set(used)].filter((name) => !served(name)),
      [],
    );
    assert.deepEqual(
      [...types.keys()].filter((name) => !used.some((each) => each.replace(/_(sum|count)$/, '') === name)),
      [],
      'not in docs/monitoring.md',
    );
  });

  it('leave the daemon running where their port is taken, with a warning', async () => {
    const taken = net.createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as net.AddressInfo;
    let other: TestStore | undefined;
    try {
      other = await TestStore.open(hq, 'M-2', { metricsListen: { host: '127.0.0.1', port } });
      await other.untilLight('green');
      assert.equal(other.running.metricsUrl, undefined);
      assert.ok(
        other.log.lines.some(({ level, message }) => level === 'warn' && message.includes('metrics port')),
      );
    } finally {
      await other?.close();
      taken.close();
    }
  });
});

const ROTATED = 'possync_token_rotations_total{result="rotated"}';
const SALES_AT_HQ = 'possync_hq_ingest_records_total{result="applied",type="sale"}';
/** Ours, and those of Node's own metrics. */
const LABELS = new Set([
  'state',
  'type',
  'where',
  'code',
  'to',
  'result',
  'le',
  'store',
  'route',
  'reason',
  'host',
  'path',
  'version',
  'node',
  'role',
  ...['kind', 'space', 'quantile', 'major', 'minor', 'patch'],
]);
