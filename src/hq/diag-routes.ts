/** What HQ answers to `possync diagnose`: who it is, what time it has, what arrived, and how the path carries bytes. */
import type { IncomingMessage } from 'node:http';
import * as z from 'zod';
import { addressKey, Buckets } from './buckets.ts';
import type { Clock } from '../core/clock.ts';
import { PossyncError } from '../core/errors.ts';
import { SOFTWARE } from '../core/version.ts';
import type { DiagPing, Whoami } from '../protocol/diag.ts';
import { DIAG_LIMIT_BYTES, ROUTES } from '../protocol/http.ts';
import { OLDEST_SERVED, PROTOCOL_VERSION } from '../protocol/version.ts';
import type { App, Ctx } from './http-answers.ts';
import { readBytes } from './http-body.ts';
import type { Caller, Rooms } from './http-routes.ts';

/** Probes need no token: enough for every technician behind one address, too few to hurt. */
const PROBES = { burst: 100, perSecond: 20 } as const;
/** The pause between pieces of `source`: long enough that a proxy which collects the whole answer is seen. */
const CHUNK_PAUSE_MS = 200;
const CHUNKS_MAX = 20;

const sourceQuery = z.object({
  bytes: z.coerce.number().int().min(0).max(DIAG_LIMIT_BYTES).default(0),
  chunks: z.coerce.number().int().min(1).max(CHUNKS_MAX).default(1),
});

export interface DiagOptions {
  readonly hqId: string;
  readonly rooms: Pick<Rooms, 'connections' | 'light'>;
  readonly clock: Clock;
  /** Whose request it is; throws where it has no good credential. */
  readonly login: (c: Ctx) => Promise<Caller>;
}

export function addDiagRoutes(app: App, { hqId, rooms, clock, login }: DiagOptions): void {
  const probes = new Buckets({ ...PROBES, clock });
  const takeProbe = (key: string): void => {
    const retryMs = probes.take(key);
    if (retryMs > 0) throw new PossyncError('PS-HQ-BUSY', 'too many probes', { details: { retryMs } });
  };
  const whoAmI = (): DiagPing['hq'] => ({
    id: hqId,
    software: SOFTWARE,
    now: new Date(clock.now()).toISOString(),
  });

  app.get(ROUTES.diagPing, (c) => {
    takeProbe(addressKey(c.env.incoming.socket.remoteAddress));
    const body: DiagPing = {
      service: 'possync-hq',
      hq: whoAmI(),
      protocol: { version: PROTOCOL_VERSION, oldest: OLDEST_SERVED },
      client: { address: c.env.incoming.socket.remoteAddress ?? 'unknown' },
      headers: headersSeen(c.env.incoming),
    };
    return c.json(body);
  });
  app.get(ROUTES.whoami, async (c) => {
    const caller = await login(c);
    const body: Whoami = {
      store: { id: caller.storeId, code: caller.code, name: caller.name },
      kid: caller.kid,
      hq: whoAmI(),
      connections: rooms.connections(caller.storeId),
      light: await rooms.light(caller.storeId),
      state: caller.state,
      expires_at: caller.expiresAt,
      created_at: caller.createdAt,
    };
    return c.json(body);
  });
  // An upgrade never comes here: who does has lost its header on the way.
  app.get(ROUTES.socket, (c) => upgradeRequired(c));
  app.post(ROUTES.diagSink, async (c) => {
    takeProbe(`store ${(await login(c)).storeId}`);
    const body = await readBytes(c.env.incoming, DIAG_LIMIT_BYTES);
    return c.json({ bytes: body.length });
  });
  app.get(ROUTES.diagSource, async (c) => {
    takeProbe(`store ${(await login(c)).storeId}`);
    const query = sourceQuery.safeParse(c.req.query());
    if (!query.success)
      throw new PossyncError('PS-PROTOCOL', 'the request breaks the protocol', {
        why: `bytes is from 0 to ${DIAG_LIMIT_BYTES}, chunks from 1 to ${CHUNKS_MAX}`,
      });
    const { bytes, chunks } = query.data;
    return c.body(pieces(bytes, chunks, clock), 200, { 'content-type': 'application/octet-stream' });
  });
}

function pieces(bytes: number, chunks: number, clock: Clock): ReadableStream<Uint8Array> {
  let sent = 0;
  let piece = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (piece > 0) await clock.sleep(CHUNK_PAUSE_MS);
      piece += 1;
      const size = piece === chunks ? bytes - sent : Math.floor(bytes / chunks);
      sent += size;
      if (size > 0) controller.enqueue(new Uint8Array(size).fill(0x78));
      if (piece === chunks) controller.close();
    },
  });
}

function upgradeRequired(c: Ctx): Response {
  const { headers } = c.env.incoming;
  c.header('upgrade', 'websocket');
  return c.json(
    {
      error: {
        code: 'PS-WS-NO-UPGRADE',
        message: 'this address speaks WebSocket only; something on the path removed the upgrade',
      },
      saw: {
        upgrade: headers.upgrade !== undefined,
        connection: headers.connection ?? null,
        via: headers.via ?? null,
      },
    },
    426,
  );
}

/** The request headers as HQ received them; never a credential or a cookie. */
function headersSeen(request: IncomingMessage): Record<string, string> {
  const seen: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (/^(authorization|proxy-authorization|cookie)$/.test(name) || value === undefined) continue;
    seen[name] = String(value).slice(0, 500);
  }
  return seen;
}
