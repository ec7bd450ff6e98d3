/** What `possync verify` says: a line for a store that is equal, a table for one that is not. */
import type { Finding, StoreReport, TableReport } from '../../protocol/verify.ts';
import { formatBytes, formatCount, formatDuration, plural } from '../../core/quantities.ts';
import { renderTable } from './table.ts';
import type { Paint } from './term.ts';

/** Keys and findings shown on a screen; --json has more. */
const SHOWN = 5;

export function renderVerify(paint: Paint, stores: readonly StoreReport[], repair: boolean): string {
  if (stores.length === 0) return 'No store to compare: none is active.\n';
  return stores.map((store) => renderStore(paint, store, repair)).join('\n');
}

function renderStore(paint: Paint, store: StoreReport, repair: boolean): string {
  return (
    headline(paint, store) +
    tables(paint, store) +
    repairedLines(paint, store) +
    findings(paint, store.findings) +
    (store.state === 'different' && !repair ? `  Send only these again: possync verify --repair\n` : '')
  );
}

function headline({ glyphs, good, bad, caution }: Paint, store: StoreReport): string {
  const { code, state, reason, bytes, duration_ms: ms } = store;
  const cost = `${formatDuration(ms)}, ${formatBytes(bytes)} moved`;
  const rows = store.tables.reduce((sum, table) => sum + (table.rows_store ?? 0), 0);
  switch (state) {
    case 'equal':
      return `${good(`${glyphs.pass} ${code} equal`)}  ${plural(rows, 'row')} in ${plural(store.tables.length, 'comparison')}, ${cost}\n`;
    case 'different': {
      const count = store.tables.reduce((sum, table) => sum + differences(table), 0);
      return `${bad(`${glyphs.fail} ${code} ${plural(count, 'row differs', 'rows differ')}`)}  of ${formatCount(rows)}, ${cost} (PS-VERIFY-DIFFERS)\n`;
    }
    case 'unknown':
      return reason === null
        ? `${caution(`${glyphs.warn} ${code} partly unknown`)}  ${cost}\n`
        : `${caution(`? ${code} unknown`)}  ${reason.message} (${reason.code})\n${
            reason.hint === undefined ? '' : `  ${reason.hint}\n`
          }`;
  }
}

function differences({ differing, missing_at_hq, missing_at_store }: TableReport): number {
  return (differing ?? 0) + (missing_at_hq ?? 0) + (missing_at_store ?? 0);
}

function tables(paint: Paint, store: StoreReport): string {
  // Where all is unknown for one reason, the headline has said it.
  if (store.reason !== null) return '';
  const told = store.tables.filter((table) => differences(table) > 0 || table.reason !== null);
  const left = sum(store.tables, 'in_flight');
  const purged = sum(store.tables, 'only_at_hq');
  return (
    (told.length === 0
      ? ''
      : renderTable(
          paint,
          ['  TABLE', 'WAY', 'HQ', 'STORE', 'DIFFER', 'NOT AT HQ', 'NOT IN STORE', 'KEYS'],
          told.map((table) => [
            `  ${table.table}`,
            table.direction,
            number(table.rows_hq),
            number(table.rows_store),
            number(table.differing),
            number(table.missing_at_hq),
            number(table.missing_at_store),
            table.reason === null ? keysOf(table) : `${table.reason.message} (${table.reason.code})`,
          ]),
        )) +
    (left === 0 ? '' : `  ${plural(left, 'row was', 'rows were')} on the way and left out.\n`) +
    (purged === 0
      ? ''
      : `  ${plural(purged, 'row is', 'rows are')} only at HQ: purged here, no difference.\n`)
  );
}

function sum(reports: readonly TableReport[], column: 'in_flight' | 'only_at_hq'): number {
  return reports.reduce((total, report) => total + (report[column] ?? 0), 0);
}

function number(count: number | null): string {
  return count === null ? '?' : formatCount(count);
}

function keysOf({ keys }: TableReport): string {
  const all = [...keys.differing, ...keys.missing_at_hq, ...keys.missing_at_store];
  return all.slice(0, SHOWN).join(' ') + (all.length > SHOWN ? ' …' : '');
}

function repairedLines({ glyphs, good, caution }: Paint, { repaired }: StoreReport): string {
  if (repaired.length === 0) return '';
  const failed = repaired.filter(({ result }) => result === 'failed').length;
  const words = {
    sent: 'sent again',
    removed: 'removed from the store',
    unchanged: 'no longer there',
    failed: 'in use',
  };
  const lines = repaired
    .slice(0, SHOWN)
    .map(
      ({ type, direction, key, result }) =>
        `    ${type} ${key} ${direction === 'up' ? 'to HQ' : 'to the store'}: ${words[result]}\n`,
    );
  return (
    `  ${failed === 0 ? good(glyphs.pass) : caution(glyphs.warn)} Repaired ${plural(repaired.length - failed, 'record')}` +
    `${failed === 0 ? '' : `, ${formatCount(failed)} could not be; run it again`}, kept in possync.repairs:\n` +
    lines.join('') +
    (repaired.length > SHOWN ? `    and ${formatCount(repaired.length - SHOWN)} more (--json)\n` : '')
  );
}

function findings({ glyphs, caution }: Paint, found: readonly Finding[]): string {
  if (found.length === 0) return '';
  const notes = found.filter(({ note }) => note).length;
  const first = found.toSorted((a, b) => Number(a.note) - Number(b.note)).slice(0, SHOWN);
  const lines = first.map(({ code, detail, note }) => `    ${note ? 'note: ' : ''}${detail} (${code})\n`);
  return (
    `  ${caution(glyphs.warn)} ${plural(found.length - notes, 'finding')} and ${plural(notes, 'note')} in what the store sent:\n` +
    lines.join('') +
    (found.length > SHOWN ? `    and ${formatCount(found.length - SHOWN)} more (--json)\n` : '')
  );
}
