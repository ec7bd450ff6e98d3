/** The book of a server's connections: real sockets, a real table, and the beats in the hand of the test. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { randomUUID } from 'node:crypto';
import { WebSocket, WebSocketServer } from 'ws';
import { LinkBook } from '../../src/hq/stores/link-book.ts';
import { LINK_FRESH_MS } from '../../src/hq/stores/live.ts';
import { StoreSocket } from '../../src/hq/stores/socket.ts';
import type { Hello, StoreFrame } from '../../src/protocol/messages.ts';
import { HandClock } from '../support/hand-clock.ts';
import { memoryLog } from '../support/memory-log.ts';
import { openHq, type TestSide } from '../support/pos.ts';
import { until } from '../support/until.ts';
import { anInstance } from '../support/up.ts';

const STORES = [1, 2];
const BEAT_MS = LINK_FRESH_MS / 2;
const SERVER = randomUUID();

/** Only the beats are in the hand: what gathers for a moment goes on by itself. */
class BeatClock extends HandClock {
  override sleep(): Promise<void> {
    return Promise.resolve();
  }
}

interface Row {
  readonly connection: string;
  readonly connected: boolean;
  readonly closeReason: string | null;
  readonly queued: number | null;
  readonly fresh: boolean;
}

describe('the book of live connections', function () {
  this.timeout(120_000);
  let hq: TestSide;
  let listener: WebSocketServer;
  let clock: BeatClock;
  let log: ReturnType<typeof memoryLog>;
  let connected: Map<number, StoreSocket>;
  let book: LinkBook;
  /** The stores' ends. */
  const ends = new Map<StoreSocket, WebSocket>();

  before(async () => {
    hq = await openHq('link book', STORES);
    listener = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    await once(listener, 'listening');
  });
  beforeEach(async () => {
    await hq.db.query('delete from possync.live_links');
    clock = new BeatClock();
    log = memoryLog();
    connected = new Map();
    book = new LinkBook({ pool: hq.pool, clock, log, server: SERVER, connected });
    book.start();
  });
  afterEach(async () => {
    for (const end of ends.values()) end.terminate();
    ends.clear();
    await book.stop();
  });
  after(async () => {
    listener.close();
    await hq.close();
  });

  const hello = (): Hello => ({
    type: 'hello',
    v: 1,
    store: 'S-1',
    epoch: 1,
    instance: anInstance(),
    out: { seq: 0, oldest: 1, acked: 0, chain: '' },
    in: { pos: 0, nonce: null, paged: 0 },
    bodyVersion: 2,
    software: 'possync test',
    epochs: [],
  });
  /** A store's connection that has said hello, under a clock that stands still: no heartbeat ends it. */
  const connect = async (storeId: number): Promise<StoreSocket> => {
    const accepted = once(listener, 'connection') as Promise<[WebSocket]>;
    const end = new WebSocket(`ws://127.0.0.1:${(listener.address() as AddressInfo).port}`);
    const [ws] = await accepted;
    const greeted = new Promise<StoreSocket>((resolve) => {
      const socket = new StoreSocket(
        ws,
        {
          storeId,
          code: `S-${storeId}`,
          name: '',
          kid: `K${storeId}`,
          state: 'active',
          createdAt: '2026-11-23T00:00:00Z',
          expiresAt: null,
        },
        '127.0.0.1:1',
        new HandClock(),
        {
          hello: resolve,
          stat: () => undefined,
          auth: () => undefined,
          rotation: () => undefined,
          closed: () => undefined,
        },
      );
      ends.set(socket, end);
    });
    if (end.readyState !== WebSocket.OPEN) await once(end, 'open');
    end.send(JSON.stringify(hello()));
    const socket = await greeted;
    socket.welcome(randomUUID());
    connected.set(storeId, socket);
    return socket;
  };
  /** Closed by the server, as one that a newer connection replaces. */
  const close = async (socket: StoreSocket): Promise<void> => {
    socket.close(4000, 'the end');
    await until(() => !socket.open, { what: 'the connection is closed' });
  };
  const report = async (socket: StoreSocket, queued: number): Promise<void> => {
    const frame: StoreFrame = {
      type: 'stat',
      id: null,
      out: { queued, queuedHigh: 0, bytes: 0, oldestAt: null, halted: null, acked: 0 },
      in: { pos: 0, appliedAt: null, error: null },
    };
    ends.get(socket)?.send(JSON.stringify(frame));
    await until(() => socket.stat?.out.queued === queued, { what: 'HQ has the report' });
  };
  const rowOf = async (storeId: number): Promise<Row | undefined> => {
    const { rows } = await hq.db.query<Row>(
      `select l.connection::text, l.connected, l.close_reason as "closeReason", (l.stat #>> '{out,queued}')::integer as queued,
              l.written_at > clock_timestamp() - interval '1 hour' as fresh
         from possync.live_links l where l.store_id = $1::integer`,
      [storeId],
    );
    return rows[0];
  };
  const untilRow = (storeId: number, fits: (row: Row) => boolean, what: string): Promise<Row> =>
    until(
      async () => {
        const row = await rowOf(storeId);
        return row !== undefined && fits(row) && row;
      },
      { what, timeoutMs: 30_000 },
    );
  const age = (): Promise<unknown> => hq.db.query(`update possync.live_links set written_at = 'epoch'`);
  /** Every statement of the book fails from now on, until the table has its name again. */
  const away = (): Promise<unknown> =>
    hq.db.query('alter table possync.live_links rename to live_links_away');
  const back = (): Promise<unknown> =>
    hq.db.query('alter table possync.live_links_away rename to live_links');

  it('writes a new connection at once, and touches it with each beat though nothing else is heard of it', async () => {
    const socket = await connect(1);
    book.changed(socket, 'now');
    await untilRow(1, ({ connection }) => connection === socket.id, 'the row is written');
    for (let beat = 0; beat < 3; beat += 1) {
      await age();
      await until(
        async () => {
          clock.advance(BEAT_MS); // the one before may not have ended yet: then this is none
          return (await rowOf(1))?.fresh;
        },
        { what: 'a beat has touched it', timeoutMs: 30_000 },
      );
    }
    assert.equal((await rowOf(1))?.connected, true);
  });

  it('writes a row whole with the next beat where the table has lost it', async () => {
    const sockets = [await connect(1), await connect(2)];
    for (const socket of sockets) book.changed(socket, 'now');
    for (const socket of sockets)
      await untilRow(socket.storeId, ({ connection }) => connection === socket.id, 'the row is written');
    await hq.db.query('delete from possync.live_links');
    clock.advance(BEAT_MS);
    for (const socket of sockets)
      await untilRow(
        socket.storeId,
        ({ connection }) => connection === socket.id,
        'the row is there again without another beat',
      );
  });

  it('keeps a routine report for the next beat', async () => {
    const socket = await connect(1);
    book.changed(socket, 'now');
    await untilRow(1, ({ queued }) => queued === null, 'the row is written');
    await report(socket, 3);
    let statements = 0;
    const count = (): void => {
      statements += 1;
    };
    hq.pool.on('acquire', count);
    book.changed(socket, 'beat');
    await hq.pool.query('select');
    assert.equal(statements, 1, 'that one, and none of the book before it');
    hq.pool.off('acquire', count);
    clock.advance(BEAT_MS);
    await untilRow(1, ({ queued }) => queued === 3, 'the beat has written it');
  });

  it('writes at once that a connection has ended, and why', async () => {
    const socket = await connect(1);
    book.changed(socket, 'now');
    await untilRow(1, (row) => row.connected, 'the row is written');
    await close(socket);
    connected.delete(1);
    book.ended(socket);
    const row = await untilRow(1, (now) => !now.connected, 'the end is written');
    assert.deepEqual([row.connection, row.closeReason], [socket.id, 'the end']);
  });

  it('has written all ends when it has stopped', async () => {
    const sockets = [await connect(1), await connect(2)];
    for (const socket of sockets) book.changed(socket, 'beat');
    for (const socket of sockets) await close(socket);
    connected.clear();
    // The second one ends while the end of the first is being written.
    for (const socket of sockets) book.ended(socket);
    await book.stop();
    for (const storeId of STORES) assert.equal((await rowOf(storeId))?.closeReason, 'the end');
  });

  it('of a store that has come back meanwhile, writes what lives and not what has ended', async () => {
    const old = await connect(1);
    await close(old);
    const fresh = await connect(1);
    book.changed(fresh, 'beat');
    book.ended(old);
    const row = await untilRow(1, () => true, 'one of the two is written');
    assert.deepEqual([row.connection, row.connected], [fresh.id, true]);
  });

  it('writes with a later beat what a statement that failed has not written', async () => {
    const [ended, living] = [await connect(1), await connect(2)];
    book.changed(living, 'now');
    await untilRow(2, ({ queued }) => queued === null, 'the row is written');
    await close(ended);
    connected.delete(1);
    await report(living, 5);
    await away();
    book.changed(living, 'beat');
    book.ended(ended);
    await until(() => log.lines.length > 0, { what: 'the statement has failed', timeoutMs: 30_000 });
    await back();
    await until(
      async () => {
        clock.advance(BEAT_MS);
        return (await rowOf(1))?.closeReason === 'the end' && (await rowOf(2))?.queued === 5;
      },
      { what: 'the end of the one and the report of the other are there', timeoutMs: 30_000 },
    );
  });
});
