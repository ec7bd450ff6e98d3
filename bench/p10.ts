/**
 * P10, bytes on the line for a sale, as a push of many sales takes them: HTTP, compression and acknowledgements included,
 * counted between daemon and HQ. Beside it: the same sales as nested JSON documents, 1,000 at a time, gzip level 6.
 */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { queryOne, type Queryable } from '../src/db/transaction.ts';
import { BenchHq, BenchStore } from './support/chain.ts';
import { machineLine } from './support/machine.ts';
import { medianOf, type Bench, type Measures, type Report } from './support/report.ts';
import { installSales, writeSales } from './support/sales.ts';
import { Server } from './support/servers.ts';

const RUNS = 3;
const BATCH = 1_000;
const TIMEOUT_MS = 120_000;

export const p10: Bench = {
  title: 'bytes on the line for a sale',
  async run({ short, sales = short ? 2_000 : 20_000, say }): Promise<Report> {
    const server = await Server.start('both');
    try {
      const hq = await BenchHq.open(server);
      await hq.start();
      const line = await countingLine(hq.port);
      const store = await BenchStore.open(hq, server, 'ONE', `http://127.0.0.1:${line.port}`);
      await installSales(store.db);
      const possync = { name: 'possync', runs: [] as Measures[] };
      const documents = { name: 'nested JSON, gzip', runs: [] as Measures[] };
      for (let run = 1; run <= (short ? 1 : RUNS); run += 1) {
        say(`run ${run}`);
        await writeSales(store.db, store, sales);
        const [up, down] = [line.up, line.down];
        await store.start();
        await delivered(store, hq.db, run * sales);
        await store.stop();
        possync.runs.push({ 'B/sale up': (line.up - up) / sales, 'B/sale down': (line.down - down) / sales });
        documents.runs.push({ 'B/sale up': (await documentBytes(store.db, sales)) / sales });
      }
      await store.close();
      line.close();
      await hq.close();
      return {
        bench: 'p10',
        title: p10.title,
        conditions: {
          machine: machineLine(),
          work: `${sales} sales of 7.5 rows a run, batches of up to ${BATCH}`,
        },
        ways: [documents, possync],
        results: {
          'possync / nested JSON': medianOf(possync, 'B/sale up') / medianOf(documents, 'B/sale up'),
        },
      };
    } finally {
      await server.stop();
    }
  },
};

interface CountingLine {
  readonly port: number;
  readonly up: number;
  readonly down: number;
  close(): void;
}

async function countingLine(target: number): Promise<CountingLine> {
  const counts = { up: 0, down: 0 };
  const server = net.createServer((socket) => {
    const hq = net.connect(target, '127.0.0.1');
    socket.on('data', (chunk) => (counts.up += chunk.length)).on('error', () => hq.destroy());
    hq.on('data', (chunk) => (counts.down += chunk.length)).on('error', () => socket.destroy());
    socket.pipe(hq).pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as net.AddressInfo).port,
    get up() {
      return counts.up;
    },
    get down() {
      return counts.down;
    },
    close: () => server.close(),
  };
}

async function delivered(store: BenchStore, hq: Queryable, sales: number): Promise<void> {
  const giveUpAt = performance.now() + TIMEOUT_MS;
  while (performance.now() < giveUpAt) {
    const { n } = await queryOne<{ n: number }>(hq, 'select count(*) as n from public.sales');
    const { waiting } = await queryOne<{ waiting: number }>(
      store.db,
      `select (select count(*) from possync.raw)
              + (select count(*) from possync.outbox o join possync.sending d on (o.epoch, o.seq) > (d.epoch, d.seq)) as waiting`,
    );
    if (n >= sales && waiting === 0) return;
    await sleep(100);
  }
  throw new Error(`${sales} sales did not arrive in ${TIMEOUT_MS} ms`);
}

/** The last sales as documents, without nulls, compressed by the thousand. */
async function documentBytes(db: Queryable, sales: number): Promise<number> {
  const { rows } = await db.query<{ doc: string }>(
    `select json_strip_nulls(json_build_object('sale', to_json(s),
              'lines', (select json_agg(to_jsonb(l) - 'sale_id' order by l.line_no) from public.sale_lines l where l.sale_id = s.id),
              'payments', (select json_agg(to_jsonb(p) - 'sale_id') from public.sale_payments p where p.sale_id = s.id)))::text as doc
       from (select x.* from public.sales x order by x.occurred_at desc limit $1::int) s`,
    [sales],
  );
  let bytes = 0;
  for (let from = 0; from < rows.length; from += BATCH)
    bytes += (
      await promisify(gzip)(
        `[${rows
          .slice(from, from + BATCH)
          .map(({ doc }) => doc)
          .join(',')}]`,
        { level: 6 },
      )
    ).length;
  return bytes;
}
