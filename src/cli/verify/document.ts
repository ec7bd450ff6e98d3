/** The document of `possync verify`: names are a contract with scripts; null = unknown. */
import { EXIT, type ErrorCode, ERRORS, type ExitCode } from '../../core/errors.ts';
import { comparedTables } from '../../db/compared.ts';
import type { Entity } from '../../protocol/entities.ts';
import type { StoreReport } from '../../protocol/verify.ts';
import { unknownTable } from '../../store/verify/table.ts';
import type { Answer } from '../context.ts';
import { renderVerify } from '../render/verify.ts';

export function verifyAnswer(stores: readonly StoreReport[], repair: boolean): Answer {
  return {
    schema: 'possync.verify/1',
    exit: exitOf(stores),
    body: { stores },
    text: (paint) => renderVerify(paint, stores, repair),
  };
}

/** A difference or a finding is an answer, whatever else could not be asked. */
function exitOf(stores: readonly StoreReport[]): ExitCode {
  if (stores.some(({ state, findings }) => state === 'different' || findings.some(({ note }) => !note)))
    return EXIT.no;
  return stores.some(({ state }) => state === 'unknown') ? EXIT.unavailable : EXIT.ok;
}

/** A store of which nothing is known but why. */
export function unknownStore(
  store: { readonly id: number; readonly code: string },
  code: ErrorCode,
  message: string,
  entities: readonly Entity[],
  rest: Partial<StoreReport> = {},
): StoreReport {
  const reason = { code, message };
  const tables = comparedTables(entities).map((table) => unknownTable(table, { ...reason, why: undefined }));
  return {
    id: store.id,
    code: store.code,
    state: 'unknown',
    reason: { ...reason, hint: ERRORS[code].hint },
    tables,
    repaired: [],
    findings: [],
    bytes: 0,
    duration_ms: 0,
    ...rest,
  };
}
