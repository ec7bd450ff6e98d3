/** The codes of everything between a store and HQ: name lookup, TCP, TLS, HTTP, WebSocket. Part of the one table in errors.ts. */
import type { ErrorSpec } from './errors.ts';

export const LINK_CODES = {
  /** HQ cannot be reached over the network. */
  'PS-HQ-UNREACHABLE': {
    exit: 69,
    retry: 'slow',
    hint: 'run `possync diagnose`; the store keeps selling meanwhile',
  },
  /** The name of HQ does not exist. */
  'PS-DNS-NXDOMAIN': {
    exit: 69,
    retry: 'slow',
    hint: 'check the spelling of the address of HQ, or ask HQ; then: possync diagnose',
  },
  /** The name of HQ could not be looked up just now. */
  'PS-DNS-TEMP': { exit: 69, retry: 'slow', hint: 'check the router and its DNS server: possync diagnose' },
  /** HQ's machine is up, but nothing listens on its port, or a firewall rejects it. */
  'PS-TCP-REFUSED': {
    exit: 69,
    retry: 'slow',
    hint: 'ask HQ whether `possync hq serve` runs on this port; then: possync diagnose',
  },
  /** Packets to HQ vanish: nothing answered in time. */
  'PS-TCP-DROPPED': {
    exit: 69,
    retry: 'slow',
    hint: 'ask the network team to open the port of HQ; then: possync diagnose',
  },
  /** Something on the path cuts the connection at once. */
  'PS-TCP-RESET': {
    exit: 69,
    retry: 'slow',
    hint: 'check the firewall or intrusion prevention on the path: possync diagnose',
  },
  /** A router reports that HQ's network cannot be reached. */
  'PS-TCP-UNREACH': { exit: 69, retry: 'slow', hint: 'check the VPN or the line to HQ: possync diagnose' },
  /** This machine has no way to HQ's network: no cable, no address, no gateway. */
  'PS-TCP-NOROUTE': { exit: 69, retry: 'slow', hint: 'check the cable and the router: possync diagnose' },
  /** This machine's own firewall blocks possync. */
  'PS-TCP-LOCALPOLICY': {
    exit: 69,
    retry: 'slow',
    hint: 'allow possync to reach HQ in the firewall of this machine',
  },
  /** The proxy wants a user name and password. */
  'PS-PROXY-AUTH': {
    exit: 69,
    retry: 'slow',
    hint: 'put user and password into POSSYNC_PROXY, or ask for an exception for HQ',
  },
  /** The proxy forbids the port of HQ. */
  'PS-PROXY-DENIED': { exit: 69, retry: 'slow', hint: 'ask the network team to allow CONNECT to HQ' },
  /** The proxy cannot reach HQ. */
  'PS-PROXY-UPSTREAM': {
    exit: 69,
    retry: 'slow',
    hint: 'ask the network team why the proxy cannot reach HQ',
  },
  /** The proxy does not answer. */
  'PS-PROXY-DOWN': {
    exit: 69,
    retry: 'slow',
    hint: 'correct POSSYNC_PROXY, or ask the network team for the right proxy',
  },
  /** The proxy does not know CONNECT. */
  'PS-PROXY-NOCONNECT': { exit: 69, retry: 'slow', hint: 'use a proxy that allows CONNECT, or none' },
  /** HQ answers without TLS on this port. */
  'PS-TLS-PLAINTEXT': {
    exit: 69,
    retry: 'slow',
    hint: 'give HQ a certificate, or use http:// on a trusted network only',
  },
  /** The connection is cut exactly when encryption starts. */
  'PS-TLS-CUT': {
    exit: 69,
    retry: 'slow',
    hint: 'check for a firewall that inspects TLS: possync diagnose',
  },
  /** HQ and store have no TLS version or cipher in common. */
  'PS-TLS-VERSION': { exit: 69, retry: 'slow', hint: 'allow TLS 1.2 or newer on the way to HQ' },
  /** HQ uses a self-signed certificate that is not trusted here. */
  'PS-TLS-SELFSIGNED': {
    exit: 69,
    retry: 'slow',
    hint: 'copy the certificate of HQ to this store and set SYNC_TLS_CA_FILE',
  },
  /** HQ's certificate authority is not trusted here, an intermediate is missing, or a box replaces the certificate. */
  'PS-TLS-UNTRUSTED': {
    exit: 69,
    retry: 'slow',
    hint: 'set SYNC_TLS_CA_FILE to the authority of HQ, or run: possync diagnose',
  },
  /** HQ's certificate is for another name. */
  'PS-TLS-HOSTNAME': {
    exit: 69,
    retry: 'slow',
    hint: 'use the name in the certificate as the address of HQ, or reissue the certificate',
  },
  /** HQ's certificate has expired. Renew it on HQ; stores reconnect by themselves. */
  'PS-TLS-EXPIRED': {
    exit: 69,
    retry: 'slow',
    hint: 'renew the certificate of HQ; then `kill -HUP` on HQ reloads it without dropping stores',
  },
  /** HQ's certificate is not valid yet: one of the clocks is wrong. */
  'PS-TLS-NOTYET': { exit: 69, retry: 'slow', hint: 'correct the clock: sudo timedatectl set-ntp true' },
  /** The certificate, key or CA file cannot be used. */
  'PS-TLS-FILES': {
    exit: 78,
    retry: 'never',
    hint: 'correct SYNC_TLS_CERT_FILE and SYNC_TLS_KEY_FILE (or SYNC_TLS_CA_FILE)',
  },
  /** The connection ended in the middle of an HTTP exchange. */
  'PS-HTTP-CUT': {
    exit: 69,
    retry: 'soon',
    hint: 'wait; possync tries again. If it repeats: possync diagnose',
  },
  /** Another HQ than the one this store was enrolled with answers. */
  'PS-HTTP-OTHERHQ': {
    exit: 77,
    retry: 'minutes',
    hint: 'correct the address of HQ, or enrol with this HQ: possync store init --token-file FILE',
  },
  /** HQ answered with an error of its own. */
  'PS-HQ-ERROR': { exit: 69, retry: 'slow', hint: 'look at the log of HQ; nothing to do in the store' },
  /** HQ asks to come back later. */
  'PS-HQ-BUSY': { exit: 75, retry: 'slow', hint: 'wait; possync comes back by itself' },
  /** Too many credentials were refused from this address or under this kid; HQ looks at no unknown one for a while. */
  'PS-LOGIN-LIMIT': {
    exit: 75,
    retry: 'slow',
    hint: 'wait a minute; if it stays, look at HQ for who sends wrong credentials from the same address',
  },
  /** HQ's database is not migrated or away. */
  'PS-HQ-NOTREADY': { exit: 69, retry: 'slow', hint: 'run `possync hq init` at HQ and look at its log' },
  /** No HQ server reports its connections: it was killed, or its machine is down. */
  'PS-HQ-SERVE-DOWN': {
    exit: 69,
    retry: 'slow',
    hint: 'start the server at HQ: possync hq serve, and look at its log',
  },
  /** Something else than possync HQ answers at that address. */
  'PS-HTTP-NOTHQ': {
    exit: 69,
    retry: 'slow',
    hint: 'check the address and port of HQ, and any proxy between',
  },
  /** HQ and store speak no common protocol version. */
  'PS-VER-INCOMPATIBLE': { exit: 78, retry: 'minutes', hint: 'update possync on the older side' },
  /** A message breaks the protocol. */
  'PS-PROTOCOL': {
    exit: 70,
    retry: 'slow',
    hint: 'update both sides to the same version; if it persists, report it',
  },
  /** A message is larger than its limit. */
  'PS-TOO-LARGE': { exit: 70, retry: 'minutes', hint: 'report this with the type of record that caused it' },
  /** The WebSocket was closed or cut. */
  'PS-WS-CLOSED': { exit: 69, retry: 'soon', hint: 'wait; possync reconnects by itself' },
  /** No frame for two heartbeats. */
  'PS-WS-SILENT': {
    exit: 69,
    retry: 'soon',
    hint: 'wait; possync reconnects by itself. If it repeats: possync diagnose',
  },
  /** The upgrade to WebSocket was refused. */
  'PS-WS-REFUSED': {
    exit: 69,
    retry: 'slow',
    hint: 'run `possync diagnose`; sync goes on by polling where HTTP works',
  },
} as const satisfies Record<`PS-${string}`, ErrorSpec>;
