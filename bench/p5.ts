/**
 * P5, what the capture costs a till: the same sale transactions by 1, 4 and 8 clients in a store's database with
 * possync's triggers and in the same database without them; CPU of the whole server for a sale, and how long tills wait.
 *
 * Sealing is not in it: it runs elsewhere and later, and P1 has what it costs.
 */
import type pg from 'pg';
import { uuidv7 } from '../src/core/ids.ts';
import { installTriggers } from '../src/db/capture.ts';
import { migrate } from '../src/db/migrations.ts';
import { connect } from '../src/db/pool.ts';
import { machineLine } from './support/machine.ts';
import { medianOf, percentile, type Bench, type Measures, type Report } from './support/report.ts';
import { conditions, Server } from './support/servers.ts';

const RUNS = 3;
const CLIENTS = [1, 4, 8] as const;
const LINES = 5;

export const p5: Bench = {
  title: 'cost of the capture at the till: sales with and without possync’s triggers',
  async run({ short, sales = short ? 80 : 4_000, say }): Promise<Report> {
    const server = await Server.start('store');
    try {
      const databases = {
        without: await storeDatabase(server, 'without', false),
        with: await storeDatabase(server, 'with', true),
      };
      const ways = CLIENTS.flatMap((clients) =>
        (['without', 'with'] as const).map((triggers) => ({
          name: `${clients} ${clients === 1 ? 'till' : 'tills'}, ${triggers}`,
          clients,
          triggers,
          runs: [] as Measures[],
        })),
      );
      for (let run = 1; run <= (short ? 1 : RUNS); run += 1) {
        say(`run ${run}`);
        for (const { clients, triggers, runs } of ways) {
          await server.checkpoint();
          runs.push(await sell(server, databases[triggers], { clients, sales }));
        }
      }
      const of = (clients: number, triggers: string, measure: string): number => {
        const way = ways.find((one) => one.clients === clients && one.triggers === triggers);
        return way === undefined ? NaN : medianOf(way, measure);
      };
      return {
        bench: 'p5',
        title: p5.title,
        conditions: {
          machine: machineLine(),
          work: `${sales} sales of ${LINES} lines a run, one transaction each; header, lines and payment are one statement each`,
          postgres: await conditions(server),
        },
        ways: ways.map(({ name, runs }) => ({ name, runs })),
        results: Object.fromEntries(
          CLIENTS.flatMap((clients) => [
            [
              `CPU with / without, ${clients} at once`,
              of(clients, 'with', 'cpu us/sale') / of(clients, 'without', 'cpu us/sale'),
            ],
            [
              `p99 with / without, ${clients} at once`,
              of(clients, 'with', 'p99 ms') / of(clients, 'without', 'p99 ms'),
            ],
          ]),
        ),
      };
    } finally {
      await server.stop();
    }
  },
};

async function storeDatabase(server: Server, name: string, triggers: boolean): Promise<string> {
  const url = await server.create(`till_${name}`);
  await migrate('store', url, (db) => installTriggers(db, 'store'));
  const db = await connect({ url, applicationName: 'bench' });
  if (!triggers)
    await db.query(`
do $$ declare t record; begin
  for t in select g.tgname, g.tgrelid::regclass as tbl from pg_trigger g
            where not g.tgisinternal and g.tgname like 'possync%' and g.tgrelid::regclass::text !~ '^possync[.]'
  loop execute format('drop trigger %I on %s', t.tgname, t.tbl); end loop;
end $$`);
  await db.end();
  return url;
}

interface Load {
  readonly clients: number;
  readonly sales: number;
}

async function sell(server: Server, url: string, { clients, sales }: Load): Promise<Measures> {
  const tills = await Promise.all(
    Array.from({ length: clients }, () => connect({ url, applicationName: 'bench till' })),
  );
  const times: number[] = [];
  const shifts = await Promise.all(tills.map(async (db) => ({ db, shift: await openShift(db) })));
  const till = async ({ db, shift }: { db: pg.Client; shift: Shift }): Promise<void> => {
    for (let n = 1; n <= sales / clients; n += 1) {
      const from = performance.now();
      await oneSale(db, shift, n);
      times.push(performance.now() - from);
    }
  };
  // Prepared and cached before the clock starts.
  await Promise.all(shifts.map(({ db, shift }) => oneSale(db, shift, 0)));
  const [cpu, began] = [server.cpuMs(), performance.now()];
  await Promise.all(shifts.map(till));
  const [used, ms] = [server.cpuMs() - cpu, performance.now() - began];
  await Promise.all(tills.map((db) => db.end()));
  return {
    'sales/s': (times.length / ms) * 1_000,
    'cpu us/sale': (used * 1_000) / times.length,
    'p50 ms': percentile(times, 0.5),
    'p99 ms': percentile(times, 0.99),
  };
}

interface Shift {
  readonly registerId: string;
  readonly sessionId: string;
}

async function openShift(db: pg.Client): Promise<Shift> {
  const shift = { registerId: uuidv7(), sessionId: uuidv7() };
  await db.query(
    `insert into public.registers (id, store_id, code, name) values ($1::uuid, 1, $1::text, 'a till of the bench')`,
    [shift.registerId],
  );
  await db.query(
    `insert into public.register_sessions (id, store_id, register_id, user_id, status, opened_at, opening_amount)
     values ($1::uuid, 1, $2::uuid, $1::uuid, 'open', now(), 0)`,
    [shift.sessionId, shift.registerId],
  );
  return shift;
}

async function oneSale(db: pg.Client, { registerId, sessionId }: Shift, n: number): Promise<void> {
  const id = uuidv7();
  await db.query('begin');
  await db.query({
    name: 'header',
    text: `insert into public.sales (id, store_id, register_id, session_id, cashier_id, kind, status, receipt_number,
                                       subtotal, tax_total, total, occurred_at, business_date)
             values ($1::uuid, 1, $2::uuid, $3::uuid, $3::uuid, 'sale', 'completed', $4::text, 5000, 400, 5400, now(), current_date)`,
    values: [id, registerId, sessionId, `R-${n}`],
  });
  await db.query({
    name: 'lines',
    text: `insert into public.sale_lines (sale_id, line_no, product_id, sku, name, quantity, unit_price, tax, total)
             select $1::uuid, i, $2::uuid, 'SKU-' || i, 'Article no. ' || i, 1000, 999.5, 80, 1080
               from generate_series(1, ${LINES}) i`,
    values: [id, sessionId],
  });
  await db.query({
    name: 'payment',
    text: `insert into public.sale_payments (sale_id, payment_no, tender, amount, tendered) values ($1::uuid, 1, 'cash', 5400, 6000)`,
    values: [id],
  });
  await db.query('commit');
}
