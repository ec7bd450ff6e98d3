/** Many stores that say hello at the same moment share their statements, and none of them notices the others. */
import assert from 'node:assert/strict';
import { queryOne } from '../../../src/db/transaction.ts';
import { hello } from '../../../src/hq/inbox/hello.ts';
import type { Hello, Instance, Refuse, Welcome } from '../../../src/protocol/messages.ts';
import { waitsForLock } from '../../support/locks.ts';
import { openHq, type TestSide } from '../../support/pos.ts';
import { anInstance } from '../../support/up.ts';

const STORES = Array.from({ length: 60 }, (_, n) => n + 1);
const chainOf = (storeId: number): string => storeId.toString(16).padStart(64, '0');

function message(storeId: number, changes: Partial<Hello> = {}): Hello {
  return {
    type: 'hello',
    v: 1,
    store: `S-${storeId}`,
    epoch: 1,
    instance: anInstance(),
    out: { seq: 0, oldest: 1, acked: 0, chain: '' },
    in: { pos: 0, nonce: null, paged: 0 },
    bodyVersion: 2,
    software: `till ${storeId}`,
    epochs: [{ epoch: 1, seq: 0, chain: '' }],
    layouts: [[`l${storeId % 3}`, 'sales', ['id', `column${storeId % 3}`]]],
    ...changes,
  };
}

describe('hellos of many stores', () => {
  let hq: TestSide;
  const greet = (
    said: Hello,
    isAlive: (instance: Instance) => boolean = () => false,
  ): Promise<Welcome | Refuse> =>
    hello(hq.pool, Number(said.store.slice(2)), said, (instance) => Promise.resolve(isAlive(instance)));

  beforeEach(async () => {
    hq = await openHq('hellos', STORES);
    // Half of them have been here, each with its own history.
    await hq.db.query(
      `insert into possync.inbox (store_id, seq, chain, epoch)
       select s.id, s.id * 10, decode(lpad(to_hex(s.id), 64, '0'), 'hex'), case when s.id % 10 = 0 then 2 else 1 end
         from public.stores s where s.id % 2 = 0`,
    );
    await hq.db.query(
      `insert into possync.dead (store_id, epoch, seq, v, body, type, key, aggregates, kind, error)
       select 4, 1, d.seq, 1, '{}', 'sale', 'x', '{}', 'data', 'no' from generate_series(9, 7, -1) as d (seq)`,
    );
    await hq.db.query('update public.stores set active = false where id = 5');
  });
  afterEach(() => hq.close());

  it('are answered each for itself, with two transactions for all of them', async () => {
    let connections = 0;
    hq.pool.on('acquire', () => (connections += 1));
    const said = STORES.map((storeId) => message(storeId));
    const answers = await Promise.all(said.map((one) => greet(one)));
    assert.equal(connections, 2);
    const { rows } = await hq.db.query<{ id: number; fence: string; said: string }>(
      `select store_id as id, fence::text, concat_ws(' ', instance ->> 'daemon', software, declared, layouts) as said
         from possync.inbox where fence is not null order by store_id`,
    );
    const written = new Map(rows.map((row) => [row.id, row]));
    for (const [n, storeId] of STORES.entries()) {
      const answer = answers[n];
      const mine = said[n];
      assert.ok(answer !== undefined && mine !== undefined);
      if (storeId === 5 || storeId % 10 === 0) {
        assert.equal(answer.type === 'refuse' && answer.code, storeId === 5 ? 'disabled' : 'epoch');
        assert.ok(!written.has(storeId));
        continue;
      }
      assert.ok(answer.type === 'welcome');
      assert.deepEqual(
        [answer.store.code, answer.inbox, answer.dead],
        [
          `S-${storeId}`,
          storeId % 2 === 0 ? { seq: storeId * 10, chain: chainOf(storeId) } : { seq: 0, chain: '' },
          storeId === 4 ? [7, 8, 9] : [],
        ],
      );
      assert.equal(written.get(storeId)?.fence, answer.fence);
      assert.equal(
        written.get(storeId)?.said,
        `${mine.instance.daemon} till ${storeId} [{"seq": 0, "chain": "", "epoch": 1}] ` +
          `[["l${storeId % 3}", "sales", ["id", "column${storeId % 3}"]]]`,
      );
    }
    assert.equal(new Set(rows.map(({ fence }) => fence)).size, rows.length);
  });

  it('wait for no row but their own: a push at work holds up its store alone', async () => {
    await hq.db.query('begin');
    await hq.db.query('select from possync.inbox where store_id = 2 for update');
    let held = true;
    const waiting = greet(message(2)).finally(() => (held = false));
    const others = await Promise.all([1, 3, 4].map((storeId) => greet(message(storeId))));
    assert.deepEqual(
      others.map(({ type }) => type),
      ['welcome', 'welcome', 'welcome'],
    );
    await waitsForLock(hq.db);
    assert.ok(held);
    await hq.db.query('update possync.inbox set seq = 21 where store_id = 2');
    await hq.db.query('commit');
    const answer = await waiting;
    assert.ok(answer.type === 'welcome' && answer.inbox.seq === 21, 'where it stands after the push');
  });

  it('of two machines of one store at the same moment, the second is asked about the first', async () => {
    const [one, two] = [message(3), message(3)];
    const asked: string[] = [];
    const alive = ({ daemon }: Instance): boolean => asked.push(daemon) > 0;
    const answers = await Promise.all([greet(one, alive), greet(two, alive), greet(message(4), alive)]);
    assert.deepEqual(
      answers.map((answer) => (answer.type === 'refuse' ? answer.code : answer.type)),
      ['welcome', 'other_instance_alive', 'welcome'],
    );
    assert.deepEqual(asked, [one.instance.daemon]);
  });

  it('of a machine that came in while another one was asked whether it lives: it is asked as well', async () => {
    const [gone, one, two] = [message(3), message(3), message(3)];
    await greet(gone);
    const asked: string[] = [];
    const answer = await hello(hq.pool, 3, one, async ({ daemon }) => {
      asked.push(daemon);
      if (daemon !== gone.instance.daemon) return true;
      assert.equal((await greet(two)).type, 'welcome');
      return false;
    });
    assert.equal(answer.type === 'refuse' && answer.code, 'other_instance_alive');
    assert.deepEqual(asked, [gone.instance.daemon, two.instance.daemon]);
    const { holder } = await queryOne<{ holder: string }>(
      hq.db,
      `select i.instance ->> 'daemon' as holder from possync.inbox i where i.store_id = 3`,
    );
    assert.equal(holder, two.instance.daemon);
  });

  it('of an epoch that HQ has not heard of: let in where HQ has nothing of the store, else refused', async () => {
    // 1 has never been here; 11 has, and sent nothing; 2 has sent twenty entries of epoch 1.
    await hq.db.query('insert into possync.inbox (store_id) values (11)');
    const newer = { epoch: 3, epochs: [{ epoch: 3, seq: 0, chain: '' }] };
    const known = { epoch: 3, epochs: [{ epoch: 1, seq: 20, chain: chainOf(2) }, ...newer.epochs] };
    const answers = await Promise.all(
      [message(1, newer), message(11, newer), message(2, newer), message(4, known)].map((said) =>
        greet(said),
      ),
    );
    assert.deepEqual(
      answers.map((answer) => [answer.type === 'refuse' ? answer.code : answer.type, answer.epoch]),
      [
        ['welcome', 3],
        ['welcome', 3],
        ['epoch', 1],
        ['welcome', 1],
      ],
    );
    const { rows } = await hq.db.query<{ id: number; epoch: number; seq: number }>(
      `select i.store_id as id, i.epoch, i.seq from possync.inbox i where i.store_id in (1, 2, 4, 11) order by 1`,
    );
    assert.deepEqual(rows.map(Object.values), [
      [1, 3, 0],
      [2, 1, 20],
      [4, 1, 40],
      [11, 3, 0],
    ]);
  });

  it('one that the database cannot keep is refused alone', async () => {
    const answers = await Promise.allSettled([
      greet(message(6, { software: 'a\0b' })),
      greet(message(7)),
      greet(message(8)),
    ]);
    assert.deepEqual(
      answers.map((answer) => (answer.status === 'fulfilled' ? answer.value.type : 'error')),
      ['error', 'welcome', 'welcome'],
    );
  });
});
