/** A credential has a life: its daemon renews it in time; where it could not, everybody is told; a use after its end is noted. */
import assert from 'node:assert/strict';
import { writeExpired } from '../../src/hq/stores/credential-upkeep.ts';
import { readCredential } from '../../src/store/credential.ts';
import { Authority } from '../support/certificates.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync, type CliResult } from '../support/cli.ts';
import { until } from '../support/until.ts';

interface HqDocument {
  readonly tls: { readonly not_after: string } | null;
  readonly alerts: readonly {
    readonly code: string;
    readonly store: string | null;
    readonly message: string;
  }[];
  readonly stores: readonly { readonly code: string; readonly token: { readonly kid: string } | null }[];
}

describe('the life of a credential', function () {
  this.timeout(120_000);
  const LIFE_MS = 9_000;
  let authority: Authority;
  let hq: TestHq;

  before(async () => {
    authority = await Authority.make();
    hq = await TestHq.open('life', {
      tls: await authority.issue({ days: 200 }),
      host: '127.0.0.1',
      credentialLifeMs: LIFE_MS,
    });
  });
  after(async () => {
    await hq.close();
    await authority.remove();
  });

  const atHq = (...args: string[]): Promise<CliResult> =>
    possync(args, { env: { DATABASE_URL: hq.database.url } });
  const inStore = (store: TestStore, ...args: string[]): Promise<CliResult> =>
    possync(args, { env: { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir } });
  const statusAtHq = async (): Promise<HqDocument> =>
    JSON.parse((await atHq('status', '--json')).stdout) as HqDocument;
  const kidOf = async (store: TestStore): Promise<string> =>
    (await readCredential(store.stateDir))?.kid ?? 'none';
  const rows = async <T extends object>(sql: string, values: unknown[] = []): Promise<T[]> =>
    (await hq.pool.query<T>(sql, values)).rows;

  it('is renewed by the daemon itself, again and again, and the light stays green', async () => {
    const store = await TestStore.open(hq, 'LIFE-1', { caFile: authority.caFile, renewalLookMs: 200 });
    try {
      await store.untilLight('green');
      const seen = new Set([await kidOf(store)]);
      await until(
        async () => {
          seen.add(await kidOf(store));
          return seen.size >= 4;
        },
        { what: 'it renewed its credential three times', timeoutMs: 60_000 },
      );
      const downs = hq.log.lines.filter(({ event }) => event === 'link.down');
      assert.deepEqual(downs, []);
      const status = await statusAtHq();
      assert.deepEqual(status.alerts, [], 'a fleet that renews itself needs nobody');
      assert.ok(status.tls !== null && Date.parse(status.tls.not_after) > Date.now() + 100 * 86_400_000);
      const own = JSON.parse((await inStore(store, 'status', '--json')).stdout) as {
        tls: { not_after: string } | null;
        token: { expires_at: string | null; warning: object | null };
      };
      assert.equal(
        own.tls?.not_after,
        status.tls.not_after,
        'both ends show the end of the same certificate',
      );
      assert.ok(own.token.expires_at !== null);
      const shown = (await inStore(store, 'token', 'ls')).stdout;
      assert.match(shown, /active/);
      assert.match(shown, /retiring/);
    } finally {
      await store.close();
    }
  });

  it('ends on a live connection as well: cut within seconds, named on both sides, noted once however often it is used', async () => {
    const store = await TestStore.open(hq, 'LIFE-2', { caFile: authority.caFile });
    try {
      await store.untilLight('green');
      const kid = await kidOf(store);
      await until(async () => (await store.link()).code === 'PS-TOKEN-EXPIRED', {
        what: 'the connection was cut, with the reason',
        timeoutMs: LIFE_MS + 20_000,
      });
      assert.equal((await inStore(store, 'token', 'status')).code, 77);
      for (let n = 0; n < 30; n += 1) await inStore(store, 'token', 'status');
      const noted = (): Promise<unknown[]> =>
        rows('select from possync.refused_uses r where r.kid = $1::text', [kid]);
      assert.deepEqual(
        await noted(),
        [],
        'the daemon that was cut is no thief: nobody is alarmed by its next attempts',
      );
      await hq.pool.query(
        `update possync.tokens set expires_at = expires_at - interval '5 minutes' where kid = $1::text`,
        [kid],
      );
      await until(
        async () => {
          await inStore(store, 'token', 'status');
          return (await noted()).length === 1;
        },
        { what: 'its use after that is noted', timeoutMs: 60_000 },
      );
      for (let n = 0; n < 10; n += 1) await inStore(store, 'token', 'status');
      const alert = (await statusAtHq()).alerts.find(
        ({ code, store: of }) => code === 'PS-TOKEN-REUSED' && of === 'LIFE-2',
      );
      assert.match(alert?.message ?? '', new RegExp(`expired credential ${kid}`));
      assert.match((await atHq('status')).stdout, /PS-TOKEN-REUSED/);
      const audit = await rows<{ kid: string }>(
        `select a.details ->> 'kid' as kid from possync.audit a where a.action = 'token refused' and a.store_id = $1::integer`,
        [store.id],
      );
      assert.deepEqual(audit, [{ kid }], 'one entry for all those uses');
      const one = await atHq('token', 'status', 'LIFE-2');
      assert.equal(one.code, 1, one.stderr);
      assert.match(one.stdout, /no credential in force/);

      await writeExpired(hq.pool);
      assert.deepEqual(await rows('select t.state from possync.tokens t where t.kid = $1::text', [kid]), [
        { state: 'expired' },
      ]);
      // The good credential of the store is not touched by uses of the one before.
      await store.enrol(hq, { caFile: authority.caFile });
      await store.untilLight('green');
    } finally {
      await store.close();
    }
  });

  it('may be shorter than HQ gives, never longer', async () => {
    const store = await TestStore.open(hq, 'LIFE-3', { caFile: authority.caFile });
    try {
      await store.untilLight('green');
      const longer = await inStore(store, 'token', 'rotate', '--expires-in', '900d', '--json');
      assert.equal(longer.code, 0, longer.stdout);
      const { new: made } = JSON.parse(longer.stdout) as { new: { expires_at: string } };
      assert.ok(Date.parse(made.expires_at) < Date.now() + LIFE_MS + 5_000);
    } finally {
      await store.close();
    }
  });
});
