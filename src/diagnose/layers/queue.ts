/** b.5 Queue and sync state: what waits, since when, whether a number is missing, how far the downloads are. */
import type pg from 'pg';
import { isErrorCode } from '../../core/errors.ts';
import { queryMaybe, queryOne } from '../../db/transaction.ts';
import { fail, pass, warn, type Check, type Finding, type Probe } from '../check.ts';

const NEEDS = {
  layer: 'queue',
  dependsOn: ['db.migrated'],
  after: ['daemon.running', 'daemon.events'],
} as const;

export const QUEUE: readonly Check[] = [
  { id: 'queue.depth', ...NEEDS, title: 'the queue is short', run: checkDepth },
  { id: 'queue.oldest', ...NEEDS, title: 'the queue moves', run: checkOldest },
  { id: 'queue.parked', ...NEEDS, title: 'HQ refused nothing', run: checkParked },
  { id: 'queue.sequence', ...NEEDS, title: 'no number is missing in the queue', run: checkSequence },
  { id: 'queue.rate', ...NEEDS, title: 'there is room for weeks offline', run: checkRoom },
  { id: 'sync.cursor', ...NEEDS, title: 'downloads are applied', run: checkCursor },
];

function db({ facts }: Probe): pg.Pool {
  if (facts.db === undefined) throw new Error('the database is not connected');
  return facts.db;
}

/** About what a busy store makes in two weeks. */
const DEEP = 10_000;

async function checkDepth(probe: Probe): Promise<Finding> {
  // Totals of what was sealed and acknowledged: as quick for a million entries as for ten.
  const { queued, unsealed } = await queryOne<{ queued: number; unsealed: number }>(
    db(probe),
    `select (select coalesce(sum(case side when 'sealed' then n else -n end), 0)
               from possync.tally where what = '#entries')::bigint as queued,
            (select count(distinct xid) from possync.raw)::bigint as unsealed`,
  );
  const total = queued + unsealed;
  probe.facts.queued = total;
  const evidence = { queued: total, unsealed };
  return total > DEEP
    ? warn('PS-QUEUE-DEEP', `${total} entries wait to be sent`, { evidence })
    : pass(`${total} queued`, evidence);
}

const STUCK_SECONDS = 600;

async function checkOldest(probe: Probe): Promise<Finding> {
  const {
    age,
    last_error: error,
    halted,
  } = await queryOne<{
    age: number | null;
    last_error: string | null;
    halted: string | null;
  }>(
    db(probe),
    `select (select extract(epoch from clock_timestamp() - o.captured_at)::float8 from possync.outbox o
              where (o.epoch, o.seq) > (d.epoch, d.seq) order by o.epoch, o.seq limit 1) as age,
            d.last_error, d.halted
       from possync.sending d`,
  );
  const evidence = { oldest_s: age === null ? null : Math.round(age), last_error: error, halted };
  if (halted !== null) {
    const code = isErrorCode(halted) ? halted : 'PS-QUEUE-STUCK';
    return fail(code, `sending is stopped: ${halted}`, { evidence });
  }
  if (age === null) return pass('nothing waits', evidence);
  const minutes = Math.round(age / 60);
  if (probe.facts.connected === true && age > STUCK_SECONDS)
    return warn(
      'PS-QUEUE-STUCK',
      `connected, yet the oldest entry has waited for ${minutes} min (${error ?? 'no error'})`,
      {
        evidence,
      },
    );
  return pass(`oldest ${minutes} min old`, evidence);
}

async function checkParked(probe: Probe): Promise<Finding> {
  const { parked } = await queryOne<{ parked: number }>(
    db(probe),
    'select cardinality(dead) as parked from possync.sending',
  );
  return parked === 0
    ? pass('none')
    : warn('PS-QUEUE-PARKED', `HQ refused ${parked} entries, or keeps them behind a refused one`, {
        evidence: { parked },
      });
}

async function checkSequence(probe: Probe): Promise<Finding> {
  const row = await queryMaybe<{ missing: number }>(
    db(probe),
    `select o.seq + 1 as missing
       from possync.outbox o join possync.state s on s.epoch = o.epoch
      where o.seq < s.seq and not exists (
              select from possync.outbox n where n.epoch = o.epoch and n.seq = o.seq + 1)
        and o.seq >= (select d.seq from possync.sending d)
      order by o.seq limit 1`,
  );
  const first = await queryMaybe<{ missing: number }>(
    db(probe),
    `select d.seq + 1 as missing
       from possync.sending d join possync.state s on s.epoch = d.epoch
      where d.seq < s.seq and not exists (
              select from possync.outbox n where n.epoch = d.epoch and n.seq = d.seq + 1)`,
  );
  const missing = first?.missing ?? row?.missing;
  return missing === undefined
    ? pass('dense')
    : fail('PS-QUEUE-GAP', `entry ${missing} is missing in the queue: HQ can never get past it`, {
        evidence: { missing },
      });
}

async function checkRoom(probe: Probe): Promise<Finding> {
  const { per_day: perDay } = await queryOne<{ per_day: number }>(
    db(probe),
    `select coalesce(sum(bytes) / 7.0, 0)::float8 as per_day
       from possync.outbox where captured_at > now() - interval '7 days'`,
  );
  const { freeBytes } = await probe.machine.space('.');
  // A row costs about twice its text: index, header, and the tables it came from.
  const days = perDay === 0 ? null : Math.floor(freeBytes / (2 * perDay));
  const evidence = { bytes_per_day: Math.round(perDay), days_left: days };
  return pass(
    days === null ? 'nothing was sold lately' : `room for about ${Math.min(days, 9_999)} days offline`,
    evidence,
  );
}

const LAG_SECONDS = 300;

async function checkCursor(probe: Probe): Promise<Finding> {
  const row = await queryOne<{
    pos: number;
    seen: number;
    error_code: string | null;
    error: string | null;
    age: number | null;
  }>(
    db(probe),
    `select pos, seen_head as seen, error_code, error,
            extract(epoch from clock_timestamp() - applied_at)::float8 as age
       from possync.cursor`,
  );
  const evidence = { ...row };
  if (row.error !== null) {
    const code = row.error_code !== null && isErrorCode(row.error_code) ? row.error_code : 'PS-APPLY-FAILED';
    if (code === 'PS-APPLY-WAITS')
      return warn(code, `a download waits, and is tried again by itself: ${row.error}`, { evidence });
    return fail(code, `downloads cannot be applied here: ${row.error}`, { evidence });
  }
  const behind = row.seen - row.pos;
  if (probe.facts.connected === true && behind > 0 && (row.age ?? 0) > LAG_SECONDS)
    return warn('PS-DOWN-LAG', `${behind} changes of HQ are not yet applied`, { evidence });
  return pass(`at ${row.pos}`, evidence);
}
