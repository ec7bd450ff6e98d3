/**
 * SQL: the next epoch of a store whose history and HQ's have parted (restored, cloned, or HQ too old).
 *
 * The old epoch is closed where HQ stands; whatever still speaks in it is refused. Nothing that HQ has is taken back:
 * what the store sends again under the new numbers is recognized by its content.
 */
import type pg from 'pg';
import { PossyncError } from '../../core/errors.ts';
import { queryMaybe, queryOne, withTransaction } from '../../db/transaction.ts';
import {
  reEnrolAnswerSchema,
  type Instance,
  type ReEnrol,
  type ReEnrolAnswer,
} from '../../protocol/messages.ts';
import { holderOf, type IsAlive } from './hello.ts';
import { readInbox } from './inbox.ts';

/** Throws PS-OTHER-INSTANCE while another machine of this store is connected. */
export async function reEnrol(
  pool: pg.Pool,
  storeId: number,
  message: ReEnrol,
  isAlive: IsAlive,
  actor = 'store',
): Promise<ReEnrolAnswer> {
  const holder = await holderOf(pool, storeId);
  if (holder !== undefined && holder.daemon !== message.instance.daemon && (await isAlive(holder))) {
    throw new PossyncError('PS-OTHER-INSTANCE', 'another machine of this store is connected now', {
      why: 'a new epoch would cut it off in the middle of its work',
    });
  }
  return withTransaction(pool, (tx) => openEpoch(tx, storeId, message, holder, actor));
}

async function openEpoch(
  tx: pg.PoolClient,
  storeId: number,
  message: ReEnrol,
  holder: Instance | undefined,
  actor: string,
): Promise<ReEnrolAnswer> {
  await tx.query('set local synchronous_commit to on');
  await tx.query('insert into possync.inbox (store_id) values ($1::int) on conflict (store_id) do nothing', [
    storeId,
  ]);
  const inbox = await readInbox(tx, storeId);
  const again = await queryMaybe<{ closed: string }>(
    tx,
    `select closed::text as closed from possync.inbox
      where store_id = $1::int and request = $2::uuid and closed is not null`,
    [storeId, message.request],
  );
  if (again !== undefined) return reEnrolAnswerSchema.parse(JSON.parse(again.closed));
  if ((await holderOf(tx, storeId))?.daemon !== holder?.daemon) {
    throw new PossyncError('PS-OTHER-INSTANCE', 'another machine of this store has just said hello');
  }
  const answer: ReEnrolAnswer = {
    epoch: Math.max(inbox.epoch, message.epoch) + 1,
    closed: { epoch: inbox.epoch, seq: inbox.seq, chain: inbox.chain },
    known: await knows(tx, storeId, inbox.epoch, message.acked),
  };
  await tx.query(
    `update possync.inbox set epoch = $2::int, seq = 0, chain = '', fence = null, declared = '[]', dead_streak = 0,
            request = $3::uuid, closed = $4::jsonb, stopped = null, stopped_why = null, stopped_at = null
      where store_id = $1::int`,
    [storeId, answer.epoch, message.request, JSON.stringify(answer)],
  );
  await tx.query(
    `insert into possync.queue_audit (actor, action, store_id, epoch, seq, detail)
     values ($1::text, 're-enrol', $2::int, $3::int, $4::bigint, $5::jsonb)`,
    [
      actor,
      storeId,
      answer.closed.epoch,
      answer.closed.seq,
      JSON.stringify({ answer, instance: message.instance }),
    ],
  );
  return answer;
}

/** The ends of the last batches are kept, and an acknowledgement is always the end of one. */
async function knows(
  tx: pg.PoolClient,
  storeId: number,
  epoch: number,
  acked: ReEnrol['acked'],
): Promise<boolean> {
  // Nothing of its epoch yet: HQ has come as far as that epoch, or was restored to before it.
  if (acked.seq === 0) return acked.epoch === epoch;
  const { known } = await queryOne<{ known: boolean }>(
    tx,
    `select exists (select from possync.inbox_chain c
                     where c.store_id = $1::int and c.epoch = $2::int and c.seq = $3::bigint
                       and c.chain = decode($4::text, 'hex')) as known`,
    [storeId, acked.epoch, acked.seq, acked.chain],
  );
  return known;
}
