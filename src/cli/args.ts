/** What a command was given on the command line, read by kind; a wrong value is a usage error that names the flag. */
import { parseDuration } from '../config/codecs.ts';
import { PossyncError } from '../core/errors.ts';

export class Args {
  readonly #positional: readonly (string | readonly string[] | undefined)[];
  readonly #options: Readonly<Record<string, unknown>>;

  constructor(
    positional: readonly (string | readonly string[] | undefined)[],
    options: Readonly<Record<string, unknown>>,
  ) {
    this.#positional = positional;
    this.#options = options;
  }

  /** A required argument; commander has made sure that it is there. */
  at(index: number): string {
    const value = this.#positional[index];
    if (typeof value !== 'string') throw new PossyncError('PS-USAGE', `argument ${index + 1} is missing`);
    return value;
  }

  maybeAt(index: number): string | undefined {
    const value = this.#positional[index];
    return typeof value === 'string' ? value : undefined;
  }

  /** A variadic argument. */
  listAt(index: number): readonly string[] {
    const value = this.#positional[index];
    if (value === undefined) return [];
    return typeof value === 'string' ? [value] : value;
  }

  text(name: string): string | undefined {
    const value = this.#options[name];
    return typeof value === 'string' ? value : undefined;
  }

  /** An option that takes several values. */
  list(name: string): readonly string[] {
    const value = this.#options[name];
    return Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string') : [];
  }

  required(name: string): string {
    const value = this.text(name);
    if (value === undefined || value === '') throw new PossyncError('PS-USAGE', `${flagOf(name)} is missing`);
    return value;
  }

  flag(name: string): boolean {
    return this.#options[name] === true;
  }

  given(name: string): boolean {
    return this.#options[name] !== undefined && this.#options[name] !== false;
  }

  integer(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    if (!/^\d{1,12}$/.test(value))
      throw new PossyncError('PS-USAGE', `${flagOf(name)} must be a whole number, not '${value}'`);
    return Number(value);
  }

  durationMs(name: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const ms = parseDuration(value);
    if (ms === undefined)
      throw new PossyncError(
        'PS-USAGE',
        `${flagOf(name)} must be a duration such as 90s or 10m, not '${value}'`,
      );
    return ms;
  }

  choice<const T extends string>(name: string, words: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const found = words.find((word) => word === value);
    if (found === undefined)
      throw new PossyncError('PS-USAGE', `${flagOf(name)} must be ${words.join(', ')}, not '${value}'`);
    return found;
  }
}

function flagOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
