/** Aligned columns without borders or colour of the table's own. */
import Table from 'cli-table3';
import { cleanText } from './clean.ts';
import type { Paint } from './term.ts';

const NO_LINES = Object.fromEntries(
  [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
  ].map((name) => [name, '']),
);

/** One line per row, each ended; values stay on one line and only a terminal's last column is cut. */
export function renderTable(
  paint: Paint,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const table = new Table({
    head: [...head],
    chars: { ...NO_LINES, middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  for (const row of rows) table.push(row.map((cell) => oneLine(paint, cell)));
  return table
    .toString()
    .split('\n')
    .map((line) => `${fit(paint, line.trimEnd())}\n`)
    .join('');
}

function oneLine(paint: Paint, value: string): string {
  // Before the widths are worked out: what is cleaned on its way to the stream would no longer be aligned.
  return cleanText(paint, value.replace(/\s*[\r\n]+\s*/g, ' ').replaceAll('\t', ' '));
}

/** Colour codes count as width here, so a coloured line is cut a little early rather than wrapped. */
function fit(paint: Paint, line: string): string {
  if (!paint.isTTY || paint.level > 0 || line.length <= paint.width) return line;
  return `${line.slice(0, paint.width - paint.glyphs.cut.length)}${paint.glyphs.cut}`;
}
