/** Which addresses never leave this machine. */
import { isIP } from 'node:net';

/** Of a host name or address as it stands in a URL; names other than localhost are not looked up. */
export function isLoopback(host: string): boolean {
  const plain = host.replace(/^\[|\]$/g, '').toLowerCase();
  if (plain === 'localhost' || plain.endsWith('.localhost')) return true;
  if (isIP(plain) === 4) return plain.startsWith('127.');
  return (
    isIP(plain) === 6 && (plain === '::1' || plain.startsWith('::ffff:127.') || plain.startsWith('::ffff:7f'))
  );
}

/** Whether what goes to this address (http, https, ws, wss) can be read on the way: no TLS, and it leaves this machine. */
export function isUnencrypted(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { protocol, hostname } = new URL(url);
  return (protocol === 'http:' || protocol === 'ws:') && !isLoopback(hostname);
}
