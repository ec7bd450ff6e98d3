/**
 * How long `token rotate --all --wait` takes for a chain: real `hq serve`, the real command, and stores that rotate by the
 * daemon's own code, all of them in one process beside it. Two stores are away, as in any chain.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { queryOne } from '../src/db/transaction.ts';
import { runPossync } from '../test/support/process.ts';
import { BenchHq } from './support/chain.ts';
import { timestampMs } from './support/fleet/commands.ts';
import { openFleet } from './support/fleet/fleet.ts';
import { machineLine } from './support/machine.ts';
import type { Bench, Measures, Report } from './support/report.ts';
import { conditions, Server } from './support/servers.ts';

const RUNS = 3;
const STORES = 150;
const AWAY = 2;

const document = z.object({
  stores: z.array(z.object({ result: z.string(), offline_ms: z.number().nullable() })),
});

export const rotate: Bench = {
  title: 'every credential of a chain replaced by one command, two stores away',
  async run({ short, stores: asked, say }): Promise<Report> {
    const all = asked ?? (short ? 6 : STORES);
    const server = await Server.start('hq');
    const dir = await mkdtemp(join(tmpdir(), 'possync-bench-rotate-'));
    try {
      const hq = await BenchHq.open(server);
      const fleet = await openFleet(hq, all - AWAY, { away: AWAY, dir });
      const afterMs = timestampMs();
      await fleet.process.ask('connect', { perSecond: 50 });
      await fleet.process.ask('allGreen', { afterMs, timeoutMs: 120_000 });
      const runs: Measures[] = [];
      for (let run = 1; run <= (short ? 1 : RUNS); run += 1) {
        say(`run ${run}`);
        await fleet.process.ask('mark');
        const begun = performance.now();
        const { code, stdout, stderr } = await runPossync(
          ['token', 'rotate', '--all', '--wait', '10m', '--json'],
          { env: { DATABASE_URL: hq.url } },
        );
        const seconds = (performance.now() - begun) / 1_000;
        if (code !== 75)
          throw new Error(`two stores are away, and the command ended with ${code}: ${stderr}`);
        const { stores } = document.parse(JSON.parse(stdout));
        const { ends } = await fleet.process.ask('lights');
        const { live } = await queryOne<{ live: number }>(
          hq.pool,
          `select count(*)::integer as live from possync.tokens t
            where t.state = 'active' and t.created_at > now() - make_interval(secs => $1::double precision)`,
          [seconds + 1],
        );
        runs.push({
          seconds,
          rotated: stores.filter(({ result }) => result === 'rotated').length,
          pending: stores.filter(({ result }) => result === 'pending').length,
          failed: stores.filter(({ result }) => result === 'failed').length,
          'new at HQ': live,
          'went on open': stores.filter((store) => store.offline_ms === 0).length,
          disconnects: Object.values(ends).reduce((sum, count) => sum + count, 0),
        });
      }
      await fleet.process.close();
      await hq.close();
      return {
        bench: 'rotate',
        title: rotate.title,
        conditions: {
          machine: machineLine(),
          work: `${all} stores, ${AWAY} of them away; ${runs.length} runs of the command with its --batch of 10`,
          postgres: await conditions(server),
        },
        ways: [{ name: 'token rotate --all --wait', runs }],
        results: {},
      };
    } finally {
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    }
  },
};
