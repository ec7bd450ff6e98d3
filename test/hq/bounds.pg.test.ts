/** HQ in trouble of its own: programs that hold locks, lines that are half open, and a chain that returns at once. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { formatCredential, hashSecret, newKid, newSecret } from '../../src/core/secret.ts';
import { nextChain } from '../../src/core/chain.ts';
import { uuidv7 } from '../../src/core/ids.ts';
import { systemClock } from '../../src/core/clock.ts';
import { PossyncError } from '../../src/core/errors.ts';
import { toPossyncError } from '../../src/core/classify.ts';
import { connect, createPool } from '../../src/db/pool.ts';
import { queryOne, withTransaction } from '../../src/db/transaction.ts';
import { Gate } from '../../src/hq/gate.ts';
import { HqClient } from '../../src/store/link/hq-client.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { createDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';

describe('HQ beside programs that hold locks', function () {
  this.timeout(120_000);

  it('a lock on sales and products bounds the wait of a push and of a round; nothing is parked, all flows after it', async () => {
    const hq = await TestHq.open('lockers');
    const store = await TestStore.open(hq, 'LOCKED');
    await store.untilLight('green');
    const till = await store.database.connect();
    const session = await openSession(till, await addRegister(till, store.id), store.id);
    const program = await hq.database.connect();
    await program.query('begin; lock table public.sales, public.products in access exclusive mode');
    await sell(till, session, { storeId: store.id });
    await hq.pool.query(`insert into public.roles (id, name) values (gen_random_uuid(), 'meanwhile')`);
    await hq.pool.query(
      `insert into public.tax_rates (id, code, name, rate_bp) values (gen_random_uuid(), 'T', 't', 1)`,
    );
    await until(
      async () =>
        (
          await store.pool.query(
            `select from possync.sending where last_error = 'PS-HQ-BUSY' and next_try_at is not null`,
          )
        ).rowCount === 1,
      { what: 'the store was told to come back', timeoutMs: 40_000 },
    );
    assert.equal((await store.link()).indicator, 'green', 'the link lives');
    const ready = await fetch(`${hq.running.url}/readyz`);
    assert.equal(ready.status, 200, 'connections of HQ are free');
    await program.query('rollback');
    await until(async () => (await hq.pool.query('select from public.sales')).rowCount === 1, {
      what: 'the sale arrived',
      timeoutMs: 30_000,
    });
    await until(async () => (await store.count('tax_rates')) === 1, {
      what: 'the round came',
      timeoutMs: 30_000,
    });
    assert.equal((await hq.pool.query('select from possync.dead')).rowCount, 0);
    await store.close();
    await hq.close();
  });

  it('a round that waits for a table gives up and says so, instead of holding up every other one', async () => {
    const hq = await TestHq.open('sealer locked');
    const program = await hq.database.connect();
    await program.query('begin; lock table public.products in access exclusive mode');
    // Captured by hand: whoever changes a product would wait for the same lock.
    await hq.pool.query(`insert into possync.capture (entity, pk) values ('product', '["${randomUUID()}"]')`);
    await until(() => hq.log.lines.some(({ message }) => message.includes('could not seal')), {
      what: 'the sealer says that it cannot seal',
      timeoutMs: 40_000,
    });
    await program.query('rollback');
    await until(() => hq.log.lines.some(({ message }) => message.includes('sealing works again')), {
      what: 'sealing goes on by itself',
      timeoutMs: 20_000,
    });
    await hq.close();
  });
});

describe('a half-open line to PostgreSQL', () => {
  it('holds a request no longer than its limit, a lock no longer than the server’s, and the pool goes on', async () => {
    const database = await createDatabase('half open');
    const direct = new URL(database.url);
    const proxy = new FaultProxy({ host: direct.hostname, port: Number(direct.port) });
    await proxy.open();
    direct.port = String(proxy.port);
    const pool = createPool({ url: direct.href, applicationName: 'half open', queryTimeoutMs: 400, max: 2 });
    try {
      const limits = await queryOne<Record<string, string>>(
        pool,
        `select current_setting('idle_in_transaction_session_timeout') as idle, current_setting('tcp_user_timeout') as unsent,
              current_setting('tcp_keepalives_idle') as alive`,
      );
      assert.deepEqual(limits, { idle: '1min', unsent: '30000', alive: '10' });
      const owner = await database.connect();
      await owner.query('create table held (n integer)');
      const broken = withTransaction(pool, async (tx) => {
        // The minute of the product, shortened: what ends is the same.
        await tx.query(`set local idle_in_transaction_session_timeout = '300ms'`);
        await tx.query('lock table held in access exclusive mode');
        await proxy.set('black-hole');
        await tx.query('select 1');
      });
      await assert.rejects(broken, (error: unknown) => toPossyncError(error).code === 'PS-DB-DOWN');
      await owner.query(`set lock_timeout = '5s'; insert into held values (1)`);
      await proxy.set('pass');
      assert.equal((await queryOne<{ n: number }>(pool, 'select count(*) as n from held')).n, 1);
    } finally {
      await pool.end();
      await proxy.close();
      await database.drop();
    }
  });
});

describe('a chain that returns at once', function () {
  this.timeout(180_000);

  it('is spread by how many wait: a few seconds for ten, up to a minute for thousands', async () => {
    const gate = new Gate(24, () => 0.999);
    let open: () => void = () => undefined;
    const hold = new Promise<void>((resolve) => {
      open = resolve;
    });
    const inside = Array.from({ length: 24 }, () => gate.run(() => hold));
    const told: number[] = [];
    for (let n = 0; n < 5_000; n += 1) {
      await gate
        .run(() => hold)
        .catch((error: unknown) => {
          assert.ok(error instanceof PossyncError);
          told.push(Number(error.details.retryMs));
        });
    }
    assert.ok((told[9] ?? 0) <= 5_000, `the tenth stays away for ${told[9]} ms`);
    assert.ok(
      (told[4_999] ?? 0) > 50_000 && Math.max(...told) <= 56_000,
      `the last one for ${told[4_999]} ms`,
    );
    open();
    await Promise.all(inside);
  });

  it('200 stores: 24 are served at a time, the others hear 429 with a time of their own, all drain, none starves', async () => {
    const STORES = 200;
    const PLACES = 24;
    const hq = await TestHq.open('fleet');
    await hq.pool.query(
      `insert into public.stores (id, code, name, time_zone)
       select n, 'F-' || n, 'F', 'UTC' from generate_series(1, $1::int) n`,
      [STORES],
    );
    const secrets = Array.from({ length: STORES }, () => {
      const kid = newKid();
      const secret = newSecret(kid);
      return { kid, secret, token: formatCredential({ kid, secret }) };
    });
    await hq.pool.query(
      `insert into possync.tokens (kid, store_id, kind, state, hash)
       select t.kid, t.n, 'credential', 'active', decode(t.hash, 'hex')
         from unnest($1::text[], $2::text[]) with ordinality as t(kid, hash, n)`,
      [secrets.map(({ kid }) => kid), secrets.map(({ secret }) => hashSecret(secret).toString('hex'))],
    );
    const fleet = secrets.map(
      ({ token }, index) =>
        new SimulatedStore(
          index + 1,
          new HqClient({ url: hq.running.url, credential: token, software: 'fleet' }),
        ),
    );
    for (const store of fleet) await store.hello();
    // Somebody has the table: whoever is let in stays in, so that the number of those sent away is certain.
    const program = await connect({ url: hq.database.url, applicationName: 'possync test' });
    await program.query('begin; lock table public.registers in access exclusive mode');
    const drained = Promise.all(fleet.map((store) => store.drain()));
    await until(() => fleet.filter(({ told }) => told.length > 0).length >= STORES - PLACES, {
      what: 'all but those inside were sent away',
      timeoutMs: 9_000,
    });
    await program.query('rollback');
    await program.end();
    await drained;
    const told = fleet.flatMap((store) => store.told);
    assert.ok(new Set(told).size > told.length / 4, 'the times differ');
    assert.ok(told.every((ms) => ms >= 1_000 && ms <= 60_000));
    const { n, dead } = await queryOne<{ n: number; dead: number }>(
      hq.pool,
      'select count(*) as n, (select count(*) from possync.dead) as dead from public.registers',
    );
    assert.deepEqual([n, dead], [STORES * SimulatedStore.batches, 0]);
    const most = Math.max(...fleet.map((store) => store.told.length));
    assert.ok(most <= 12, `one store was sent away ${most} times`);
    for (const store of fleet) store.close();
    await hq.close();
  });
});

/** A store that sends registers, as its daemon would: one batch at a time, and away for as long as it is told. */
class SimulatedStore {
  static readonly batches = 5;
  readonly #id: number;
  readonly #client: HqClient;
  readonly told: number[] = [];
  #fence = '';

  constructor(id: number, client: HqClient) {
    this.#id = id;
    this.#client = client;
  }

  async hello(): Promise<void> {
    const answer = await this.#client.hello({
      type: 'hello',
      v: 1,
      store: `F-${this.#id}`,
      epoch: 1,
      instance: { boot: 'b', daemon: randomUUID(), pgSysid: '1' },
      out: { seq: 0, oldest: 1, acked: 0, chain: '' },
      in: { pos: 0, nonce: null, paged: 0 },
      bodyVersion: 1,
      software: 'fleet',
      epochs: [],
    });
    assert.ok(answer.type === 'welcome');
    this.#fence = answer.fence;
  }

  async drain(): Promise<void> {
    let chain = '';
    for (let seq = 1; seq <= SimulatedStore.batches; seq += 1) {
      const body = JSON.stringify({
        registers: [{ id: uuidv7(), store_id: this.#id, code: `R${seq}`, name: 'R', active: true }],
      });
      const prev = chain;
      chain = nextChain(prev, seq, body);
      const push = {
        epoch: 1,
        fence: this.#fence,
        first: seq,
        prev,
        txs: [{ seq, v: 1, body }],
        lastChain: chain,
      };
      for (;;) {
        const answer = await this.#client.push(push);
        if (answer.result === 'ok') break;
        assert.ok(answer.result === 'later');
        this.told.push(answer.afterMs);
        await systemClock.sleep(answer.afterMs);
      }
    }
  }

  close(): void {
    this.#client.close();
  }
}
