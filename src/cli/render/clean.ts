/**
 * What may reach a stream of the terminal: text, line feeds, tabs, our own colours, and our own move of the cursor.
 *
 * Names, error texts and keys are typed by people and sent by other machines. A control sequence among them would move
 * the cursor, rename the window or paint over a line above: so every byte goes through here, whoever wrote it.
 */
import type { OutputStream, Paint } from './term.ts';

/** Where a picture is drawn again: only at the very beginning of what is written. */
export const CURSOR = {
  home: '\u001b[H\u001b[2J',
  up: (lines: number): string => `\u001b[${lines}A\u001b[J`,
} as const;

const OWN_MOVE = /^\u001b\[(?:H\u001b\[2J|\d+A\u001b\[J)/;
/** What chalk writes for Paint: bold, dim, red, green, yellow, blue, and their ends. */
const OWN_COLOUR = '\u001b\\[(?:1|2|22|31|32|33|34|39)m';
const CONTROL = /[^\P{Cc}\n\t]/u;
const CONTROL_ALL = /[^\P{Cc}\n\t]/gu;
const COLOUR_OR_CONTROL = new RegExp(`${OWN_COLOUR}|[^\\P{Cc}\\n\\t]`, 'gu');

/** Control characters become `?`; colours stay only where colours are. */
export function cleanText({ level }: Pick<Paint, 'level'>, text: string): string {
  if (!CONTROL.test(text)) return text; // a million lines of JSON have none
  return level === 0
    ? text.replace(CONTROL_ALL, '?')
    : text.replace(COLOUR_OR_CONTROL, (found) => (found.length > 1 ? found : '?'));
}

/** The stream as commands get it. */
export function cleanStream(stream: OutputStream, paint: Paint): OutputStream {
  return {
    write: (text) => {
      const [move = ''] = paint.cursor ? (OWN_MOVE.exec(text) ?? []) : [];
      return stream.write(move + cleanText(paint, text.slice(move.length)));
    },
    get isTTY() {
      return stream.isTTY;
    },
    get columns() {
      return stream.columns;
    },
  };
}
