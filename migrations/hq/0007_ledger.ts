/**
 * The completeness ledger: what HQ can prove about what stores have sent.
 *
 *   ledger_marks     what has to be judged again. Only ever appended to by those who write and deleted by the round
 *                    that has seen both mark and data: nothing to collide on, and no mark can be lost
 *   ledger_z, _zz    the state of every Z and ZZ report
 *   ledger_receipts  receipt numbers of one session as ranges; ledger_series: those of a register, all sessions together
 *   findings         gets a scope (what is judged as one), a beginning and an end: a finding that is mended is closed
 *
 * Marks are made by triggers of statements, with the rows of the statement as one set: also what support corrects at
 * HQ by hand is judged again. Dead letters mark the sessions that they speak of.
 *
 * Locks: findings, sales, register_sessions, z_reports, zz_reports and dead, briefly; three indexes on the small ones
 * of these, which keep writers out while they are built (a million Z reports: about a second).
 */
import type { Knex } from 'knex';

export const name = '0007_ledger';

const TABLES = `
create table possync.ledger_marks (
  id bigint generated always as identity primary key,
  store_id integer not null,
  what text not null check (what in ('session', 'zz', 'audit', 'store')),
  key uuid,
  at timestamptz not null default now(), -- of the transaction, for people who wonder how far behind the ledger is
  check ((what in ('session', 'zz')) = (key is not null)));

-- Locked by the round in progress: LOCK TABLE takes no snapshot, so the round's is younger than its lock.
create table possync.ledger_lock (one boolean primary key default true check (one));

create table possync.ledger_z (
  store_id integer not null, z_id uuid not null, session_id uuid not null, register_id uuid not null,
  number integer not null,
  state text not null check (state in ('pending', 'complete', 'contradicted')),
  why text, facts jsonb not null default '{}',
  since timestamptz not null default now(), -- in this state
  judged_at timestamptz not null default now(),
  primary key (store_id, z_id));
create index ledger_z_session on possync.ledger_z (store_id, session_id);

create table possync.ledger_zz (
  store_id integer not null, zz_id uuid not null, number integer not null, month text not null,
  state text not null check (state in ('pending', 'complete', 'contradicted')),
  why text, since timestamptz not null default now(), judged_at timestamptz not null default now(),
  primary key (store_id, zz_id));

create table possync.ledger_receipts (
  store_id integer not null, session_id uuid not null, register_id uuid not null, prefix text not null,
  numbers int8multirange not null, doubles int8multirange not null,
  primary key (store_id, register_id, prefix, session_id));
create index ledger_receipts_session on possync.ledger_receipts (store_id, session_id);

create table possync.ledger_series (
  store_id integer not null, register_id uuid not null, prefix text not null,
  numbers int8multirange not null,
  doubles int8multirange not null, -- used twice within a session
  shared int8multirange not null, -- used by several sessions: doubles, or a numbering that began again
  primary key (store_id, prefix, register_id));

alter table possync.findings
  add column scope text,
  add column note boolean not null default false, -- worth reading, no reason to act
  add column opened_at timestamptz not null default now(),
  add column closed_at timestamptz;
create index findings_open on possync.findings (store_id, scope) where closed_at is null;

create index z_reports_session on public.z_reports (store_id, session_id);
create index register_sessions_open_user on public.register_sessions (user_id) where status = 'open';
create index register_sessions_open_register on public.register_sessions (store_id, register_id) where status = 'open';
`;

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';

/** A dead body may be anything, so nothing is cast: what does not look like a session id is none. */
const FUNCTIONS = `
create function possync.sessions_of_dead(p_body text, p_aggregates text[]) returns setof uuid
  language sql immutable set search_path = pg_catalog, pg_temp as $$
  select (m.found)[1]::uuid from regexp_matches(p_body, '"session_id":"(${UUID})"', 'g') as m(found)
  union
  select substr(a.aggregate, 9)::uuid from unnest(p_aggregates) as a(aggregate)
   where a.aggregate ~ '^session:${UUID}$'
$$;

create function possync.mark_sessions() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into possync.ledger_marks (store_id, what, key)
  select distinct r.store_id, 'session', r.session_id from possync_rows r;
  return null;
end $$;

create function possync.mark_session_rows() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into possync.ledger_marks (store_id, what, key) select distinct r.store_id, 'session', r.id from possync_rows r;
  return null;
end $$;

create function possync.mark_zz() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into possync.ledger_marks (store_id, what, key) select distinct r.store_id, 'zz', r.id from possync_rows r;
  return null;
end $$;

create function possync.mark_dead() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into possync.ledger_marks (store_id, what, key)
  select distinct r.store_id, 'session', s.id
    from possync_rows r cross join lateral possync.sessions_of_dead(r.body, r.aggregates) as s(id);
  return null;
end $$;

create function possync.mark_audit() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into possync.ledger_marks (store_id, what) select distinct r.store_id, 'audit' from possync_rows r;
  return null;
end $$;
`;

const EVENTS = [
  ['insert', 'new'],
  ['update', 'new'],
  ['delete', 'old'],
] as const;

const MARKED: readonly (readonly [table: string, fn: string, events: readonly string[]])[] = [
  ['public.sales', 'mark_sessions', ['insert', 'update', 'delete']],
  ['public.z_reports', 'mark_sessions', ['insert', 'update', 'delete']],
  ['public.register_sessions', 'mark_session_rows', ['insert', 'update', 'delete']],
  ['public.zz_reports', 'mark_zz', ['insert', 'update', 'delete']],
  // A retry that fails again changes nothing for the ledger.
  ['possync.dead', 'mark_dead', ['insert', 'delete']],
  ['possync.queue_audit', 'mark_audit', ['insert']],
];

/** A trigger with the rows of its statement serves one event. */
function triggers(): string {
  return MARKED.flatMap(([table, fn, events]) =>
    EVENTS.filter(([event]) => events.includes(event)).map(
      ([event, rows]) =>
        `create trigger possync_ledger_${event} after ${event} on ${table}
           referencing ${rows} table as possync_rows for each statement execute function possync.${fn}();`,
    ),
  ).join('\n');
}

export async function up(db: Knex): Promise<void> {
  await db.raw(TABLES);
  await db.raw(FUNCTIONS);
  await db.raw(triggers());
  // What is there already is judged once, in the background, by the first server that starts.
  await db.raw(`insert into possync.ledger_marks (store_id, what) select s.id, 'store' from public.stores s`);
}

export async function down(db: Knex): Promise<void> {
  const drops = MARKED.flatMap(([table, , events]) =>
    events.map((event) => `drop trigger possync_ledger_${event} on ${table};`),
  );
  await db.raw(drops.join('\n'));
  await db.raw(`
drop function possync.mark_audit();
drop function possync.mark_dead();
drop function possync.mark_zz();
drop function possync.mark_session_rows();
drop function possync.mark_sessions();
drop function possync.sessions_of_dead(text, text[]);
drop index public.z_reports_session, public.register_sessions_open_user, public.register_sessions_open_register;
delete from possync.findings where scope is not null;
drop index possync.findings_open;
alter table possync.findings drop column scope, drop column note, drop column opened_at, drop column closed_at;
drop table possync.ledger_marks, possync.ledger_lock, possync.ledger_z, possync.ledger_zz, possync.ledger_receipts,
  possync.ledger_series;
`);
}
