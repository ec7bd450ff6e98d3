/**
 * What every `hq serve` does for credentials and certificates by itself; any number of processes may.
 *
 *   every 30 s   its own row in possync.servers: until when its certificate is good
 *   every hour   tokens whose time is over are written down as expired
 *   once a day   what ends soon is a warning in the log, until somebody has done something about it
 */
import type pg from 'pg';
import type { Clock } from '../../core/clock.ts';
import type { Log } from '../../core/log.ts';
import { Loop } from '../../core/loop.ts';
import type { Service } from '../../core/service.ts';
import { SOFTWARE } from '../../core/version.ts';
import type { Queryable } from '../../db/transaction.ts';
import { expiryWarning } from '../../protocol/expiry.ts';

export interface CredentialUpkeepOptions {
  readonly pool: pg.Pool;
  readonly clock: Clock;
  readonly log: Log;
  /** This process among several. */
  readonly server: string;
  readonly url: () => string;
  /** The certificate in use; undefined without TLS. */
  readonly certificate: () => { readonly notBefore: Date; readonly notAfter: Date } | undefined;
}

const WRITE_MS = 30_000;
const EXPIRE_MS = 3_600_000;
const WARN_MS = 86_400_000;
/** Lines of one day; the rest is a number. */
const LINES = 20;

export class CredentialUpkeep implements Service {
  readonly name = 'credential upkeep';
  readonly #options: CredentialUpkeepOptions;
  readonly #loop = new Loop((signal) => this.#run(signal));
  #expiredMs = -Infinity;
  #warnedMs = -Infinity;

  constructor(options: CredentialUpkeepOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
    try {
      await this.#options.pool.query('delete from possync.servers s where s.server = $1::uuid', [
        this.#options.server,
      ]);
    } catch {
      // Its row grows old instead.
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#round();
      } catch (error) {
        log.debug('upkeep of credentials failed; trying again', { err: error });
      }
      await clock.sleep(WRITE_MS, signal);
    }
  }

  async #round(): Promise<void> {
    const { pool, clock, server, url, certificate } = this.#options;
    const now = clock.now();
    const tls = certificate();
    await writeServer(pool, server, url(), tls);
    if (now - this.#expiredMs >= EXPIRE_MS) {
      await writeExpired(pool);
      this.#expiredMs = now;
    }
    if (now - this.#warnedMs < WARN_MS) return;
    this.#warnedMs = now;
    await this.#warn(now, tls);
  }

  async #warn(nowMs: number, tls: { notBefore: Date; notAfter: Date } | undefined): Promise<void> {
    const { pool, log } = this.#options;
    const certificate = expiryWarning(
      'certificate',
      tls?.notBefore.toISOString(),
      tls?.notAfter.toISOString(),
      nowMs,
    );
    if (certificate !== null)
      log.warn(certificate.message, { code: certificate.code, hint: certificate.hint });
    const found = (await readEnding(pool)).flatMap(({ code, kid, createdAt, expiresAt }) => {
      const warning = expiryWarning('credential', createdAt, expiresAt, nowMs);
      return warning === null ? [] : [{ store: code, kid, warning }];
    });
    for (const { store, kid, warning } of found.slice(0, LINES))
      log.warn(`store ${store}: ${warning.message}`, { code: warning.code, kid, hint: warning.hint });
    if (found.length > LINES)
      log.warn('more credentials end soon', { code: 'PS-TOKEN-EXPIRING', stores: found.length - LINES });
  }
}

async function writeServer(
  db: Queryable,
  server: string,
  url: string,
  tls: { readonly notBefore: Date; readonly notAfter: Date } | undefined,
): Promise<void> {
  await db.query(
    `with gone as (delete from possync.servers s where s.written_at < clock_timestamp() - interval '1 day')
     insert into possync.servers as s (server, url, software, tls_not_before, tls_not_after)
     values ($1::uuid, $2::text, $3::text, $4::timestamptz, $5::timestamptz)
     on conflict (server) do update
        set url = excluded.url, tls_not_before = excluded.tls_not_before, tls_not_after = excluded.tls_not_after,
            written_at = clock_timestamp()`,
    [server, url, SOFTWARE, tls?.notBefore.toISOString() ?? null, tls?.notAfter.toISOString() ?? null],
  );
}

/** Whether in force is judged by the time in any case; this is for who reads the table, and for the audit. */
export async function writeExpired(db: Queryable): Promise<void> {
  await db.query(
    `with ended as (
       update possync.tokens t
          set state = 'expired', ended_at = t.expires_at,
              ended_why = case when t.state = 'retiring' then 'its grace after a rotation was over' end
        where t.state in ('pending', 'active', 'retiring') and t.expires_at <= now()
       returning t.kid, t.store_id, t.kind, t.ended_why)
     insert into possync.audit (actor, action, store_id, details)
     select 'hq', 'token expired', e.store_id, jsonb_build_object('kid', e.kid, 'kind', e.kind, 'why', e.ended_why)
       from ended e`,
  );
}

async function readEnding(
  db: Queryable,
): Promise<{ code: string; kid: string; createdAt: string; expiresAt: string }[]> {
  const { rows } = await db.query<{ code: string; kid: string; createdAt: string; expiresAt: string }>(
    `select s.code, t.kid, to_json(t.created_at) #>> '{}' as "createdAt", to_json(t.expires_at) #>> '{}' as "expiresAt"
       from possync.tokens t join public.stores s on s.id = t.store_id
      where t.kind = 'credential' and t.state = 'active' and s.active and t.expires_at < now() + interval '15 days'
      order by t.expires_at, s.code`,
  );
  return rows;
}
