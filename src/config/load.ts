/**
 * Settings from flags, environment, config file and defaults, in this order; every fault is told at once.
 *
 * A typo must not silently mean a default: unknown keys of the file are faults, unknown SYNC_… and POSSYNC_…
 * variables are warnings (they may belong to another program).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PossyncError } from '../core/errors.ts';
import { redact } from '../core/secret.ts';
import { didYouMean } from '../core/nearest.ts';
import {
  fileKey,
  OPTION_NAMES,
  OPTIONS,
  OTHER_ENV,
  type Config,
  type Env,
  type OptionName,
  type OptionSpec,
} from './options.ts';

export interface ConfigInput {
  /** Texts of flags by option; absent = not given. */
  readonly flags: Readonly<Partial<Record<OptionName, string>>>;
  readonly env: Env;
  /** --config; beats POSSYNC_CONFIG. */
  readonly configFile?: string | undefined;
  /** Which packaged file applies: /etc/possync/hq.json or store.json. */
  readonly side?: 'hq' | 'store' | undefined;
  readonly root?: boolean;
  /** Returns the faults instead of throwing them, with defaults in their place: for the command that explains them. */
  readonly lenient?: boolean;
}

export type Source = 'flag' | 'environment' | 'file' | 'default';

export interface LoadedConfig {
  readonly config: Config;
  readonly sources: Readonly<Record<OptionName, Source>>;
  readonly file: string | undefined;
  readonly warnings: readonly string[];
  /** Only with `lenient`. */
  readonly faults: readonly string[];
}

/** Throws PS-CFG-INVALID naming every fault, or PS-FILE-READ for a config file that was named and cannot be read. */
export function loadConfig(input: ConfigInput): LoadedConfig {
  const faults: string[] = [];
  const file = readConfigFile(input, faults);
  const values: Partial<Record<OptionName, unknown>> = {};
  const sources: Partial<Record<OptionName, Source>> = {};
  for (const name of OPTION_NAMES) {
    const spec = OPTIONS[name] as OptionSpec<unknown>;
    const found = firstGiven(name, spec, input, file.values);
    sources[name] = found?.source ?? 'default';
    values[name] = found === undefined ? spec.fallback(input.env) : spec.codec.parse(found.text);
    if (found !== undefined && values[name] === undefined) {
      const shown = spec.secret === true ? 'its value' : `'${redact(found.text)}'`;
      faults.push(`${found.label}: ${shown} is not ${spec.codec.rule}`);
      values[name] = spec.fallback(input.env);
    }
  }
  if (faults.length > 0 && input.lenient !== true) {
    throw new PossyncError(
      'PS-CFG-INVALID',
      faults.length === 1 ? 'a setting is wrong' : `${faults.length} settings are wrong`,
      { why: faults.join('\n'), details: { faults } },
    );
  }
  return {
    // Each value came from its own codec or fallback, so the record has the types of the table.
    config: values as Config,
    sources: sources as Record<OptionName, Source>,
    file: file.path,
    warnings: unknownNames(input.env),
    faults,
  };
}

interface Given {
  readonly text: string;
  readonly source: Source;
  readonly label: string;
}

function firstGiven(
  name: OptionName,
  spec: OptionSpec<unknown>,
  input: ConfigInput,
  file: Readonly<Record<string, string>>,
): Given | undefined {
  const flag = input.flags[name];
  if (flag !== undefined)
    return { text: flag, source: 'flag', label: spec.flag?.split(' ')[0] ?? fileKey(name) };
  const fromEnv = input.env[spec.env];
  // An empty variable is how compose files and units say "not set".
  if (fromEnv !== undefined && fromEnv !== '') {
    return { text: fromEnv, source: 'environment', label: spec.env };
  }
  const key = fileKey(name);
  const fromFile = file[key];
  return fromFile === undefined ? undefined : { text: fromFile, source: 'file', label: `${key} (file)` };
}

interface ConfigFile {
  readonly path: string | undefined;
  readonly values: Readonly<Record<string, string>>;
}

function readConfigFile(input: ConfigInput, faults: string[]): ConfigFile {
  const found = findConfigFile(input, faults);
  if (found === undefined) return { path: undefined, values: {} };
  let parsed: unknown;
  try {
    parsed = JSON.parse(stripComments(found.text));
  } catch (error) {
    // Node quotes the text around the fault, and a password may stand there.
    const why = error instanceof Error ? error.message.replace(/, (?:\.{3})?".*$/su, '') : String(error);
    faults.push(`${found.path}: no valid JSON (${why})`);
    return { path: found.path, values: {} };
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    faults.push(`${found.path}: must hold one object`);
    return { path: found.path, values: {} };
  }
  const known = new Set(OPTION_NAMES.map(fileKey));
  const values: Record<string, string> = {};
  for (const [key, value] of Object.entries(parsed)) {
    if (key === '$schema') continue;
    if (!known.has(key)) {
      faults.push(`${key} (file): unknown setting.${didYouMean(key, known)}`);
    } else if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
      values[key] = String(value);
    } else {
      faults.push(`${key} (file): must be text, a number, true or false`);
    }
  }
  return { path: found.path, values };
}

function findConfigFile(input: ConfigInput, faults: string[]): { path: string; text: string } | undefined {
  const named = input.configFile ?? input.env.POSSYNC_CONFIG;
  if (named !== undefined && named !== '') {
    try {
      return { path: named, text: readFileSync(named, 'utf8') };
    } catch (error) {
      if (input.lenient === true) {
        faults.push(`cannot read ${named}`);
        return undefined;
      }
      throw new PossyncError('PS-FILE-READ', `cannot read the config file ${named}`, {
        why: error instanceof Error ? error.message : String(error),
        cause: error,
      });
    }
  }
  for (const path of usualPlaces(input)) {
    try {
      return { path, text: readFileSync(path, 'utf8') };
    } catch {
      // None there, or not ours to read: a file that nobody named is optional.
    }
  }
  return undefined;
}

function usualPlaces({ env, side, root }: ConfigInput): string[] {
  const places = ['possync.json'];
  const home = env.XDG_CONFIG_HOME ?? (env.HOME === undefined ? undefined : join(env.HOME, '.config'));
  if (root !== true && home !== undefined) places.push(join(home, 'possync', 'config.json'));
  if (side !== undefined) places.push(`/etc/possync/${side}.json`);
  return places;
}

/** Blanks `//` and block comments outside strings; line breaks stay, so that JSON errors name the right line. */
export function stripComments(json: string): string {
  return json.replace(/"(?:[^"\\]|\\.)*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (part) =>
    part.startsWith('"') ? part : part.replace(/[^\n]/g, ' '),
  );
}

function unknownNames(env: Env): string[] {
  const known = new Set<string>([...OPTION_NAMES.map((name) => OPTIONS[name].env), ...OTHER_ENV.keys()]);
  return Object.keys(env)
    .filter((name) => /^(SYNC|POSSYNC)_/.test(name) && !known.has(name) && !name.startsWith('POSSYNC_TEST_'))
    .map((name) =>
      name === 'SYNC_TOKEN'
        ? 'SYNC_TOKEN is not read: a secret in the environment leaks. Use SYNC_TOKEN_FILE.'
        : `Unknown ${name}.${didYouMean(name, known)}`,
    );
}

/** Where HQ listens: beyond loopback only with TLS, unless told otherwise. */
export function listenHostOf(config: Config): string {
  return config.listenHost ?? (config.tlsCertFile === undefined ? '127.0.0.1' : '0.0.0.0');
}
