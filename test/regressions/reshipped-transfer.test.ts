/**
 * A source store is restored to before it shipped a transfer, and ships it again. The first shipment is final at HQ, and
 * the destination has received it: the second one is parked as a dead letter, and the ways out that are named lead out.
 */
import assert from 'node:assert/strict';
import { queryOne } from '../../src/db/transaction.ts';
import { listDead } from '../../src/hq/inbox/dead.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { insertReceipt, insertTransfer, moveTransfer, together } from '../support/pos.ts';
import { Backup, STORE_TABLES } from '../support/recovery.ts';
import { differencesIn, settled, verify } from '../support/verify.ts';
import { until } from '../support/until.ts';

const LONG_MS = 60_000;

describe('reshipped-transfer', function () {
  this.timeout(6 * LONG_MS);

  it('a restored source ships once more: parked, given up with a reason, and a repair makes both sides equal again', async () => {
    const hq = await TestHq.open('reshipped');
    const source = await TestStore.open(hq, 'SOURCE', { pullIntervalMs: 500 });
    const destination = await TestStore.open(hq, 'DEST', { pullIntervalMs: 500 });
    const atHq = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await possync(args, { env: { DATABASE_URL: hq.database.url } });
      assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`);
      return stdout;
    };
    const shippedAt = async (side: TestHq | TestStore): Promise<string | null> =>
      (
        await queryOne<{ at: string | null }>(
          side.pool,
          `select t.shipped_at::text as at from public.transfers t where t.id = $1::uuid`,
          [transfer],
        )
      ).at;
    await source.untilLight('green', LONG_MS);
    const till = await source.database.connect();
    const transfer = await together(till, () =>
      insertTransfer(till, { from: source.id, to: destination.id, status: 'draft' }),
    );
    await moveTransfer(till, transfer, 'pending');
    await settled(hq, source);

    await source.stop();
    const backup = await Backup.take(till, [...STORE_TABLES, 'public.transfers', 'public.transfer_lines']);
    await source.start();
    await moveTransfer(till, transfer, 'in_transit');
    await settled(hq, source);
    await until(async () => (await destination.count('transfers')) === 1, {
      what: 'the destination knows the transfer',
      timeoutMs: LONG_MS,
    });
    await settled(hq, destination);
    const receiver = await destination.database.connect();
    await together(receiver, () => insertReceipt(receiver, transfer));
    await settled(hq, destination);
    const first = await shippedAt(hq);

    await source.stop();
    await backup.restore();
    await source.start();
    await until(async () => (await source.running.status()).upstream.halted?.code === 'PS-UP-ROLLBACK', {
      what: 'the restored source is found',
      timeoutMs: LONG_MS,
    });
    const renewed = await possync(['store', 're-enrol'], {
      env: { DATABASE_URL: source.database.url, POSSYNC_STATE_DIR: source.stateDir },
    });
    assert.equal(renewed.code, 0, renewed.stderr);
    await moveTransfer(till, transfer, 'in_transit');
    const [dead] = await until(
      async () => {
        const found = await listDead(hq.pool, source.id);
        return found.length > 0 && found;
      },
      { what: 'the second shipment is parked', timeoutMs: LONG_MS },
    );
    assert.equal(dead?.sqlstate, 'PS411');
    assert.equal(await shippedAt(hq), first, 'the first shipment stands');

    // What is named: look, retry, drop. A retry finds the same; to give it up changes nothing but the queue.
    assert.match(await atHq('queue', 'ls', '--dead'), /the transfer is final: shipped or cancelled/);
    assert.notEqual(
      (await possync(['queue', 'retry', 'SOURCE'], { env: { DATABASE_URL: hq.database.url } })).code,
      0,
    );
    await atHq('queue', 'drop', 'SOURCE', String(dead.seq), '--reason', 'shipped before the restore');
    assert.deepEqual(await listDead(hq.pool, source.id), []);
    await until(async () => (await source.running.status()).upstream.parked === 0, {
      what: 'the source hears of it',
      timeoutMs: LONG_MS,
    });

    // The two shipments differ in their time: found, and the owner's row wins.
    await settled(hq, source);
    const found = differencesIn(await verify(source));
    assert.deepEqual(found, ['transfers up: 1/0/0']);
    await verify(source, { repair: true });
    await settled(hq, source);
    await until(async () => (await shippedAt(hq)) === (await shippedAt(source)), {
      what: 'HQ has the shipment of the source',
      timeoutMs: LONG_MS,
    });
    await settled(hq, destination);
    assert.deepEqual(differencesIn(await verify(source)), []);
    assert.deepEqual(differencesIn(await verify(destination)), []);
    assert.equal(await shippedAt(destination), await shippedAt(source));
    assert.equal(await destination.count('transfer_receipts'), 1);
    assert.deepEqual(await listDead(hq.pool), []);
    await source.close();
    await destination.close();
    await hq.close();
  });
});
