/** P8, what possync takes while nothing happens: memory of an idle daemon and server, and how fast commands start. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { POSSYNC, runPossync } from '../test/support/process.ts';
import { until } from '../test/support/until.ts';
import { BenchHq, BenchStore } from './support/chain.ts';
import { machineLine, rssMb } from './support/machine.ts';
import { median, type Bench, type Measures, type Report } from './support/report.ts';
import { Server } from './support/servers.ts';

const RUNS = 3;
/** After that long a daemon has made its first rounds of everything and its garbage is collected. */
const SETTLE_MS = 60_000;

const GREEN = `select from possync.link l where l.indicator = 'green' and l.written_at > now() - interval '5 seconds'`;

const EMPTY = 'empty node';
const STARTS: Readonly<Record<string, readonly string[]>> = {
  [EMPTY]: ['-e', ''],
  '--version': [POSSYNC, '--version'],
  '--help': [POSSYNC, '--help'],
  status: [POSSYNC, 'status'],
  // The address by another name: the daemon's word is compared with the database, as where no daemon runs.
  'status, database asked': [POSSYNC, 'status'],
};

export const p8: Bench = {
  title: 'idle memory and start of commands',
  async run({ short, say }): Promise<Report> {
    const starts = short ? 2 : 40;
    const server = await Server.start('both');
    try {
      const hq = await BenchHq.open(server);
      const serve = await hq.start();
      const store = await BenchStore.open(hq, server, 'ONE');
      const idle = { name: 'idle', runs: [] as Measures[] };
      const idleRuns = short ? 1 : RUNS;
      let rounds: Measures[] = [];
      for (let run = 1; run <= idleRuns; run += 1) {
        say(`idle, run ${run}`);
        const daemon = await store.start();
        await until(async () => (await store.db.query(GREEN)).rowCount === 1, {
          what: 'the light is green',
          timeoutMs: 60_000,
        });
        await sleep(short ? 1_000 : SETTLE_MS);
        idle.runs.push({ 'daemon MB': rssMb(daemon.pid), 'serve MB': rssMb(serve.pid) });
        if (run === idleRuns) rounds = await timeStarts(store, starts, say);
        await store.stop();
      }
      await store.close();
      await hq.close();
      return {
        bench: 'p8',
        title: p8.title,
        conditions: {
          machine: machineLine(),
          work: `${starts} starts of each, in turn, the daemon running; memory ${short ? 1 : SETTLE_MS / 1_000} s after the connection`,
        },
        ways: [
          idle,
          ...Object.keys(STARTS).map((name) => ({
            name,
            runs: rounds.map((round) => ({ 'start ms': round[name] ?? NaN })),
          })),
        ],
        // Of each round its own difference: what else the machine does falls on both.
        results: Object.fromEntries(
          Object.keys(STARTS)
            .filter((name) => name !== EMPTY)
            .map((name) => [
              `ms beyond an empty node, ${name}`,
              median(rounds.map((round) => (round[name] ?? NaN) - (round[EMPTY] ?? NaN))),
            ]),
        ),
      };
    } finally {
      await server.stop();
    }
  },
};

/** Each way once in every round. */
async function timeStarts(
  store: BenchStore,
  starts: number,
  say: (line: string) => void,
): Promise<Measures[]> {
  const other = { ...store.env, DATABASE_URL: store.url.replace('127.0.0.1', 'localhost') };
  for (const env of [store.env, other]) {
    const { stdout } = await runPossync(['status', '--json'], { env });
    const { source, connection } = JSON.parse(stdout) as {
      source: string;
      connection: { indicator: string };
    };
    assert.deepEqual([source, connection.indicator], ['daemon', 'green']);
  }
  const rounds: Measures[] = [];
  for (let round = 1; round <= starts; round += 1) {
    if (round % 10 === 1) say(`starts, round ${round} of ${starts}`);
    const times: Record<string, number> = {};
    for (const [name, args] of Object.entries(STARTS))
      times[name] = await timeOf(args, name.includes('database') ? other : store.env);
    rounds.push(times);
  }
  return rounds;
}

async function timeOf(args: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  const from = performance.now();
  await promisify(execFile)(process.execPath, [...args], { env: { PATH: process.env.PATH, ...env } });
  return performance.now() - from;
}
