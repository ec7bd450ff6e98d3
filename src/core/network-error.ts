/** Names a failure on the way to HQ by the code of the socket, TLS or DNS layer, never by its message. */
import { codeOf } from './classify.ts';
import { PossyncError, type ErrorCode } from './errors.ts';

const BY_CODE: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  ENOTFOUND: ['PS-DNS-NXDOMAIN', 'the name of HQ does not exist'],
  EAI_AGAIN: ['PS-DNS-TEMP', 'the name of HQ cannot be looked up now'],
  EAI_FAIL: ['PS-DNS-TEMP', 'the name of HQ cannot be looked up now'],
  ECONNREFUSED: ['PS-TCP-REFUSED', 'the connection to HQ was refused'],
  ETIMEDOUT: ['PS-TCP-DROPPED', 'HQ did not answer in time'],
  ECONNRESET: ['PS-TCP-RESET', 'the connection to HQ was cut'],
  EPIPE: ['PS-TCP-RESET', 'the connection to HQ was cut'],
  ECONNABORTED: ['PS-TCP-RESET', 'the connection to HQ was cut'],
  EHOSTUNREACH: ['PS-TCP-UNREACH', "HQ's network cannot be reached"],
  EHOSTDOWN: ['PS-TCP-UNREACH', "HQ's network cannot be reached"],
  ENETUNREACH: ['PS-TCP-NOROUTE', 'this machine has no way to HQ'],
  ENETDOWN: ['PS-TCP-NOROUTE', 'this machine has no way to HQ'],
  EINVAL: ['PS-TCP-NOROUTE', 'this machine has no way to HQ'],
  EADDRNOTAVAIL: ['PS-TCP-NOROUTE', 'this machine has no way to HQ'],
  EACCES: ['PS-TCP-LOCALPOLICY', 'this machine does not let possync reach HQ'],
  EPERM: ['PS-TCP-LOCALPOLICY', 'this machine does not let possync reach HQ'],
  // The same, where the socket noticed while it was writing.
  EPROTO: ['PS-TLS-PLAINTEXT', 'what answers does not speak TLS'],
  ERR_SSL_WRONG_VERSION_NUMBER: ['PS-TLS-PLAINTEXT', 'HQ answers without TLS'],
  ERR_SSL_PACKET_LENGTH_TOO_LONG: ['PS-TLS-PLAINTEXT', 'HQ answers without TLS'],
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: ['PS-TLS-VERSION', 'no common TLS version'],
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: ['PS-TLS-VERSION', 'no common TLS cipher'],
  ERR_SSL_UNSUPPORTED_PROTOCOL: ['PS-TLS-VERSION', 'no common TLS version'],
  DEPTH_ZERO_SELF_SIGNED_CERT: ['PS-TLS-SELFSIGNED', "HQ's certificate is self-signed and not trusted here"],
  SELF_SIGNED_CERT_IN_CHAIN: ['PS-TLS-UNTRUSTED', "HQ's certificate authority is not trusted here"],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ['PS-TLS-UNTRUSTED', "HQ's certificate authority is not trusted here"],
  UNABLE_TO_GET_ISSUER_CERT: ['PS-TLS-UNTRUSTED', "HQ's certificate authority is not trusted here"],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ['PS-TLS-UNTRUSTED', "HQ's certificate authority is not trusted here"],
  CERT_SIGNATURE_FAILURE: ['PS-TLS-UNTRUSTED', "HQ's certificate does not fit its authority"],
  CERT_UNTRUSTED: ['PS-TLS-UNTRUSTED', "HQ's certificate is not trusted here"],
  ERR_TLS_CERT_ALTNAME_INVALID: ['PS-TLS-HOSTNAME', "HQ's certificate is for another name"],
  CERT_HAS_EXPIRED: ['PS-TLS-EXPIRED', "HQ's certificate has expired"],
  CERT_NOT_YET_VALID: ['PS-TLS-NOTYET', "HQ's certificate is not valid yet"],
  // A whole answer that does not parse as HTTP: a block page, or a program that is not HQ.
  HPE_INVALID_CONSTANT: ['PS-HTTP-NOTHQ', 'something that does not speak HTTP answers'],
  HPE_INVALID_HEADER_TOKEN: ['PS-HTTP-NOTHQ', 'something that does not speak HTTP answers'],
};

/** What stopped a request or a connection attempt to HQ; `secure` = while TLS was being set up. */
export function networkError(error: unknown, secure = false): PossyncError {
  if (error instanceof PossyncError) return error;
  const code = codeOf(error);
  const why = error instanceof Error && error.message !== '' ? error.message : (code ?? String(error));
  if (secure && (code === 'ECONNRESET' || code === 'EPIPE'))
    return new PossyncError('PS-TLS-CUT', 'the connection is cut when encryption starts', {
      why,
      cause: error,
    });
  const [named, message] = (code === undefined ? undefined : BY_CODE[code]) ?? [
    'PS-HQ-UNREACHABLE' as const,
    'HQ cannot be reached',
  ];
  return new PossyncError(named, message, { why, cause: error });
}
