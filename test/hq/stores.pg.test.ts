/** Stores and tokens on a real database: ids never given twice, tokens as hashes, enrolment that survives a lost reply. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { PossyncError, type ErrorCode } from '../../src/core/errors.ts';
import {
  formatCredential,
  formatEnrolmentToken,
  hashSecret,
  newKid,
  newSecret,
  parseEnrolmentToken,
  type Secret,
} from '../../src/core/secret.ts';
import { createPool } from '../../src/db/pool.ts';
import { enrol } from '../../src/hq/stores/enrol.ts';
import { addStore, listStores, setStoreActive, showStore } from '../../src/hq/stores/stores.ts';
import {
  authenticate,
  forgetCredentials,
  issueEnrolmentToken,
  listTokens,
} from '../../src/hq/stores/tokens.ts';
import type { Enrol } from '../../src/protocol/messages.ts';
import { hqDatabase, type TestDatabase } from '../support/postgres.ts';

const ACTOR = 'test@here';
const HQ_URL = 'https://hq.example.com:3001';

interface Machine {
  readonly kid: string;
  readonly secret: Secret;
  readonly credential: string;
}

function newMachine(): Machine {
  const kid = newKid();
  const secret = newSecret(kid);
  return { kid, secret, credential: formatCredential({ kid, secret }).reveal() };
}

function enrolment(token: string, { kid, secret }: Machine, replace = false): Enrol {
  return {
    token,
    kid,
    hash: hashSecret(secret).toString('hex'),
    instance: { boot: 'boot', daemon: randomUUID(), pgSysid: '1' },
    software: 'possync test',
    replace,
  };
}

async function failsWith(code: ErrorCode, work: Promise<unknown>): Promise<PossyncError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof PossyncError, `expected ${code}, got ${String(error)}`);
  assert.equal(error.code, code, error.message);
  return error;
}

describe('stores and tokens at HQ', () => {
  let database: TestDatabase;
  let pool: pg.Pool;

  before(async () => {
    database = await hqDatabase('stores');
    pool = createPool({ url: database.url, applicationName: 'possync test', max: 8 });
  });
  after(async () => {
    await pool.end();
    await database.drop();
  });

  const add = (code: string) =>
    addStore(pool, { code, name: `Store ${code}`, timeZone: 'America/New_York' }, ACTOR);
  const issue = (code: string, expiresInMs?: number) =>
    issueEnrolmentToken(pool, { code, hqUrl: HQ_URL, expiresInMs, actor: ACTOR });

  describe('ids', () => {
    it('are given from 1 and never a second time, not even after the row is gone', async () => {
      const first = await add('ID-1');
      const second = await add('ID-2');
      assert.equal(second.id, first.id + 1);
      await pool.query('delete from public.stores where id = $1', [second.id]);
      assert.equal((await add('ID-3')).id, second.id + 1);
    });

    it('pass over what plain SQL has given, even if it was taken back', async () => {
      await pool.query(
        `insert into public.stores (id, code, name, time_zone) values (5000, 'SQL-5000', 'By hand', 'UTC')`,
      );
      await pool.query('delete from public.stores where id = 5000');
      assert.equal((await add('ID-5001')).id, 5001);
    });

    it('pass over ids under which a store has said hello, after HQ was restored', async () => {
      await pool.query('insert into possync.inbox (store_id) values (7000)');
      assert.equal((await add('ID-7001')).id, 7001);
    });

    it('are all different when many add at once', async () => {
      const added = await Promise.all(Array.from({ length: 12 }, (_, n) => add(`PAR-${n}`)));
      assert.equal(new Set(added.map((store) => store.id)).size, 12);
    });
  });

  it('refuses a code twice, an odd code, and a time zone that PostgreSQL does not know', async () => {
    await add('DUP-1');
    await failsWith('PS-STORE-EXISTS', add('DUP-1'));
    await failsWith('PS-USAGE', add('no good'));
    const error = await failsWith(
      'PS-USAGE',
      addStore(pool, { code: 'TZ-1', name: 'x', timeZone: 'America/NewYork' }, ACTOR),
    );
    assert.match(error.hint, /America\/New_York/);
    assert.match((await failsWith('PS-STORE-UNKNOWN', showStore(pool, 'DUP-2'))).hint, /DUP-1/);
  });

  it('knows a store that was inserted by plain SQL, waiting for its enrolment', async () => {
    await pool.query(
      `insert into public.stores (id, code, name, time_zone) values (900, 'SQL-1', 'By hand', 'Europe/Berlin')`,
    );
    const store = await showStore(pool, 'SQL-1');
    assert.equal(store.status, 'pending_provisioning');
    assert.ok((await listStores(pool)).some((listed) => listed.code === 'SQL-1'));
    const { token } = await issue('SQL-1');
    await enrol(pool, enrolment(token.reveal(), newMachine()));
    assert.equal((await showStore(pool, 'SQL-1')).status, 'active');
  });

  describe('enrolment', () => {
    it('spends the token, provisions the store, and lets the credential in', async () => {
      const store = await add('EN-1');
      const { token } = await issue('EN-1');
      const machine = newMachine();
      const answer = await enrol(pool, enrolment(token.reveal(), machine));
      assert.deepEqual(answer.store, {
        id: store.id,
        code: 'EN-1',
        name: 'Store EN-1',
        timeZone: 'America/New_York',
      });
      assert.equal(answer.epoch, 1);
      const { createdAt, ...caller } = await authenticate(pool, machine.credential);
      assert.ok(createdAt !== '');
      assert.deepEqual(caller, {
        storeId: store.id,
        code: 'EN-1',
        name: 'Store EN-1',
        kid: machine.kid,
        state: 'active',
        expiresAt: null,
      });
      const states = (await listTokens(pool, store.id)).map(({ kind, state }) => `${kind} ${state}`);
      assert.deepEqual(states.sort(), ['credential active', 'enrolment spent']);
    });

    it('answers the same request again with the same answer: a lost reply locks nobody out', async () => {
      await add('EN-2');
      const { token } = await issue('EN-2');
      const request = enrolment(token.reveal(), newMachine());
      const answers = [await enrol(pool, request), await enrol(pool, request), await enrol(pool, request)];
      assert.deepEqual(answers[1], answers[0]);
      assert.deepEqual(answers[2], answers[0]);
    });

    it('gives one of two machines that enrol at once the store, and the other PS-TOKEN-SPENT', async () => {
      await add('EN-3');
      const { token } = await issue('EN-3');
      const results = await Promise.allSettled(
        [newMachine(), newMachine()].map((machine) => enrol(pool, enrolment(token.reveal(), machine))),
      );
      const refused = results.filter((result) => result.status === 'rejected');
      assert.equal(refused.length, 1);
      assert.equal((refused[0]?.reason as PossyncError).code, 'PS-TOKEN-SPENT');
    });

    it('does not take the hash of another machine for the same one', async () => {
      await add('EN-4');
      const { token } = await issue('EN-4');
      const machine = newMachine();
      await enrol(pool, enrolment(token.reveal(), machine));
      await failsWith(
        'PS-TOKEN-SPENT',
        enrol(pool, { ...enrolment(token.reveal(), newMachine()), kid: machine.kid }),
      );
    });

    it('revokes the credential before, so that a clone is shut out', async () => {
      await add('EN-5');
      const old = newMachine();
      await enrol(pool, enrolment((await issue('EN-5')).token.reveal(), old));
      await authenticate(pool, old.credential);
      const fresh = newMachine();
      await enrol(pool, enrolment((await issue('EN-5')).token.reveal(), fresh));
      forgetCredentials(pool);
      await failsWith('PS-TOKEN-REVOKED', authenticate(pool, old.credential));
      await authenticate(pool, fresh.credential);
    });

    it('refuses an expired token, a replaced one, a foreign one and a garbled one, each by its name', async () => {
      await add('EN-6');
      const expired = await issue('EN-6');
      await pool.query(`update possync.tokens set expires_at = now() where kid = $1`, [expired.kid]);
      await failsWith('PS-TOKEN-EXPIRED', enrol(pool, enrolment(expired.token.reveal(), newMachine())));
      const replaced = await issue('EN-6');
      const newest = await issue('EN-6');
      assert.equal(newest.replaced, replaced.kid);
      await failsWith('PS-TOKEN-REVOKED', enrol(pool, enrolment(replaced.token.reveal(), newMachine())));
      const parsed = parseEnrolmentToken(newest.token.reveal());
      const forged = formatEnrolmentToken({ ...parsed, secret: newSecret(parsed.kid) });
      await failsWith('PS-TOKEN-UNKNOWN', enrol(pool, enrolment(forged.reveal(), newMachine())));
      await failsWith(
        'PS-TOKEN-GARBLED',
        enrol(pool, enrolment(newest.token.reveal().slice(0, -1), newMachine())),
      );
      await enrol(pool, enrolment(newest.token.reveal(), newMachine()));
    });

    it('hands a replacing server the next epoch and what its numbering continues from', async () => {
      const store = await add('EN-7');
      const other = await add('EN-8');
      await enrol(pool, enrolment((await issue('EN-7')).token.reveal(), newMachine()));
      await pool.query(
        `insert into possync.inbox (store_id, epoch, seq, chain) values ($1, 3, 9, sha256('x'))`,
        [store.id],
      );
      const register = randomUUID();
      const [closed, open, older, newer] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()];
      const ingest = await database.connect();
      await ingest.query(`set possync.applying = 'on'`);
      await ingest.query(
        `insert into public.registers (store_id, id, code, name) values ($1, $2, 'R1', 'Register 1')`,
        [store.id, register],
      );
      await ingest.query(
        `insert into public.register_sessions (store_id, id, register_id, user_id, status, opened_at)
         values ($1, $2, $3, $3, 'closed', now()), ($1, $4, $3, $3, 'open', now())`,
        [store.id, closed, register, open],
      );
      await ingest.query(
        `insert into public.sales (store_id, id, register_id, session_id, cashier_id, kind, status, receipt_number,
                                   total, occurred_at, business_date)
         values ($1, $2, $3, $4, $3, 'sale', 'completed', 'A-1', 100, now() - interval '1 hour', current_date),
                ($1, $5, $3, $4, $3, 'sale', 'completed', 'A-2', 200, now(), current_date)`,
        [store.id, older, register, closed, newer],
      );
      await ingest.query(
        `insert into public.sale_lines (store_id, business_date, sale_id, line_no, sku, name, quantity, unit_price)
         values ($1, current_date, $2, 1, 'S', 'N', 1000, 200)`,
        [store.id, newer],
      );
      await ingest.query(
        `insert into public.transfers (id, number, from_store_id, to_store_id, status, created_by)
         values ($3, 'T-1', $1, $2, 'pending', $3), ($4, 'T-2', $2, $1, 'pending', $3)`,
        [store.id, other.id, register, randomUUID()],
      );
      const request = enrolment((await issue('EN-7')).token.reveal(), newMachine(), true);
      const answer = await enrol(pool, request);
      assert.equal(answer.epoch, 4);
      const rows = (answer.continuation ?? []).map(
        ([table, row]) => `${table} ${String(row.id ?? row.sale_id)}`,
      );
      const expected = [
        `registers ${register}`,
        ...[`register_sessions ${closed}`, `register_sessions ${open}`].sort(),
        `sales ${newer}`,
        `sale_lines ${newer}`,
        `transfers ${register}`,
      ];
      assert.deepEqual([rows[0], ...rows.slice(1, 3).sort(), ...rows.slice(3)], expected);
      assert.deepEqual(await enrol(pool, request), answer, 'a lost reply does not start another epoch');
    });
  });

  describe('a deactivated store', () => {
    it('is refused, told to every server at once, and let in again', async () => {
      const store = await add('DE-1');
      const machine = newMachine();
      await enrol(pool, enrolment((await issue('DE-1')).token.reveal(), machine));
      const listener = await database.connect();
      const told: string[] = [];
      listener.on('notification', ({ payload }) => told.push(payload ?? ''));
      await listener.query('listen possync_stores');
      assert.equal((await setStoreActive(pool, 'DE-1', false, ACTOR)).changed, true);
      assert.equal((await setStoreActive(pool, 'DE-1', false, ACTOR)).changed, false);
      await listener.query('select 1');
      assert.deepEqual(told, [String(store.id)]);
      forgetCredentials(pool);
      await failsWith('PS-STORE-DISABLED', authenticate(pool, machine.credential));
      await failsWith('PS-STORE-DISABLED', issue('DE-1'));
      await setStoreActive(pool, 'DE-1', true, ACTOR);
      forgetCredentials(pool);
      await authenticate(pool, machine.credential);
    });

    it('may be deactivated by plain SQL as well, with the same effect', async () => {
      await add('DE-2');
      const machine = newMachine();
      await enrol(pool, enrolment((await issue('DE-2')).token.reveal(), machine));
      await pool.query(`update public.stores set active = false where code = 'DE-2'`);
      await failsWith('PS-STORE-DISABLED', authenticate(pool, machine.credential));
    });
  });

  it('tells nobody without the secret whether a credential exists', async () => {
    await add('AU-1');
    const machine = newMachine();
    await enrol(pool, enrolment((await issue('AU-1')).token.reveal(), machine));
    const forged = formatCredential({ kid: machine.kid, secret: newSecret(machine.kid) }).reveal();
    await failsWith('PS-TOKEN-UNKNOWN', authenticate(pool, forged));
    await failsWith('PS-TOKEN-UNKNOWN', authenticate(pool, newMachine().credential));
    await failsWith('PS-TOKEN-GARBLED', authenticate(pool, `${machine.credential}x`));
  });

  it('keeps hashes only: no secret is anywhere in the database', async () => {
    await add('SE-1');
    const { token } = await issue('SE-1');
    const machine = newMachine();
    await enrol(pool, enrolment(token.reveal(), machine));
    const { rows } = await pool.query<{ text: string }>(
      `select coalesce(string_agg(t::text, '|'), '') || (select string_agg(a::text, '|') from possync.audit a) as text
         from possync.tokens t`,
    );
    const text = rows[0]?.text ?? '';
    assert.ok(text.includes(machine.kid));
    assert.ok(!text.includes(machine.secret.reveal()));
    assert.ok(!text.includes(parseEnrolmentToken(token.reveal()).secret.reveal()));
  });
});
