/**
 * The one gate for colour, width, symbols and spinner. Nothing else in possync looks at TTYs or NO_COLOR.
 *
 * chalk's default instance ignores NO_COLOR, cli-table3 colours into pipes, ora writes escapes into pipes and loops
 * for ever on a terminal with 0 columns: so none of them is asked anything, and each stream is judged for itself.
 */
import { Chalk, type ChalkInstance } from 'chalk';

export interface OutputStream {
  write(text: string): boolean;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface TermFlags {
  /** --color always|never|auto; --no-color is never. */
  readonly color: 'always' | 'never' | 'auto';
  readonly ascii: boolean;
  readonly json: boolean;
}

type Env = Readonly<Record<string, string | undefined>>;

/** Symbols that carry a meaning without their colour. */
export interface Glyphs {
  readonly on: string;
  readonly off: string;
  readonly pass: string;
  readonly warn: string;
  readonly fail: string;
  readonly skip: string;
  readonly to: string;
  readonly cut: string;
  readonly dot: string;
  readonly dash: string;
}

const UNICODE: Glyphs = {
  on: '●',
  off: '○',
  pass: '✓',
  warn: '!',
  fail: '✗',
  skip: '–',
  to: '→',
  cut: '…',
  dot: '·',
  dash: '–',
};
const ASCII: Glyphs = {
  on: '[+]',
  off: '[-]',
  pass: '[+]',
  warn: '[!]',
  fail: '[x]',
  skip: '[ ]',
  to: '->',
  cut: '...',
  dot: '|',
  dash: '-',
};

/** What a renderer may use on one stream. */
export interface Paint {
  readonly level: 0 | 1;
  readonly isTTY: boolean;
  /** The screen may be cleared and drawn again: by escape sequences, which whoever wants no colour wants neither. */
  readonly cursor: boolean;
  /** Columns of a terminal; 80 where it does not say (serial consoles report 0). */
  readonly width: number;
  readonly glyphs: Glyphs;
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly caution: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly bold: (text: string) => string;
}

export interface Term {
  readonly out: Paint;
  readonly err: Paint;
  /** A spinner is possible: stderr is a real terminal and nobody parses the output. */
  readonly animated: boolean;
  readonly json: boolean;
}

export function createTerm(stdout: OutputStream, stderr: OutputStream, flags: TermFlags, env: Env): Term {
  const paintFor = (stream: OutputStream): Paint =>
    createPaint(stream, colourLevel(stream, flags, env), useAscii(flags, env), env);
  const [out, err] = [paintFor(stdout), paintFor(stderr)];
  const animated = err.cursor && !given(env.CI) && !flags.json && !flags.ascii;
  return { out, err, animated, json: flags.json };
}

function given(value: string | undefined): boolean {
  return value !== undefined && value !== '';
}

function colourLevel(stream: OutputStream, flags: TermFlags, env: Env): 0 | 1 {
  if (flags.color === 'always') return 1;
  if (flags.color === 'never') return 0;
  if (given(env.POSSYNC_NO_COLOR) || given(env.NO_COLOR)) return 0;
  if (given(env.FORCE_COLOR)) return env.FORCE_COLOR === '0' ? 0 : 1;
  if (given(env.CLICOLOR_FORCE) && env.CLICOLOR_FORCE !== '0') return 1;
  return isScreen(stream, env) && env.CLICOLOR !== '0' ? 1 : 0;
}

/** A terminal that does not know its width (serial console, `docker run -t`) is asked for nothing but text. */
function isScreen(stream: OutputStream, env: Env): boolean {
  return stream.isTTY === true && env.TERM !== 'dumb' && columnsOf(stream, env) > 0;
}

function columnsOf(stream: OutputStream, env: Env): number {
  const said = Number(given(env.COLUMNS) ? env.COLUMNS : stream.columns);
  return Number.isSafeInteger(said) && said > 0 ? said : 0;
}

/** Containers often set no locale at all and can show UTF-8 all the same; one that says otherwise is believed. */
function useAscii(flags: TermFlags, env: Env): boolean {
  const locale = [env.LC_ALL, env.LC_CTYPE, env.LANG].find(given);
  return flags.ascii || (locale !== undefined && !/utf-?8/i.test(locale));
}

function createPaint(stream: OutputStream, level: 0 | 1, ascii: boolean, env: Env): Paint {
  const chalk: ChalkInstance = new Chalk({ level });
  const columns = columnsOf(stream, env);
  const colourblind = env.POSSYNC_COLORBLIND === '1';
  const cursor = isScreen(stream, env) && level > 0;
  return {
    level,
    isTTY: stream.isTTY === true,
    cursor,
    width: columns > 0 ? columns : 80,
    glyphs: ascii ? ASCII : UNICODE,
    good: (text) => (colourblind ? chalk.blue(text) : chalk.green(text)),
    bad: (text) => chalk.red(text),
    caution: (text) => chalk.yellow(text),
    dim: (text) => chalk.dim(text),
    bold: (text) => chalk.bold(text),
  };
}
