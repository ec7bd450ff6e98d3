/** This program's version, from package.json: what --version, banners, hello and JSON documents say. */
import { readFileSync } from 'node:fs';

/** From src/core two levels up; from dist/src/core three. */
const PLACES = ['../../package.json', '../../../package.json'];

function readVersion(): string {
  for (const place of PLACES) {
    try {
      const text = readFileSync(new URL(place, import.meta.url), 'utf8');
      const parsed: unknown = JSON.parse(text);
      if (typeof parsed === 'object' && parsed !== null && 'version' in parsed) return String(parsed.version);
    } catch {
      // Not there: the other place has it; a copy without package.json still runs.
    }
  }
  return '0.0.0';
}

export const VERSION = readVersion();
/** How this program names itself to its peer and in logs. */
export const SOFTWARE = `possync ${VERSION}`;
