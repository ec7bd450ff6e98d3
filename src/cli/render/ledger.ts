/** `possync ledger` as text: a line of counts for each store, the reports that are shown, and what was found. */
import type { State } from '../../hq/ledger/judge.ts';
import { formatCount, plural } from '../../core/quantities.ts';
import { renderTable } from './table.ts';
import type { Paint } from './term.ts';

export interface LedgerStoreView {
  readonly code: string;
  readonly id: number;
  readonly z: Readonly<Record<State, number>>;
  readonly zz: Readonly<Record<State, number>>;
  /** Open ones; notes are no reason to act. */
  readonly findings: number;
  readonly notes: number;
}

export interface ReportBody {
  readonly store: string;
  readonly kind: 'z' | 'zz';
  readonly register: string | null;
  readonly number: number;
  readonly period: string;
  readonly state: State;
  readonly why: string | null;
  readonly since: string;
}

export interface FindingBody {
  readonly store: string;
  readonly kind: string;
  readonly code: string;
  readonly note: boolean;
  readonly register: string | null;
  readonly number: string | null;
  readonly expected: string | null;
  readonly found: string | null;
  readonly detail: string;
  readonly since: string;
  readonly closed: string | null;
}

export interface LedgerView {
  readonly stores: readonly LedgerStoreView[];
  readonly reports: readonly ReportBody[];
  readonly findings: readonly FindingBody[];
}

export function renderLedger(paint: Paint, { stores, reports, findings }: LedgerView): string {
  const parts = [storeTable(paint, stores)];
  if (reports.length > 0) parts.push(reportTable(paint, reports));
  if (findings.length > 0) parts.push(findingTable(paint, findings));
  const open = stores.reduce((sum, store) => sum + store.findings, 0);
  const notes = stores.reduce((sum, store) => sum + store.notes, 0);
  const more = notes === 0 ? '' : `, ${plural(notes, 'note')}`;
  const last =
    open === 0
      ? `${paint.good(`${paint.glyphs.pass} Nothing is missing and everything agrees`)}${more}.\n`
      : `${paint.bad(`${plural(open, 'finding')} open`)}${more}. What one means: possync explain CODE\n`;
  return `${parts.join('\n')}\n${last}`;
}

function storeTable(paint: Paint, stores: readonly LedgerStoreView[]): string {
  return renderTable(
    paint,
    ['STORE', 'Z COMPLETE', 'PENDING', 'CONTRADICTED', 'ZZ COMPLETE', 'PENDING', 'CONTRADICTED', 'FINDINGS'],
    stores.map(({ code, z, zz, findings }) => [
      code,
      ...[z.complete, z.pending, z.contradicted, zz.complete, zz.pending, zz.contradicted].map(formatCount),
      findings === 0 ? '0' : paint.bad(formatCount(findings)),
    ]),
  );
}

function reportTable(paint: Paint, reports: readonly ReportBody[]): string {
  return renderTable(
    paint,
    ['STORE', 'REPORT', 'OF', 'STATE', 'SINCE', 'WHY'],
    reports.map(({ store, kind, register, number, period, state, why, since }) => [
      store,
      kind === 'z' ? `${register ?? ''} Z ${number}` : `ZZ ${number}`,
      period,
      stateWord(paint, state),
      since.slice(0, 16).replace('T', ' '),
      why ?? '',
    ]),
  );
}

function stateWord(paint: Paint, state: State): string {
  if (state === 'complete') return paint.good(state);
  return state === 'pending' ? paint.caution(state) : paint.bad(state);
}

function findingTable(paint: Paint, findings: readonly FindingBody[]): string {
  return renderTable(
    paint,
    ['STORE', 'CODE', 'REGISTER', 'NUMBER', 'SINCE', 'WHAT'],
    findings.map(({ store, code, note, register, number, since, closed, detail }) => [
      store,
      code,
      register ?? '',
      number ?? '',
      since.slice(0, 16).replace('T', ' '),
      `${closed === null ? '' : `mended ${closed.slice(0, 16).replace('T', ' ')}: `}${note ? 'note: ' : ''}${detail}`,
    ]),
  );
}
