/** Bodies of version 2: what a row's text means, whatever a till has typed. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ENTITIES } from '../../src/protocol/entities.ts';
import { bodyAsJson, csvOf, fieldsOf, layoutsOf, sectionsOf } from '../../src/protocol/row-text.ts';
import { runSeed } from '../support/random.ts';

/** As PostgreSQL's record_out writes it. */
function rowOf(fields: readonly (string | null)[]): string {
  const written = fields.map((field) => {
    if (field === null) return '';
    if (field !== '' && !/[\s"\\(),]/.test(field)) return field;
    return `"${field.replaceAll('\\', '\\\\').replaceAll('"', '""')}"`;
  });
  return `(${written.join(',')})`;
}

const text = fc.oneof(
  fc.string(),
  fc.string({ unit: fc.constantFrom('"', '\\', ',', '\n', '(', ')', '.', ' ', 'I', '1', 'ü', '€') }),
);
const row = fc.array(fc.option(text), { minLength: 2, maxLength: 6 });

describe('the text of rows', () => {
  it('gives back every field, NULL and the empty text apart', () => {
    fc.assert(
      fc.property(row, (fields) => {
        assert.deepEqual(fieldsOf(rowOf(fields)), fields);
      }),
      { seed: runSeed },
    );
  });

  it('finds the end of each row, line feeds inside a text included', () => {
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 4 }), (rows) => {
        const texts = rows.map(rowOf);
        const body = `I ${texts.length} 0123abcd sales\n${texts.join('\n')}\nU 1 0123abcd odd table\n(1,2)\n`;
        assert.deepEqual(sectionsOf(body), [
          { table: 'sales', layout: '0123abcd', inserted: true, rows: texts },
          { table: 'odd table', layout: '0123abcd', inserted: false, rows: ['(1,2)'] },
        ]);
      }),
      { seed: runSeed },
    );
  });

  it('differs from CSV in backslashes alone', () => {
    assert.equal(csvOf('(1,"a\\\\b ""c""",)'), '1,"a\\b ""c""",');
  });

  it('is refused where it is cut or makes no sense', () => {
    for (const body of [
      'I 2 0123abcd sales\n(1)\n',
      'I 1 0123abcd sales\n("1\n',
      'X 1 a b\n(1)\n',
      'I 0 a b\n',
      '{"sales":[]}',
    ])
      assert.equal(sectionsOf(body), undefined, body);
  });

  it('becomes the JSON of version 1, and names a layout that nobody has described', () => {
    const layouts = layoutsOf(ENTITIES);
    const layout = [...layouts.values()].find(({ table }) => table === 'transfer_receipt_lines');
    assert.ok(layout !== undefined);
    const body = `I 1 ${layout.id} transfer_receipt_lines\n(0190,1,"2 ")\nI 1 - zz\n{"a":[1, 2]}\n`;
    assert.deepEqual(JSON.parse(bodyAsJson(body, layouts, () => false)), {
      transfer_receipt_lines: [{ transfer_id: '0190', line_no: '1', quantity: '2 ' }],
      zz: [{ a: [1, 2] }],
    });
    assert.throws(() => bodyAsJson(body.replace(layout.id, 'ffffffff'), layouts, () => false), SyntaxError);
  });
});
