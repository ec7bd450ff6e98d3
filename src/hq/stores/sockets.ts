/**
 * The connected stores of this HQ process.
 *
 *   upgrade ─▶ StoreSocket ─ hello ─▶ inbox decides ─┬─ welcome ─▶ connected: hints, asks, heartbeat, live_links
 *                                                    └─ refuse ──▶ closed with the code of the refusal
 *   round sealed ─▶ hint: at once when urgent, else spread over 10 s by store, never two for one store at a time
 *   token revoked, store deactivated ─▶ closed within CHECK_MS (NOTIFY makes it at once)
 *   the same store here or at another HQ process ─▶ the newest welcome wins, older ones are closed with 4409
 */
import { randomUUID } from 'node:crypto';
import type { WebSocket } from 'ws';
import type pg from 'pg';
import { toPossyncError } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { Service } from '../../core/service.ts';
import { CLOSE } from '../../protocol/http.ts';
import type { Hello, HqFrame, Instance, Refuse, RotationReport, Welcome } from '../../protocol/messages.ts';
import type { SealedRound } from '../feed/seal.ts';
import type { Caller } from '../http-routes.ts';
import {
  LINKS_CHANNEL,
  liveElsewhere,
  refusedCredentials,
  tellServers,
  writeLinks,
  type LinkRow,
} from './live.ts';
import { closeCodeOf, parseLinkMessage, returnReason, spreadOf } from './link-rules.ts';
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
  /** Another process has ordered these stores to rotate. */
  readonly ordered: (storeIds: readonly number[]) => void;
  /** A store says what came of such an order. */
  readonly rotated: (caller: Caller, report: RotationReport) => void;
}

/** Live rows older than 10 s are red; half of that keeps one lost write harmless. */
const WRITE_MS = 5_000;
/** Seconds, not minutes, from `token revoke` to a dead link, even where no NOTIFY arrives. */
const CHECK_MS = 2_000;
/** Somebody who opens a socket and says nothing. */
const HELLO_MS = 10_000;
/** Of one store, before their welcome: a daemon opens one, and the next when that has failed. */
const WAITING_PER_STORE = 4;
/** A daemon that lives answers in a round trip; a slow line gets two seconds. */
const ALIVE_MS = 2_000;
/** When HQ restarts: this many stores may return each second, the last after half a minute. */
const RETURN_PER_SECOND = 200;
const RETURN_MAX_MS = 30_000;

interface Pending {
  pos: number;
  readonly cancel: () => void;
}

export class StoreSockets implements Service {
  readonly name = 'store sockets';
  /** This process among several `hq serve` on one database. */
  readonly server = randomUUID();
  readonly #options: SocketsOptions;
  readonly #all = new Set<StoreSocket>();
  readonly #connected = new Map<number, StoreSocket>();
  readonly #hints = new Map<number, Pending>();
  /** Rows of ended connections, until they are written. */
  #ended: LinkRow[] = [];
  #writing: Promise<void> | undefined;
  #writeAgain = false;
  #cancelWrite: () => void = () => undefined;
  #cancelCheck: () => void = () => undefined;
  #stopped = false;

  constructor(options: SocketsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#stopped = false;
    this.#writeLoop();
    this.#checkLoop();
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
    return [...this.#all].filter((socket) => socket.storeId === storeId && socket.welcomed).length;
  }

  accept(ws: WebSocket, caller: Caller, remote: string): void {
    if (this.#stopped) {
      ws.close(CLOSE.restarting, returnReason(0));
      return;
    }
    const { clock } = this.#options;
    const socket = new StoreSocket(ws, caller, remote, clock, {
      hello: (from, hello) => {
        cancelHello();
        void this.#hello(from, hello);
      },
      stat: (from, stat) => {
        // What somebody asked for is awaited; routine reports go with the next write.
        if (stat.id !== null && from.welcomed) this.#writeSoon();
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
    const waiting = [...this.#all].filter((other) => other.storeId === caller.storeId && !other.welcomed);
    if (waiting.length > WAITING_PER_STORE) waiting[0]?.close(CLOSE.slowDown, returnReason(0));
    const cancelHello = clock.after(HELLO_MS, () => {
      socket.close(CLOSE.badFrame, 'no hello');
    });
  }

  /** Whether that daemon answers a ping now, here; at another HQ process its fresh row is taken for an answer. */
  async isAlive(storeId: number, instance: Instance): Promise<boolean> {
    for (const socket of this.#all) {
      if (socket.storeId === storeId && socket.daemon === instance.daemon && (await socket.answers(ALIVE_MS)))
        return true;
    }
    return (await liveElsewhere(this.#options.pool, storeId, this.server)) === instance.daemon;
  }

  /** A round was sealed: tell the stores it concerns that there is something to pull. */
  announce({ head, stores, urgent }: SealedRound): void {
    const all = stores === null || stores.includes(0);
    const touched = all ? this.#connected.keys() : stores;
    for (const storeId of touched) this.#hint(storeId, head, urgent);
  }

  /** Asks connected stores for a stat frame with this id, after a hint if there is `head`; live_links carries it. */
  ask(storeId: number | null, id: string, head?: number): void {
    for (const socket of this.#connected.values()) {
      if (storeId !== null && socket.storeId !== storeId) continue;
      if (head !== undefined) this.#hint(socket.storeId, head, true);
      socket.send({ type: 'ask', id });
    }
  }

  /** Ends a store's connections here. */
  closeStore(storeId: number, code: number, reason: string): void {
    for (const socket of this.#all) if (socket.storeId === storeId) socket.close(code, reason);
  }

  /** A notification of another process, or of a change of tokens and stores. */
  notified(channel: string | undefined, payload: string | undefined): void {
    if (channel === LINKS_CHANNEL && payload !== undefined) this.#linkMessage(payload);
    else void this.checkNow();
  }

  /** Ends the connections whose credential or store is no longer served. */
  async checkNow(): Promise<void> {
    const kids = [...new Set([...this.#all].map((socket) => socket.caller.kid))];
    if (kids.length === 0) return;
    try {
      const refused = new Map(
        (await refusedCredentials(this.#options.pool, kids)).map(({ kid, why }) => [kid, why]),
      );
      for (const socket of this.#all) {
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
    this.#cancelCheck();
    this.#cancelWrite();
    for (const { cancel } of this.#hints.values()) cancel();
    this.#hints.clear();
    const spreadMs = Math.min(RETURN_MAX_MS, (this.#all.size / RETURN_PER_SECOND) * 1_000);
    for (const socket of this.#all)
      socket.close(CLOSE.restarting, returnReason(Math.floor(Math.random() * spreadMs)));
    while (this.#all.size > 0) await this.#options.clock.sleep(20);
    await this.#write();
  }

  async #hello(socket: StoreSocket, hello: Hello): Promise<void> {
    const { log, pool } = this.#options;
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
      socket.welcome();
      older?.close(CLOSE.replaced, `replaced by ${socket.remote}`);
      log.info('store connected', {
        event: 'link.up',
        store: socket.caller.code,
        remote: socket.remote,
        kid: socket.caller.kid,
        conn: socket.id,
      });
      this.#writeSoon();
      await tellServers(pool, {
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
      this.#writeSoon();
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
    this.#hints.get(socket.storeId)?.cancel();
    this.#hints.delete(socket.storeId);
    this.#options.log.info('store disconnected', {
      event: 'link.down',
      store: socket.caller.code,
      conn: socket.id,
      close: row?.closeCode,
      reason: row?.closeReason,
    });
    if (row !== undefined) this.#ended.push(row);
    this.#writeSoon();
  }

  #hint(storeId: number, pos: number, urgent: boolean): void {
    const socket = this.#connected.get(storeId);
    if (socket === undefined) return;
    const pending = this.#hints.get(storeId);
    if (urgent) {
      pending?.cancel();
      this.#hints.delete(storeId);
      socket.send({ type: 'head', pos });
    } else if (pending !== undefined) {
      pending.pos = Math.max(pending.pos, pos);
    } else {
      const cancel = this.#options.clock.after(spreadOf(storeId), () => {
        this.#hints.delete(storeId);
        this.#connected.get(storeId)?.send({ type: 'head', pos: entry.pos });
      });
      const entry: Pending = { pos, cancel };
      this.#hints.set(storeId, entry);
    }
  }

  #linkMessage(payload: string): void {
    const message = parseLinkMessage(payload);
    if (message?.type === 'ask') this.ask(message.store, message.id, message.head);
    if (message?.type === 'rotate') this.#options.ordered(message.stores);
    if (message?.type === 'revoked' || message?.type === 'rotated') logEnd(this.#options.log, message);
    if (message?.type === 'verify') void this.#verify(message.store, message.id);
    if (message?.type !== 'moved' || message.server === this.server) return;
    for (const socket of this.#all)
      if (socket.storeId === message.store && socket.welcomed)
        socket.close(CLOSE.replaced, 'replaced at another server');
  }

  async #verify(storeId: number, id: string): Promise<void> {
    const socket = this.#connected.get(storeId);
    if (socket === undefined) return;
    const asked = await readRequest(this.#options.pool, storeId, id).catch(() => undefined);
    // Who waits sees that nothing comes: the run stays without a word of the store.
    if (asked !== undefined) socket.send({ type: 'verify', id, ...asked });
  }

  #checkLoop(): void {
    this.#cancelCheck = this.#options.clock.after(CHECK_MS, () => {
      void this.checkNow().finally(() => {
        if (!this.#stopped) this.#checkLoop();
      });
    });
  }

  #writeLoop(): void {
    this.#cancelWrite = this.#options.clock.after(WRITE_MS, () => {
      void this.#write().finally(() => {
        if (!this.#stopped) this.#writeLoop();
      });
    });
  }

  /** Changes are written at once, but one statement at a time: those that come meanwhile share the next one. */
  #writeSoon(): void {
    if (this.#writing !== undefined) this.#writeAgain = true;
    else void this.#write();
  }

  async #write(): Promise<void> {
    if (this.#writing !== undefined) {
      await this.#writing;
      return;
    }
    this.#writing = this.#writeOnce();
    await this.#writing;
    this.#writing = undefined;
    if (!this.#writeAgain) return;
    this.#writeAgain = false;
    await this.#write();
  }

  async #writeOnce(): Promise<void> {
    const ended = this.#ended;
    this.#ended = [];
    const live = [...this.#connected.values()].flatMap((socket) => socket.row(this.server) ?? []);
    // A store that came back has a live row already: one row per store in a statement.
    const back = new Set(live.map((row) => row.storeId));
    const gone = new Map(ended.filter((row) => !back.has(row.storeId)).map((row) => [row.storeId, row]));
    try {
      await writeLinks(this.#options.pool, [...live, ...gone.values()]);
    } catch (error) {
      this.#ended.unshift(...gone.values());
      this.#options.log.debug('could not write the live connections', { err: error });
    }
  }
}
