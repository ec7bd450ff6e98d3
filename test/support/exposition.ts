/** Reads Prometheus text strictly, by its rules: what a real scraper would refuse or misread is an error here. */
export interface Exposition {
  /** By series as it stands in the text, labels sorted: `name{a="1",b="2"}`. */
  readonly series: ReadonlyMap<string, number>;
  readonly types: ReadonlyMap<string, string>;
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (-?\d.*|NaN|[+-]Inf)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"(,|$)/y;

export function parseExposition(text: string): Exposition {
  const types = new Map<string, string>();
  const series = new Map<string, number>();
  if (!text.endsWith('\n')) throw new Error('the text does not end with a line feed');
  for (const line of text.split('\n').filter((each) => each !== '')) {
    const [, kind, about, rest] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (about !== undefined && rest !== undefined) {
      if (kind === 'TYPE' && types.has(about)) throw new Error(`two types: ${line}`);
      if (kind === 'TYPE') types.set(about, rest);
      continue;
    }
    const [, name, labels, value] = SAMPLE.exec(line) ?? [];
    if (name === undefined || value === undefined) throw new Error(`no sample: ${line}`);
    const family = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '');
    const type = types.get(family);
    if (type === undefined) throw new Error(`no type before ${line}`);
    if (family.startsWith('possync_') && (type === 'counter') !== name.endsWith('_total'))
      throw new Error(`_total is for counters, and only for them: ${line}`);
    const key = `${name}${sortedLabels(labels, line)}`;
    if (series.has(key)) throw new Error(`twice: ${key}`);
    series.set(key, Number(value.replace('Inf', 'Infinity')));
  }
  return { series, types };
}

function sortedLabels(text: string | undefined, line: string): string {
  if (text === undefined) return '';
  const inner = text.slice(1, -1);
  const found: string[] = [];
  LABEL.lastIndex = 0;
  for (let at = 0; at < inner.length; at = LABEL.lastIndex) {
    const match = LABEL.exec(inner);
    if (match === null) throw new Error(`broken labels: ${line}`);
    found.push(`${match[1]}="${match[2]}"`);
  }
  return `{${found.sort().join(',')}}`;
}
