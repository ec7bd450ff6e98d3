/**
 * Every JSON that the program prints, by name: the source of `possync schema` and of the files in schemas/.
 *
 * A document that is not listed here cannot be printed: its name is no DocumentName. Within a number fields are only
 * added, so a reader must pass over those it does not know.
 */
import * as z from 'zod';
import { check, demo, init, ledger, reEnrol, repairs, reproject, stores, verify } from './chain.ts';
import {
  checkLine,
  completion,
  config,
  diagnosis,
  diagnosisList,
  explanation,
  failure,
  logs,
  readyLine,
  schemas,
  service,
} from './field.ts';
import { logLine, NAMED_PARTS } from './parts.ts';
import { queue, queueDrop, queueEntry, queueLine, queueRetry } from './queue.ts';
import { status } from './status.ts';
import {
  token,
  tokenRevoke,
  tokenRotate,
  tokenRotateStores,
  tokenWithdraw,
  tokens,
  tokenStatus,
  tokenStatusStores,
} from './token.ts';

interface Described {
  /** Which command prints it. */
  readonly what: string;
  readonly schema: z.ZodType;
}

export const DOCUMENTS = {
  'possync.error/1': { what: 'any command that fails', schema: failure },
  'possync.status/1': { what: 'status, GET /api/v1/status', schema: status },
  'possync.diagnose/1': { what: 'diagnose', schema: diagnosis },
  'possync.diagnose-list/1': { what: 'diagnose --list', schema: diagnosisList },
  'possync.explain/1': { what: 'explain', schema: explanation },
  'possync.queue/1': { what: 'queue ls', schema: queue },
  'possync.queue-entry/1': { what: 'queue show', schema: queueEntry },
  'possync.queue-retry/1': { what: 'queue retry', schema: queueRetry },
  'possync.queue-drop/1': { what: 'queue drop', schema: queueDrop },
  'possync.verify/1': { what: 'verify', schema: verify },
  'possync.repairs/1': { what: 'verify --repairs', schema: repairs },
  'possync.ledger/1': { what: 'ledger', schema: ledger },
  'possync.stores/1': { what: 'stores add, ls, show, activate, deactivate', schema: stores },
  'possync.token/1': { what: 'token issue', schema: token },
  'possync.tokens/1': { what: 'token ls', schema: tokens },
  'possync.token-status/1': { what: 'token status in a store', schema: tokenStatus },
  'possync.token-status-stores/1': { what: 'token status at HQ', schema: tokenStatusStores },
  'possync.token-rotate/1': { what: 'token rotate in a store', schema: tokenRotate },
  'possync.token-withdraw/1': { what: 'token rotate --withdraw at HQ', schema: tokenWithdraw },
  'possync.token-rotate-stores/1': { what: 'token rotate at HQ', schema: tokenRotateStores },
  'possync.token-revoke/1': { what: 'token revoke', schema: tokenRevoke },
  'possync.init/1': { what: 'hq init, store init', schema: init },
  'possync.check/1': { what: 'hq serve --check', schema: check },
  'possync.reproject/1': { what: 'hq reproject', schema: reproject },
  'possync.re-enrol/1': { what: 'store re-enrol, store reexport', schema: reEnrol },
  'possync.logs/1': { what: 'logs', schema: logs },
  'possync.config/1': { what: 'config show', schema: config },
  'possync.service/1': { what: 'service install, service uninstall', schema: service },
  'possync.completion/1': { what: 'completion', schema: completion },
  'possync.demo/1': { what: 'demo', schema: demo },
  'possync.schema/1': { what: 'schema', schema: schemas },
} as const satisfies Record<`possync.${string}/${number}`, Described>;

/** Where the output has no end, or no room in memory: one of these a line, without a frame. */
export const LINES = {
  'possync.queue-line/1': { what: 'queue ls --jsonl', schema: queueLine },
  'possync.check-line/1': {
    what: 'diagnose --format jsonl; its last line is possync.diagnose/1',
    schema: checkLine,
  },
  'possync.log-line/1': { what: 'logs --follow --json, and the log files', schema: logLine },
  'possync.ready-line/1': { what: 'hq serve and store daemon, once, without a terminal', schema: readyLine },
} as const satisfies Record<`possync.${string}-line/${number}`, Described>;

export type DocumentName = keyof typeof DOCUMENTS;
export type SchemaName = DocumentName | keyof typeof LINES;

export const SCHEMAS: Readonly<Record<SchemaName, Described>> = { ...DOCUMENTS, ...LINES };
export const SCHEMA_NAMES = Object.keys(SCHEMAS) as readonly SchemaName[];

/**
 * The JSON Schema (draft 2020-12) of a document. Open as it is given to readers: unknown fields are allowed. `closed` is
 * for our own test, which must find a field that nobody described.
 */
export function jsonSchema(name: SchemaName, { closed = false } = {}): Record<string, unknown> {
  const { what, schema } = SCHEMAS[name];
  const { $schema, ...rest } = z.toJSONSchema(schema, {
    target: 'draft-2020-12',
    io: closed ? 'output' : 'input',
    metadata: NAMED_PARTS,
    override: ({ jsonSchema: part }) => {
      // `format` says it; and the limits of JavaScript's own numbers are no rule of ours.
      if (part.format !== undefined) delete part.pattern;
      if (part.minimum === Number.MIN_SAFE_INTEGER) delete part.minimum;
      if (part.maximum === Number.MAX_SAFE_INTEGER) delete part.maximum;
    },
  });
  return {
    $schema,
    $id: `urn:${name.replace(/[./]/g, ':')}`,
    title: name,
    description: `possync ${what}`,
    ...rest,
  };
}
