/**
 * Thirty days offline: a million queued rows and a hundred thousand changed products drain; how long, and in how much
 * memory. Then what an idle store and 50 dead ones cost HQ. `npx tsx bench/offline.ts [rows] [products]`.
 */
import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { systemClock } from '../src/core/clock.ts';
import { queryOne } from '../src/db/transaction.ts';
import { runOffline } from './support/offline.ts';

const rows = Number(process.argv[2] ?? 1_000_000);
const products = Number(process.argv[3] ?? 100_000);
const DEAD_STORES = 50;
const WINDOW_MS = 30_000;
/** Clock ticks a second, as Linux counts CPU time. */
const TICKS = 100;

interface Cost {
  readonly transactions: number;
  readonly cpuMs: number;
}

/** What HQ does within half a minute in which nobody sells. */
async function costOf(hq: pg.Client, pid: number): Promise<Cost> {
  const read = async (): Promise<Cost> => {
    const { n } = await queryOne<{ n: number }>(
      hq,
      `select xact_commit + xact_rollback as n from pg_stat_database where datname = current_database()`,
    );
    const stat = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
    return { transactions: n, cpuMs: ((Number(stat[11]) + Number(stat[12])) * 1_000) / TICKS };
  };
  const before = await read();
  await systemClock.sleep(WINDOW_MS);
  const after = await read();
  return { transactions: after.transactions - before.transactions, cpuMs: after.cpuMs - before.cpuMs };
}

function quartiles(samples: readonly number[]): string {
  const part = (from: number, to: number): number =>
    Math.max(
      ...samples.slice(Math.floor(samples.length * from), Math.max(1, Math.ceil(samples.length * to))),
    );
  return [0, 0.25, 0.5, 0.75].map((from) => `${part(from, from + 0.25)} MB`).join(', ');
}

const result = await runOffline({
  rows,
  products,
  durable: true,
  say: (line) => {
    console.log(line);
  },
  async afterwards({ hq, hqPid, stopDaemon }) {
    const idle = await costOf(hq, hqPid);
    await stopDaemon();
    const none = await costOf(hq, hqPid);
    await hq.query(
      `insert into public.stores (id, code, name, time_zone)
       select 1000 + n, 'DEAD-' || n, 'Dead', 'UTC' from generate_series(1, $1::integer) n`,
      [DEAD_STORES],
    );
    await hq.query(
      `insert into possync.inbox (store_id, hello_at) select 1000 + n, now() - interval '30 days' from generate_series(1, $1::integer) n`,
      [DEAD_STORES],
    );
    const dead = await costOf(hq, hqPid);
    const line = (what: string, { transactions, cpuMs }: Cost): void => {
      console.log(
        `${what.padEnd(32)} ${String(transactions).padStart(6)} transactions   ${cpuMs.toFixed(0).padStart(6)} ms of CPU`,
      );
    };
    console.log(`HQ in ${WINDOW_MS / 1_000} s:`);
    line('  no store connected', none);
    line('  one idle store connected', idle);
    line(`  none, and ${DEAD_STORES} dead stores`, dead);
  },
});
console.log(
  `drained in ${(result.drainMs / 1_000).toFixed(1)} s, catalogue in ${(result.catalogueMs / 1_000).toFixed(1)} s`,
);
console.log(`memory of hq serve, highest in each quarter of the time: ${quartiles(result.hqRss)}`);
console.log(`memory of the daemon: ${quartiles(result.storeRss)}`);
console.log(
  `${result.salesAtHq} of ${result.sales} sales at HQ, ${result.dead} dead, ${result.outOfOrder} out of order, ` +
    `${result.priceEqual} of ${products} products as at HQ`,
);
