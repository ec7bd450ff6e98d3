/** Draws docs/growth.svg from a result: `npm run bench -- growth --json g.json && npx tsx bench/growth-plot.ts g.json > docs/growth.svg`. */
import { readFileSync } from 'node:fs';
import type { Report } from './support/report.ts';

const [width, height, left, right, top, bottom] = [820, 460, 60, 190, 30, 40];
/** Colours that people with any kind of colour blindness tell apart; each line has its name beside it all the same. */
const COLOURS = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#56b4e9',
  '#e69f00',
  '#444444',
  '#8b5a2b',
  '#999999',
];

const [report] = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Report[];
if (report === undefined) throw new Error('no report in this file');
const sizes = report.ways.map(({ name }) => Number(name));
const measures = [...new Set(report.ways.flatMap(({ runs }) => Object.keys(runs[0] ?? {})))];
const series = measures.map((name) => ({
  name,
  points: report.ways.flatMap(({ name: size, runs }): [number, number][] => {
    const value = runs[0]?.[name];
    return value === undefined || value <= 0 ? [] : [[Number(size), value]];
  }),
}));
const values = series.flatMap(({ points }) => points.map(([, value]) => value));
const x = scale(sizes, left, width - right);
const y = scale(values, height - bottom, top);

function scale(
  all: readonly number[],
  from: number,
  to: number,
): ((value: number) => number) & { decades: number[] } {
  const low = Math.floor(Math.log10(Math.min(...all)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...all))));
  const place = (value: number): number => from + ((Math.log10(value) - low) / (high - low)) * (to - from);
  return Object.assign(place, { decades: Array.from({ length: high - low + 1 }, (_, n) => 10 ** (low + n)) });
}

const text = (atX: number, atY: number, content: string, extra = ''): string =>
  `<text x="${atX.toFixed(1)}" y="${atY.toFixed(1)}" ${extra}>${content}</text>`;
const line = (points: readonly (readonly [number, number])[], colour: string, thick = 1): string =>
  `<polyline fill="none" stroke="${colour}" stroke-width="${thick}" points="${points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(' ')}"/>`;

/** Names at the right edge, each at least a line below the one before. */
function labels(): string[] {
  let free = top;
  return series
    .map(({ name, points }, n) => ({ name, n, end: points.at(-1) ?? [1, 1] }))
    .toSorted((a, b) => y(a.end[1]) - y(b.end[1]))
    .map(({ name, n, end }) => {
      const at = Math.max(y(end[1]) + 4, free);
      free = at + 15;
      return text(width - right + 10, at, name, `fill="${COLOURS[n % COLOURS.length]}"`);
    });
}

console.log(
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(left, 18, `${report.title} (both axes logarithmic)`, 'font-weight="bold"'),
    ...x.decades.flatMap((size) => [
      line(
        [
          [x(size), top],
          [x(size), height - bottom],
        ],
        '#e5e5e5',
      ),
      text(x(size), height - bottom + 16, size.toLocaleString('en'), 'text-anchor="middle"'),
    ]),
    ...y.decades.flatMap((value) => [
      line(
        [
          [left, y(value)],
          [width - right, y(value)],
        ],
        '#e5e5e5',
      ),
      text(left - 6, y(value) + 4, String(Number(value.toPrecision(1))), 'text-anchor="end"'),
    ]),
    text((left + width - right) / 2, height - 6, 'rows', 'text-anchor="middle"'),
    ...series.map(({ points }, n) =>
      line(
        points.map(([size, value]) => [x(size), y(value)] as const),
        COLOURS[n % COLOURS.length] ?? '#000000',
        2,
      ),
    ),
    ...labels(),
    '</svg>',
  ].join('\n'),
);
