/** `possync help exit-codes` and `possync help environment`: made from the tables that the program uses. */
import { OPTIONS, OPTION_NAMES, OTHER_ENV } from '../config/options.ts';
import { ERRORS, EXIT } from '../core/errors.ts';

const EXIT_MEANING: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: 'done; green; no failed check',
  no: 'it worked, and the answer is no: red, a failed check, the wait ran out',
  warn: 'only with --strict: warnings, no failures',
  unknown: 'only with --format nagios: the checks themselves failed',
  usage: 'unknown command, flag or value; or the wrong side',
  noInput: 'a config or token file is missing or unreadable',
  unavailable: 'HQ, the daemon or the database could not be reached; nothing changed, retry is safe',
  internal: 'a bug in possync',
  cannotCreate: 'a needed file cannot be written; nothing changed',
  temporary: 'locked by another run, or part is still pending',
  notPermitted: 'token refused, right missing, file permissions',
  config: 'settings invalid, port taken, schema not migrated',
  interrupted: 'stopped by Ctrl-C',
};

function exitCodes(): string {
  const lines = Object.entries(EXIT_MEANING).map(
    ([name, meaning]) => `  ${String(EXIT[name as keyof typeof EXIT]).padStart(3)}  ${meaning}`,
  );
  return `Exit codes of every command:\n\n${lines.join('\n')}\n`;
}

function environment(): string {
  const settings = OPTION_NAMES.map((name) => OPTIONS[name]);
  const width = Math.max(...settings.map(({ env }) => env.length));
  const lines = settings.map(({ env, help, shown }) => `  ${env.padEnd(width)}  ${help} (default: ${shown})`);
  const others = [...OTHER_ENV].map(([name, help]) => `  ${name.padEnd(width)}  ${help}`);
  return [
    'Settings: a flag beats the environment, which beats the config file, which beats the default.\n',
    ...lines,
    ...others,
    '',
    '  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY are read where POSSYNC_PROXY is not set.',
    '  NO_COLOR, FORCE_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM, CI and PGHOST … are honoured as well.',
    '  There is no SYNC_TOKEN: a secret in the environment leaks and cannot be rotated.\n',
  ].join('\n');
}

function codes(): string {
  const width = Math.max(...Object.keys(ERRORS).map((code) => code.length));
  const lines = Object.entries(ERRORS).map(
    ([code, { exit, hint }]) => `  ${code.padEnd(width)}  exit ${String(exit).padStart(2)}  ${hint}`,
  );
  return `Codes of failures, with their exit code and what to do:\n\n${lines.join('\n')}\n`;
}

export const HELP_TOPICS: Readonly<Record<string, () => string>> = {
  'exit-codes': exitCodes,
  environment,
  codes,
};
