/** `possync schema [NAME]`: the JSON Schema of what `--json` prints, for whoever reads it by program. */
import { EXIT, PossyncError } from '../../core/errors.ts';
import { nearest } from '../../core/nearest.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { renderTable } from '../render/table.ts';
import { jsonSchema, LINES, SCHEMA_NAMES, SCHEMAS, type SchemaName } from '../schemas/documents.ts';

export function run(_context: Context, args: Args): Promise<Answer> {
  const asked = args.maybeAt(0);
  return Promise.resolve(asked === undefined ? list() : one(nameOf(asked)));
}

/** `status` and `status/1` are enough. */
function nameOf(asked: string): SchemaName {
  const found = SCHEMA_NAMES.find((name) =>
    [name, name.replace('possync.', ''), name.replace(/^possync\.|\/\d+$/g, '')].includes(asked),
  );
  if (found !== undefined) return found;
  const close = nearest(
    asked,
    SCHEMA_NAMES.map((name) => name.replace(/^possync\.|\/\d+$/g, '')),
  );
  throw new PossyncError('PS-USAGE', `there is no document ${asked}`, {
    hint: close === undefined ? 'list them with: possync schema' : `did you mean ${close}?`,
  });
}

function one(name: SchemaName): Answer {
  const schema = jsonSchema(name);
  return {
    schema: 'possync.schema/1',
    exit: EXIT.ok,
    body: { name, json_schema: schema },
    text: () => `${JSON.stringify(schema, null, 2)}\n`,
  };
}

function list(): Answer {
  const schemas = SCHEMA_NAMES.map((name) => ({ name, what: SCHEMAS[name].what, line: name in LINES }));
  return {
    schema: 'possync.schema/1',
    exit: EXIT.ok,
    body: { schemas },
    text: (paint) =>
      renderTable(
        paint,
        ['NAME', 'PRINTED BY'],
        schemas.map(({ name, what }) => [name, what]),
      ),
  };
}
