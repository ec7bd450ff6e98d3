/** P8, what possync takes while nothing happens: memory of an idle daemon and server, and how fast commands start. */
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { POSSYNC } from '../test/support/process.ts';
import { until } from '../test/support/until.ts';
import { BenchHq, BenchStore } from './support/chain.ts';
import { machineLine, rssMb } from './support/machine.ts';
import { medianOf, type Bench, type Measures, type Report } from './support/report.ts';
import { Server } from './support/servers.ts';

const RUNS = 3;
/** After that long a daemon has made its first rounds of everything and its garbage is collected. */
const SETTLE_MS = 60_000;

const GREEN = `select from possync.link l where l.indicator = 'green' and l.written_at > now() - interval '5 seconds'`;

const STARTS = {
  'empty node': ['-e', ''],
  '--version': [POSSYNC, '--version'],
  '--help': [POSSYNC, '--help'],
  'status, no daemon': [POSSYNC, 'status', '--short'],
} as const;

export const p8: Bench = {
  title: 'idle memory and start of commands',
  async run({ short, say }): Promise<Report> {
    const starts = short ? 2 : 20;
    const server = await Server.start('both');
    try {
      const hq = await BenchHq.open(server);
      const serve = await hq.start();
      const store = await BenchStore.open(hq, server, 'ONE');
      const idle = { name: 'idle', runs: [] as Measures[] };
      for (let run = 1; run <= (short ? 1 : RUNS); run += 1) {
        say(`idle, run ${run}`);
        const daemon = await store.start();
        await until(async () => (await store.db.query(GREEN)).rowCount === 1, {
          what: 'the light is green',
          timeoutMs: 60_000,
        });
        await sleep(short ? 1_000 : SETTLE_MS);
        idle.runs.push({ 'daemon MB': rssMb(daemon.pid), 'serve MB': rssMb(serve.pid) });
        await store.stop();
      }
      const ways = Object.entries(STARTS).map(([name, args]) => ({ name, args, runs: [] as Measures[] }));
      for (let start = 1; start <= starts; start += 1)
        for (const { args, runs } of ways) runs.push({ 'start ms': await timeOf(args) });
      await store.close();
      await hq.close();
      const node = ways[0] === undefined ? NaN : medianOf(ways[0], 'start ms');
      return {
        bench: 'p8',
        title: p8.title,
        conditions: {
          machine: machineLine(),
          work: `${starts} starts of each, in turn; memory ${short ? 1 : SETTLE_MS / 1_000} s after the connection`,
        },
        ways: [idle, ...ways.map(({ name, runs }) => ({ name, runs }))],
        results: Object.fromEntries(
          ways
            .slice(1)
            .map((way) => [`ms beyond an empty node, ${way.name}`, medianOf(way, 'start ms') - node]),
        ),
      };
    } finally {
      await server.stop();
    }
  },
};

async function timeOf(args: readonly string[]): Promise<number> {
  const from = performance.now();
  // `status` without a daemon ends with its own exit code: that is an answer as well.
  await promisify(execFile)(process.execPath, [...args], { env: { PATH: process.env.PATH } }).catch(
    () => undefined,
  );
  return performance.now() - from;
}
