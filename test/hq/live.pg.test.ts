/** The rows of live connections: one store's words never cost another its light. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { touchLinks, writeLinks, type LinkRow } from '../../src/hq/stores/live.ts';
import { openHq, type TestSide } from '../support/pos.ts';

describe('live connections', () => {
  let hq: TestSide;
  before(async () => {
    hq = await openHq('live', [1, 2]);
  });
  after(() => hq.close());

  const row = (storeId: number, error: string | null): LinkRow => ({
    storeId,
    server: randomUUID(),
    connection: randomUUID(),
    daemon: randomUUID(),
    kid: 'K',
    remote: '::1',
    software: 'possync test',
    connected: true,
    sinceMs: 1_000,
    lastFrameMs: 2_000,
    rttMs: null,
    closeCode: null,
    closeReason: error,
    stat: {
      type: 'stat',
      id: null,
      out: { queued: 0, queuedHigh: 0, bytes: 0, oldestAt: null, halted: null, acked: 0 },
      in: { pos: 0, appliedAt: null, error },
    },
    statMs: 2_000,
  });

  it('are all written, whatever one store says of itself', async () => {
    await writeLinks(hq.pool, [row(1, `cut in two \ud83d, with a \0 in it, "quoted" \\ ü`), row(2, null)]);
    const { rows } = await hq.db.query(
      `select store_id, stat #>> '{in,error}' as error from possync.live_links order by store_id`,
    );
    assert.deepEqual(rows, [
      { store_id: 1, error: 'cut in two \ufffd, with a \ufffd in it, "quoted" \\ ü' },
      { store_id: 2, error: null },
    ]);
  });

  it('are touched where the row is of this connection, and named where it is not', async () => {
    const [mine, before] = [row(1, null), row(2, null)];
    await writeLinks(hq.pool, [mine, before]);
    await hq.db.query(`update possync.live_links set written_at = 'epoch'`);
    const after = { ...before, connection: randomUUID() };
    assert.deepEqual(
      await touchLinks(hq.pool, [{ ...mine, lastFrameMs: 9_000, rttMs: 3 }, after, row(3, null)]),
      [2, 3],
    );
    const { rows } = await hq.db.query(
      `select store_id, extract(epoch from last_frame_at)::integer as last, rtt_ms, stat is not null as stat,
              written_at > now() - interval '1 min' as fresh from possync.live_links order by store_id`,
    );
    assert.deepEqual(rows, [
      { store_id: 1, last: 9, rtt_ms: 3, stat: true, fresh: true },
      { store_id: 2, last: 2, rtt_ms: null, stat: true, fresh: false },
    ]);
  });
});
