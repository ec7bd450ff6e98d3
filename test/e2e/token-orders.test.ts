/** `token rotate` at HQ: over the live links of two servers, at the return of a store that was away, and what fails. */
import assert from 'node:assert/strict';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunningHq } from '../../src/hq/options.ts';
import { startHq } from '../../src/hq/serve.ts';
import { readCredential } from '../../src/store/credential.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync, type CliResult } from '../support/cli.ts';
import { memoryLog } from '../support/memory-log.ts';
import { until } from '../support/until.ts';

interface StoreOutcome {
  readonly code: string;
  readonly result: string;
  readonly old: { readonly kid: string | null };
  readonly new: { readonly kid: string } | null;
  readonly offline_ms: number | null;
  readonly error: { readonly code: string } | null;
}
interface RotateStores {
  readonly schema: string;
  readonly exit_code: number;
  readonly summary: Record<string, number>;
  readonly stores: readonly StoreOutcome[];
}

describe('token rotate at HQ', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let other: RunningHq;
  const otherLog = memoryLog({ side: 'other hq' });
  let here: TestStore;
  let there: TestStore;
  let away: TestStore;

  before(async () => {
    hq = await TestHq.open('orders');
    other = await startHq({ databaseUrl: hq.database.url, port: 0, log: otherLog });
    here = await TestStore.open(hq, 'ORD-1');
    there = await TestStore.open(hq, 'ORD-2', { hqUrl: other.url });
    away = await TestStore.enrolled(hq, 'ORD-3');
    await Promise.all([here.untilLight('green'), there.untilLight('green')]);
  });
  after(async () => {
    for (const store of [here, there, away]) await store.close();
    await other.stop();
    await hq.close();
  });

  const atHq = (...args: string[]): Promise<CliResult> =>
    possync(args, { env: { DATABASE_URL: hq.database.url } });
  const rotate = async (...args: string[]): Promise<RotateStores> => {
    const { stdout, stderr, code } = await atHq('token', 'rotate', ...args, '--json');
    assert.notEqual(stdout, '', stderr);
    const document = JSON.parse(stdout) as RotateStores;
    assert.equal(document.exit_code, code);
    return document;
  };
  const kidOf = async (store: TestStore): Promise<string> =>
    (await readCredential(store.stateDir))?.kid ?? 'none';
  const resultsOf = ({ stores }: RotateStores): Record<string, string> =>
    Object.fromEntries(stores.map(({ code, result }) => [code, result]));
  const activeAt = async (store: TestStore): Promise<string[]> =>
    (
      await hq.pool.query<{ kid: string }>(
        `select t.kid from possync.tokens t
          where t.store_id = $1::integer and t.kind = 'credential' and t.state in ('active', 'pending')`,
        [store.id],
      )
    ).rows.map(({ kid }) => kid);
  const downs = (): number =>
    [...hq.log.lines, ...otherLog.lines].filter(({ event }) => event === 'link.down').length;

  it('rotates the connected ones whichever server holds them, and leaves the order for the one that is away: 75', async () => {
    const before = new Map([
      ['ORD-1', await kidOf(here)],
      ['ORD-2', await kidOf(there)],
      ['ORD-3', await kidOf(away)],
    ]);
    const document = await rotate('--all');
    assert.equal(document.schema, 'possync.token-rotate-stores/1');
    assert.deepEqual(resultsOf(document), { 'ORD-1': 'rotated', 'ORD-2': 'rotated', 'ORD-3': 'pending' });
    assert.equal(document.exit_code, 75);
    for (const { code, old } of document.stores) assert.equal(old.kid, before.get(code));
    for (const store of [here, there]) {
      const found = document.stores.find(({ code }) => code === store.code);
      assert.equal(found?.new?.kid, await kidOf(store));
      assert.equal(found.offline_ms, 0, 'over the open connection');
      assert.deepEqual(await activeAt(store), [await kidOf(store)]);
    }
    assert.equal(downs(), 0, 'no light turned red');
  });

  it('an order can be taken back before its store is there, on record, and only once; then a new one is given', async () => {
    const withdraw = async (...args: string[]) => {
      const { stdout, stderr, code } = await atHq('token', 'rotate', ...args, '--withdraw', '--json');
      assert.equal(code, 0, stderr);
      return (JSON.parse(stdout) as { withdrawn: { code: string; kid: string; order_id: string }[] })
        .withdrawn;
    };
    const open = async (): Promise<number | null> =>
      (await hq.pool.query('select from possync.rotation_orders o where o.done_at is null')).rowCount;
    const kid = await kidOf(away);
    assert.deepEqual(
      (await withdraw('--all', '--dry-run')).map(({ code }) => code),
      ['ORD-3'],
    );
    assert.equal(await open(), 1, 'nothing was changed');
    assert.deepEqual(await withdraw('ORD-1'), [], 'what is done cannot be taken back');
    const [order, ...more] = await withdraw('ORD-3');
    assert.deepEqual([order?.code, order?.kid, more], ['ORD-3', kid, []]);
    assert.equal(await open(), 0);
    assert.deepEqual(await withdraw('--all'), []);
    const { rows } = await hq.pool.query<{ store: number; order: string; kid: string }>(
      `select a.store_id as store, a.details ->> 'order' as order, a.details ->> 'kid' as kid
         from possync.audit a where a.action = 'token rotate withdrawn'`,
    );
    assert.deepEqual(rows, [{ store: away.id, order: order?.order_id, kid }]);
    await away.start();
    await away.untilLight('green');
    assert.equal(await kidOf(away), kid, 'its welcome held no order');
    await away.stop();
    assert.equal((await atHq('token', 'rotate', '--withdraw')).code, 64, 'nobody in particular');
    assert.deepEqual(resultsOf(await rotate('ORD-3', '--timeout', '1s')), { 'ORD-3': 'pending' });
  });

  it('a store that was away rotates itself when it is back', async () => {
    const before = await kidOf(away);
    await away.start();
    await away.untilLight('green');
    await until(async () => (await kidOf(away)) !== before, { what: 'it rotated by itself' });
    await until(async () => (await activeAt(away))[0] === (await kidOf(away)), {
      what: 'HQ has confirmed it',
    });
    await until(
      async () =>
        (
          await hq.pool.query(
            'select from possync.rotation_orders o where o.store_id = $1::integer and o.done_at is not null',
            [away.id],
          )
        ).rowCount === 1,
      { what: 'the order is done' },
    );
    await away.stop();
  });

  it('ordered twice while the store is away, rotates once', async () => {
    await rotate('ORD-3');
    const again = await rotate('ORD-3');
    assert.deepEqual(resultsOf(again), { 'ORD-3': 'pending' });
    const open = async (): Promise<number> =>
      (
        await hq.pool.query<{ n: number }>(
          'select count(*) as n from possync.rotation_orders o where o.done_at is null and o.store_id = $1::integer',
          [away.id],
        )
      ).rows[0]?.n ?? 0;
    assert.equal(await open(), 1);
    const count = async (): Promise<number> =>
      (
        await hq.pool.query<{ n: number }>(
          'select count(*) as n from possync.rotations r where r.store_id = $1::integer and r.confirmed_at is not null',
          [away.id],
        )
      ).rows[0]?.n ?? 0;
    const before = await count();
    await away.start();
    await away.untilLight('green');
    await until(async () => (await open()) === 0 && (await count()) === before + 1, {
      what: 'it rotated, and HQ has its report',
      timeoutMs: 60_000,
    });
    // A new connection would bring an order that is still open once more.
    const connection = async (): Promise<string | undefined> =>
      (
        await hq.pool.query<{ connection: string }>(
          'select l.connection::text from possync.live_links l where l.store_id = $1::integer and l.connected',
          [away.id],
        )
      ).rows[0]?.connection;
    const old = await connection();
    away.running.reconnect();
    await until(
      async () => {
        const now = await connection();
        return now !== undefined && now !== old;
      },
      { what: 'it is back', timeoutMs: 60_000 },
    );
    await rotate('ORD-1');
    assert.equal(await count(), before + 1);
  });

  it('with --if-expires-within orders only what ends soon, and with --dry-run nothing', async () => {
    const before = await kidOf(here);
    const none = await rotate('--all', '--if-expires-within', '30d');
    assert.equal(none.exit_code, 0);
    assert.deepEqual(new Set(Object.values(resultsOf(none))), new Set(['not_needed']));
    const dry = await rotate('ORD-1', '--dry-run');
    assert.deepEqual(resultsOf(dry), { 'ORD-1': 'dry_run' });
    assert.equal(await kidOf(here), before);
    assert.deepEqual(resultsOf(await rotate('ORD-1', '--expires-in', '20d')), { 'ORD-1': 'rotated' });
    const soon = await rotate('--all', '--if-expires-within', '30d');
    assert.equal(resultsOf(soon)['ORD-1'], 'rotated');
    assert.equal(resultsOf(soon)['ORD-2'], 'not_needed');
    assert.equal(soon.exit_code, 0);
  });

  it('says which store could not, and why: 1; mended, the same command rotates it', async () => {
    await mkdir(join(here.stateDir, 'credential.probe', 'x'), { recursive: true });
    const before = await kidOf(here);
    const failed = await rotate('ORD-1', 'ORD-2', '--batch', '1');
    assert.equal(failed.exit_code, 1);
    assert.deepEqual(resultsOf(failed), { 'ORD-1': 'failed', 'ORD-2': 'rotated' });
    assert.equal(failed.stores[0]?.error?.code, 'PS-TOKEN-SAVE');
    assert.equal(await kidOf(here), before);
    await rm(join(here.stateDir, 'credential.probe'), { recursive: true });
    assert.deepEqual(resultsOf(await rotate('ORD-1')), { 'ORD-1': 'rotated' });
  });

  it('with --revoke-old-now ends the old one, and who ordered it is in the audit', async () => {
    const before = await kidOf(there);
    const downsBefore = downs();
    assert.deepEqual(resultsOf(await rotate('ORD-2', '--revoke-old-now')), { 'ORD-2': 'rotated' });
    const { rows } = await hq.pool.query<{ state: string }>(
      'select t.state from possync.tokens t where t.kid = $1::text',
      [before],
    );
    assert.equal(rows[0]?.state, 'revoked');
    const audit = await hq.pool.query<{ actor: string; action: string }>(
      `select a.actor, a.action from possync.audit a where a.store_id = $1::integer and a.action like 'token rotate%'
        order by a.id desc limit 3`,
      [there.id],
    );
    assert.deepEqual(audit.rows.map(({ action }) => action).sort(), [
      'token rotate',
      'token rotate finished',
      'token rotate ordered',
    ]);
    assert.match(audit.rows.find(({ action }) => action.endsWith('ordered'))?.actor ?? '', /@/);
    assert.equal(downs(), downsBefore, 'the light stayed green');
  });

  it('is told on the wrong side, and with what makes no sense', async () => {
    const inStore = await possync(['token', 'rotate', '--all'], { env: { DATABASE_URL: here.database.url } });
    assert.equal(inStore.code, 64);
    assert.match(inStore.stderr, /PS-WRONG-SIDE/);
    assert.equal((await atHq('token', 'rotate', '--all', 'ORD-1')).code, 64);
    assert.equal((await atHq('token', 'rotate', '--batch', '5')).code, 64);
    assert.equal((await atHq('token', 'rotate', 'ORD-9')).code, 1);
  });
});
