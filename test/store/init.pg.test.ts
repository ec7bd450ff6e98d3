/** `store init` against a real HQ over HTTP: killed, unanswered, repeated, refused, taken over. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { PossyncError, type ErrorCode } from '../../src/core/errors.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { addStore } from '../../src/hq/stores/stores.ts';
import { issueEnrolmentToken, listTokens } from '../../src/hq/stores/tokens.ts';
import { readCredential } from '../../src/store/credential.ts';
import { initStore, type InitOptions } from '../../src/store/init.ts';
import { uuidv7 } from '../../src/core/ids.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { createDatabase, hqDatabase, storeDatabase, type TestDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';

async function failsWith(code: ErrorCode, work: Promise<unknown>): Promise<PossyncError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof PossyncError, `expected ${code}, got ${String(error)}`);
  assert.equal(error.code, code, error.message);
  return error;
}

describe('store init', () => {
  let hq: TestHq;
  let dir: string;
  let database: TestDatabase;
  let n = 0;

  before(async () => {
    hq = await TestHq.open('init');
  });
  after(async () => {
    await hq.close();
  });
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-init-'));
    database = await storeDatabase('init');
  });
  afterEach(async () => {
    await database.drop();
    await rm(dir, { recursive: true, force: true });
  });

  const newStore = async (): Promise<string> => {
    n += 1;
    const { code } = await addStore(hq.pool, { code: `I-${n}`, name: 'n', timeZone: 'UTC' }, 'test');
    return code;
  };
  const tokenFor = async (code: string, hqUrl = hq.running.url): Promise<string> =>
    (await issueEnrolmentToken(hq.pool, { code, hqUrl, actor: 'test' })).token.reveal();
  const init = (tokenText?: string, more: Partial<InitOptions> = {}) =>
    initStore({ databaseUrl: database.url, stateDir: dir, tokenText, ...more });
  const credentials = async (code: string): Promise<string[]> =>
    (await listTokens(hq.pool))
      .filter((token) => token.code === code && token.kind === 'credential')
      .map(({ kid, state }) => `${kid} ${state}`);

  it('sets the database up without a token, again and again', async () => {
    const empty = await createDatabase('init empty');
    try {
      const first = await init(undefined, { databaseUrl: empty.url });
      assert.equal(first.enrolment, 'none');
      assert.ok(first.migrations.length > 0);
      assert.deepEqual((await init(undefined, { databaseUrl: empty.url })).migrations, []);
    } finally {
      await empty.drop();
    }
  });

  it('is repeatable with the token it was enrolled with, even while HQ is away', async () => {
    const code = await newStore();
    const proxy = new FaultProxy({ host: '127.0.0.1', port: hq.port });
    await proxy.open();
    try {
      const token = await tokenFor(code, `http://127.0.0.1:${proxy.port}`);
      const first = await init(`${token}\r\n`);
      await proxy.set('refuse');
      const again = await init(token);
      assert.deepEqual([first.enrolment, again.enrolment, again.kid], ['enrolled', 'unchanged', first.kid]);
    } finally {
      await proxy.close();
    }
  });

  it('ends with one credential that HQ knows when the reply was lost', async () => {
    const code = await newStore();
    const proxy = new FaultProxy({ host: '127.0.0.1', port: hq.port });
    await proxy.open();
    try {
      const token = await tokenFor(code, `http://127.0.0.1:${proxy.port}`);
      proxy.dropNextAnswer(/POST \/api\/v1\/sync\/enrol/);
      await failsWith('PS-TCP-RESET', init(token));
      assert.equal(proxy.dropped, 1);
      assert.deepEqual(await readdir(dir), ['credential.next'], 'the secret was saved before HQ heard of it');
      assert.equal((await credentials(code)).length, 1, 'HQ has carried it out');
      const done = await init(token);
      assert.equal(done.enrolment, 'enrolled');
      assert.deepEqual(await credentials(code), [`${done.kid ?? '?'} active`]);
      assert.deepEqual(await readdir(dir), ['credential']);
    } finally {
      await proxy.close();
    }
  });

  it('negative control: a secret made anew for every try is locked out by a lost reply', async () => {
    const code = await newStore();
    const token = await tokenFor(code);
    await init(token);
    await rm(dir, { recursive: true, force: true });
    await failsWith('PS-TOKEN-SPENT', init(token));
  });

  it("refuses another store's token without spending it", async () => {
    const [mine, other] = [await newStore(), await newStore()];
    await init(await tokenFor(mine));
    const foreign = await tokenFor(other);
    const error = await failsWith('PS-TOKEN-STORE', init(foreign));
    assert.match(error.message, new RegExp(`belongs to store ${mine}, not to ${other}`));
    assert.deepEqual(await credentials(other), []);
  });

  it('refuses a garbled token with exit 66 before anything is touched', async () => {
    const token = await tokenFor(await newStore());
    const error = await failsWith('PS-TOKEN-GARBLED', init(token.slice(0, -2)));
    assert.equal(error.exit, 66);
    assert.deepEqual(await readdir(dir), []);
  });

  it('refuses plain HTTP beyond loopback unless it is allowed', async () => {
    const code = await newStore();
    const token = await tokenFor(code, 'http://hq.example.com:3001');
    await failsWith('PS-CFG-PLAINTEXT', init(token));
    const done = await init(token, { hqUrl: hq.running.url, allowPlaintext: true });
    assert.equal(done.hqUrl, hq.running.url);
    assert.equal((await readCredential(dir))?.allowPlaintext, true);
  });

  it('refuses the database of HQ', async () => {
    const other = await hqDatabase('init hq');
    try {
      await failsWith('PS-DB-ROLE', init(undefined, { databaseUrl: other.url }));
    } finally {
      await other.drop();
    }
  });

  it('gives a store whose credential was revoked a new one, and keeps its queue', async () => {
    const code = await newStore();
    const first = await init(await tokenFor(code));
    const till = await database.connect();
    await till.query(`insert into public.registers (id, store_id, code, name) values ($1, $2, 'R', 'R')`, [
      uuidv7(),
      first.store?.id,
    ]);
    await hq.pool.query(`update possync.tokens set state = 'revoked', ended_at = now() where kid = $1`, [
      first.kid,
    ]);
    const second = await init(await tokenFor(code));
    assert.notEqual(second.kid, first.kid);
    assert.equal((await readCredential(dir))?.kid, second.kid);
    const { waiting } = await queryOne<{ waiting: number }>(
      till,
      'select count(*) as waiting from possync.raw',
    );
    assert.equal(waiting, 1);
  });

  it('--replace: an empty server goes on where the lost one was, and sends nothing of it back', async () => {
    const lost = await TestStore.open(hq, 'LOST-1');
    const register = uuidv7();
    const session = uuidv7();
    const sale = uuidv7();
    await lost.pool.query(
      `insert into public.registers (id, store_id, code, name) values ($1, $2, 'R1', 'R')`,
      [register, lost.id],
    );
    await lost.pool.query(
      `insert into public.register_sessions (id, store_id, register_id, user_id, status, opened_at)
       values ($1, $2, $3, $3, 'open', now())`,
      [session, lost.id, register],
    );
    await lost.pool.query(
      `insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
                                 total, occurred_at, business_date)
       values ($1, $2, $3, $4, $3, 'sale', 'completed', 'A-9', 900, now(), current_date)`,
      [sale, lost.id, register, session],
    );
    await until(
      async () =>
        (
          await queryOne<{ n: number }>(hq.pool, 'select count(*) as n from public.sales where id = $1', [
            sale,
          ])
        ).n === 1,
      { what: 'the sale is at HQ' },
    );
    await lost.close();
    // Forgotten at first: refused before the token is spent. Said with the same one; then again without effect.
    const token = await tokenFor('LOST-1');
    await failsWith('PS-STORE-HISTORY', init(token));
    assert.equal(await readCredential(dir), undefined);
    const done = await init(token, { replace: true });
    assert.equal(done.continued, 3);
    const again = await init(token, { replace: true });
    assert.deepEqual([again.enrolment, again.continued], ['unchanged', 0]);
    // What a kill leaves between binding the database and saving the credential: the rerun is no new takeover.
    const credential = z
      .object({ token: z.string(), enrolled_with: z.string() })
      .parse(JSON.parse(await readFile(join(dir, 'credential'), 'utf8')));
    await rm(join(dir, 'credential'));
    await writeFile(join(dir, 'credential.next'), JSON.stringify({ ...credential, replace: true }), {
      mode: 0o600,
    });
    const killed = await init(token, { replace: true });
    assert.deepEqual([killed.enrolment, killed.continued, killed.kid], ['enrolled', 0, done.kid]);
    const till = await database.connect();
    const row = await queryOne<Record<string, unknown>>(
      till,
      `select s.epoch, s.store_id, (select count(*) from possync.raw) as raw, (select count(*) from possync.outbox) as queued,
              (select receipt_number from public.sales) as receipt, (select status from public.register_sessions) as session
         from possync.state s`,
    );
    assert.deepEqual(row, {
      epoch: 2,
      store_id: lost.id,
      raw: 0,
      queued: 0,
      receipt: 'A-9',
      session: 'open',
    });
    await failsWith('PS-OUTBOX-NOT-EMPTY', init(await tokenFor('LOST-1'), { replace: true }));
  });
});
