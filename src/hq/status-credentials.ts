/** SQL: credentials, orders to rotate, uses of ended credentials and certificates, as `status` at HQ shows them. */
import { isUnencrypted } from '../core/loopback.ts';
import { ERRORS } from '../core/errors.ts';
import { queryOne, type Queryable } from '../db/transaction.ts';
import { expiryWarning } from '../protocol/expiry.ts';
import type { AlertView, HqStatusView, HqStoreView } from '../protocol/status.ts';

/** A server that has not written for four rounds is gone. */
const SERVER_FRESH = `interval '2 minutes'`;
const ALERT_FOR = `interval '1 day'`;
/** Lines of a status; a flood of alerts hides them all. */
const ALERTS_MAX = 20;

export interface CredentialsOfStore {
  readonly token: HqStoreView['token'];
  readonly rotation: HqStoreView['rotation'];
}

export interface Credentials {
  readonly stores: ReadonlyMap<number, CredentialsOfStore>;
  readonly tls: HqStatusView['tls'];
  readonly alerts: readonly AlertView[];
}

interface DbCredential {
  readonly storeId: number;
  readonly code: string;
  readonly active: boolean;
  readonly kid: string | null;
  readonly createdAt: string | null;
  readonly expiresAt: string | null;
  readonly orderedAt: string | null;
  readonly orderedBy: string | null;
  readonly failureCode: string | null;
  readonly failure: string | null;
}

export async function readCredentials(tx: Queryable, storeId: number | undefined): Promise<Credentials> {
  const { nowMs } = await queryOne<{ nowMs: number }>(
    tx,
    'select (extract(epoch from now()) * 1000)::bigint as "nowMs"',
  );
  const { rows } = await tx.query<DbCredential>(
    `select s.id as "storeId", s.code, s.active, t.kid, to_json(t.created_at) #>> '{}' as "createdAt",
            to_json(t.expires_at) #>> '{}' as "expiresAt", to_json(o.ordered_at) #>> '{}' as "orderedAt",
            o.ordered_by as "orderedBy", o.failure_code as "failureCode", o.failure
       from public.stores s
       left join possync.tokens t on t.store_id = s.id and t.kind = 'credential' and t.state = 'active'
       left join possync.rotation_orders o on o.store_id = s.id and o.done_at is null and o.old_kid = t.kid
      where $1::integer is null or s.id = $1::integer
      order by t.expires_at, s.code`,
    [storeId ?? null],
  );
  const tls = await readTls(tx, nowMs);
  const stores = new Map(rows.map((row) => [row.storeId, credentialsOf(row, nowMs)]));
  const alerts = [
    ...(tls?.warning == null ? [] : [{ ...tls.warning, store: null, at: null }]),
    ...(await readUnencrypted(tx)),
    ...(await readRefused(tx, storeId)),
    ...rows.flatMap((row) => alertsOf(row, stores.get(row.storeId))),
  ];
  return { stores, tls, alerts: alerts.slice(0, ALERTS_MAX) };
}

function credentialsOf(row: DbCredential, nowMs: number): CredentialsOfStore {
  const { kid, createdAt, expiresAt, orderedAt, orderedBy, failureCode, failure } = row;
  return {
    token:
      kid === null
        ? null
        : {
            kid,
            expires_at: expiresAt,
            warning: expiryWarning('credential', createdAt, expiresAt, nowMs),
          },
    rotation:
      orderedAt === null
        ? null
        : {
            ordered_at: orderedAt,
            ordered_by: orderedBy ?? '?',
            failure: failureCode === null ? null : { code: failureCode, message: failure ?? '' },
          },
  };
}

function alertsOf({ code, active }: DbCredential, found: CredentialsOfStore | undefined): AlertView[] {
  if (!active || found?.token?.warning == null) return [];
  const { code: why, message, hint } = found.token.warning;
  return [{ code: why, message: `store ${code}: ${message}`, hint, store: code, at: null }];
}

/** Of all servers the certificate that ends first. */
async function readTls(tx: Queryable, nowMs: number): Promise<HqStatusView['tls']> {
  const { rows } = await tx.query<{ notBefore: string; notAfter: string }>(
    `select to_json(s.tls_not_before) #>> '{}' as "notBefore", to_json(s.tls_not_after) #>> '{}' as "notAfter"
       from possync.servers s
      where s.tls_not_after is not null and s.written_at > now() - ${SERVER_FRESH}
      order by s.tls_not_after limit 1`,
  );
  const [first] = rows;
  if (first === undefined) return null;
  return {
    not_after: new Date(first.notAfter).toISOString(),
    warning: expiryWarning('certificate', first.notBefore, first.notAfter, nowMs),
  };
}

/** The servers to which sales and credentials come in the clear. */
async function readUnencrypted(tx: Queryable): Promise<AlertView[]> {
  const { rows } = await tx.query<{ url: string }>(
    `select distinct s.url from possync.servers s where s.written_at > now() - ${SERVER_FRESH} order by s.url`,
  );
  return rows
    .filter(({ url }) => isUnencrypted(url))
    .map(({ url }) => ({
      code: 'PS-CFG-PLAINTEXT',
      message: `HQ serves ${url} unencrypted: sales and credentials can be read on the way`,
      hint: 'give HQ a certificate: SYNC_TLS_CERT_FILE and SYNC_TLS_KEY_FILE',
      store: null,
      at: null,
    }));
}

async function readRefused(tx: Queryable, storeId: number | undefined): Promise<AlertView[]> {
  const { rows } = await tx.query<{ code: string; kid: string; state: string; uses: number; lastAt: string }>(
    `select s.code, r.kid, r.state, r.uses, to_json(r.last_at) #>> '{}' as "lastAt"
       from possync.refused_uses r join public.stores s on s.id = r.store_id
      where r.last_at > now() - ${ALERT_FOR} and ($1::integer is null or r.store_id = $1::integer)
      order by r.last_at desc limit ${ALERTS_MAX}`,
    [storeId ?? null],
  );
  return rows.map(({ code, kid, state, uses, lastAt }) => ({
    code: 'PS-TOKEN-REUSED',
    message: `store ${code}: the ${state} credential ${kid} is still used (${uses === 1 ? 'once' : `${uses} times`} so far)`,
    hint: ERRORS['PS-TOKEN-REUSED'].hint,
    store: code,
    at: lastAt,
  }));
}
