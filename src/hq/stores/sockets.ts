/**
 * The connected stores of this HQ process.
 *
 *   upgrade ─▶ StoreSocket ─ hello ─▶ inbox decides ─┬─ welcome ─▶ connected: hints, asks, heartbeat, live_links
 *                                                    └─ refuse ──▶ closed with the code of the refusal
 *   round sealed ─▶ hint (hints.ts)
 *   token revoked, store deactivated ─▶ closed within CHECK_MS (NOTIFY makes it at once)
 *   the same store here or at another HQ process ─▶ the newest welcome wins, older ones are closed with 4409
 */
import { randomUUID } from 'node:crypto';
import type { WebSocket } from 'ws';
import type pg from 'pg';
import { toPossyncError } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import { Joint } from '../../core/joint.ts';
import type { Log } from '../../core/log.ts';
import { Repeated } from '../../core/repeated.ts';
import type { Service } from '../../core/service.ts';
import { CLOSE } from '../../protocol/http.ts';
import type { Hello, HqFrame, Instance, Refuse, RotationReport, Welcome } from '../../protocol/messages.ts';
import type { SealedRound } from '../feed/seal.ts';
import type { Caller } from '../http-routes.ts';
import { Hints } from './hints.ts';
import { LinkBook } from './link-book.ts';
import {
  isNewest,
  LINKS_CHANNEL,
  liveElsewhere,
  refusedCredentials,
  tellServers,
  type LinkMessage,
} from './live.ts';
import { closeCodeOf, parseLinkMessage, returnReason } from './link-rules.ts';
import { OpenSockets } from './open-sockets.ts';
import type { ParkedAsTold } from './parked-news.ts';
import { logEnd } from './revocation-log.ts';
import { readRequest } from '../verify/runs.ts';
import { StoreSocket } from './socket.ts';

export interface SocketsOptions {
  readonly pool: pg.Pool;
  readonly clock: Clock;
  readonly log: Log;
  /** The inbox's answer to hello; asks `isAlive` about the instance it knows. */
  readonly hello: (
    caller: Caller,
    hello: Hello,
    isAlive: (instance: Instance) => Promise<boolean>,
  ) => Promise<Welcome | Refuse>;
  /** A credential that comes over an open connection; it is in force when this resolves. */
  readonly authenticate: (bearer: string, address: string) => Promise<Caller>;
  /** A store was told that there is something to pull. */
  readonly hinted?: (waitedMs: number) => void;
  /** Another process has ordered these stores to rotate. */
  readonly ordered: (storeIds: readonly number[]) => void;
  /** A store says what came of such an order. */
  readonly rotated: (caller: Caller, report: RotationReport) => void;
}

/** Seconds, not minutes, from `token revoke` to a dead link, even where no NOTIFY arrives. */
const CHECK_MS = 2_000;
/** Somebody who opens a socket and says nothing. */
const HELLO_MS = 10_000;
/** Of one store, before their welcome: a daemon opens one, and the next when that has failed. */
const WAITING_PER_STORE = 4;
/** A daemon that lives answers in a round trip; a slow line gets two seconds. */
const ALIVE_MS = 2_000;
/** Of a crowd that comes back each is told with those who come within this. */
const GATHER_MS = 50;
/** When HQ restarts: this many stores may return each second, the last after half a minute. */
const RETURN_PER_SECOND = 200;
const RETURN_MAX_MS = 30_000;

export class StoreSockets implements Service {
  readonly name = 'store sockets';
  /** This process among several `hq serve` on one database. */
  readonly server = randomUUID();
  readonly #options: SocketsOptions;
  readonly #all = new OpenSockets();
  readonly #connected = new Map<number, StoreSocket>();
  readonly #hints: Hints;
  readonly #book: LinkBook;
  readonly #checks: Repeated;
  /** Of those who arrive together: one statement. */
  readonly #told: Joint<LinkMessage, void>;
  readonly #checked: Joint<void, void>;
  #stopped = false;

  constructor(options: SocketsOptions) {
    const { pool, clock, log } = options;
    this.#options = options;
    this.#hints = new Hints(clock, (storeId, pos, waitedMs) => {
      this.send(storeId, { type: 'head', pos });
      options.hinted?.(waitedMs);
    });
    this.#book = new LinkBook({ pool, clock, log, server: this.server, connected: this.#connected });
    this.#told = new Joint((messages) => tellServers(pool, ...messages), clock, GATHER_MS);
    this.#checked = new Joint(() => this.#check(), clock);
    this.#checks = new Repeated({
      name: 'check of credentials',
      clock,
      everyMs: CHECK_MS,
      work: () => this.checkNow(),
    });
  }

  start(): void {
    this.#stopped = false;
    this.#book.start();
    this.#checks.start();
  }

  get size(): number {
    return this.#connected.size;
  }

  /** The stores whose connection is here. */
  get connected(): readonly number[] {
    return [...this.#connected.keys()];
  }

  /** What these stores say of their parked entries. */
  get parkedAsTold(): readonly ParkedAsTold[] {
    return [...this.#connected.values()].flatMap(({ storeId, stat }) =>
      stat?.out.parked === undefined ? [] : [{ storeId, parked: stat.out.parked }],
    );
  }

  send(storeId: number, frame: HqFrame): void {
    this.#connected.get(storeId)?.send(frame);
  }

  connections(storeId: number): number {
    return this.#all.of(storeId).filter((socket) => socket.welcomed).length;
  }

  /** `answered` is called when its hello has its answer. */
  accept(ws: WebSocket, caller: Caller, remote: string, answered: () => void = () => undefined): void {
    if (this.#stopped) {
      ws.close(CLOSE.restarting, returnReason(0));
      return;
    }
    const { clock } = this.#options;
    const socket = new StoreSocket(ws, caller, remote, clock, {
      hello: (from, hello) => {
        cancelHello();
        void this.#hello(from, hello).finally(answered);
      },
      stat: (from, stat) => {
        // What somebody asked for is awaited.
        if (from.welcomed) this.#book.changed(from, stat.id === null ? 'beat' : 'now');
      },
      auth: (from, token) => {
        void this.#auth(from, token);
      },
      rotation: (from, report) => {
        this.#options.rotated(from.caller, report);
      },
      closed: (from) => {
        cancelHello();
        this.#closed(from);
      },
    });
    this.#all.add(socket);
    const waiting = this.#all.of(caller.storeId).filter((other) => !other.welcomed);
    if (waiting.length > WAITING_PER_STORE) waiting[0]?.close(CLOSE.slowDown, returnReason(0));
    const cancelHello = clock.after(HELLO_MS, () => {
      socket.close(CLOSE.badFrame, 'no hello');
    });
  }

  /** Whether that daemon answers a ping now, here; at another HQ process its fresh row is taken for an answer. */
  async isAlive(storeId: number, instance: Instance): Promise<boolean> {
    for (const socket of this.#all.of(storeId))
      if (socket.daemon === instance.daemon && (await socket.answers(ALIVE_MS))) return true;
    return (await liveElsewhere(this.#options.pool, storeId, this.server)) === instance.daemon;
  }

  /** A round was sealed: tell the stores it concerns that there is something to pull. */
  announce({ head, stores, urgent }: SealedRound): void {
    const all = stores === null || stores.includes(0);
    const touched = all ? this.#connected.keys() : stores;
    for (const storeId of touched) if (this.#connected.has(storeId)) this.#hints.hint(storeId, head, urgent);
  }

  /** Asks connected stores for a stat frame with this id, after a hint if there is `head`; live_links carries it. */
  ask(storeId: number | null, id: string, head?: number): void {
    for (const asked of storeId === null ? this.#connected.keys() : [storeId]) {
      if (head !== undefined) this.#hints.hint(asked, head, true);
      this.send(asked, { type: 'ask', id });
    }
  }

  /** Ends a store's connections here. */
  closeStore(storeId: number, code: number, reason: string): void {
    for (const socket of this.#all.of(storeId)) socket.close(code, reason);
  }

  /** A notification of another process, or of a change of tokens and stores. */
  notified(channel: string | undefined, payload: string | undefined): void {
    if (channel === LINKS_CHANNEL && payload !== undefined) this.#linkMessage(payload);
    else void this.checkNow();
  }

  /** Ends the connections whose credential or store is no longer served. */
  async checkNow(): Promise<void> {
    await this.#checked.join();
  }

  async #check(): Promise<void> {
    const kids = [...new Set(this.#all.all().map((socket) => socket.caller.kid))];
    if (kids.length === 0) return;
    try {
      const refused = new Map(
        (await refusedCredentials(this.#options.pool, kids)).map(({ kid, why }) => [kid, why]),
      );
      if (refused.size === 0) return;
      for (const socket of this.#all.all()) {
        const why = refused.get(socket.caller.kid);
        if (why === 'disabled') socket.close(CLOSE.forbidden, why);
        else if (why !== undefined) socket.close(CLOSE.tokenRefused, why);
      }
    } catch (error) {
      this.#options.log.debug('could not check credentials', { err: error });
    }
  }

  /** Closes all, each with a time to stay away, so that a thousand stores do not return together. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#checks.stop();
    this.#hints.forgetAll();
    const spreadMs = Math.min(RETURN_MAX_MS, (this.#all.size / RETURN_PER_SECOND) * 1_000);
    for (const socket of this.#all.all())
      socket.close(CLOSE.restarting, returnReason(Math.floor(Math.random() * spreadMs)));
    while (this.#all.size > 0) await this.#options.clock.sleep(20);
    await this.#book.stop();
  }

  async #hello(socket: StoreSocket, hello: Hello): Promise<void> {
    const { log } = this.#options;
    try {
      const answer = await this.#options.hello(socket.caller, hello, (instance) =>
        this.isAlive(socket.storeId, instance),
      );
      if (!socket.open) return;
      socket.send(answer);
      if (answer.type === 'refuse') {
        log.info('hello refused', { store: socket.caller.code, reason: answer.code, remote: socket.remote });
        socket.close(closeCodeOf(answer.code), answer.code);
        return;
      }
      const older = this.#connected.get(socket.storeId);
      this.#connected.set(socket.storeId, socket);
      socket.welcome(answer.fence);
      older?.close(CLOSE.replaced, `replaced by ${socket.remote}`);
      log.info('store connected', {
        event: 'link.up',
        store: socket.caller.code,
        remote: socket.remote,
        kid: socket.caller.kid,
        conn: socket.id,
      });
      this.#book.changed(socket, 'now');
      await this.#told.join({
        type: 'moved',
        store: socket.storeId,
        server: this.server,
        connection: socket.id,
      });
    } catch (error) {
      const { code, details } = toPossyncError(error);
      if (code === 'PS-HQ-BUSY') {
        socket.close(CLOSE.slowDown, returnReason(typeof details.retryMs === 'number' ? details.retryMs : 0));
        return;
      }
      log.error('hello failed', { store: socket.caller.code, err: error });
      socket.send({ type: 'refuse', code: 'not_ready', detail: 'HQ cannot use its database now' });
      socket.close(CLOSE.tryLater, 'not_ready');
    }
  }

  /** The connection stays as it was where the new credential is refused. */
  async #auth(socket: StoreSocket, token: string): Promise<void> {
    const { log } = this.#options;
    const before = socket.caller.kid;
    try {
      const caller = await this.#options.authenticate(token, socket.address);
      if (caller.storeId !== socket.storeId)
        throw new PossyncError('PS-TOKEN-STORE', `the credential is of store ${caller.code}`);
      socket.reauthenticate(caller);
      socket.send({ type: 'authenticated', kid: caller.kid, code: null });
      log.info('connection goes on under a new credential', {
        event: 'token.rotated',
        store: caller.code,
        old: before,
        kid: caller.kid,
        conn: socket.id,
      });
      this.#book.changed(socket, 'now');
    } catch (error) {
      const { code } = toPossyncError(error);
      log.warn('a credential for an open connection was refused', { store: socket.caller.code, code });
      socket.send({ type: 'authenticated', kid: before, code });
    }
  }

  #closed(socket: StoreSocket): void {
    this.#all.delete(socket);
    const row = socket.row(this.server);
    if (this.#connected.get(socket.storeId) !== socket) return;
    this.#connected.delete(socket.storeId);
    this.#hints.forget(socket.storeId);
    this.#options.log.info('store disconnected', {
      event: 'link.down',
      store: socket.caller.code,
      conn: socket.id,
      close: row?.closeCode,
      reason: row?.closeReason,
    });
    this.#book.ended(socket);
  }

  #linkMessage(payload: string): void {
    const message = parseLinkMessage(payload);
    if (message?.type === 'ask') this.ask(message.store, message.id, message.head);
    if (message?.type === 'rotate') this.#options.ordered(message.stores);
    if (message?.type === 'revoked' || message?.type === 'rotated') logEnd(this.#options.log, message);
    if (message?.type === 'verify') void this.#verify(message.store, message.id);
    if (message?.type !== 'moved' || message.server === this.server) return;
    void this.#moved(message.store);
  }

  /** It says that the store has moved, not when: a message that was overtaken must not end the newer connection. */
  async #moved(storeId: number): Promise<void> {
    for (const socket of this.#all.of(storeId)) {
      if (socket.fence === undefined || !socket.welcomed) continue;
      const newest = await isNewest(this.#options.pool, storeId, socket.fence).catch(() => false);
      if (!newest) socket.close(CLOSE.replaced, 'replaced at another server');
    }
  }

  async #verify(storeId: number, id: string): Promise<void> {
    const socket = this.#connected.get(storeId);
    if (socket === undefined) return;
    const asked = await readRequest(this.#options.pool, storeId, id).catch(() => undefined);
    // Who waits sees that nothing comes: the run stays without a word of the store.
    if (asked !== undefined) socket.send({ type: 'verify', id, ...asked });
  }
}
