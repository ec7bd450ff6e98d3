/** `possync store daemon`: the sync of a store until a signal ends it. */
import { EXIT, type ExitCode } from '../../core/errors.ts';
import { runUntilSignal } from '../../core/shutdown.ts';
import { superviseFor } from '../../core/systemd.ts';
import { VERSION } from '../../core/version.ts';
import { startDaemon } from '../../store/daemon.ts';
import type { RunningDaemon } from '../../store/options.ts';
import { readStoreStatus } from '../../store/status.ts';
import type { Args } from '../args.ts';
import type { Context } from '../context.ts';
import { databaseName } from '../database-name.ts';
import { diagnoseService, precheckOf } from '../diagnose/in-daemon.ts';
import { formatCount } from '../../core/quantities.ts';
import { proxySettings } from '../hq-connection.ts';
import { openServerLog } from '../server-log.ts';
import { keepHeapSmall } from '../small-heap.ts';

export async function run(context: Context, args: Args): Promise<ExitCode> {
  const { config, env } = context;
  keepHeapSmall();
  const { log, lost, reopen, close } = openServerLog(context, 'store-server');
  try {
    const running = await startDaemon({
      databaseUrl: config.databaseUrl,
      stateDir: config.stateDir,
      allowPlaintext: config.allowPlaintext,
      proxies: proxySettings(context),
      pushIntervalMs: config.pushIntervalMs,
      statusListen: config.statusListen === 'off' ? null : config.statusListen,
      metricsListen: config.metricsListen === 'off' ? null : config.metricsListen,
      migrate: args.flag('migrate'),
      log,
      diagnose: diagnoseService(context),
      precheck: precheckOf(context),
      logDir: config.logDir,
      logLost: lost,
      ...(config.statusOrigin === undefined ? {} : { statusOrigin: config.statusOrigin }),
      ...(env.RUNTIME_DIRECTORY === undefined ? {} : { runtimeDir: env.RUNTIME_DIRECTORY }),
      ...(config.hqUrl === undefined ? {} : { hqUrl: config.hqUrl }),
      ...(config.tlsCaFile === undefined ? {} : { caFile: config.tlsCaFile }),
    });
    const supervisor = superviseFor({ env, clock: context.clock, log, pulse: () => running.pulse() });
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
      onReconnect: () => {
        running.reconnect();
      },
      onDump: () => {
        log.info('state', running.dump());
      },
    });
    await announce(context, running);
    await supervisor.ready();
    const ended = await ending;
    if (ended.failure !== undefined) throw ended.failure;
    return ended.graceful ? EXIT.ok : EXIT.temporary;
  } finally {
    await close();
  }
}

/** A few lines for people, one JSON line for whoever started us from a script. */
async function announce(
  context: Context,
  { socketPath: socket, statusUrl, metricsUrl }: RunningDaemon,
): Promise<void> {
  const pool = await context.rawPool();
  const status = await readStoreStatus(pool, { stateDir: context.config.stateDir, source: 'daemon' });
  await context.close();
  const { store, upstream } = status;
  if (!context.term.out.isTTY) {
    const line = {
      event: 'ready',
      role: 'store',
      store: store?.code ?? null,
      pid: process.pid,
      possync: VERSION,
      socket,
      status_url: statusUrl ?? null,
      metrics_url: metricsUrl === undefined ? null : `${metricsUrl}/metrics`,
      queued: upstream.queued,
    };
    context.stdout.write(`${JSON.stringify(line)}\n`);
    return;
  }
  const { glyphs, good, caution } = context.term.out;
  const who = store === null ? 'not enrolled' : `store ${store.code} "${store.name}"`;
  context.stdout.write(
    `possync ${who} ${VERSION}  pid ${process.pid}\n` +
      `  ${good(glyphs.pass)} database   ${databaseName(context.config.databaseUrl)}\n` +
      `  ${good(glyphs.pass)} queue      ${formatCount(upstream.queued)} waiting\n` +
      (store === null
        ? `  ${caution(glyphs.warn)} waiting for a credential: possync store init --token-file FILE\n`
        : `  ${glyphs.off} connecting to ${status.hq.url ?? '?'}${status.hq.unencrypted === true ? ' (unencrypted)' : ''}\n`),
  );
}
