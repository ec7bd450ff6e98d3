/**
 * Two misfortunes at once: a store's server was replaced, and then HQ is restored to a backup from before that. HQ knows
 * neither the new server's credential nor its epoch, and the new server has no entry of the one before it. Nothing is
 * done here but what `status` and the commands themselves name as the next step.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compareStore } from '../../src/db/compare.ts';
import { listDead } from '../../src/hq/inbox/dead.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { copyOf, hqDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';

const LONG_MS = 60_000;

describe('replaced-and-restored', function () {
  this.timeout(6 * LONG_MS);

  for (const when of ['before and after', 'only after'] as const) {
    it(`a replaced server and an HQ restored to before it, the store having sold ${when} the backup: the commands that are named bring every sale that is left`, async () => {
      const dir = await mkdtemp(join(tmpdir(), 'possync-replaced-'));
      const original = await hqDatabase('replaced');
      let hq = await TestHq.open('replaced', { database: original });
      const line = new FaultProxy(() => ({ host: '127.0.0.1', port: hq.port }));
      await line.open();
      const hqUrl = `http://127.0.0.1:${line.port}`;
      const untilAtHq = (...receipts: string[]): Promise<true> =>
        until(
          async () => {
            const { rows } = await hq.pool.query<{ receipt: string }>(
              'select s.receipt_number as receipt from public.sales s order by 1',
            );
            assert.deepEqual(
              rows.map(({ receipt }) => receipt),
              receipts,
            );
            return true;
          },
          { what: `HQ has ${receipts.join(', ')}`, timeoutMs: LONG_MS },
        );

      const first = await TestStore.open(hq, 'BOTH', { hqUrl });
      const oldTill = await first.database.connect();
      const register = await addRegister(oldTill, first.id);
      const before = await openSession(oldTill, register, first.id);
      const early = when === 'only after' ? [] : ['1-early'];
      for (const receipt of early) await sell(oldTill, before, { storeId: first.id, receipt });
      await untilAtHq(...early);
      await until(async () => (await hq.pool.query('select from public.register_sessions')).rowCount === 1, {
        what: 'the session is at HQ',
        timeoutMs: LONG_MS,
      });

      // The backup; then the old server goes on for a while, and is lost.
      await hq.stop();
      await hq.pool.end();
      const backup = await copyOf(original, 'replaced backup');
      hq = await TestHq.open('replaced', { database: original });
      await oldTill.query(
        `update public.register_sessions set status = 'closed', closed_at = now() where id = $1::uuid`,
        [before],
      );
      const session = await openSession(oldTill, register, first.id);
      await sell(oldTill, session, { storeId: first.id, receipt: '2-old' });
      await untilAtHq(...early, '2-old');
      await first.stop();

      // The new server goes on in the session that was open.
      const second = await TestStore.replacing(hq, first, { hqUrl });
      const till = await second.database.connect();
      await sell(till, session, { storeId: first.id, receipt: '3-new' });
      await untilAtHq(...early, '2-old', '3-new');

      // HQ is lost, and comes back as it was in the backup. The store goes on selling.
      await hq.stop();
      await hq.pool.end();
      hq = await TestHq.open('replaced', { database: backup });
      await sell(till, session, { storeId: first.id, receipt: '4-new' });

      const atHq = { DATABASE_URL: hq.database.url };
      const inStore = { DATABASE_URL: second.database.url, POSSYNC_STATE_DIR: second.stateDir };
      const run = async (env: Record<string, string>, ...args: string[]): Promise<string> => {
        const { code, stdout, stderr } = await possync(args, { env });
        assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`);
        return stdout;
      };
      const untilNamed = (step: string): Promise<true> =>
        until(async () => (await possync(['status'], { env: inStore })).stdout.includes(step), {
          what: `status says: ${step}`,
          timeoutMs: LONG_MS,
        });
      await untilNamed('possync store init --token-file FILE');
      const token = join(dir, 'token');
      await run(atHq, 'token', 'issue', 'BOTH', '--hq-url', hqUrl, '--out', token);
      await run(inStore, 'store', 'init', '--token-file', token);
      await untilNamed('possync store re-enrol');
      assert.match(await run(inStore, 'store', 're-enrol'), /possync verify --repair/);
      await run(inStore, 'status', '--wait', 'drained', '--timeout', '1m');
      await untilAtHq(...early, '3-new', '4-new');
      // What the new server was given of the old one is all that is left of it, and it is found.
      const found = await possync(['verify', '--repair'], { env: inStore });
      assert.match(found.stdout, /1 sale|sale/, found.stdout + found.stderr);
      await run(inStore, 'status', '--wait', 'drained', '--timeout', '1m');
      await untilAtHq(...early, '2-old', '3-new', '4-new');

      const lacking = (await compareStore(hq.pool, second.pool, second.id)).flatMap(
        ({ table, direction, differing, missingAtHq }) =>
          direction === 'up' ? [...differing, ...missingAtHq].map((key) => `${table} ${key}`) : [],
      );
      assert.deepEqual(lacking, []);
      assert.deepEqual(await listDead(hq.pool), []);
      await second.untilLight('green', LONG_MS);

      await second.close();
      await first.close();
      await line.close();
      await hq.close();
      await original.drop();
      await rm(dir, { recursive: true });
    });
  }
});
