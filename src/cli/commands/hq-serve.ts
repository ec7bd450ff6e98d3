/** `possync hq serve`: HQ's server until a signal ends it; `--check` only looks whether it could start. */
import { listenHostOf } from '../../config/load.ts';
import { PossyncError, EXIT, type ExitCode } from '../../core/errors.ts';
import { isLoopback } from '../../core/loopback.ts';
import { runUntilSignal } from '../../core/shutdown.ts';
import { superviseFor } from '../../core/systemd.ts';
import { VERSION } from '../../core/version.ts';
import { requireCurrentSchema } from '../../db/migrations.ts';
import type { HqOptions, RunningHq } from '../../hq/options.ts';
import { startHq } from '../../hq/serve.ts';
import { readHqStatus } from '../../hq/status.ts';
import { readTlsFiles } from '../../hq/tls-files.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { databaseName } from '../database-name.ts';
import { formatDuration, plural } from '../../core/quantities.ts';
import { openServerLog } from '../server-log.ts';

export async function run(context: Context, args: Args): Promise<Answer | ExitCode> {
  const tls = tlsOf(context);
  if (args.flag('check')) return await check(context, tls);
  const { config, clock } = context;
  const started = clock.now();
  const { log, reopen, close } = openServerLog(context, 'hq-server');
  try {
    const running = await startHq({
      databaseUrl: config.databaseUrl,
      host: listenHostOf(config),
      port: config.listenPort,
      allowPlaintext: config.allowPlaintext,
      credentialLifeMs: config.credentialLifeMs === 'off' ? null : config.credentialLifeMs,
      metricsListen: config.metricsListen === 'off' ? null : config.metricsListen,
      migrate: args.flag('migrate'),
      log,
      ...(tls === undefined ? {} : { tls }),
    });
    const supervisor = superviseFor({ env: context.env, clock, log, pulse: () => running.pulse() });
    // Before anybody is told that it runs: who hears it may send a signal at once.
    const ending = runUntilSignal(running, {
      log,
      onStopping: () => {
        supervisor.stopping();
      },
      onReload: () => {
        reopen();
        running.reload();
      },
      onDump: () => {
        log.info('state', running.dump());
      },
    });
    await announce(context, running, clock.now() - started);
    await supervisor.ready();
    const ended = await ending;
    if (ended.failure !== undefined) throw ended.failure;
    return ended.graceful ? EXIT.ok : EXIT.temporary;
  } finally {
    await close();
  }
}

function tlsOf({ config }: Context): HqOptions['tls'] {
  const { tlsCertFile: certFile, tlsKeyFile: keyFile } = config;
  if (certFile === undefined && keyFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined)
    throw new PossyncError('PS-CFG-INVALID', 'TLS needs both a certificate and its key', {
      why: `${certFile === undefined ? 'SYNC_TLS_CERT_FILE' : 'SYNC_TLS_KEY_FILE'} is not set`,
    });
  return { certFile, keyFile };
}

/** Eight lines for people, one JSON line for whoever started us from a script. */
async function announce(
  context: Context,
  { url, listens, unencrypted, watchUrl }: RunningHq,
  tookMs: number,
): Promise<void> {
  const { pool } = await context.database();
  const { summary } = await readHqStatus(pool);
  const address = listens.replace(/^http/, 'ws');
  if (!context.term.out.isTTY) {
    const line = {
      event: 'ready',
      role: 'hq',
      url,
      listens,
      unencrypted,
      pid: process.pid,
      possync: VERSION,
      stores: summary.stores,
      dashboard_url: watchUrl === undefined ? null : `${watchUrl}/`,
      metrics_url: watchUrl === undefined ? null : `${watchUrl}/metrics`,
      took_ms: tookMs,
    };
    context.stdout.write(`${JSON.stringify(line)}\n`);
  } else {
    context.stdout.write(
      `possync HQ ${VERSION}   pid ${process.pid}   node ${process.versions.node}\n` +
        `  listening   ${address}${unencrypted ? ' (unencrypted)' : ''}\n` +
        `  database    ${databaseName(context.config.databaseUrl)}\n` +
        `  stores      ${plural(summary.stores, 'store')} registered\n` +
        (watchUrl === undefined ? '' : `  dashboard   ${watchUrl}/    metrics ${watchUrl}/metrics\n`) +
        `  log         ${context.config.logDir}/hq-server.log\n` +
        `Ready in ${formatDuration(tookMs)}. Ctrl-C to stop.\n`,
    );
  }
  await context.close();
}

/** The same as before listening, without listening: exit 0, or 78 whatever is wrong. */
async function check(context: Context, tls: HqOptions['tls']): Promise<Answer> {
  const host = listenHostOf(context.config);
  const faults: PossyncError[] = [];
  const tried = async (work: () => unknown): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof PossyncError)) throw error;
      faults.push(error);
    }
  };
  await tried(() => {
    if (tls === undefined) return;
    const { notAfter } = readTlsFiles(tls);
    if (notAfter.getTime() <= context.clock.now())
      throw new PossyncError('PS-TLS-EXPIRED', `the certificate in ${tls.certFile} has expired`, {
        why: `it ended ${notAfter.toISOString()}; no store would connect`,
      });
  });
  await tried(() => {
    if (tls === undefined && !context.config.allowPlaintext && !isLoopback(host))
      throw new PossyncError('PS-CFG-PLAINTEXT', `plain HTTP would be served on ${host}`);
  });
  await tried(async () => {
    await requireCurrentSchema(await context.rawPool(), 'hq');
  });
  return {
    schema: 'possync.check/1',
    exit: faults.length === 0 ? EXIT.ok : EXIT.config,
    body: {
      faults: faults.map(({ code, message, why, hint }) => ({ code, message, why: why ?? null, hint })),
    },
    text: ({ glyphs, good, bad }) =>
      faults.length === 0
        ? `${good(glyphs.pass)} HQ can start: settings, certificate, database and schema are in order.\n`
        : faults
            .map(
              ({ code, message, why, hint }) =>
                `${bad(glyphs.fail)} ${message} (${code})\n${why === undefined ? '' : `  why: ${why}\n`}  fix: ${hint}\n`,
            )
            .join(''),
  };
}
