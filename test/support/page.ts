/** Pages of the feed as values, for tests that look into them or make wrong ones. */
import type { PageHead } from '../../src/protocol/messages.ts';
import { writePage } from '../../src/protocol/page.ts';

/** type, key, position, document. */
export type WireRow = [type: string, pk: string, pos: number, doc: unknown];

export interface WirePage extends Omit<PageHead, 'rows'> {
  rows: WireRow[];
}

const CODES: Readonly<Record<string, string>> = { t: '\t', n: '\n', r: '\r', '\\': '\\' };

function read(value: string): string {
  return value.replaceAll(/\\(.)/g, (_, code: string) => CODES[code] ?? code);
}

function written(value: string): string {
  return value.replaceAll(/[\\\t\n\r]/g, (found) => {
    const [code = ''] = Object.entries(CODES).find(([, meant]) => meant === found) ?? [];
    return `\\${code}`;
  });
}

export function linesToRows(lines: string): WireRow[] {
  return lines
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const [type = '', pk = '', pos = '', doc = ''] = line.split('\t');
      return [read(type), read(pk), Number(pos), doc === '\\N' ? null : JSON.parse(read(doc))];
    });
}

export function toWirePage(body: Buffer): WirePage {
  const text = body.toString();
  const end = text.indexOf('\n');
  return { ...(JSON.parse(text.slice(0, end)) as PageHead), rows: linesToRows(text.slice(end + 1)) };
}

export function fromWirePage({ rows, ...head }: WirePage): { result: 'page'; body: Buffer } {
  const lines = rows.map(
    ([type, pk, pos, doc]) =>
      `${[written(type), written(pk), pos, doc === null ? '\\N' : written(JSON.stringify(doc))].join('\t')}\n`,
  );
  return {
    result: 'page',
    body: Buffer.from(writePage({ ...head, rows: rows.length }, lines.join(''))),
  };
}
