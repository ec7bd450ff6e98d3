/** Answers written onto a socket by hand: where no upgrade comes about, and where what came is no HTTP. */
import http from 'node:http';
import type { Duplex } from 'node:stream';
import { codeOf } from '../core/classify.ts';
import { systemClock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import { HQ_HEADER } from '../protocol/http.ts';
import { statusOf } from './http-answers.ts';

/** Who does not close its own end after an answer is cut: its socket would be held for ever. */
const LINGER_MS = 2_000;

/** A plain HTTP answer in place of the upgrade: the store reads code and identity like from any other route. */
export function refuseSocket(socket: Duplex, error: PossyncError, hqId: string): void {
  const status = statusOf(error);
  const shown =
    status >= 500 ? new PossyncError('PS-HQ-NOTREADY', 'HQ cannot check the credential now') : error;
  answer(socket, status >= 500 ? 503 : status, shown, hqId);
}

/** What Node's parser gave up on: too long, too slow, or no HTTP. */
export function answerBroken(socket: Duplex, error: Error, hqId: string): void {
  const code = codeOf(error);
  if (code === 'ECONNRESET' || code === 'EPIPE') {
    socket.destroy();
    return;
  }
  if (code === 'HPE_HEADER_OVERFLOW')
    answer(socket, 431, new PossyncError('PS-TOO-LARGE', 'the headers are larger than 16 KiB'), hqId);
  else if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    answer(socket, 408, new PossyncError('PS-PROTOCOL', 'the request did not come in time'), hqId);
  else answer(socket, 400, new PossyncError('PS-PROTOCOL', 'this is not HTTP'), hqId);
}

function answer(socket: Duplex, status: number, error: PossyncError, hqId: string): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const { retryMs } = error.details;
  const message = error.why === undefined ? error.message : `${error.message}: ${error.why}`;
  const body = JSON.stringify({
    error: { code: error.code, message: message.slice(0, 2_000), hint: error.hint },
    ...(typeof retryMs === 'number' ? { retry_ms: retryMs } : {}),
  });
  const cancel = systemClock.after(LINGER_MS, () => {
    socket.destroy();
  });
  socket.once('close', cancel);
  socket.on('error', () => undefined); // it is over already
  socket.end(
    [
      `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? 'Refused'}`,
      'connection: close',
      'content-type: application/json',
      `content-length: ${Buffer.byteLength(body)}`,
      ...(typeof retryMs === 'number' ? [`retry-after: ${Math.ceil(retryMs / 1_000)}`] : []),
      `${HQ_HEADER}: ${hqId}`,
      '',
      body,
    ].join('\r\n'),
  );
  socket.resume(); // what else comes is thrown away, so that the end is seen
}
