/**
 * One round of the ledger: judges what is marked, in one transaction.
 *
 *   locks ─▶ snapshot ─▶ marks ─▶ sessions: sums, Z states ─┬─▶ receipts of the registers
 *                                                          ├─▶ Z numbers of the registers
 *                                                          ├─▶ open sessions of users and registers
 *                                                          └─▶ ZZ reports that list these Z reports
 *                                       findings settled, marks deleted ◀─┘                   commit
 *
 * Repeatable read, and LOCK TABLE before the first statement (it takes no snapshot): a mark that the round sees was
 * committed together with the data it is about; what commits later leaves a mark for the next round. So a round may be
 * killed anywhere, and of several `hq serve` one works while the others look again later.
 */
import type pg from 'pg';
import { sqlstateOf } from '../../core/classify.ts';
import { holdPartitions } from '../../db/hold-partitions.ts';
import { withTransaction } from '../../db/transaction.ts';
import { ENTITIES } from '../../protocol/entities.ts';
import {
  keysOf,
  readDeadSessions,
  readSessions,
  readSums,
  readUnknownProducts,
  readZs,
  textOf,
  type SessionRow,
} from './facts.ts';
import { closeKnownProducts, settleFindings, type Found, type Scope } from './findings.ts';
import { groupBy } from './group-by.ts';
import { judgeZ, judgeZz, type SessionFacts, type ZReport } from './judge.ts';
import { deleteMarks, markStores, readMarks, type Marks, type SessionKey } from './marks.ts';
import {
  findZNumbers,
  findZzNumbers,
  zNumbersScope,
  ZZ_NUMBERS_SCOPE,
  type RegisterKey,
} from './numbering.ts';
import { judgeSeries } from './numbers.ts';
import { findGivenUp, findSessionsOfRegisters, findSessionsOfUsers } from './open-sessions.ts';
import { readZzs, writeZStates, writeZzStates, type JudgedZ, type TouchedZ } from './reports.ts';
import { countReceipts, joinSeries, readSeries } from './series.ts';

export interface RoundReport {
  /** busy: another process has a round in progress, or has just had one. */
  readonly result: 'idle' | 'judged' | 'busy';
  readonly sessions: number;
  readonly marks: number;
  /** It has marked all that there is of some stores, for the rounds after it. */
  readonly marked: boolean;
}

const NOTHING = { sessions: 0, marks: 0, marked: false };

export interface RoundOptions {
  /** Only what is marked of this store. */
  readonly storeId?: number;
  /** Wait for another round to end, instead of leaving the work to it. */
  readonly inTurn?: boolean;
}

const TURN_TIMEOUT_MS = 30_000;
const LOCK_NOT_AVAILABLE = '55P03';
/** Somebody has changed by hand, since the snapshot, what the round was about to write. */
const SERIALIZATION_FAILURE = '40001';

export async function ledgerRound(
  pool: pg.Pool,
  { storeId, inTurn = false }: RoundOptions = {},
): Promise<RoundReport> {
  try {
    return await withTransaction(
      pool,
      async (tx) => {
        // A process that stops here must not hold the lock for ever; a plan made for few rows must not be compiled.
        // The ledger rests so that it takes a fifth of one core: helpers of its own would take the other cores as well.
        await tx.query(
          `set local idle_in_transaction_session_timeout = 10000; set local jit = off; set local max_parallel_workers_per_gather = 0;
           set local lock_timeout = ${TURN_TIMEOUT_MS};
           lock table possync.ledger_lock in exclusive mode${inTurn ? '' : ' nowait'}`,
        );
        await holdPartitions(tx, ENTITIES);
        const marks = await readMarks(tx, storeId);
        if (marks.ids.length === 0) return { result: 'idle', ...NOTHING };
        await judge(tx, marks);
        await deleteMarks(tx, marks.ids);
        return {
          result: 'judged',
          sessions: marks.sessions.length,
          marks: marks.ids.length,
          marked: marks.stores.length > 0,
        };
      },
      { isolation: 'repeatable read' },
    );
  } catch (error) {
    const state = sqlstateOf(error);
    if (state === LOCK_NOT_AVAILABLE && !inTurn) return { result: 'busy', ...NOTHING };
    if (state === SERIALIZATION_FAILURE) return { result: 'busy', ...NOTHING };
    throw error;
  }
}

/** What a round has to say, collected and written at once. */
class Findings {
  readonly scopes: Scope[] = [];
  readonly found: Found[] = [];

  add(scopes: readonly Scope[], found: readonly Found[]): void {
    this.scopes.push(...scopes);
    this.found.push(...found);
  }
}

async function judge(tx: pg.PoolClient, marks: Marks): Promise<void> {
  await markStores(tx, marks.stores);
  const findings = new Findings();
  const touched = marks.sessions.length === 0 ? [] : await judgeSessions(tx, marks.sessions, findings);
  await judgeZzs(tx, marks.zzs, touched, findings);
  if (marks.audits.length > 0) {
    const { scopes, found } = await findGivenUp(tx, marks.audits);
    findings.add(scopes, found);
  }
  await settleFindings(tx, findings.scopes, findings.found);
  await closeKnownProducts(tx);
}

/** Returns the Z reports that were judged, or are gone. */
async function judgeSessions(
  tx: pg.PoolClient,
  sessions: readonly SessionKey[],
  findings: Findings,
): Promise<TouchedZ[]> {
  const keys = keysOf(sessions);
  const rows = await readSessions(tx, keys);
  const zs = await readZs(tx, keys);
  const judged = await judgeZs(tx, rows, zs, findings);
  const gone = await writeZStates(tx, keys, judged);
  findings.add(
    rows.map(({ storeId, id }) => ({ storeId, scope: sessionScope(id) })),
    rows.filter((row) => row.status === null && row.completed + row.voided > 0).map(unknownSession),
  );
  const touched = [...judged.map(({ z }) => z), ...gone];
  const numbered = distinctRegisters(touched);
  findings.add(
    numbered.map(({ storeId, registerId }) => ({ storeId, scope: zNumbersScope(registerId) })),
    await findZNumbers(tx, numbered),
  );
  await judgeOpenSessions(tx, rows, findings);
  await judgeReceipts(tx, keys, findings);
  return touched;
}

const sessionScope = (id: string): string => `session ${id}`;

function unknownSession({ storeId, id, completed, voided }: SessionRow): Found {
  const sales = completed + voided;
  return {
    storeId,
    scope: sessionScope(id),
    kind: 'session_unknown',
    type: 'session',
    key: id,
    expected: 'session',
    found: 'none',
    text: `${sales} ${sales === 1 ? 'sale refers' : 'sales refer'} to session ${id}, which has not arrived`,
  };
}

async function judgeZs(
  tx: pg.PoolClient,
  rows: readonly SessionRow[],
  zs: readonly ZReport[],
  findings: Findings,
): Promise<JudgedZ[]> {
  if (zs.length === 0) return [];
  const session = new Map(rows.map((row) => [textOf(row), row]));
  const zsOf = groupBy(zs, (z) => textOf({ storeId: z.storeId, id: z.sessionId }));
  const keys = keysOf([...zsOf.keys()].map((key) => session.get(key)).filter((row) => row !== undefined));
  const sums = await readSums(tx, keys);
  const dead = await readDeadSessions(tx, [...new Set(keys[0])]);
  const judged = zs.map((z): JudgedZ => {
    const key = textOf({ storeId: z.storeId, id: z.sessionId });
    const row = session.get(key);
    const paid = sums.paid.get(key) ?? [];
    const facts: SessionFacts = {
      session:
        row?.status == null
          ? undefined
          : {
              registerId: row.registerId ?? '',
              closed: row.status === 'closed',
              openingAmount: BigInt(row.openingAmount ?? 0),
            },
      completed: row?.completed ?? 0,
      voided: row?.voided ?? 0,
      zCount: zsOf.get(key)?.length ?? 0,
      paid,
      taxes: sums.taxes.get(key) ?? [],
      dead: dead.has(key),
    };
    const cardRefunds = paid.filter(({ kind, tender }) => kind === 'refund' && tender === 'card');
    return {
      z,
      verdict: judgeZ(z, facts),
      totals: sums.totals.get(key) ?? { sales: 0n, refunds: 0n, salesTax: 0n, refundsTax: 0n },
      cardRefunds: cardRefunds.reduce((sum, { size }) => sum + size, 0n),
    };
  });
  findings.add([], judged.flatMap(zFinding));
  for (const { storeId, productId, sku } of await readUnknownProducts(tx, keys)) {
    const scope = `product ${productId}`;
    const text = `${sku} was sold under a product id that HQ does not have: ${productId}`;
    const kind = 'product_unknown';
    findings.add([], [{ storeId, scope, kind, type: 'product', key: productId, text }]);
  }
  return judged;
}

function zFinding({ z, verdict }: JudgedZ): Found[] {
  const { kind, expected, found, why } = verdict;
  if (kind === undefined) return [];
  return [
    {
      storeId: z.storeId,
      scope: sessionScope(z.sessionId),
      kind,
      type: 'z_report',
      key: z.id,
      registerId: z.registerId,
      number: String(z.number),
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
      text: why ?? kind,
    },
  ];
}

function distinctRegisters(rows: readonly RegisterKey[]): RegisterKey[] {
  return [
    ...new Map(
      rows.map(({ storeId, registerId }) => [`${storeId} ${registerId}`, { storeId, registerId }]),
    ).values(),
  ];
}

async function judgeOpenSessions(
  tx: pg.PoolClient,
  rows: readonly SessionRow[],
  findings: Findings,
): Promise<void> {
  const users = new Set(rows.map(({ userId }) => userId).filter((id) => id !== null));
  const registers = distinctRegisters(
    rows.flatMap(({ storeId, registerId }) => (registerId === null ? [] : [{ storeId, registerId }])),
  );
  for (const { scopes, found } of [
    await findSessionsOfUsers(tx, [...users]),
    await findSessionsOfRegisters(tx, registers),
  ]) {
    findings.add(scopes, found);
  }
}

async function judgeReceipts(
  tx: pg.PoolClient,
  keys: readonly [number[], string[]],
  findings: Findings,
): Promise<void> {
  const changed = await countReceipts(tx, keys);
  if (changed.length === 0) return;
  await joinSeries(tx, changed);
  const series = await readSeries(tx, changed);
  for (const group of groupBy(series, ({ storeId, prefix }) => `${storeId} ${prefix}`).values()) {
    const [first] = group;
    if (first === undefined) continue;
    const { storeId, prefix } = first;
    const scope = `receipts ${prefix}`;
    findings.add(
      [{ storeId, scope }],
      judgeSeries(group).map(({ registerId, kind, key, number, text }) => ({
        storeId,
        scope,
        kind,
        type: 'sale',
        key: `${registerId} ${prefix} ${key}`,
        registerId,
        number,
        text,
      })),
    );
  }
}

async function judgeZzs(
  tx: pg.PoolClient,
  marked: readonly SessionKey[],
  touched: readonly TouchedZ[],
  findings: Findings,
): Promise<void> {
  if (marked.length === 0 && touched.length === 0) return;
  const judged = (await readZzs(tx, marked, touched)).map(({ zz, facts }) => ({
    zz,
    verdict: judgeZz(zz, facts),
  }));
  await writeZzStates(tx, marked, judged);
  const scopeOf = (id: string): string => `zz ${id}`;
  findings.add(
    [
      ...marked.map(({ storeId, id }) => ({ storeId, scope: scopeOf(id) })),
      ...judged.map(({ zz }) => ({ storeId: zz.storeId, scope: scopeOf(zz.id) })),
    ],
    judged.flatMap(({ zz, verdict: { kind, expected, found, why } }): Found[] =>
      kind === undefined
        ? []
        : [
            {
              storeId: zz.storeId,
              scope: scopeOf(zz.id),
              kind,
              type: 'zz_report',
              key: zz.id,
              number: String(zz.number),
              ...(expected === undefined ? {} : { expected }),
              ...(found === undefined ? {} : { found }),
              text: why ?? kind,
            },
          ],
    ),
  );
  const stores = [...new Set(marked.map(({ storeId }) => storeId))];
  if (stores.length === 0) return;
  findings.add(
    stores.map((storeId) => ({ storeId, scope: ZZ_NUMBERS_SCOPE })),
    await findZzNumbers(tx, stores),
  );
}
