/** The stores of the chain: given ids, listed, cut off and let in again. */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { nearest } from '../../core/nearest.ts';
import { queryMaybe, queryOne, withTransaction, type Queryable } from '../../db/transaction.ts';
import { sqlstateOf } from '../../core/classify.ts';

/** NOTIFY channel with the id of a store whose status or tokens changed: servers look again and cut what must end. */
export const STORES_CHANNEL = 'possync_stores';

export type StoreStatus = 'pending_provisioning' | 'active' | 'deactivated';

export interface Store {
  readonly id: number;
  readonly code: string;
  readonly name: string;
  readonly address: string | null;
  readonly phone: string | null;
  readonly timeZone: string;
  readonly status: StoreStatus;
  readonly activatedAt: string | null;
}

export interface NewStore {
  readonly code: string;
  readonly name: string;
  readonly timeZone: string;
  readonly address?: string | undefined;
  readonly phone?: string | undefined;
}

const STORE_COLUMNS = `
  s.id, s.code, s.name, s.address, s.phone, s.time_zone as "timeZone", p.activated_at as "activatedAt",
  case when not s.active then 'deactivated'
       when p.activated_at is null then 'pending_provisioning' else 'active' end as status`;

/** Creates a store under an id that no store ever had. */
export async function addStore(pool: pg.Pool, store: NewStore, actor: string): Promise<Store> {
  checkNewStore(store);
  await checkTimeZone(pool, store.timeZone);
  return await withTransaction(pool, async (tx) => {
    const id = await nextStoreId(tx);
    try {
      await tx.query(
        `insert into public.stores (id, code, name, address, phone, time_zone)
         values ($1::integer, $2::text, $3::text, $4::text, $5::text, $6::text)`,
        [id, store.code, store.name, store.address ?? null, store.phone ?? null, store.timeZone],
      );
    } catch (error) {
      if (sqlstateOf(error) !== '23505') throw error;
      throw new PossyncError('PS-STORE-EXISTS', `there is a store ${store.code} already`, { cause: error });
    }
    await writeAudit(tx, { actor, action: 'stores add', storeId: id, details: { code: store.code } });
    return await storeById(tx, id);
  });
}

/** Stores are named on paper, in file names and over the phone. */
const CODE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/;

function checkNewStore({ code, name }: NewStore): void {
  if (!CODE.test(code))
    throw new PossyncError('PS-USAGE', `'${code}' is no store code`, {
      why: 'a code is 1 to 32 letters, digits, dots, hyphens and underscores, and begins with a letter or digit',
      hint: 'choose one such as NYC-001; it never changes',
    });
  if (name.trim() === '' || name.length > 200)
    throw new PossyncError('PS-USAGE', 'a store needs a name of 1 to 200 characters');
}

async function checkTimeZone(db: Queryable, timeZone: string): Promise<void> {
  // PostgreSQL decides what "today" is in a store, so its list is the one that counts.
  const { rows } = await db.query<{ name: string }>('select z.name from pg_catalog.pg_timezone_names z');
  const names = rows.map((row) => row.name).filter((name) => !name.startsWith('posix'));
  if (names.includes(timeZone)) return;
  const close = nearest(timeZone, names);
  throw new PossyncError('PS-USAGE', `'${timeZone}' is no time zone`, {
    why: 'it must be an IANA name such as America/New_York',
    ...(close === undefined ? {} : { hint: `did you mean ${close}?` }),
  });
}

/**
 * One more than any id this database has heard of, and never one twice: the row of store_ids is locked to the end
 * of the transaction. The other tables matter after a restore, when the mark may be older than they are.
 */
async function nextStoreId(tx: Queryable): Promise<number> {
  const { id } = await queryOne<{ id: number }>(
    tx,
    `update possync.store_ids i
        set highest = greatest(i.highest,
              (select max(s.id) from public.stores s), (select max(b.store_id) from possync.inbox b),
              (select max(l.store_id) from possync.live_links l), (select max(t.store_id) from possync.tokens t)) + 1
     returning i.highest as id`,
  );
  return id;
}

export async function listStores(db: Queryable): Promise<Store[]> {
  const { rows } = await db.query<Store>(
    `select ${STORE_COLUMNS} from public.stores s left join possync.store_status p on p.store_id = s.id
      order by s.code`,
  );
  return rows;
}

async function storeById(db: Queryable, id: number): Promise<Store> {
  return await queryOne<Store>(
    db,
    `select ${STORE_COLUMNS} from public.stores s left join possync.store_status p on p.store_id = s.id
      where s.id = $1::integer`,
    [id],
  );
}

/** undefined = no such store. */
export async function findStore(db: Queryable, id: number): Promise<Store | undefined> {
  return await queryMaybe<Store>(
    db,
    `select ${STORE_COLUMNS} from public.stores s left join possync.store_status p on p.store_id = s.id
      where s.id = $1::integer`,
    [id],
  );
}

/** The store with this code; throws PS-STORE-UNKNOWN, with the code that was probably meant. */
export async function showStore(db: Queryable, code: string): Promise<Store> {
  const store = await queryMaybe<Store>(
    db,
    `select ${STORE_COLUMNS} from public.stores s left join possync.store_status p on p.store_id = s.id
      where s.code = $1::text`,
    [code],
  );
  if (store !== undefined) return store;
  const { rows } = await db.query<{ code: string }>(
    'select s.code from public.stores s order by s.code limit 5000',
  );
  const close = nearest(
    code,
    rows.map((row) => row.code),
  );
  throw new PossyncError(
    'PS-STORE-UNKNOWN',
    `no store has the code ${code}`,
    close === undefined ? {} : { hint: `did you mean ${close}? List them with: possync stores ls` },
  );
}

/** Cuts a store off, or lets it in again. The trigger on public.stores tells every server. */
export async function setStoreActive(
  pool: pg.Pool,
  code: string,
  active: boolean,
  actor: string,
): Promise<{ store: Store; changed: boolean }> {
  return await withTransaction(pool, async (tx) => {
    const { id } = await showStore(tx, code);
    const changed = await tx.query(
      `update public.stores set active = $2::boolean, updated_at = now()
        where id = $1::integer and active is distinct from $2::boolean`,
      [id, active],
    );
    const done = changed.rowCount === 1;
    if (done)
      await writeAudit(tx, { actor, action: active ? 'stores activate' : 'stores deactivate', storeId: id });
    return { store: await storeById(tx, id), changed: done };
  });
}

export interface AuditEntry {
  readonly actor: string;
  readonly action: string;
  readonly storeId?: number;
  readonly details?: Readonly<Record<string, unknown>>;
}

export async function writeAudit(
  db: Queryable,
  { actor, action, storeId, details }: AuditEntry,
): Promise<void> {
  await db.query(
    `insert into possync.audit (actor, action, store_id, details)
     values ($1::text, $2::text, $3::integer, $4::jsonb)`,
    [actor, action, storeId ?? null, JSON.stringify(details ?? {})],
  );
}
