/**
 * Which HTTP proxy leads to HQ: decided here, for the daemon, every command and `possync diagnose` alike.
 *
 * POSSYNC_PROXY was set for HQ and is used for HQ whatever else is set. Otherwise the environment's: HTTPS_PROXY (for
 * https and wss) or HTTP_PROXY, then ALL_PROXY, small letters first, unless NO_PROXY names HQ or HQ is on this machine.
 */
import { BlockList, isIP } from 'node:net';
import type { ErrorCode } from './errors.ts';
import { isLoopback } from './loopback.ts';

export type ProxyEnvironment = Readonly<Record<string, string | undefined>>;

export interface ProxySettings {
  /** POSSYNC_PROXY. */
  readonly explicit: string | undefined;
  readonly env: ProxyEnvironment;
}

/** Where to go. */
export interface ProxyTarget {
  readonly secure: boolean;
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Of an http(s) address. */
export function targetOf(url: string): ProxyTarget {
  const { protocol, hostname, port } = new URL(url);
  const secure = protocol === 'https:';
  return {
    secure,
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port === '' ? (secure ? 443 : 80) : port),
  };
}

/** The address of the proxy, user and password in it: never to be printed but by `host`. */
export function proxyFor(target: ProxyTarget, { explicit, env }: ProxySettings): URL | undefined {
  if (explicit !== undefined) return parseProxy(explicit);
  const found = environmentProxy(target, env);
  return found === undefined || isExempt(target, env) ? undefined : parseProxy(found.value);
}

/** The variable of the environment that is meant for such a target, whether or not it applies. */
export function environmentProxy(
  { secure }: Pick<ProxyTarget, 'secure'>,
  env: ProxyEnvironment,
): { readonly name: string; readonly value: string } | undefined {
  for (const base of [secure ? 'https_proxy' : 'http_proxy', 'all_proxy'])
    for (const name of [base, base.toUpperCase()]) {
      const value = env[name]?.trim() ?? '';
      if (value !== '') return { name, value };
    }
  return undefined;
}

/** `proxy:8080` is what people write. undefined: no address of an HTTP proxy (SOCKS is none). */
export function parseProxy(text: string): URL | undefined {
  try {
    const url = new URL(text.includes('://') ? text : `http://${text}`);
    return url.protocol === 'http:' && url.hostname !== '' ? url : undefined;
  } catch {
    return undefined;
  }
}

/** NO_PROXY as curl and others read it: names with their subdomains, `.name`, `*`, addresses, networks, each with a port or without. */
export function isExempt({ host, port }: ProxyTarget, env: ProxyEnvironment): boolean {
  if (isLoopback(host)) return true;
  const name = host.toLowerCase();
  return `${env.no_proxy ?? ''},${env.NO_PROXY ?? ''}`
    .split(/[\s,]+/)
    .filter((part) => part !== '')
    .some((part) => {
      if (part === '*') return true;
      const [, named, givenPort] = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(part) ?? [undefined, part];
      if (givenPort !== undefined && Number(givenPort) !== port) return false;
      const plain = named.replace(/^\[|\]$/g, '').toLowerCase();
      if (isIP(name) !== 0) return isWithin(name, plain);
      const domain = plain.replace(/^\*?\./, '');
      return domain !== '' && (name === domain || name.endsWith(`.${domain}`));
    });
}

/** `10.0.0.0/8` or one address. */
function isWithin(address: string, network: string): boolean {
  const [base = '', bits] = network.split('/');
  const family = isIP(base);
  if (family === 0 || family !== isIP(address)) return false;
  const longest = family === 4 ? 32 : 128;
  const prefix = bits === undefined ? longest : Number(bits);
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > longest) return false;
  const list = new BlockList();
  const type = family === 4 ? 'ipv4' : 'ipv6';
  list.addSubnet(base, prefix, type);
  return list.check(address, type);
}

/** Host and port of the proxy; without a port it is that of http, which URL drops even where it was written. */
export function proxyAddress(proxy: URL): { readonly host: string; readonly port: number } {
  const port = proxy.port === '' ? 80 : Number(proxy.port);
  return { host: proxy.hostname.replace(/^\[|\]$/g, ''), port };
}

/** What a CONNECT asks for: path and headers. */
export function connectRequest(
  proxy: URL,
  { host, port }: Pick<ProxyTarget, 'host' | 'port'>,
): { readonly path: string; readonly headers: Readonly<Record<string, string>> } {
  const path = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  const { username, password } = proxy;
  const login = `${decoded(username)}:${decoded(password)}`;
  return {
    path,
    headers: {
      host: path,
      ...(username === '' ? {} : { 'proxy-authorization': `Basic ${Buffer.from(login).toString('base64')}` }),
    },
  };
}

/** A lone % is what a password may hold that nobody has encoded. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What another answer than 200 to CONNECT means. */
export function proxyRefusal(status: number, wanted: string): readonly [code: ErrorCode, message: string] {
  if (status === 407) return ['PS-PROXY-AUTH', 'the proxy wants a user name and password'];
  if (status === 403) return ['PS-PROXY-DENIED', `the proxy forbids ${wanted}`];
  if (status === 502 || status === 503 || status === 504)
    return ['PS-PROXY-UPSTREAM', `the proxy cannot reach ${wanted} (${status})`];
  if (status === 405 || status === 501 || status === 400 || status === 404)
    return ['PS-PROXY-NOCONNECT', `the proxy does not know CONNECT (${status})`];
  return ['PS-PROXY-DENIED', `the proxy answers ${status} to CONNECT ${wanted}`];
}
