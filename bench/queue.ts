/**
 * `possync queue ls` and `status` in a store with a million entries in its queue, as whole commands.
 *
 *   npx tsx bench/queue.ts [entries]
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installTriggers } from '../src/db/capture.ts';
import { migrate } from '../src/db/migrations.ts';
import { connect } from '../src/db/pool.ts';
import { POSSYNC, runPossync } from '../test/support/process.ts';
import { machineLine } from './support/machine.ts';
import { median } from './support/report.ts';
import { Server } from './support/servers.ts';

const entries = Number(process.argv[2] ?? 1_000_000);
const RUNS = 9;
const server = await Server.start('store');
const dir = await mkdtemp(join(tmpdir(), 'possync-bench-queue-'));
try {
  await runPossync(['--version']); // built, if it has to be
  const url = await server.create('queue');
  await migrate('store', url, (db) => installTriggers(db, 'store'));
  const db = await connect({ url, applicationName: 'bench' });
  await db.query(`update possync.state set store_id = 1, store_code = 'ONE'`);
  await db.query(
    `insert into possync.outbox (epoch, seq, v, body, chain, high, captured_at, type, key, records, rows, bytes, types)
     select 1, n, 2, repeat('x', 700), sha256(int8send(n)), n % 50 = 0, now() - make_interval(secs => ($1::int - n) / 10),
            case n % 100 when 0 then 'z_report' when 1 then 'session' else 'sale' end, md5(n::text), 1, 8, 700 + n % 900,
            jsonb_build_object(case n % 100 when 0 then 'z_report' when 1 then 'session' else 'sale' end, 1)
       from generate_series(1, $1::int) n`,
    [entries],
  );
  await db.query(`update possync.state set seq = $1::bigint, chain = sha256('x')`, [entries]);
  await db.query(
    `insert into possync.tally (side, what, n)
     values ('sealed', '#entries', $1::bigint), ('sealed', 'sale', $1::bigint), ('sealed', '#bytes', $1::bigint * 1000)
     on conflict (side, what) do update set n = excluded.n`,
    [entries],
  );
  await db.query('vacuum analyze possync.outbox');
  await db.end();
  console.log(`${entries} entries; ${machineLine()}`);
  const env = { PATH: process.env.PATH, DATABASE_URL: url, POSSYNC_STATE_DIR: dir, LOG_DIR: dir };
  const commands = [
    ['queue', 'ls'],
    ['queue', 'ls', '--counts'],
    ['queue', 'ls', '--sort', 'bytes'],
    ['queue', 'ls', '--sort', 'age'],
    ['queue', 'ls', '--type', 'z_report'],
    ['queue', 'ls', '--type', 'transfer'],
    ['status', '--short'],
  ];
  const times = new Map<string, number[]>();
  for (let run = 0; run < RUNS; run += 1)
    for (const command of [[], ...commands]) {
      const args = command.length === 0 ? ['-e', ''] : [POSSYNC, ...command];
      const from = performance.now();
      await promisify(execFile)(process.execPath, args, { env }).catch(() => undefined); // red is an answer too
      const name = command.length === 0 ? 'an empty node process' : `possync ${command.join(' ')}`;
      times.set(name, [...(times.get(name) ?? []), performance.now() - from]);
    }
  for (const [name, ms] of times)
    console.log(
      `  ${name.padEnd(34)} median ${median(ms).toFixed(0)} ms, least ${Math.min(...ms).toFixed(0)} ms`,
    );
} finally {
  await server.stop();
  await rm(dir, { recursive: true, force: true });
}
