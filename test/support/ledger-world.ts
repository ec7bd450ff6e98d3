/**
 * Small random chains for the ledger's tests: what stores have sent as plain objects, in units that arrive at HQ in any
 * order, and the states and findings that must come out: computed here from the whole, in the most literal way.
 */
import type { Queryable } from '../../src/db/transaction.ts';
import type { Random } from './random.ts';

interface Session {
  readonly id: string;
  readonly store: number;
  readonly register: string;
  readonly user: string;
  readonly status: 'open' | 'closed';
  readonly opening: number;
}

interface Sale {
  readonly id: string;
  readonly session: Session;
  readonly kind: 'sale' | 'refund';
  readonly tender: 'cash' | 'card';
  readonly amount: number;
  readonly tax: number;
  readonly receipt: string;
  readonly voided: boolean;
}

interface ZReport {
  readonly id: string;
  readonly session: Session;
  readonly number: number;
  readonly cashSales: number;
  readonly cardSales: number;
  readonly cashRefunds: number;
  readonly count: number;
  readonly voids: number;
  readonly tax: number;
  readonly overShort: number;
}

interface Zz {
  readonly id: string;
  readonly store: number;
  readonly number: number;
  readonly zs: readonly string[];
  readonly totals: readonly [sales: number, refunds: number, tax: number, cash: number, card: number];
}

/** One thing that arrives, or is parked at HQ first. */
export type Unit =
  | { readonly what: 'session'; readonly row: Session }
  | { readonly what: 'sale'; readonly row: Sale }
  | { readonly what: 'void'; readonly row: Sale }
  | { readonly what: 'z'; readonly row: ZReport }
  | { readonly what: 'zz'; readonly row: Zz };

const RATE = '0190a000-0000-7000-8000-000000000800';

/** Two stores, `base` and `base + 1`; sums that are right and wrong, things that never arrive. */
export function makeUnits(random: Random, base: number): Unit[] {
  const units: Unit[] = [];
  const users = [random.uuid(), random.uuid(), random.uuid()];
  for (const store of [base, base + 1]) {
    const zs: { z: ZReport; sales: Sale[] }[] = [];
    for (const prefix of ['A', 'B']) {
      const register = random.uuid();
      let number = random.int(2);
      let receipt = 100;
      for (let n = 0; n <= random.int(4); n += 1) {
        const closed = random.chance(0.8);
        const session: Session = {
          id: random.uuid(),
          store,
          register,
          user: random.pick(users),
          status: closed ? 'closed' : 'open',
          opening: random.int(10_000),
        };
        const sales = Array.from({ length: random.int(5) }, (): Sale => {
          receipt += random.chance(0.1) ? 1 + random.int(4) : random.chance(0.07) ? 0 : 1;
          const kind = random.chance(0.2) ? 'refund' : 'sale';
          return {
            id: random.uuid(),
            session,
            kind,
            tender: random.pick(['cash', 'card']),
            amount: (1 + random.int(5_000)) * (kind === 'refund' && random.chance(0.7) ? -1 : 1),
            tax: random.int(300),
            receipt: `${prefix}-${String(receipt).padStart(4, '0')}`,
            voided: random.chance(0.15),
          };
        });
        if (random.chance(0.95)) units.push({ what: 'session', row: session });
        for (const row of sales) {
          if (random.chance(0.05)) continue; // never arrives
          units.push({ what: 'sale', row });
          if (row.voided && random.chance(0.9)) units.push({ what: 'void', row });
        }
        if (!closed) continue;
        number += random.chance(0.1) ? 2 : random.chance(0.05) ? 0 : 1;
        const z = zOf(random, session, sales, number);
        zs.push({ z, sales });
        if (random.chance(0.93)) units.push({ what: 'z', row: z });
      }
    }
    units.push(...zzsOf(random, store, zs).map((row): Unit => ({ what: 'zz', row })));
  }
  return units;
}

/** Mostly right. */
function zOf(random: Random, session: Session, sales: readonly Sale[], number: number): ZReport {
  const valid = sales.filter(({ voided }) => !voided);
  const wrong = random.chance(0.25) ? random.int(5) : -1;
  const off = (which: number): number => (wrong === which ? 1 : 0);
  return {
    id: random.uuid(),
    session,
    number,
    cashSales: paid(valid, 'sale', 'cash') + off(0),
    cardSales: paid(valid, 'sale', 'card') + off(1),
    cashRefunds: paid(valid, 'refund', 'cash') + off(2),
    count: Math.max(0, valid.length + off(3) - off(4)),
    voids: sales.length - valid.length,
    tax: valid.reduce((sum, { tax }) => sum + tax, 0),
    overShort: random.int(100) - 50,
  };
}

function paid(sales: readonly Sale[], kind: Sale['kind'], tender: Sale['tender']): number {
  return sales
    .filter((sale) => sale.kind === kind && sale.tender === tender)
    .reduce((sum, { amount }) => sum + (kind === 'refund' ? Math.abs(amount) : amount), 0);
}

function zzsOf(random: Random, store: number, zs: readonly { z: ZReport; sales: Sale[] }[]): Zz[] {
  return Array.from({ length: random.int(3) }, (_, n): Zz => {
    const listed = zs.filter(() => random.chance(0.5));
    const valid = listed.flatMap(({ sales }) => sales.filter(({ voided }) => !voided));
    const of = (kind: Sale['kind']): Sale[] => valid.filter((sale) => sale.kind === kind);
    const size = (sales: readonly Sale[]): number =>
      sales.reduce((sum, { amount }) => sum + Math.abs(amount), 0);
    const sales = of('sale').reduce((sum, { amount }) => sum + amount, 0);
    return {
      id: random.uuid(),
      store,
      number: 1 + n * (random.chance(0.2) ? 2 : 1),
      zs: listed.map(({ z }) => z.id),
      totals: [
        sales + (random.chance(0.1) ? 1 : 0),
        size(of('refund')),
        of('sale').reduce((sum, { tax }) => sum + tax, 0) -
          of('refund').reduce((sum, { tax }) => sum + tax, 0),
        listed.reduce((sum, { z }) => sum + z.cashSales, 0),
        listed.reduce((sum, { z }) => sum + z.cardSales, 0),
      ],
    };
  });
}

/** Any order, but a sale is there before it is voided. */
export function shuffled(random: Random, units: readonly Unit[]): Unit[] {
  const order = random.shuffle(units);
  for (const [at, unit] of order.entries()) {
    if (unit.what !== 'void') continue;
    const sale = order.findIndex((other) => other.what === 'sale' && other.row === unit.row);
    const moved = order[sale];
    if (sale > at && moved !== undefined) [order[at], order[sale]] = [moved, unit];
  }
  return order;
}

/** `db` may write what stores own. */
export async function arrive(db: Queryable, unit: Unit): Promise<void> {
  switch (unit.what) {
    case 'session': {
      const { id, store, register, user, status, opening } = unit.row;
      await db.query(
        `insert into public.register_sessions (store_id, id, register_id, user_id, status, opened_at, opening_amount)
         values ($1::int, $2::uuid, $3::uuid, $4::uuid, $5::text, now(), $6::bigint)`,
        [store, id, register, user, status, opening],
      );
      return;
    }
    case 'sale': {
      const { id, session, kind, tender, amount, tax, receipt } = unit.row;
      await db.query(
        `with header as (
           insert into public.sales (store_id, id, register_id, session_id, cashier_id, kind, status, receipt_number,
                  tax_total, total, occurred_at, business_date)
           values ($1::int, $2::uuid, $3::uuid, $4::uuid, $5::uuid, $6::text, 'completed', $7::text, $8::bigint,
                   $9::bigint, now(), '2026-11-20')),
         taxes as (
           insert into public.sale_line_taxes (store_id, business_date, sale_id, line_no, tax_rate_id, rate_bp, amount)
           values ($1::int, '2026-11-20', $2::uuid, 1, $10::uuid, 800, $8::bigint))
         insert into public.sale_payments (store_id, business_date, sale_id, payment_no, tender, amount)
         values ($1::int, '2026-11-20', $2::uuid, 1, $11::text, $9::bigint)`,
        [
          session.store,
          id,
          session.register,
          session.id,
          session.user,
          kind,
          receipt,
          tax,
          amount,
          RATE,
          tender,
        ],
      );
      return;
    }
    case 'void':
      await db.query(
        `update public.sales set status = 'voided', voided_at = now() where store_id = $1::int and id = $2::uuid`,
        [unit.row.session.store, unit.row.id],
      );
      return;
    case 'z': {
      const z = unit.row;
      const expected = z.session.opening + z.cashSales - z.cashRefunds;
      await db.query(
        `insert into public.z_reports (store_id, id, register_id, session_id, number, opened_at, closed_at, business_date,
                cashier_id, opening_amount, cash_sales, cash_refunds, expected_cash, declared_cash, over_short, card_sales,
                void_count, transaction_count, tax_by_rate)
         values ($1::int, $2::uuid, $3::uuid, $4::uuid, $5::int, now(), now(), '2026-11-20', $6::uuid, $7::bigint,
                 $8::bigint, $9::bigint, $10::bigint, $11::bigint, $12::bigint, $13::bigint, $14::int, $15::int, $16::jsonb)`,
        [
          z.session.store,
          z.id,
          z.session.register,
          z.session.id,
          z.number,
          z.session.user,
          z.session.opening,
          z.cashSales,
          z.cashRefunds,
          expected,
          expected + z.overShort,
          z.overShort,
          z.cardSales,
          z.voids,
          z.count,
          JSON.stringify({ '800': z.tax }),
        ],
      );
      return;
    }
    case 'zz': {
      const { id, store, number, zs, totals } = unit.row;
      await db.query(
        `insert into public.zz_reports (store_id, id, number, month, z_report_ids, total_sales, total_refunds, total_tax,
                cash_total, card_total)
         values ($1::int, $2::uuid, $3::int, '2026-' || $3::int, $4::uuid[], $5::bigint, $6::bigint, $7::bigint,
                 $8::bigint, $9::bigint)`,
        [store, id, number, zs, ...totals],
      );
    }
  }
}

interface Rows {
  readonly session: Session;
  readonly sale: Sale;
  readonly void: Sale;
  readonly z: ZReport;
  readonly zz: Zz;
}

export interface Expected {
  /** `id state`, sorted. */
  readonly reports: readonly string[];
  /** `store kind number`, sorted. */
  readonly findings: readonly string[];
}

/** What must come out when these units are at HQ, and those are parked. */
export function judgeAll(arrived: readonly Unit[], parked: readonly Unit[] = []): Expected {
  const rows = <W extends keyof Rows>(what: W): Rows[W][] =>
    arrived.filter((unit) => unit.what === what).map((unit) => unit.row as Rows[W]);
  const sales = rows('sale');
  const voided = new Set(rows('void').map(({ id }) => id));
  const sessions = rows('session');
  const zs = rows('z');
  const dead = new Set(parked.flatMap((unit) => sessionOf(unit) ?? []));
  const states = new Map<string, string>();
  const findings: string[] = [];
  for (const z of zs) {
    const own = sales.filter(({ session }) => session === z.session);
    const [state, kind] = stateOfZ(z, own, voided, sessions, dead);
    states.set(z.id, state);
    if (kind !== undefined) findings.push(`${z.session.store} ${kind} ${z.number}`);
  }
  for (const zz of rows('zz')) {
    const [state, kind] = stateOfZz(zz, zs, states, sales, voided);
    states.set(zz.id, state);
    if (kind !== undefined) findings.push(`${zz.store} ${kind} ${zz.number}`);
  }
  for (const session of new Set(sales.map((sale) => sale.session)))
    if (!sessions.includes(session)) findings.push(`${session.store} session_unknown`);
  findings.push(...openSessions(sessions), ...zNumbers(zs), ...zzNumbers(rows('zz')), ...receipts(sales));
  return { reports: [...states].map(([id, state]) => `${id} ${state}`).sort(), findings: findings.sort() };
}

export function sessionOf(unit: Unit): string | undefined {
  if (unit.what === 'sale' || unit.what === 'void') return unit.row.session.id;
  return unit.what === 'session' ? unit.row.id : undefined;
}

function stateOfZ(
  z: ZReport,
  own: readonly Sale[],
  voided: ReadonlySet<string>,
  sessions: readonly Session[],
  dead: ReadonlySet<string>,
): [string, string?] {
  const gone = own.filter(({ id }) => voided.has(id)).length;
  if (own.length > z.count + z.voids || gone > z.voids) return ['contradicted', 'late_sale'];
  if (!sessions.includes(z.session) || own.length < z.count + z.voids || gone < z.voids)
    return ['pending', 'z_pending'];
  const valid = own.filter(({ id }) => !voided.has(id));
  const agrees =
    paid(valid, 'sale', 'cash') === z.cashSales &&
    paid(valid, 'sale', 'card') === z.cardSales &&
    paid(valid, 'refund', 'cash') === z.cashRefunds &&
    allowedTax(valid).includes(z.tax);
  if (!agrees) return ['contradicted', 'z_contradicted'];
  return dead.has(z.session.id) ? ['pending', 'z_pending'] : ['complete'];
}

/** With refunds as written, taken off, or left out. */
function allowedTax(sales: readonly Sale[]): number[] {
  const of = (kind: Sale['kind']): number =>
    sales.filter((sale) => sale.kind === kind).reduce((sum, { tax }) => sum + tax, 0);
  return [of('sale') + of('refund'), of('sale') - of('refund'), of('sale')];
}

function stateOfZz(
  zz: Zz,
  zs: readonly ZReport[],
  states: ReadonlyMap<string, string>,
  sales: readonly Sale[],
  voided: ReadonlySet<string>,
): [string, string?] {
  const of = zz.zs.map((id) => states.get(id));
  if (of.includes('contradicted')) return ['contradicted', 'zz_contradicted'];
  if (of.some((state) => state !== 'complete')) return ['pending', 'zz_pending'];
  const listed = zs.filter(({ id }) => zz.zs.includes(id));
  const valid = sales.filter(
    ({ id, session }) => !voided.has(id) && listed.some((z) => z.session === session),
  );
  const sum = (kind: Sale['kind'], of: (sale: Sale) => number): number =>
    valid.filter((sale) => sale.kind === kind).reduce((total, sale) => total + of(sale), 0);
  const size = ({ amount }: Sale): number => Math.abs(amount);
  const gross = sum('sale', ({ amount }) => amount);
  const refunds = sum('refund', size);
  const cash = listed.reduce((total, z) => total + z.cashSales, 0);
  const card = listed.reduce((total, z) => total + z.cardSales, 0);
  const cardRefunds = valid
    .filter(({ kind, tender }) => kind === 'refund' && tender === 'card')
    .reduce((total, sale) => total + size(sale), 0);
  const tax = sum('sale', (sale) => sale.tax);
  const allowed = [
    [gross, gross - refunds],
    [refunds],
    [tax - sum('refund', (sale) => sale.tax), tax],
    [cash, cash - listed.reduce((total, z) => total + z.cashRefunds, 0)],
    [card, card - cardRefunds],
  ];
  return zz.totals.every((total, index) => allowed[index]?.includes(total))
    ? ['complete']
    : ['contradicted', 'zz_contradicted'];
}

function openSessions(sessions: readonly Session[]): string[] {
  const open = sessions.filter(({ status }) => status === 'open');
  const byUser = [...groups(open, ({ user }) => user)].filter((group) => group.length > 1);
  const byRegister = [...groups(open, ({ register }) => register)].filter((group) => group.length > 1);
  return [
    ...byUser.flatMap((group) => [...new Set(group.map(({ store }) => `${store} session_of_user`))]),
    ...byRegister.map(([first]) => `${first?.store ?? 0} session_of_register`),
  ];
}

function zNumbers(zs: readonly ZReport[]): string[] {
  return [...groups(zs, ({ session }) => session.register)].flatMap((group) => {
    const numbers = group.map(({ number }) => number);
    const store = group[0]?.session.store ?? 0;
    const first = Math.min(...numbers);
    const { holes } = holesAndDoubles(numbers);
    return [
      ...holes.map((hole) => `${store} z_hole ${hole}`),
      ...new Set(numbers.filter((n, at) => numbers.indexOf(n) !== at).map((n) => `${store} z_double ${n}`)),
      ...(first > 1 ? [`${store} z_start ${rangeText(1, first - 1)}`] : []),
    ];
  });
}

function zzNumbers(zzs: readonly Zz[]): string[] {
  return [...groups(zzs, ({ store }) => String(store))].flatMap((group) => {
    const store = group[0]?.store ?? 0;
    const twice = (values: readonly string[]): string[] => [
      ...new Set(values.filter((value, at) => values.indexOf(value) !== at)),
    ];
    return [
      ...holesAndDoubles(group.map(({ number }) => number)).holes.map((hole) => `${store} zz_hole ${hole}`),
      ...twice(group.map(({ number }) => String(number))).flatMap((n) => [
        `${store} zz_double ${n}`,
        `${store} zz_double 2026-${n}`, // the month is made from it
      ]),
      ...twice(group.flatMap(({ zs }) => zs)).map((id) => `${store} zz_double ${id}`),
    ];
  });
}

function receipts(sales: readonly Sale[]): string[] {
  return [...groups(sales, ({ session }) => session.register)].flatMap((group) => {
    const [first] = group;
    const prefix = first?.receipt.slice(0, 2) ?? '';
    const { holes, doubles, missing, there } = holesAndDoubles(
      group.map(({ receipt }) => Number(receipt.slice(2))),
    );
    const store = first?.session.store ?? 0;
    const told =
      missing > there
        ? [`${store} receipt_series ${prefix}`]
        : holes.map((hole) => `${store} receipt_hole ${prefix}${hole}`);
    return [...told, ...doubles.map((double) => `${store} receipt_double ${prefix}${double}`)];
  });
}

/** By counting from the first number to the last. */
function holesAndDoubles(numbers: readonly number[]): {
  holes: string[];
  doubles: string[];
  missing: number;
  there: number;
} {
  const from = Math.min(...numbers);
  const all = Array.from({ length: Math.max(...numbers) - from + 1 }, (_, n) => from + n);
  const times = (n: number): number => numbers.filter((other) => other === n).length;
  return {
    holes: ranges(all.filter((n) => times(n) === 0)),
    doubles: ranges(all.filter((n) => times(n) > 1)),
    missing: all.filter((n) => times(n) === 0).length,
    there: all.filter((n) => times(n) > 0).length,
  };
}

function ranges(sorted: readonly number[]): string[] {
  const starts = sorted.filter((n) => !sorted.includes(n - 1));
  return starts.map((start) => {
    let end = start;
    while (sorted.includes(end + 1)) end += 1;
    return rangeText(start, end);
  });
}

function rangeText(from: number, to: number): string {
  return from === to ? String(from) : `${from}..${to}`;
}

function groups<T>(items: readonly T[], keyOf: (item: T) => string): Iterable<T[]> {
  const found = new Map<string, T[]>();
  for (const item of items) found.set(keyOf(item), [...(found.get(keyOf(item)) ?? []), item]);
  return found.values();
}
