/** The runbook that ships with the package: a store whose network is down cannot open a link. */
import { readFile } from 'node:fs/promises';

export interface RunbookPage {
  readonly code: string;
  /** One sentence. */
  readonly meaning: string;
  readonly who: string;
  readonly steps: readonly string[];
  readonly meanwhile: string;
  readonly how: string;
}

/** From src/cli two levels up; from dist/src/cli three. */
const PLACES = ['../../docs/runbook.md', '../../../docs/runbook.md'];

export async function readRunbook(): Promise<ReadonlyMap<string, RunbookPage>> {
  for (const place of PLACES) {
    try {
      return parseRunbook(await readFile(new URL(place, import.meta.url), 'utf8'));
    } catch {
      // Not there: the other place has it.
    }
  }
  return new Map(); // a copy without its docs still has the hints
}

export function parseRunbook(text: string): ReadonlyMap<string, RunbookPage> {
  const pages = text
    .split(/^## /m)
    .slice(1)
    .map((section): RunbookPage => {
      const [code = '', , meaning = ''] = section.split('\n');
      const item = (label: string): string =>
        new RegExp(`^- ${label}: (.+)$`, 'm').exec(section)?.[1]?.trim() ?? '';
      return {
        code: code.trim(),
        meaning: meaning.trim(),
        who: item('Who fixes it'),
        steps: [...section.matchAll(/^\d+\. (.+)$/gm)].map(([, step = '']) => step.trim()),
        meanwhile: item('Meanwhile'),
        how: item('How we know'),
      };
    });
  return new Map(pages.map((page) => [page.code, page]));
}
