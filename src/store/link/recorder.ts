/** SQL: writes the link's state into the store's database, at each change and every five seconds, and its history. */
import { databaseError } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import type { PossyncError } from '../../core/errors.ts';
import type { Service } from '../../core/service.ts';
import { VERSION } from '../../core/version.ts';
import type { Queryable } from '../../db/transaction.ts';
import { writeLinkEvents, type LinkEvent } from './history.ts';
import type { LinkSnapshot } from './link-snapshot.ts';

export interface RecorderOptions {
  readonly db: Queryable;
  readonly clock: Clock;
  readonly snapshot: () => LinkSnapshot;
  /** kid of the credential in use. */
  readonly kid: () => string | null;
  /** How long one write and its commit took. */
  readonly wrote?: (ms: number) => void;
}

/** Readers take a row older than 10 s for a daemon that is gone. */
const WRITE_MS = 5_000;
/** Changes kept in memory while PostgreSQL is away. */
const PENDING_MAX = 100;

export class LinkRecorder implements Service {
  readonly name = 'link recorder';
  readonly #options: RecorderOptions;
  readonly #startedMs: number;
  #writing: Promise<void> | undefined;
  #again = false;
  #cancel: () => void = () => undefined;
  #stopped = true;
  /** The light as the history has it, and since when. */
  #light: { readonly indicator: 'green' | 'red'; readonly sinceMs: number };
  #pending: LinkEvent[] = [];
  #fault: PossyncError | undefined;

  constructor(options: RecorderOptions) {
    this.#options = options;
    this.#startedMs = options.clock.now();
    this.#light = { indicator: 'red', sinceMs: this.#startedMs };
  }

  start(): void {
    this.#stopped = false;
    this.#note('start', null, null);
    this.#beat();
  }

  /** The last state stays in the table: it is red, because the link was stopped before. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    this.#watchLight();
    await this.#writing;
    await this.#write();
  }

  /** Something changed. One statement at a time; changes that come meanwhile share the next one. */
  changed(): void {
    if (this.#stopped) return;
    this.#watchLight();
    if (this.#writing !== undefined) {
      this.#again = true;
      return;
    }
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined;
      if (!this.#again) return;
      this.#again = false;
      this.changed();
    });
  }

  #watchLight(): void {
    const { clock, snapshot } = this.#options;
    const { indicator, state, reason } = snapshot();
    const before = this.#light;
    if (indicator === before.indicator) return;
    const nowMs = clock.now();
    this.#light = { indicator, sinceMs: nowMs };
    const event = indicator === 'green' ? 'up' : state === 'idle' ? 'stop' : 'down';
    this.#note(event, reason?.code ?? null, nowMs - before.sinceMs);
  }

  #note(event: LinkEvent['event'], code: string | null, lastedMs: number | null): void {
    this.#pending.push({ atMs: this.#options.clock.now(), event, code, lastedMs });
    if (this.#pending.length > PENDING_MAX) this.#pending.shift();
  }

  /** Why the last write failed; undefined while all is well. */
  get fault(): PossyncError | undefined {
    return this.#fault;
  }

  #beat(): void {
    this.changed();
    this.#cancel = this.#options.clock.after(WRITE_MS, () => {
      if (!this.#stopped) this.#beat();
    });
  }

  async #write(): Promise<void> {
    const began = performance.now();
    try {
      await writeLink(this.#options.db, {
        ...this.#options.snapshot(),
        kid: this.#options.kid(),
        startedMs: this.#startedMs,
      });
      this.#options.wrote?.(performance.now() - began);
      const events = this.#pending.slice();
      if (events.length > 0) await writeLinkEvents(this.#options.db, events, process.pid);
      this.#pending = this.#pending.filter((event) => !events.includes(event));
      this.#fault = undefined;
    } catch (error) {
      // PostgreSQL is away, or its disk is full: the row grows old, which is exactly what readers must see.
      this.#fault = databaseError(error);
    }
  }
}

interface LinkRecord extends LinkSnapshot {
  readonly kid: string | null;
  readonly startedMs: number;
}

async function writeLink(db: Queryable, link: LinkRecord): Promise<void> {
  await db.query(
    `insert into possync.link (one, indicator, state, session, since, last_frame_at, rtt_ms, reason_code,
            reason_message, attempt, next_attempt_at, hq_url, hq_version, hq_head, kid, pid, version, started_at,
            tls_not_before, tls_not_after, clock_skew_ms, clock_error_ms, diagnosed_at, written_at)
     values (true, $1::text, $2::text, $3::text, to_timestamp($4::double precision / 1000),
             to_timestamp($5::double precision / 1000), $6::integer, $7::text, $8::text, $9::integer,
             to_timestamp($10::double precision / 1000), $11::text, $12::text, $13::bigint, $14::text, $15::integer,
             $16::text, to_timestamp($17::double precision / 1000), to_timestamp($18::double precision / 1000),
             to_timestamp($19::double precision / 1000), $20::bigint, $21::integer,
             to_timestamp($22::double precision / 1000), clock_timestamp())
     on conflict (one) do update
        set indicator = excluded.indicator, state = excluded.state, session = excluded.session,
            since = excluded.since, last_frame_at = excluded.last_frame_at, rtt_ms = excluded.rtt_ms,
            reason_code = excluded.reason_code, reason_message = excluded.reason_message,
            attempt = excluded.attempt, next_attempt_at = excluded.next_attempt_at, hq_url = excluded.hq_url,
            hq_version = excluded.hq_version, hq_head = excluded.hq_head, kid = excluded.kid, pid = excluded.pid,
            version = excluded.version, started_at = excluded.started_at, tls_not_before = excluded.tls_not_before,
            tls_not_after = excluded.tls_not_after,
            clock_skew_ms = excluded.clock_skew_ms, clock_error_ms = excluded.clock_error_ms,
            diagnosed_at = excluded.diagnosed_at, written_at = excluded.written_at`,
    [
      link.indicator,
      link.state,
      link.session,
      link.sinceMs,
      link.lastFrameMs,
      link.rttMs,
      link.reason?.code ?? null,
      link.reason?.message ?? null,
      link.attempt,
      link.nextAttemptMs,
      link.hqUrl,
      link.hqVersion,
      link.hqHead,
      link.kid,
      process.pid,
      VERSION,
      link.startedMs,
      link.tls?.notBeforeMs ?? null,
      link.tls?.notAfterMs ?? null,
      link.skew?.skewMs ?? null,
      link.skew?.errorMs ?? null,
      link.diagnosedMs,
    ],
  );
}
