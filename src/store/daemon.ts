/**
 * Composition of the store's daemon: everything between the store's PostgreSQL and HQ.
 *
 *   lock ─ one daemon per database
 *   CredentialWatch ─ credential ─▶ HqClient ─▶ Link ─ session, flow, hint ─▶ Pusher, Puller
 *   Pusher: outbox ─▶ HQ         Puller: HQ ─▶ mirror        LinkRecorder ─▶ possync.link
 *   LocalApi: status, pull, push, reload for the commands on this machine
 *
 * Sales never wait for any of it: it could be killed at any line, and what it did not finish it does again.
 */
import { join } from 'node:path';
import type pg from 'pg';
import { systemClock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import { isUnencrypted } from '../core/loopback.ts';
import { LoopDelay } from '../core/loop-delay.ts';
import { ServiceGroup } from '../core/service.ts';
import { databaseFingerprint } from '../db/address.ts';
import { installTriggers } from '../db/capture.ts';
import { migrate, requireCurrentSchema } from '../db/migrations.ts';
import { readEntities } from '../db/own-types.ts';
import { createPool } from '../db/pool.ts';
import type { Entity } from '../protocol/entities.ts';
import type { Instance } from '../protocol/messages.ts';
import { sameExceptToken, type StoreCredential } from './credential.ts';
import { refuseForeign, refusePlaintext } from './credential-rules.ts';
import { CredentialWatch } from './credential-watch.ts';
import { DaemonLock } from './daemon-lock.ts';
import { helloFrame } from './hello.ts';
import { readInstance } from './instance.ts';
import { clientFor } from './link/client-for.ts';
import type { HqClient } from './link/hq-client.ts';
import { allowSlowAddresses } from './link/http-exchange.ts';
import { Link } from './link/link.ts';
import { Puller } from './link/puller.ts';
import { Prechecks } from './link/precheck.ts';
import { LinkRecorder } from './link/recorder.ts';
import { RetiredClients } from './link/retired-clients.ts';
import { LocalApi, type TakenUp } from './local-api.ts';
import { metricsOf, type StoreMetrics } from './metrics/store-metrics.ts';
import { Mirror } from './mirror/mirror.ts';
import type { DaemonOptions, RunningDaemon } from './options.ts';
import { Outbox } from './outbox/outbox.ts';
import type { Pusher } from './outbox/pusher.ts';
import { reEnrolStore, type ReEnrolReport } from './outbox/re-enrol.ts';
import { OutboxRetention } from './outbox/retention.ts';
import { PushLog } from './push-log.ts';
import { PushRounds } from './push-rounds.ts';
import { pushService } from './push-service.ts';
import { Renewal } from './renewal.ts';
import { pulseText, statFrame } from './stat.ts';
import { readStoreStatus } from './status.ts';
import { VerifyJobs } from './verify/jobs.ts';

const POOL_SIZE = 6;
const STATUS_LISTEN_DEFAULT = { host: '127.0.0.1', port: 3002 } as const;

/** Starts the daemon; throws PS-DB-…, PS-DAEMON-TWICE. HQ may be away, and the store may not be enrolled yet. */
export async function startDaemon(options: DaemonOptions): Promise<RunningDaemon> {
  const { databaseUrl } = options;
  allowSlowAddresses();
  if (options.migrate === true) await migrate('store', databaseUrl, (db) => installTriggers(db, 'store'));
  const pool = createPool({ url: databaseUrl, applicationName: 'possync store', max: POOL_SIZE });
  try {
    await requireCurrentSchema(pool, 'store');
    return await new Daemon(options, pool, await readInstance(pool), await readEntities(pool)).run();
  } catch (error) {
    if (!pool.ended) await pool.end();
    throw error;
  }
}

class Daemon {
  readonly #options: DaemonOptions;
  readonly #pool: pg.Pool;
  readonly #instance: Instance;
  readonly #outbox: Outbox;
  readonly #mirror: Mirror;
  readonly #link: Link;
  readonly #pusher: Pusher;
  readonly #puller: Puller;
  readonly #recorder: LinkRecorder;
  readonly #prechecks: Prechecks;
  readonly #watch: CredentialWatch;
  readonly #renewal: Renewal;
  readonly #api: LocalApi;
  readonly #verify: VerifyJobs;
  readonly #metrics: StoreMetrics | undefined;
  readonly #rounds = new PushRounds();
  readonly #loop: LoopDelay;
  #credential: StoreCredential | undefined;
  #client: HqClient | undefined;
  readonly #retired: RetiredClients;
  /** The last change of credential went over the open connection. */
  #swappedInBand = false;
  #fail: (error: Error) => void = () => undefined;

  constructor(options: DaemonOptions, pool: pg.Pool, instance: Instance, entities: readonly Entity[]) {
    const { clock = systemClock } = options;
    const log = options.log.child({ component: 'store' });
    this.#options = options;
    this.#pool = pool;
    this.#instance = instance;
    this.#loop = new LoopDelay(clock);
    this.#retired = new RetiredClients(clock);
    this.#metrics = metricsOf(options, log, () => this.#api.status());
    const pushLog = new PushLog(options.log.child({ component: 'push' }), clock);
    this.#outbox = new Outbox(pool, (seqs) => {
      pushLog.parked(seqs);
    });
    this.#mirror = new Mirror({ pool, entities, clock });
    this.#puller = new Puller({
      mirror: this.#mirror,
      hq: () => this.#link.reachableHq,
      onApplied: () => {
        this.#link.figuresChanged();
      },
      onPull: (pulled, ms) => this.#metrics?.pulled(pulled, ms, this.#link.hqNowMs),
      clock,
      log,
      ...(options.pullIntervalMs === undefined ? {} : { intervalMs: options.pullIntervalMs }),
    });
    this.#pusher = pushService(options, {
      outbox: this.#outbox,
      rounds: this.#rounds,
      link: () => this.#link,
      client: () => this.#client,
      metrics: this.#metrics,
      pushLog,
    });
    this.#link = new Link({
      clock,
      log,
      hello: () => helloFrame(this.#outbox, this.#mirror, instance, this.#credential?.code ?? ''),
      welcomed: async (welcome) => {
        const settled = await this.#outbox.applyWelcome(welcome);
        if (settled.result === 'halted') pushLog.halted(settled);
        if (welcome.rotate !== undefined) this.#renewal.ordered(welcome.rotate);
      },
      refused: (refuse) => this.#outbox.refused(refuse),
      flow: () => {
        this.#puller.hint();
        this.#pusher.wake();
      },
      hint: () => {
        this.#puller.hint();
      },
      stat: (id) => statFrame(this.#outbox, this.#mirror, id),
      ordered: (order) => {
        this.#renewal.ordered(order);
      },
      verify: (frame) => {
        this.#verify.asked(frame);
      },
      parked: (frame) => this.#outbox.noteParked(frame),
      answered: (rttMs) => this.#metrics?.heartbeat(rttMs),
      changed: () => {
        this.#prechecks.linkChanged();
        this.#shown();
        this.#metrics?.linkChanged(this.#link.snapshot());
      },
    });
    this.#prechecks = new Prechecks({
      clock,
      log,
      look: options.precheck,
      snapshot: () => this.#link.snapshot(),
      found: () => {
        this.#shown();
      },
    });
    this.#recorder = new LinkRecorder({
      db: pool,
      clock,
      snapshot: () => this.#prechecks.explained(),
      kid: () => this.#credential?.kid ?? null,
      wrote: (ms) => this.#metrics?.committed(ms),
    });
    this.#watch = new CredentialWatch({
      stateDir: options.stateDir,
      clock,
      log,
      found: (credential, forced) => this.#use(credential, forced),
      refused: ({ code, message }) => {
        // One that is in use stays in use: it worked.
        if (this.#client === undefined) this.#link.use(undefined, { code, message });
      },
    });
    this.#renewal = new Renewal({
      stateDir: options.stateDir,
      clock,
      log,
      hqUrl: options.hqUrl,
      proxies: options.proxies,
      caFile: options.caFile,
      takeUp: () => this.#takeUp(),
      report: (report) => {
        this.#link.tell(report);
      },
      certificate: () => this.#link.snapshot().tls,
      rotated: (result) => this.#metrics?.rotated(result),
      ...(options.renewalLookMs === undefined ? {} : { lookMs: options.renewalLookMs }),
    });
    this.#verify = new VerifyJobs({
      pool,
      entities,
      clock,
      log: log.child({ component: 'verify' }),
      hq: () => this.#link.reachableHq,
      pull: () => this.#puller.pullNow({ fresh: true }),
      push: () => this.#pushNow(),
    });
    this.#api = new LocalApi({
      socketPath: join(options.runtimeDir ?? options.stateDir, 'store.sock'),
      database: databaseFingerprint(options.databaseUrl),
      listen: options.statusListen === undefined ? STATUS_LISTEN_DEFAULT : options.statusListen,
      origin: options.statusOrigin,
      clock,
      log,
      diagnose: options.diagnose,
      status: () =>
        readStoreStatus(pool, {
          stateDir: options.stateDir,
          source: 'daemon',
          loopP99Ms: this.#loop.p99Ms,
          writeFault: this.#recorder.fault,
        }),
      indicator: () => {
        const { indicator, reason } = this.#prechecks.explained();
        return { indicator, code: reason?.code ?? null };
      },
      ready: () => requireCurrentSchema(pool, 'store'),
      pull: (fresh) => this.#puller.pullNow({ fresh }),
      push: () => this.#pushNow(),
      reEnrol: (from) => this.#reEnrol(from),
      reload: () => {
        this.#watch.reload();
      },
      takeUp: () => this.#takeUp(),
      verify: this.#verify,
    });
  }

  async run(): Promise<RunningDaemon> {
    const { databaseUrl, clock = systemClock, log, stateDir, runtimeDir } = this.#options;
    const failed = new Promise<Error>((resolve) => {
      this.#fail = resolve;
    });
    const services = new ServiceGroup('store daemon', [
      { name: 'database pool', start: () => undefined, stop: () => this.#pool.end() },
      new DaemonLock({
        database: { url: databaseUrl, applicationName: 'possync store lock' },
        clock,
        log,
        lost: (error) => {
          this.#fail(error);
        },
      }),
      this.#loop,
      this.#recorder,
      new OutboxRetention({
        pool: this.#pool,
        clock,
        onError: (error) => {
          log.warn('old entries could not be forgotten', { err: error });
        },
      }),
      this.#puller,
      this.#pusher,
      this.#prechecks,
      this.#link,
      this.#watch,
      this.#renewal,
      this.#verify,
      this.#api,
      ...(this.#metrics === undefined ? [] : [this.#metrics]),
    ]);
    await this.#mirror.resyncAfterUpgrade();
    await services.start();
    log.info('the daemon is running', { event: 'start', store: this.#credential?.code ?? null });
    let stopping: Promise<void> | undefined;
    return {
      failed,
      socketPath: join(runtimeDir ?? stateDir, 'store.sock'),
      statusUrl: this.#api.url,
      metricsUrl: this.#metrics?.url,
      reload: () => {
        this.#watch.reload();
      },
      reconnect: () => {
        this.#link.reconnect();
      },
      pulse: () => pulseText(this.#outbox, this.#link.snapshot().indicator),
      status: () => this.#api.status(),
      dump: () => ({
        link: this.#prechecks.explained(),
        store: this.#credential?.code ?? null,
        kid: this.#credential?.kid ?? null,
        instance: this.#instance,
        pool: { total: this.#pool.totalCount, idle: this.#pool.idleCount, waiting: this.#pool.waitingCount },
        memory: process.memoryUsage(),
      }),
      stop: () =>
        (stopping ??= services.stop().finally(() => {
          this.#client?.close();
          this.#retired.close();
        })),
    };
  }

  #shown(): void {
    this.#recorder.changed();
    this.#api.linkChanged();
  }

  /** A credential that is new, changed or gone. */
  async #use(credential: StoreCredential | undefined, forced: boolean): Promise<void> {
    const before = this.#client;
    const old = this.#credential;
    if (credential === undefined) {
      this.#credential = undefined;
      this.#client = undefined;
      this.#link.use(undefined);
      before?.close();
      return;
    }
    const sameWay = old !== undefined && sameExceptToken(old, credential) && !forced;
    if (sameWay && old.kid === credential.kid && before !== undefined) {
      this.#credential = credential;
      return;
    }
    await refuseForeign(this.#pool, credential);
    const url = this.#options.hqUrl ?? credential.hqUrl;
    refusePlaintext(url, credential, this.#options.allowPlaintext === true);
    const client = clientFor(credential, this.#options);
    this.#client = client;
    this.#credential = credential;
    if (credential.rotation !== undefined) this.#renewal.unfinished();
    const unencrypted = isUnencrypted(url);
    this.#options.log[unencrypted ? 'warn' : 'info'](
      unencrypted ? 'credential read; what goes to HQ is unencrypted' : 'credential read',
      {
        event: 'config.reloaded',
        ...(unencrypted ? { code: 'PS-CFG-PLAINTEXT', unencrypted } : {}),
        kid: credential.kid,
        store: credential.code,
        hq: url,
        ...(client.proxy === undefined ? {} : { proxy: client.proxy }),
      },
    );
    if (sameWay && before !== undefined) {
      this.#swappedInBand = await this.#link.swap(client, credential.token);
      this.#recorder.changed();
      // HQ takes the old credential for a while: requests in hand are finished under it.
      this.#retired.add(before);
    } else {
      this.#swappedInBand = false;
      this.#link.use(client);
      before?.close();
    }
  }

  /** The credential file as it is now is in use; how the connection took it. */
  async #takeUp(): Promise<TakenUp> {
    await this.#watch.lookNow();
    return {
      kid: this.#credential?.kid ?? null,
      in_band: this.#swappedInBand,
      indicator: this.#link.snapshot().indicator,
    };
  }

  /** In the daemon's own name: HQ refuses a new epoch while another instance of the store is connected. */
  async #reEnrol(from: string | undefined): Promise<ReEnrolReport> {
    const client = this.#client;
    if (client === undefined) throw new PossyncError('PS-NOT-ENROLLED', 'the store is not enrolled');
    const report = await reEnrolStore(this.#pool, {
      instance: this.#instance,
      ask: (request) => client.reEnrol(request),
      ...(from === undefined ? {} : { reexportFrom: from }),
    });
    this.#options.log.info('a new epoch has begun', { ...report });
    this.#link.reconnect();
    return report;
  }

  /** Through the pusher's own loop: two rounds at once would send every batch twice. */
  async #pushNow(): Promise<number> {
    const round = this.#rounds.next();
    this.#pusher.wake();
    return await round;
  }
}
