/** A store's connection as HQ's processes and their table know it: who has the newest one, and that its row stays. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { tellServers } from '../../src/hq/stores/live.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { until } from '../support/until.ts';

describe('the live connection of a store', function () {
  this.timeout(60_000);
  let hq: TestHq;
  let store: TestStore;

  const connection = async (): Promise<string | undefined> => {
    const { rows } = await hq.pool.query<{ connection: string }>(
      `select l.connection::text from possync.live_links l
        where l.store_id = $1::integer and l.connected and l.written_at > clock_timestamp() - interval '10 s'`,
      [store.id],
    );
    return rows[0]?.connection;
  };
  const moved = async (): Promise<void> => {
    await tellServers(hq.pool, {
      type: 'moved',
      store: store.id,
      server: randomUUID(),
      connection: randomUUID(),
    });
    // Channels are in order: when this question was answered, the message before it was heard.
    const id = randomUUID();
    await tellServers(hq.pool, { type: 'ask', store: store.id, id });
    await until(
      async () => {
        const { rows } = await hq.pool.query(
          `select from possync.live_links l where l.store_id = $1::integer and l.stat ->> 'id' = $2::text`,
          [store.id, id],
        );
        return rows.length > 0;
      },
      { what: 'the store answers' },
    );
  };

  before(async () => {
    hq = await TestHq.open('live links');
    store = await TestStore.open(hq, 'LIVE');
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  it('has a row again when the table has lost it', async () => {
    await store.untilLight('green');
    const before = await until(connection, { what: 'the row is there' });
    await hq.pool.query('delete from possync.live_links');
    assert.equal(await until(connection, { what: 'the row is there again', timeoutMs: 30_000 }), before);
  });

  it('is kept when an older move to another server is told late, and ended by a newer one', async () => {
    const before = await until(connection, { what: 'the row is there' });
    await moved();
    assert.equal(await connection(), before);
    // Another server's welcome: its fence is the store's newest.
    await hq.pool.query('update possync.inbox set fence = gen_random_uuid() where store_id = $1::integer', [
      store.id,
    ]);
    await tellServers(hq.pool, {
      type: 'moved',
      store: store.id,
      server: randomUUID(),
      connection: randomUUID(),
    });
    await until(
      async () => {
        const now = await connection();
        return now !== undefined && now !== before;
      },
      { what: 'the store has connected again', timeoutMs: 30_000 },
    );
  });
});
