/** Every setting, once: its type, default, environment name, key in the config file, flag and help. */
import { CREDENTIAL_LIFE_MS, DEFAULT_PORT, ROTATION_MAX_MS } from '../protocol/http.ts';
import {
  choice,
  duration,
  durationOrOff,
  hqUrl,
  httpProxy,
  integer,
  listenAddress,
  text,
  yesNo,
  type Codec,
  type ListenAddress,
} from './codecs.ts';

export type Env = Readonly<Record<string, string | undefined>>;

export interface OptionSpec<T> {
  readonly env: string;
  /** commander's form; absent where argv would leak it. */
  readonly flag?: string;
  readonly codec: Codec<T>;
  readonly fallback: (env: Env) => T;
  /** The default as people read it. */
  readonly shown: string;
  readonly help: string;
  /** Its value is never printed, not even in an error about it. */
  readonly secret?: true;
}

const option = <T>(spec: OptionSpec<T>): OptionSpec<T> => spec;
const optional = <T>(spec: Omit<OptionSpec<T>, 'fallback' | 'codec'> & { codec: Codec<T> }) =>
  option<T | undefined>({ ...spec, fallback: () => undefined });

export const OPTIONS = {
  databaseUrl: optional<string>({
    env: 'DATABASE_URL',
    codec: text,
    shown: 'PGHOST, PGUSER, PGDATABASE …',
    help: 'the database of this side; it is HQ or one store',
    secret: true,
  }),
  listenPort: option<number>({
    env: 'SYNC_LISTEN_PORT',
    flag: '--port <number>',
    codec: integer(0, 65_535),
    fallback: () => DEFAULT_PORT,
    shown: String(DEFAULT_PORT),
    help: 'port of HQ for HTTP and WebSocket; also the default port of an HQ address',
  }),
  listenHost: optional<string>({
    env: 'SYNC_LISTEN_HOST',
    flag: '--host <address>',
    codec: text,
    shown: '127.0.0.1 without TLS, 0.0.0.0 with',
    help: 'address that HQ listens on',
  }),
  tlsCertFile: optional<string>({
    env: 'SYNC_TLS_CERT_FILE',
    flag: '--tls-cert-file <file>',
    codec: text,
    shown: 'none',
    help: 'certificate of HQ with its intermediates (PEM)',
  }),
  tlsKeyFile: optional<string>({
    env: 'SYNC_TLS_KEY_FILE',
    flag: '--tls-key-file <file>',
    codec: text,
    shown: 'none',
    help: 'private key of HQ (PEM)',
  }),
  tlsCaFile: optional<string>({
    env: 'SYNC_TLS_CA_FILE',
    flag: '--tls-ca-file <file>',
    codec: text,
    shown: "the system's",
    help: 'certificate authority that a store trusts for HQ (PEM)',
  }),
  allowPlaintext: option<boolean>({
    env: 'SYNC_ALLOW_PLAINTEXT',
    flag: '--allow-plaintext',
    codec: yesNo,
    fallback: () => false,
    shown: '0',
    help: 'allow plain HTTP beyond loopback',
  }),
  credentialLifeMs: option<number | 'off'>({
    env: 'SYNC_CREDENTIAL_LIFE',
    flag: '--credential-life <duration>',
    codec: durationOrOff(60_000, ROTATION_MAX_MS),
    fallback: () => CREDENTIAL_LIFE_MS,
    shown: '365d',
    help: "how long a store's credential lives; its daemon renews it after two thirds. off: until it is revoked",
  }),
  pushIntervalMs: option<number>({
    env: 'SYNC_PUSH_INTERVAL',
    flag: '--push-interval <duration>',
    codec: duration(100, 86_400_000),
    fallback: () => 60_000,
    shown: '60s',
    help: 'how often a store sends what has normal priority',
  }),
  hqUrl: optional<string>({
    env: 'SYNC_HQ_URL',
    flag: '--hq-url <url>',
    codec: hqUrl,
    shown: 'from the enrolment token',
    help: 'address of HQ, in place of the one enrolled with',
  }),
  tokenFile: optional<string>({
    env: 'SYNC_TOKEN_FILE',
    flag: '--token-file <file>',
    codec: text,
    shown: 'none',
    help: 'file with the enrolment token; - reads it from standard input',
  }),
  stateDir: option<string>({
    env: 'POSSYNC_STATE_DIR',
    flag: '--state-dir <dir>',
    codec: text,
    fallback: (env) => env.STATE_DIRECTORY ?? './state',
    shown: '$STATE_DIRECTORY, else ./state',
    help: "directory of the credential and the daemon's socket",
  }),
  logDir: option<string>({
    env: 'LOG_DIR',
    flag: '--log-dir <dir>',
    codec: text,
    fallback: (env) => env.LOGS_DIRECTORY ?? 'logs',
    shown: '$LOGS_DIRECTORY, else logs',
    help: 'directory of the log files',
  }),
  logLevel: option<'error' | 'warn' | 'info' | 'debug'>({
    env: 'LOG_LEVEL',
    flag: '--log-level <level>',
    codec: choice('error', 'warn', 'info', 'debug'),
    fallback: () => 'info',
    shown: 'info',
    help: 'error, warn, info or debug',
  }),
  statusListen: option<ListenAddress | 'off'>({
    env: 'POSSYNC_STATUS_LISTEN',
    flag: '--status-listen <address>',
    codec: listenAddress,
    fallback: () => ({ host: '127.0.0.1', port: 3002 }),
    shown: '127.0.0.1:3002',
    help: "where a store's daemon serves its status; off turns it off",
  }),
  statusOrigin: optional<string>({
    env: 'POSSYNC_STATUS_ORIGIN',
    flag: '--status-origin <origin>',
    codec: text,
    shown: 'none',
    help: 'the page (http://manager.local) whose scripts may read the status of a store',
  }),
  metricsListen: option<ListenAddress | 'off'>({
    env: 'POSSYNC_METRICS_LISTEN',
    flag: '--metrics-listen <address>',
    codec: listenAddress,
    fallback: () => ({ host: '127.0.0.1', port: 9464 }),
    shown: '127.0.0.1:9464',
    help: 'where /metrics is served; off turns it off',
  }),
  proxy: optional<string>({
    env: 'POSSYNC_PROXY',
    codec: httpProxy,
    shown: 'HTTPS_PROXY unless NO_PROXY',
    help: 'HTTP proxy towards HQ, for HTTP and WebSocket; it must allow CONNECT',
    secret: true,
  }),
} as const;

export type OptionName = keyof typeof OPTIONS;
type Value<O> = O extends OptionSpec<infer T> ? T : never;
export type Config = { readonly [K in OptionName]: Value<(typeof OPTIONS)[K]> };

export const OPTION_NAMES = Object.keys(OPTIONS) as readonly OptionName[];

/** Names that possync reads besides the settings, so that they are no typo. */
export const OTHER_ENV: ReadonlyMap<string, string> = new Map([
  ['POSSYNC_CONFIG', 'config file, in place of ./possync.json or /etc/possync/{store,hq}.json'],
  ['POSSYNC_NO_COLOR', 'as NO_COLOR, for possync alone'],
  ['POSSYNC_COLORBLIND', '1 shows blue in place of green'],
]);

/** Key in the config file: `listenPort` is `listen_port`, `pushIntervalMs` is `push_interval`. */
export function fileKey(name: OptionName): string {
  return name.replace(/Ms$/, '').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
