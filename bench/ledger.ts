/**
 * What the completeness ledger costs: applying the same batches with its triggers and without, judging what has arrived,
 * and looking when nothing has. `npx tsx bench/ledger.ts [sales] [sales per session]`
 *
 * CPU is that of PostgreSQL's processes, as the kernel counts it (Linux): on a machine that does other things as well, only
 * that can be compared.
 */
import { readFileSync } from 'node:fs';
import type pg from 'pg';
import type { Push } from '../src/protocol/messages.ts';
import { ledgerRound } from '../src/hq/ledger/round.ts';
import { settleLedger } from '../src/hq/ledger/ledger.ts';
import { newestMark } from '../src/hq/ledger/marks.ts';
import { closeSession } from '../src/demo/cash-office.ts';
import { addRegister, insertSale, openHq, openSession, openStore } from '../test/support/pos.ts';
import { stopCluster } from '../test/support/postgres.ts';
import { Up } from '../test/support/up.ts';

const SALES = Number(process.argv[2] ?? 10_000);
const PER_SESSION = Number(process.argv[3] ?? 200);
const BATCH = { transactions: 500 };

/** Of all connections to this database since they began. */
async function cpuMs(db: pg.Client): Promise<number> {
  const { rows } = await db.query<{ pid: number }>(
    `select a.pid from pg_catalog.pg_stat_activity a where a.datname = current_database()`,
  );
  const spent = rows.map(({ pid }) => Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]));
  return spent.reduce((sum, ns) => sum + ns, 0) / 1e6;
}

const store = await openStore('bench ledger');
const [marked, plain] = await Promise.all([openHq('bench marked'), openHq('bench plain')]);
try {
  for (const table of ['public.sales', 'public.z_reports', 'public.register_sessions', 'public.zz_reports'])
    for (const event of ['insert', 'update', 'delete'])
      await plain.db.query(`alter table ${table} disable trigger possync_ledger_${event}`);
  const register = await addRegister(store.db);
  for (let sold = 0; sold < SALES;) {
    const session = await openSession(store.db, register);
    for (let n = 0; n < PER_SESSION && sold < SALES; n += 1, sold += 1) {
      await store.db.query('begin');
      await insertSale(store.db, session, { lines: 3, receipt: `R1-${String(sold).padStart(7, '0')}` });
      await store.db.query('commit');
    }
    const closedAt = new Date().toISOString();
    await closeSession(store.db, { sessionId: session, closedAt, businessDate: '2026-11-20', overShort: 0 });
  }
  const up = new Up(store, marked);
  const other = new Up(store, plain);
  await other.hello();
  await up.hello();
  await up.outbox.seal();
  const cpu = { marked: 0, plain: 0 };
  const times = { marked: [] as number[], plain: [] as number[] };
  const timed = async (side: 'marked' | 'plain', message: Push): Promise<void> => {
    const to = side === 'marked' ? up : other;
    const before = await cpuMs(side === 'marked' ? marked.db : plain.db);
    const started = performance.now();
    const result = await to.send({ ...message, fence: to.fence ?? '' });
    times[side].push(performance.now() - started);
    cpu[side] += (await cpuMs(side === 'marked' ? marked.db : plain.db)) - before;
    if (result.result !== 'ok') throw new Error(JSON.stringify(result));
    if (side === 'marked') await up.outbox.acknowledge(message, result.answer);
  };
  for (let n = 0; ; n += 1) {
    const message = await up.message(BATCH);
    if (message === undefined) break;
    // In turn first, so that neither profits from what the other has warmed.
    for (const side of n % 2 === 0 ? (['plain', 'marked'] as const) : (['marked', 'plain'] as const))
      await timed(side, message);
  }
  const sum = (list: readonly number[]): number => list.reduce((total, one) => total + one, 0);
  const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;
  console.log(`${SALES} sales of 3 lines, ${times.plain.length} batches`);
  for (const side of ['plain', 'marked'] as const)
    console.log(
      `  apply ${side === 'plain' ? 'without' : 'with   '} marks  ${sum(times[side]).toFixed(0)} ms, median ${median(times[side]).toFixed(1)} ms a batch, CPU ${cpu[side].toFixed(0)} ms`,
    );
  const judging = await cpuMs(marked.db);
  const started = performance.now();
  let rounds = 0;
  while ((await ledgerRound(marked.pool)).result === 'judged') rounds += 1;
  const took = performance.now() - started;
  const judged = (await cpuMs(marked.db)) - judging;
  console.log(
    `  judge ${Math.ceil(SALES / PER_SESSION)} sessions with their Z reports: ${took.toFixed(0)} ms in ${rounds} rounds, ` +
      `CPU ${((judged * PER_SESSION) / SALES).toFixed(2)} ms a session`,
  );
  // The session that is being sold in, judged again after every push of a minute.
  const open = await openSession(store.db, register);
  await insertSale(store.db, open, { lines: 3, receipt: `R1-${SALES}` });
  await up.drain();
  await settleLedger(marked.pool);
  const again: number[] = [];
  const before = await cpuMs(marked.db);
  for (let n = 0; n < 50; n += 1) {
    await marked.db.query(
      `insert into possync.ledger_marks (store_id, what, key) values (7, 'session', $1::uuid)`,
      [open],
    );
    const from = performance.now();
    await ledgerRound(marked.pool);
    again.push(performance.now() - from);
  }
  console.log(
    `  judge one open session again: median ${median(again).toFixed(1)} ms, ` +
      `CPU ${(((await cpuMs(marked.db)) - before) / again.length).toFixed(2)} ms`,
  );
  const idle: number[] = [];
  for (let n = 0; n < 200; n += 1) {
    const from = performance.now();
    await newestMark(marked.pool);
    idle.push(performance.now() - from);
  }
  console.log(`  look when nothing is marked: median ${median(idle).toFixed(2)} ms, once a second`);
} finally {
  await Promise.all([store.close(), marked.close(), plain.close()]);
  await stopCluster();
}
