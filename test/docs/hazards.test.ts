/** docs/hazards.md: every row is there, and every test that it names, word for word. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const TESTS = resolve(import.meta.dirname, '..');
const PAGE = readFileSync(join(TESTS, '../docs/hazards.md'), 'utf8');
const WANTED = { F: 28, H: 32, P: 15, I: 23 } as const;

interface Row {
  readonly id: string;
  /** Columns after the words of the row: what shows it, and for an invariant its control. */
  readonly cells: readonly (readonly Reference[])[];
}

interface Reference {
  readonly file: string;
  readonly title: string;
}

function rowsOf(page: string): Row[] {
  return page
    .split('\n')
    .filter((line) => /^\| [FHPI]\d+ \|/.test(line))
    .map((line) => {
      const [id = '', , ...cells] = line.replace(/^\| | \|$/g, '').split(' | ');
      return { id, cells: cells.map(referencesOf) };
    });
}

function referencesOf(cell: string): Reference[] {
  return cell.split('<br>').map((part) => {
    const [, file = '', title = ''] = /^`([^`]+)` › (.+)$/.exec(part.trim()) ?? [];
    return { file, title };
  });
}

/** Titles of the tests of a file, also those that are chosen by a condition before `it` takes them. */
function titlesOf(file: string): string[] {
  const source = readFileSync(join(TESTS, file), 'utf8');
  return [...source.matchAll(/(?:\bit\(\s*|[?:=] )(['"`])((?:\\.|(?!\1)[^\\])*)\1/g)].map(
    ([, , title = '']) => title,
  );
}

describe('docs/hazards.md', () => {
  const rows = rowsOf(PAGE);

  for (const [letter, count] of Object.entries(WANTED)) {
    it(`has the rows ${letter}1 to ${letter}${count}, each once`, () => {
      assert.deepEqual(
        rows.map(({ id }) => id).filter((id) => id.startsWith(letter)),
        Array.from({ length: count }, (_, index) => `${letter}${index + 1}`),
      );
    });
  }

  it('names tests that exist, word for word', () => {
    const missing: string[] = [];
    for (const { id, cells } of rows) {
      for (const { file, title } of cells.flat()) {
        if (file === '' || !titlesOf(file).some((found) => found.includes(title)))
          missing.push(`${id}: ${file} › ${title}`);
      }
    }
    assert.deepEqual(missing, []);
  });

  it('has for each invariant a test that cites its number, and a control', () => {
    const wrong: string[] = [];
    for (const { id, cells } of rows.filter((row) => row.id.startsWith('I'))) {
      const [shown = [], controls = []] = cells;
      const titles = shown.flatMap(({ file, title }) =>
        titlesOf(file).filter((found) => found.includes(title)),
      );
      if (!titles.some((title) => cited(title).includes(Number(id.slice(1)))))
        wrong.push(`${id}: no test cites it`);
      if (controls.length === 0 || !controls.every(({ title }) => /negative control|would not/.test(title)))
        wrong.push(`${id}: no control`);
    }
    assert.deepEqual(wrong, []);
  });

  it('would notice a test that was renamed, and a row that was taken out', () => {
    const first = rows[0]?.cells[0]?.[0];
    assert.ok(first);
    assert.ok(!titlesOf(first.file).some((title) => title.includes(`${first.title} no more`)));
    assert.equal(rowsOf(PAGE.replace(/^\| H7 .*$/m, '')).length, rows.length - 1);
  });
});

/** `invariant 20`, `invariants 4 and 5`, `invariants 1, 2, 6` */
function cited(title: string): number[] {
  return [...title.matchAll(/invariants? (\d+(?:(?:, | and )\d+)*)/g)].flatMap(([, list = '']) =>
    list.split(/, | and /).map(Number),
  );
}
