/** SQL: holes and doubles in the numbers of Z reports (of a register) and ZZ reports (of a store). */
import type { Queryable } from '../../db/transaction.ts';
import type { Found } from './findings.ts';
import { rangeText } from './numbers.ts';

export interface RegisterKey {
  readonly storeId: number;
  readonly registerId: string;
}

export function zNumbersScope(registerId: string): string {
  return `z numbers ${registerId}`;
}

export const ZZ_NUMBERS_SCOPE = 'zz numbers';

interface DbNumberRow extends Record<string, unknown> {
  storeId: number;
  registerId: string;
  number: number;
  times: number;
  before: number | null;
}

/** By the register's id: its code may change and begins no new numbering. */
export async function findZNumbers(tx: Queryable, registers: readonly RegisterKey[]): Promise<Found[]> {
  const { rows } = await tx.query<DbNumberRow>(
    `select k.store_id as "storeId", k.register_id as "registerId", n.number, n.times, n.before
       from unnest($1::int[], $2::uuid[]) as k(store_id, register_id)
      cross join lateral (
        select z.number, count(*) as times, lag(z.number) over (order by z.number) as before
          from public.z_reports z where z.store_id = k.store_id and z.register_id = k.register_id
         group by z.number) n
      where n.times > 1 or n.before is null or n.number::bigint - n.before > 1`,
    [registers.map(({ storeId }) => storeId), registers.map(({ registerId }) => registerId)],
  );
  return rows.flatMap(({ storeId, registerId, number, times, before }) => {
    const one = { storeId, scope: zNumbersScope(registerId), type: 'z_report', registerId };
    const found: Found[] = [];
    if (times > 1)
      found.push({
        ...one,
        kind: 'z_double',
        key: `${registerId} ${number}`,
        number: String(number),
        expected: '1',
        found: String(times),
        text: `${times} Z reports have this number`,
      });
    const gap = rangeText([BigInt(before ?? 0) + 1n, BigInt(number) - 1n]);
    if (before !== null && number - before > 1)
      found.push({
        ...one,
        kind: 'z_hole',
        key: `${registerId} ${before + 1}`,
        number: gap,
        expected: String(number - before - 1),
        found: '0',
        text: `Z ${gap} has not arrived, Z ${number} has`,
      });
    if (before === null && number > 1)
      found.push({
        ...one,
        kind: 'z_start',
        key: registerId,
        number: gap,
        text: `the first Z report that HQ has is ${number}`,
      });
    return found;
  });
}

interface DbZzNumberRow extends Record<string, unknown> {
  storeId: number;
  what: 'number' | 'month' | 'z';
  value: string;
  times: number;
  before: number | null;
}

export async function findZzNumbers(tx: Queryable, storeIds: readonly number[]): Promise<Found[]> {
  const { rows } = await tx.query<DbZzNumberRow>(
    `select n.store_id as "storeId", 'number' as what, n.number::text as value, n.times, n.before
       from (select z.store_id, z.number, count(*) as times,
                    lag(z.number) over (partition by z.store_id order by z.number) as before
               from public.zz_reports z where z.store_id = any($1::int[]) group by z.store_id, z.number) n
      where n.times > 1 or n.number::bigint - n.before > 1
     union all
     select z.store_id, 'month', left(z.month, 20), count(*), null
       from public.zz_reports z where z.store_id = any($1::int[]) group by z.store_id, left(z.month, 20) having count(*) > 1
     union all
     select z.store_id, 'z', i.id::text, count(distinct z.id), null
       from public.zz_reports z cross join lateral unnest(z.z_report_ids) as i(id)
      where z.store_id = any($1::int[]) group by z.store_id, i.id having count(distinct z.id) > 1`,
    [storeIds],
  );
  return rows.flatMap(({ storeId, what, value, times, before }) => {
    const one = { storeId, scope: ZZ_NUMBERS_SCOPE, type: 'zz_report' };
    const found: Found[] = [];
    if (times > 1)
      found.push({
        ...one,
        kind: 'zz_double',
        key: `${what} ${value}`,
        number: value,
        expected: '1',
        found: String(times),
        text: `${times} ZZ reports ${DOUBLE_WORDS[what]} ${value}`,
      });
    if (what === 'number' && before !== null && Number(value) - before > 1) {
      const gap = rangeText([BigInt(before) + 1n, BigInt(value) - 1n]);
      found.push({
        ...one,
        kind: 'zz_hole',
        key: String(before + 1),
        number: gap,
        expected: String(Number(value) - before - 1),
        found: '0',
        text: `ZZ ${gap} has not arrived, ZZ ${value} has`,
      });
    }
    return found;
  });
}

const DOUBLE_WORDS = { number: 'have the number', month: 'are of', z: 'list the Z report' } as const;
