/**
 * What HQ has acknowledged is what lies at or before the position in possync.sending: nothing is written to an entry any
 * more when its acknowledgement comes. Marking each one wrote it a second time, body and index entries included, which
 * cost the store more than reading and sending it.
 *
 *   acks   one line per acknowledgement: the position it reached, and when; retention asks it
 *
 * Dropping the column and its indexes waits for the daemon's own statements only: tills do not touch these tables.
 */
import type { Knex } from 'knex';

export const name = '0011_acks';

export async function up(db: Knex): Promise<void> {
  await db.raw(`
create table possync.acks (
  epoch integer not null, seq bigint not null, acked_at timestamptz not null default clock_timestamp(),
  primary key (epoch, seq));
insert into possync.acks (epoch, seq, acked_at)
select o.epoch, max(o.seq), max(o.acked_at) from possync.outbox o
 where o.acked_at is not null group by o.epoch, date_trunc('hour', o.acked_at);
alter table possync.outbox drop column acked_at; -- and its three indexes
create index outbox_high on possync.outbox (epoch, seq) where high;

-- When HQ acknowledged an entry, null if it has not.
create function possync.acked_at(p_epoch integer, p_seq bigint) returns timestamptz language sql stable as $$
  select a.acked_at from possync.acks a cross join possync.sending d
   where (a.epoch, a.seq) >= (p_epoch, p_seq) and (p_epoch, p_seq) <= (d.epoch, d.seq)
   order by a.epoch, a.seq limit 1
$$;
`);
}

export async function down(db: Knex): Promise<void> {
  await db.raw(`
alter table possync.outbox add column acked_at timestamptz;
update possync.outbox o set acked_at = coalesce(possync.acked_at(o.epoch, o.seq), d.acked_at, now())
  from possync.sending d where (o.epoch, o.seq) <= (d.epoch, d.seq);
drop index possync.outbox_high;
create index outbox_waiting on possync.outbox (epoch, seq) where acked_at is null;
create index outbox_waiting_high on possync.outbox (epoch, seq) where acked_at is null and high;
create index outbox_acked on possync.outbox (acked_at) where acked_at is not null;
drop function possync.acked_at(integer, bigint);
drop table possync.acks;
`);
}
