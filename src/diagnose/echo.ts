/** A WebSocket over the test protocol: sends frames, waits for them to come back, and says how it ended. */
import { WebSocket } from 'ws';
import { codeOf } from '../core/classify.ts';
import { DIAG_SUBPROTOCOL, FRAME_LIMIT_BYTES, ROUTES } from '../protocol/http.ts';
import type { Probe } from './check.ts';
import { connectSecured, targetOf, within } from './dial.ts';

export interface EchoEnd {
  /** Closing code; 1006 = cut. */
  readonly code: number;
  /** `WS_ERR_…` when a frame was no frame. */
  readonly error: string | undefined;
}

export interface Echo {
  /** `lost` = nothing came back in time. */
  send(bytes: number, limitMs: number): Promise<'ok' | 'lost' | EchoEnd>;
  /** Waits; undefined = still open afterwards. */
  quiet(ms: number): Promise<EchoEnd | undefined>;
  close(): void;
}

export async function openEcho(probe: Probe): Promise<Echo> {
  const { host, port, secure } = targetOf(probe);
  const socket = await connectSecured(probe);
  const ws = new WebSocket(`${secure ? 'wss' : 'ws'}://${host}:${port}${ROUTES.socket}`, DIAG_SUBPROTOCOL, {
    createConnection: () => socket,
    perMessageDeflate: false,
    maxPayload: FRAME_LIMIT_BYTES,
  });
  let failure: string | undefined;
  let waiting: ((data: Buffer) => void) | undefined;
  const over = new Promise<EchoEnd>((resolve) => {
    ws.once('close', (code) => {
      resolve({ code, error: failure });
    });
  });
  ws.on('error', (error) => {
    failure ??= codeOf(error);
  });
  ws.on('message', (data) => {
    waiting?.(data as Buffer);
  });
  const opened = new Promise<'open'>((resolve) => {
    ws.once('open', () => {
      resolve('open');
    });
  });
  // A close before the opening is told by the first `send`.
  await within(probe, 'upgrade', probe.patience.replyMs, Promise.race([opened, over])).catch(() => {
    ws.terminate();
  });
  return {
    async send(bytes, limitMs) {
      if (ws.readyState !== WebSocket.OPEN) return over;
      const payload = Buffer.alloc(bytes, bytes % 251);
      const back = new Promise<'ok'>((resolve) => {
        waiting = (data) => {
          if (data.equals(payload)) resolve('ok');
        };
      });
      ws.send(payload);
      return within(probe, 'echo', limitMs, Promise.race([back, over])).catch(() => 'lost' as const);
    },
    async quiet(ms) {
      const limit = new AbortController();
      const time = probe.machine.clock.sleep(ms, AbortSignal.any([limit.signal, probe.signal]));
      const end = await Promise.race([over, time.then(() => undefined)]);
      limit.abort();
      return end;
    },
    close() {
      ws.terminate();
    },
  };
}
