/**
 * `possync ledger [CODE]`: what HQ can prove of what stores have sent: how their Z and ZZ reports stand, and what is
 * odd; exit 0 nothing to act on, 1 an open finding that is no note.
 */
import { EXIT, PossyncError } from '../../core/errors.ts';
import { withTransaction } from '../../db/transaction.ts';
import { closeFinding, listFindings, type LedgerFinding } from '../../hq/ledger/findings.ts';
import type { State } from '../../hq/ledger/judge.ts';
import { settleLedgerInTurn } from '../../hq/ledger/ledger.ts';
import { countReports, listReports, type ReportCounts, type ReportRow } from '../../hq/ledger/list.ts';
import { listStores, showStore } from '../../hq/stores/stores.ts';
import { commandActor } from '../actor.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { renderLedger, type FindingBody, type LedgerStoreView, type ReportBody } from '../render/ledger.ts';

/** What is marked is judged first, so that the answer is of now; after an upgrade that may be years. */
const JUDGE_MS = 10_000;

export async function run(context: Context, args: Args): Promise<Answer> {
  const all = args.flag('all');
  const code = args.maybeAt(0);
  const { pool } = await context.database();
  const storeId = code === undefined ? undefined : (await showStore(pool, code)).id;
  const key = args.text('close');
  if (key !== undefined) await close(context, args, storeId, key);
  const late = new AbortController();
  const cancel = context.clock.after(JUDGE_MS, () => {
    late.abort();
  });
  const current = await settleLedgerInTurn(pool, AbortSignal.any([late.signal, context.signal]));
  cancel();
  const stores = (await listStores(pool)).filter(({ id }) => storeId === undefined || id === storeId);
  const storeIds = storeId === undefined ? undefined : [storeId];
  const findings = await listFindings(pool, { storeIds, closed: all });
  const reports = args.flag('open') ? [] : await listReports(pool, { storeId, all });
  const counts = await countReports(pool, storeId);
  const codes = new Map(stores.map((store) => [store.id, store.code]));
  const codeOf = (id: number): string => codes.get(id) ?? String(id);
  const isOpen = ({ closed }: LedgerFinding): boolean => closed === undefined;
  const views = stores.map(({ id, code: name }): LedgerStoreView => ({
    code: name,
    id,
    z: statesOf(counts, id, 'z'),
    zz: statesOf(counts, id, 'zz'),
    findings: findings.filter((one) => one.storeId === id && isOpen(one) && !one.note).length,
    notes: findings.filter((one) => one.storeId === id && isOpen(one) && one.note).length,
  }));
  const body = {
    /** false: something that has arrived is not judged yet. */
    current,
    stores: views,
    reports: reports.map((report) => reportBody(report, codeOf)),
    findings: findings.map((finding) => findingBody(finding, codeOf)),
  };
  return {
    schema: 'possync.ledger/1',
    exit: findings.some((one) => isOpen(one) && !one.note) ? EXIT.no : EXIT.ok,
    body,
    text: (paint) => {
      if (!current) context.note('not everything that has arrived is judged yet; ask again in a minute');
      return renderLedger(paint, body);
    },
  };
}

async function close(context: Context, args: Args, storeId: number | undefined, key: string): Promise<void> {
  const reason = args.required('reason');
  if (reason.trim() === '') throw new PossyncError('PS-USAGE', 'closing a finding needs a reason');
  if (storeId === undefined)
    throw new PossyncError('PS-USAGE', 'closing a finding needs its store', {
      hint: 'see: possync ledger CODE --close KEY --reason TEXT',
    });
  const { pool } = await context.database();
  const closed = await withTransaction(pool, (tx) =>
    closeFinding(tx, { storeId, key, actor: commandActor(), reason }),
  );
  if (!closed)
    throw new PossyncError(
      'PS-USAGE',
      `the store has no open finding about ${key} that can be closed by hand`,
      {
        why: 'only older states of a record can; every other finding ends when what it says is no longer so',
        hint: 'list them with: possync ledger CODE',
      },
    );
}

function statesOf(
  counts: readonly ReportCounts[],
  storeId: number,
  kind: 'z' | 'zz',
): Readonly<Record<State, number>> {
  const of = (state: State): number =>
    counts.find((row) => row.storeId === storeId && row.kind === kind && row.state === state)?.reports ?? 0;
  return { pending: of('pending'), complete: of('complete'), contradicted: of('contradicted') };
}

function reportBody({ storeId, ...report }: ReportRow, codeOf: (id: number) => string): ReportBody {
  return { store: codeOf(storeId), ...report };
}

function findingBody(finding: LedgerFinding, codeOf: (id: number) => string): FindingBody {
  const { kind, code, note, register, number, expected, found, detail, since, closed } = finding;
  return {
    store: codeOf(finding.storeId),
    kind,
    code,
    note,
    register: register ?? null,
    number: number ?? null,
    expected: expected ?? null,
    found: found ?? null,
    detail,
    since,
    closed: closed ?? null,
  };
}
