/** When a chain is at rest: what a store hands over between two looks of the one who waits is not overlooked. */
import assert from 'node:assert/strict';
import { silentLog } from '../../src/core/log.ts';
import { connect } from '../../src/db/pool.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { Chain } from '../../src/demo/chain.ts';
import { insertTransfer, moveTransfer, together } from '../support/pos.ts';
import { clusterUrl } from '../support/postgres.ts';
import { until } from '../support/until.ts';

const LONG_MS = 120_000;
const PREFIX = `settle_${process.pid}`;

describe('a chain', function () {
  this.timeout(4 * LONG_MS);
  let server: string;
  let chain: Chain;

  before(async () => {
    server = await clusterUrl('postgres');
    chain = await Chain.start({
      databaseUrl: (database) => Object.assign(new URL(server), { pathname: `/${database}` }).href,
      prefix: PREFIX,
      stores: ['FROM', 'TO'].map((code) => ({ code, name: code, timeZone: 'UTC' })),
      log: silentLog,
      pushIntervalMs: 500,
    });
  });
  after(async () => {
    await chain.stop();
    const admin = await connect({ url: server, applicationName: 'possync test' });
    for (const database of ['hq', '1', '2']) await admin.query(`drop database "${PREFIX}_${database}"`);
    await admin.end();
  });

  it('is not at rest before what one store ships is in the other, whenever HQ is asked about it', async () => {
    await chain.settle(LONG_MS);
    const [from, to] = chain.stores;
    assert.ok(from !== undefined && to !== undefined);
    for (const { cable } of chain.stores) cable.cut();
    const clerk = await connect({ url: from.databaseUrl, applicationName: 'possync test' });
    const id = await together(clerk, () => insertTransfer(clerk, { from: from.id, to: to.id }));
    for (const status of ['pending', 'in_transit']) await moveTransfer(clerk, id, status);
    await clerk.end();
    const queued = async (): Promise<boolean> =>
      (
        await queryOne<{ queued: boolean }>(
          from.pool,
          `select exists (select from possync.raw)
                  or exists (select from possync.outbox o join possync.sending d on (o.epoch, o.seq) > (d.epoch, d.seq)) as queued`,
        )
      ).queued;
    assert.equal(await queued(), true);

    // HQ's first answer is held up until the shipment has left its store.
    const query = chain.hq.query.bind(chain.hq) as (text: string, values?: unknown[]) => Promise<unknown>;
    let held = false;
    chain.hq.query = (async (text: string, values?: unknown[]) => {
      const answer = await query(text, values);
      if (!held) {
        held = true;
        from.cable.mend();
        from.daemon.reconnect();
        await until(async () => !(await queued()), { what: 'the shipment is at HQ', timeoutMs: LONG_MS });
      }
      return answer;
    }) as typeof chain.hq.query;
    await assert.rejects(chain.settle(0), { code: 'PS-TIMEOUT' });
    assert.equal(held, true);
    await assert.rejects(
      chain.settle(0),
      { code: 'PS-TIMEOUT' },
      'it cannot have come over a cable that is cut',
    );

    to.cable.mend();
    to.daemon.reconnect();
    await chain.settle(LONG_MS);
    const { status } = await queryOne<{ status: string }>(
      to.pool,
      'select t.status from public.transfers t where t.id = $1::uuid',
      [id],
    );
    assert.equal(status, 'in_transit');
  });
});
