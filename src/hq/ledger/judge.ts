/**
 * When a Z or ZZ report is pending, complete or contradicted: pure functions of what HQ has now, so that the order in
 * which things arrive cannot matter.
 *
 * What can still happen decides. Sales are only ever added to a session and a completed one may become voided, never the
 * reverse; Z and ZZ reports do not change. So, with `rows` = the session's sales of both kinds, voided ones included,
 * and `counted` = the Z's transaction_count + void_count:
 *
 *   Z              | holds when (the first line that applies)
 *   contradicted   | its own arithmetic is wrong: expected = opening + cash sales − cash refunds; over/short = declared − expected
 *   contradicted   | another Z has the same session
 *   contradicted   | rows > counted, or voided > void_count: something came after the close
 *   contradicted   | the session is closed and is of another register, or was opened with another amount
 *   pending        | the session is not here, or rows < counted, or voided < void_count
 *   contradicted   | all are here, and a sum differs: cash sales, card sales, cash refunds, tax by rate, totals by tender
 *   pending        | the opening amount differs while the session is not closed; or a dead letter speaks of the session
 *   complete       | everything agrees to the cent
 *
 *   ZZ             |
 *   contradicted   | it lists a Z twice, or one that is contradicted
 *   pending        | a Z that it lists is not here, or pending
 *   contradicted   | all are complete, and a sum differs from theirs
 *   complete       | everything agrees
 *
 * So nothing leaves *contradicted* but by a correction at HQ, and nothing but a late sale leaves *complete*. A gap in the
 * sequence of a store cannot hide behind *complete*: whatever is missing of a session is missing in the counts above.
 */
import type { FindingKind } from './findings.ts';

export type State = 'pending' | 'complete' | 'contradicted';

export interface Verdict {
  readonly state: State;
  /** The finding that a report which is not complete is shown as. */
  readonly kind?: FindingKind;
  readonly expected?: string;
  readonly found?: string;
  /** One sentence; none when complete. */
  readonly why?: string;
}

/** Money in cents, exact however large: amounts come from outside. */
export interface ZReport {
  readonly storeId: number;
  readonly id: string;
  readonly sessionId: string;
  readonly registerId: string;
  readonly number: number;
  readonly openingAmount: bigint;
  readonly cashSales: bigint;
  readonly cashRefunds: bigint;
  readonly expectedCash: bigint;
  readonly declaredCash: bigint;
  readonly overShort: bigint;
  readonly cardSales: bigint;
  readonly voidCount: number;
  readonly transactionCount: number;
  /** JSON text, as the till wrote it. */
  readonly taxByRate: string;
  readonly totalsByTender: string;
}

/** Sums over the sales of a session that are not voided; `size` adds up without signs. */
export interface Sum {
  readonly kind: string;
  readonly amount: bigint;
  readonly size: bigint;
}

export interface SessionFacts {
  /** The session's own row, if HQ has it. */
  readonly session:
    { readonly registerId: string; readonly closed: boolean; readonly openingAmount: bigint } | undefined;
  readonly completed: number;
  readonly voided: number;
  readonly zCount: number;
  readonly paid: readonly (Sum & { readonly tender: string })[];
  readonly taxes: readonly (Sum & { readonly rateBp: number; readonly rateId: string })[];
  /** A dead letter at HQ speaks of this session. */
  readonly dead: boolean;
}

export function judgeZ(z: ZReport, facts: SessionFacts): Verdict {
  return (
    ownArithmetic(z) ??
    (facts.zCount > 1
      ? contradicted('z_double', '1', String(facts.zCount), 'its session has more than one Z report')
      : undefined) ??
    tooMuch(z, facts) ??
    otherSession(z, facts, true) ??
    tooLittle(z, facts) ??
    otherSums(z, facts) ??
    otherSession(z, facts, false) ??
    (facts.dead
      ? pending('complete', 'parked', 'a record of its session is parked at HQ')
      : { state: 'complete' })
  );
}

function ownArithmetic(z: ZReport): Verdict | undefined {
  const expected = z.openingAmount + z.cashSales - abs(z.cashRefunds);
  if (z.expectedCash !== expected)
    return differs('expected cash', expected, z.expectedCash, 'by its own sums');
  const over = z.declaredCash - z.expectedCash;
  return z.overShort === over ? undefined : differs('over/short', over, z.overShort, 'by its own sums');
}

/** More than the Z counts: it will never be less again. */
function tooMuch(z: ZReport, { completed, voided }: SessionFacts): Verdict | undefined {
  const counted = z.transactionCount + z.voidCount;
  const rows = completed + voided;
  if (rows > counted)
    return contradicted(
      'late_sale',
      String(counted),
      String(rows),
      `the Z counts ${counted} transactions and voids, its session has ${rows}`,
    );
  if (voided > z.voidCount)
    return contradicted(
      'late_sale',
      String(z.voidCount),
      String(voided),
      `the Z counts ${z.voidCount} voids, its session has ${voided}`,
    );
  return undefined;
}

function otherSession(z: ZReport, { session }: SessionFacts, closed: boolean): Verdict | undefined {
  if (session?.closed !== closed) return undefined;
  const verdict = closed ? contradicted : pending;
  const kind = closed ? 'z_contradicted' : 'z_pending';
  if (session.registerId !== z.registerId)
    return { ...verdict(z.registerId, session.registerId, 'its session is of another register'), kind };
  if (session.openingAmount !== z.openingAmount)
    return {
      ...verdict(
        money(session.openingAmount),
        money(z.openingAmount),
        'its opening amount is not that of its session',
      ),
      kind,
    };
  return undefined;
}

function tooLittle(z: ZReport, { session, completed, voided }: SessionFacts): Verdict | undefined {
  if (session === undefined) return pending('session', 'none', 'its session has not arrived');
  const counted = z.transactionCount + z.voidCount;
  const rows = completed + voided;
  if (rows < counted)
    return pending(
      String(counted),
      String(rows),
      `the Z counts ${counted} transactions and voids, ${rows} have arrived`,
    );
  if (voided < z.voidCount)
    return pending(
      String(z.voidCount),
      String(voided),
      `the Z counts ${z.voidCount} voids, ${voided} have arrived`,
    );
  return undefined;
}

function otherSums(z: ZReport, { paid, taxes }: SessionFacts): Verdict | undefined {
  const of = (kind: string, tender: string): (typeof paid)[number][] =>
    paid.filter((sum) => sum.kind === kind && sum.tender === tender);
  const cash = total(of('sale', 'cash'), 'amount');
  if (cash !== z.cashSales) return differs('cash sales', cash, z.cashSales);
  const card = total(of('sale', 'card'), 'amount');
  if (card !== z.cardSales) return differs('card sales', card, z.cardSales);
  const refunds = total(of('refund', 'cash'), 'size');
  if (refunds !== abs(z.cashRefunds)) return differs('cash refunds', refunds, z.cashRefunds);
  return (
    otherAmounts(
      'tender',
      z.totalsByTender,
      groups(paid, ({ tender }) => [tender]),
    ) ??
    otherAmounts(
      'tax rate',
      z.taxByRate,
      groups(taxes, ({ rateBp, rateId }) => [String(rateBp), rateId]),
    )
  );
}

/** By each name that a Z may use for it (a rate's basis points or its id): what it may say. */
type Groups = ReadonlyMap<string, { readonly sums: readonly Sum[]; readonly alias: number }>;

function groups<T extends Sum>(sums: readonly T[], names: (sum: T) => readonly string[]): Groups {
  const found = new Map<string, { sums: Sum[]; alias: number }>();
  for (const sum of sums) {
    for (const [alias, name] of names(sum).entries()) {
      const group = found.get(name) ?? { sums: [], alias };
      group.sums.push(sum);
      found.set(name, group);
    }
  }
  return found;
}

/**
 * Refunds may be written with either sign, and a till may leave them out of these two lists: three amounts are right.
 * A list that is empty, or that is none of names and cents, says nothing.
 */
function otherAmounts(what: string, json: string, there: Groups): Verdict | undefined {
  const said = readAmounts(json);
  if (said === undefined || said.size === 0) return undefined;
  const names = [...there.entries()];
  const alias = [...said.keys()].some((name) => (there.get(name)?.alias ?? 0) > 0) ? 1 : 0;
  const missing = names.filter(([name, group]) => group.alias === alias && !said.has(name));
  for (const [name, amount] of [...said, ...missing.map(([key]) => [key, 0n] as const)]) {
    const allowed = allowedAmounts(there.get(name)?.sums ?? []);
    if (!allowed.includes(amount)) return differs(`${what} ${name.slice(0, 40)}`, allowed[0] ?? 0n, amount);
  }
  return undefined;
}

function allowedAmounts(sums: readonly Sum[]): bigint[] {
  const sales = total(
    sums.filter(({ kind }) => kind === 'sale'),
    'amount',
  );
  const refunds = sums.filter(({ kind }) => kind === 'refund');
  return [sales + total(refunds, 'amount'), sales - total(refunds, 'size'), sales];
}

/** Beyond that nobody means amounts by tender. */
const LONGEST_LIST = 20_000;

function readAmounts(json: string): ReadonlyMap<string, bigint> | undefined {
  if (json.length > LONGEST_LIST) return undefined;
  const value: unknown = JSON.parse(json); // jsonb: it is valid
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const amounts = new Map<string, bigint>();
  for (const [name, amount] of Object.entries(value)) {
    const cents = Number.isSafeInteger(amount) || typeof amount === 'string' ? String(amount) : '';
    if (!/^-?\d{1,18}$/.test(cents)) return undefined;
    amounts.set(name, BigInt(cents));
  }
  return amounts;
}

export interface ZzReport {
  readonly storeId: number;
  readonly id: string;
  readonly number: number;
  readonly month: string;
  readonly totalSales: bigint;
  readonly totalRefunds: bigint;
  readonly totalTax: bigint;
  readonly cashTotal: bigint;
  readonly cardTotal: bigint;
}

/** Sums over the Z reports that a ZZ lists. */
export interface ZzFacts {
  readonly listed: number;
  readonly distinct: number;
  /** Of the distinct ones. */
  readonly here: number;
  readonly complete: number;
  readonly contradicted: number;
  /** Some of those that are not here, for people. */
  readonly missing: readonly string[];
  readonly cashSales: bigint;
  readonly cashRefunds: bigint;
  readonly cardSales: bigint;
  readonly cardRefunds: bigint;
  /** Totals and taxes of the sessions' sales that are not voided; refunds without sign. */
  readonly sales: bigint;
  readonly refunds: bigint;
  readonly salesTax: bigint;
  readonly refundsTax: bigint;
}

export function judgeZz(zz: ZzReport, facts: ZzFacts): Verdict {
  const kind = 'zz_contradicted';
  if (facts.distinct < facts.listed)
    return {
      ...contradicted(String(facts.distinct), String(facts.listed), 'it lists a Z report twice'),
      kind,
    };
  if (facts.contradicted > 0)
    return {
      ...contradicted(
        '0',
        String(facts.contradicted),
        `${facts.contradicted} of its Z reports are contradicted`,
      ),
      kind,
    };
  if (facts.here < facts.distinct)
    return {
      ...pending(
        String(facts.distinct),
        String(facts.here),
        `${facts.distinct - facts.here} of its ${facts.distinct} Z reports have not arrived: ${facts.missing.join(', ')}`,
      ),
      kind: 'zz_pending',
    };
  if (facts.complete < facts.distinct)
    return {
      ...pending(
        String(facts.distinct),
        String(facts.complete),
        `${facts.distinct - facts.complete} of its ${facts.distinct} Z reports are pending`,
      ),
      kind: 'zz_pending',
    };
  const verdict = otherTotals(zz, facts);
  return verdict === undefined ? { state: 'complete' } : { ...verdict, kind };
}

/** Totals of a month may be meant with or without refunds: both are right, anything else is not. */
function otherTotals(zz: ZzReport, facts: ZzFacts): Verdict | undefined {
  const { sales, refunds, salesTax, refundsTax } = facts;
  const rows: readonly (readonly [string, bigint, readonly bigint[]])[] = [
    ['total sales', zz.totalSales, [sales, sales - refunds]],
    ['total refunds', abs(zz.totalRefunds), [refunds]],
    ['total tax', zz.totalTax, [salesTax - refundsTax, salesTax]],
    ['cash total', zz.cashTotal, [facts.cashSales, facts.cashSales - facts.cashRefunds]],
    ['card total', zz.cardTotal, [facts.cardSales, facts.cardSales - facts.cardRefunds]],
  ];
  for (const [what, said, allowed] of rows)
    if (!allowed.includes(said)) return differs(what, allowed[0] ?? 0n, said);
  return undefined;
}

function pending(expected: string, found: string, why: string): Verdict {
  return { state: 'pending', kind: 'z_pending', expected, found, why };
}

function contradicted(...of: [FindingKind, string, string, string] | [string, string, string]): Verdict {
  const [kind, expected, found, why] = of.length === 4 ? of : (['z_contradicted', ...of] as const);
  return { state: 'contradicted', kind, expected, found, why };
}

/** What it should be, and what the report says. */
function differs(what: string, is: bigint, said: bigint, where = 'at HQ'): Verdict {
  return contradicted(
    money(is),
    money(said),
    `${what} are ${money(is)} ${where}, and ${money(said)} in the report`,
  );
}

function total(sums: readonly Sum[], of: 'amount' | 'size'): bigint {
  return sums.reduce((sum, one) => sum + one[of], 0n);
}

function abs(amount: bigint): bigint {
  return amount < 0n ? -amount : amount;
}

/** Cents as `-12.05`. */
function money(cents: bigint): string {
  const digits = abs(cents).toString().padStart(3, '0');
  return `${cents < 0n ? '-' : ''}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}
