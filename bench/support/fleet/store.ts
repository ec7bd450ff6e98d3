/**
 * One simulated store: the daemon's own link and HTTP client, and in memory what a store keeps in its database.
 *
 *   Link (hello, heartbeat, backoff) ─ hint, flow ─▶ pull ─▶ cursor
 *   bodies ─▶ chain ─▶ batches ─▶ push ─▶ acknowledged position
 *
 * It does what a daemon does where HQ could notice a difference, the routine pull every half minute included.
 */
import { randomUUID } from 'node:crypto';
import { nextChain } from '../../../src/core/chain.ts';
import { systemClock, type Clock } from '../../../src/core/clock.ts';
import { toPossyncError } from '../../../src/core/classify.ts';
import { silentLog } from '../../../src/core/log.ts';
import { Secret } from '../../../src/core/secret.ts';
import { SOFTWARE } from '../../../src/core/version.ts';
import { PULL_PAGE_ROWS } from '../../../src/protocol/http.ts';
import {
  type Hello,
  type Push,
  type RotationOrder,
  type RotationReport,
  type StatFrame,
  type Welcome,
} from '../../../src/protocol/messages.ts';
import { readPage } from '../../../src/protocol/page.ts';
import { BODY_VERSION, PROTOCOL_VERSION } from '../../../src/protocol/version.ts';
import { HqClient, retryMsOf } from '../../../src/store/link/hq-client.ts';
import { Link } from '../../../src/store/link/link.ts';
import { PULL_INTERVAL_MS } from '../../../src/store/link/puller.ts';
import { layoutsForHello } from './bodies.ts';
import type { Cursor, FleetSpec } from './commands.ts';
import type { StoreIdentity } from './identity.ts';

/** A daemon looks every two seconds whether its machine's network changed; thousands of them share this machine's. */
const CLOCK: Clock = {
  ...systemClock,
  sleep: (_ms, signal) =>
    new Promise((resolve) => {
      signal?.addEventListener('abort', () => {
        resolve();
      });
    }),
};

const LAYOUTS = layoutsForHello();

export interface StoreEvents {
  readonly light: (store: FleetStore, green: boolean) => void;
  /** An attempt or a connection ended; its reason. */
  readonly down: (store: FleetStore, code: string) => void;
  /** A page reached HQ's head: the store has everything up to there. */
  readonly pulled: (store: FleetStore, head: number) => void;
  readonly pullFailed: (store: FleetStore, code: string) => void;
}

type Batch = Omit<Push, 'fence'>;

export class FleetStore {
  readonly storeId: number;
  readonly #code: string;
  #client: HqClient;
  readonly #link: Link;
  readonly #events: StoreEvents;
  readonly #instance = { boot: 'fleet', daemon: randomUUID(), pgSysid: 'fleet' };
  readonly #batches: Batch[] = [];
  #sealed = { seq: 0, chain: '' };
  #acked = { seq: 0, chain: '' };
  #cursor: Cursor;
  #green = false;
  #state = '';
  #pulling: Promise<void> | undefined;
  #wanted = false;
  #cancelPoll: () => void = () => undefined;
  #stopped = false;

  constructor(
    { storeId, code, token }: StoreIdentity,
    { hq, cursor }: Pick<FleetSpec, 'hq' | 'cursor'>,
    events: StoreEvents,
    ordered: (order: RotationOrder) => void = () => undefined,
  ) {
    this.storeId = storeId;
    this.#cursor = cursor;
    this.#code = code;
    this.#events = events;
    this.#client = new HqClient({
      url: hq.url,
      hqId: hq.id,
      credential: new Secret(token, code),
      software: SOFTWARE,
    });
    this.#link = new Link({
      clock: CLOCK,
      log: silentLog,
      hello: () => Promise.resolve(this.#hello()),
      welcomed: (welcome) => {
        this.#welcomed(welcome);
        return Promise.resolve();
      },
      refused: () => Promise.resolve(),
      flow: () => {
        this.#pullSoon();
      },
      hint: () => {
        this.#pullSoon();
      },
      stat: (id) => Promise.resolve(this.#stat(id)),
      ordered,
      verify: () => undefined,
      parked: () => Promise.resolve(),
      changed: ({ indicator, state, reason }) => {
        if (state === 'waiting' && this.#state !== 'waiting') events.down(this, reason?.code ?? 'unknown');
        this.#state = state;
        const green = indicator === 'green';
        if (green === this.#green) return;
        this.#green = green;
        events.light(this, green);
      },
    });
  }

  connect(): void {
    this.#link.start();
    this.#link.use(this.#client);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelPoll();
    await this.#link.stop();
    this.#client.close();
  }

  /** The same store under another credential; whether the open connection went on. */
  async swap(client: HqClient, token: Secret): Promise<boolean> {
    const before = this.#client;
    this.#client = client;
    const inBand = await this.#link.swap(client, token);
    before.close();
    return inBand;
  }

  tell(report: RotationReport): void {
    this.#link.tell(report);
  }

  get green(): boolean {
    return this.#green;
  }

  get position(): number {
    return this.#cursor.pos;
  }

  get queued(): number {
    return this.#batches.length;
  }

  /** Numbers these transactions and makes batches of them. */
  write(bodies: readonly string[], perBatch: number): void {
    for (let at = 0; at < bodies.length; at += perBatch) {
      const prev = this.#sealed.chain;
      const first = this.#sealed.seq + 1;
      const txs = bodies
        .slice(at, at + perBatch)
        .map((body, n) => ({ seq: first + n, v: BODY_VERSION, body }));
      for (const { seq, body } of txs)
        this.#sealed = { seq, chain: nextChain(this.#sealed.chain, seq, body) };
      this.#batches.push({ epoch: 1, first, prev, txs, lastChain: this.#sealed.chain });
    }
  }

  /** Sends the oldest batch; `later` = HQ asked to come back after that many ms. Any other answer is a fault. */
  async push(): Promise<{ readonly laterMs: number } | undefined> {
    const [batch] = this.#batches;
    const fence = this.#link.session?.fence;
    if (batch === undefined || fence === undefined)
      throw new Error(`${this.#code} has no session or no batch`);
    const sent = await this.#client.push({ ...batch, fence });
    if (sent.result === 'later') return { laterMs: sent.afterMs };
    if (sent.result === 'conflict') throw new Error(`${this.#code}: HQ answered ${sent.conflict.code}`);
    const { seq, chain, dead } = sent.answer;
    if (chain !== batch.lastChain || dead.length > 0)
      throw new Error(`${this.#code}: HQ stands at ${seq} with another chain, or holds ${dead.length} dead`);
    this.#acked = { seq, chain };
    this.#batches.shift();
    return undefined;
  }

  #hello(): Hello {
    const { pos, nonce } = this.#cursor;
    return {
      type: 'hello',
      v: PROTOCOL_VERSION,
      store: this.#code,
      epoch: 1,
      instance: this.#instance,
      out: { ...this.#sealed, oldest: this.#acked.seq + 1, acked: this.#acked.seq },
      in: { pos, nonce, paged: pos },
      bodyVersion: BODY_VERSION,
      software: SOFTWARE,
      epochs: [{ epoch: 1, ...this.#sealed }],
      layouts: LAYOUTS,
    };
  }

  /** HQ stands where it last acknowledged: nothing is pushed while it restarts. */
  #welcomed({ inbox, resync }: Welcome): void {
    if (inbox.seq !== this.#acked.seq || inbox.chain !== this.#acked.chain)
      throw new Error(`${this.#code}: HQ stands at ${inbox.seq}, this store at ${this.#acked.seq}`);
    if (resync) this.#cursor = { pos: 0, nonce: null };
  }

  #stat(id: string | null): StatFrame {
    const waiting = this.#sealed.seq - this.#acked.seq;
    return {
      type: 'stat',
      id,
      out: {
        queued: waiting,
        queuedHigh: 0,
        bytes: waiting * 800,
        oldestAt: null,
        halted: null,
        acked: this.#acked.seq,
        parked: 0,
      },
      in: { pos: this.#cursor.pos, appliedAt: null, error: null },
    };
  }

  #pullSoon(): void {
    this.#wanted = true;
    this.#pulling ??= this.#pullLoop().finally(() => {
      this.#pulling = undefined;
    });
  }

  async #pullLoop(): Promise<void> {
    let laterMs: number | undefined;
    while (this.#wanted && !this.#stopped) {
      this.#wanted = false;
      laterMs = undefined;
      try {
        await this.#pull();
      } catch (error) {
        const named = toPossyncError(error);
        laterMs = retryMsOf(named);
        this.#events.pullFailed(this, named.code);
      }
    }
    // As the daemon's: after a failure it is this, or the next hint, that tries again.
    this.#cancelPoll();
    if (this.#stopped) return;
    this.#cancelPoll = systemClock.after(laterMs ?? PULL_INTERVAL_MS * (0.5 + Math.random() / 2), () => {
      if (this.#link.reachableHq !== undefined) this.#pullSoon();
    });
  }

  async #pull(): Promise<void> {
    let { pos: from } = this.#cursor;
    let seen: string | undefined;
    for (;;) {
      const { pos, nonce } = this.#cursor;
      const answer = await this.#client.pull({
        from,
        limit: PULL_PAGE_ROWS,
        ...(nonce === null ? {} : { cursor: `${pos},${nonce}` }),
        ...(seen === undefined ? {} : { seen }),
      });
      if (answer.result !== 'page')
        throw new Error(`${this.#code}: a pull was answered with ${answer.result}`);
      const page = readPage(answer.body, from);
      if (typeof page === 'string') throw new Error(`${this.#code}: ${page}`);
      from = page.to;
      seen = `${page.head},${page.nonce}`;
      if (!page.closing) continue;
      this.#cursor = { pos: page.head, nonce: page.nonce };
      this.#events.pulled(this, page.head);
      return;
    }
  }
}
