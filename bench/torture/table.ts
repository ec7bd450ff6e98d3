/** Makes the tables of docs/torture.md from results: `npx tsx bench/torture/table.ts RESULT.json …` (of `--json`). */
import { readFileSync } from 'node:fs';
import { ALL_KINDS, KINDS } from './plan.ts';
import type { Result } from './run.ts';

const results = process.argv
  .slice(2)
  .map((file) => JSON.parse(readFileSync(file, 'utf8')) as Result & { minutes: number })
  .toSorted((a, b) => a.minutes - b.minutes || a.seed - b.seed);

const sum = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((total, count) => total + count, 0);
const row = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;

const runs = results.map((result) =>
  row([
    result.seed,
    result.minutes,
    result.transactions,
    result.end.atHq,
    result.end.rowsCompared,
    sum(result.faults),
    result.lostAnswers,
    result.duplicates,
    Object.entries(result.halts)
      .map(([code, times]) => `${code} ${times}`)
      .join(', ') || '–',
    result.end.gone,
    result.end.explained,
    result.ok ? '0' : result.violations.map(({ kind }) => kind).join(', '),
  ]),
);
const kinds = ALL_KINDS.map((kind) =>
  row([kind, KINDS[kind].what, results.reduce((total, result) => total + (result.faults[kind] ?? 0), 0)]),
);

process.stdout.write(
  [
    row([
      'seed',
      'minutes',
      'transactions',
      'facts at HQ',
      'rows compared',
      'faults',
      'answers lost',
      'sent twice',
      'halts mended',
      'gone with a disk',
      'explained',
      'violations',
    ]),
    row(Array.from({ length: 12 }, () => '---:')),
    ...runs,
    '',
    row(['fault', 'what happens', 'times']),
    row(['---', '---', '---:']),
    ...kinds,
    '',
  ].join('\n'),
);
