/**
 * The shell around the link's state machine: feeds it what happens, carries out what it says. LINK.md has the rules.
 *
 *   socket, timers, HTTP hello ── event ──▶ state.ts ── effects ──▶ socket, timers, HTTP hello, flow
 *
 * Everything that comes back late (a timer, a hello that was built for an older socket) is checked against what is
 * current: a stale event must not move the machine.
 */
import { backoffDelay } from '../../core/backoff.ts';
import { toPossyncError } from '../../core/classify.ts';
import { PossyncError } from '../../core/errors.ts';
import type { Secret } from '../../core/secret.ts';
import type { Service } from '../../core/service.ts';
import type { HqFrame, ParkedFrame, StoreFrame, Welcome } from '../../protocol/messages.ts';
import { failureOf, refusalFailure } from './failure.ts';
import type { HqClient } from './hq-client.ts';
import { LinkReporter } from './link-reporter.ts';
import type { LinkOptions, Session } from './link-options.ts';
import type { CertificateLife, LinkSnapshot } from './link-snapshot.ts';
import { watchNetwork } from './network.ts';
import { HqSocket } from './socket.ts';
import {
  INITIAL,
  indicator,
  step,
  type Effect,
  type LinkEvent,
  type LinkState,
  type Reason,
} from './state.ts';

/** 5,000 stores at 15 s are 670 attempts a second at worst: HQ takes that; a longest wait of a minute would keep a
 * mended line red for a minute. */
export const BACKOFF = { baseMs: 1_000, capMs: 15_000 } as const;
/** After a refusal that only a person can lift. */
export const MINUTES_MS = 300_000;
/** Green for so long counts as recovered: a link that flaps keeps its backoff. */
export const STEADY_MS = 60_000;
/** HQ heard hello and does not answer: its database is stuck, or an older session is being asked whether it lives. */
const GREETING_MS = 20_000;
const STAT_MS = 30_000;
/** A busy store changes its figures many times a second; HQ writes them every five. */
const STAT_SOON_MS = 1_000;

export class Link implements Service {
  readonly name = 'link';
  readonly #options: LinkOptions;
  readonly #reporter: LinkReporter;
  #state: LinkState = INITIAL;
  #sinceMs: number;
  #client: HqClient | undefined;
  #socket: HqSocket | undefined;
  #session: Session | undefined;
  #polling: Promise<void> | undefined;
  #lastFrameMs: number | null = null;
  #nextAttemptMs: number | null = null;
  #hqVersion: string | null = null;
  #hqHead: number | null = null;
  #tls: CertificateLife | null = null;
  #cancelWait: () => void = () => undefined;
  #cancelSteady: () => void = () => undefined;
  #cancelGreeting: () => void = () => undefined;
  #cancelStat: () => void = () => undefined;
  /** A report is due within STAT_SOON_MS already. */
  #reportDue = false;
  #stopping = new AbortController();
  #started = false;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#sinceMs = options.clock.now();
    this.#reporter = new LinkReporter(options.clock, options.log);
  }

  start(): void {
    this.#stopping = new AbortController();
    this.#started = true;
    void watchNetwork(this.#options.clock, this.#stopping.signal, {
      content: () => this.#state.name === 'online',
      changed: () => {
        this.#options.log.info('the network of this machine changed: trying again');
        this.#dispatch({ type: 'hurry' });
      },
    });
    if (this.#client !== undefined) this.#dispatch({ type: 'start' });
  }

  async stop(): Promise<void> {
    this.#started = false;
    this.#stopping.abort();
    this.#dispatch({ type: 'stop' });
    this.#reporter.stop();
    await this.#polling;
  }

  /**
   * HQ as it is to be reached from now on, with another credential or address; undefined: there is none, or none that
   * may be used, and `why` says so.
   */
  use(client: HqClient | undefined, why?: Reason): void {
    const before = this.#client;
    this.#client = client;
    if (!this.#started) return;
    if (client === undefined) this.#dispatch({ type: 'stop', ...(why === undefined ? {} : { reason: why }) });
    else this.#dispatch({ type: before === undefined ? 'start' : 'renew' });
  }

  /**
   * HQ under another credential from now on; a connection that is open goes on under it, so that the light stays green.
   * Resolves with whether it did: else there was none, or HQ did not take the credential and a new attempt begins.
   */
  async swap(client: HqClient, token: Secret): Promise<boolean> {
    const socket = this.#socket;
    if (socket === undefined || this.#state.name !== 'online') {
      this.use(client);
      return false;
    }
    this.#client = client;
    const taken = await socket.authenticate(token);
    const ended = this.#socket !== socket; // the next attempt has the new credential anyway
    if (!taken && !ended) this.#dispatch({ type: 'renew' });
    return taken && !ended;
  }

  /** A person asks for a new connection now. */
  reconnect(): void {
    this.#dispatch({ type: 'renew' });
  }

  /** HQ answered a push of that session with 409: only a new hello helps, unless there has been one meanwhile. */
  fenced(fence: string): void {
    if (this.#session?.fence === fence) this.#dispatch({ type: 'fenced' });
  }

  /** What HQ's status shows of this store has changed: it is told within a second, not within half a minute. */
  figuresChanged(): void {
    if (this.#state.name !== 'online' || this.#reportDue) return;
    this.#reportDue = true;
    this.#cancelStat();
    this.#cancelStat = this.#options.clock.after(STAT_SOON_MS, () => {
      this.#reportStat();
    });
  }

  /** Over the open connection, if there is one. */
  tell(frame: StoreFrame): void {
    this.#socket?.send(frame);
  }

  get session(): Session | undefined {
    return this.#session;
  }

  /** HQ, unless it refuses this store: pulls need no session. */
  get reachableHq(): HqClient | undefined {
    return this.#state.refused || this.#state.name === 'idle' ? undefined : this.#client;
  }

  /** What HQ's clock says; unknown without a connection that has measured it. */
  get hqNowMs(): number | undefined {
    const skew = this.#socket?.skew;
    return skew == null ? undefined : this.#options.clock.now() + skew.skewMs;
  }

  snapshot(): LinkSnapshot {
    const { name, session, attempt, reason } = this.#state;
    return {
      indicator: indicator(this.#state),
      state: name,
      session,
      sinceMs: this.#sinceMs,
      lastFrameMs: this.#lastFrameMs,
      rttMs: this.#socket?.rttMs ?? null,
      skew: this.#socket?.skew ?? null,
      reason,
      diagnosedMs: null,
      attempt,
      nextAttemptMs: name === 'waiting' ? this.#nextAttemptMs : null,
      hqUrl: this.#client?.url ?? null,
      hqVersion: this.#hqVersion,
      hqHead: this.#hqHead,
      tls: this.#tls,
    };
  }

  #dispatch(event: LinkEvent): void {
    const before = this.#state;
    const { state, effects } = step(before, event);
    this.#state = state;
    if (indicator(before) !== indicator(state) || before.name === 'idle' || state.name === 'idle')
      this.#sinceMs = this.#options.clock.now();
    if (state.session === 'none') this.#session = undefined;
    if (before.name === 'greeting' && state.name !== 'greeting') this.#cancelGreeting();
    if (before.name === 'online' && state.name !== 'online') {
      this.#cancelSteady();
      this.#cancelStat();
    }
    for (const effect of effects) this.#perform(effect);
    if (state !== before) {
      this.#reporter.report(before, state, this.#client?.url ?? '');
      this.#options.changed(this.snapshot());
    }
  }

  #perform(effect: Effect): void {
    switch (effect.do) {
      case 'connect':
        void this.#connect();
        break;
      case 'hello':
        void this.#greet();
        break;
      case 'drop':
        this.#socket?.drop(effect.why);
        this.#socket = undefined;
        break;
      case 'wait':
        this.#wait(effect);
        break;
      case 'cancelWait':
        this.#cancelWait();
        break;
      case 'poll':
        this.#polling ??= this.#poll().finally(() => {
          this.#polling = undefined;
        });
        break;
      case 'expectSteady':
        this.#socket?.greeted();
        this.#cancelSteady = this.#options.clock.after(STEADY_MS, () => {
          this.#dispatch({ type: 'steady' });
        });
        this.#reportStat();
        break;
      case 'flow':
        this.#options.flow();
        break;
    }
  }

  /** A hello over HTTP that is still under way would fence the socket's: it is waited for. */
  async #connect(): Promise<void> {
    await this.#polling;
    const client = this.#client;
    if (client === undefined || this.#state.name !== 'connecting' || this.#socket !== undefined) return;
    const socket = new HqSocket(client, this.#options.clock, {
      opened: () => {
        this.#tls = socket.certificate;
        this.#dispatch({ type: 'opened' });
      },
      frame: (frame) => {
        this.#frame(socket, frame);
      },
      life: () => {
        this.#lastFrameMs = this.#options.clock.now();
      },
      answered: (rttMs) => this.#options.answered?.(rttMs),
      failed: (failure) => {
        this.#socket = undefined;
        this.#dispatch({ type: 'failed', ...failure });
      },
      closed: (failure) => {
        this.#socket = undefined;
        this.#dispatch({ type: 'closed', ...failure });
      },
      silent: () => {
        this.#dispatch({ type: 'silent' });
      },
    });
    this.#socket = socket;
  }

  async #greet(): Promise<void> {
    const socket = this.#socket;
    this.#cancelGreeting = this.#options.clock.after(GREETING_MS, () => {
      const error = new PossyncError('PS-HQ-NOTREADY', 'HQ does not answer hello');
      this.#dispatch({ type: 'failed', ...failureOf(error) });
    });
    try {
      const hello = await this.#options.hello();
      if (this.#socket === socket) socket?.hello(hello);
    } catch (error) {
      if (this.#socket === socket) this.#dispatch({ type: 'failed', ...failureOf(toPossyncError(error)) });
    }
  }

  #frame(socket: HqSocket, frame: HqFrame): void {
    switch (frame.type) {
      case 'welcome':
        void this.#welcomed(socket, frame);
        break;
      case 'refuse':
        void this.#options.refused(frame).catch((error: unknown) => {
          this.#options.log.warn('could not note the refusal', { err: error });
        });
        this.#dispatch({ type: 'refused', ...refusalFailure(frame) });
        break;
      case 'head':
        this.#hqHead = frame.pos;
        this.#options.hint(frame.pos);
        break;
      case 'ask':
        void this.#sendStat(socket, frame.id);
        break;
      case 'rotate':
        this.#options.ordered(frame);
        break;
      case 'verify':
        this.#options.verify(frame);
        break;
      case 'parked':
        void this.#parked(frame);
        break;
      case 'ping':
      case 'pong':
      case 'authenticated':
        break; // the socket's own
    }
  }

  /** HQ hears at once that it is known here, or it would say it again. */
  async #parked(frame: ParkedFrame): Promise<void> {
    try {
      await this.#options.parked(frame);
      this.figuresChanged();
    } catch (error) {
      this.#options.log.warn('could not note what HQ has parked', { err: error });
    }
  }

  async #welcomed(socket: HqSocket, welcome: Welcome): Promise<void> {
    try {
      await this.#options.welcomed(welcome);
    } catch (error) {
      if (this.#socket === socket) this.#dispatch({ type: 'failed', ...failureOf(toPossyncError(error)) });
      return;
    }
    if (this.#socket !== socket || this.#state.name !== 'greeting') return;
    this.#accept(welcome);
    this.#dispatch({ type: 'welcomed' });
  }

  #accept(welcome: Welcome): void {
    this.#session = { fence: welcome.fence, epoch: welcome.epoch };
    this.#hqVersion = welcome.hq.software;
    this.#hqHead = welcome.head;
  }

  /** Hello over HTTP: where WebSocket is blocked both flows go on by polling; the light stays red. */
  async #poll(): Promise<void> {
    const client = this.#client;
    if (client === undefined) return;
    try {
      const answer = await client.hello(await this.#options.hello(), this.#stopping.signal);
      if (this.#client !== client) return;
      if (answer.type === 'refuse') {
        await this.#options.refused(answer);
        this.#dispatch({ type: 'unpolled', ...refusalFailure(answer) });
        return;
      }
      await this.#options.welcomed(answer);
      this.#accept(answer);
      this.#dispatch({ type: 'polled' });
    } catch (error) {
      this.#dispatch({ type: 'unpolled', ...failureOf(toPossyncError(error)) });
    }
  }

  #wait({ pace, attempt, floorMs }: Extract<Effect, { do: 'wait' }>): void {
    const { clock, random = Math.random } = this.#options;
    const delay =
      pace === 'minutes'
        ? Math.max(floorMs, Math.floor(MINUTES_MS * (1 + random() / 10)))
        : backoffDelay(attempt, { ...BACKOFF, random }, floorMs);
    this.#nextAttemptMs = clock.now() + delay;
    this.#cancelWait();
    this.#cancelWait = clock.after(delay, () => {
      this.#dispatch({ type: 'due' });
    });
  }

  #reportStat(): void {
    this.#reportDue = false;
    const socket = this.#socket;
    if (socket === undefined) return;
    void this.#sendStat(socket, null);
    this.#cancelStat = this.#options.clock.after(STAT_MS, () => {
      this.#reportStat();
    });
  }

  async #sendStat(socket: HqSocket, id: string | null): Promise<void> {
    try {
      socket.send(await this.#options.stat(id));
    } catch (error) {
      this.#options.log.debug('could not read the figures for HQ', { err: error });
    }
  }
}
