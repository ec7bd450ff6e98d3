/**
 * Composition of HQ's server: database, sealing, inbox, live sockets and the port, started in this order and stopped
 * in the reverse one, so that nobody is let in before everything behind is there.
 *
 *   HTTP ─┬─ pull ─▶ feed            Sealer ── round ──▶ StoreSockets ── hint ──▶ stores
 *         ├─ push ─▶ inbox           Listener ─ tokens, stores, asks ─▶ StoreSockets
 *         ├─ hello, enrol
 *         └─ upgrade ─▶ StoreSockets
 */
import type pg from 'pg';
import { systemClock, type Clock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import { Joint } from '../core/joint.ts';
import { isLoopback } from '../core/loopback.ts';
import { ServiceGroup } from '../core/service.ts';
import { installTriggers } from '../db/capture.ts';
import { Listener } from '../db/listener.ts';
import { migrate, requireCurrentSchema } from '../db/migrations.ts';
import { readEntities } from '../db/own-types.ts';
import { createPool } from '../db/pool.ts';
import { CREDENTIAL_LIFE_MS, DEFAULT_PORT } from '../protocol/http.ts';
import type { Entity } from '../protocol/entities.ts';
import { Buckets } from './buckets.ts';
import { FeedUpkeep } from './feed/upkeep.ts';
import { Sealer } from './feed/sealer.ts';
import { Gate } from './gate.ts';
import type { Caller, Rooms } from './http-routes.ts';
import { readHqId } from './identity.ts';
import { GATHER_MS, hello } from './inbox/hello.ts';
import { InboxMaintenance } from './inbox/maintenance.ts';
import { push } from './inbox/push.ts';
import { PushWatch } from './inbox/push-watch.ts';
import { reEnrol } from './inbox/re-enrol.ts';
import { Ledger } from './ledger/ledger.ts';
import { LoginGuard } from './login-guard.ts';
import type { HqOptions, RunningHq } from './options.ts';
import { HqServer } from './server.ts';
import { readHqStatus } from './status.ts';
import { CredentialUpkeep } from './stores/credential-upkeep.ts';
import { enrol } from './stores/enrol.ts';
import { LINKS_CHANNEL, readLight } from './stores/live.ts';
import { OrderDesk } from './stores/order-desk.ts';
import { openOrders } from './stores/orders.ts';
import { confirmRotation, finishRotation, registerRotation } from './stores/rotations.ts';
import { parkedNews } from './stores/parked-news.ts';
import { StoreSockets, type SocketsOptions } from './stores/sockets.ts';
import { STORES_CHANNEL } from './stores/stores.ts';
import { authenticate, forgetCredentials, tokensInForce } from './stores/tokens.ts';
import { verifyRoom } from './verify/routes.ts';
import { WatchPort } from './watch-port.ts';

/** Twelve batches at once keep two cores busy; the rest is for pages, hellos and the sealer. */
const POOL_SIZE = 20;
/** A program of HQ that has a table to itself: the store hears 429 and comes back, the connection serves others. */
const LOCK_MS = 10_000;
/** As long as a store waits for an answer. */
const QUERY_MS = 120_000;
/** A graceful stop waits for bodies in hand at most so long. */
const FINISH_MS = 8_000;

/** Starts HQ's server; throws PS-DB-…, PS-LISTEN, PS-CFG-PLAINTEXT or PS-TLS-FILES before anything is served. */
export async function startHq(options: HqOptions): Promise<RunningHq> {
  const { databaseUrl, clock = systemClock, tls, credentialLifeMs = CREDENTIAL_LIFE_MS } = options;
  const log = options.log.child({ component: 'hq' });
  if (options.migrate === true) await migrate('hq', databaseUrl, (db) => installTriggers(db, 'hq'));
  const pool = createPool({
    url: databaseUrl,
    applicationName: 'possync hq',
    max: POOL_SIZE,
    lockTimeoutMs: LOCK_MS,
    queryTimeoutMs: QUERY_MS,
  });
  // What nobody waits for may take as long as it takes.
  const upkeep = createPool({ url: databaseUrl, applicationName: 'possync hq upkeep', max: 2 });
  try {
    await requireCurrentSchema(pool, 'hq');
    const hqId = await readHqId(pool);
    const guard = new LoginGuard({
      clock,
      log,
      read: () => tokensInForce(pool),
      refused: (code) => {
        watch?.metrics.refused(code);
      },
    });
    const greet = greeter(pool, clock);
    const entities = await readEntities(pool);
    const feed = new FeedUpkeep({ pool, upkeep, entities, clock, log });
    const host = options.host ?? (tls === undefined ? '127.0.0.1' : '0.0.0.0');
    const unencrypted = tls === undefined && !isLoopback(host);
    const sockets = new StoreSockets({
      pool,
      clock,
      log: unencrypted ? log.child({ unencrypted }) : log,
      hello: greet,
      hinted: (waitedMs) => watch?.metrics.hinted(waitedMs),
      authenticate: async (bearer, address) => {
        const caller = await guard.credential(bearer, address, (known) => authenticate(pool, known));
        await confirmFirstUse(pool, caller);
        return caller;
      },
      ordered: (storeIds) => {
        void desk.ordered(storeIds);
      },
      rotated: (caller, report) => {
        void desk.reported(caller, report);
      },
    });
    const watch =
      options.metricsListen == null
        ? undefined
        : new WatchPort({
            listen: options.metricsListen,
            status: () => readHqStatus(upkeep),
            sockets: () => sockets.size,
            clock,
            log,
          });
    const desk = new OrderDesk({
      pool,
      clock,
      log,
      connected: () => sockets.connected,
      send: (storeId, frame) => {
        sockets.send(storeId, frame);
      },
    });
    const server = new HqServer({
      hqId,
      rooms: roomsOf({
        pool,
        sockets,
        feed,
        entities,
        guard,
        greet,
        pushes: new PushWatch({ log, clock, metrics: watch?.metrics }),
        lifeMs: credentialLifeMs,
      }),
      clock,
      log,
      host,
      port: options.port ?? DEFAULT_PORT,
      tls,
      allowPlaintext: options.allowPlaintext ?? false,
      answered: (path, status, ms) => {
        watch?.metrics.request(path, status, ms);
      },
      onSocket: (socket, caller, remote, answered) => {
        sockets.accept(socket, caller, remote, answered);
      },
    });
    const services = new ServiceGroup('hq', [
      { name: 'database pool', start: () => undefined, stop: () => pool.end() },
      { name: 'upkeep pool', start: () => undefined, stop: () => upkeep.end() },
      new InboxMaintenance({
        pool: upkeep,
        clock,
        onRound: ({ unplaceable }) => {
          if (unplaceable > 0) log.warn('rows without a partition', { rows: unplaceable });
        },
        onError: (error) => {
          log.error('maintenance of the inbox failed; trying again in a minute', { err: error });
        },
      }),
      feed,
      new Ledger({ pool, clock, log }),
      guard,
      sockets,
      desk,
      parkedNews({
        pool,
        clock,
        log,
        told: () => sockets.parkedAsTold,
        send: (storeId, frame) => {
          sockets.send(storeId, frame);
        },
      }),
      new Listener({
        database: { url: databaseUrl, applicationName: 'possync hq listen' },
        channels: [LINKS_CHANNEL, STORES_CHANNEL],
        woken: (channel, payload) => {
          if (channel !== LINKS_CHANNEL) {
            forgetCredentials(pool);
            void guard.refresh();
          }
          sockets.notified(channel, payload);
        },
        clock,
      }),
      new Sealer({
        pool,
        clock,
        log,
        onRound: (round) => {
          sockets.announce(round);
        },
      }),
      server,
      new CredentialUpkeep({
        pool,
        clock,
        log,
        server: sockets.server,
        url: () => server.listens,
        certificate: () => server.certificate,
      }),
      ...(watch === undefined ? [] : [watch]),
    ]);
    await services.start();
    log.info('HQ is serving', { event: 'start', url: server.listens, hq: hqId, unencrypted });
    if (unencrypted)
      log.warn('HQ serves unencrypted: sales and credentials can be read on the way', {
        event: 'start',
        code: 'PS-CFG-PLAINTEXT',
        url: server.listens,
      });
    let stopping: Promise<void> | undefined;
    return {
      url: server.url,
      listens: server.listens,
      unencrypted,
      port: server.port,
      watchUrl: watch?.url,
      reload: () => {
        server.reloadTls();
      },
      pulse: async () => {
        await pool.query('select 1');
        return `${sockets.size} stores connected here`;
      },
      dump: () => ({
        url: server.listens,
        stores: sockets.size,
        pool: { total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount },
        certificateUntil: server.certificate?.notAfter.toISOString() ?? null,
        memory: process.memoryUsage(),
      }),
      stop: () => (stopping ??= stopAll(services, server, sockets, clock)),
    };
  } catch (error) {
    if (!pool.ended) await pool.end();
    if (!upkeep.ended) await upkeep.end();
    throw error;
  }
}

type Greet = SocketsOptions['hello'];

/** A daemon that reconnects says hello a few times in a minute. */
const HELLOS = { burst: 30, perSecond: 1 } as const;
/** Of one store: each is a transaction on the store's inbox, one after the other. */
const HELLOS_PER_STORE = 2;
/** Of all: those who come together share their statements, so the bound is for memory, a few kB each. */
const HELLOS_AT_ONCE = 1_000;

/** Hello over either way, so many at once: what a store is to do with its credential goes with the welcome. */
function greeter(pool: pg.Pool, clock: Clock): Greet {
  const rate = new Buckets({ ...HELLOS, clock });
  const gate = new Gate(HELLOS_AT_ONCE, Math.random, HELLOS_PER_STORE);
  const orders = new Joint(
    async (storeIds: readonly number[]) => {
      const open = await openOrders(pool, storeIds, { patient: false });
      return new Map(open.map(({ storeId, order }) => [storeId, order]));
    },
    clock,
    GATHER_MS,
  );
  return async (caller, message, isAlive) => {
    const retryMs = rate.take(String(caller.storeId));
    if (retryMs > 0)
      throw new PossyncError('PS-HQ-BUSY', 'too many hellos of this store', { details: { retryMs } });
    return await gate.run(async () => {
      await confirmFirstUse(pool, caller);
      const answer = await hello(pool, caller.storeId, message, isAlive);
      if (answer.type === 'refuse') return answer;
      const rotate = (await orders.join(caller.storeId)).get(caller.storeId);
      return rotate === undefined ? answer : { ...answer, rotate };
    }, caller.storeId);
  };
}

interface Composed {
  readonly pool: pg.Pool;
  readonly sockets: StoreSockets;
  readonly feed: FeedUpkeep;
  readonly entities: readonly Entity[];
  /** How long a credential lives; null = until it is revoked. */
  readonly lifeMs: number | null;
  readonly guard: LoginGuard;
  readonly greet: Greet;
  readonly pushes: PushWatch;
}

function roomsOf({ pool, sockets, feed, entities, lifeMs, guard, greet, pushes }: Composed): Rooms {
  return {
    authenticate: (bearer, address) =>
      guard.credential(bearer, address, (known) => authenticate(pool, known)),
    hello: (caller, message) =>
      greet(caller, message, (instance) => sockets.isAlive(caller.storeId, instance)),
    page: (request) => feed.readPage(request),
    sharedPage: (request, storeIds) => feed.readSharedPage(request, storeIds),
    hasOwn: (request) => feed.hasOwn(request),
    push: async (caller, message, turn) => {
      await confirmFirstUse(pool, caller);
      return await pushes.watched(caller.code, (tell) =>
        push(pool, caller.storeId, message, { entities, turn, ...tell }),
      );
    },
    enrol: async (message, address) => {
      const answer = await guard.enrolment(message.token, address, () => enrol(pool, message, lifeMs));
      await guard.refresh();
      return answer;
    },
    reEnrol: (caller, message) =>
      reEnrol(
        pool,
        caller.storeId,
        message,
        (instance) => sockets.isAlive(caller.storeId, instance),
        `store ${caller.code}`,
      ),
    rotate: async (caller, rotation) => {
      const answer = await registerRotation(pool, caller, rotation, lifeMs);
      await guard.refresh();
      return answer;
    },
    rotated: (caller, id, step) =>
      step === 'confirm' ? confirmRotation(pool, caller, id) : finishRotation(pool, caller, id),
    verify: verifyRoom(pool, entities),
    ready: () => requireCurrentSchema(pool, 'hq'),
    connections: (storeId) => sockets.connections(storeId),
    light: (storeId) => readLight(pool, storeId),
  };
}

/** Whoever works with a rotated credential has it safe: the rotation is confirmed, even if the store could not say so. */
async function confirmFirstUse(pool: pg.Pool, caller: Caller): Promise<void> {
  if (caller.state === 'pending') await confirmRotation(pool, caller);
}

/**
 * Sockets are told to go first and when to return; the port closes, bodies in hand are finished, and what is left
 * after FINISH_MS is cut.
 */
async function stopAll(
  services: ServiceGroup,
  server: HqServer,
  sockets: StoreSockets,
  clock: Clock,
): Promise<void> {
  const cancel = clock.after(FINISH_MS, () => {
    server.cut();
  });
  try {
    await sockets.stop();
    await services.stop();
  } finally {
    cancel();
  }
}
