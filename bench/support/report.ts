/** What a bench hands over: measures by name and run, their medians, and how they are shown. */

/** One run of one way of doing the work: measure → value. */
export type Measures = Readonly<Record<string, number>>;

export interface Way {
  readonly name: string;
  readonly runs: readonly Measures[];
}

export interface Report {
  readonly bench: string;
  readonly title: string;
  readonly conditions: Readonly<Record<string, string>>;
  readonly ways: readonly Way[];
  /** Ratios and other conclusions from the medians. */
  readonly results: Readonly<Record<string, number>>;
}

export interface BenchOptions {
  /** Small enough for CI: proves that the bench works, says nothing about speed. */
  readonly short: boolean;
  /** Size of a run, where a bench has one. */
  readonly sales?: number;
  readonly products?: number;
  /** Simulated stores, where a bench has them. */
  readonly stores?: number;
  readonly say: (line: string) => void;
}

export interface Bench {
  readonly title: string;
  run(options: BenchOptions): Promise<Report>;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

export function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN;
}

export function medianOf(way: Way, measure: string): number {
  return median(way.runs.map((run) => run[measure]).filter((value) => value !== undefined));
}

export function textOf({ bench, title, conditions, ways, results }: Report): string {
  const measures = [...new Set(ways.flatMap(({ runs }) => runs.flatMap((run) => Object.keys(run))))];
  const table = [
    ['', ...measures],
    ...ways.map((way) => [way.name, ...measures.map((measure) => cell(way, measure))]),
  ];
  const widths = measures
    .concat('')
    .map((_, column) => Math.max(...table.map((row) => (row[column] ?? '').length)));
  const lines = table.map((row) =>
    row.map((text, n) => (n === 0 ? text.padEnd(widths[n] ?? 0) : text.padStart(widths[n] ?? 0))).join('  '),
  );
  return [
    `${bench}: ${title}`,
    ...Object.entries(conditions).map(([name, value]) => `  ${name}: ${value}`),
    '',
    ...lines,
    '',
    ...Object.entries(results).map(([name, value]) => `${name}: ${number(value)}`),
  ].join('\n');
}

/** The median, and behind it the least and the most where they differ. */
function cell(way: Way, measure: string): string {
  const values = way.runs.map((run) => run[measure]).filter((value) => value !== undefined);
  if (values.length === 0) return '';
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? number(low) : `${number(median(values))} (${number(low)}..${number(high)})`;
}

function number(value: number): string {
  if (!Number.isFinite(value)) return '-';
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
